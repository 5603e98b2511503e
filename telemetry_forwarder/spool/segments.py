"""The spool's segments: the index of each in memory, and how it is read back from the segment's bytes. Pure."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import itemgetter, or_
from typing import Any, Protocol

from msgspec import Struct, field

from telemetry_forwarder.interfaces import DropReason
from telemetry_forwarder.records.knowledge import Knowledge
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.spool.frames import (
    BODIES,
    Frame,
    KeptBody,
    Kind,
    frames,
    mask_of,
    mask_of_indexes,
    read_body,
    read_header,
    read_settled,
)

# What derives metrics and spans of bodies has a place among the sinks, which no sink can have by its name: it needs
# all items of a body, or none.
DERIVER = "(signals)"


class Body:
    """A body in the spool: its place, and for each sink in `open` the mask of the records that are not settled yet."""

    __slots__ = ("end", "identity", "number", "open", "segment", "start", "teaches")

    def __init__(self, identity: str, *, teaches: bool, open: list[int]) -> None:
        self.identity = identity
        self.teaches = teaches
        self.open = open
        self.segment = NOWHERE
        self.number = 0  # its position in the segment
        self.start = 0
        self.end = 0

    @property
    def wanted(self) -> int:
        """The mask of the records that any sink still needs."""
        return reduce(or_, self.open, 0)


class Segment(Struct, eq=False):
    """One file: its bodies in order, and the enricher's Knowledge before the first of them.

    A file that was merged from several has a section for each, with the Knowledge before it.
    """

    number: int
    sinks: Sequence[str] = ()  # as its header lists them
    sections: list[tuple[int, Knowledge]] = field(default_factory=list)  # (first body's number, Knowledge)
    size: int = 0
    bodies: list[Body] = field(default_factory=list)
    unsettled: int = 0  # bodies that some sink still needs

    @property
    def is_settled(self) -> bool:
        return not self.unsettled

    def section_of(self, body: Body) -> tuple[int, Knowledge]:
        """Return the number of the first body of the section that holds `body`, and the Knowledge before it."""
        return self.sections[bisect_right(self.sections, body.number, key=itemgetter(0)) - 1]

    def needed(self) -> list[Body]:
        """Return the bodies that some sink needs, and the earlier ones that the enricher learns from."""
        last = max((body.number for body in self.bodies if any(body.open)), default=-1)
        return [body for body in self.bodies[: last + 1] if body.teaches or any(body.open)]

    def add(self, body: Body, end: int) -> None:
        """Add `body` as the next one; its frame ends at `end`."""
        body.segment, body.number = self, len(self.bodies)
        body.start, body.end = self.size, end
        self.bodies.append(body)
        self.size = end


NOWHERE = Segment(-1)  # the segment of a body that is not written yet


class Reader(Protocol):
    """Waits for the content of segments."""

    def holds(self, segment: Segment) -> bool:
        """Return whether records of `segment` are in memory and not settled."""
        ...

    def forget(self, segment: Segment, reason: DropReason) -> None:
        """Give up the records that wait in `segment`, which was removed for `reason`."""
        ...


class Pending(Struct, frozen=True):
    """A body that is to be written, and the enricher's Knowledge before and after it."""

    body: Body
    kept: KeptBody
    before: Knowledge
    after: Knowledge


class Owner(Struct, frozen=True, kw_only=True):
    """The function and version that own a spool. What another function or version left is of no use and is removed."""

    function: str
    version: str | None


class _Recovered(Struct):
    """A segment that an earlier generation left.

    `unclaimed` is what it holds for sinks that are no longer configured: by the sink's number in the header, then by
    the body's number, the mask of the records that are not settled.
    """

    segment: Segment
    unclaimed: Mapping[int, Mapping[int, int]]


def read_segment(
    number: int, data: bytes, owner: Owner, sinks: Sequence[str], takes: Sequence[frozenset[Signal] | None] = ()
) -> _Recovered:
    """Read the index of a segment from its bytes, up to a torn tail; map it to `sinks` and what each `takes`.

    Without `takes`, every sink takes every signal.

    Raises ValueError, LookupError, TypeError or struct.error if it is not a segment of `owner`.
    """
    segment = Segment(number)
    left: list[dict[int, int]] = []  # for each sink in the header: the mask by body
    signals: list[Signal] = []  # of each body
    for frame in frames(data):
        if frame.start == 0 or frame.kind == Kind.HEADER:
            its_sinks, knowledge = _read_header(frame, owner)
            if frame.start == 0:
                segment.sinks = its_sinks
                left = [{} for _ in its_sinks]
            elif its_sinks != segment.sinks:
                raise ValueError("a section for other sinks")
            segment.sections.append((len(segment.bodies), knowledge))
        elif frame.kind in BODIES:
            kept = read_body(frame)
            signals.append(kept.signal)
            body = Body(kept.identity, teaches=kept.teaches, open=[])
            segment.add(body, frame.end)
            for name, masks in zip(segment.sinks, left, strict=True):
                masks[body.number] = kept.mask if name != DERIVER else kept.wanted_by(None)
        elif frame.kind == Kind.SETTLED:
            sink, notes = read_settled(frame.payload)
            for note in notes:
                left[sink][note.body] &= ~mask_of(note.ranges) if note.ranges is not None else 0
        segment.size = frame.end
    if not segment.sections:
        raise ValueError("no header")
    claims = [segment.sinks.index(name) if name in segment.sinks else None for name in sinks]
    for body, signal in zip(segment.bodies, signals, strict=True):
        body.open = [
            left[claim][body.number] if claim is not None and (taken is None or signal in taken) else 0
            for claim, taken in zip(claims, takes or [frozenset(Signal)] * len(claims), strict=True)
        ]
        segment.unsettled += any(body.open)
    known = {*sinks, DERIVER}
    return _Recovered(segment, {sink: masks for sink, masks in enumerate(left) if segment.sinks[sink] not in known})


def _read_header(frame: Frame, owner: Owner) -> tuple[list[str], Knowledge]:
    if frame.kind != Kind.HEADER:
        raise ValueError("no header")
    header = read_header(frame.payload)
    if (header["function"], header["version"]) != (owner.function, owner.version):
        raise ValueError("of another function")
    known: dict[str, Any] = {
        member: tuple(value) if isinstance(value, list) else value for member, value in header["knowledge"].items()
    }
    return [*header["sinks"]], Knowledge(**known)


def masks_of(records: Iterable[Record]) -> dict[str, int]:
    """Return the masks of `records` by their body's identity, with a bit for each index. Skip records of no body."""
    indexes: dict[str, list[int]] = {}
    for record in records:
        if record.index is not None:
            indexes.setdefault(record.batch, []).append(record.index)
    return {identity: mask_of_indexes(found) for identity, found in indexes.items()}
