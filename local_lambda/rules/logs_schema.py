"""The records of the legacy Logs API, converted from those of the Telemetry API. Pure.

Source: AWS docs "Lambda Logs API" (its events and their members) and docs/fidelity.md, section 2.5. Not documented, so
chosen: `platform.end` directly before `platform.report`; `platform.fault` when a runtime or an extension ended, not at
a timeout; trace members only on the report.
"""

from collections.abc import Iterator
from typing import Any

Fields = dict[str, Any]
_Typed = tuple[str, Any]  # an event's type and its record

LOGS_SCHEMAS = ("2020-08-15", "2021-03-18")
_REPORT_METRICS = ("durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs")


def is_legacy(schema: str) -> bool:
    """Whether `schema` belongs to the Logs API."""
    return schema in LOGS_SCHEMAS


def translate(type_: str, record: Any, text: str | None, schema: str) -> list[_Typed]:
    """Return the Logs API events, none or several, for one event of the Telemetry API."""
    if text is not None:
        return [(type_, text)]
    return list(_platform(type_, record, schema))


def _platform(type_: str, record: Fields, schema: str) -> Iterator[_Typed]:
    match type_:
        case "platform.start":
            yield type_, _only(record, "requestId", "version")
        case "platform.runtimeDone" if schema != "2020-08-15":
            status = "failure" if record["status"] == "error" else record["status"]  # success, failure or timeout
            yield type_, {"requestId": record["requestId"], "status": status}
        case "platform.report":
            request_id = record["requestId"]
            if record.get("status") in ("error", "failure"):
                yield "platform.fault", f"RequestId: {request_id} Process exited before completing request"
            yield "platform.end", {"requestId": request_id}
            metrics = _only(record["metrics"], *_REPORT_METRICS)
            yield type_, {"requestId": request_id, "metrics": metrics} | _only(record, "tracing")
        case "platform.extension":
            yield type_, _only(record, "name", "state", "events")
        case "platform.logsSubscription" | "platform.logsDropped":
            yield type_, record


def _only(record: Fields, *names: str) -> Fields:
    return {name: record[name] for name in names if name in record}
