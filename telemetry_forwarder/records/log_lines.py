"""What a line that somebody logged says of itself: the JSON that it holds, its level, and the requests it names.

A runtime's console writes its own prefix before what the function logs, so that JSON arrives as the end of a text. It
is read as if it stood alone: its members, and its own level before the prefix's. Nothing is searched for in free text:
a level and a request are read from where a runtime or a logger is known to write them, each form with its source beside
it (all read 2026-11-27).

Pure. Most lines are told by their first character, and only then by an expression.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypeAlias

from telemetry_forwarder.records.levels import WORDS, level_of, level_of_word
from telemetry_forwarder.records.lossless_json import Restated, object_in

# What a line says: its JSON object, its level, the requests that it names in the order in which they are believed, and
# whether the first of them stands where only the invocation's id does. Any other may be the id of a call to something
# else, so whoever reads it has to know that such a request runs. (A tuple: a class costs every record a third of a µs.)
Reading: TypeAlias = tuple[Mapping[str, Any] | None, str | None, tuple[str, ...], bool]

NOTHING: Reading = (None, None, (), False)

# What a prefix says, whether JSON behind it is read, and the prefix's length.
_Prefix: TypeAlias = tuple[Reading, bool, int]


def read(body: Any) -> Reading:
    """Read the body of a line: text without its line end, or the value of a JSON record."""
    if body.__class__ is str:
        return _read_text(body)
    return _read_object(body) if isinstance(body, dict) else NOTHING


def fields_in(body: Any) -> Mapping[str, Any] | None:
    """Return the JSON object that a line of text is, or that stands behind a runtime's prefix; None for none."""
    return _read_text(body)[0] if isinstance(body, str) else None


# --- text -----------------------------------------------------------------------------------------------------------

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID = "([0-9a-f]{8}-[0-9a-f-]{27})"
_WORD = "([A-Z]{3,11}(?:[+-][0-9]+)?)"
_CLOCK = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?"
_TIME = rf"(?:[0-9]{{4}}[-/][0-9]{{2}}[-/][0-9]{{2}}[T ])?{_CLOCK}(?:Z|[+-][0-9]{{2}}:?[0-9]{{2}})?"

# The span in which the Rust runtime calls its handler. Source: aws-lambda-rust-runtime, layers/trace.rs.
_RUST_SPAN = rf"Lambda runtime invoke\{{requestId=\"{_ID}\""
# Bref's logger: `<id>⇥LEVEL⇥message⇥{"message":…}`, the JSON with all that the text has. Source: brefphp/logger.
_BREF = rf"(?:{_ID}\t)?{_WORD}\t(?:[^\n]*\t(?=\{{\"message\":))?"
_ID_FIRST = (_BREF, rf"{_ID}[\t ]+\[?{_WORD}\]?[\t ]+")  # the second: SLF4J for Lambda, `<id> LEVEL logger - `

# Behind a time that a line begins with, by the character that follows it.
_BEHIND_TIME = {
    # Node.js: `<time>⇥<id>⇥LEVEL⇥`, the id `undefined` during init. .NET: its level a word such as `fail`, the id empty
    # during init. Sources: aws-lambda-nodejs-runtime-interface-client, LogPatch; aws-lambda-dotnet,
    # DefaultLogMessageFormatter. zap's console encoder leaves the id out: `<time>⇥LEVEL⇥`.
    "\t": (rf"\t(?:{_ID}\t|undefined\t|\t)?(?:([A-Za-z]{{3,11}})\t)?",),
    " ": (
        # log4j2 and logback as AWS has them: `<time> <id> LEVEL`, the id perhaps in <> or []. Source: AWS Lambda
        # Developer Guide, "Log and monitor Java Lambda functions". slog, Spring Boot, tracing: `<time> LEVEL`.
        rf" {{1,4}}[<\[]?{_ID}?[>\]]? {{0,4}}\[?{_WORD}\]? +(?:{_RUST_SPAN})?",
        r" \[(debug|info|warning|error|critical|exception) *\] ",  # structlog, ConsoleRenderer
        rf" \| {_WORD} *\| ",  # loguru, its default
        rf" - [\w.]+ - {_WORD} - ",  # Python, "Logging HOWTO"
        rf" \[[^\]\n]{{1,80}}\] {_WORD} +",  # logback's default: `<time> [thread] LEVEL`
    ),
    "|": (rf"\|{_WORD}\|",),  # NLog, its default layout
}  # fmt: skip

# Python: `[LEVEL]⇥<time>⇥<id>⇥`; time and id are missing in what the runtime writes itself, the id during init.
# Source: awslambdaric, bootstrap.py. Java: `[LEVEL] `. Source: aws-lambda-java-libs, TextLogFormatter.
_PYTHON = rf"\[([A-Z]+)\](?:\t[0-9T:.-]+Z\t{_ID}?\t)?[ ]?"

# What other lines begin with, by their first character.
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
        # lambda_log_formatter.rb; Ruby's own Logger leaves the id out.
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
    """Expressions by the character they are for, each compiled when it is first needed: that takes a millisecond."""

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
        compiled = self[character] = re.compile("|".join(expressions))  # `re` remembers those that are alike
        return compiled


