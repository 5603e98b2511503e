"""How long to wait for a destination's answer: learned from earlier answers, and safe across a freeze.

A timer that was set before the environment was frozen may fire as soon as it thaws, in the same turn of the event
loop in which the answer is read from the socket. Then the answer must win, or the request is sent twice.
"""

import asyncio
import math
from collections import deque
from types import TracebackType

# The timeout of the first attempt. An intake answers faster than this even on its worst days: a request that is cut off
# may have been stored, and is then sent twice. Shorter than the clients' defaults (aiohttp 300 s, botocore 60 s).
FIRST_S = 10.0
LONGEST_S = 60.0
# The timeout is this many times the slowest of the recent answers.
SLACK = 4.0
# An answer is unusually late after this time, or after UNUSUAL_SLACK times the slowest recent answer. Most likely it
# will never come. Intakes answer in tens of milliseconds, and in about a second on slow days; a request that is sent
# twice because of a slow answer is stored twice. At SHUTDOWN there is less time, and more to lose.
UNUSUAL_S = 1.0
UNUSUAL_AT_LAST_S = 0.5
_UNUSUAL_SLACK = 2.0
# A request that was under way during a freeze gives only an upper bound of its answer's time. No more than this is
# learned from it.
_LONGEST_GUESS_S = 2.0
# A timer that fires later than this was set before a freeze. Less is normal: a small function gets the processor in
# slices, up to a tenth of a second apart.
LATE_S = 0.25
# In requests: each earns one, and a copy costs ten.
_COPY_COST, _MOST_EARNED = 10, 20
# The extra time for an answer to be read: after a thaw, and when the timeout is reached without a freeze.
AFTER_THAW_S = 2.0
GRACE_S = 0.02


# In turns of the event loop. From the socket to the verdict an answer takes 3, with HTTP and with the SDK (measured).
_TURNS_TO_READ = 20


async def let_answers_in() -> bool:
    """Return True after enough turns of the event loop to read an answer that is already in the socket."""
    loop = asyncio.get_running_loop()
    are_over = loop.create_future()

    def turn(left: int) -> None:
        if left:
            loop.call_soon(turn, left - 1)
        elif not are_over.done():
            are_over.set_result(True)

    turn(_TURNS_TO_READ)
    return bool(await are_over)


class AnswerTime:
    """What is known about how fast one destination answers. Pure; all times are in seconds."""

    def __init__(self) -> None:
        self._answers: deque[float] = deque(maxlen=8)
        self._guesses: deque[float] = deque(maxlen=8)  # `_answers`, and upper bounds where a freeze lay between
        self._expected = 0.0
        self._unanswered = 0
        self._in_vain = 0

    @property
    def limit(self) -> float:
        """The timeout of the next attempt. It doubles with each attempt that gets no answer."""
        slowest = max(self._answers, default=0.0)
        return min(LONGEST_S, max(FIRST_S, SLACK * slowest) * 2.0**self._unanswered)

    @property
    def slowest(self) -> float:
        """The longest of the recent answers that were timed; 0.0 if there is none."""
        return max(self._answers, default=0.0)

    def unusual_after(self, least: float = UNUSUAL_S) -> float:
        """Return the time after which an answer is unusually late: at least `least`, or UNUSUAL_S at first."""
        return max(least, _UNUSUAL_SLACK * max(self._guesses)) if self._guesses else UNUSUAL_S

    def expects_answer_within(self, seconds: float) -> bool:
        """Return whether an answer is likely to come within `seconds`; True for a destination never asked before."""
        return self._expected <= seconds

    def answered(self, after: float) -> None:
        self._answers.append(after)
        self._guesses.append(after)
        self._expected = after
        self._unanswered = self._in_vain = 0

    def answered_sometime(self, within: float = 0.0) -> None:
        """Note an answer that took an unknown time, at most `within`: there may have been a freeze meanwhile."""
        self._guesses.append(min(within, _LONGEST_GUESS_S))
        self._unanswered = 0
        if self._expected == math.inf:
            self._expected = 0.0

    def waited_in_vain(self, seconds: float) -> None:
        """Note that a flush waited `seconds` for an answer, and ended before it came.

        Once is bad luck. From the second time in a row the destination counts as that slow, until it answers.
        """
        self._in_vain += 1
        if self._in_vain > 1:
            self._expected = max(self._expected, 2 * seconds)

    def cut_off(self) -> None:
        """Note that an attempt reached its timeout without an answer; none is expected for the next one either."""
        self._expected = math.inf
        self._unanswered = min(self._unanswered + 1, 8)


class Copies:
    """Limits the copies: requests that are sent again while the first one is still under way. Pure.

    One copy is allowed for every ten requests, and at most two in a row. So a destination that is slow now and then
    costs little more, and one that hangs is still asked again.
    """

    def __init__(self) -> None:
        self._earned = _MOST_EARNED

    @property
    def is_allowed(self) -> bool:
        return self._earned >= _COPY_COST

    def requested(self) -> None:
        """Note a request that is not a copy."""
        self._earned = min(_MOST_EARNED, self._earned + 1)

    def copied(self) -> None:
        self._earned -= _COPY_COST


class FreezeSafeTimeout:
    """An async context manager that raises TimeoutError shortly after `at`, and exactly at `stop_at` (loop's clock).

    At `at`, an answer that is being read gets `GRACE_S` more. If the timer fires late, because the environment was
    frozen, it gets `AFTER_THAW_S`. `stop_at` can be set, or moved earlier, while the attempt is under way.
    """

    def __init__(self, at: float, stop_at: float | None = None) -> None:
        self._at = at
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout_at(stop_at)
        self._timer: asyncio.TimerHandle | None = None
        self._has_had_grace = False

    async def __aenter__(self) -> "FreezeSafeTimeout":
        await self._timeout.__aenter__()
        self._arm(self._at)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def stop_at(self, at: float) -> None:
        """Raise TimeoutError at `at` without extra time, because the environment ends too."""
        when = self._timeout.when()
        if not self._timeout.expired() and (when is None or at < when):
            self._timeout.reschedule(at)

    def _arm(self, at: float) -> None:
        self._at = at
        self._timer = self._loop.call_at(at, self._fall_due)

    def _fall_due(self) -> None:
        now = self._loop.time()
        if now - self._at > LATE_S:
            self._has_had_grace = False
            self._arm(now + AFTER_THAW_S)
        elif not self._has_had_grace:
            self._has_had_grace = True
            self._arm(now + GRACE_S)
        else:
            self.stop_at(now)
