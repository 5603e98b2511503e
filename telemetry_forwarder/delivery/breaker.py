"""The circuit breaker: leaves an unhealthy destination alone, so that it costs invocations no time.

Pure, except for the clock.
"""

import random
from collections.abc import Iterator

from telemetry_forwarder.clock import Clock, Moment

# A refused credential, or another wrong setting, is rarely repaired within seconds.
DENIED_PAUSE_S = 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
# A pause with less than this left counts as over, because the loop's timers may fire that much early.
NOTHING_S = 0.001


def backoff(first: float = 0.1, longest: float = 2.0) -> Iterator[float]:
    """Yield pauses in seconds that double from `first` to `longest`, each cut by up to half at random.

    The random part keeps environments that failed at the same time from retrying at the same time.
    """
    pause = first
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, protects nothing
        pause = min(longest, pause * 2)


class Breaker:
    """Opens after `tolerated` failed attempts in a row, and closes after a successful one.

    While it is open, nobody waits for the destination. Attempts are made with pauses between them that double up to the
    longest. A pause that the destination asks for is kept after any failure, up to the longest.
    """

    def __init__(self, clock: Clock, *, tolerated: int = 3) -> None:
        self._clock = clock
        self._tolerated = tolerated
        self._failures = 0
        self._since = Moment(0.0, 0.0)
        self._pause_s = 0.0

    def __repr__(self) -> str:
        return f"{self._failures} failures in a row"

    @property
    def has_tripped(self) -> bool:
        """Whether there were too many failures in a row."""
        return self._failures >= self._tolerated

    @property
    def is_open(self) -> bool:
        """Whether nobody should wait for the destination."""
        return self.has_tripped or not self.may_try

    @property
    def may_try(self) -> bool:
        return self.pause == 0.0

    @property
    def pause(self) -> float:
        """The seconds until the next attempt may be made; 0.0 if it may be made now."""
        left = self._pause_s - self._since.age(self._clock) if self._pause_s else 0.0
        return left if left > NOTHING_S else 0.0

    def failed(self, asked: float = 0.0) -> None:
        """Note a failed attempt; `asked` is the pause that the destination asks for, in seconds."""
        self._failures += 1
        pause = asked
        if self.has_tripped:
            pause = max(asked, _FIRST_PAUSE_S * 2.0 ** min(self._failures - self._tolerated, 16))
        self.asked_to_wait(pause)

    def asked_to_wait(self, asked: float) -> None:
        """Note that the destination asks for a pause of `asked` seconds."""
        self._since, self._pause_s = Moment.now(self._clock), min(_LONGEST_PAUSE_S, asked)

    def denied(self, pause: float) -> None:
        """Open at once, because a refused credential is not repaired within an invocation."""
        self._failures = max(self._failures, self._tolerated - 1)
        self.failed(pause)

    def succeeded(self) -> None:
        self._failures = 0
        self._pause_s = 0.0
