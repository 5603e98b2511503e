"""Telemetry events as the text lines that CloudWatch Logs shows. Pure. Source: docs/fidelity.md, section 3.5."""

from collections.abc import Mapping
from typing import Any

import orjson


def text_of(event: Mapping[str, Any]) -> str | None:
    """Return the log line of a telemetry event, without a newline; None for events without a log line."""
    kind, record = event["type"], event["record"]
    if kind in ("function", "extension"):
        return record.removesuffix("\n") if isinstance(record, str) else orjson.dumps(record).decode()
    if kind == "platform.initStart":
        return f"INIT_START Runtime Version: {record['runtimeVersion']}"
    if kind == "platform.extension":
        line = f"EXTENSION\tName: {record['name']}\tState: {record['state']}\tEvents: [{', '.join(record['events'])}]"
        return f"{line}\tError Type: {record['errorType']}" if "errorType" in record else line
    if kind == "platform.telemetrySubscription":
        types = ", ".join(name.capitalize() for name in record["types"])
        return f"TELEMETRY\tName: {record['name']}\tState: {record['state']}\tTypes: [{types}]"
    if kind == "platform.initReport" and (record["status"] != "success" or record["initializationType"] != "on-demand"):
        return _init_report(record)
    if kind == "platform.start":
        return f"START RequestId: {record['requestId']} Version: {record['version']}"
    if kind == "platform.report":
        return f"END RequestId: {record['requestId']}\n{_report(record)}"
    if kind == "platform.logsDropped":
        return f"LOGS_DROPPED {record['droppedRecords']} records, {record['droppedBytes']} bytes: {record['reason']}"
    return None


def _init_report(record: Mapping[str, Any]) -> str:
    parts = [
        f"INIT_REPORT Init Duration: {record['metrics']['durationMs']:.2f} ms",
        f"Phase: {record['phase']}",
        f"Status: {record['status']}",
    ]
    if "errorType" in record:
        parts.append(f"Error Type: {record['errorType']}")
    return "\t".join(parts)


def _report(record: Mapping[str, Any]) -> str:
    metrics = record["metrics"]
    parts = [f"REPORT RequestId: {record['requestId']}", f"Duration: {metrics['durationMs']:.2f} ms"]
    if "billedDurationMs" in metrics:  # Managed Instances report only the duration
        parts += [
            f"Billed Duration: {metrics['billedDurationMs']} ms",
            f"Memory Size: {metrics['memorySizeMB']} MB",
            f"Max Memory Used: {metrics['maxMemoryUsedMB']} MB",
        ]
    if "initDurationMs" in metrics:
        parts.append(f"Init Duration: {metrics['initDurationMs']:.2f} ms")
    if record["status"] != "success":
        parts.append(f"Status: {record['status']}")
    if "errorType" in record:
        parts.append(f"Error Type: {record['errorType']}")
    return "\t".join(parts)
