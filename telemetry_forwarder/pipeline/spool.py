"""The log of telemetry bodies under /tmp: what must outlive a full buffer, and us. Decides; a `Store` does the I/O.

Bodies are kept as they were received, once for all sinks; each sink notes what it has settled of them in the segment
that holds the body, so that a segment can be understood, and removed, by itself. Nothing here is ever flushed to a
device: a killed process leaves its writes to the kernel, and a lost environment loses /tmp with it.
"""

import struct
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.enrich import Knowledge
from telemetry_forwarder.log import Log
from telemetry_forwarder.pipeline import frames
from telemetry_forwarder.pipeline.frames import KeptBody, Kind, Note, body_frame, ranges_of
from telemetry_forwarder.pipeline.segments import NOWHERE, Body, Owner, Segment, masks_of, read_segment
from telemetry_forwarder.values import asdict, dataclass, field

# A spool is made of this many segments or more: what goes when it is full is one of them.
SEGMENTS = 16
LARGEST_SEGMENT_BYTES = 4 * 1024 * 1024
# The index of a body takes a few hundred bytes of memory, however small the body is.
MOST_BODIES = 16_384
# A segment of which nothing is needed any more is kept while it is small: removing it costs more than it takes.
WORTH_REMOVING_BYTES = 256 * 1024
# After trouble with the disk (full, read-only, slow) the next attempt is made this much later.
PAUSE_S = 30.0
# A write into the page cache takes a tenth of a millisecond. One that is slow may be a processor that was withheld.
SLOW_S = 0.25
SLOW_WRITES = 3


class Store(Protocol):
    """Where segments are kept, by number. Every method may raise OSError."""

    def numbers(self) -> list[int]:
        """Return the numbers of all segments, in ascending order."""
        ...

    def create(self, number: int) -> None: ...

    def append(self, number: int, parts: Sequence[bytes]) -> None:
        """Write all of `parts` at the end with one call, or nothing of them."""
        ...

    def read(self, number: int, offset: int = 0, size: int | None = None) -> bytes: ...

    def cut(self, number: int, size: int) -> None: ...

    def remove(self, number: int) -> None: ...


class Reader(Protocol):
    """Who waits for what is in a segment."""

    def holds(self, segment: Segment) -> bool:
        """Say whether something of it is in memory and not settled."""
        ...

    def forget(self, segment: Segment) -> None:
        """Give up what waits there: it is gone."""
        ...


@dataclass(slots=True)
class Counts:
    """What the ledger's line says of the spool."""

    bodies: int = 0  # written
    peak_bytes: int = 0
    failures: int = 0  # of the disk
    torn_bytes: int = 0  # at the end of what an earlier generation left
    unclaimed: dict[str, int] = field(default_factory=dict)  # records of sinks that are not configured any more


@dataclass(frozen=True, slots=True)
class Pending:
    """A body that is to be written, and what the enricher knew before and after it."""

    body: Body
    kept: KeptBody
    before: Knowledge
    after: Knowledge


