"""What refusals mean: a bad record among good ones, or a destination that takes nothing at all. Pure.

A refused batch is split to find the record that is at fault. Where nothing that is sent is taken, none is: then it is
the configuration (a wrong index, a proxy, another intake), and records are held as with a wrong token.
"""

from telemetry_forwarder.clock import Clock, Moment
from telemetry_forwarder.delivery.breaker import DENIED_PAUSE_S, Breaker

# Where splitting a batch has used up what it may cost.
SPLIT_PAUSE_S = 1.0
# After so many refusals in a row, and nothing taken since the first of them, only single records are tried: their bytes
# are little, and of a batch with some bad records one of the next few is most likely taken.
SUSPICIOUS = 3
# And after so many it is the destination. A batch and its halves, then four single records: less than three times the
# bytes of the batch.
CONVINCED = 7

# While splitting finds good records it goes on, so fast: two or three bad records in the largest batch at once, and on
# at a pace that is no burden. A refused request takes one token.
MOST_TOKENS = 40.0
TOKENS_PER_S = 5.0


class Refusals:
    """The refusals since the destination took something, and what splitting may still cost."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.is_total = False  # nothing is taken: the records are held
        self.is_proven = False  # something was taken since the refusals that are being looked into began
        self._in_a_row = 0
        self._tokens = MOST_TOKENS
        self._counted = Moment.now(clock)

    @property
    def is_suspicious(self) -> bool:
        """Say whether only single records should be tried."""
        return self.is_total or (self._in_a_row >= SUSPICIOUS and not self.is_proven)

    def taken(self) -> None:
        """Note that the destination took records."""
        self.is_proven = self._in_a_row > 0 or self.is_proven
        self.is_total = False
        self._in_a_row = 0

    def refused(self, *, is_last: bool) -> bool:
        """Note a refusal; return whether it is plain now that nothing is taken. `is_last`: there is no other to try."""
        self._in_a_row += 1
        self._refill()
        self._tokens -= 1.0
        tolerated = SUSPICIOUS if is_last else CONVINCED
        self.is_total = self.is_total or (self._in_a_row >= tolerated and not self.is_proven)
        return self.is_total

    def resolved(self) -> None:
        """Note that nothing of what was refused is left to look into."""
        self.is_proven = False

    @property
    def pause(self) -> float:
        """The seconds until another request may be spent on splitting."""
        self._refill()
        return max(0.0, 1.0 - self._tokens) / TOKENS_PER_S

    def _refill(self) -> None:
        self._tokens = min(MOST_TOKENS, self._tokens + self._counted.age(self._clock) * TOKENS_PER_S)
        self._counted = Moment.now(self._clock)


def pause_after(refusals: Refusals, breaker: Breaker) -> float:
    """Return the pause that a refusal asks for, in seconds, and tell the breaker of it."""
    if refusals.is_total:
        breaker.denied(DENIED_PAUSE_S)
        return DENIED_PAUSE_S
    pause = refusals.pause
    if pause:
        breaker.asked_to_wait(SPLIT_PAUSE_S)
    return pause
