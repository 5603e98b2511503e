"""Bytes become records here, or a DecodeError, and nothing else."""

import json
import math
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_forwarder.errors import DecodeError
from telemetry_forwarder.records.lossless_json import parse_json
from telemetry_forwarder.records.record import decode, decode_in_steps

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
        items, others, unreadable, _ = decode(data, NOW_MS)
    except DecodeError:
        return
    assert 0 <= unreadable <= len(items)
    assert others >= 0


@given(JSON)
def test_any_json_value_decodes_or_raises_decode_error(value: object) -> None:
    data = json.dumps(value).encode()
    if isinstance(value, list):
        items, others, *_ = decode(data, NOW_MS)
        assert len(items) + others == len(value)
    else:
        with pytest.raises(DecodeError):
            decode(data, NOW_MS)


@given(st.lists(st.fixed_dictionaries({"time": JSON, "type": st.text(), "record": JSON}), max_size=5))
def test_no_member_of_an_item_stops_the_others(elements: list[dict[str, object]]) -> None:
    items, others, *_ = decode(json.dumps(elements).encode(), NOW_MS)
    assert (len(items), others) == (len(elements), 0)


@given(st.lists(st.fixed_dictionaries({"type": st.text()}, optional={"time": JSON, "record": JSON}), max_size=5))
def test_items_are_the_same_whether_or_not_care_is_needed(elements: list[dict[str, object]]) -> None:
    """A body with an element that is no item is parsed in another way."""
    plain = decode(json.dumps(elements).encode(), NOW_MS)
    careful = decode(json.dumps([*elements, 5]).encode(), NOW_MS)
    assert [repr(replace(one, size_bytes=0)) for one in plain.items] == [
        repr(replace(one, size_bytes=0)) for one in careful.items
    ]


@pytest.mark.parametrize("name", ["time_ms", "size_bytes", "body"])
def test_members_that_are_not_lambdas_change_nothing(name: str) -> None:
    items = decode(body(element(**{name: "x"})), NOW_MS).items
    assert items == decode(body(element(**{name: 777})), NOW_MS).items
    assert (items[0].time_ms, items[0].body) == (1772446530123, "hello\n")


def test_an_item_keeps_its_body_as_it_came() -> None:
    """The trailing newline is removed later; an object stays an object."""
    items, others, *_ = decode(body(element(), element(record={"a": [1, None]})), NOW_MS)
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
    items, others, *_ = decode(
        body(1, None, "x", [], {}, {"type": 5}, {"type": None, "record": "x"}, element()), NOW_MS
    )
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
    assert decode(b"[]", NOW_MS) == ([], 0, 0, ())


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


@pytest.mark.parametrize("text", [b"", b" ", b"{", b'{"a":1}x', b"\x00", b"nul", b"[", b" [ ", b"\xef\xbb\xbf"])
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


# --- one bad record costs itself ------------------------------------------------------------------------------------


def nested(levels: int) -> bytes:
    """Return the JSON of an element whose record is nested `levels` deep."""
    return b'{"time":"2026-03-02T10:15:30.123Z","type":"function","record":%b1%b}' % (b'{"a":' * levels, b"}" * levels)


def told(text: str, kind: str = "function") -> bytes:
    return json.dumps({"time": "2026-03-02T10:15:30.123Z", "type": kind, "record": text}).encode()


def bodies(data: bytes) -> list[object]:
    return [one.body for one in decode(data, NOW_MS).items]


def batch(*elements: bytes) -> bytes:
    return b"[" + b",".join(elements) + b"]"


SOUND = [told(f"line {number}") for number in range(49)]
BAD = [
    nested(1_100),
    nested(200_000),
    b'{"time":"2026-03-02T10:15:30.123Z","type":"function","record":{"a":nul}}',
    b'{"time":"2026-03-02T10:15:30.123Z","type":"function","record":"a\nb"}',
    b'{"time":"2026-03-02T10:15:30.123Z","type":"function","record":"a\\x"}',
    b'{"time":"2026-03-02T10:15:30.123Z","type":"function","record":{"a":1}',
    b'{"time":"2026-03-02T10:15:30.123Z","type":"function","record":{"a":"b"c"}}',
    b'{"time":"2026-03-02T10:15:30.123Z","type":"function","record":"unended}',
    b'{"time":"2026-03-02T10:15:30.123Z","type":"function","record":01}',
    b'{"time":"2026-03-02T10:15:30.123Z","type":"function","record":}',
    b'{"time":"2026-03-02T10:15:30.123Z","type":"function","record":["a",]}',
    b'{"time":"2026-03-02T10:15:30.123Z","type":"function","record":"%b' % (b"x" * 3_000_000),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad[62:90].decode("latin-1"))
@pytest.mark.parametrize("place", [0, 20, 49])
def test_a_record_that_is_no_json_is_text_and_costs_no_other(bad: bytes, place: int) -> None:
    items, others, unreadable, _ = decode(batch(*SOUND[:place], bad, *SOUND[place:]), NOW_MS)
    assert (len(items), others, unreadable) == (50, 0, 1)
    text = items.pop(place)
    assert [one.body for one in items] == [f"line {number}" for number in range(49)]
    assert text.type == "function"
    assert text.time_ms == 1772446530123
    assert isinstance(text.body, str)
    assert "…[no JSON that can be read" in text.body
    assert len(text.body.encode()) < 2200


def test_a_bracket_too_many_between_two_elements_costs_nothing() -> None:
    data = b"[" + SOUND[0] + b"}," + b",".join(SOUND[1:]) + b"]"
    assert bodies(data) == [f"line {number}" for number in range(49)]


