"""The log of telemetry bodies under /tmp: what must outlive a full buffer, and us. Decides; a `Store` does the I/O.

Bodies are kept as they were received, once for all sinks; each sink notes what it has settled of them in the segment
that holds the body, so that a segment can be understood, and removed, by itself. Nothing here is ever flushed to a
device: a killed process leaves its writes to the kernel, and a lost environment loses /tmp with it.
"""

import errno
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.interfaces import DropReason
from telemetry_forwarder.lazy_dataclass import asdict
from telemetry_forwarder.log import Log
from telemetry_forwarder.records.knowledge import Knowledge
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.spool import frames
from telemetry_forwarder.spool.frames import KeptBody, Kind, Note, body_frame, ranges_of
from telemetry_forwarder.spool.merging import longest_run, merge
from telemetry_forwarder.spool.pauses import Pauses
from telemetry_forwarder.spool.segments import NOWHERE, Body, Owner, Pending, Segment, masks_of, read_segment
from telemetry_forwarder.spool.store import Counts, Reader, Store

# A spool is made of this many segments or more: what goes when it is full is one of them.
SEGMENTS = 16
LARGEST_SEGMENT_BYTES = 4 * 1024 * 1024
# How many bodies that left the spool are known again when Lambda sends them again.
KNOWN = 64
# With more than these, small ones become one: a process that is reset leaves one, and the next begins another.
MOST_SEGMENTS = 40
# The index of a body takes a few hundred bytes of memory, however small the body is.
MOST_BODIES = 16_384
# A segment of which nothing is needed any more is kept while it is small: removing it costs more than it takes.
WORTH_REMOVING_BYTES = 256 * 1024
# At the end, for writing again what somebody else removed: there is more to be done in the 2 s of SHUTDOWN.
SECURE_S = 0.3


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
        self._settled_before: deque[str] = deque(maxlen=KNOWN)  # identities of bodies that are not kept any more
        self._pending: list[Pending] = []
        self._readers: list[Reader] = []
        self._next_number = 0
        self._current: Segment | None = None  # the one that is written to
        self._known: Knowledge | None = None  # to whoever has read the bodies of the current segment
        self._doomed: list[int] = []  # numbers of files that could not be removed
        self._unsure: list[Segment] = []  # which another process may not find, as it seems that /tmp was cleared
        self._is_full_said = False
        self.counts = Counts()
        self._pauses = Pauses(self.counts, clock, log)

    # --- in ---------------------------------------------------------------------------------------------------------

    def add(self, kept: KeptBody, before: Knowledge, after: Knowledge) -> None:
        """Take a body, to be written by the next `commit`, and what the enricher knew before and after it."""
        if kept.identity in self._bodies or self._pauses.is_paused or not (kept.mask or kept.teaches):
            return
        body = Body(kept.identity, teaches=kept.teaches, open=[kept.mask] * len(self.sinks))
        self._bodies[kept.identity] = body
        self._pending.append(Pending(body, kept, before, after))

    def commit(self) -> None:
        """Write what was added. Where that fails it is said once, and what was added is in memory alone."""
        pending, self._pending = self._pending, []
        for one in pending:
            if self._pauses.is_paused or not self._write(one):
                self._bodies.pop(one.body.identity, None)
        if self._unsure and not self._pauses.is_paused:
            # One for each body: there may be many, and nobody is to wait for it.
            self._secure(self._unsure.pop())

    def _write(self, one: Pending) -> bool:
        parts = body_frame(one.kept)
        size = sum(map(len, parts))
        opening = self._make_room(size, one.before)
        if opening is None:
            return False
        started = self._clock.monotonic()
        try:
            segment = self._begin_segment(opening, parts, one.before) if opening else self._go_on(parts)
        except OSError as error:
            self._current = None
            if error.errno == errno.ESTALE and not opening:  # nothing is wrong with the disk: a new segment will do
                self._unsure = [*self._segments]
                return self._write(one)
            self._pauses.pause(f"cannot be written: {error.strerror or error}")
            return False
        segment.add(one.body, segment.size + size)
        segment.unsettled += any(one.body.open)
        self._known = one.after
        self.counts.bodies += 1
        self.counts.peak_bytes = max(self.counts.peak_bytes, self.size_bytes)
        self._pauses.judge_speed(self._clock.monotonic() - started)
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
        return self._header(before)

    def _header(self, before: Knowledge) -> list[bytes]:
        return frames.header_frame({**asdict(self._owner), "sinks": self.sinks, "knowledge": asdict(before)})

    def _go_on(self, parts: list[bytes]) -> Segment:
        """Append to the current segment."""
        assert self._current is not None  # noqa: S101 - else `_opening` begins another
        if not self._store.append(self._current.number, parts, self._current.size):
            self._unsure = [*self._segments]
        return self._current

    def _begin_segment(self, opening: list[bytes], parts: list[bytes], before: Knowledge) -> Segment:
        self._discard_doomed()
        if len(self._segments) >= MOST_SEGMENTS:
            self._merge_some()
        segment = Segment(self._next_number, self.sinks, [(0, before)])
        self._next_number += 1
        self._store.create(segment.number, [*opening, *parts])
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
            self._log.warning(f"The spool is full ({self._max_bytes} bytes): its oldest records are dropped.")
        self._remove(oldest)

    # --- out --------------------------------------------------------------------------------------------------------

    def settle(self, sink: int, records: Iterable[Record]) -> None:
        """Note that the sink with the number `sink` has no further need of these records."""
        self.settle_masks(sink, masks_of(records).items())

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
            is_found = self._store.append(segment.number, parts, segment.size)
        except OSError as error:
            is_found = error.errno != errno.ESTALE
            if is_found:
                self._pauses.pause(f"cannot be written: {error.strerror or error}")
        else:
            segment.size += sum(map(len, parts))
        if not is_found:
            self._unsure = [*self._segments]

    def _remove(self, segment: Segment, reason: DropReason = DropReason.SPOOL_FULL) -> None:
        self._segments.remove(segment)
        if segment is self._current:
            self._current = None
        self._forget(segment)
        for reader in self._readers:
            reader.forget(segment, reason)
        self._discard(segment.number)

    def _forget(self, segment: Segment) -> None:
        for body in segment.bodies:
            if self._bodies.get(body.identity) is body:  # not of another segment, where it is too
                del self._bodies[body.identity]

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
        return [*self._settled_before] + [body.identity for segment in self._segments for body in segment.bodies]

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
            self._pauses.pause(f"cannot be read: {error.strerror or error}")
            return
        for number in numbers:
            self._next_number = number + 1
            try:
                self._recover(number)
            except OSError as error:  # of this file: the others may be well, and so may those to come
                self._pauses.say(
                    f"What an earlier process left in the spool cannot be read: {error.strerror or error}."
                )
            except (ValueError, LookupError, TypeError, struct.error) as error:
                self._log.info(f"What an earlier process left in the spool cannot be used: {type(error).__name__}.")
                self._discard(number)
        while len(self._segments) > MOST_SEGMENTS and self._merge_some():
            pass  # each time there are fewer
        for name, records in self.counts.unclaimed.items():
            self._log.warning(
                f"{records} records were kept for {name}, which is not configured any more; they are dropped."
            )

    def secure(self) -> None:
        """Write what is pending, and see to it that the next process finds all that is not settled.

        What it will not find is given up: /tmp is the function's too, which may have cleared it.
        """
        self.commit()
        until = self._clock.monotonic() + SECURE_S
        for segment in [segment for segment in self._segments if not segment.is_settled]:
            self._secure(segment, is_last=True, may_write=self._clock.monotonic() < until)
        self._unsure.clear()

    def _secure(self, segment: Segment, *, is_last: bool = False, may_write: bool = True) -> None:
        """Have `segment` where the next process finds it; give it up where its bytes are gone, or this is the end."""
        if segment not in self._segments:
            return
        try:
            self._store.secure(segment.number, segment.size, may_write=may_write)
        except OSError as error:
            if is_last or error.errno in (errno.ESTALE, errno.ENOENT):
                self._give_up(segment, error)
            else:
                self._pauses.pause(f"cannot be written: {error.strerror or error}")

    def _give_up(self, segment: Segment, error: OSError) -> None:
        self.counts.lost_segments += 1
        self._pauses.say(
            f"A part of the spool is lost: {error.strerror or error}. Does the function clear /tmp? "
            "What TELEMETRY_FORWARDER_SPOOL_DIR names is better left alone."
        )
        self._remove(segment, DropReason.SPOOL_LOST)

    def _merge_some(self) -> bool:
        """Make one segment of small neighbours, not of the current one; return False where that cannot be."""
        run = longest_run([one for one in self._segments if one is not self._current], self._segment_bytes)
        if len(run) < 2:
            return False
        try:
            self._merge(run)
        except (OSError, ValueError) as error:  # they are as good as before
            self._pauses.say(f"Old segments of the spool are not merged: {error}.")
            return False
        return True

    def _merge(self, run: Sequence[Segment]) -> None:
        """Write what is still needed of `run` in the place of its first, then remove the others.

        Whoever dies between the two leaves bodies twice; the next process knows them by their identity.
        """
        merged = Segment(run[0].number, self.sinks)
        data, places = merge(run, merged, self.read, self._header)
        self._store.replace(merged.number, [data])
        for segment in run:
            self._settled_before.extend(body.identity for body in segment.bodies if not any(body.open))
            self._forget(segment)
        for body, start, end in places:
            merged.size = start
            merged.add(body, end)
            merged.unsettled += any(body.open)
            self._bodies[body.identity] = body
        merged.size = len(data)
        self._segments[self._segments.index(run[0])] = merged
        for segment in run[1:]:
            self._segments.remove(segment)
            self._discard(segment.number)

    def _recover(self, number: int) -> None:
        """Add one segment to the index; what was torn off its end makes way for what is noted now."""
        data = self._store.read(number)
        found = read_segment(number, data, self._owner, self.sinks)
        segment = found.segment
        if torn := len(data) - segment.size:
            self.counts.torn_bytes += torn
            self._store.cut(number, segment.size)
        self._void_repeated(segment)
        self._segments.append(segment)
        for body in segment.bodies:
            self._bodies.setdefault(body.identity, body)
        for sink, left in found.unclaimed.items():
            self._drop_unclaimed(segment, sink, left)
        if segment.is_settled:
            self._settled_before.extend(body.identity for body in segment.bodies)
            self._remove(segment)

    def _void_repeated(self, segment: Segment) -> None:
        """Settle what is in an earlier segment too: a process died while it merged them."""
        repeated = [body for body in segment.bodies if body.identity in self._bodies and any(body.open)]
        for body in repeated:
            body.open = [0] * len(self.sinks)
            segment.unsettled -= 1
        for sink in range(len(segment.sinks)) if repeated else ():
            self._append_notes(segment, sink, [Note(body.number, None) for body in repeated])

    def _drop_unclaimed(self, segment: Segment, sink: int, left: Mapping[int, int]) -> None:
        """Count, once and for all generations, what was kept for a sink that is not configured any more."""
        if records := sum(mask.bit_count() for mask in left.values()):
            name = segment.sinks[sink]
            self.counts.unclaimed[name] = self.counts.unclaimed.get(name, 0) + records
            self._append_notes(segment, sink, [Note(number, None) for number in left])

    def _discard(self, number: int) -> None:
        """Remove a file that nothing is needed of; where that fails, when the disk is tried again, and at the end."""
        try:
            self._store.remove(number)
        except OSError as error:
            self._doomed.append(number)
            self._pauses.pause(f"cannot be cleared: {error.strerror or error}")

    def _discard_doomed(self) -> None:
        doomed, self._doomed = self._doomed, []
        for number in doomed:
            self._discard(number)

    def close(self) -> None:
        """Write what is pending; leave no file behind where nothing is left for another generation."""
        self.commit()
        self._discard_doomed()
        for segment in [segment for segment in self._segments if segment.is_settled]:
            self._remove(segment)
