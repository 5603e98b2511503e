"""Read the platform's events, and the lines in which a runtime tells of an exception. Pure."""

import re
from collections.abc import Mapping
from typing import Any

from telemetry_forwarder.records.record import Record
from telemetry_forwarder.signals.points import is_number

# How managed runtimes write an exception that escaped the handler. Source: lines of the Python, Ruby and Node.js
# runtimes, read 2026-11-28.
_ESCAPED = re.compile(
    r"\[ERROR\] [A-Z][\w.:]*(?:: |\n|$)|.{0,80}\tERROR\t(?:Invoke Error|Uncaught Exception|Unhandled)"
)
_LONGEST_TYPE = 128

# The platform's events of which metrics or spans are made, and the levels of lines that may tell of an exception.
TELLING = frozenset({
    "platform.initStart", "platform.initReport", "platform.restoreStart", "platform.restoreReport",
    "platform.start", "platform.runtimeDone", "platform.report",
})  # fmt: skip
FAILED = frozenset({"error", "critical"})


def is_killed(body: object) -> bool:
    """Return whether a line tells that the runtime was killed."""
    return isinstance(body, str) and "signal: killed" in body


def error_type(event: Mapping[str, Any]) -> str | None:
    """Return the class of the error that a platform event tells, `timeout` for a time-out; None if it tells none."""
    status, kind = event.get("status", "success"), event.get("errorType")
    if isinstance(kind, str) and kind:
        return kind[:_LONGEST_TYPE]
    return None if status == "success" or not isinstance(status, str) else status


def escaped_error(record: Record) -> str | None:
    """Return the type of the exception that a line of a runtime tells to have escaped the handler; "" if it has none.

    None: it tells of none.
    """
    fields, body = record.fields, record.body
    if fields is not None and isinstance(kind := fields.get("errorType"), str) and "stackTrace" in fields:
        return kind[:_LONGEST_TYPE]
    if isinstance(body, str) and _ESCAPED.match(body):
        name = body[8:].partition(":")[0].strip() if body.startswith("[ERROR] ") else ""
        return name[:_LONGEST_TYPE]
    return None


def metric_of(event: Mapping[str, Any], name: str) -> float | None:
    """Return one of an event's metrics; None if it tells none that can be measured."""
    found = event.get("metrics")
    value = found.get(name) if isinstance(found, dict) else None
    return value if is_number(value) and value >= 0 else None


def metrics_of(event: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    """Return an event's metrics that are in `names`, by what those lead to."""
    told = event.get("metrics")
    found: dict[str, float] = {}
    for name, value in told.items() if isinstance(told, dict) else ():
        if (ours := names.get(name)) is not None and is_number(value) and value >= 0:
            found[ours] = value
    return found


def span_of(event: Mapping[str, Any], name: str) -> float | None:
    """Return the duration of one of an event's spans, in ms."""
    return spans_of(event, {name: name}).get(name)


def spans_of(event: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    """Return the durations in ms of an event's spans that are in `names`, by what those lead to."""
    told = event.get("spans")
    found: dict[str, float] = {}
    for span in told if isinstance(told, list) else ():
        name = span.get("name") if isinstance(span, dict) else None
        if isinstance(name, str) and name in names and is_number(value := span.get("durationMs")):
            found.setdefault(names[name], value)
    return found