class Spool:
    """The index over the segments of one environment, for the sinks `sinks` (their order gives the numbers)."""

    def __init__(
        self, store: Store, *, owner: Owner, sinks: Sequence[str], max_bytes: int, clock: Clock, log: Log
    ) -> None:
        self.sinks = tuple(sinks)
        self._store = store
        self._owner = owner
        self._max_bytes = max_bytes
        self._segment_bytes = min(LARGEST_SEGMENT_BYTES, max_bytes // SEGMENTS)
        self._clock = clock
        self._log = log
        self._segments: deque[Segment] = deque()
        self._bodies: dict[str, Body] = {}
        self._settled_before: list[str] = []  # identities of what an earlier generation had settled whole
        self._pending: list[Pending] = []
        self._readers: list[Reader] = []
        self._next_number = 0
        self._current: Segment | None = None  # the one that is written to
        self._known: Knowledge | None = None  # to whoever has read the bodies of the current segment
        self._paused_until = 0.0
        self._is_troubled = False
        self._slow = 0
        self._is_full_said = False
        self.counts = Counts()

    # --- in ---------------------------------------------------------------------------------------------------------

    def add(self, kept: KeptBody, before: Knowledge, after: Knowledge) -> None:
        """Take a body, to be written by the next `commit`, and what the enricher knew before and after it."""
        if kept.identity in self._bodies or self._is_paused:
            return
        body = Body(kept.identity, teaches=kept.teaches, open=[kept.mask] * len(self.sinks))
        self._bodies[kept.identity] = body
        self._pending.append(Pending(body, kept, before, after))

    def commit(self) -> None:
        """Write what was added. Where that fails it is said once, and what was added is in memory alone."""
        pending, self._pending = self._pending, []
        for one in pending:
            if self._is_paused or not self._write(one):
                self._bodies.pop(one.body.identity, None)

    def _write(self, one: Pending) -> bool:
        parts = body_frame(one.kept)
        size = sum(map(len, parts))
        opening = self._make_room(size, one.before)
        if opening is None:
            return False
        started = self._clock.monotonic()
        try:
            segment = self._begin_segment(opening, one.before) if opening else self._segments[-1]
            self._store.append(segment.number, parts)
        except OSError as error:
            self._pause(f"cannot be written: {error.strerror or error}")
            return False
        segment.add(one.body, segment.size + size)
        segment.unsettled += any(one.body.open)
        self._known = one.after
        self.counts.bodies += 1
        self.counts.peak_bytes = max(self.counts.peak_bytes, self.size_bytes)
        self._judge_speed(size, self._clock.monotonic() - started)
        return True

    def _make_room(self, size: int, before: Knowledge) -> list[bytes] | None:
        """Remove old segments until a body of `size` bytes has room; return what has to be written before it.

        That is the beginning of a new segment, or nothing where the current one goes on. None: it can have no room.
        """
        while True:
            opening = self._opening(size, before)
            needed = size + sum(map(len, opening))
            if self.size_bytes + needed <= self._max_bytes and len(self._bodies) <= MOST_BODIES:
                return opening
            if not self._segments:
                return None
            self._evict()

    def _opening(self, size: int, before: Knowledge) -> list[bytes]:
        """Return the beginning of a new segment where the current one cannot take `size` bytes.

        So also where a body before this one was not written, and the enricher had learned something from it.
        """
        if self._current is not None and self._current.size + size <= self._segment_bytes and before is self._known:
            return []
        return frames.header_frame({**asdict(self._owner), "sinks": self.sinks, "knowledge": asdict(before)})

    def _begin_segment(self, opening: list[bytes], before: Knowledge) -> Segment:
        segment = Segment(self._next_number, self.sinks, before)
        self._store.create(segment.number)
        self._next_number += 1
        self._store.append(segment.number, opening)
        segment.size = sum(map(len, opening))
        self._segments.append(segment)
        self._current = segment
        return segment

    def _evict(self) -> None:
        """Remove the oldest segment; rather one of which nothing is in memory, where a kill could reach it."""
        on_disk_alone = (one for one in self._segments if not any(reader.holds(one) for reader in self._readers))
        oldest = next(on_disk_alone, self._segments[0])
        if not oldest.is_settled and not self._is_full_said:
            self._is_full_said = True
            self._log.warning(
                f"The spool is full ({self._max_bytes} bytes): its oldest records are dropped for new ones."
            )
        self._remove(oldest)

    # --- out --------------------------------------------------------------------------------------------------------

    def settle(self, sink: int, ids: Iterable[str]) -> None:
        """Note that the sink with the number `sink` has no further need of these records."""
        self.settle_masks(sink, masks_of(ids).items())

    def settle_masks(self, sink: int, masks: Iterable[tuple[str, int]]) -> None:
        """Do so for records that are given as the identities of bodies, with a bit for each index."""
        self.commit()  # the body comes before what is said of it
        notes: dict[int, tuple[Segment, list[Note]]] = {}
        for identity, mask in masks:
            body = self._bodies.get(identity)
            if body is None or not (mask := mask & body.open[sink]):
                continue  # never written, or gone with its segment
            body.open[sink] &= ~mask
            body.segment.unsettled -= not any(body.open)
            note = Note(body.number, ranges_of(mask) if body.open[sink] else None)
            notes.setdefault(body.segment.number, (body.segment, []))[1].append(note)
        for segment, found in notes.values():
            self._note(sink, segment, found)

    def _note(self, sink: int, segment: Segment, notes: Sequence[Note]) -> None:
        """Write down what was settled, or remove the segment where nothing is left to be said of it."""
        if segment.is_settled and (segment.size >= WORTH_REMOVING_BYTES or segment is not self._current):
            self._remove(segment)
        else:
            self._append_notes(segment, segment.sinks.index(self.sinks[sink]), notes)

    def _append_notes(self, segment: Segment, sink: int, notes: Sequence[Note]) -> None:
        parts = frames.settled_frame(sink, notes)
        try:
            self._store.append(segment.number, parts)
        except OSError as error:
            self._pause(f"cannot be written: {error.strerror or error}")
        else:
            segment.size += sum(map(len, parts))

    def _remove(self, segment: Segment) -> None:
        self._segments.remove(segment)
        if segment is self._current:
            self._current = None
        for body in segment.bodies:
            self._bodies.pop(body.identity, None)
        for reader in self._readers:
            reader.forget(segment)
        try:
            self._store.remove(segment.number)
        except OSError as error:
            self._pause(f"cannot be cleared: {error.strerror or error}")

    # --- questions --------------------------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        return sum(segment.size for segment in self._segments)

    def find(self, identity: str) -> Body | None:
        """Return the body with this identity, if it is written."""
        body = self._bodies.get(identity)
        return body if body is not None and body.segment is not NOWHERE else None

    def open_bodies(self, sink: int) -> Iterator[Body]:
        """Yield the written bodies of which the sink still needs something, oldest first."""
        return (body for segment in self._segments for body in segment.bodies if body.open[sink])

    def identities(self) -> list[str]:
        """Return the identities of all written bodies, oldest first, those that need nothing any more in front."""
        return self._settled_before + [body.identity for segment in self._segments for body in segment.bodies]

    def read(self, body: Body) -> KeptBody:
        """Read a body back. Raises OSError, and ValueError where it is damaged."""
        data = self._store.read(body.segment.number, body.start, body.end - body.start)
        for frame in frames.frames(data):
            if frame.kind == Kind.BODY:
                return frames.read_body(frame.payload)
        raise ValueError("damaged")

    def attach(self, reader: Reader) -> None:
        """Tell `reader` from now on when a segment goes."""
        self._readers.append(reader)

    def snapshot(self) -> dict[str, Any]:
        return {**asdict(self.counts), "size_bytes": self.size_bytes}

    # --- one generation to the next ---------------------------------------------------------------------------------

    def recover(self) -> None:
        """Read the index of what an earlier generation left. Call once, before anything is added."""
        try:
            numbers = self._store.numbers()
        except OSError as error:
            self._pause(f"cannot be read: {error.strerror or error}")
            return
        for number in numbers:
            self._next_number = number + 1
            try:
                self._recover(number)
            except OSError as error:
                self._pause(f"cannot be read: {error.strerror or error}")
            except (ValueError, LookupError, TypeError, struct.error) as error:
                self._log.info(f"What an earlier process left in the spool cannot be used: {type(error).__name__}.")
                self._discard(number)
        for name, records in self.counts.unclaimed.items():
            self._log.warning(
                f"{records} records were kept for {name}, which is not configured any more; they are dropped."
            )

    def _recover(self, number: int) -> None:
        """Add one segment to the index; what was torn off its end makes way for what is noted now."""
        data = self._store.read(number)
        found = read_segment(number, data, self._owner, self.sinks)
        segment = found.segment
        if torn := len(data) - segment.size:
            self.counts.torn_bytes += torn
            self._store.cut(number, segment.size)
        self._segments.append(segment)
        self._bodies.update((body.identity, body) for body in segment.bodies)
        for sink, left in found.unclaimed.items():
            self._drop_unclaimed(segment, sink, left)
        if segment.is_settled:
            self._settled_before += [body.identity for body in segment.bodies]
            self._remove(segment)

    def _drop_unclaimed(self, segment: Segment, sink: int, left: Mapping[int, int]) -> None:
        """Count, once and for all generations, what was kept for a sink that is not configured any more."""
        if records := sum(mask.bit_count() for mask in left.values()):
            name = segment.sinks[sink]
            self.counts.unclaimed[name] = self.counts.unclaimed.get(name, 0) + records
            self._append_notes(segment, sink, [Note(number, None) for number in left])

    def _discard(self, number: int) -> None:
        try:
            self._store.remove(number)
        except OSError as error:
            self._pause(f"cannot be cleared: {error.strerror or error}")

    def close(self) -> None:
        """Write what is pending; leave no file behind where nothing is left for another generation."""
        self.commit()
        for segment in [segment for segment in self._segments if segment.is_settled]:
            self._remove(segment)

    # --- trouble ----------------------------------------------------------------------------------------------------

    @property
    def _is_paused(self) -> bool:
        now = self._clock.time()  # set back, it must not pause for longer
        return now < self._paused_until <= now + PAUSE_S

    def _pause(self, what: str) -> None:
        """Do without the disk for a while, and say so once."""
        self._paused_until = self._clock.time() + PAUSE_S
        self.counts.failures += 1
        say = self._log.info if self._is_troubled else self._log.warning
        say(f"The spool {what}. Records are held in memory alone; at its bound the oldest are dropped.")
        self._is_troubled = True

    def _judge_speed(self, size: int, seconds: float) -> None:
        self._slow = self._slow + 1 if seconds > SLOW_S else 0
        if self._slow >= SLOW_WRITES:
            self._slow = 0
            self._pause(f"is too slow (the last write of {size} bytes took {seconds:.1f} s)")
        elif self._is_troubled and not self._slow:
            self._is_troubled = False
            self._log.info("The spool is written again.")
