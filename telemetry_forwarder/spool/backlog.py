"""Read back the records of one sink from the spool. They are made again from the bodies, with the same ids."""

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from msgspec import Struct

from telemetry_forwarder.errors import DecodeError
from telemetry_forwarder.interfaces import DropReason
from telemetry_forwarder.records.derived import records_of
from telemetry_forwarder.records.enrich import enrich, environment, learn
from telemetry_forwarder.records.knowledge import Knowledge
from telemetry_forwarder.records.record import Decoded, Origin, Record, decode
from telemetry_forwarder.spool.frames import KeptBody, Kind
from telemetry_forwarder.spool.segments import Body, Segment, masks_of
from telemetry_forwarder.spool.spool import Spool

# Records that are made between two checks of the clock: a few tenths of a millisecond.
AT_ONCE = 32


class _Opened(Struct):
    """A body that was read and is not finished: `rest` makes its other records, `done` counts those made."""

    body: Body
    rest: Iterator[list[Record]]
    done: int = 0


class Backlog:
    """The records of one sink that wait on disk, oldest first. Records in memory are not among them.

    `on_gone` is called with the number of records that cannot be read any more, and the reason.
    """

    def __init__(self, spool: Spool, name: str, origin: Origin) -> None:
        self.on_gone: Callable[[int, DropReason], None] = lambda records, reason: None
        self._spool = spool
        self._sink = spool.sinks.index(name)
        # Settles records: the sink needs them no longer.
        self.settle: Callable[[Iterable[Record]], None] = partial(spool.settle, self._sink)
        self._waiting: deque[tuple[Body, int]] = deque(
            (body, body.open[self._sink]) for body in self._spool.open_bodies(self._sink)
        )
        self._origin = origin
        self._knowledge: Knowledge | None = None  # after the bodies before number `_next` of `_segment`
        self._segment: Segment | None = None
        self._section = 0  # the section's first body
        self._next = 0
        self._opened: _Opened | None = None
        self.is_cut_short = False  # whether time, and not another bound, ended the last `read`
        spool.attach(self)

    def __bool__(self) -> bool:
        return bool(self._waiting)

    @property
    def waiting(self) -> int:
        """The number of records that wait on disk."""
        return sum(mask.bit_count() for _, mask in self._waiting)

    def defer(self, records: Sequence[Record]) -> bool:
        """Let `records` of one body, the newest of all, wait on disk. Return False if they are not on disk."""
        self._spool.commit()
        body = self._spool.find(records[0].batch)
        if body is not None and len(records) == body.open[self._sink].bit_count():  # the usual case: all of a body
            self._waiting.append((body, body.open[self._sink]))
            return True
        found = [(self._spool.find(identity), mask) for identity, mask in masks_of(records).items()]
        waiting = [(body, mask) for body, mask in found if body is not None]
        if len(waiting) < len(found):
            return False
        self._waiting.extend(waiting)
        return True

    def keeps(self, record: Record) -> bool:
        """Return whether `record` is on disk for the next generation."""
        body = self._spool.find(record.batch)
        return body is not None and record.index is not None and bool(body.open[self._sink] >> record.index & 1)

    def keeps_body(self, identity: str) -> bool:
        """Return whether the body with this identity is on disk, with nothing of it settled."""
        self._spool.secure()
        return self._spool.find(identity) is not None

    def read(self, max_records: int, max_bytes: int, is_over: Callable[[], bool] = lambda: False) -> list[Record]:
        """Take the oldest records from disk: those of one body at least, then of more bodies within both bounds.

        It takes fewer if `is_over` returns True: then the rest of a body stays open for the next call.
        """
        records: list[Record] = []
        size = 0
        self.is_cut_short = False
        while self._waiting and not self.is_cut_short:
            body, mask = self._waiting[0]
            size += body.end - body.start
            if records and (len(records) + mask.bit_count() > max_records or size > max_bytes):
                break
            self._waiting.popleft()
            try:
                records += self._make(body, mask, is_over)
            except OSError as error:
                is_lost = error.errno in (errno.ENOENT, errno.ESTALE)
                self._give_up(body, mask, DropReason.SPOOL_LOST if is_lost else DropReason.SPOOL_DAMAGED)
            except (ValueError, DecodeError):
                self._give_up(body, mask, DropReason.SPOOL_DAMAGED)
            if size > max_bytes:  # all of it may be damaged, so the caller decides whether to go on
                break
            self.is_cut_short = bool(self._waiting) and is_over()
        return records

    def put_back(self, records: Sequence[Record]) -> None:
        """Let `records`, which were just read, wait again."""
        for identity, mask in reversed(masks_of(records).items()):
            if (body := self._spool.find(identity)) is not None:
                self._waiting.appendleft((body, mask))
        self._opened = None

    def clear(self, *, to_the_last: bool = False) -> int:
        """Settle all waiting records, or with `to_the_last` all open ones. Return their number.

        It works body by body, because there may be hundreds of thousands of records and little time.
        """
        count = self.waiting
        waiting = [(body.identity, mask) for body, mask in self._waiting]
        if to_the_last:
            waiting = [(body.identity, body.open[self._sink]) for body in self._spool.open_bodies(self._sink)]
        self._waiting.clear()
        self._spool.settle_masks(self._sink, waiting)
        return count

    def let_go(self) -> int:
        """Leave all waiting records that are on disk to the next generation. Return their number."""
        self._spool.secure()
        count = self.waiting
        self._waiting.clear()
        return count

    def holds(self, segment: Segment) -> bool:
        """Return whether records of `segment` are in memory and not settled."""
        needed = sum(body.open[self._sink].bit_count() for body in segment.bodies)
        return needed > sum(mask.bit_count() for body, mask in self._waiting if body.segment is segment)

    def forget(self, segment: Segment, reason: DropReason) -> None:
        """Give up the records that wait in `segment`, which was removed for `reason`."""
        if segment is self._segment:
            self._segment = None
        lost = sum(mask.bit_count() for body, mask in self._waiting if body.segment is segment)
        if lost:
            self._waiting = deque((body, mask) for body, mask in self._waiting if body.segment is not segment)
            self.on_gone(lost, reason)

    def _make(self, body: Body, mask: int, is_over: Callable[[], bool]) -> list[Record]:
        """Make the records of `mask` until `is_over`; the others wait. Raises OSError, ValueError, DecodeError."""
        opened, self._opened = self._opened, None
        if opened is None or opened.body is not body:
            opened = self._open_body(body)
        records: list[Record] = []
        for some in opened.rest:
            records += [record for index, record in enumerate(some, opened.done) if mask >> index & 1]
            opened.done += len(some)
            if (left := mask >> opened.done << opened.done) and is_over():
                self._waiting.appendleft((body, left))
                self._opened = opened
                break
        return records

    def _open_body(self, body: Body) -> _Opened:
        start, knowledge = body.segment.section_of(body)
        if body.segment is not self._segment or start != self._section or body.number < self._next:
            self._segment, self._section, self._next, self._knowledge = body.segment, start, start, knowledge
        known = self._knowledge or knowledge
        for passed in body.segment.bodies[self._next : body.number]:
            if passed.teaches:
                found = _decoded(self._spool.read(passed))
                known = learn(self._origin, known, found.items, found.gaps)
        self._next, self._knowledge = body.number, known
        return _Opened(body, self._records(body, known))

    def _records(self, body: Body, knowledge: Knowledge) -> Iterator[list[Record]]:
        """Make the records of `body` in steps. The Knowledge is updated after the last step."""
        kept = self._spool.read(body)
        found = _decoded(kept)
        if kept.kind is not Kind.BODY:
            yield records_of(environment(self._origin, knowledge), found.items, kept.identity)
            self._next, self._knowledge = body.number + 1, knowledge
            return
        after = yield from enrich(self._origin, knowledge, found.items, kept.identity, AT_ONCE, found.gaps)
        self._next, self._knowledge = body.number + 1, after

    def _give_up(self, body: Body, mask: int, reason: DropReason) -> None:
        self._segment = None
        self._spool.settle_masks(self._sink, [(body.identity, mask)])
        self.on_gone(mask.bit_count(), reason)


def _decoded(kept: KeptBody) -> Decoded:
    """Decode a body with the time at which it was received. Raises DecodeError."""
    return decode(kept.body, kept.received_ms)
