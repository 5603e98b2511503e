"""The spool: a log of telemetry bodies under /tmp that outlives a full buffer and our process; its I/O is in `files`.

A body is kept as it was received, once for all sinks. Each sink notes what it has settled in the same segment, so that
each segment can be read, and removed, by itself. Nothing is ever flushed to a device: if the process is killed the
kernel still has its writes, and if the environment is lost /tmp is lost with it.
"""

import errno
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from msgspec.structs import asdict

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.interfaces import LOGS, DropReason
from telemetry_forwarder.log import Log
from telemetry_forwarder.records.knowledge import Knowledge
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.spool import frames
from telemetry_forwarder.spool.files import SegmentFiles
from telemetry_forwarder.spool.frames import BODIES, KeptBody, Note, body_frame, ranges_of
from telemetry_forwarder.spool.merging import longest_run, merge
from telemetry_forwarder.spool.pauses import Counts, Pauses
from telemetry_forwarder.spool.segments import NOWHERE, Body, Owner, Pending, Reader, Segment, masks_of, read_segment

# A full spool has at least this many segments; to make room, one is removed.
_SEGMENTS = 16
_LARGEST_SEGMENT_BYTES = 4 * 1024 * 1024
# How many removed bodies are remembered, to recognize them when Lambda sends them again.
KNOWN = 64
# Above this number small segments are merged, because every process that is reset leaves one behind.
MOST_SEGMENTS = 40
# An index entry takes a few hundred bytes of memory, however small the body is.
MOST_BODIES = 16_384
# A settled segment is kept while it is smaller than this: removing it costs more than the space it takes.
WORTH_REMOVING_BYTES = 256 * 1024
# The time to rewrite removed files at the end; the 2 s of SHUTDOWN are needed for other work as well.
SECURE_S = 0.3


