"""Find the level of a JSON record: tables of the members and words that loggers write.

A word counts if its member is known to hold a level. A number alone says nothing (400 is Monolog's error, 40 Python's
error and pino's warning), so it counts only if the name of its member, or another member beside it, identifies the
scale. If nothing is certain there is no level, because a level that is sent keeps a backend from finding its own.

Each row has its source beside it, all read 2026-11-27.
"""

import re
from collections.abc import Mapping
from typing import Any

_LEVELS = ("debug", "info", "warn", "error", "critical")

# The words for each level, from debug to critical, by ecosystem; `-` for none.
_VOCABULARIES = (
    # AWS Lambda Developer Guide, "Configuring JSON and plain text log formats" (also Powertools, log4j2, logback, Rust)
    ("trace debug", "info", "warn", "error", "fatal"),
    # Python `logging`; loguru adds TRACE and SUCCESS; structlog's `exception` and `failure` are errors
    ("trace debug", "info success", "warn warning", "error exception failure", "critical fatal"),
    # RFC 5424, 6.2.1 and syslog(3); PSR-3 and Monolog; Google Cloud Logging, LogSeverity (its DEFAULT is no level)
    ("debug", "info informational notice", "warn warning", "err error", "crit critical alert emerg emergency panic"),
    # .NET: LogLevel, and what its console formatter and Amazon.Lambda.RuntimeSupport write for it
    ("trace trce debug dbug", "information info", "warning warn", "error fail", "critical crit"),
    # Serilog's LogEventLevel and its three-letter forms; NLog; PowerShell's streams
    ("verbose vrb debug dbg trace trc", "information inf info", "warning wrn warn", "error err", "fatal ftl critical"),
    # Go: zap (`dpanic`), zerolog (console: DBG INF …), logrus, log15 (`eror`), klog
    ("trace trc debug dbg dbug", "info inf", "warn wrn warning", "error err eror", "fatal ftl panic pnc dpanic crit"),
    # winston: npm levels (error warn info http verbose debug silly), and bunyan's and pino's names
    ("http verbose debug silly trace", "info", "warn", "error", "fatal"),
    # java.util.logging.Level
    ("config fine finer finest", "info", "warning", "severe", "-"),
)
# `status` is Datadog's attribute, but business data often uses the name too. So only Datadog's own words count there.
# Source: Datadog, "Log status remapper".
_STATUS_VOCABULARY = ("trace debug", "info notice", "warn warning", "err error", "critical fatal alert emerg emergency")


def _table(*vocabularies: tuple[str, ...]) -> dict[str, str]:
    """Return the level of each word, in lower case and in capitals, so most words are found without conversion."""
    words = {
        word: level for row in vocabularies for level, told in zip(_LEVELS, row, strict=True) for word in told.split()
    }
    return words | {word.upper(): level for word, level in words.items()}


WORDS: Mapping[str, str] = _table(*_VOCABULARIES)
_STATUS_WORDS = _table(_STATUS_VOCABULARY)

# Members that hold a level as a word, in order of preference; a tuple is a path through nested objects.
_WORD_MEMBERS: tuple[str | tuple[str, ...], ...] = (
    # Lambda, Powertools, pino with labels, winston, structlog, zap, zerolog, logrus, slog, logback, log4j2, tracing
    "level",
    "level_name",  # Monolog, JsonFormatter
    "levelname",  # python-json-logger
    "severity",  # Google Cloud Logging, logstash-logger, lograge with a severity
    "log_level",  # awslambdaric's own report of an exception
    "log.level", ("log", "level"),  # Elastic Common Schema, dotted and nested
    "Level",  # Serilog's JsonFormatter, Powertools for .NET in Pascal case
    "@l",  # Serilog, compact: https://clef-json.org
    "LogLevel",  # .NET: JsonConsoleFormatter
    ("level", "name"),  # loguru's record alone
    "logLevel", "loglevel", "levelName", "_logLevel",  # hand-made JSON; lambda-log
    "lvl",  # log15, and zerolog or logrus with their fields renamed
    "L",  # zap's development encoder
    "@level",  # hclog
    "severityText", "severity_text", "SeverityText",  # OpenTelemetry, logs data model, and its exporters to the console
    "Severity",
    ("log", "syslog", "severity", "name"), "log.syslog.severity.name",  # Elastic Common Schema
    ("syslog", "severity"), "syslog.severity",  # Datadog's default, LoggerJSON
    ("record", "level", "name"),  # loguru with `serialize=True`
    ("_meta", "logLevelName"),  # tslog
)  # fmt: skip

