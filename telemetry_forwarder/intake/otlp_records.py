"""What an OpenTelemetry SDK sends becomes records: one for each log record, span and data point. Pure.

Each record has what every sink understands, and what an OTLP sink needs to send it on unharmed:

    logs     {"message": body, **attributes, "otel": {"severity_text", "span_id", "resource", "scope", …}}
    spans    the members of a span record (docs/signals.md), and "otlp": {"resource", "scope", "item"}
    metrics  {"points", "attributes", "source": "otlp"}, and "otlp": {"resource", "scope", "item"}

`item` is the Span or Metric as OTLP/JSON has it; a Metric with one data point. Values that JSON does not have (bytes)
become base64 in logs. What is malformed is rejected by itself and counted, as OTLP asks for.
Source: OTLP 1.11, "Partial success"; opentelemetry-proto 1.11, read 2026-11-28.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from telemetry_forwarder.errors import DecodeError
from telemetry_forwarder.otlp.protobuf import decode
from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.lossless_json import parse_json
from telemetry_forwarder.records.record import METRICS, SPAN, Signal
from telemetry_forwarder.signals.points import MetricKind, Point, is_number, metrics

LOG_TYPE = "otlp"
SOURCE = "otlp"
PROTOBUF, JSON = "application/x-protobuf", "application/json"
PATHS = {"/v1/logs": Signal.LOG, "/v1/metrics": Signal.METRIC, "/v1/traces": Signal.SPAN}
_REQUESTS = {
    Signal.LOG: ("ExportLogsServiceRequest", "resourceLogs", "scopeLogs", "logRecords"),
    Signal.METRIC: ("ExportMetricsServiceRequest", "resourceMetrics", "scopeMetrics", "metrics"),
    Signal.SPAN: ("ExportTraceServiceRequest", "resourceSpans", "scopeSpans", "spans"),
}
# The severities of OpenTelemetry, by the first number of each range. Source: OpenTelemetry, logs data model.
_LEVELS = ((21, "critical"), (17, "error"), (13, "warn"), (9, "info"), (1, "debug"))
_KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}
_DELTA = 1


class Received(Struct):
    """What came of a request: the records, and how many items were rejected, why first."""

    derived: list[Derived] = field(default_factory=list)
    rejected: int = 0
    reason: str = ""


class _Bad(ValueError):
    """An item is no record; the text says why."""


def read_request(signal: Signal, content_type: str, body: bytes) -> Mapping[str, Any]:
    """Return the request in `body`, in OTLP/JSON's form. Raises DecodeError, with what is wrong."""
    name = _REQUESTS[signal][0]
    if content_type == PROTOBUF:
        return decode(name, body)
    try:
        found = parse_json(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DecodeError(f"the body is no JSON object but {type(found).__name__}")
    return found


def records_in(signal: Signal, request: Mapping[str, Any], received_ms: int) -> Received:
    """Return the records of a request. Never raises: what is malformed is rejected."""
    _, resources, scopes, items = _REQUESTS[signal]
    read = _READERS[signal]
    found = Received()
    for outer in _list(request.get(resources)):
        resource = _mapping(outer.get("resource"))
        for inner in _list(outer.get(scopes)):
            about = {"resource": resource, "scope": _mapping(inner.get("scope"))}
            for item in _list(inner.get(items)):
                _take(found, read, item, about, received_ms)
    return found


_Reader = Callable[[Mapping[str, Any], Mapping[str, Any], int], Iterator[Derived]]


def _take(found: Received, read: _Reader, item: Mapping[str, Any], about: Mapping[str, Any], received_ms: int) -> None:
    try:
        found.derived += read(item, about, received_ms)
    except _Bad as error:
        found.rejected += 1
        found.reason = found.reason or str(error)


# --- logs -----------------------------------------------------------------------------------------------------------


def _log(item: Mapping[str, Any], about: Mapping[str, Any], received_ms: int) -> Iterator[Derived]:
    time_ns = _number(item.get("timeUnixNano")) or _number(item.get("observedTimeUnixNano"))
    body = plain(item.get("body"))
    attributes = attributes_in(item.get("attributes"))
    attributes.pop("message", None)
    severity = _number(item.get("severityNumber"))
    trace_id, span_id = _id(item.get("traceId"), 32), _id(item.get("spanId"), 16)
    otel = {
        "time_ns": time_ns,
        "severity_number": severity,
        "severity_text": item.get("severityText"),
        "span_id": span_id,
        "flags": _number(item.get("flags")),
        "event_name": item.get("eventName"),
        "resource": attributes_in(about["resource"].get("attributes")),
        "scope": about["scope"].get("name"),
        "scope_version": about["scope"].get("version"),
    }
    level = next((word for least, word in _LEVELS if severity >= least), None)
    request_id = attributes.get("faas.invocation_id") or attributes.get("faas.execution")
    yield Derived(
        type=LOG_TYPE,
        time_ms=time_ns // 1_000_000 if time_ns else received_ms,
        fields={"message": body, **attributes, "otel": {name: value for name, value in otel.items() if value}},
        level=level,
        trace_id=trace_id,
        request_id=request_id if isinstance(request_id, str) else None,
    )


# --- spans ----------------------------------------------------------------------------------------------------------


def _span(item: Mapping[str, Any], about: Mapping[str, Any], received_ms: int) -> Iterator[Derived]:
    trace_id, span_id = _id(item.get("traceId"), 32), _id(item.get("spanId"), 16)
    if trace_id is None or span_id is None:
        raise _Bad("a span without a valid trace id and span id")
    start, end = _number(item.get("startTimeUnixNano")), _number(item.get("endTimeUnixNano"))
    attributes = attributes_in(item.get("attributes"))
    parent = _id(item.get("parentSpanId"), 16)
    request_id = attributes.get("faas.invocation_id") or attributes.get("faas.execution")
    fields: dict[str, Any] = {
        "trace_id": trace_id,
        "span_id": span_id,
        **({"parent_id": parent} if parent else {}),
        "name": str(item.get("name") or "unnamed"),
        "kind": _KINDS.get(_number(item.get("kind")), "internal"),
        "start_ns": start,
        "end_ns": end,
        "attributes": attributes,
        **({"error": True} if _number(_mapping(item.get("status")).get("code")) == 2 else {}),
        "otlp": {**about, "item": item},
    }
    yield Derived(
        type=SPAN,
        time_ms=start // 1_000_000 if start else received_ms,
        fields=fields,
        trace_id=trace_id,
        request_id=request_id if isinstance(request_id, str) else None,
    )


# --- metrics --------------------------------------------------------------------------------------------------------


def _metric(item: Mapping[str, Any], about: Mapping[str, Any], received_ms: int) -> Iterator[Derived]:
    name = item.get("name")
    if not isinstance(name, str) or not name:
        raise _Bad("a metric without a name")
    shape = next((one for one in _SHAPES if isinstance(item.get(one), Mapping)), None)
    if shape is None:
        raise _Bad(f"the metric {name!r} without data")
    data = item[shape]
    unit = item.get("unit") if isinstance(item.get("unit"), str) else ""
    for point in _list(data.get("dataPoints")):
        time_ns = _number(point.get("timeUnixNano"))
        alone = {**item, shape: {**data, "dataPoints": [point]}}
        derived = metrics(
            [Point(f"{name}{ending}", value, unit or "", kind) for ending, value, kind in _SHAPES[shape](data, point)],
            time_ns // 1_000_000 if time_ns else received_ms,
            SOURCE,
            {key: str(value) for key, value in attributes_in(point.get("attributes")).items()},
        )
        yield Derived(
            type=METRICS, time_ms=derived.time_ms, fields={**derived.fields, "otlp": {**about, "item": alone}}
        )


_Values = Iterator[tuple[str, float, MetricKind]]


def _value_of(point: Mapping[str, Any]) -> float | None:
    if "asInt" in point:
        return _number(point["asInt"])
    value = point.get("asDouble")
    return value if is_number(value) else None


def _gauge(data: Mapping[str, Any], point: Mapping[str, Any]) -> _Values:
    if (value := _value_of(point)) is not None:
        yield "", value, MetricKind.GAUGE


def _sum(data: Mapping[str, Any], point: Mapping[str, Any]) -> _Values:
    """A sum of a period counts; one since the start, which others cannot add up, is a state."""
    if (value := _value_of(point)) is not None:
        is_count = _number(data.get("aggregationTemporality")) == _DELTA and data.get("isMonotonic") is True
        yield "", value, MetricKind.COUNT if is_count else MetricKind.GAUGE


def _histogram(data: Mapping[str, Any], point: Mapping[str, Any]) -> _Values:
    """The values themselves are gone; what is left are their number, their sum and their bounds."""
    is_delta = _number(data.get("aggregationTemporality", _DELTA)) == _DELTA
    kind = MetricKind.COUNT if is_delta else MetricKind.GAUGE
    yield ".count", _number(point.get("count")), kind
    for name, ending, its in (
        ("sum", ".sum", kind),
        ("min", ".min", MetricKind.GAUGE),
        ("max", ".max", MetricKind.GAUGE),
    ):
        if is_number(value := point.get(name)):
            yield ending, value, its


_SHAPES: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], _Values]] = {
    "gauge": _gauge,
    "sum": _sum,
    "histogram": _histogram,
    "exponentialHistogram": _histogram,
    "summary": _histogram,
}
_READERS: Mapping[Signal, _Reader] = {Signal.LOG: _log, Signal.SPAN: _span, Signal.METRIC: _metric}


