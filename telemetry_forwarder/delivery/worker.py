"""The worker of one sink: takes the records that are offered, and sends them in one task until each is settled.

Lambda may freeze the process at any await, for hours, and may end it without a word. Therefore at every await each
record is in exactly one place, which counts it:

    place        counted by     the record leaves when
    queued       `_queue`       it is packed, oldest first. It waits in memory or, if that is full, on disk
    packed       `_packer`      the batch is full, or has all records, or took long: the batch becomes a piece
    outstanding  `_delivery`    an answer settles it. It waits for an attempt, or is under way in one or more, or was
                                refused and waits for proof that the fault is its own
    leaving      `_leaving`     the fallback has stored it; or else it is spilled or dropped
    settled      `_account`     never: delivered, dropped for one reason, or spilled (left to somebody else)

A record that was sent stays outstanding until its answer is read: an answer that never comes loses nothing, one that
comes twice counts once. The window says what may be sent. The lifecycle gives a window with each event and each end:

    window             held records are sent         an attempt starts before `until` if           and is ended by
    until              if left over, on `nudge`, or  the destination's health allows it            its own timeout
                       when memory fills
    until, answer_by   at once                       the same, and an answer is expected by then   its own timeout
    linger             that long after they came     the destination's health allows it            its own timeout
    until, is_last     at once, and later ones too   there is time for it, whatever failed before  `stop_at`
    closed             never                         never                                         its own timeout

Rules. Nobody waits for a destination that is not expected to answer, nor beyond `answer_by`. An attempt that is under
way when a window closes goes on: its answer may be in the socket after the thaw. A pause that the destination asked for
outlasts any window but the last, which cuts it short. After a last window only another last window opens. After the
drain nothing is held, and records that are offered then are settled at once.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from telemetry_forwarder.clock import Clock, Deadline
from telemetry_forwarder.delivery.buffer import Buffer, WhenFull
from telemetry_forwarder.delivery.encoder import Encoder
from telemetry_forwarder.delivery.packer import LONGEST_PACK_S, Packer
from telemetry_forwarder.delivery.preparation import Preparation
from telemetry_forwarder.delivery.queue import SendQueue
from telemetry_forwarder.delivery.retry import Delivery
from telemetry_forwarder.delivery.trouble import Reporter
from telemetry_forwarder.delivery.window import LingerTimer, SendWindow
from telemetry_forwarder.interfaces import DropReason, Fallback, Sink, Transport, cause, taken_by
from telemetry_forwarder.ledger import Account, Statement
from telemetry_forwarder.log import Log, where
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.spool.backlog import Backlog
from telemetry_forwarder.turns import TimedEvent, Turns

# A destination that has not answered so long after the start of a drain may never answer: the fallback gets ready.
_WARM_AFTER_S = 0.15
_NO_ANSWER_YET = cause("it has not answered in time; its records stay held")


class Capacity(Struct, frozen=True):
    """The most that one sink may hold in memory, in records and in received bytes, and what happens beyond that."""

    max_records: int
    max_bytes: int
    when_full: WhenFull = WhenFull.DROP_OLDEST


class _Flush(Struct, frozen=True):
    """A flush that is waited for until `answer_by`: when it began, and how many records had been delivered then."""

    answer_by: Deadline
    begun_at: float
    delivered: int


class Worker:
    """One sink: its queue, its open batch, its delivery and its account. `run` sends what `allow` permits."""

    def __init__(
        self,
        sink: Sink[Any, Any],
        transport: Transport[Any, Any],
        *,
        capacity: Capacity,
        clock: Clock,
        log: Log,
        fallback: Fallback | None = None,
        backlog: Backlog | None = None,
        turns: Turns | None = None,
    ) -> None:
        self.name, self.takes = sink.name, taken_by(sink)
        self.on_idle: Callable[[], None] = lambda: None  # called when nothing more can be sent for now
        self._clock = clock
        self._log = log
        self._fallback = fallback
        self._leaving: list[Record] = []  # offered to the fallback, or not taken by it
        self._account = Account()
        # Above this, records are sent early: a request's worth, or half of the buffer if that is less. A function of
        # 128 MB has a buffer smaller than the largest request of some destinations, and would lose records otherwise.
        self._early_records = min(sink.limits.max_records, capacity.max_records // 2)
        self._early_bytes = min(sink.limits.max_bytes, capacity.max_bytes // 2)
        self._reporter = Reporter(sink.name, log, clock, lambda: self.held)
        buffer = Buffer(max_records=capacity.max_records, max_bytes=capacity.max_bytes, when_full=capacity.when_full)
        self._queue = SendQueue(buffer, backlog, self._account, self._reporter.note, getattr(sink, "admits", None))
        self._delivery = Delivery(
            sink,
            transport,
            self._account,
            clock,
            self._reporter.trouble,
            self._reporter.note,
            self._queue.settle,
            more=self._load,
            late_by=lambda: self._turns.withheld_s,
        )
        self._preparation = Preparation(sink, transport)
        self._encoder = Encoder(sink, self._account, clock, self._reporter.note)
        self._turns = turns or Turns(clock)
        self._packer = Packer(self._queue, self._encoder, sink.limits, self._turns, clock)
        self._wake, self._idle = asyncio.Event(), TimedEvent()
        self._idle.set()
        self._is_closed = self._is_drained = self._next_process_follows = False
        self._is_well = False  # whether the drain delivered everything
        self._runner: asyncio.Task[Any] | None = None
        self._flush: _Flush | None = None
        self._waited_for = 0  # the number of the attempt for which a flush waited in vain
        self._has_left_over = bool(self._queue)
        self._timer = LingerTimer(clock, self.nudge)

    def __repr__(self) -> str:
        packed, leaving = self._packer.held, len(self._leaving)
        state = "drained" if self._is_drained else "idle" if self.is_idle else "sending"
        return f"<Worker {self.name}: {state}, {self._queue!r}, {packed} packed, {leaving} leaving, {self._delivery!r}>"

    @property
    def held(self) -> int:
        """The number of records that are queued, packed, outstanding or leaving."""
        return len(self._queue) + self._packer.held + self._delivery.outstanding.held + len(self._leaving)

    def statement(self) -> Statement:
        return self._account.statement(self.held)

    def offer(self, records: Sequence[Record]) -> None:
        """Queue `records`. Send at once in the last window, or if a request's worth or half a buffer waits."""
        records = self._queue.admit(records)
        if self._is_drained:  # the receiver is closed after the drain
            left = self._queue.save_for_next_process(records)[1] if self._next_process_follows else records
            self._queue.drop(left, self._reporter.reason)
            self._queue.give_up(self._reporter.reason)
            return
        self._preparation.see(records)
        self._queue.offer(records)
        if self._delivery.window.is_last or self._queue.is_above(self._early_records, self._early_bytes):
            self._wake_up()
        self._linger_on()

    def miss(self, records: int, identity: str) -> None:
        """Settle `records` (a number) that were never made of a received body, for lack of time.

        They are spilled if the body is on disk and a next process follows, else dropped. `identity` is the body's.
        """
        self._account.offered += records
        if self._next_process_follows and self._queue.keeps(identity):
            self._account.spilled += records
        else:
            self._account.drop(records, DropReason.DEADLINE)

    def allow(self, window: SendWindow) -> None:
        """Send what `window` permits, until another window is given."""
        if self._clock.monotonic() >= window.until.at:
            self._has_left_over = self.held > 0
        self._delivery.allow(window)
        if window.linger is None:
            self._timer.stop()
        elif self._timer.is_overdue(window.linger):
            self.nudge()
        self._linger_on()
        if window.is_last:
            self._wake_up()

    def nudge(self, *, only_left_over: bool = False) -> None:
        """Send held records, if any, as the window permits, without waiting.

        With `only_left_over`, only if some were held when the last window closed; newer ones are few and wait for more.
        """
        if self.held and (self._has_left_over or not only_left_over):
            self._wake_up()

    async def flush(self, window: SendWindow) -> None:
        """Send what `window` permits; return when that is done or has failed, at `answer_by` at the latest.

        Records that fail stay held. In a closed window nothing starts; then this waits for attempts under way. It
        returns at once, and starts nothing, if the destination is unhealthy, if an earlier flush waited in vain for the
        same attempt, or if no answer is expected by `answer_by`.
        """
        self.begin_flush(window)
        await self.wait_for_flush()

    def begin_flush(self, window: SendWindow) -> None:
        """Begin a flush, and do not wait yet."""
        self.allow(window)
        answer_by = window.answer_by or window.until
        has_work = self.held if self._clock.monotonic() < window.until.at else self._delivery.under_way_for is not None
        self._flush = None
        if has_work and self.is_worth_waiting_for(answer_by):
            self._wake_up()
            self._flush = _Flush(answer_by, self._clock.monotonic(), self._account.delivered)

    async def wait_for_flush(self) -> None:
        """Wait for the end of the flush that was begun last."""
        if (flush := self._flush) is None or await self._idle.wait(flush.answer_by.at):
            return
        if self._delivery.under_way_for is None:  # there was no time for an attempt
            return
        self._waited_for = self._account.attempts
        if self._account.delivered == flush.delivered:
            self._delivery.answer_time.waited_in_vain(self._clock.monotonic() - flush.begun_at)
            self._get_ready_to_fall_back()
            self._reporter.waiting(self._delivery.waits_for() or _NO_ANSWER_YET)

    @property
    def is_idle(self) -> bool:
        """Whether no attempt is under way and nothing more can be sent for now."""
        return self._idle.is_set()

    async def wait_idle(self) -> None:
        await self._idle.wait()

    def is_worth_waiting_for(self, deadline: Deadline) -> bool:
        """Return whether a flush until `deadline` would wait for the destination, if there is something to send."""
        if self._delivery.breaker.is_open:
            return False
        under_way_for = self._delivery.under_way_for
        if under_way_for is not None and self._account.attempts == self._waited_for:
            return False
        return self._delivery.answer_time.expects_answer_within(deadline.left(self._clock) + (under_way_for or 0.0))

    def _get_ready_to_fall_back(self) -> None:
        """Prepare the fallback, because the destination may not recover."""
        if self._fallback is not None:
            self._fallback.warm()

    async def drain(self, deadline: Deadline, store_until: Deadline | None = None) -> None:
        """Send held records until `deadline`, then give the rest to the fallback until `store_until`, if set.

        Records that are left then, and those offered later, are settled: as spilled if they are on disk and a next
        process follows, else as dropped.
        """
        self._is_closed = True
        self.allow(SendWindow(deadline, is_last=True))
        if not await self._idle.wait(min(deadline.at, self._clock.monotonic() + _WARM_AFTER_S)):
            self._get_ready_to_fall_back()
        if not await self._idle.wait(deadline.at):
            self._reporter.blame(self._delivery.waits_for())
            await self._end_runner()
        self._is_well = not self.held
        if store_until is not None:
            await self._fall_back(store_until)
        if self._next_process_follows:  # else nobody knows whether this environment is ever invoked again
            self.spill()
        self._delivery.outstanding.drop_suspects()
        self.give_up(self._reporter.reason)
        self._is_drained = True

    async def send_loss_notice(self, record: Record, deadline: Deadline) -> None:
        """Send one more record after a drain that delivered everything; it is counted like any other."""
        if not self._is_well or Signal.LOG not in self.takes:
            return
        self._account.offered += 1
        self._account.told += 1
        encoded = self._encoder.encode(record)
        if encoded is None:
            return
        self._delivery.add([encoded])
        self._delivery.allow(SendWindow(deadline, is_last=True))
        try:
            async with asyncio.timeout_at(deadline.at):
                await self._delivery.run()
        except TimeoutError:
            self._reporter.note("it did not answer when it was told of losses")
        except Exception as error:  # noqa: BLE001 - as in `_serve`
            self._reporter.note("a bug in the sink", **where(error))
            self._delivery.outstanding.drop_faulty(DropReason.SINK_FAILED)
        self.give_up(DropReason.DEADLINE)

    async def _fall_back(self, deadline: Deadline) -> None:
        """Give all held records, and those that come meanwhile, to the fallback; those it does not store stay held.

        The fallback comes before the spool, because /tmp is lost if no invocation follows in this environment.
        """
        while self._fallback is not None and self.held > len(self._leaving):
            records = self._take_encoded() + self._queue.take_piece()
            if not records:  # all that was read from disk was damaged
                await _let_others_work()
                continue
            before, self._leaving = self._leaving, self._leaving + records
            left = await self._fallback.store(self.name, records, deadline)
            self._leaving = before + left
            self._account.spilled += len(records) - len(left)
            kept = {record.id for record in left}
            self._queue.settle([record for record in records if record.id not in kept])
            if len(left) == len(records):
                return  # it will not take the rest either

    def give_up(self, reason: DropReason) -> None:
        """Settle all records that are still held as dropped for `reason`."""
        lost = self.held
        if self._next_process_follows:  # the rest of the spool is left to it
            self._queue.drop(self._take_all(), reason)
        else:
            self._account.drop(len(self._take_all()), reason)
        self._queue.give_up(reason, to_the_last=not self._next_process_follows)
        if lost:
            self._log.error(f"Sink {self.name}: {lost} records were not delivered ({reason}){self._reporter.because}.")

    def expect_next_process(self) -> None:
        """Note that another process follows in this environment; undelivered records are left to it."""
        self._next_process_follows = self._queue.has_spool

    def spill(self) -> int:
        """Leave held records that are in the spool to the next process, settled as spilled; return their number.

        Records that are only in memory stay held. Records under way are left too, and may so arrive twice.
        """
        spilled, self._leaving = self._queue.save_for_next_process(self._take_all())
        if spilled:
            self._log.warning(f"Sink {self.name}: {spilled} records are left in the spool for the next process.")
        return spilled

    def _take_all(self) -> list[Record]:
        """Remove and return all records that are held in memory, oldest first."""
        taken, self._leaving = self._leaving, []
        return taken + self._take_encoded() + self._queue.empty()

    def _take_encoded(self) -> list[Record]:
        return [
            encoded.record for batch in self._delivery.outstanding.take() for encoded in batch
        ] + self._packer.take()

    async def run(self) -> None:
        """Send records until cancelled, or until `drain` was called and nothing more can be sent."""
        self._runner = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            preparing = group.create_task(self._preparation.run())
            await self._serve()
            preparing.cancel()

    async def _serve(self) -> None:
        while not (self._is_closed and self._idle.is_set()):
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._send_what_is_held()
            except Exception as error:  # noqa: BLE001 - a sink's bug loses its own records, not those of other sinks
                self._reporter.note("a bug in the sink", **where(error))
                if self._delivery.outstanding.drop_faulty(DropReason.SINK_FAILED):
                    self._wake.set()  # for the other records, of which this may be the last chance
            if not self._wake.is_set():
                self._idle.set()
                self.on_idle()
                self._linger_on()  # for the records that failed

    async def _end_runner(self) -> None:
        """Cancel `run` and wait for its end, so that it settles nothing from here on."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner], timeout=0.05)

    def _wake_up(self) -> None:
        self._idle.clear()
        self._wake.set()
        self._delivery.wake()

    async def _send_what_is_held(self) -> None:
        delivered = self._account.delivered
        if not await self._delivery.run() and self._delivery.breaker.is_open:
            self._get_ready_to_fall_back()
        if self._account.delivered > delivered:
            self._reporter.recovered()

    def _may_pack(self) -> bool:
        """Return whether a batch packed now can still be sent, even if the processor is withheld meanwhile."""
        return self._delivery.may_start() and self._delivery.has_time_for(self._turns.withheld_s)

    async def _load(self) -> bool:
        """Pack a batch of queued records and add it to the delivery; return whether there was one."""
        if not self._queue and not self._packer.held:
            return False
        batch = await self._packer.pack(self._delivery.pack_until(LONGEST_PACK_S), self._may_pack)
        if batch:
            self._delivery.add(batch)
        return bool(batch)

    def _linger_on(self) -> None:
        """Set the timer for held records, if the window has a `linger`."""
        if (linger := self._delivery.window.linger) is not None and self.held:
            self._timer.start(max(linger, self._delivery.breaker.pause))


async def _let_others_work() -> None:
    """Give the event loop a turn during work that may be long."""
    await asyncio.sleep(0)