_PINO = {10: "debug", 20: "debug", 30: "info", 40: "warn", 50: "error", 60: "critical"}  # and bunyan
_PYTHON = {5: "debug", 10: "debug", 20: "info", 25: "info", 30: "warn", 40: "error", 50: "critical"}
_MONOLOG = {
    100: "debug",
    200: "info",
    250: "info",
    300: "warn",
    400: "error",
    **dict.fromkeys((500, 550, 600), "critical"),
}
_SYSLOG = dict(enumerate(("critical", "critical", "critical", "error", "warn", "info", "info", "debug")))
_LOGBACK = {5000: "debug", 10000: "debug", 20000: "info", 30000: "warn", 40000: "error"}
# OpenTelemetry, logs data model, SeverityNumber: four numbers for each of TRACE, DEBUG, INFO, WARN, ERROR, FATAL
_OTEL = {number: ("debug", *_LEVELS)[(number - 1) // 4] for number in range(1, 25)}

# Members that hold a level as a number: the member, its scale, and members of which one must be present as well.
_NUMBER_MEMBERS: tuple[tuple[str | tuple[str, ...], Mapping[int, str], frozenset[str]], ...] = (
    ("levelno", _PYTHON, frozenset()),
    ("level_number", _PYTHON, frozenset()),  # structlog, add_log_level_number
    ("level", _PYTHON, frozenset({"lineno", "funcName", "pathname", "asctime"})),
    ("level", _MONOLOG, frozenset({"level_name"})),
    ("monolog_level", _MONOLOG, frozenset()),  # Monolog, LogstashFormatter
    ("level", _SYSLOG, frozenset({"short_message"})),  # GELF 1.1
    (("log", "syslog", "severity", "code"), _SYSLOG, frozenset()),
    ("log.syslog.severity.code", _SYSLOG, frozenset()),
    (("syslog", "severity"), _SYSLOG, frozenset()),
    ("syslog.severity", _SYSLOG, frozenset()),
    ("severityNumber", _OTEL, frozenset()),
    ("severity_number", _OTEL, frozenset()),
    ("SeverityNumber", _OTEL, frozenset()),
    ("level_value", _LOGBACK, frozenset()),  # logstash-logback-encoder
    ("level", _PINO, frozenset()),  # no other logger writes these six under this name
)

# Compact Serilog omits the level if it is Information; its time and message identify the format.
# Source: https://clef-json.org, `@l`.
_CLEF_TIME, _CLEF_TEXT = "@t", frozenset({"@mt", "@m", "@i"})

_STATUS = "status"

_NAMES = frozenset(
    member if isinstance(member, str) else member[0]
    for member in (*_WORD_MEMBERS, *(row[0] for row in _NUMBER_MEMBERS), _STATUS, _CLEF_TIME)
)
_LONGEST_WORD = 64  # in characters, including colours and padding
# Both are seldom needed, so they are strings; `re` compiles and caches them on use.
_COLOUR = "\x1b\\[[0-9;]*m"  # winston's `colorize` writes them into JSON, too
_OFFSET = "([a-z]+)[+-][0-9]+"  # slog: `ERROR+2` is two above ERROR


def level_of(fields: Mapping[str, Any]) -> str | None:
    """Return the level of a JSON record: debug, info, warn, error or critical; None if it names none."""
    word = fields.get("level")
    if word.__class__ is str and (level := WORDS.get(word)) is not None:  # the usual case
        return level
    if _NAMES.isdisjoint(fields):
        return None
    return _word_in(fields) or _number_in(fields) or _of_status(fields) or _of_compact_serilog(fields)


def level_of_word(word: str, words: Mapping[str, str] = WORDS) -> str | None:
    """Return the level of a word as loggers write it: in any case, padded, coloured, or with slog's offset."""
    level = words.get(word)
    if level is None and len(word) <= _LONGEST_WORD:
        plain = (re.sub(_COLOUR, "", word) if "\x1b" in word else word).strip().lower()
        shifted = re.fullmatch(_OFFSET, plain) if "+" in plain or "-" in plain else None
        level = words.get(shifted[1] if shifted else plain)
    return level


def _word_in(fields: Mapping[str, Any]) -> str | None:
    for member in _WORD_MEMBERS:
        value = fields.get(member) if member.__class__ is str else _at(fields, member)
        if value is not None and isinstance(value, str) and (level := WORDS.get(value) or level_of_word(value)):
            return level
    return None


def _number_in(fields: Mapping[str, Any]) -> str | None:
    for member, scale, beside in _NUMBER_MEMBERS:
        value = _at(fields, member)
        if type(value) is int and value in scale and (not beside or not beside.isdisjoint(fields)):
            return scale[value]
    return None


def _of_status(fields: Mapping[str, Any]) -> str | None:
    value = fields.get(_STATUS)
    return level_of_word(value, _STATUS_WORDS) if isinstance(value, str) else None


def _of_compact_serilog(fields: Mapping[str, Any]) -> str | None:
    is_compact = _CLEF_TIME in fields and "@l" not in fields and not _CLEF_TEXT.isdisjoint(fields)
    return "info" if is_compact else None


def _at(fields: Mapping[str, Any], member: str | tuple[str, ...]) -> Any:
    """Return the value at the end of the path `member` through nested objects; None if the path ends before."""
    if isinstance(member, str):
        return fields.get(member)
    value: Any = fields
    for name in member:
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value
