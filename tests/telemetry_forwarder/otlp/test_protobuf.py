"""Our protobuf beside the official one: each reads what the other wrote."""

import math
from typing import Any

import pytest
from google.protobuf.message import DecodeError as OfficialError
from google.protobuf.message import Message
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from layer.otlp_schema import schema
from telemetry_forwarder.errors import DecodeError, EncodeError
from telemetry_forwarder.otlp import direct, values
from telemetry_forwarder.otlp import schema as module
from telemetry_forwarder.otlp.protobuf import DEEPEST, decode, encode, normal
from telemetry_forwarder.records.lossless_json import to_json
from tests.sink_records import json_values

OFFICIAL = {
    name: getattr(service, name)
    for service, name in (
        (logs_service_pb2, "ExportLogsServiceRequest"),
        (logs_service_pb2, "ExportLogsServiceResponse"),
        (metrics_service_pb2, "ExportMetricsServiceRequest"),
        (metrics_service_pb2, "ExportMetricsServiceResponse"),
        (trace_service_pb2, "ExportTraceServiceRequest"),
        (trace_service_pb2, "ExportTraceServiceResponse"),
    )
}
each_message = pytest.mark.parametrize("name", OFFICIAL)
IDS = ("trace_id", "span_id", "parent_span_id")


def test_the_table_is_what_the_tool_reads_from_the_published_files() -> None:
    with open(module.__file__) as file:
        assert file.read() == schema(), "run `make otlp-schema`"


def scalars(field: Any) -> st.SearchStrategy[Any]:
    """Return values of the official field."""
    if field.name in IDS:
        return st.sampled_from([b"", b"\1" * 8, b"\xff" * 16])
    return {
        field.TYPE_DOUBLE: st.floats(),
        field.TYPE_STRING: st.text(max_size=5),
        field.TYPE_BYTES: st.binary(max_size=5),
        field.TYPE_BOOL: st.booleans(),
        field.TYPE_ENUM: st.integers(0, 3),
        field.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
        field.TYPE_SFIXED64: st.integers(-(2**63), 2**63 - 1),
        field.TYPE_UINT64: st.integers(0, 2**64 - 1),
        field.TYPE_FIXED64: st.integers(0, 2**64 - 1),
        field.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
        field.TYPE_SINT32: st.integers(-(2**31), 2**31 - 1),
        field.TYPE_UINT32: st.integers(0, 2**32 - 1),
        field.TYPE_FIXED32: st.integers(0, 2**32 - 1),
    }[field.type]


@st.composite
def messages(draw: st.DrawFn, message: Message, depth: int = 0) -> Message:
    """Fill an official message at random."""
    for field in message.DESCRIPTOR.fields:
        if not draw(st.booleans() if depth < 4 else st.sampled_from([False] * 3 + [True])):
            continue
        if field.message_type is not None:
            if depth < 9:
                for _ in range(draw(st.integers(1, 2)) if field.is_repeated else 1):
                    inner = getattr(message, field.name)
                    one = inner.add() if field.is_repeated else inner
                    one.SetInParent()
                    draw(messages(one, depth + 1))
        elif field.is_repeated:
            getattr(message, field.name).extend(draw(st.lists(scalars(field), max_size=3)))
        else:
            setattr(message, field.name, draw(scalars(field)))
    return message


def in_json(message: Message) -> dict[str, Any]:
    """Return an official message in OTLP/JSON's form, by the rules of its specification."""
    found = {}
    for field, value in message.ListFields():
        found[field.json_name] = [_value(field, one) for one in value] if field.is_repeated else _value(field, value)
    return found


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return in_json(value)
    if field.name in IDS:
        return value.hex()
    if field.type == field.TYPE_BYTES:
        import base64

        return base64.b64encode(value).decode()
    if field.type in (field.TYPE_INT64, field.TYPE_UINT64, field.TYPE_FIXED64, field.TYPE_SFIXED64):
        return str(value)
    if field.type == field.TYPE_DOUBLE and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def test_a_zero_with_a_sign_is_no_default() -> None:
    official = OFFICIAL["ExportMetricsServiceRequest"]()
    point = official.resource_metrics.add().scope_metrics.add().metrics.add().summary.data_points.add()
    point.sum = -0.0
    ours = decode("ExportMetricsServiceRequest", official.SerializeToString())
    assert ours == in_json(official)
    assert encode("ExportMetricsServiceRequest", ours) == official.SerializeToString()


@each_message
@given(data=st.data())
def test_each_reads_what_the_other_wrote(name: str, data: st.DataObject) -> None:
    message = data.draw(messages(OFFICIAL[name]()))
    ours = decode(name, message.SerializeToString())
    assert ours == in_json(message)
    theirs = OFFICIAL[name].FromString(encode(name, ours))
    assert in_json(theirs) == in_json(message)  # messages with a NaN are never equal
    assert normal(name, ours) == ours


@given(st.binary(max_size=60))
@example(b"\x0a\x00")
@example(b"\x0a\x02\x0a\x00\x0a\x02\x12\x00")  # two of them
def test_any_bytes_are_read_as_the_official_class_does_or_refused(data: bytes) -> None:
    """What is more, a wrong wire type and a group are refused: then it is no OTLP, whatever else it is."""
    name = "ExportLogsServiceRequest"
    try:
        ours = decode(name, data)
    except DecodeError:
        return
    assert in_json(OFFICIAL[name].FromString(data)) == ours


