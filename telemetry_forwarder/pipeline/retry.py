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
    Delivered,
    Denied,
    DropReason,
    Encoded,
    Partial,
    Rejected,
    Retry,
    Sink,
    TooLarge,
    Transport,
    Verdict,
)
from telemetry_forwarder.ledger import Account
from telemetry_forwarder.pipeline.batcher import halve

# One attempt's longest time. Shorter than the clients' own defaults (aiohttp 300 s, botocore 60 s), long enough for
# an intake that answers slowly: what is cut off here may have been stored and is then sent twice.
ATTEMPT_S = 10.0


def backoff(first: float = 0.1, longest: float = 2.0) -> Iterator[float]:
    """Yield pauses in seconds that double from `first` to `longest`, each cut by up to half at random.

    The random part keeps environments that failed together from coming back together.
    """
    pause = first
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, protects nothing
        pause = min(longest, pause * 2)


class Delivery:
    """The pieces of the open batch, and the attempt that is under way.

    An attempt is bounded by `ATTEMPT_S`; `deadline` bounds when the last one may start, and `stop_at` cuts even a
    running one off (SHUTDOWN). A record leaves `pieces` in the moment it is settled, so that counting them is exact.
    """

    def __init__(
        self,
        sink: Sink[Any, Any],
        transport: Transport[Any, Any],
        account: Account,
        clock: Clock,
        on_trouble: Callable[[str], None],
        on_warning: Callable[[str], None] | None = None,
        on_settled: Callable[[Sequence[Encoded]], None] | None = None,
    ) -> None:
        self.pieces: deque[list[Encoded]] = deque()
        self._deadline = Deadline(0.0)
        self._is_moved = asyncio.Event()  # a deadline was: a pause may have to end
        self.stop_at: Deadline | None = None
        self.denied = False
        self.is_unwell = False  # the last attempt settled nothing
        self.asked_wait = 0.0
        self._sink = sink
        self._transport = transport
        self._account = account
        self._clock = clock
        self._on_trouble = on_trouble
        self._on_warning = on_warning
        self._on_settled = on_settled
        self._timer: asyncio.Timeout | None = None
        self._frozen_with: float | None = None
        self._request: tuple[list[Encoded], Any] | None = None

    @property
    def held(self) -> int:
        return sum(len(piece) for piece in self.pieces)

    @property
    def deadline(self) -> Deadline:
        """No attempt starts after this point."""
        return self._deadline

    @deadline.setter
    def deadline(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._is_moved.set()

    async def run(self) -> bool:
        """Send until every piece is settled (True), or no further attempt fits before the deadline (False)."""
        pauses = backoff()
        may_reconnect = True
        while self.pieces:
            if self._clock.monotonic() >= self.deadline.at:
                return False
            before = (self.held, -len(self.pieces))
            verdict, error = await self._attempt(self.pieces[0])
            self._settle(self.pieces[0], verdict)
            if self.denied:
                return False
            pause = self.asked_wait
            if (self.held, -len(self.pieces)) < before:
                pauses = backoff()
            elif isinstance(error, ConnectionLost) and may_reconnect:
                may_reconnect = False  # most likely a kept connection that died while the environment was frozen
            else:
                pause = max(pause, next(pauses))
            if pause > 0 and not await self._pause(self._clock.monotonic() + pause):
                return False
        return True

    async def _pause(self, until: float) -> bool:
        """Wait until `until`; return False as soon as that is not before the deadline, which may be moved meanwhile.

        SHUTDOWN ends the pause: what the destination asked for is worth less then than one more attempt.
        """
        was_last_call = self.stop_at is not None
        while self._clock.monotonic() < until:
            if self.stop_at is not None and not was_last_call:
                return True
            if until >= self.deadline.at:
                return False
            self._is_moved.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    await self._is_moved.wait()
        return True

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

    def freeze(self) -> None:
        """Stop the attempt's clock: the environment may be frozen from now on, and the answer be waiting after it."""
        if self._timer is not None and (when := self._timer.when()) is not None:
            self._frozen_with = max(0.0, when - self._clock.monotonic())
            self._timer.reschedule(None)

    def thaw(self) -> None:
        """Let the attempt have the time that it had left."""
        if self._timer is not None and self._frozen_with is not None:
            self._timer.reschedule(self._clock.monotonic() + self._frozen_with)
        self._frozen_with = None

    def stop_by(self, deadline: Deadline) -> None:
        """End even a running attempt at `deadline`."""
        self.stop_at = deadline
        self._is_moved.set()
        if self._timer is not None:
            when = self._timer.when()
            self._timer.reschedule(deadline.at if when is None else min(when, deadline.at))

    async def _attempt(self, piece: list[Encoded]) -> tuple[Verdict, TransportError | None]:
        self._account.attempts += 1
        limit = self._clock.monotonic() + ATTEMPT_S
        if self.stop_at is not None:
            limit = min(limit, self.stop_at.at)
        try:
            request = self._request_for(piece)
            async with asyncio.timeout_at(limit) as self._timer:
                response = await self._transport.send(request)
        except TransportError as error:
            return Retry(detail=str(error)), error
        except TimeoutError:
            return Retry(detail="no answer came in time"), None
        finally:
            self._timer = None
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
        self.is_unwell = isinstance(verdict, Denied | Retry)
        self.asked_wait = verdict.after if isinstance(verdict, Retry | Partial) else 0.0
        if not isinstance(verdict, Delivered):
            self._account.failed_attempts += 1
            self._on_trouble(describe(verdict))
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


def describe(verdict: Verdict) -> str:
    """Say in a few words what was answered."""
    match verdict:
        case Delivered():
            return "delivered"
        case Retry(_, detail):
            return detail or "asked to come back later"
        case Rejected(detail):
            return f"refused: {detail}"
        case TooLarge(detail):
            return f"too large: {detail}"
        case Denied(detail):
            return f"denied: {detail}"
        case Partial(retry, rejected, _, detail):
            return f"refused {len(rejected)} records and wants {len(retry)} again: {detail}"
