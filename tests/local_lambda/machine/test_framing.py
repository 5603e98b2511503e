"""Lines and frames come out the same however the stream is cut."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_lambda.machine.framing import Frames, Lines, Message, Splitter


def fed(splitter: Splitter, stream: bytes, step: int) -> list[Message]:
    messages: list[Message] = []
    for at in range(0, len(stream), step):
        messages += splitter.feed(stream[at : at + step])
    return messages + splitter.close()


def frame(text: bytes, kind: int = 0xA55A0003, micros: int = 1_700_000_000_123_456) -> bytes:
    return struct.pack(">IIQ", kind, len(text), micros) + text


@given(st.lists(st.binary(max_size=20).filter(lambda text: b"\n" not in text)), st.integers(1, 7))
@pytest.mark.fidelity("3.3-newline")
def test_lines_keep_their_newline_and_the_last_may_lack_it(texts: list[bytes], step: int) -> None:
    stream = b"\n".join(texts)
    pieces = [text for text, _ in fed(Lines(1000), stream, step)]
    assert b"".join(pieces) == stream
    assert all(piece.find(b"\n") == len(piece) - 1 for piece in pieces[:-1])
    assert len(pieces) == stream.count(b"\n") + (not stream.endswith(b"\n") and stream != b"")


@given(st.integers(1, 9))
def test_a_line_beyond_the_limit_is_cut_and_nothing_is_lost(step: int) -> None:
    stream = b"x" * 25 + b"\nend\n"
    pieces = [text for text, _ in fed(Lines(10), stream, step)]
    assert b"".join(pieces) == stream
    assert max(map(len, pieces)) <= 10
    assert pieces[-1] == b"end\n"


@given(st.lists(st.binary(max_size=30)), st.integers(1, 40))
def test_a_frame_is_one_message_with_its_own_time(texts: list[bytes], step: int) -> None:
    stream = b"".join(map(frame, texts))
    assert fed(Frames(), stream, step) == [(text, 1_700_000_000.123456) for text in texts]


def test_what_is_no_frame_is_handed_on_as_it_is() -> None:
    stream = frame(b"fine", kind=0xA55A001B) + b"something else entirely"
    assert fed(Frames(), stream, len(stream)) == [
        (b"fine", 1_700_000_000.123456),
        (b"something else entirely", None),
    ]
