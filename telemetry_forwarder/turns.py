"""Work in slices: between two rounds of the event loop one slice is done, by whoever has waited longest for it.

So that timers fire when they are due, and no sink's work keeps another's, or the next event, waiting. A small function
has a share of a processor, given in pieces: when one is used up, everything stands still until the next. The same
work may then take ten times as long, so slices are measured by the clock and not by what is done in them.
"""

import asyncio
import math
from collections import deque
from types import TracebackType

from telemetry_forwarder.clock import Clock

# The longest slice on a processor of one's own. What a round of the loop costs beside it is a hundredth of that.
SLICE_S = 0.004
# A slice that was over this much later than it should have been: the processor was withheld. The kernel gives shares
# for a tenth of a second (Lambda is said to do so for less); what took longer was a freeze.
WITHHELD_S = (0.01, 0.15)
REMEMBERED = 32  # slices


class Turns:
    """An async context manager: whoever is in it may work until `is_over`, and must not wait for anything in it."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.monotonic
        self._is_taken = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._ends_at = 0.0
        self._late: deque[float] = deque(maxlen=REMEMBERED)
        self._rests_from = math.inf

    async def __aenter__(self) -> "Turns":
        if self._is_taken or self._now() >= self._rests_from:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._pass_on()
                raise
        self._is_taken = True
        self._ends_at = self._now() + SLICE_S
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._late.append(self._now() - self._ends_at)
        asyncio.get_running_loop().call_soon(self._pass_on)

    def is_over(self) -> bool:
        """Say whether the slice that is being worked in has to end."""
        return self._now() >= self._ends_at

    @property
    def withheld_s(self) -> float:
        """For how long the processor was lately withheld at a time, at most, in seconds."""
        least, most = WITHHELD_S
        return max((late for late in self._late if least <= late <= most), default=0.0)

    def rest_from(self, at: float) -> None:
        """Begin no slice at or after `at`, on the monotonic clock, until `go_on`: what is due then cannot wait."""
        self._rests_from = at

    def go_on(self) -> None:
        self._rests_from = math.inf
        if not self._is_taken:
            self._pass_on()

    def _pass_on(self) -> None:
        self._is_taken = False
        while self._waiting and self._now() < self._rests_from:
            turn = self._waiting.popleft()
            if not turn.done():
                self._is_taken = True
                turn.set_result(None)
                return
