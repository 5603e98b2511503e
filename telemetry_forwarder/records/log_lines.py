"""Parse what a log line says about itself: its JSON object, its level, and the request ids it names. Pure.

A runtime's console writes its own prefix before what the function logs, so JSON arrives at the end of a text. It is
parsed as if it stood alone, and its own level wins over the prefix's. Free text is not searched: a level and a request
id count only where a runtime or a logger is known to write them. Each form has its source beside it (all read
2026-11-27). For speed, most lines are classified by their first character before any regular expression runs.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from telemetry_forwarder.records.levels import WORDS, level_of, level_of_word
from telemetry_forwarder.records.lossless_json import Restated, object_in

# The result for a line: its JSON object, its level, the request ids it names in order of preference, and whether the
# first id stands where only the invocation's id can stand. Any other id may belong to a call to another service, so the
# reader must check that such a request runs. (A tuple, because a class costs a third of a µs for each record.)
_Reading: TypeAlias = tuple[Mapping[str, Any] | None, str | None, tuple[str, ...], bool]

NOTHING: _Reading = (None, None, (), False)

# The Reading of a prefix, whether JSON after it is parsed, and the prefix's length.
_Prefix: TypeAlias = tuple[_Reading, bool, int]


def read(body: Any) -> _Reading:
    """Return the Reading of a line's body: text without its line end, or the value of a JSON record."""
    if body.__class__ is str:
        before, time, behind, end, reading = _last
        if (
            body[time + 23 : end] == behind
            and body[:time] == before
            and body[time + 10] == "T"
            and body[time] in _DIGITS
            and body[end : end + 1] not in _MAY_BE_JSON
        ):
            return reading
        return _read_text(body)
    return _read_object(body) if isinstance(body, dict) else NOTHING


def fields_in(body: Any) -> Mapping[str, Any] | None:
    """Return the JSON object that a line of text is, or that follows a runtime's prefix; None if there is none."""
    return _read_text(body)[0] if isinstance(body, str) else None


# The last prefix that Python's or Node.js' runtime wrote: what stands before its time, where that begins, what stands
# behind its 23 characters, where the prefix ends, and its Reading. Lines of a request differ only in the time.
_last: tuple[str, int, str, int, _Reading] = ("", 0, "none", 0, NOTHING)
_DIGITS = frozenset("0123456789")
_BEFORE_ID = _DIGITS | {"["}
_MAY_BE_JSON = frozenset("{ ")


def _remember(text: str, end: int, reading: _Reading) -> None:
    """Note the prefix of `text`, if it has one of the two forms and names the request."""
    global _last
    time = 0 if text[0] in _DIGITS else text.find("]\t", 2, 12) + 2
    if not time and reading[1] is None:
        return  # another line may have a level behind the same
    if text[time + 23 : time + 25] == "Z\t" and text[time + 61 : time + 62] == "\t" and end >= time + 62:
        _last = (text[:time], time, text[time + 23 : end], end, reading)


# --- text -----------------------------------------------------------------------------------------------------------

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID = "([0-9a-f]{8}-[0-9a-f-]{27})"
_WORD = "([A-Z]{3,11}(?:[+-][0-9]+)?)"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?"
_TIME = rf"(?:[0-9]{{4}}[-/][0-9]{{2}}[-/][0-9]{{2}}[T ])?{_CLOCK}(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})?"

# The span in which the Rust runtime calls the handler. Source: aws-lambda-rust-runtime, layers/trace.rs.
_RUST_SPAN = rf"Lambda runtime invoke\{{requestId=\"{_ID}\""
# Bref's logger: `<id>⇥LEVEL⇥message⇥{"message":…}`; the JSON repeats all of the text. Source: brefphp/logger.
_BREF = rf"(?:{_ID}\t)?{_WORD}\t(?:[^\n]*\t(?=\{{\"message\":))?"
_ID_FIRST = (_BREF, rf"{_ID}[\t ]+\[?{_WORD}\]?[\t ]+")  # the second: SLF4J for Lambda, `<id> LEVEL logger - `

