"""Records of one sink that have left its queue and are not settled: pieces to be sent, and refused records.

The count is exact at every moment: a record leaves when it is settled. Nothing here waits.
"""

import random
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TypeGuard

from msgspec.structs import replace

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.delivery.batcher import halve
from telemetry_forwarder.delivery.pieces import Attempt, Piece, batched
from telemetry_forwarder.delivery.refusals import Refusals
from telemetry_forwarder.interfaces import Delivered, DropReason, Encoded, Limits, Partial, Rejected, TooLarge, Verdict
from telemetry_forwarder.ledger import Account
from telemetry_forwarder.records.record import Record

# If a destination refuses everything and fewer records than this are held, the fault may be in these few. Then another
# batch, if there is one, is packed for the next attempt.
_FEW = 8


class Outcome(Enum):
    """What an answer led to."""

    PROGRESS = "progress"  # records were settled
    REFUSED = "refused"  # the records stay held: the cause is not known yet
    GIVEN_UP = "given up"  # a single record was refused again and is settled
    FAILED = "failed"  # all records are to be sent again


class Outstanding:
    """The pieces in the order in which they are sent, and the suspects: records that were refused by themselves.

    A suspect is dropped if it is refused again after the destination has taken something else. Only that proves that
    the fault is in the record.
    """

    def __init__(
        self,
        limits: Limits,
        account: Account,
        clock: Clock,
        on_settled: Callable[[Sequence[Record]], None] = lambda records: None,
        *,
        encode: Callable[[Record], Encoded],
    ) -> None:
        self.pieces: deque[Piece] = deque()
        self.refusals = Refusals(clock)
        self._suspects: list[tuple[Encoded, Rejected | TooLarge]] = []
        self._limits = limits
        self._clock = clock
        self._encode = encode
        self._account = account
        self._on_settled = on_settled

    def __repr__(self) -> str:
        return f"{self.held} outstanding in {len(self.pieces)} pieces, {len(self._suspects)} of them refused"

    @property
    def held(self) -> int:
        return sum([len(piece) for piece in self.pieces]) + len(self._suspects)

    @property
    def has_suspects(self) -> bool:
        return bool(self._suspects)

    @property
    def attempts(self) -> list[Attempt]:
        """The attempts that are under way."""
        return [attempt for piece in self.pieces for attempt in piece.attempts]

    @property
    def is_short(self) -> bool:
        """Whether another batch is wanted before one of these pieces is tried again."""
        return self.refusals.is_total and self.held < _FEW

    def waiting(self) -> Piece | None:
        """Return the first piece without an attempt under way; None if there is none."""
        return next((piece for piece in self.pieces if not piece.attempts), None)

    def choose(self) -> Piece | None:
        """Return the piece to be sent next; a single random record if the destination may refuse everything."""
        if not self.refusals.is_suspicious:
            return self.waiting()
        waiting = [piece for piece in self.pieces if not piece.attempts]
        return self._single(random.choice(waiting)) if waiting else None  # noqa: S311 - it protects nothing

    def _single(self, piece: Piece) -> Piece:
        """Move one random record out of `piece` into a piece of its own; return that."""
        if len(piece) == 1:
            return piece
        chosen = random.randrange(len(piece))  # noqa: S311 - as above
        one = Piece([piece.records[chosen]])
        rest = Piece(piece.records[:chosen] + piece.records[chosen + 1 :])
        self.pieces[self.pieces.index(piece)] = rest
        self.pieces.appendleft(one)
        return one

    def without_late(self, piece: Piece) -> Piece | None:
        """Return what is left of `piece`, which waits, without records that are too old by now; None if nothing is.

        A destination with `max_age_ms` would accept them and throw them away. They were young enough when they were
        encoded, but a freeze may have come between. As there, some are given the time of now instead.
        """
        limits, now_ms = self._limits, round(self._clock.time() * 1000)
        if limits.max_age_ms is None or now_ms - min(one.record.time_ms for one in piece) <= limits.max_age_ms:
            return piece
        left: list[Encoded] = []
        dropped: list[Record] = []
        for encoded in piece:
            age_ms = now_ms - encoded.record.time_ms
            if age_ms <= limits.max_age_ms:
                left.append(encoded)
            elif limits.redated_ms is not None and age_ms <= limits.redated_ms:
                left.append(self._encode(replace(encoded.record, time_ms=now_ms)))
            else:
                dropped.append(encoded.record)
        self._account.drop(len(dropped), DropReason.TOO_OLD)
        self._on_settled(dropped)
        rest = Piece(left, is_accused=piece.is_accused)
        place = self.pieces.index(piece)
        self._remove(piece)
        if left:
            self.pieces.insert(place, rest)
        self._note_resolved()
        return rest if left else None

    def reconsider(self) -> None:
        """Let the suspects be sent again."""
        self.pieces.extend(Piece([encoded]) for encoded, _ in self._suspects)
        self._suspects.clear()

    # --- answers ---

    def settle(self, piece: Piece, verdict: Verdict) -> Outcome:
        """Enter the answer to `piece`, which is open, in the books; return what it led to."""
        if isinstance(verdict, Rejected | TooLarge) or _takes_nothing(verdict, piece):
            return self._refuse(piece, verdict)
        left = self._account.settle(piece.records, verdict)
        if len(left) == len(piece):
            return Outcome.FAILED
        self._note_settled(piece, left)
        self._remove(piece)
        if left:
            self.pieces.appendleft(Piece(left))
        if _takes_something(piece, verdict):
            self.refusals.taken()
            self._accuse()
        self._note_resolved()
        return Outcome.PROGRESS

    def _refuse(self, piece: Piece, verdict: Rejected | TooLarge | Partial) -> Outcome:
        self._remove(piece)
        if piece.is_accused:
            self._give_up(piece.records[0], _final(verdict))
            self._note_resolved()
            return Outcome.GIVEN_UP
        if isinstance(verdict, Partial):  # the destination has not looked at the records in `retry`
            self._suspects += [(piece.records[index], _final(verdict)) for index in sorted(verdict.rejected)]
            if verdict.retry:
                self.pieces.appendleft(Piece([piece.records[index] for index in verdict.retry]))
        elif len(piece) == 1:
            self._suspects.append((piece.records[0], _final(verdict)))
        else:  # both halves are sent before any quarter, so that a good record is found soon
            self.pieces.extend(map(Piece, halve(piece.records)))
        if self.refusals.refused(is_last=not self.pieces):
            self._join()
        elif self.refusals.is_proven and not self.pieces:
            self._accuse()
        return Outcome.REFUSED

    def _accuse(self) -> None:
        """Send the suspects once more, now that the destination has taken something else."""
        self.pieces.extend(Piece([encoded], is_accused=True) for encoded, _ in self._suspects)
        self._suspects.clear()

    def _join(self) -> None:
        """Join the records that were split in vain into batches again."""
        under_way = [piece for piece in self.pieces if piece.attempts]
        records = [encoded for encoded, _ in self._suspects]
        records += [encoded for piece in self.pieces if not piece.attempts for encoded in piece]
        self._suspects.clear()
        self.pieces = deque(under_way + batched(records, self._limits))

    def _remove(self, piece: Piece) -> None:
        piece.close()
        self.pieces.remove(piece)

    def _note_settled(self, piece: Piece, left: Sequence[Encoded]) -> None:
        kept = {id(encoded) for encoded in left}
        self._on_settled([encoded.record for encoded in piece if id(encoded) not in kept])

    def _note_resolved(self) -> None:
        if not self.pieces and not self._suspects:
            self.refusals.resolved()

    # --- records that are given up or handed to the caller ---

    def take(self) -> list[list[Encoded]]:
        """Remove and return all held records, as one list for each piece. The caller settles them."""
        taken = [[encoded for encoded, _ in self._suspects]] if self._suspects else []
        taken += [piece.records for piece in self.pieces]
        for piece in self.pieces:
            piece.close()
        self.pieces.clear()
        self._suspects.clear()
        return taken

    def drop_faulty(self, reason: DropReason) -> int:
        """Drop the pieces on which a bug showed, or everything if there are none; return the number of records."""
        faulty = [piece for piece in self.pieces if piece.is_faulty]
        for piece in faulty:
            self._remove(piece)
        dropped = [encoded.record for records in faulty or self.take() for encoded in records]
        self._account.drop(len(dropped), reason)
        self._on_settled(dropped)
        return len(dropped)

    def drop_suspects(self) -> int:
        """Drop the refused records, because there is no other chance for them; return their number."""
        suspects, self._suspects = self._suspects, []
        for encoded, verdict in suspects:
            self._give_up(encoded, verdict)
        return len(suspects)

    def _give_up(self, encoded: Encoded, verdict: Rejected | TooLarge) -> None:
        self._account.settle([encoded], verdict)
        self._on_settled([encoded.record])