@given(st.data())
def test_a_body_that_was_torn_is_refused_or_read_as_the_official_class_does(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(OFFICIAL)))
    whole = data.draw(messages(OFFICIAL[name]())).SerializeToString()
    torn = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    if torn:
        torn[data.draw(st.integers(0, len(torn) - 1))] = data.draw(st.integers(0, 255))
    try:
        ours = decode(name, bytes(torn))
    except DecodeError:
        return
    try:
        theirs = OFFICIAL[name].FromString(bytes(torn))
    except OfficialError as error:
        raise AssertionError(f"only ours reads {torn.hex()}") from error
    assert in_json(theirs) == ours


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x0a\x05ab", "ends amid a field"),
        (b"\x0a", "ends amid a number"),
        (b"\xff" * 11, "more than ten bytes"),
        (b"\x02\x00", "without a number"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x08\x01", "resourceLogs of ExportLogsServiceRequest has the wire type 0, not 2"),
        (b'{"resourceLogs":[]}', "wire type 3"),
        (b"\x0a\x03\x1a\x01\xff", "schemaUrl of ResourceLogs is no text in UTF-8"),
    ],
)
def test_what_is_no_message_is_refused_by_name(data: bytes, said: str) -> None:
    with pytest.raises(DecodeError, match=said):
        decode("ExportLogsServiceRequest", data)


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {"stringValue": "x"}
    for _ in range(levels):
        value = {"arrayValue": {"values": [value]}}
    return value


def test_nesting_is_bounded_both_ways() -> None:
    deep = encode("AnyValue", nested(DEEPEST // 2))
    assert decode("AnyValue", deep) == nested(DEEPEST // 2)
    with pytest.raises(EncodeError, match="deeper than 100"):
        encode("AnyValue", nested(DEEPEST // 2 + 1))
    for _ in range(20_000):
        deep = b"\x2a" + _sized(b"\x0a" + _sized(deep))
        if len(deep) > 100_000:
            break
    with pytest.raises(DecodeError, match="deeper than 100"):
        decode("AnyValue", deep)


def _sized(data: bytes) -> bytes:
    from telemetry_forwarder.otlp.fields import varint

    return varint(len(data)) + data


def test_the_number_of_fields_is_bounded() -> None:
    assert len(decode("ArrayValue", b"\x0a\x00" * 10, most_fields=10)["values"]) == 10
    with pytest.raises(DecodeError, match="more than 10 fields"):
        decode("ArrayValue", b"\x0a\x00" * 11, most_fields=10)
    with pytest.raises(DecodeError, match="more than 10 fields"):
        decode("HistogramDataPoint", b"\x32" + _sized(bytes(8 * 10)), most_fields=10)


@pytest.mark.parametrize(
    ("name", "given", "read"),
    [
        ("LogRecord", {"timeUnixNano": 5}, {"timeUnixNano": "5"}),  # a reader takes numbers, too
        ("LogRecord", {"timeUnixNano": "5.0"}, None),
        ("LogRecord", {"timeUnixNano": 1e3}, {"timeUnixNano": "1000"}),
        ("LogRecord", {"timeUnixNano": True}, None),
        ("LogRecord", {"timeUnixNano": -1}, None),
        ("LogRecord", {"timeUnixNano": "9" * 5000}, None),
        ("LogRecord", {"severityNumber": "SEVERITY_NUMBER_INFO"}, None),
        ("LogRecord", {"severity_number": 9, "unknown": {}}, {}),
        ("LogRecord", {"traceId": "ABCD"}, {"traceId": "abcd"}),
        ("LogRecord", {"traceId": "q83vEjRWeJCrze8SNFZ4kA=="}, None),
        ("LogRecord", {"traceId": "ab cd"}, None),
        ("LogRecord", {"traceId": "abc"}, None),
        ("LogRecord", {"body": None}, {}),
        ("LogRecord", {"body": "text"}, None),
        ("LogRecord", {"attributes": {}}, None),
        ("LogRecord", {"eventName": "a\ud800"}, {"eventName": "a\ufffd"}),
        ("AnyValue", {"bytesValue": "-_8"}, {"bytesValue": "+/8="}),
        ("AnyValue", {"bytesValue": "*"}, None),
        ("AnyValue", {"bytesValue": 1}, None),
        ("AnyValue", {"boolValue": 1}, None),
        ("AnyValue", {"stringValue": 1}, None),
        ("AnyValue", {"doubleValue": "-Infinity"}, {"doubleValue": "-Infinity"}),
        ("AnyValue", {"doubleValue": 10**400}, None),
        ("AnyValue", {"doubleValue": "one"}, None),
        ("AnyValue", {"doubleValue": []}, None),
        ("AnyValue", {"intValue": "0"}, {"intValue": "0"}),
        ("AnyValue", {"intValue": "1" * 21}, None),
        ("AnyValue", [], None),
        ("ExportLogsServiceResponse", {"partialSuccess": None}, {}),
        ("Error", {"code": 3, "message": "no"}, {"code": 3, "message": "no"}),
    ],
)
def test_json_is_read_as_the_specification_says(name: str, given: Any, read: dict[str, Any] | None) -> None:
    if read is None:
        with pytest.raises(DecodeError):
            normal(name, given)
    else:
        assert normal(name, given) == read


@given(st.text(max_size=5), json_values)
@example("k", {"a": [None, {"b": [[]]}, 2**70, -1, 0, "", True, 1e308]})
def test_what_is_written_directly_is_what_the_table_writes(key: str, value: Any) -> None:
    found = values.any_value(value)
    written = direct.any_value(value)
    assert written == (None if found is None else encode("AnyValue", found))
    listed = values.attributes([(key, value)])
    assert direct.attribute(0x32, key, value) == b"".join(b"\x32" + _sized(encode("KeyValue", one)) for one in listed)
    if type(value) in direct.SCALARS:
        assert direct.attribute_json(key, value) == to_json(listed[0])