class Spool:
    """The index of the segments of one environment. `sinks` gives their numbers; DERIVER `takes` None."""

    def __init__(
        self, files: SegmentFiles, *, owner: Owner, sinks: Sequence[str], max_bytes: int, clock: Clock, log: Log,
        takes: Mapping[str, frozenset[Signal] | None] | None = None,
    ) -> None:  # fmt: skip
        self.sinks = tuple(sinks)
        self._takes = [(takes or {}).get(sink, LOGS) for sink in sinks]
        self._files, self._owner = files, owner
        self._max_bytes = max_bytes
        self._segment_bytes = min(_LARGEST_SEGMENT_BYTES, max_bytes // _SEGMENTS)
        self._clock, self._log = clock, log
        self._segments: deque[Segment] = deque()
        self._bodies: dict[str, Body] = {}
        self._settled_before: deque[str] = deque(maxlen=KNOWN)  # identities of bodies that were removed
        self._pending: list[Pending] = []
        self._readers: list[Reader] = []
        self._next_number = 0
        self._current: Segment | None = None  # the one that is written to
        self._known: Knowledge | None = None  # the Knowledge after the current segment's bodies
        self._doomed: list[int] = []  # numbers of files that could not be removed
        self._unsure: list[Segment] = []  # /tmp seems cleared, so the next process may miss these
        self._is_full_said, self.counts = False, Counts()
        self._pauses = Pauses(self.counts, clock, log)

    # --- in ---------------------------------------------------------------------------------------------------------

    def add(self, kept: KeptBody, before: Knowledge, after: Knowledge) -> None:
        """Take a body for the next `commit`, with the Knowledge before and after it."""
        if kept.identity in self._bodies or self._pauses.is_paused or not (kept.mask or kept.teaches or kept.derives):
            return
        wanted = [kept.wanted_by(taken) for taken in self._takes]
        body = Body(kept.identity, teaches=kept.teaches, open=wanted)
        self._bodies[kept.identity] = body
        self._pending.append(Pending(body, kept, before, after))

    def commit(self) -> None:
        """Write the added bodies. A failure is reported once; the records are then only in memory."""
        pending, self._pending = self._pending, []
        for one in pending:
            if self._pauses.is_paused or not self._write(one):
                self._bodies.pop(one.body.identity, None)
        if self._unsure and not self._pauses.is_paused:
            # One segment for each body: there may be many, and nobody should wait for all.
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
            if error.errno == errno.ESTALE and not opening:  # the disk is well, so try a new segment
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
        """Remove old segments until a body of `size` bytes fits. Return the frames to write before it.

        These are the header of a new segment, or none if the current segment goes on. None: the body cannot fit.
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
        """Return the header of a new segment if the current one cannot take `size` bytes, else nothing.

        A new segment is also needed if an earlier body was not written and the enricher had learned from it.
        """
        goes_on = self._current is not None and self._current.size + size <= self._segment_bytes
        return [] if goes_on and before is self._known else self._header(before)

    def _header(self, before: Knowledge) -> list[bytes]:
        return frames.header_frame({**asdict(self._owner), "sinks": self.sinks, "knowledge": asdict(before)})

    def _go_on(self, parts: list[bytes]) -> Segment:
        """Append to the current segment."""
        assert self._current is not None  # noqa: S101 - else `_opening` begins another
        if not self._files.append(self._current.number, parts, self._current.size):
            self._unsure = [*self._segments]
        return self._current

    def _begin_segment(self, opening: list[bytes], parts: list[bytes], before: Knowledge) -> Segment:
        self._discard_doomed()
        if len(self._segments) >= MOST_SEGMENTS:
            self._merge_some()
        segment = Segment(self._next_number, self.sinks, [(0, before)])
        self._next_number += 1
        self._files.create(segment.number, [*opening, *parts])
        segment.size = sum(map(len, opening))
        self._segments.append(segment)
        self._current = segment
        return segment

    def _evict(self) -> None:
        """Remove the oldest segment, preferably one with no records in memory: without it a kill loses them."""
        on_disk_alone = (one for one in self._segments if not any(reader.holds(one) for reader in self._readers))
        oldest = next(on_disk_alone, self._segments[0])
        if not oldest.is_settled and not self._is_full_said:
            self._is_full_said = True
            self._log.warning(f"The spool is full ({self._max_bytes} bytes): its oldest records are dropped.")
        self._remove(oldest)

    # --- out --------------------------------------------------------------------------------------------------------

    def settle(self, sink: int, records: Iterable[Record]) -> None:
        """Note that sink number `sink` needs these records no longer."""
        self.settle_masks(sink, masks_of(records).items())

    def settle_masks(self, sink: int, masks: Iterable[tuple[str, int]]) -> None:
        """Do the same for records given as pairs of a body's identity and a mask with a bit for each index."""
        self.commit()  # a body must precede its notes
        notes: dict[int, tuple[Segment, list[Note]]] = {}
        for identity, mask in masks:
            body = self._bodies.get(identity)
            if body is None or not (mask := mask & body.open[sink]):
                continue  # never written, or removed with its segment
            body.open[sink] &= ~mask
            body.segment.unsettled -= not any(body.open)
            note = Note(body.number, ranges_of(mask) if body.open[sink] else None)
            notes.setdefault(body.segment.number, (body.segment, []))[1].append(note)
        for segment, found in notes.values():
            self._note(sink, segment, found)

    def _note(self, sink: int, segment: Segment, notes: Sequence[Note]) -> None:
        """Write the notes, or remove the segment if it is settled."""
        if segment.is_settled and (segment.size >= WORTH_REMOVING_BYTES or segment is not self._current):
            self._remove(segment)
        else:
            self._append_notes(segment, segment.sinks.index(self.sinks[sink]), notes)

    def _append_notes(self, segment: Segment, sink: int, notes: Sequence[Note]) -> None:
        parts = frames.settled_frame(sink, notes)
        try:
            is_found = self._files.append(segment.number, parts, segment.size)
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
            if self._bodies.get(body.identity) is body:  # it may also be in another segment
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
        """Yield the written bodies that the sink still needs in part, oldest first."""
        return (body for segment in self._segments for body in segment.bodies if body.open[sink])

    def identities(self) -> list[str]:
        """Return the identities of all written bodies, oldest first; before them those of removed bodies."""
        return [*self._settled_before] + [body.identity for segment in self._segments for body in segment.bodies]

    def read(self, body: Body) -> KeptBody:
        """Read a body back. Raises OSError, or ValueError if it is damaged."""
        data = self._files.read(body.segment.number, body.start, body.end - body.start)
        for frame in frames.frames(data):
            if frame.kind in BODIES:
                return frames.read_body(frame)
        raise ValueError("damaged")

    def attach(self, reader: Reader) -> None:
        """Tell `reader` from now on when a segment is removed."""
        self._readers.append(reader)

    def snapshot(self) -> dict[str, Any]:
        return {**asdict(self.counts), "size_bytes": self.size_bytes}

    # --- one generation to the next ---------------------------------------------------------------------------------

    def recover(self) -> None:
        """Read the index of what an earlier generation left. Call once, before anything is added."""
        try:
            numbers = self._files.numbers()
        except OSError as error:
            self._pauses.pause(f"cannot be read: {error.strerror or error}")
            return
        for number in numbers:
            self._next_number = number + 1
            try:
                self._recover(number)
            except OSError as error:  # only this file failed: others may be readable
                self._pauses.say(
                    f"What an earlier process left in the spool cannot be read: {error.strerror or error}."
                )
            except (ValueError, LookupError, TypeError, struct.error) as error:
                self._log.info(f"What an earlier process left in the spool cannot be used: {type(error).__name__}.")
                self._discard(number)
        while len(self._segments) > MOST_SEGMENTS and self._merge_some():
            pass  # each merge reduces the number
        for name, records in self.counts.unclaimed.items():
            self._log.warning(
                f"{records} records were kept for {name}, which is not configured any more; they are dropped."
            )

    def secure(self) -> None:
        """Write pending bodies, and ensure that the next process finds all that is not settled.

        The function shares /tmp and may have cleared it. Segments that the next process cannot find are given up.
        """
        self.commit()
        until = self._clock.monotonic() + SECURE_S
        for segment in [segment for segment in self._segments if not segment.is_settled]:
            self._secure(segment, is_last=True, may_write=self._clock.monotonic() < until)
        self._unsure.clear()

    def _secure(self, segment: Segment, *, is_last: bool = False, may_write: bool = True) -> None:
        """Ensure that the next process finds `segment`. Give it up if its bytes are gone, or any error if `is_last`."""
        if segment not in self._segments:
            return
        try:
            self._files.secure(segment.number, segment.size, may_write=may_write)
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
        """Merge small neighbouring segments, but not the current one. Return False if that is impossible."""
        run = longest_run([one for one in self._segments if one is not self._current], self._segment_bytes)
        if len(run) < 2:
            return False
        try:
            self._merge(run)
        except (OSError, ValueError) as error:  # the segments are unchanged
            self._pauses.say(f"Old segments of the spool are not merged: {error}.")
            return False
        return True

    def _merge(self, run: Sequence[Segment]) -> None:
        """Replace the first segment of `run` by what is still needed of all, then remove the others.

        If the process dies in between, bodies are there twice; the next process recognizes them by their identity.
        """
        merged = Segment(run[0].number, self.sinks)
        data, places = merge(run, merged, self.read, self._header)
        self._files.replace(merged.number, [data])
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
        """Add one segment to the index. A torn tail is cut off, so that notes can be appended."""
        data = self._files.read(number)
        found = read_segment(number, data, self._owner, self.sinks, self._takes)
        segment = found.segment
        if torn := len(data) - segment.size:
            self.counts.torn_bytes += torn
            self._files.cut(number, segment.size)
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
        """Settle bodies that are in an earlier segment too: a process died while it merged them."""
        repeated = [body for body in segment.bodies if body.identity in self._bodies and any(body.open)]
        for body in repeated:
            body.open = [0] * len(self.sinks)
            segment.unsettled -= 1
        for sink in range(len(segment.sinks)) if repeated else ():
            self._append_notes(segment, sink, [Note(body.number, None) for body in repeated])

    def _drop_unclaimed(self, segment: Segment, sink: int, left: Mapping[int, int]) -> None:
        """Count the records of a sink that is no longer configured, and settle them so that they count only once."""
        if records := sum(mask.bit_count() for mask in left.values()):
            name = segment.sinks[sink]
            self.counts.unclaimed[name] = self.counts.unclaimed.get(name, 0) + records
            self._append_notes(segment, sink, [Note(number, None) for number in left])

    def _discard(self, number: int) -> None:
        """Remove a file that is no longer needed. If that fails, try again with the next new segment and at the end."""
        try:
            self._files.remove(number)
        except OSError as error:
            self._doomed.append(number)
            self._pauses.pause(f"cannot be cleared: {error.strerror or error}")

    def _discard_doomed(self) -> None:
        doomed, self._doomed = self._doomed, []
        for number in doomed:
            self._discard(number)

    def close(self) -> None:
        """Write pending bodies, and remove the files of settled segments."""
        self.commit()
        self._discard_doomed()
        for segment in [segment for segment in self._segments if segment.is_settled]:
            self._remove(segment)
