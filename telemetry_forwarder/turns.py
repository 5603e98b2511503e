"""Share the event loop: tasks do long work in short slices, one slice per round of the loop, first come, first served.

So timers fire on time, and no sink's work delays another's, or the next event. A small function has a share of a
processor, given in pieces: when a piece is used up, the process stands still until the next. The same work may then
take ten times as long, so a slice is limited by time and not by the amount of work.
"""

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Coroutine, Generator, Iterator
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

from telemetry_forwarder.clock import Clock

T = TypeVar("T")

# The length of a slice. A round of the event loop costs a hundredth of that.
SLICE_S = 0.004
# A slice that ended late by a time in this range was interrupted because the processor was withheld. The kernel gives
# shares per tenth of a second (Lambda is said to use a shorter period); a longer delay was a freeze.
_WITHHELD_S = (0.01, 0.15)
_REMEMBERED = 32  # slices
# From the first bytes of a request to what follows from it: read, handed on, answered, and noticed by the lifecycle.
WAY_ROUNDS = 6


class TimedEvent:
    """An `asyncio.Event` that is waited for until a deadline, at a third of what `asyncio.timeout` around it costs."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: deque[asyncio.Future[bool]] = deque()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        for waiter in self._waiters:
            _resolve(waiter, True)

    def clear(self) -> None:
        self._is_set = False

    async def wait(self, until: float = math.inf) -> bool:
        """Wait until it is set, or `until` (loop's clock); return whether it was set by then."""
        if self._is_set:
            return True
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_at(until, _resolve, waiter, False) if until < math.inf else None
        try:
            return await waiter
        finally:
            self._waiters.remove(waiter)
            if timer is not None:
                timer.cancel()


def _resolve(waiter: "asyncio.Future[bool]", value: bool) -> None:
    if not waiter.done():
        waiter.set_result(value)


class Turns:
    """An async context manager: entering waits for a slice. Work inside until `is_over`, and never await anything."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._is_taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ends_at = 0.0
        self._late = deque([0.0], maxlen=_REMEMBERED)
        self._latest = 0.0  # the most of these
        self._rests_from = math.inf
        self._is_over_rest = asyncio.Event()
        self._rounds = 0  # of the event loop, in which no slice begins
        self._has_arrived = False  # whether those rounds are to be counted once somebody waits for a slice

    async def __aenter__(self) -> "Turns":
        is_next = False
        while self._is_taken or self._is_resting():
            turn = asyncio.get_running_loop().create_future()
            self._waiting.appendleft(turn) if is_next else self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._pass_on()
                raise
            # Something may have arrived since the turn was passed on: then it is given back, and comes first again.
            self._is_taken, is_next = False, True
        self._is_taken = True
        self._ends_at = self._now() + SLICE_S
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._note(self._now() - self._ends_at)
        asyncio.get_running_loop().call_soon(self._pass_on)

    def is_over(self) -> bool:
        """Return whether the current slice has to end."""
        return self._now() >= self._ends_at

    @property
    def withheld_s(self) -> float:
        """The longest time, in seconds, for which the processor was withheld during one of the last slices."""
        return self._latest

    def _note(self, late_s: float) -> None:
        """Note by how much a slice ended late, if the processor was withheld for that time."""
        least, most = _WITHHELD_S
        self._late.append(late_s if least <= late_s <= most else 0.0)
        self._latest = max(self._late)

    def give_way(self) -> None:
        """Begin no slice in the next rounds of the loop: what has just arrived takes several of them, and goes first.

        Otherwise a slice would stand between each two of them. Where the processor is withheld, that is a tenth of a
        second each, and the end of an invocation would be noticed that much later. Arrivals are bounded: an answer is
        held back if too much waits to be digested, and an idle sender costs a few empty rounds.
        """
        self._has_arrived = True
        if self._waiting:
            self._count_rounds()

    def has_gone_through(self) -> None:
        """Note that the lifecycle acts on what has arrived: slices may begin again."""
        self._has_arrived = False
        self._rounds = min(self._rounds, 1)

    def _count_rounds(self) -> None:
        """Count the rounds from now on. Nobody waits in most invocations, so they do not count any."""
        self._has_arrived = False
        if not self._rounds:
            asyncio.get_running_loop().call_soon(self._next_round)
        self._rounds = WAY_ROUNDS

    def rest_from(self, at: float) -> None:
        """Begin no slice at or after `at` (monotonic clock) until `go_on`, because something urgent is due then."""
        self._rests_from = at
        self._is_over_rest.clear()

    async def pace(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work that others wrote and that cannot be sliced, such as a call by an SDK: no step of it begins at rest.

        A step is what it does between two waits. If it is cancelled while it rests, it may still do the step that was
        due: an answer that has come is not lost.
        """
        result: T = await _Paced(work, self)
        return result

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Note for how long the processor is withheld inside, by the time that passes and the time that is worked."""
        passed, worked = self._now(), time.thread_time()
        try:
            yield
        finally:
            withheld = (self._now() - passed) - (time.thread_time() - worked)
            if withheld >= _WITHHELD_S[0]:
                self._note(withheld)

    async def rest(self) -> None:
        """Wait until the rest is over, if there is one."""
        while self._now() >= self._rests_from:
            await self._is_over_rest.wait()

    def go_on(self) -> None:
        self._rests_from = math.inf
        self._is_over_rest.set()
        if not self._is_taken:
            self._pass_on()

    def _is_resting(self) -> bool:
        if self._has_arrived:
            self._count_rounds()
        return self._rounds > 0 or self._now() >= self._rests_from

    def _next_round(self) -> None:
        self._rounds -= 1
        if self._rounds:
            asyncio.get_running_loop().call_soon(self._next_round)
        elif not self._is_taken:
            self._pass_on()

    def _pass_on(self) -> None:
        self._is_taken = False
        while self._waiting and not self._is_resting():
            turn = self._waiting.popleft()
            if not turn.done():
                self._is_taken = True
                turn.set_result(None)
                return


class _Paced:
    """Awaits a coroutine, and rests before a step of it when its turns do."""

    def __init__(self, work: Coroutine[Any, Any, Any], turns: Turns) -> None:
        self._work = work
        self._turns = turns

    def __await__(self) -> Generator[Any, Any, Any]:
        step = partial(self._work.send, None)
        is_cancelled = False  # at rest
        while True:
            try:
                with self._turns.watched():
                    waits_for = step()
            except StopIteration as end:
                return end.value
            step = partial(self._work.send, None)
            try:
                if is_cancelled and waits_for is not None:
                    waits_for.cancel()
                elif is_cancelled:
                    raise asyncio.CancelledError
                is_cancelled = False
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - the work's to handle
                step, is_cancelled = partial(self._work.throw, error), False
            else:
                try:
                    yield from self._turns.rest().__await__()
                except asyncio.CancelledError:
                    is_cancelled = True
