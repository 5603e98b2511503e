"""What refusals mean: one bad record among good ones, or a destination that takes nothing at all. Pure.

A refused batch is split to find the bad record. If the destination takes nothing that is sent, no record is bad: the
configuration is wrong (the index, a proxy, another intake), and the records are held as with a wrong token.
"""

from telemetry_forwarder.clock import Clock, Moment
from telemetry_forwarder.delivery.breaker import DENIED_PAUSE_S, Breaker

# The pause after splitting has used up its tokens.
_SPLIT_PAUSE_S = 1.0
# After this many refusals in a row, with nothing taken between them, only single records are tried. They are small, and
# if only some records of the batch are bad, one of the next few is most likely taken.
SUSPICIOUS = 3
# After this many, the destination counts as one that takes nothing. These are a batch, its halves and four single
# records: less than three times the bytes of the batch.
CONVINCED = 7

# The pace of splitting while it finds good records; each refused request takes one token. Enough to find two or three
# bad records in the largest batch at once, then a pace that is no burden.
MOST_TOKENS = 40.0
_TOKENS_PER_S = 5.0


class Refusals:
    """Counts the refusals since the destination last took records, and the tokens left for splitting."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.is_total = False  # the destination takes nothing: the records are held
        self.is_proven = False  # it has taken something since the first of the unresolved refusals
        self._in_a_row = 0
        self._tokens = MOST_TOKENS
        self._counted = Moment.now(clock)

    @property
    def is_suspicious(self) -> bool:
        """Whether only single records should be tried."""
        return self.is_total or (self._in_a_row >= SUSPICIOUS and not self.is_proven)

    def taken(self) -> None:
        """Note that the destination took records."""
        self.is_proven = self._in_a_row > 0 or self.is_proven
        self.is_total = False
        self._in_a_row = 0

    def refused(self, *, is_last: bool) -> bool:
        """Note a refusal; return whether the destination takes nothing. `is_last`: there is no other piece to try."""
        self._in_a_row += 1
        self._refill()
        self._tokens -= 1.0
        tolerated = SUSPICIOUS if is_last else CONVINCED
        self.is_total = self.is_total or (self._in_a_row >= tolerated and not self.is_proven)
        return self.is_total

    def resolved(self) -> None:
        """Note that no refused record is left unexplained."""
        self.is_proven = False

    @property
    def pause(self) -> float:
        """The seconds until splitting may send another request."""
        self._refill()
        return max(0.0, 1.0 - self._tokens) / _TOKENS_PER_S

    def _refill(self) -> None:
        self._tokens = min(MOST_TOKENS, self._tokens + self._counted.age(self._clock) * _TOKENS_PER_S)
        self._counted = Moment.now(self._clock)


def pause_after(refusals: Refusals, breaker: Breaker) -> float:
    """Return the pause after a refusal, in seconds, and note it in the breaker."""
    if refusals.is_total:
        breaker.denied(DENIED_PAUSE_S)
        return DENIED_PAUSE_S
    pause = refusals.pause
    if pause:
        breaker.asked_to_wait(_SPLIT_PAUSE_S)
    return pause