_DIGITS = frozenset("0123456789")
_PREFIXES = _Compiled({"0123456789": (_TIME,), **_FORMS})
_BEHIND_TIMES = _Compiled(_BEHIND_TIME)
_PYTHONS = _Compiled({"[": (_PYTHON,)})
_IDS_FIRST = _Compiled({"-": _ID_FIRST})
_FIRST = frozenset("".join(_FORMS)) | _DIGITS
_BLANK = frozenset(" \t\r\n\ufeff")  # a byte order mark, too
_UUID_LENGTH = 36


def _read_text(text: str) -> Reading:
    first = text[:1]
    if first == "{":
        fields = object_in(text)
        return NOTHING if fields is None else _read_object(fields)
    if first not in _FIRST and text[8:9] != "-":  # an id begins with any hexadecimal digit
        return _read_padded(text) if first in _BLANK else NOTHING
    prefix = _prefix_of(text, first)
    if prefix is None:
        return _read_padded(text) if first == " " else NOTHING
    reading, may_precede_json, end = prefix
    return _read_behind(text[end:], reading) if may_precede_json and text[end : end + 1] == "{" else reading


def _prefix_of(text: str, first: str) -> _Prefix | None:
    """Read what a runtime or a logger wrote before the message; None where nobody is known to write that."""
    if text[23:25] == "Z\t" and first in _DIGITS:  # as the runtimes write a time
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
    """Read `⇥<id>⇥LEVEL⇥` behind a time of 24 characters: the same for many lines of a request, so it is read once."""
    found = _parts(_BEHIND_TIMES["\t"].match(prefix))
    return found and (found[0], found[1], found[2] + 24)


def _parts(found: re.Match[str] | None) -> _Prefix | None:
    """Return what the groups of an expression above say: a level's word, or an id."""
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
    reading: Reading = (None, level, (), False) if request_id is None else (None, level, (request_id,), True)
    # A word that is no level, and no id: the prefix is somebody's own, and would be lost (`[ORDER] {…}`).
    return reading, word is None or level is not None or request_id is not None, found.end()


def _read_behind(text: str, prefix: Reading) -> Reading:
    """Read what stands behind a prefix: where it is JSON it says more than the prefix, and its own level."""
    fields = object_in(text)
    if fields is None:
        return prefix
    _, level, ids, is_sure = _read_object(fields)
    # The prefix's id is the runtime's own word. The JSON may name another that runs: only where this one does not.
    told = prefix[2]
    if told:
        ids = (*told, *(one for one in ids if one not in told)) if ids else told
    return Restated(fields), level or prefix[1], ids, prefix[3] or is_sure


def _read_padded(text: str) -> Reading:
    stripped = text.lstrip("".join(_BLANK))
    fields = object_in(stripped) if stripped.startswith("{") else None
    return NOTHING if fields is None else _read_object(Restated(fields))


# --- JSON -----------------------------------------------------------------------------------------------------------

# The invocation's id, by names that nothing else has: the members of Lambda's context objects and of what is made of
# them. Sources: Powertools for AWS Lambda (Python, TypeScript, Java, .NET: `function_request_id`, in three cases);
# pino-lambda and middy (`awsRequestId`); aws-lambda-java-log4j2 and .NET (`AWSRequestId`); awslambdaric's LogRecord
# (`aws_request_id`); OpenTelemetry semantic conventions, FaaS (`faas.invocation_id`, before 1.20 `faas.execution`).
_OWN_NAMES = (
    "AWSRequestId", "awsRequestId", "aws_request_id", "function_request_id", "functionRequestId", "FunctionRequestId",
    "lambda_request_id", "lambdaRequestId", "lambda.request_id", "lambda.requestId", "aws.lambda.request_id",
    "aws.lambda.requestId", "faas.invocation_id", "faas.execution",
)  # fmt: skip
# Lambda's own JSON uses the first, but so do API Gateway's events and the answers of AWS's services.
_SHARED_NAMES = ("requestId", "request_id", "RequestId", "requestID")
# Lambda's own JSON: source AWS Lambda Developer Guide, "Configuring JSON and plain text log formats"; awslambdaric.
_LAMBDA_JSON, _LAMBDA_JSON_LEVELS = "timestamp", frozenset({"level", "log_level"})
# Objects in which loggers keep what is known of an invocation: by hand; log4j2's JsonLayout; logback; tracing (Rust);
# OpenTelemetry; Elastic Common Schema; Monolog; .NET's scopes.
_OWN_CONTAINERS = ("lambda", "faas")
_CONTAINERS = ("contextMap", "mdc", "span", "spans", "attributes", "labels", "extra", "context", "Scopes", "aws")
_IN_FAAS = ("invocation_id", "execution")
_IS_UUID = re.compile(_UUID).fullmatch
_ORDER = {name: rank for rank, name in enumerate((*_OWN_NAMES, *_SHARED_NAMES, *_OWN_CONTAINERS, *_CONTAINERS))}
_OWN = frozenset(_OWN_NAMES)
_OWN_INSIDE = frozenset((*_OWN_NAMES, *_SHARED_NAMES, *_IN_FAAS))
_NAMES = frozenset(_ORDER)
_MOST_ELEMENTS = 8  # of a list that are looked at: spans and scopes are nested a few deep


def _read_object(fields: Mapping[str, Any]) -> Reading:
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
    """Add the ids that stand in the object `value`, or in those of a list, which is the member `name`."""
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