# --- values ---------------------------------------------------------------------------------------------------------


def attributes_in(found: Any) -> dict[str, Any]:
    """Return a list of KeyValues as a dict of plain values."""
    return {one["key"]: plain(one.get("value")) for one in _list(found) if isinstance(one.get("key"), str)}


def plain(value: Any) -> Any:
    """Return an AnyValue as a plain JSON value; None for an empty one."""
    if not isinstance(value, Mapping):
        return None
    for kind, found in value.items():
        match kind:
            case "stringValue" | "boolValue" | "bytesValue":
                return found
            case "intValue":
                return _number(found)
            case "doubleValue":
                return found if is_number(found) else str(found)
            case "arrayValue":
                return [plain(one) for one in _list(_mapping(found).get("values"))]
            case "kvlistValue":
                return attributes_in(_mapping(found).get("values"))
    return None


def _number(value: Any) -> int:
    """Return a 64-bit number, which JSON has as text; 0 for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return 0
    try:
        return int(value) if not isinstance(value, float) or math.isfinite(value) else 0
    except ValueError:
        return 0


def _id(value: Any, digits: int) -> str | None:
    """Return an id in lower case; None if it is none, or zero."""
    if not isinstance(value, str) or len(value) != digits or not value.strip("0"):
        return None
    try:
        bytes.fromhex(value)
    except ValueError:
        return None
    return value.lower()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
