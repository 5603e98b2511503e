"""Deliver the open batch of one sink before a deadline. The only place in the project that tries again."""

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from telemetry_forwarder.clock import Clock, Deadline
from telemetry_forwarder.errors import ConnectionLost, TransportError
from telemetry_forwarder.interfaces import (
    Cause,
    Delivered,
    Denied,
    DropReason,
    Encoded,
    Partial,
    Retry,
    Sink,
    TooLarge,
    Transport,
    Verdict,
)
from telemetry_forwarder.ledger import Account
from telemetry_forwarder.pipeline.batcher import halve
from telemetry_forwarder.pipeline.breaker import Breaker
from telemetry_forwarder.pipeline.patience import Cutoff, Patience
from telemetry_forwarder.pipeline.trouble import cause_of, cut_off, no_answer, step_of

# A credential that was refused is rarely mended within seconds.
DENIED_PAUSE_S = 30.0

# The last attempt ends this much before the deadline of a drain, so that its failure is still entered in the books.
LAST_ANSWER_S = 0.02
# What is kept at SHUTDOWN for a second try of a request that was under way before: a connection and a round trip.
RENEW_S = 0.5
RENEW_SHARE = 0.3
# Of the time that is left, the most that may go into packing a batch that has to be sent in it.
PACK_SHARE = 0.5
# The most of a flush, at its end, in which no request is begun for lack of a processor.
KEPT_SHARE = 0.25


def backoff(first: float = 0.1, longest: float = 2.0) -> Iterator[float]:
    """Yield pauses in seconds that double from `first` to `longest`, each cut by up to half at random.

    The random part keeps environments that failed together from coming back together.
    """
    pause = first
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, protects nothing
        pause = min(longest, pause * 2)