def test_what_is_cut_says_how_much_is_missing() -> None:
    (text,) = bodies(batch(nested(1_100)))
    assert text.startswith('{"a":{"a":')
    assert text.endswith(f"…[no JSON that can be read: cut, {6 * 1_100 + 1 - 2048} bytes]")


@pytest.mark.parametrize("kind", ["platform.runtimeDone", "extension", "new"])
def test_a_record_that_is_no_json_keeps_the_type_it_came_under(kind: str) -> None:
    data = batch(b'{"time": "2026-03-02T10:15:30.123Z", "type" : "%b", "record" : {oops}}' % kind.encode())
    assert [(one.type, one.body) for one in decode(data, NOW_MS).items] == [(kind, "{oops}…[no JSON that can be read]")]


def test_an_element_of_which_nothing_can_be_told_is_a_line_of_the_function_received_now() -> None:
    (one,) = decode(b"[{oops}]", NOW_MS).items
    assert (one.type, one.time_ms, one.body) == ("function", NOW_MS, "{oops}…[no JSON that can be read]")


@pytest.mark.parametrize("end", range(200, 3 * len(told("line 0")), 7))
def test_of_a_body_that_is_cut_off_what_came_before_is_kept(end: int) -> None:
    data = batch(*SOUND)[:end]
    whole = data.count(b'"}')
    items, others, unreadable, _ = decode(data, NOW_MS)
    assert [one.body for one in items[:whole]] == [f"line {number}" for number in range(whole)]
    assert (others, len(items) - whole) == (0, unreadable)
    assert unreadable <= 1


def test_what_is_odd_but_can_be_read_is_no_text() -> None:
    """Each of these makes orjson refuse the body, or means something else to it."""
    odd = [
        told("\ud800"), b'{"time":5,"type":"function","record":NaN}', b'{"type":"function","record":1e999}',
        b'{"type":"function","record":"\xff"}', b'{"type":"function","record":' + b"9" * 30 + b"}",
        b'{"type":"x","type":"function","record":null}', nested(900),
    ]  # fmt: skip
    items, others, unreadable, _ = decode(b"\xef\xbb\xbf" + batch(*odd, *SOUND), NOW_MS)
    assert (len(items), others, unreadable) == (len(odd) + 49, 0, 0)
    assert [one.type for one in items[:5]] == ["function"] * 5


@given(
    st.lists(st.sampled_from([*SOUND[:2], *BAD[2:-1], b"1", b"[]", b"", nested(1_030)]), max_size=8),
    st.binary(max_size=9),
)
def test_a_body_is_decoded_to_the_same_items_again(elements: list[bytes], tail: bytes) -> None:
    """The spool makes the same records of it again, by their index: wherever the stack is then."""
    data = batch(*elements) + tail

    def deep(levels: int) -> object:
        return deep(levels - 1) if levels else outcome(data)

    assert outcome(data) == deep(200)


def outcome(data: bytes) -> object:
    try:
        items, others, *_ = decode(data, NOW_MS)
    except DecodeError:
        return None
    return [(one.time_ms, one.type) for one in items], others


def test_the_search_for_the_end_of_one_element_can_be_left_at_many_steps() -> None:
    """A quote too many makes one element of all that follow it, which are found again in the end."""
    data = batch(BAD[6], *SOUND * 100)
    steps = decode_in_steps(data, NOW_MS)
    count = 0
    while True:
        try:
            next(steps)
            count += 1
        except StopIteration as done:
            found = done.value
            break
    assert found == decode(data, NOW_MS)
    assert (len(found.items), found.unreadable) == (4901, 1)
    assert count > 4901 + data.count(b'"') // 2 // 1000


def test_of_a_body_that_is_damaged_in_one_place_the_rest_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    monkeypatch.setattr(
        "telemetry_forwarder.records.record.parse_json", lambda data: (parsed.append(data), parse_json(data))[1]
    )
    decode(batch(*SOUND[:20], BAD[2], *SOUND[20:]), NOW_MS)
    assert len(parsed) <= 1 + len(SOUND) + 3


def test_the_time_that_salvage_takes_grows_with_the_body_alone() -> None:
    """Quotes, brackets, escapes and starts of elements in their thousands: each is looked at a few times at most."""
    start = b'{"time":"2026-03-02T10:15:30.123Z","type":"function","record":'
    for kind in (b'"', b"[", b'\\"', b"},", b'{"a":[', start, b'"},' + start, b"]", b'{"time":"'):
        data = b"[" + kind * (1_000_000 // len(kind))
        began = time.process_time()
        decode(data, NOW_MS)
        assert time.process_time() - began < 5, kind


TORN_LINE = b'{"time":"2026-03-02T10:15:30.000Z","type":"function","record":{oops}}'


@pytest.mark.parametrize(
    ("elements", "gaps"),
    [
        ([], ()),
        ([told("a")], ()),
        ([b"1", told("a")], (0,)),
        ([told("a"), b"null", b"{}", told("b"), b"7"], (1, 2)),
        ([told("a"), TORN_LINE, told("b")], ()),
        ([told("a"), b"{oops}", told("b")], (1,)),
        ([told("a"), TORN_LINE], (2,)),
    ],
)
def test_it_is_known_where_something_stood_that_may_have_told_anything(
    elements: list[bytes], gaps: tuple[int, ...]
) -> None:
    """Not where a line stood that cannot be read: its type can."""
    assert decode(batch(*elements), NOW_MS).gaps == gaps
