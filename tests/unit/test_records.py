"""Bytes become records here, or a DecodeError, and nothing else."""

import json
import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.errors import DecodeError
from telemetry_forwarder.records import decode, parse_json

NOW_MS = 1_800_000_000_000

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def body(*elements: object) -> bytes:
    return orjson.dumps(list(elements))


def element(**members: object) -> dict[str, object]:
    return {"time": "2026-03-02T10:15:30.123Z", "type": "function", "record": "hello\n", **members}


@given(st.binary())
def test_any_bytes_decode_or_raise_decode_error(data: bytes) -> None:
    try:
        items, others = decode(data, NOW_MS)
    except DecodeError:
        return
    assert len(items) + others >= 0


@given(JSON)
def test_any_json_value_decodes_or_raises_decode_error(value: object) -> None:
    data = json.dumps(value).encode()
    if isinstance(value, list):
        items, others = decode(data, NOW_MS)
        assert len(items) + others == len(value)
    else:
        with pytest.raises(DecodeError):
            decode(data, NOW_MS)


@given(st.lists(st.fixed_dictionaries({"time": JSON, "type": st.text(), "record": JSON}), max_size=5))
def test_no_member_of_an_item_stops_the_others(elements: list[dict[str, object]]) -> None:
    items, others = decode(json.dumps(elements).encode(), NOW_MS)
    assert (len(items), others) == (len(elements), 0)


def test_an_item_keeps_its_body_as_it_came() -> None:
    """The trailing newline is removed later; an object stays an object."""
    items, others = decode(body(element(), element(record={"a": [1, None]})), NOW_MS)
    assert [one.body for one in items] == ["hello\n", {"a": [1, None]}]
    assert items[0].time_ms == 1772446530123
    assert others == 0


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("1970-01-01T00:00:00.001Z", 1),
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T00:00:01.999999999Z", 1999),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1970-01-01T00:00:01", 1000),
        ("1969-12-31T23:59:59.999Z", -1),
        ("", NOW_MS),
        ("yesterday", NOW_MS),
        (None, NOW_MS),
        (1772446530, NOW_MS),
        ({"a": 1}, NOW_MS),
        ("0001-01-01T00:00:00+23:59", -62135683140000),
        ("9999-12-31T23:59:59.999-23:59", 253402387139999),
    ],
)
def test_times_of_any_form_are_read_or_replaced_by_the_time_of_receipt(time: object, expected: int) -> None:
    assert decode(body(element(time=time)), NOW_MS)[0][0].time_ms == expected


def test_an_item_without_time_is_an_item() -> None:
    assert decode(b'[{"type":"function","record":"x"}]', NOW_MS)[0][0].time_ms == NOW_MS


def test_elements_that_are_no_items_are_counted() -> None:
    items, others = decode(body(1, None, "x", [], {}, {"type": 5}, {"type": None, "record": "x"}, element()), NOW_MS)
    assert (len(items), others) == (1, 7)


def test_an_item_without_record_has_none_for_a_body() -> None:
    assert decode(b'[{"type":"platform.new"}]', NOW_MS)[0][0].body is None


@given(st.integers(1, 300), st.integers(0, 50))
def test_sizes_are_even_shares_that_sum_up_to_the_body(count: int, length: int) -> None:
    data = body(*(element(record="x" * length * number) for number in range(count)))
    sizes = [one.size_bytes for one in decode(data, NOW_MS)[0]]
    assert len(set(sizes)) == 1
    assert 0 <= len(data) - sum(sizes) < count


def test_an_empty_array_is_a_body_without_items() -> None:
    assert decode(b"[]", NOW_MS) == ([], 0)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'"\\ud800"', "\ufffd"),
        (b'"a\\udfffb"', "a\ufffdb"),
        (b'{"\\ud800":["\\udc00"]}', {"\ufffd": ["\ufffd"]}),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'["\\ud83d\\ude00","\\ud800"]', ["\U0001f600", "\ufffd"]),
        (b"[NaN, Infinity, -Infinity]", [None, None, None]),
        (b"1e400", "1e400"),
        (b"[-1e999, 1e30]", ["-1e999", 1e30]),
        (b"18446744073709551616", 18446744073709551616),
        (b"-9223372036854775809", -9223372036854775809),
        (b"12345678901234567890123", 12345678901234567890123),
        (b"9" * 5000, "9" * 5000),
        (b'"\xff"', "\ufffd"),
        (b'"\xed\xa0\x80"', "\ufffd\ufffd\ufffd"),
        (b'["\\ufeffx", "\\ud800"]', ["\ufeffx", "\ufffd"]),
    ],
)
def test_what_orjson_refuses_or_rounds_is_read_all_the_same(text: bytes, value: object) -> None:
    assert parse_json(text) == value


@given(st.integers(-(2**200), 2**200))
def test_integers_stay_exact(number: int) -> None:
    assert parse_json(str(number).encode()) == number


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_stay_exact(number: float) -> None:
    assert math.isclose(parse_json(json.dumps(number).encode()), number, rel_tol=0.0)


@given(JSON)
def test_what_was_parsed_can_be_written_as_utf8(value: object) -> None:
    """Lone surrogates are gone at any depth, in keys as well."""
    json.dumps(parse_json(json.dumps(value).encode()), ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize("text", [b"", b" ", b"{", b'{"a":1}x', b"[1,]", b"\x00", b"nul", b"[" * 100_000])
def test_what_is_no_json_raises_decode_error(text: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(text, NOW_MS)


@pytest.mark.parametrize("text", [b"{}", b"null", b'"[]"', b"1"])
def test_json_that_is_no_array_raises_decode_error_that_names_the_type(text: bytes) -> None:
    with pytest.raises(DecodeError, match="not a JSON array but"):
        decode(text, NOW_MS)


def test_depth_up_to_some_hundred_levels_is_read() -> None:
    deep = b"[" * 200 + b'"\\ud800"' + b"]" * 200
    assert parse_json(deep) is not None