# What follows a time at the start of a line, by the character after the time.
_BEHIND_TIME = {
    # Node.js: `<time>⇥<id>⇥LEVEL⇥`, the id `undefined` during init. .NET: its level a word such as `fail`, the id empty
    # during init. Sources: aws-lambda-nodejs-runtime-interface-client, LogPatch; aws-lambda-dotnet,
    # DefaultLogMessageFormatter. zap's console encoder leaves the id out: `<time>⇥LEVEL⇥`.
    "\t": (rf"\t(?:{_ID}\t|undefined\t|\t)?(?:([A-Za-z]{{3,11}})\t)?",),
    " ": (
        # log4j2 and logback as AWS configures them: `<time> <id> LEVEL`, the id perhaps in <> or []. Source: AWS Lambda
        # Developer Guide, "Log and monitor Java Lambda functions". slog, Spring Boot, tracing: `<time> LEVEL`.
        rf" {{1,4}}[<\[]?{_ID}?[>\]]? {{0,4}}\[?{_WORD}\]? +(?:{_RUST_SPAN})?",
        r" \[(debug|info|warning|error|critical|exception) *\] ",  # structlog, ConsoleRenderer
        rf" \| {_WORD} *\| ",  # loguru, its default
        rf" - [\w.]+ - {_WORD} - ",  # Python, "Logging HOWTO"
        rf" \[[^\]\n]{{1,80}}\] {_WORD} +",  # logback's default: `<time> [thread] LEVEL`
    ),
    "|": (rf"\|{_WORD}\|",),  # NLog, its default layout
}  # fmt: skip

# Python: `[LEVEL]⇥<time>⇥<id>⇥`; lines of the runtime itself have no time and id, lines of the init no id.
# Source: awslambdaric, bootstrap.py. Java: `[LEVEL] `. Source: aws-lambda-java-libs, TextLogFormatter.
# What has a `T` in the middle of 23 characters is its time, even if a few of them are damaged.
_PYTHON = rf"\[([A-Z]+)\](?:\t(?:[0-9T:.-]+|[0-9](?s:.{{9}})T(?s:.{{12}}))Z\t{_ID}?\t)?[ ]?"

# The start of other lines, by their first character.
_FORMS = {
    "[": (
        r"\[([A-Z][a-z]{3,10})\] - ",  # PowerShell. Source: aws-lambda-dotnet, LambdaPSHostUserInterface
        rf"\[{_TIME}\] [\w-]+\.{_WORD}: ",  # Monolog, LineFormatter
        rf"\[{_TIME} {_WORD} +[\w:]+\] ",  # Rust, env_logger
        rf"\[{_CLOCK} ([A-Z]{{3}})\] ",  # Serilog, its console
        rf"\[[^\]\n]{{1,80}}\] {_WORD} [\w.$]+ - ",  # SLF4J, SimpleLogger: `[thread] LEVEL logger - `
    ),
    "DIWEFA": (
        # Ruby: `I, [<time> #<pid>]  INFO <id> -- <program>: `. Source: aws-lambda-ruby-runtime-interface-client,
        # lambda_log_formatter.rb; Ruby's own Logger omits the id.
        rf"[A-Z], \[{_TIME} ?#[0-9]+\] +([A-Z]+) +(?:{_ID} +)?--[^:\n]{{0,80}}: ",
    ),
    "tl": (
        # logfmt. Sources: logrus, TextFormatter; log/slog, TextHandler; log15, go-kit
        r"(?:(?:time|ts|t)=(?:\"[^\"\n]*\"|\S+) )?(?:level|lvl)=([A-Za-z]+(?:[+-][0-9]+)?)(?: |$)",
    ),
    "tdiwfc": (r"(trce|dbug|info|warn|fail|crit): [\w.`+]+\[[0-9]+\]",),  # .NET, SimpleConsoleFormatter
    "DIWEC": (r"(DEBUG|INFO|WARNING|ERROR|CRITICAL):[\w.]+:",),  # Python, basicConfig
    "SER": (rf"(?:START |END |REPORT )?RequestId: {_ID}",),  # Lambda's own words, written by custom runtimes
    " TDIWE": (rf" *{_WORD} +{_RUST_SPAN}",),  # tracing without the time
    "TDINWEFCA": (_BREF,),
}  # fmt: skip


