"""What an SDK sends becomes records that every sink understands, and an OTLP sink sends on unharmed."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.errors import DecodeError
from telemetry_forwarder.intake.otlp_records import JSON, PROTOBUF, plain, read_request, records_in
from telemetry_forwarder.otlp.protobuf import encode
from telemetry_forwarder.records.derived import body_of, records_of
from telemetry_forwarder.records.record import Signal, decode
from telemetry_forwarder.signals.points import attributes_of, points_of
from tests.builders import ORIGIN

NOW_MS = 1_800_000_000_000
TRACE, SPAN = "68c4a1f03b2a90d1c7e845f6a0b1c2d3", "7f3e1d2c4b5a6978"
RESOURCE = {"attributes": [{"key": "service.name", "value": {"stringValue": "orders"}}]}
SCOPE = {"name": "app", "version": "1.2"}


def request(signal: Signal, *items: Any) -> dict[str, Any]:
    outer, inner, name = {
        Signal.LOG: ("resourceLogs", "scopeLogs", "logRecords"),
        Signal.METRIC: ("resourceMetrics", "scopeMetrics", "metrics"),
        Signal.SPAN: ("resourceSpans", "scopeSpans", "spans"),
    }[signal]
    return {outer: [{"resource": RESOURCE, inner: [{"scope": SCOPE, name: list(items)}]}]}


def text(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def test_a_log_record_becomes_a_line_with_its_attributes() -> None:
    item = {
        "timeUnixNano": "1795860000123456789", "severityNumber": 17, "severityText": "ERROR",
        "body": {"stringValue": "no such order"}, "attributes": [text("order", "7"), text("faas.invocation_id", "r1")],
        "traceId": TRACE.upper(), "spanId": SPAN, "flags": 1,
    }  # fmt: skip
    (found,) = records_in(Signal.LOG, request(Signal.LOG, item), NOW_MS).derived
    assert (found.type, found.time_ms, found.level) == ("otlp", 1_795_860_000_123, "error")
    assert (found.trace_id, found.request_id) == (TRACE, "r1")
    assert found.fields == {
        "message": "no such order", "order": "7", "faas.invocation_id": "r1",
        "otel": {
            "time_ns": 1_795_860_000_123_456_789, "severity_number": 17, "severity_text": "ERROR", "span_id": SPAN,
            "flags": 1, "resource": {"service.name": "orders"}, "scope": "app", "scope_version": "1.2",
        },
    }  # fmt: skip


def test_a_span_keeps_its_item_beside_what_others_read() -> None:
    item = {
        "traceId": TRACE, "spanId": SPAN, "parentSpanId": "0102030405060708", "name": "query", "kind": 3,
        "startTimeUnixNano": "1795860000000000000", "endTimeUnixNano": "1795860000250000000",
        "attributes": [{"key": "rows", "value": {"intValue": "3"}}], "status": {"code": 2, "message": "late"},
    }  # fmt: skip
    (found,) = records_in(Signal.SPAN, request(Signal.SPAN, item), NOW_MS).derived
    assert found.fields == {
        "trace_id": TRACE, "span_id": SPAN, "parent_id": "0102030405060708", "name": "query", "kind": "client",
        "start_ns": 1_795_860_000_000_000_000, "end_ns": 1_795_860_000_250_000_000, "attributes": {"rows": 3},
        "error": True, "otlp": {"resource": RESOURCE, "scope": SCOPE, "item": item},
    }  # fmt: skip


DELTA, CUMULATIVE = 1, 2


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (
            {"sum": {"aggregationTemporality": DELTA, "isMonotonic": True, "dataPoints": [{"asInt": "3"}]}},
            {"m": (3, "count")},
        ),
        (
            {"sum": {"aggregationTemporality": CUMULATIVE, "isMonotonic": True, "dataPoints": [{"asDouble": 3.5}]}},
            {"m": (3.5, "gauge")},
        ),
        ({"gauge": {"dataPoints": [{"asDouble": 0.5}]}}, {"m": (0.5, "gauge")}),
        (
            {"histogram": {"aggregationTemporality": DELTA, "dataPoints": [{"count": "2", "sum": 5.0, "max": 4.0}]}},
            {"m.count": (2, "count"), "m.sum": (5.0, "count"), "m.max": (4.0, "gauge")},
        ),
        ({"gauge": {"dataPoints": [{"asDouble": "NaN"}]}}, {}),
    ],
)
def test_a_data_point_becomes_points(shape: dict[str, Any], expected: dict[str, Any]) -> None:
    item = {"name": "m", "unit": "s", **shape}
    (found,) = records_in(Signal.METRIC, request(Signal.METRIC, item), NOW_MS).derived
    (record,) = records_of(ORIGIN, decode(body_of([found]), 0).items, "b" * 24)
    assert {point.name: (point.value, str(point.kind)) for point in points_of(record)} == expected
    assert found.fields["otlp"]["item"] == item


def test_each_data_point_is_a_record_with_its_attributes() -> None:
    points = [{"asInt": "1", "attributes": [text("env", "prod")]}, {"asInt": "2", "attributes": [text("env", "test")]}]
    item = {"name": "m", "sum": {"aggregationTemporality": DELTA, "isMonotonic": True, "dataPoints": points}}
    found = records_in(Signal.METRIC, request(Signal.METRIC, item), NOW_MS).derived
    records = records_of(ORIGIN, decode(body_of(found), 0).items, "b" * 24)
    assert [attributes_of(record) for record in records] == [{"env": "prod"}, {"env": "test"}]
    assert [one.fields["otlp"]["item"]["sum"]["dataPoints"] for one in found] == [[points[0]], [points[1]]]


def test_what_is_malformed_is_rejected_by_itself() -> None:
    sound = {"traceId": TRACE, "spanId": SPAN, "name": "a"}
    found = records_in(Signal.SPAN, request(Signal.SPAN, {"traceId": "00", "spanId": SPAN}, sound, {}), NOW_MS)
    assert [one.fields["name"] for one in found.derived] == ["a"]
    assert found.rejected == 2
    assert "trace id" in found.reason


@pytest.mark.parametrize("signal", Signal)
@given(message=st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([
            "resourceLogs", "scopeLogs", "logRecords", "resourceSpans", "scopeSpans", "spans", "resourceMetrics",
            "scopeMetrics", "metrics", "attributes", "key", "value", "stringValue", "intValue", "body", "name", "sum",
            "histogram", "dataPoints", "traceId", "spanId", "timeUnixNano", "resource", "scope", "kvlistValue",
        ]), inner, max_size=4,
    ),
))  # fmt: skip
def test_nothing_that_is_json_raises(signal: Signal, message: Any) -> None:
    if isinstance(message, dict):
        found = records_in(signal, message, NOW_MS)
        body_of(found.derived)


def test_both_encodings_give_the_same_records() -> None:
    item = {"traceId": TRACE, "spanId": SPAN, "name": "a", "kind": 2, "startTimeUnixNano": "5"}
    message = request(Signal.SPAN, item)
    as_protobuf = read_request(Signal.SPAN, PROTOBUF, encode("ExportTraceServiceRequest", message))
    as_json = read_request(Signal.SPAN, JSON, json.dumps(message).encode())
    assert records_in(Signal.SPAN, as_protobuf, NOW_MS) == records_in(Signal.SPAN, as_json, NOW_MS)


@pytest.mark.parametrize(
    ("content_type", "body"), [(JSON, b"{"), (JSON, b"[]"), (PROTOBUF, b"\xff"), (PROTOBUF, b"{}")]
)
def test_a_body_that_is_no_request_is_told(content_type: str, body: bytes) -> None:
    with pytest.raises(DecodeError):
        read_request(Signal.LOG, content_type, body)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"boolValue": True}, True), ({"intValue": "-7"}, -7), ({"doubleValue": 1.5}, 1.5), ({}, None), (None, None),
        ({"doubleValue": "NaN"}, "NaN"), ({"arrayValue": {"values": [{"intValue": 1}]}}, [1]),
        ({"kvlistValue": {"values": [text("a", "b")]}}, {"a": "b"}), ({"bytesValue": "AQI="}, "AQI="),
    ],
)  # fmt: skip
def test_values_become_plain(value: Any, expected: Any) -> None:
    assert plain(value) == expected
