"""Pieces, which are records for one request, and the attempts to deliver each of them."""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator
from types import TracebackType
from typing import Any

from telemetry_forwarder.clock import Moment
from telemetry_forwarder.delivery.answer_time import FreezeSafeTimeout
from telemetry_forwarder.delivery.batcher import OpenBatch
from telemetry_forwarder.interfaces import Encoded, Limits, Sink


class Attempt:
    """One request that is under way since `began`; `begun_at` is the same on the monotonic clock, in seconds."""

    __slots__ = ("began", "begun_at", "is_abandoned", "is_timed", "task", "timeout")

    def __init__(self, began: Moment) -> None:
        self.began = began
        self.begun_at = began.monotonic
        self.is_timed = True  # False: a freeze may have come between, so its duration is unknown
        self.is_abandoned = False
        self.timeout: FreezeSafeTimeout | None = None
        self.task: asyncio.Task[None] | None = None

    def abandon(self) -> None:
        """End the attempt and its connection; an answer that still comes is not read."""
        self.is_abandoned = True
        if self.task is not None:
            self.task.cancel()

    def stop_at(self, at: float) -> None:
        """End the attempt at `at` on the loop's clock at the latest, if its request is under way."""
        if self.timeout is not None:
            self.timeout.stop_at(at)


class Tasks:
    """The tasks of attempts, which end with the block that starts them. They raise nothing.

    A TaskGroup does the same and more, but is left a round of the event loop later, and an invocation is held for it.
    """

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> "Tasks":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running = self._running()
        if error is not None:
            for task in running:
                task.cancel()
        if running:
            await asyncio.wait(running)

    def create(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks = [*self._running(), task]
        return task

    def _running(self) -> list[asyncio.Task[None]]:
        return [task for task in self._tasks if not task.done()]


class Piece:
    """Records that go in one request, in the order in which they are sent.

    The request is built once, so that each attempt sends the same bytes, compressed once. `is_open` is True until an
    answer settles the piece; of several attempts the first answer counts. `is_accused`: the record was refused by
    itself before. `is_faulty`: the code of the sink or the transport failed on it.
    """

    __slots__ = ("_request", "attempts", "is_accused", "is_faulty", "is_open", "records", "tries")

    def __init__(self, records: list[Encoded], *, is_accused: bool = False) -> None:
        self.records = records
        self.attempts: list[Attempt] = []  # under way, oldest first
        self.tries = 0  # attempts that began in the last window
        self.is_open = True
        self.is_accused = is_accused
        self.is_faulty = False
        self._request: Any = None

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Encoded]:
        return iter(self.records)

    def request(self, sink: Sink[Any, Any]) -> Any:
        if self._request is None:
            self._request = sink.request(self.records)
        return self._request

    def close(self) -> None:
        """Mark the piece as settled and end the attempts that are still under way."""
        self.is_open = False
        self._request = None
        for attempt in self.attempts:
            attempt.abandon()


def batched(records: Iterable[Encoded], limits: Limits) -> list[Piece]:
    """Return `records`, in order, in as few pieces as the limits allow."""
    pieces = []
    batch = OpenBatch(limits)
    for encoded in records:
        if not batch.add(encoded):
            pieces.append(Piece(batch.close()))
            batch = OpenBatch(limits)
            batch.add(encoded)
    if batch:
        pieces.append(Piece(batch.close()))
    return pieces
