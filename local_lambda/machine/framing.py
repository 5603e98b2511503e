"""Splits the bytes of a pipe into messages: lines, or the frames of a runtime's telemetry file descriptor. Pure.

A frame is: type (4 bytes), length (4), microseconds since the epoch (8), message; big-endian. Types start with 0xa55a;
text and JSON differ in the lowest bit. Source: awslambdaric, bootstrap.py and lambda_runtime_log_utils.py.
"""

import struct
from abc import ABC, abstractmethod

Message = tuple[bytes, float | None]  # the text, and its time in seconds since the epoch if the writer gave one

_HEADER = struct.Struct(">IIQ")
_MAGIC = 0xA55A


class Splitter(ABC):
    """Splits a byte stream into messages."""

    _rest = b""  # what belongs to a message that is not complete yet

    @abstractmethod
    def feed(self, data: bytes) -> list[Message]:
        """Add bytes of the stream; return the messages that are now complete."""

    def close(self) -> list[Message]:
        """Return the rest at the end of the stream."""
        rest, self._rest = self._rest, b""
        return [(rest, None)] if rest else []


class Lines(Splitter):
    """Splits into lines, each with its newline. A line longer than `limit_bytes` is cut into pieces of that size."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes

    def feed(self, data: bytes) -> list[Message]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        messages: list[Message] = []
        for text in lines:
            messages += [(piece, None) for piece in self._pieces(text + b"\n")]
        while len(self._rest) > self._limit:
            messages.append((self._rest[: self._limit], None))
            self._rest = self._rest[self._limit :]
        return messages

    def _pieces(self, text: bytes) -> list[bytes]:
        return [text[at : at + self._limit] for at in range(0, len(text), self._limit)]


class Frames(Splitter):
    """Splits into framed messages. Other bytes are passed on unchanged, so that nothing is lost."""

    def feed(self, data: bytes) -> list[Message]:
        self._rest += data
        messages: list[Message] = []
        while len(self._rest) >= _HEADER.size:
            kind, length, micros = _HEADER.unpack_from(self._rest)
            if kind >> 16 != _MAGIC:
                return [*messages, *self.close()]
            end = _HEADER.size + length
            if len(self._rest) < end:
                break
            messages.append((self._rest[_HEADER.size : end], micros / 1_000_000))
            self._rest = self._rest[end:]
        return messages
