"""The spool's wire form: what was written whole is read, what was not is not."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.spool.frames import (
    KeptBody,
    Kind,
    Note,
    all_of,
    body_frame,
    frames,
    header_frame,
    mask_of,
    ranges_of,
    read_body,
    read_header,
    read_settled,
    settled_frame,
)

MASKS = st.integers(0, 2**70)
BODIES = st.builds(
    lambda items, mask, **rest: KeptBody(items=items, mask=mask & all_of(items), **rest),
    identity=st.binary(min_size=12, max_size=12).map(bytes.hex),
    received_ms=st.integers(0, 2**50),
    items=st.integers(0, 70),
    mask=MASKS,
    teaches=st.booleans(),
    derives=st.booleans(),
    body=st.binary(max_size=200),
)
RANGES = st.lists(st.tuples(st.integers(0, 9), st.integers(10, 2**20)), min_size=1, max_size=4)
NOTES = st.lists(st.builds(Note, st.integers(0, 2**20), st.none() | RANGES), max_size=4)


def whole(*parts: list[bytes]) -> bytes:
    return b"".join(part for one in parts for part in one)


SEGMENT = [
    header_frame({"function": "f", "sinks": ["a"]}),
    body_frame(KeptBody(identity="ab" * 12, received_ms=1, items=9, mask=5, teaches=True, body=b"[1]")),
    settled_frame(0, [Note(0, [(0, 0)]), Note(0, None)]),
]


@given(BODIES)
def test_a_body_comes_back_as_it_was(kept: KeptBody) -> None:
    (frame,) = frames(whole(body_frame(kept)))
    assert frame.kind == Kind.BODY
    assert read_body(frame) == kept


@given(st.integers(0, 255), NOTES)
def test_what_was_settled_comes_back(sink: int, notes: list[Note]) -> None:
    (frame,) = frames(whole(settled_frame(sink, notes)))
    assert read_settled(frame.payload) == (sink, notes)


@given(MASKS)
def test_a_mask_and_its_ranges_are_the_same(mask: int) -> None:
    ranges = ranges_of(mask)
    assert mask_of(ranges) == mask
    assert all(first <= last for first, last in ranges)
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(ranges))


def test_a_header_of_another_format_is_refused() -> None:
    (frame,) = frames(whole(header_frame({"format": 99})))
    with pytest.raises(ValueError, match="not of format 1"):
        read_header(frame.payload)


def test_frames_say_where_they_lie() -> None:
    data = whole(*SEGMENT)
    found = list(frames(data))
    assert [frame.kind for frame in found] == [Kind.HEADER, Kind.BODY, Kind.SETTLED]
    assert (found[0].start, found[-1].end) == (0, len(data))
    assert [frame.start for frame in found[1:]] == [frame.end for frame in found[:-1]]


def test_a_torn_tail_ends_with_the_last_whole_frame() -> None:
    """Wherever the file is cut."""
    data = whole(*SEGMENT)
    ends = [frame.end for frame in frames(data)]
    for size in range(len(data)):
        assert [frame.end for frame in frames(data[:size])] == [end for end in ends if end <= size]


@given(data=st.data())
def test_a_flipped_bit_is_found_wherever_it_is(data: Any) -> None:
    sound = whole(*SEGMENT)
    bit = data.draw(st.integers(0, len(sound) * 8 - 1))
    broken = bytearray(sound)
    broken[bit // 8] ^= 1 << bit % 8
    ends = [frame.end for frame in frames(sound)]
    assert [frame.end for frame in frames(bytes(broken))] == [end for end in ends if end <= bit // 8]


@given(st.binary(max_size=300))
def test_no_bytes_are_more_than_no_frames(data: bytes) -> None:
    for frame in frames(data):
        assert frame.end <= len(data)
