"""How long to wait for a destination's answer: learned from the answers before, and deaf to the freeze.

A timer that was set before the environment was frozen may fire as soon as it thaws, in the same turn of the event
loop in which the answer is read from the socket. Then the answer must win, or the request is sent twice.
"""

import asyncio
import math
from collections import deque
from types import TracebackType

# An attempt's first limit: longer than an intake answers in its worst days, since what is cut off may have been stored
# and is then sent twice; shorter than the clients' own defaults (aiohttp 300 s, botocore 60 s).
FIRST_S = 10.0
LONGEST_S = 60.0
# The limit is this many times the slowest of the last answers.
SLACK = 4.0
# An answer that takes longer than this, or than so many times the slowest of the last, is unusual: most likely it will
# never come. Intakes answer in tens of milliseconds; a second is what their slow days look like, and what is sent twice
# because of one is stored twice. At SHUTDOWN there is less time, and more to lose.
UNUSUAL_S = 1.0
UNUSUAL_AT_LAST_S = 0.5
UNUSUAL_SLACK = 2.0
# The most that is learned of an answer of which only the latest is known that it can have come: a freeze lay between.
LONGEST_GUESS_S = 2.0
# A timer that is later than this was slept through. A small function's share of the processor comes in slices of up
# to a tenth of a second.
LATE_S = 0.25
# What an answer gets after a thaw, and what it gets when its time is up without one: turns of the loop to be read in.
AFTER_THAW_S = 2.0
GRACE_S = 0.02


# Turns of the loop. An answer takes 3 from the socket to its verdict, by HTTP and by the SDK alike (measured).
TURNS_TO_READ = 20


async def let_answers_in() -> bool:
    """Let an answer that is in the socket be read, however late this process had its turn. Returns True."""
    loop = asyncio.get_running_loop()
    are_over = loop.create_future()

    def turn(left: int) -> None:
        if left:
            loop.call_soon(turn, left - 1)
        elif not are_over.done():
            are_over.set_result(True)

    turn(TURNS_TO_READ)
    return bool(await are_over)


class AnswerTime:
    """What is known of how fast one destination answers. Pure; lengths are seconds."""

    def __init__(self) -> None:
        self._answers: deque[float] = deque(maxlen=8)
        self._guesses: deque[float] = deque(maxlen=8)  # those and the longest that others may have taken
        self._expected = 0.0
        self._unanswered = 0
        self._in_vain = 0

    @property
    def limit(self) -> float:
        """The longest that the next attempt may take. It doubles while no answer comes."""
        slowest = max(self._answers, default=0.0)
        return min(LONGEST_S, max(FIRST_S, SLACK * slowest) * 2.0**self._unanswered)

    def unusual_after(self, least: float = UNUSUAL_S) -> float:
        """Return how long an answer may take before it is unusual: at least `least`, where any was seen."""
        return max(least, UNUSUAL_SLACK * max(self._guesses)) if self._guesses else UNUSUAL_S

    def expects_answer_within(self, seconds: float) -> bool:
        """Say whether an answer is likely to come within `seconds`; of a destination not met yet it is hoped."""
        return self._expected <= seconds

    def answered(self, after: float) -> None:
        self._answers.append(after)
        self._guesses.append(after)
        self._expected = after
        self._unanswered = self._in_vain = 0

    def answered_sometime(self, within: float = 0.0) -> None:
        """Note an answer that took nobody knows how long, at most `within`: the environment may have been frozen."""
        self._guesses.append(min(within, LONGEST_GUESS_S))
        self._unanswered = 0
        if self._expected == math.inf:
            self._expected = 0.0

    def waited_in_vain(self, seconds: float) -> None:
        """Note that nobody could wait any longer than `seconds` for an answer that may still come.

        Once is bad luck; twice in a row is how the destination is, until an answer shows otherwise.
        """
        self._in_vain += 1
        if self._in_vain > 1:
            self._expected = max(self._expected, 2 * seconds)

    def cut_off(self) -> None:
        """Note that an attempt reached its limit without an answer: the next one is not expected to have one."""
        self._expected = math.inf
        self._unanswered = min(self._unanswered + 1, 8)


class Copies:
    """How many requests may go out a second time while the first is under way. Pure.

    One for every `every` requests, and `most` at once: a destination that is slow now and then costs little more, and
    one that hangs is still asked again.
    """

    def __init__(self, *, every: int = 10, most: int = 2) -> None:
        self._every = every
        self._most = most * every
        self._earned = self._most

    @property
    def is_allowed(self) -> bool:
        return self._earned >= self._every

    def requested(self) -> None:
        """Note a request that is no copy."""
        self._earned = min(self._most, self._earned + 1)

    def copied(self) -> None:
        self._earned -= self._every


class FreezeSafeTimeout:
    """An async context manager that raises TimeoutError at `at` on the loop's clock, or at `stop_at` without mercy.

    At `at` an answer that is being read gets `GRACE_S`; where the timer comes late, because everything was frozen,
    `AFTER_THAW_S`. `stop_at` may be set, and moved earlier, while the attempt is under way.
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
        """End at `at`, whatever comes: the environment ends too."""
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
