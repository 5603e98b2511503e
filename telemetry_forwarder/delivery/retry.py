"""Deliver the records of one sink in its window: start attempts, and act on their answers.

This is the only place that retries a request; a transport makes one attempt per call. A request is sent again

- after a pause, if the destination throttles or is unhealthy. The pauses grow, the breaker's also across windows;
- once, at once, if the connection was lost: most likely an idle one that died while the environment was frozen;
- as a copy while the first is still under way, with the same bytes on another connection, if an answer is unusually
  late and will most likely never come. The answer that comes first counts.

In all windows but the last, one piece is under way at a time, with two copies at most, the second after twice the time:
where two requests hang, the destination may be well by then, and nobody would know before the last window. Copies are
rare enough to cost a slow destination little. The last window is the last chance of every record: up to three pieces
are under way at the same time, and each is tried up to four times, the next time at the latest when a third of the
remaining time has passed without an answer.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from telemetry_forwarder.clock import Clock, Deadline, Moment
from telemetry_forwarder.delivery.answer_time import (
    LATE_S,
    UNUSUAL_AT_LAST_S,
    AnswerTime,
    Copies,
    FreezeSafeTimeout,
    let_answers_in,
)
from telemetry_forwarder.delivery.breaker import DENIED_PAUSE_S, NOTHING_S, Breaker, backoff
from telemetry_forwarder.delivery.outstanding import Outcome, Outstanding, checked
from telemetry_forwarder.delivery.pieces import Attempt, Piece, Tasks
from telemetry_forwarder.delivery.refusals import pause_after
from telemetry_forwarder.delivery.trouble import Readiness, cut_off, news_of, no_answer
from telemetry_forwarder.delivery.window import CLOSED, SendWindow
from telemetry_forwarder.errors import ConnectionLost, TransportError
from telemetry_forwarder.interfaces import (
    Cause,
    Delivered,
    Denied,
    Encoded,
    Partial,
    Retry,
    Sink,
    Transport,
    Verdict,
    step_of,
)
from telemetry_forwarder.ledger import Account
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.turns import TimedEvent

# In the last window: how many pieces are under way at the same time, how often each is tried, and the share of the
# remaining time that an attempt or a pause may take while another may still succeed. Less than `LEAST_S` is too short.
PIECES_AT_LAST, TRIES_AT_LAST, SHARE_AT_LAST, LEAST_S = 3, 4, 1 / 3, 0.1
# How many copies of a request there are, in other windows.
_COPIES = 2
# If the processor is withheld for some time, writing a request takes up to this many times as long.
_WRITTEN_AFTER = 2
# After a thaw, the time to read an answer that came during the freeze, before its request is sent again.
THAW_S = 0.2
# The largest share of the remaining time for packing a batch that has to be sent in it.
_PACK_SHARE = 0.5
# The largest share of a flush, at its end, in which no request is begun because the processor may be withheld.
_KEPT_SHARE = 0.25


class Delivery:
    """Sends the pieces of one sink, which are `outstanding`. Holds what is known about the destination's health.

    `more` packs another piece and adds it; it returns whether there was one. `late_by` returns for how long the
    processor may be withheld, in seconds.
    """

    def __init__(
        self,
        sink: Sink[Any, Any],
        transport: Transport[Any, Any],
        account: Account,
        clock: Clock,
        on_trouble: Callable[[Cause], None],
        on_warning: Callable[[str], None] = lambda text: None,
        on_settled: Callable[[Sequence[Record]], None] = lambda records: None,
        breaker: Breaker | None = None,
        more: Callable[[], Awaitable[bool]] | None = None,
        late_by: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.breaker = breaker or Breaker(clock)
        self.answer_time = AnswerTime()
        self.window = CLOSED
        self.stop_at: Deadline | None = None  # that of the window: set only in the last one
        self.denied = False
        self.outstanding = Outstanding(sink.limits, account, clock, on_settled, encode=sink.encode)
        self._copies = Copies()
        self._readiness = Readiness(transport)
        self._allowed_at = self._thawed_at = self._last_call_at = self._answered_at = 0.0
        self._not_before = 0.0  # the end of a pause: no attempt starts before
        self._pauses = backoff()
        self._may_reconnect, self._may_reconsider = True, False  # each once in a `run`
        self._news = TimedEvent()  # set when an answer has come, the window has changed, or there is more to send
        self._has_more = more is not None
        self._more = more
        self._late_by = late_by
        self._bug: Exception | None = None
        self._sink = sink
        self._transport = transport
        self._account = account
        self._clock = clock
        self._on_trouble = on_trouble
        self._on_warning = on_warning

    @property
    def under_way_for(self) -> float | None:
        """Seconds since the newest attempt under way began; None if there is none."""
        attempts = self.outstanding.attempts
        return self._clock.monotonic() - max(each.begun_at for each in attempts) if attempts else None

    def waits_for(self) -> Cause | None:
        """Return what delays the attempt under way before it is sent, if the transport can tell."""
        return step_of(self._transport) if self.outstanding.attempts else None

    def __repr__(self) -> str:
        attempts, last = len(self.outstanding.attempts), " for the last time" if self.window.is_last else ""
        return f"<{self.outstanding!r}, {attempts} under way{last}, {self.breaker!r}>"

    def add(self, batch: list[Encoded]) -> None:
        """Add a batch to be sent."""
        self.outstanding.pieces.append(Piece(batch))

    # --- when an attempt may start, and when it ends ---

    def allow(self, window: SendWindow) -> None:
        """Let attempts start as `window` says. After a last window, windows that are not the last are ignored."""
        if self.window.is_last and not window.is_last:
            return
        now = self._clock.monotonic()
        if self.window.until.at <= now < window.until.at:
            self._thawed_at = now
        if window.is_last and not self.window.is_last:
            self._last_call_at = now
            self._not_before = 0.0  # one more attempt matters more than the pause that the destination asked for
        self.window, self._allowed_at, self.stop_at = window, now, window.stop_at
        for attempt in self.outstanding.attempts:
            if self.stop_at is not None:
                attempt.stop_at(self.stop_at.at)
            elif now < window.until.at and window.answer_by is None:
                attempt.is_timed = False  # an event has come, so a freeze may lie between: its duration is unknown
        self.wake()

    def wake(self) -> None:
        """Make `run` look for more to send."""
        self._has_more = self._more is not None
        self._news.set()

    def may_start(self) -> bool:
        """Return whether an attempt may start now."""
        if self._clock.monotonic() >= self.window.until.at:
            return False
        if self.stop_at is not None:
            return self.stop_at.left(self._clock) > 0.0  # the last chance, whatever the destination's health and speed
        answer_by = self.window.answer_by
        if answer_by is not None and not self.answer_time.expects_answer_within(answer_by.left(self._clock)):
            return False
        return self.breaker.may_try

    def _may_begin(self) -> bool:
        """Return whether an attempt may start, even if the processor is withheld while its request is written."""
        if self.stop_at is not None:
            return self.may_start() and self.has_time_for(self._late_by())
        until = self.window.until.at
        if self.window.answer_by is None:
            return self.may_start()
        kept = min(self._late_by(), _KEPT_SHARE * (until - self._allowed_at))
        return self._clock.monotonic() + kept < until and self.may_start()

    def has_time_for(self, work_s: float) -> bool:
        """Return whether work of `work_s` seconds can be done before attempts are cut off."""
        return self.stop_at is None or self._clock.monotonic() + work_s < self.stop_at.at

    def pack_until(self, longest_s: float) -> float:
        """Return until when a batch may be packed (monotonic clock), so that time is left to send it.

        At most `longest_s` seconds from now.
        """
        now = self._clock.monotonic()
        ends = [end for end in (self.window.until, self.window.answer_by, self.stop_at) if end is not None]
        return now + min(longest_s, _PACK_SHARE * min(ends).left(self._clock))

    # --- the course of a delivery ---

    async def run(self) -> bool:
        """Send until all records are settled, or no attempt is under way and none may start for now.

        Returns whether all are settled. Raises what a bug in the sink or the transport raises; the records stay held.
        """
        self._not_before, self._pauses = 0.0, backoff()
        self._may_reconnect, self._may_reconsider = True, self.outstanding.has_suspects
        self._has_more = self._more is not None
        async with Tasks() as tasks:
            while self._bug is None:
                self._news.clear()
                start_at = await self._start_what_is_due(tasks)
                if start_at is None and not self.outstanding.attempts:
                    break
                await self._wait_for_news(start_at)
            for attempt in self.outstanding.attempts:
                attempt.abandon()
        if self._bug is not None:
            bug, self._bug = self._bug, None
            raise bug
        return not self.outstanding.held

    async def _wait_for_news(self, until: float | None) -> None:
        await self._news.wait(until if until is not None else math.inf)
        if until is not None and (now := self._clock.monotonic()) - until > LATE_S:
            self._thawed_at = now  # there was a freeze, and an answer may wait in the socket

    async def _start_what_is_due(self, tasks: Tasks) -> float | None:
        """Start the attempts that may start now, and pack more pieces if there is room for them.

        Returns when the next attempt is due (monotonic clock); None if none is.
        """
        has_looked = False
        while self._bug is None:
            if self._more is not None and self._wants_more() and self._may_begin():
                has_looked = self._has_more = False
                self._has_more = await self._more() or self._has_more
                continue
            if self._may_reconsider and not self.outstanding.pieces:
                self._may_reconsider = False
                self.outstanding.reconsider()
            piece, due = self._next()
            if piece is None or due >= self.window.until.at:
                return None
            if due - self._clock.monotonic() > NOTHING_S:
                return due if self._may_wait() else None
            if not self._may_begin():
                return None
            if piece.attempts and not has_looked:
                has_looked = await let_answers_in()
                continue
            self._start(piece, tasks)
        return None

    def _may_wait(self) -> bool:
        """Return whether `run` waits for the end of a pause; if not, the destination is left alone."""
        if self.denied or self.outstanding.refusals.is_total:
            return False
        return self.stop_at is not None or not self.breaker.has_tripped

    def _wants_more(self) -> bool:
        pieces = self.outstanding.pieces
        if self.stop_at is None:
            return self._has_more and (not pieces or self.outstanding.is_short)
        return self._has_more and len(pieces) < PIECES_AT_LAST and self.outstanding.waiting() is None

    def _written_at(self) -> float:
        """Return when the newest request should be written: if the processor is withheld, two at once are both late."""
        newest_at = max((each.begun_at for each in self.outstanding.attempts), default=0.0)
        return newest_at + _WRITTEN_AFTER * self._late_by()

    def _next(self) -> tuple[Piece | None, float]:
        """Return the piece whose attempt is due next, and when (monotonic clock); None and infinity if none is."""
        pieces, most = self.outstanding.pieces, 1 if self.stop_at is None else PIECES_AT_LAST
        if sum(bool(piece.attempts) for piece in pieces) < most and (piece := self.outstanding.waiting()) is not None:
            return piece, max(self._not_before, self._written_at())
        dues = [(self._copy_due(piece), piece) for piece in pieces if piece.attempts]
        due, piece = min(dues, key=lambda each: each[0], default=(float("inf"), None))
        return piece, max(due, self._not_before)

    def _copy_due(self, piece: Piece) -> float:
        """Return when a copy of the request for `piece`, which is under way, may be sent; infinity for never."""
        now, newest, never = self._clock.monotonic(), piece.attempts[-1], float("inf")
        self._thawed_at = now if self._readiness.was_lacking() else self._thawed_at
        if self.stop_at is None:
            copies = len(piece.attempts) - 1
            if copies >= _COPIES or not self._copies.is_allowed:
                return never
            unusual_at = now + self.answer_time.unusual_after() * 2.0**copies - newest.began.age(self._clock)
            return max(unusual_at, self._thawed_at + THAW_S)
        if piece.tries >= TRIES_AT_LAST:
            return never
        unusual_at = newest.begun_at + self.answer_time.unusual_after(UNUSUAL_AT_LAST_S)
        since = max(newest.begun_at, self._last_call_at)
        share_at = since + (self.stop_at.at - since) * SHARE_AT_LAST
        is_alive = self._answered_at > self._last_call_at  # a slow destination only gets slower by more requests
        is_patient = is_alive or self._late_by() > 0.0  # then the later of both times counts, else the earlier
        due = max(unusual_at, share_at) if is_patient else min(max(unusual_at, self._last_call_at + THAW_S), share_at)
        # A copy before the time that answers have taken lately is one of a request that is most likely being answered.
        due = max(due, self._thawed_at + THAW_S, newest.begun_at + self.answer_time.slowest)
        return due if due + LEAST_S < self.stop_at.at else never

    def _start(self, piece: Piece, tasks: Tasks) -> None:
        if piece.attempts:
            self._account.copies += 1
            if self.stop_at is None:
                self._copies.copied()
        else:
            young = self.outstanding.without_late(self.outstanding.choose() or piece)
            if young is None:
                return
            piece = young
            self._copies.requested()
        piece.tries += self.stop_at is not None
        piece.attempts.append(attempt := Attempt(Moment.now(self._clock)))
        self._account.attempts += 1
        attempt.task = tasks.create(self._attempt(piece, attempt))

    async def _attempt(self, piece: Piece, attempt: Attempt) -> None:
        """Make one attempt and act on its answer, unless another attempt was answered first."""
        try:
            verdict, error = await self._ask(piece, attempt)
            piece.attempts.remove(attempt)
            if piece.is_open:
                self._conclude(piece, verdict, error)
        except asyncio.CancelledError:
            if not attempt.is_abandoned:
                raise
        except Exception as bug:  # noqa: BLE001 - `run` raises it when no attempt is under way any more
            self._bug, piece.is_faulty = bug, True
        finally:
            if attempt in piece.attempts:
                piece.attempts.remove(attempt)
            self._news.set()

    async def _ask(self, piece: Piece, attempt: Attempt) -> tuple[Verdict, TransportError | None]:
        try:
            request = piece.request(self._sink)
            stop_at = self.stop_at.at if self.stop_at is not None else None
            async with FreezeSafeTimeout(attempt.begun_at + self.answer_time.limit, stop_at) as attempt.timeout:
                response = await self._transport.send(request)
        except TransportError as error:
            return no_answer(error), error
        except TimeoutError:
            self.answer_time.cut_off()
            return cut_off(step_of(self._transport)), None
        finally:
            attempt.timeout = None
        now = self._answered_at = self._clock.monotonic()
        if attempt.is_timed:
            self.answer_time.answered(now - attempt.begun_at)
        else:
            self.answer_time.answered_sometime(attempt.began.age(self._clock))
        return checked(self._sink.verdict(piece.records, response)), None

    def _conclude(self, piece: Piece, verdict: Verdict, error: TransportError | None) -> None:
        """Settle `piece` by its answer; set the pause and the breaker."""
        was_total = self.outstanding.refusals.is_total
        outcome = self.outstanding.settle(piece, verdict)
        piece.tries = len(piece.attempts)  # it was answered, so the tries are counted anew
        self.denied = isinstance(verdict, Denied)
        self._say(verdict, outcome, was_total=was_total)
        asked = verdict.after if isinstance(verdict, Retry | Partial) else 0.0
        if outcome is Outcome.PROGRESS:
            self._pauses, self._may_reconnect = backoff(), True
            self.breaker.succeeded()
            self.breaker.asked_to_wait(asked)
            self._pause(asked)
        elif outcome is Outcome.REFUSED:
            self._pause(max(asked, pause_after(self.outstanding.refusals, self.breaker)))
        elif outcome is Outcome.GIVEN_UP:
            self._pause(asked)
        elif isinstance(error, ConnectionLost) and self._may_reconnect:
            self._may_reconnect = False  # no pause: most likely an idle connection that died during a freeze
        else:
            if self.denied:
                self.breaker.denied(DENIED_PAUSE_S)
            else:
                self.breaker.failed(asked)
            self._pause(max(asked, next(self._pauses)))

    def _pause(self, seconds: float) -> None:
        """Start no attempt for `seconds`; in the last window shorter, so that another attempt fits."""
        if self.stop_at is not None:
            seconds = min(seconds, max(LEAST_S, self.stop_at.left(self._clock) * SHARE_AT_LAST))
        if seconds:
            self._not_before = max(self._not_before, self._clock.monotonic() + seconds)

    def _say(self, verdict: Verdict, outcome: Outcome, *, was_total: bool) -> None:
        self._account.failed_attempts += not isinstance(verdict, Delivered)
        news = news_of(verdict, outcome, self.outstanding, was_total=was_total)
        if isinstance(news, Cause):
            self._on_trouble(news)
        elif news:
            self._on_warning(news)
