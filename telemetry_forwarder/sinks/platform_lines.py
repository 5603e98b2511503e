"""Make the familiar `START`, `END`, `REPORT` … lines from platform records.

Lambda itself writes these lines into CloudWatch Logs; the Telemetry API delivers the same facts as JSON records. The
members of a record vary with the schema version, the kind of function and the year. So only the members that a line
cannot do without are required. A member of an unexpected type is left out of the line; the record still has it.

Source: "Lambda Telemetry API Event schema reference" and lines captured from Lambda, read 2026-11-23.
"""

from collections.abc import Callable, Mapping
from typing import Any

Members = Mapping[str, Any]


def platform_text(type: str, record: Any) -> str | None:
    """Return the line that Lambda writes for a platform record of `type`, without line end; None if it writes none.

    `record` is the `record` member of the Telemetry API's item; it may hold anything. Never raises.
    """
    make = LINES.get(type)
    return make(record) if make is not None and isinstance(record, Mapping) else None


def init_start(record: Members) -> str | None:
    return line("INIT_START ", versions(record))


def init_report(record: Members) -> str | None:
    """Return the line for an init that failed or was not on demand; Lambda writes none for other inits."""
    if word(record, "status") in (None, "success") and word(record, "initializationType") in (None, "on-demand"):
        return None
    parts = [milliseconds("Init Duration", metrics(record), "durationMs"), member("Phase", record, "phase")]
    return line("INIT_REPORT ", [*parts, member("Status", record, "status"), member("Error Type", record, "errorType")])


def start(record: Members) -> str | None:
    request_id, version = word(record, "requestId"), word(record, "version")
    if request_id is None:
        return None
    return f"START RequestId: {request_id}" + (f" Version: {version}" if version else "")


def end(record: Members) -> str | None:
    """Return the END line. Unlike Lambda's it says how the invocation failed: the report may come much later."""
    if word(record, "requestId") is None:
        return None
    return line("END ", [member("RequestId", record, "requestId"), *failure(record)])


def report(record: Members) -> str | None:
    if word(record, "requestId") is None:
        return None
    found = metrics(record)
    parts = [
        member("RequestId", record, "requestId"),
        milliseconds("Duration", found, "durationMs"),
        whole("Billed Duration", found, "billedDurationMs", "ms"),
        whole("Memory Size", found, "memorySizeMB", "MB"),
        whole("Max Memory Used", found, "maxMemoryUsedMB", "MB"),
        milliseconds("Init Duration", found, "initDurationMs"),
        milliseconds("Restore Duration", found, "restoreDurationMs"),
        whole("Billed Restore Duration", found, "billedRestoreDurationMs", "ms"),
    ]
    return line("REPORT ", parts + failure(record))


def restore_start(record: Members) -> str | None:
    return line("RESTORE_START ", versions(record))


def restore_report(record: Members) -> str | None:
    return line("RESTORE_REPORT ", [milliseconds("Restore Duration", metrics(record), "durationMs"), *failure(record)])


def extension(record: Members) -> str | None:
    if word(record, "name") is None:
        return None
    parts = [member("Name", record, "name"), member("State", record, "state"), words("Events", record, "events")]
    return line("EXTENSION\t", [*parts, member("Error Type", record, "errorType")])


def subscription(record: Members) -> str | None:
    if word(record, "name") is None:
        return None
    types = words("Types", record, "types", str.capitalize)
    return line("TELEMETRY\t", [member("Name", record, "name"), member("State", record, "state"), types])


def _records_lost(record: Members) -> str | None:
    """Return the sentence that `loss` made. This event is our own, not Lambda's."""
    return word(record, "message")


LINES: Mapping[str, Callable[[Members], str | None]] = {
    "platform.initStart": init_start,
    "platform.initReport": init_report,
    "platform.start": start,
    "platform.runtimeDone": end,
    "platform.report": report,
    "platform.restoreStart": restore_start,
    "platform.restoreReport": restore_report,
    "platform.extension": extension,
    "platform.telemetrySubscription": subscription,
    "forwarder.recordsLost": _records_lost,
}


# --- parts of a line ------------------------------------------------------------------------------------------------


def line(head: str, parts: list[str | None]) -> str | None:
    """Return `head` and the `parts` that are not None, joined with tabs; None if all parts are None."""
    found = [part for part in parts if part is not None]
    return head + "\t".join(found) if found else None


def versions(record: Members) -> list[str | None]:
    return [
        member("Runtime Version", record, "runtimeVersion"),
        member("Runtime Version ARN", record, "runtimeVersionArn"),
    ]


def failure(record: Members) -> list[str | None]:
    if word(record, "status") in (None, "success"):
        return []
    return [member("Status", record, "status"), member("Error Type", record, "errorType")]


def word(record: Members, key: str) -> str | None:
    value = record.get(key)
    return value if isinstance(value, str) and value else None


def member(label: str, record: Members, key: str) -> str | None:
    value = word(record, key)
    return None if value is None else f"{label}: {value}"


def words(label: str, record: Members, key: str, form: Callable[[str], str] = str) -> str | None:
    values = record.get(key)
    if not isinstance(values, list | tuple):
        return None
    return f"{label}: [" + ", ".join(form(value) for value in values if isinstance(value, str)) + "]"


def metrics(record: Members) -> Members:
    found = record.get("metrics")
    return found if isinstance(found, Mapping) else {}


def number(record: Members, key: str) -> float | None:
    """Return the number `key`, None if it cannot be printed; the comparison excludes NaN and huge integers, too."""
    value = record.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if -1e15 < value < 1e15 else None


def milliseconds(label: str, record: Members, key: str) -> str | None:
    value = number(record, key)
    return None if value is None else f"{label}: {value:.2f} ms"


def whole(label: str, record: Members, key: str, unit: str) -> str | None:
    value = number(record, key)
    return None if value is None else f"{label}: {value:.0f} {unit}"
