"""Records that are kept outside come back as they were, each once, and under names that say what they are."""

import base64
import gzip
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.failover.parcels import (
    NotReadable,
    from_line,
    from_message,
    instance,
    message_body,
    object_key,
    pack_messages,
    pack_objects,
    sink_and_digest,
    to_line,
    unpack,
)
from telemetry_forwarder.records.lossless_json import object_in, parse_json
from telemetry_forwarder.records.record import Context, Origin, Record
from telemetry_forwarder.sinks.cloudwatch_logs import CloudWatchLogs
from telemetry_forwarder.sinks.datadog import Datadog
from telemetry_forwarder.sinks.splunk_hec import SplunkHec
from tests.builders import record, records

# On a machine that is busy with other tests a record is made as slowly as it is checked.
calm = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])

MAYBE = st.none() | st.text(max_size=20)
# What a record can hold is what came through `parse_json`; of numbers, text and nesting it leaves out little.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
).map(lambda value: parse_json(json.dumps(value).encode()))
ORIGINS = st.builds(
    Origin,
    function_name=st.text(max_size=10),
    function_version=MAYBE,
    region=MAYBE,
    memory_mb=st.none() | st.integers(128, 10240),
    instance_id=MAYBE,
    service=MAYBE,
    tags=st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), max_size=3).map(tuple),
)


@st.composite
def any_record(draw: st.DrawFn) -> Record:
    body = draw(JSON | JSON.map(json.dumps) | st.text())
    told = body if isinstance(body, dict) else object_in(body)
    return Record(
        batch=draw(st.text(max_size=30)),
        index=None,
        time_ms=draw(st.integers(-(2**62), 2**62)),
        body=body,
        fields=draw(st.just(told) | st.none() | st.dictionaries(st.text(max_size=5), JSON, max_size=3)),
        context=Context(
            draw(ORIGINS),
            draw(st.sampled_from(["function", "extension", "platform.report"]) | st.text(max_size=10)),
            draw(MAYBE),
            draw(st.none() | st.booleans()),
            draw(MAYBE),
            draw(st.none() | st.text("0123456789abcdef", min_size=32, max_size=32)),
        ),
        size_bytes=draw(st.integers(0, 2**30)),
    )


def exactly(value: Any) -> str:
    """To Python 1, 1.0 and True are equal; their `repr` is not."""
    return repr(value)


@calm
@given(any_record())
def test_any_record_comes_back_as_it_was(one: Record) -> None:
    line = to_line(one)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert exactly(from_line(line)) == exactly(one)


# For what is about numbers and sizes.
SHORT = st.builds(lambda text, count: record(text * count), st.text(max_size=20), st.integers(0, 60))

SINKS = (
    SplunkHec(url="https://splunk.example", index="main"),
    Datadog(url="https://datadog.example", tags=(("a", "b"),)),
    CloudWatchLogs(group="/g", stream=None, fallback_stream="s"),
)


@pytest.mark.parametrize("sink", SINKS, ids=lambda sink: sink.name)
@calm
@given(one=any_record().map(lambda one: replace(one, time_ms=abs(one.time_ms) % 2**42)))
def test_every_sink_makes_the_same_bytes_of_what_came_back(sink: Any, one: Record) -> None:
    try:
        first = sink.encode(one)
    except EncodeError:
        with pytest.raises(EncodeError):
            sink.encode(from_line(to_line(one)))
        return
    again = sink.encode(from_line(to_line(one)))
    assert (again.data, again.is_cut) == (first.data, first.is_cut)
    assert sink.request([again]) == sink.request([first])


def test_fields_of_a_json_line_are_not_written_twice() -> None:
    text = '{"level":"error","deep":{"a":[1,2.0,true]}}'
    one = replace(record(text), fields=parse_json(text.encode()))
    assert to_line(one).count(b"deep") == 1
    assert from_line(to_line(one)) == one


def test_records_of_one_origin_share_it_again() -> None:
    first, second = (from_line(to_line(one)) for one in records(2))
    assert first.origin is second.origin


def test_what_json_cannot_hold_is_an_encode_error() -> None:
    with pytest.raises(EncodeError):
        to_line(record({"a": {1, 2}}))


BAD_LINES = {
    "half a line": b'{"v":1,"id":"r',
    "not an object": b"[1]",
    "another program's": b'{"message":"hello"}',
    "a later form": b'{"v":2}',
    "not complete": b'{"v":1,"id":"a"}',
    "of another type": to_line(record()).replace(b'"time_ms":', b'"time_ms":true,"was":'),
    "an origin that is none": to_line(record()).replace(b"function_name", b"function_game"),
    "tags that are none": to_line(record()).replace(b'"origin":{', b'"origin":{"tags":["a"],'),
    "a region of another type": to_line(record()).replace(b'"origin":{', b'"origin":{"region":7,'),
    "fields that are none": to_line(record()).replace(b'"v":1', b'"v":1,"fields":"text"'),
    "not text": b"\xff\xfe",
    "nothing": b"",
}


