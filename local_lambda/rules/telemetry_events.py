"""The records of the Telemetry API: their members, and the differences of the older schemas. Pure."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from local_lambda.rules.logs_schema import is_legacy, translate
from local_lambda.rules.runtime import Request
from local_lambda.settings import Function, SchemaReading

Fields = dict[str, Any]

# The members that older schemas leave out. "captured": real Lambda was observed to leave them out. "documented": as in
# the OpenAPI files of the event schemas.
_LEFT_OUT: Mapping[tuple[SchemaReading, str], Mapping[str, Sequence[str]]] = {
    ("captured", "2022-07-01"): {"platform.start": ("functionArn",)},
    ("captured", "2022-12-13"): {"platform.start": ("functionArn",)},
    ("documented", "2022-07-01"): {
        "platform.initStart": ("functionName", "functionVersion", "instanceId", "instanceMaxMemory", "tracing"),
        "platform.initRuntimeDone": ("tracing",),
        "platform.initReport": ("status",),
        "platform.restoreStart": ("functionName", "functionVersion", "instanceId", "instanceMaxMemory"),
        "platform.restoreReport": ("status",),
        "platform.extension": ("errorType",),
        "platform.start": ("functionArn", "tenantId"),
        "platform.runtimeDone": ("tenantId",),
        "platform.report": ("tenantId",),
    },
    ("documented", "2022-12-13"): {
        "platform.start": ("functionArn", "tenantId"),
        "platform.runtimeDone": ("tenantId",),
        "platform.report": ("tenantId",),
    },
}


def timestamp(seconds: float) -> str:
    """Return `seconds` since the epoch in the platform's format: UTC, milliseconds, `Z`."""
    whole, milliseconds = divmod(milliseconds_of(seconds), 1000)
    return f"{datetime.fromtimestamp(whole, UTC):%Y-%m-%dT%H:%M:%S}.{milliseconds:03d}Z"


def milliseconds_of(seconds: float) -> int:
    """Return whole milliseconds. All code rounds this way, so that a deadline is exactly a timestamp plus a timeout."""
    return math.floor(seconds * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryEvent:
    """One record and the time when the platform produced it. `text` is the log line it was made from, if any."""

    time: float
    type: str
    record: Any
    text: str | None = None

    @property
    def stream(self) -> str:
        """The subscription type of the event: platform, function or extension."""
        return self.type.partition(".")[0]

    def as_dict(self) -> Fields:
        """Return the event in the newest schema."""
        return {"time": timestamp(self.time), "type": self.type, "record": self.record}

    def encode_all(self, schema: str, reading: SchemaReading) -> list[bytes]:
        """Return the records for a subscriber of `schema`: one, or for the Logs API none or several."""
        if is_legacy(schema):
            when = timestamp(self.time)
            told = translate(self.type, self.record, self.text, schema)
            return [orjson.dumps({"time": when, "type": type_, "record": record}) for type_, record in told]
        return [] if self.type == "platform.logsSubscription" else [self.encode(schema, reading)]

    def encode(self, schema: str, reading: SchemaReading) -> bytes:
        """Return the event as JSON under a Telemetry API `schema`. Under 2022-07-01 a log line is always a string."""
        record = self.record
        if self.text is not None:
            record = self.text if schema == "2022-07-01" else record
        elif left_out := _LEFT_OUT.get((reading, schema), {}).get(self.type):
            record = {key: value for key, value in record.items() if key not in left_out}
        return orjson.dumps({"time": timestamp(self.time), "type": self.type, "record": record})


def line(stream: str, raw: bytes, *, is_json: bool, at: float | None = None) -> TelemetryEvent:
    """Return the event of one line or framed message. With the JSON log format a JSON object becomes the record."""
    text = raw.decode("utf-8", "replace")
    record: Any = text
    if is_json:
        try:
            parsed = orjson.loads(raw)
        except orjson.JSONDecodeError:
            parsed = None
        record = parsed if isinstance(parsed, dict) else text
    return TelemetryEvent(time=time.time() if at is None else at, type=stream, record=record, text=text)


def init_start(function: Function, instance_id: str, runtime_version: str, phase: str) -> Fields:
    return {
        "initializationType": function.init_type,
        "phase": phase,
        "runtimeVersion": runtime_version,
        "functionName": function.name,
        "functionVersion": function.version,
        "instanceId": instance_id,
        "instanceMaxMemory": function.memory_mb * 1024 * 1024,  # bytes, whatever the documentation shows
    }


def init_runtime_done(function: Function, phase: str, status: str, error_type: str | None) -> Fields:
    return {"initializationType": function.init_type, "phase": phase, "status": status} | _error(error_type)


def init_report(function: Function, phase: str, status: str, error_type: str | None, duration_ms: float) -> Fields:
    head = {"initializationType": function.init_type, "phase": phase, "status": status}
    return head | _error(error_type) | {"metrics": {"durationMs": round(duration_ms, 3)}}


def restore_start(function: Function, instance_id: str, runtime_version: str) -> Fields:
    record = init_start(function, instance_id, runtime_version, "")
    return {name: value for name, value in record.items() if name not in ("initializationType", "phase")}


def restore_runtime_done(status: str, error_type: str | None) -> Fields:
    return {"status": status} | _error(error_type)


def restore_report(status: str, error_type: str | None, duration_ms: float) -> Fields:
    return {"status": status} | _error(error_type) | {"metrics": {"durationMs": round(duration_ms, 3)}}


def extension(name: str, state: str, events: Iterable[str], error_type: str | None) -> Fields:
    return {"name": name, "state": str(state), "events": list(events)} | _error(error_type)


def subscription(name: str, types: Iterable[str], *, again: bool) -> Fields:
    return {"name": name, "state": "Already subscribed" if again else "Subscribed", "types": list(types)}


def start(function: Function, request: Request) -> Fields:
    record = {"requestId": request.request_id, "version": function.version, "functionArn": function.arn}
    return record | _tenant(request) | _tracing(request)


def ended(request: Request, status: str, error_type: str | None, metrics: Fields, spans: Sequence[Fields]) -> Fields:
    """Return the record of `platform.runtimeDone` or of `platform.report`."""
    record = {"requestId": request.request_id, "status": status} | _tenant(request) | _error(error_type)
    return record | {"metrics": metrics} | ({"spans": list(spans)} if spans else {}) | _tracing(request)


def logs_dropped(reason: str, records: int, size_bytes: int) -> Fields:
    return {"reason": reason, "droppedRecords": records, "droppedBytes": size_bytes}


def span(name: str, start: float, end: float) -> Fields:
    """Return a span between two times in seconds since the epoch."""
    return {"name": name, "start": timestamp(start), "durationMs": round(max(0.0, end - start) * 1000, 3)}


def _tenant(request: Request) -> Fields:
    return {} if request.tenant_id is None else {"tenantId": request.tenant_id}


def _tracing(request: Request) -> Fields:
    return {} if request.trace is None else {"tracing": {"type": "X-Amzn-Trace-Id", "value": request.trace}}


def _error(error_type: str | None) -> Fields:
    return {} if error_type is None else {"errorType": error_type}
