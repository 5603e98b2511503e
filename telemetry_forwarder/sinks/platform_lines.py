"""Make the familiar `START`, `END`, `REPORT` … lines from platform records.

Lambda itself writes these lines into CloudWatch Logs; the Telemetry API delivers the same facts as JSON records. The
members of a record vary with the schema version, the kind of function and the year. So only the members that a line
cannot do without are required. A member of an unexpected type is left out of the line; the record still has it.

Source: "Lambda Telemetry API Event schema reference" and lines captured from Lambda, read 2026-11-23.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

_Members: TypeAlias = Mapping[str, Any]
# Makes a line, or a part of one, of a record; None if the record does not have it.
_Make: TypeAlias = Callable[[_Members], str | None]


def platform_text(type: str, record: Any) -> str | None:
    """Return the line that Lambda writes for a platform record of `type`, without line end; None if it writes none.

    `record` is the `record` member of the Telemetry API's item; it may hold anything. Never raises.
    """
    make = LINES.get(type)
    return make(record) if make is not None and isinstance(record, Mapping) else None


# --- parts of a line ------------------------------------------------------------------------------------------------


def _word(record: _Members, key: str) -> str | None:
    value = record.get(key)
    return value if isinstance(value, str) and value else None


def _member(label: str, key: str) -> _Make:
    return lambda record: f"{label}: {word}" if (word := _word(record, key)) is not None else None


def _words(label: str, key: str, form: Callable[[str], str] = str) -> _Make:
    def make(record: _Members) -> str | None:
        values = record.get(key)
        if not isinstance(values, list | tuple):
            return None
        return f"{label}: [" + ", ".join(form(value) for value in values if isinstance(value, str)) + "]"

    return make


def _metric(label: str, key: str, unit: str = "ms", digits: int = 0) -> _Make:
    """Make a part of one of the record's metrics, if it can be printed."""

    def make(record: _Members) -> str | None:
        found = record.get("metrics")
        value = found.get(key) if isinstance(found, Mapping) else None
        # The comparison also excludes NaN and huge integers.
        if not isinstance(value, int | float) or isinstance(value, bool) or not -1e15 < value < 1e15:
            return None
        return f"{label}: {value:.{digits}f} {unit}"

    return make


def _if_failed(part: _Make) -> _Make:
    return lambda record: None if _word(record, "status") in (None, "success") else part(record)


# --- lines ----------------------------------------------------------------------------------------------------------


def _line(head: str, *parts: _Make, needs: str | None = None, between: str = "\t") -> _Make:
    """Make a line of `head` and the parts that there are; None if there are none, or without the member `needs`."""

    def make(record: _Members) -> str | None:
        if needs is not None and _word(record, needs) is None:
            return None
        found = [text for part in parts if (text := part(record)) is not None]
        return head + between.join(found) if found else None

    return make


_VERSIONS = (_member("Runtime Version", "runtimeVersion"), _member("Runtime Version ARN", "runtimeVersionArn"))
_REQUEST, _NAME, _STATE = _member("RequestId", "requestId"), _member("Name", "name"), _member("State", "state")
_STATUS, _ERROR_TYPE = _member("Status", "status"), _member("Error Type", "errorType")
_FAILURE = (_if_failed(_STATUS), _if_failed(_ERROR_TYPE))
_INIT_REPORT = _line(
    "INIT_REPORT ", _metric("Init Duration", "durationMs", digits=2), _member("Phase", "phase"), _STATUS, _ERROR_TYPE
)


def _init_report(record: _Members) -> str | None:
    """Make the line for an init that failed or was not on demand; Lambda writes none for other inits."""
    is_usual = _word(record, "initializationType") in (None, "on-demand")
    return None if is_usual and _word(record, "status") in (None, "success") else _INIT_REPORT(record)


LINES: Mapping[str, _Make] = {
    "platform.initStart": _line("INIT_START ", *_VERSIONS),
    "platform.initReport": _init_report,
    "platform.start": _line("START ", _REQUEST, _member("Version", "version"), needs="requestId", between=" "),
    # Unlike Lambda's own line it says how the invocation failed: the report may come much later.
    "platform.runtimeDone": _line("END ", _REQUEST, *_FAILURE, needs="requestId"),
    "platform.report": _line(
        "REPORT ",
        _REQUEST,
        _metric("Duration", "durationMs", digits=2),
        _metric("Billed Duration", "billedDurationMs"),
        _metric("Memory Size", "memorySizeMB", "MB"),
        _metric("Max Memory Used", "maxMemoryUsedMB", "MB"),
        _metric("Init Duration", "initDurationMs", digits=2),
        _metric("Restore Duration", "restoreDurationMs", digits=2),
        _metric("Billed Restore Duration", "billedRestoreDurationMs"),
        *_FAILURE,
        needs="requestId",
    ),
    "platform.restoreStart": _line("RESTORE_START ", *_VERSIONS),
    "platform.restoreReport": _line("RESTORE_REPORT ", _metric("Restore Duration", "durationMs", digits=2), *_FAILURE),
    "platform.extension": _line("EXTENSION\t", _NAME, _STATE, _words("Events", "events"), _ERROR_TYPE, needs="name"),
    "platform.telemetrySubscription": _line(
        "TELEMETRY\t", _NAME, _STATE, _words("Types", "types", str.capitalize), needs="name"
    ),
    # The sentence that `loss_event` made. This event is our own, not Lambda's.
    "forwarder.recordsLost": lambda record: _word(record, "message"),
}