class _Compiled(dict[str, re.Pattern[str]]):
    """Regular expressions by the character they are for. Each is compiled on first use, which takes a millisecond."""

    def __init__(self, forms: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__()
        self._forms: dict[str, tuple[str, ...]] = {}
        for characters, expressions in forms.items():
            for character in characters:
                self._forms[character] = self._forms.get(character, ()) + expressions

    def __missing__(self, character: str) -> re.Pattern[str] | None:
        expressions = self._forms.get(character)
        if expressions is None:
            return None
        compiled = self[character] = re.compile("|".join(expressions))  # `re` caches equal ones
        return compiled


_PREFIXES = _Compiled({"0123456789": (_TIME,), **_FORMS})
_BEHIND_TIMES = _Compiled(_BEHIND_TIME)
_PYTHONS = _Compiled({"[": (_PYTHON,)})
_IDS_FIRST = _Compiled({"-": _ID_FIRST})
_FIRST = frozenset("".join(_FORMS)) | _DIGITS
_BLANK = frozenset(" \t\r\n\ufeff")  # a byte order mark, too
_UUID_LENGTH = 36


def _read_text(text: str) -> _Reading:
    first = text[:1]
    if first == "{":
        fields = object_in(text)
        return NOTHING if fields is None else _read_object(fields)
    if first not in _FIRST and text[8:9] != "-":  # an id may begin with any hexadecimal digit
        return _read_padded(text) if first in _BLANK else NOTHING
    prefix = _prefix_of(text, first)
    if prefix is None:
        return _read_padded(text) if first == " " else NOTHING
    reading, may_precede_json, end = prefix
    if reading[2] and first in _BEFORE_ID:
        _remember(text, end, reading)
    return _read_behind(text[end:], reading) if may_precede_json and text[end : end + 1] == "{" else reading


def _prefix_of(text: str, first: str) -> _Prefix | None:
    """Parse the prefix that a runtime or a logger wrote before the message; None if no known form matches."""
    if text[23:25] == "Z\t" and first in _DIGITS:  # the time format of the runtimes
        end = text.find("\t", 65, 74) + 1 if text[61:62] == "\t" else 0
        return _behind_time(text[24:end]) if end else _parts(_BEHIND_TIMES["\t"].match(text, 24))
    if first == "[" and (prefix := _parts(_PYTHONS["["].match(text))) is not None:
        return prefix
    if text[8:9] == "-" and text[13:14] == "-":
        return _parts(_IDS_FIRST["-"].match(text))
    if first not in _DIGITS:
        form = _PREFIXES[first]
        return _parts(form and form.match(text))
    time = _PREFIXES[first].match(text) if text[2:3] == ":" or text[4:5] in "-/" else None
    if time is None:
        return None
    behind = _BEHIND_TIMES[text[time.end() : time.end() + 1]]
    return _parts(behind and behind.match(text, time.end()))


@lru_cache(maxsize=128)
def _behind_time(prefix: str) -> _Prefix | None:
    """Parse `⇥<id>⇥LEVEL⇥` after a time of 24 characters. Cached, because many lines of a request share it."""
    found = _parts(_BEHIND_TIMES["\t"].match(prefix))
    return found and (found[0], found[1], found[2] + 24)


def _parts(found: re.Match[str] | None) -> _Prefix | None:
    """Return the prefix that a match of an expression above describes: its groups hold a level's word or an id."""
    if found is None:
        return None
    request_id = word = None
    for group in found.groups():
        if group is not None:
            if len(group) == _UUID_LENGTH:
                request_id = group
            else:
                word = group
    level = None if word is None else WORDS.get(word) or level_of_word(word)
    reading: _Reading = (None, level, (), False) if request_id is None else (None, level, (request_id,), True)
    # If the word is no level and there is no id, the prefix is the function's own and must not be lost (`[ORDER] {…}`).
    return reading, word is None or level is not None or request_id is not None, found.end()


def _read_behind(text: str, prefix: _Reading) -> _Reading:
    """Parse the text after a prefix. If it is JSON, its members are added and its level wins over the prefix's."""
    fields = object_in(text)
    if fields is None:
        return prefix
    _, level, ids, is_sure = _read_object(fields)
    # The runtime itself wrote the prefix's id, so it comes first; ids in the JSON count only if that one does not run.
    told = prefix[2]
    if told:
        ids = (*told, *(one for one in ids if one not in told)) if ids else told
    return Restated(fields), level or prefix[1], ids, prefix[3] or is_sure


def _read_padded(text: str) -> _Reading:
    stripped = text.lstrip("".join(_BLANK))
    fields = object_in(stripped) if stripped.startswith("{") else None
    return NOTHING if fields is None else _read_object(Restated(fields))


# --- JSON -----------------------------------------------------------------------------------------------------------

# Names that hold nothing but the invocation's id: members of Lambda's context objects and names derived from them.
# Sources: Powertools for AWS Lambda (Python, TypeScript, Java, .NET: `function_request_id`, in three cases);
# pino-lambda and middy (`awsRequestId`); aws-lambda-java-log4j2 and .NET (`AWSRequestId`); awslambdaric's LogRecord
# (`aws_request_id`); OpenTelemetry semantic conventions, FaaS (`faas.invocation_id`, before 1.20 `faas.execution`).
_OWN_NAMES = (
    "AWSRequestId", "awsRequestId", "aws_request_id", "function_request_id", "functionRequestId", "FunctionRequestId",
    "lambda_request_id", "lambdaRequestId", "lambda.request_id", "lambda.requestId", "aws.lambda.request_id",
    "aws.lambda.requestId", "faas.invocation_id", "faas.execution",
)  # fmt: skip
# Lambda's own JSON uses the first, but API Gateway's events and AWS services' responses use it as well.
_SHARED_NAMES = ("requestId", "request_id", "RequestId", "requestID")
# Members that identify Lambda's own JSON.
# Source: AWS Lambda Developer Guide, "Configuring JSON and plain text log formats"; awslambdaric.
_LAMBDA_JSON, _LAMBDA_JSON_LEVELS = "timestamp", frozenset({"level", "log_level"})
# Objects in which loggers keep the invocation's context: hand-made; log4j2's JsonLayout; logback; tracing (Rust);
# OpenTelemetry; Elastic Common Schema; Monolog; .NET's scopes.
_OWN_CONTAINERS = ("lambda", "faas")
_CONTAINERS = ("contextMap", "mdc", "span", "spans", "attributes", "labels", "extra", "context", "Scopes", "aws")
_IN_FAAS = ("invocation_id", "execution")
_IS_UUID = re.compile(_UUID).fullmatch
_ORDER = {name: rank for rank, name in enumerate((*_OWN_NAMES, *_SHARED_NAMES, *_OWN_CONTAINERS, *_CONTAINERS))}
_OWN = frozenset(_OWN_NAMES)
_OWN_INSIDE = frozenset((*_OWN_NAMES, *_SHARED_NAMES, *_IN_FAAS))
_NAMES = frozenset(_ORDER)
_MOST_ELEMENTS = 8  # of a list that are examined: spans and scopes are nested a few deep


def _read_object(fields: Mapping[str, Any]) -> _Reading:
    level = level_of(fields)
    names = [name for name in _NAMES.intersection(fields) if fields[name]]
    if not names:
        return fields, level, (), False
    own: list[str] = []
    shared: list[str] = []
    is_lambdas = _LAMBDA_JSON in fields and not _LAMBDA_JSON_LEVELS.isdisjoint(fields)
    if len(names) > 1:
        names.sort(key=_ORDER.__getitem__)
    for name in names:
        value = fields[name]
        if value.__class__ is str:
            if len(value) == _UUID_LENGTH and _IS_UUID(value):
                (own if name in _OWN or (is_lambdas and name == "requestId") else shared).append(value)
        elif value.__class__ in (dict, list):
            _look_into(name, value, own, shared)
    return fields, level, tuple(dict.fromkeys(own + shared)), bool(own)


def _look_into(name: str, value: Any, own: list[str], shared: list[str]) -> None:
    """Add the ids in the member `name` to `own` or `shared`; `value` is an object or a list of objects."""
    for inner in value[:_MOST_ELEMENTS] if isinstance(value, list) else (value,):
        if not isinstance(inner, dict):
            continue
        for key in sorted(_INNER.intersection(inner), key=_INNER_ORDER.__getitem__):
            id = inner[key]
            if key in _OWN_CONTAINERS and isinstance(id, dict) and name in _CONTAINERS:
                _look_into(key, id, own, shared)
            elif isinstance(id, str) and len(id) == _UUID_LENGTH and _IS_UUID(id):
                if key in _OWN or (name in _OWN_CONTAINERS and key in _OWN_INSIDE):
                    own.append(id)
                elif key in _SHARED_NAMES:
                    shared.append(id)


_INNER_ORDER = {name: rank for rank, name in enumerate((*_OWN_NAMES, *_SHARED_NAMES, *_IN_FAAS, *_OWN_CONTAINERS))}
_INNER = frozenset(_INNER_ORDER)
