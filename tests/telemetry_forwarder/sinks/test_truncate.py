"""Cutting a text to a size on the wire."""

import re

import orjson
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.records.lossless_json import clean
from telemetry_forwarder.sinks.truncate import cut, escaped_bytes, fit
from tests.sink_records import make_record

MARKED = re.compile(r"(.*)…\[cut, (\d+) bytes\]", re.DOTALL)


def test_a_text_that_fits_is_returned_whole():
    assert cut("abc", 3) == "abc"
    assert cut("", 0) == ""


def test_the_mark_says_how_much_is_missing():
    assert cut("a" * 100, 40) == "a" * 21 + "…[cut, 79 bytes]"
    assert cut("ä" * 50, 40) == "ä" * 10 + "…[cut, 80 bytes]"
    assert cut("a" * 100, 19) == "…[cut, 100 bytes]"


def test_escapes_count():
    assert escaped_bytes('"\n\x00ä') == len(b'\\"\\n\\u0000') + 2
    assert cut("\n" * 100, 40) == "\n" * 10 + "…[cut, 90 bytes]"


def test_a_character_is_never_divided():
    kept = cut("😀" * 50, 100)
    assert MARKED.fullmatch(kept)[1] == "😀" * 20


@pytest.mark.parametrize("room", [-1, 0, 18])
def test_without_room_for_the_mark_it_cannot_be_expressed(room):
    with pytest.raises(EncodeError):
        cut("a" * 100, room)


long_text = st.builds(str.__mul__, st.text(st.characters(), min_size=1, max_size=20), st.integers(1, 40))


@given(st.text(st.characters()) | long_text, st.integers(-5, 400))
def test_a_cut_text_is_the_longest_beginning_that_fits(text, max_bytes):
    whole = clean(text)
    try:
        kept = cut(text, max_bytes)
    except EncodeError:
        assert max_bytes < 40 and escaped_bytes(whole) > max_bytes  # noqa: PT018 - one rule
        return
    assert escaped_bytes(kept) <= max_bytes
    kept.encode()  # valid UTF-8
    if escaped_bytes(whole) <= max_bytes:
        assert kept == whole
        return
    beginning, missing = MARKED.fullmatch(kept).groups()
    assert whole.startswith(beginning)
    assert len(beginning.encode()) + int(missing) == len(whole.encode())
    mark = escaped_bytes(f"…[cut, {len(whole.encode())} bytes]")
    assert escaped_bytes(whole[: len(beginning) + 1]) + mark > max_bytes


@given(st.text(st.characters(codec="utf-8"), max_size=300), st.integers(60, 400))
@example("0000\x1f\r\x80\x80\x80\x80\x80\x80\x80\u0800\U00010000\U00010000\U00010000", 60)  # fits if it is cut, alone
def test_fit_keeps_what_fits_and_counts_what_does_not(text, max_bytes):
    record = make_record(text)

    def with_text(text, is_cut):
        return orjson.dumps({"m": text, "cut": is_cut})

    encoded = fit(record, with_text(text, False), max_bytes, with_text)
    assert len(encoded.data) <= max_bytes
    assert encoded.record is record
    assert orjson.loads(encoded.data)["cut"] is encoded.is_cut
    assert (orjson.loads(encoded.data)["m"] == text) is not encoded.is_cut


@given(st.text(min_size=30), st.integers(0, 20))
def test_fit_raises_where_the_rest_leaves_no_room(text, max_bytes):
    assume(len(text.encode()) > max_bytes)
    with pytest.raises(EncodeError):
        fit(make_record(text), b"x" * (max_bytes + 1), max_bytes, lambda text, is_cut: orjson.dumps({"m": text}))
