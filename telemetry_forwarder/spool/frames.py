"""The spool's file format: frames that detect a torn tail or a flipped bit. Pure.

    frame    length of the payload (u32) · crc32 (u32) · kind (u8) · payload      integers little endian
    header   JSON: format, function, version, sinks, and the enricher's Knowledge before the first body
    body     by its signal, three kinds more for bodies of our own:
             identity (12 bytes) · received_ms (u64) · items (u32) · flags (u8) · length of mask (u32) · mask · body
             flags: 1 it teaches, 2 something is still to be derived of it
    settled  the sink's number in the header's list (u8), then for each body: its number in the segment (u32) ·
             ranges (u32) · first and last index of each (u32, u32); no ranges: all that was left of it

The checksum also covers length and kind, so a wrong length is detected like any other damage. The mask tells which
items of the body the sinks want (bit n: item n); it is empty if they want all.
"""

import struct
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from enum import IntEnum
from typing import Any

import orjson
from msgspec import Struct

from telemetry_forwarder.records.record import Signal

FORMAT = 1
_MOST_ITEMS = 1 << 24  # in a body: more than the longest body has bytes
_HEAD = struct.Struct("<IIB")
_GUARDED = struct.Struct("<IB")  # the checksum covers these before the payload
_BODY = struct.Struct("<12sQIBI")
_TEACHES, _DERIVES = 1, 2  # the flags of a body
_SINK = struct.Struct("<B")
_NOTE = struct.Struct("<II")
_RANGE = struct.Struct("<II")


class Kind(IntEnum):
    """The type of a frame. The last three are bodies of our own (`records.derived`)."""

    HEADER = 1
    BODY = 2
    SETTLED = 3
    METRICS = 4
    SPANS = 5
    LOGS = 6

    @property
    def signal(self) -> Signal | None:
        """The signal of a body's records; None if the frame is no body."""
        return _SIGNALS.get(self)


_SIGNALS = {
    Kind.BODY: Signal.LOG, Kind.METRICS: Signal.METRIC, Kind.SPANS: Signal.SPAN, Kind.LOGS: Signal.LOG,
}  # fmt: skip
OWN = {Signal.METRIC: Kind.METRICS, Signal.SPAN: Kind.SPANS, Signal.LOG: Kind.LOGS}  # the bodies of our own
BODIES = frozenset(_SIGNALS)


class Frame(Struct, frozen=True):
    """One frame: its place in the bytes that were read, and its payload."""

    kind: int
    start: int
    end: int
    payload: memoryview


class KeptBody(Struct, frozen=True, kw_only=True):
    """One telemetry body with all data needed to make the same records again.

    `mask` has a bit for each item that the sinks want; `teaches` tells whether the enricher learned from the body,
    `derives` whether metrics or spans are still to be derived of it.
    """

    identity: str  # 24 hexadecimal digits, see `record.batch_id`
    received_ms: int
    items: int
    mask: int
    teaches: bool
    body: bytes
    kind: Kind = Kind.BODY
    derives: bool = False

    @property
    def signal(self) -> Signal:
        return _SIGNALS[self.kind]

    def wanted_by(self, takes: Collection[Signal] | None) -> int:
        """Return the mask of the items for a sink that `takes` these signals; None: for what derives others."""
        if takes is None:
            return all_of(self.items) if self.derives else 0
        return self.mask if self.signal in takes else 0


class Note(Struct, frozen=True):
    """What one sink settled of one body: `ranges` of indices (first, last); None means all that was left."""

    body: int  # its number in the segment
    ranges: Sequence[tuple[int, int]] | None


def header_frame(header: Mapping[str, Any]) -> list[bytes]:
    """Return the parts of a header frame."""
    return _frame(Kind.HEADER, [orjson.dumps({"format": FORMAT, **header})])


