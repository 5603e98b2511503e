"""Queue accepted bodies until they are digested, so that the end of an invocation is noticed without delay.

Making records of four full bodies takes a function of 128 MB most of a second. Meanwhile the last body, which contains
the end of the invocation, must be read, and the work that follows that end must be able to run.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

from telemetry_forwarder.clock import Deadline
from telemetry_forwarder.intake.intake import SMALL_BYTES, Arrived, Intake
from telemetry_forwarder.log import Log, where
from telemetry_forwarder.turns import TimedEvent, Turns


class Worker(Protocol):
    """A sink's worker, which is told of records that were never made."""

    def miss(self, records: int, identity: str) -> None: ...


class Inbox:
    """A queue before the intake. A body is answered at once, or once digested with `is_strict` or above `max_bytes`.

    If time runs out before a body is digested, the Inbox tells the workers how many records they miss.
    """

    def __init__(
        self, intake: Intake, workers: Sequence[Worker], turns: Turns, log: Log, *, max_bytes: int, is_strict: bool
    ) -> None:
        self.refuse, self.interrupt, self.on_interruption = intake.refuse, intake.interrupt, intake.on_interruption
        self._intake = intake
        self._workers = workers
        self._turns = turns
        self._log = log
        self._max_bytes = max_bytes
        self._is_strict = is_strict
        self._queue: deque[tuple[Arrived, asyncio.Future[None] | None]] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._empty = TimedEvent()
        self._empty.set()
        self._is_closed = False
        self._next_process_follows = False

    def take(self, body: bytes, sequence_id: str) -> asyncio.Future[None] | None:
        """Take a body. Return a future that is done when the body may be answered; None means now.

        After a loss every body is queued, however small, so that an INVOKE event that came before it is read before it.
        """
        if not self._queue and len(body) <= SMALL_BYTES and not self._intake.is_open(body):
            self._intake.take(body, sequence_id)
            return None
        arrived = self._intake.admit(body, sequence_id)
        if arrived is None:
            return None
        if self._is_closed:
            self._miss(arrived)
            return None
        self._bytes += len(body)
        is_late = self._is_strict or self._bytes > self._max_bytes
        answer = asyncio.get_running_loop().create_future() if is_late else None
        self._queue.append((arrived, answer))
        self._empty.clear()
        self._news.set()
        return answer

    def answers_at_once(self, size: int) -> bool:
        """Return whether `take` would let a body of `size` bytes be answered at once."""
        return not self._is_strict and self._bytes + size <= self._max_bytes

    async def run(self) -> None:
        """Digest bodies in slices until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._queue:
                await self._digest(self._queue[0][0])
                if self._queue:  # else the body was given up meanwhile
                    self._shift()
            self._empty.set()

    async def wait_empty(self, until: Deadline) -> None:
        """Wait until everything is digested, or until the deadline."""
        await self._empty.wait(until.at)

    def expect_next_process(self) -> None:
        """Note that another process follows in this environment: bodies that are not digested are left to it."""
        self._next_process_follows = True

    def give_up(self) -> None:
        """Settle all bodies that are not digested, now and from now on: there is no time to make records of them."""
        self._is_closed = True
        missed = 0
        while self._queue:
            missed += self._miss(self._shift())
        if missed and not self._next_process_follows:
            self._log.error(f"{missed} records came too late to be forwarded: there was no time left to read them.")
        self._empty.set()

    def _miss(self, arrived: Arrived) -> int:
        missed = self._intake.give_up(arrived, keep=self._next_process_follows)
        for worker in self._workers:
            worker.miss(missed, arrived.identity)
        return missed

    def _shift(self) -> Arrived:
        arrived, answer = self._queue.popleft()
        self._bytes -= len(arrived.body)
        if answer is not None and not answer.done():
            answer.set_result(None)
        return arrived

    async def _digest(self, arrived: Arrived) -> None:
        steps = self._intake.digest(arrived)
        try:
            while await self._digest_slice(steps):
                pass
        except Exception as error:  # noqa: BLE001 - one body of many; Lambda would send it again and again
            self._log.error("A bug kept telemetry from being read. Please report it.", **where(error))

    async def _digest_slice(self, steps: Iterator[None]) -> bool:
        """Digest for one slice; return whether there is more to do."""
        async with self._turns:
            if self._is_closed:
                return False
            return any(self._turns.is_over() for _ in steps)