class Delivery:
    """The pieces of the open batch, the attempt that is under way, and what is known of the destination's health.

    `deadline` bounds when the last attempt may start, `answer_by` when its answer has to be expected, and `stop_at`
    cuts even a running one off (SHUTDOWN). A record leaves `pieces` in the moment it is settled, so that counting
    them is exact.
    """

    def __init__(
        self,
        sink: Sink[Any, Any],
        transport: Transport[Any, Any],
        account: Account,
        clock: Clock,
        on_trouble: Callable[[Cause], None],
        on_warning: Callable[[str], None] | None = None,
        on_settled: Callable[[Sequence[Encoded]], None] | None = None,
        breaker: Breaker | None = None,
    ) -> None:
        self.pieces: deque[list[Encoded]] = deque()
        self.breaker = breaker or Breaker()
        self.patience = Patience()
        self.stop_at: Deadline | None = None
        self.denied = False
        self._deadline = Deadline(0.0)
        self._answer_by: Deadline | None = None
        self._allowed_at = 0.0
        self._is_moved = asyncio.Event()  # a deadline was: a pause may have to end
        self._asked_wait = 0.0
        self._sink = sink
        self._transport = transport
        self._account = account
        self._clock = clock
        self._on_trouble = on_trouble
        self._on_warning = on_warning
        self._on_settled = on_settled
        self._cutoff: Cutoff | None = None
        self._begun_at: float | None = None
        self._is_timed = True
        self._request: tuple[list[Encoded], Any] | None = None

    @property
    def held(self) -> int:
        return sum(len(piece) for piece in self.pieces)

    @property
    def under_way_for(self) -> float | None:
        """Seconds since the attempt that is under way began; None where there is none."""
        return None if self._begun_at is None else self._clock.monotonic() - self._begun_at

    def waits_for(self) -> Cause | None:
        """Return what keeps the attempt that is under way from being sent, where the transport can tell."""
        return None if self._begun_at is None else step_of(self._transport)

    def allow(self, until: Deadline, *, answer_by: Deadline | None = None) -> None:
        """Let attempts start before `until`; where `answer_by` is given, only such as should be answered by then."""
        self._deadline = until
        self._answer_by = answer_by
        self._allowed_at = self._clock.monotonic()
        self._is_moved.set()

    def may_start(self) -> bool:
        """Say whether an attempt may start now."""
        if self._clock.monotonic() >= self._deadline.at:
            return False
        if self.stop_at is not None:
            return True  # the last chance of every record: neither health nor pace counts
        if self._answer_by is not None and not self.patience.expects_answer_within(self._answer_by.left(self._clock)):
            return False
        return self.breaker.may_try(self._clock.time())

    async def run(self) -> bool:
        """Send until every piece is settled (True), or no further attempt may be made for now (False)."""
        pauses = backoff()
        may_reconnect = True
        while self.pieces:
            if not self.may_start():
                return False
            before = (self.held, -len(self.pieces))
            verdict, error = await self._attempt(self.pieces[0])
            self._settle(self.pieces[0], verdict)
            pause = self._asked_wait
            if (self.held, -len(self.pieces)) < before:
                pauses = backoff()
                self.breaker.succeeded()
                self.breaker.asked_to_wait(self._clock.time(), pause)
            elif isinstance(error, ConnectionLost) and may_reconnect:
                may_reconnect = False  # most likely a kept connection that died while the environment was frozen
            else:
                self._note_failure()
                pause = max(pause, next(pauses))
                if self.denied or (self.breaker.has_tripped and self.stop_at is None):
                    return False
            if pause > 0 and not await self._pause(self._clock.monotonic() + pause):
                return False
        return True

    def _note_failure(self) -> None:
        if self.denied:
            self.breaker.denied(self._clock.time(), DENIED_PAUSE_S)
        else:
            self.breaker.failed(self._clock.time(), self._asked_wait)

    async def _pause(self, until: float) -> bool:
        """Wait until `until`; return False as soon as that is not before the deadline, which may be moved meanwhile.

        SHUTDOWN ends the pause: what the destination asked for is worth less then than one more attempt.
        """
        was_last_call = self.stop_at is not None
        while self._clock.monotonic() < until:
            if self.stop_at is not None and not was_last_call:
                return True
            if until >= self._deadline.at:
                return False
            self._is_moved.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._is_moved.wait()
        return True

    def forget_time(self) -> None:
        """Learn nothing of the pace from the attempt that is under way: it may have been through a freeze."""
        self._is_timed = False

    def take(self) -> list[list[Encoded]]:
        """Remove and return all pieces; whoever takes them settles them."""
        taken = list(self.pieces)
        self.pieces.clear()
        return taken

    def drop(self, reason: DropReason) -> int:
        """Give up on all pieces; return how many records that were."""
        dropped = [encoded for piece in self.take() for encoded in piece]
        self._account.drop(len(dropped), reason)
        if self._on_settled:
            self._on_settled(dropped)
        return len(dropped)

    def stop_by(self, deadline: Deadline) -> None:
        """End even a running attempt at `deadline`."""
        self.stop_at = deadline
        self._is_moved.set()
        if self._cutoff is not None:
            self._cutoff.stop_at(deadline.at)

    def call_last(self, deadline: Deadline) -> None:
        """Let attempts start until `deadline`, whatever failed before, and stop even a running one a little earlier.

        At the first call the one that is under way has to leave time for another: its connection may have died with
        an earlier outage, while the destination has long been well again.
        """
        if self._cutoff is not None and self.stop_at is None:
            kept = min(RENEW_S, deadline.left(self._clock) * RENEW_SHARE)
            self._cutoff.stop_at(deadline.earlier(kept).at)
        self.allow(deadline)
        self.stop_by(deadline.earlier(LAST_ANSWER_S))

    def may_be_late_by(self, seconds: float) -> bool:
        """Say whether a request that takes `seconds` longer, as the processor is withheld, is in time for a flush.

        To write one takes the AWS SDK longer than a slice, and it cannot be interrupted.
        """
        if self._answer_by is None or self.stop_at is not None:
            return True
        kept = min(seconds, KEPT_SHARE * (self._deadline.at - self._allowed_at))
        return self._clock.monotonic() + kept < self._deadline.at

    def has_time_for(self, work_s: float) -> bool:
        """Say whether work that may take `work_s` is over before whatever is under way is cut off."""
        return self.stop_at is None or self._clock.monotonic() + work_s < self.stop_at.at

    def pack_until(self, longest_s: float) -> float:
        """Return until when a batch may be packed that is to be sent in time, at most for `longest_s` from now."""
        now = self._clock.monotonic()
        ends = [self._deadline, *(one for one in (self._answer_by, self.stop_at) if one is not None)]
        return now + min(longest_s, PACK_SHARE * min(ends).left(self._clock))

    async def _attempt(self, piece: list[Encoded]) -> tuple[Verdict, TransportError | None]:
        self._account.attempts += 1
        begun_at = self._begun_at = self._clock.monotonic()
        self._is_timed = True
        try:
            request = self._request_for(piece)
            async with Cutoff(begun_at + self.patience.limit) as self._cutoff:
                if self.stop_at is not None:
                    self._cutoff.stop_at(self.stop_at.at)
                response = await self._transport.send(request)
        except TransportError as error:
            return no_answer(error), error
        except TimeoutError:
            self.patience.cut_off()
            return cut_off(step_of(self._transport)), None
        finally:
            self._cutoff = self._begun_at = None
        if self._is_timed:
            self.patience.answered(self._clock.monotonic() - begun_at)
        else:
            self.patience.answered_sometime()
        return checked(self._sink.verdict(piece, response)), None

    def _request_for(self, piece: list[Encoded]) -> Any:
        """Build the request once per piece, so that a retry sends the same bytes, compressed once."""
        if self._request is None or self._request[0] is not piece:
            self._request = (piece, self._sink.request(piece))
        return self._request[1]

    def _settle(self, piece: list[Encoded], verdict: Verdict) -> None:
        """Replace the first piece by what the answer leaves of it."""
        left = self._account.settle(piece, verdict)
        if self._on_settled and len(left) < len(piece):
            kept = {id(encoded) for encoded in left}
            self._on_settled([encoded for encoded in piece if id(encoded) not in kept])
        self.denied = isinstance(verdict, Denied)
        self._asked_wait = verdict.after if isinstance(verdict, Retry | Partial) else 0.0
        if not isinstance(verdict, Delivered):
            self._account.failed_attempts += 1
            self._on_trouble(cause_of(verdict))
        elif verdict.warning and self._on_warning:
            self._on_warning(verdict.warning)
        if left == piece and not isinstance(verdict, TooLarge):
            return
        self.pieces.popleft()
        self._request = None
        if isinstance(verdict, TooLarge) and len(left) > 1:
            self.pieces.extendleft(reversed(halve(left)))
        elif left:
            self.pieces.appendleft(left)


def checked(verdict: Verdict) -> Verdict:
    """Return `verdict` if it is one. What a sink makes up instead could not be entered in the books: TypeError."""
    if not isinstance(verdict, Verdict):
        raise TypeError(f"not a verdict but {type(verdict).__name__}")
    if isinstance(verdict, Partial) and not all(type(reason) is DropReason for reason in verdict.rejected.values()):
        raise TypeError("a Partial with a reason that is no DropReason")
    return verdict