def body_frame(kept: KeptBody) -> list[bytes]:
    """Return the parts of a body frame. The last part is the body itself, not copied."""
    is_all = kept.mask == all_of(kept.items)
    mask = b"" if is_all else kept.mask.to_bytes((kept.items + 7) // 8, "little")
    flags = _TEACHES * kept.teaches + _DERIVES * kept.derives
    fixed = _BODY.pack(bytes.fromhex(kept.identity), kept.received_ms, kept.items, flags, len(mask))
    return _frame(kept.kind, [fixed + mask, kept.body])


def settled_frame(sink: int, notes: Iterable[Note]) -> list[bytes]:
    """Return the parts of a frame with the settled records of sink number `sink`."""
    parts = [_SINK.pack(sink)]
    for note in notes:
        ranges = note.ranges or ()
        parts.append(_NOTE.pack(note.body, len(ranges)))
        parts += [_RANGE.pack(first, last) for first, last in ranges]
    return _frame(Kind.SETTLED, [b"".join(parts)])


def frames(data: bytes) -> Iterator[Frame]:
    """Yield the frames in `data`, which begins with a frame, up to the first that is torn or damaged."""
    view = memoryview(data)
    at = 0
    while at + _HEAD.size <= len(data):
        length, checksum, kind = _HEAD.unpack_from(data, at)
        end = at + _HEAD.size + length
        payload = view[at + _HEAD.size : end]
        if end > len(data) or zlib.crc32(payload, zlib.crc32(_GUARDED.pack(length, kind))) != checksum:
            return
        yield Frame(kind, at, end, payload)
        at = end


def kept_body(
    identity: str,
    body: bytes,
    received_ms: int,
    *,
    items: int,
    wanted: Sequence[int],
    teaches: bool,
    kind: Kind = Kind.BODY,
    derives: bool = False,
) -> KeptBody:
    """Return the KeptBody of a telemetry body; `wanted` are the indices of the items that the sinks want."""
    mask = all_of(items) if len(wanted) == items else mask_of_indexes(wanted)
    return KeptBody(
        identity=identity,
        received_ms=received_ms,
        items=items,
        mask=mask,
        teaches=teaches,
        body=body,
        kind=kind,
        derives=derives,
    )


def read_header(payload: memoryview) -> dict[str, Any]:
    """Return a header's members. Raises ValueError if it has another format."""
    header = orjson.loads(payload)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"not of format {FORMAT}")
    return header


def read_body(frame: Frame) -> KeptBody:
    """Return the body of a body frame."""
    payload = frame.payload
    identity, received_ms, items, flags, mask_bytes = _BODY.unpack_from(payload)
    start = _BODY.size + mask_bytes
    if items > _MOST_ITEMS:  # a mask of so many bits might exhaust the memory
        raise ValueError(f"{items} items")
    mask = int.from_bytes(payload[_BODY.size : start], "little") if mask_bytes else all_of(items)
    return KeptBody(
        identity=identity.hex(),
        received_ms=received_ms,
        items=items,
        mask=mask,
        teaches=bool(flags & _TEACHES),
        body=bytes(payload[start:]),
        kind=Kind(frame.kind),
        derives=bool(flags & _DERIVES),
    )


def read_settled(payload: memoryview) -> tuple[int, list[Note]]:
    """Return the sink's number and its notes from the payload of a settled frame."""
    at = _SINK.size
    notes = []
    while at < len(payload):
        body, count = _NOTE.unpack_from(payload, at)
        at += _NOTE.size
        ranges = [_RANGE.unpack_from(payload, at + n * _RANGE.size) for n in range(count)]
        at += count * _RANGE.size
        if any(first > last or last > _MOST_ITEMS for first, last in ranges):
            raise ValueError("a range that is none")
        notes.append(Note(body, [(first, last) for first, last in ranges] or None))
    return payload[0], notes


def all_of(items: int) -> int:
    """Return the mask with a bit for each of `items` items."""
    return (1 << items) - 1


def ranges_of(mask: int) -> list[tuple[int, int]]:
    """Return the runs of set bits as pairs of first and last bit, in ascending order."""
    found = []
    at = 0
    while mask:
        skipped = (mask & -mask).bit_length() - 1
        mask >>= skipped
        run = (~mask & (mask + 1)).bit_length() - 1
        found.append((at + skipped, at + skipped + run - 1))
        mask >>= run
        at += skipped + run
    return found


def mask_of(ranges: Iterable[tuple[int, int]]) -> int:
    """Return the mask whose runs of set bits are `ranges`."""
    mask = 0
    for first, last in ranges:
        mask |= all_of(last - first + 1) << first
    return mask


def mask_of_indexes(indexes: Sequence[int]) -> int:
    """Return the mask with a bit for each of `indexes`, which are distinct."""
    if not indexes:
        return 0
    low, high = min(indexes), max(indexes)
    if high - low + 1 == len(indexes):  # the usual case
        return all_of(len(indexes)) << low
    return sum([1 << index for index in indexes])


def _frame(kind: Kind, parts: list[bytes]) -> list[bytes]:
    length = sum(map(len, parts))
    checksum = zlib.crc32(_GUARDED.pack(length, kind))
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return [_HEAD.pack(length, checksum, kind), *parts]
