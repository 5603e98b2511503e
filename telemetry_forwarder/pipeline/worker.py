"""The one task of a sink: takes records from the buffer, encodes them, and has them delivered.

It sleeps until a flush, a drain or a filling buffer wakes it. Between invocations it may be frozen at any point.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from telemetry_forwarder.clock import Clock, Deadline
from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import DropReason, Encoded, Sink, Transport
from telemetry_forwarder.ledger import Account, Statement
from telemetry_forwarder.log import Log, where
from telemetry_forwarder.pipeline.batcher import OpenBatch
from telemetry_forwarder.pipeline.breaker import Breaker
from telemetry_forwarder.pipeline.buffer import Buffer
from telemetry_forwarder.pipeline.retry import Delivery
from telemetry_forwarder.records import Record
from telemetry_forwarder.values import dataclass

# A credential that was refused is rarely mended within seconds.
DENIED_PAUSE_S = 30.0
# The last attempt ends this much before the deadline of a drain, so that its failure is still entered in the books.
LAST_ANSWER_S = 0.02


@dataclass(frozen=True, slots=True)
class Capacity:
    """The most that one sink may hold back, in records and in bytes as they arrived."""

    max_records: int
    max_bytes: int


class Worker:
    """One sink with its buffer, its account and its open batch. Only `run`, `flush` and `drain` ever wait."""

    def __init__(
        self, sink: Sink[Any, Any], transport: Transport[Any, Any], *, capacity: Capacity, clock: Clock, log: Log
    ) -> None:
        self.name = sink.name
        self._sink = sink
        self._clock = clock
        self._log = log
        self._account = Account()
        self._buffer = Buffer(max_records=capacity.max_records, max_bytes=capacity.max_bytes)
        # What is sent early: a request's worth, or half of the buffer where that is less. A function of 128 MB has a
        # buffer smaller than the largest request of some destinations, and would lose records that nobody waited for.
        self._early_records = min(sink.limits.max_records, capacity.max_records // 2)
        self._early_bytes = min(sink.limits.max_bytes, capacity.max_bytes // 2)
        self._breaker = Breaker()
        self._delivery = Delivery(sink, transport, self._account, clock, self._say_trouble, self._say_warning)
        self._spare: Encoded | None = None  # encoded, but the batch before it was full
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_closed = False
        self._is_drained = False
        self._is_troubled = False
        self._warned: str | None = None
        self._runner: asyncio.Task[Any] | None = None

    @property
    def held(self) -> int:
        """Records in the buffer, in the open batch and under way, counted one room after the other."""
        return len(self._buffer) + (self._spare is not None) + self._delivery.held

    def statement(self) -> Statement:
        return self._account.statement(self.held)

    def offer(self, records: Sequence[Record]) -> None:
        """Take records, newest over oldest; wake early when a request's worth, or half of the buffer, is waiting."""
        self._account.offered += len(records)
        if self._is_drained:  # the receiver is closed last
            self._account.drop(len(records), DropReason.DEADLINE)
            return
        evicted = self._buffer.offer(records)
        if evicted:
            self._account.drop(evicted, DropReason.BUFFER_FULL)
            self._say_trouble(f"its buffer is full; the oldest {evicted} records were dropped")
        if self._buffer.size_bytes > self._early_bytes or len(self._buffer) > self._early_records:
            self._wake_up()

    def begin(self, deadline: Deadline) -> None:
        """Allow sending until `deadline`, as a new event has come; a request caught by the freeze goes on."""
        self._delivery.deadline = deadline
        self._delivery.thaw()

    def freeze(self) -> None:
        """Start nothing from here on: the environment may be frozen. A request under way is left as it is."""
        self._delivery.deadline = Deadline(0.0)
        self._delivery.freeze()

    async def flush(self, deadline: Deadline) -> None:
        """Send what is held; return when that is done, or has failed, or at `deadline`. What fails stays held.

        A destination that was unwell a moment ago is not waited for: neither a new attempt nor one that still hangs.
        """
        self.begin(deadline)
        if self._breaker.is_open(self._clock.time()):
            return
        self._wake_up()
        delivered = self.statement().delivered
        try:
            async with asyncio.timeout_at(deadline.at):
                await self._idle.wait()
        except TimeoutError:
            if self.statement().delivered == delivered:
                self._breaker.failed(self._clock.time())
                self._say_trouble("it has not answered in time; its records stay held")

    def nudge(self) -> None:
        """Send what is held, if anything, while the function runs: nobody waits for it."""
        if self.held:
            self._wake_up()

    def hurry(self, deadline: Deadline) -> None:
        """Send what is held for the last time: now, whatever failed before, cut off at `deadline`."""
        self.begin(deadline)
        self._delivery.stop_by(deadline.earlier(LAST_ANSWER_S))
        self._breaker.succeeded()
        self._wake_up()

    async def drain(self, deadline: Deadline) -> None:
        """Send what is held until `deadline` and settle the rest, and what is offered later, as dropped."""
        self._is_closed = True
        self.hurry(deadline)
        try:
            async with asyncio.timeout_at(deadline.at):
                await self._idle.wait()
        except TimeoutError:
            await self._end_runner()
        self.give_up(DropReason.UNAUTHORIZED if self._delivery.denied else DropReason.DEADLINE)
        self._is_drained = True

    def give_up(self, reason: DropReason) -> None:
        """Settle everything that is still held as dropped for `reason`."""
        lost = self._delivery.drop(reason) + len(self._buffer) + (self._spare is not None)
        self._account.drop(len(self._buffer) + (self._spare is not None), reason)
        self._spare = None
        while self._buffer:
            self._buffer.pop()
        if lost:
            self._log.error(f"Sink {self.name}: {lost} records were not delivered ({reason}).")

    async def run(self) -> None:
        """Serve until cancelled, or until closed and empty."""
        self._runner = asyncio.current_task()
        while not (self._is_closed and self._idle.is_set()):
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._send_what_is_held()
            except Exception as error:  # noqa: BLE001 - a sink's bug costs its own records and spares the others
                self._say_trouble("a bug in the sink", **where(error))
                if self._delivery.drop(DropReason.SINK_FAILED):
                    self._wake.set()  # the other records have done nothing wrong, and this may be the last chance
            if not self._wake.is_set():
                self._idle.set()

    async def _end_runner(self) -> None:
        """Cancel `run` and see it end, so that nothing is settled behind the back of what follows."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.wait([self._runner], timeout=0.05)

    def _wake_up(self) -> None:
        self._idle.clear()
        self._wake.set()

    async def _send_what_is_held(self) -> None:
        now = self._clock.time()
        while not self._breaker.is_open(now) and self._clock.monotonic() < self._delivery.deadline.at:
            if not self._delivery.pieces and not self._load():
                return
            if not await self._delivery.run():
                if not self._delivery.is_unwell:
                    return  # the time was up between two pieces
                pause = DENIED_PAUSE_S if self._delivery.denied else self._delivery.asked_wait
                self._breaker.failed(self._clock.time(), pause)
                return
            self._breaker.succeeded()
            self._say_recovered()

    def _load(self) -> bool:
        """Fill the open batch from the buffer; say whether there is anything in it."""
        batch = OpenBatch(self._sink.limits)
        while self._spare is not None or self._buffer:
            encoded = self._spare or self._encode(self._buffer.pop())
            self._spare = None
            if encoded is not None and not batch.add(encoded):
                self._spare = encoded
                break
        if batch:
            self._delivery.pieces.append(batch.close())
        return bool(batch)

    def _encode(self, record: Record) -> Encoded | None:
        """Encode `record`, or settle it as dropped and return None."""
        limits = self._sink.limits
        if limits.max_age_ms is not None and self._clock.time() * 1000 - record.time_ms > limits.max_age_ms:
            self._account.drop(1, DropReason.TOO_OLD)
            return None
        try:
            encoded = self._sink.encode(record)
            is_oversize = len(encoded.data) + limits.overhead_bytes + limits.framing_bytes > limits.max_bytes
        except EncodeError as error:
            self._account.drop(1, DropReason.UNENCODABLE)
            self._say_trouble(f"a record cannot be expressed: {error}")
            return None
        except Exception as error:  # noqa: BLE001 - as in `run`
            self._account.drop(1, DropReason.SINK_FAILED)
            self._say_trouble("a bug in the sink", **where(error))
            return None
        if is_oversize:
            self._account.drop(1, DropReason.OVERSIZE)
            return None
        return encoded

    def _say_warning(self, warning: str) -> None:
        """Say what a destination wants known although it took the records: once, until it has another thing to say."""
        if warning != self._warned:
            self._log.warning(f"Sink {self.name}: {warning}.")
            self._warned = warning

    def _say_trouble(self, detail: str, **members: Any) -> None:
        """Say that something went wrong once, not at every attempt: the log is the user's bill too."""
        say = self._log.info if self._is_troubled else self._log.warning
        say(f"Sink {self.name}: {detail}", held=self.held, **members)
        self._is_troubled = True

    def _say_recovered(self) -> None:
        if self._is_troubled:
            self._log.info(f"Sink {self.name} is delivering again.")
            self._is_troubled = False