def _takes_something(piece: Piece, verdict: Verdict) -> bool:
    if isinstance(verdict, Partial):
        return len({*verdict.retry, *verdict.rejected}) < len(piece)
    return isinstance(verdict, Delivered)


def _takes_nothing(verdict: Verdict, piece: Piece) -> TypeGuard[Partial]:
    """Return whether a partial answer takes no record, and gives only reasons that a wrong setting may have, too."""
    if not isinstance(verdict, Partial) or not verdict.rejected or _takes_something(piece, verdict):
        return False
    if verdict.is_final:
        return False
    return all(reason is DropReason.REJECTED for reason in verdict.rejected.values())


def _final(verdict: Rejected | TooLarge | Partial) -> Rejected | TooLarge:
    """Return the verdict as one on a single record."""
    return Rejected(verdict.detail) if isinstance(verdict, Partial) else verdict


def checked(verdict: Verdict) -> Verdict:
    """Return `verdict`. Raises TypeError if a sink returned something that cannot be entered in the books."""
    if not isinstance(verdict, Verdict):
        raise TypeError(f"not a verdict but {type(verdict).__name__}")
    if isinstance(verdict, Partial) and not all(type(reason) is DropReason for reason in verdict.rejected.values()):
        raise TypeError("a Partial with a reason that is no DropReason")
    return verdict