@pytest.mark.parametrize("what", BAD_LINES)
def test_line_that_is_not_ours_is_refused_with_a_reason(what: str) -> None:
    with pytest.raises(NotReadable) as caught:
        from_line(BAD_LINES[what])
    assert str(caught.value)


@calm
@given(st.binary())
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    for read in (from_line, unpack, lambda some: from_message(some.decode("latin-1"))):
        try:
            read(data)
        except NotReadable:
            continue


@calm
@given(st.lists(SHORT, max_size=20), st.integers(1, 4000))
def test_objects_part_the_records_and_hold_each_once(given_records: list[Record], max_bytes: int) -> None:
    parcels = [packed.parcel for packed in pack_objects(given_records, max_bytes) if packed.parcel]
    for parcel in parcels:
        lines = unpack(parcel.data).splitlines()
        assert [exactly(from_line(line)) for line in lines] == [exactly(one) for one in parcel.records]
        assert len(lines) == 1 or sum(len(line) + 1 for line in lines) <= max_bytes
    newest_last = [one for parcel in reversed(parcels) for one in parcel.records]
    assert [id(one) for one in newest_last] == [id(one) for one in given_records]


@calm
@given(st.lists(SHORT, max_size=20), st.integers(500, 2000))
def test_messages_keep_to_their_limit_and_name_what_fits_into_none(given_records: list[Record], limit: int) -> None:
    found: list[Record] = []
    for packed in pack_messages(given_records, limit, piece_bytes=3000):
        if packed.parcel is None:
            assert len(packed.unfit) == 1
            found[:0] = packed.unfit
        else:
            assert len(message_body(packed.parcel)) <= limit
            assert len(unpack(from_message(message_body(packed.parcel))).splitlines()) == len(packed.parcel.records)
            found[:0] = packed.parcel.records
    assert [id(one) for one in found] == [id(one) for one in given_records]


def test_records_that_cannot_be_written_are_handed_back_and_cost_the_others_nothing() -> None:
    bad = record({"a": {1}}, id="bad")
    packed = list(pack_objects([*records(2), bad, *records(2)]))
    assert [one.unfit for one in packed if one.parcel is None] == [(bad,)]
    assert sum(len(one.parcel.records) for one in packed if one.parcel) == 4


def test_the_same_records_have_the_same_name_and_others_another() -> None:
    def key(*some: Record) -> str:
        (packed,) = pack_objects(some)
        assert packed.parcel is not None
        return object_key("kept/logs", "splunk", packed.parcel)

    first, second = records(2)
    assert key(first, second) == key(first, second)
    assert len({key(first), key(second), key(first, second), key(second, first)}) == 4
    assert key(first).startswith("kept/logs/orders-worker/splunk/2027/01/15/unknown-")


@pytest.mark.parametrize(
    ("instance_id", "name"),
    [
        ("2026/11/23/[$LATEST]9fab", "9fab"),
        ("9fab-01", "9fab-01"),
        (None, "unknown"),
        ("ü:*", "-"),
        ("a/..", "unknown"),
    ],
)
def test_instance_is_named_in_safe_characters(instance_id: str | None, name: str) -> None:
    assert instance(Origin(function_name="f", instance_id=instance_id)) == name


@calm
@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30), st.integers(-(2**62), 2**62))
def test_a_key_is_safe_whatever_the_names_and_tells_its_sink(function: str, sink: str, name: str, time: int) -> None:
    one = replace(record(time_ms=time), context=Context(Origin(function_name=function, instance_id=name), "function"))
    (packed,) = pack_objects([one])
    assert packed.parcel is not None
    for prefix in ("", "a/b"):
        key = object_key(prefix, sink, packed.parcel)
        assert len(key.encode()) <= 1024
        assert key.isascii()
        assert "//" not in key
        assert not {"", ".", ".."} & set(key.split("/"))
        assert sink_and_digest(key) == (key.split("/")[-5], packed.parcel.digest)


@pytest.mark.parametrize("key", ["a.txt", "f/splunk/2026/11/23/x.ndjson.gz", "splunk/2026/11/23/x-00.ndjson.gz", ""])
def test_other_keys_tell_nothing(key: str) -> None:
    assert sink_and_digest(key) is None


def test_damaged_parcels_are_refused() -> None:
    (packed,) = pack_objects(records(50))
    assert packed.parcel is not None
    whole = packed.parcel.data
    for damaged, reason in (
        (whole[:-9], "torn"),
        (b"hello", "not gzip"),
        (b"", "torn"),
        (whole + b"x", "behind"),
        (gzip.compress(b"0" * 1001), "more than 1000"),
    ):
        with pytest.raises(NotReadable, match=reason):
            unpack(damaged, max_bytes=1000 if b"x" not in damaged[-1:] and reason.startswith("more") else 10**6)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    with pytest.raises(NotReadable):
        unpack(bytes(flipped))
    with pytest.raises(NotReadable, match="base64"):
        from_message("{}")
    assert from_message(base64.b64encode(whole).decode()) == whole
