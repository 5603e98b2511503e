"""Log lines about a sink's trouble: each cause once, at WARN, and so rarely that the log stays cheap.

A cause that is new since the sink was last healthy gets one line at WARN. Another line says that the sink delivers
again, if there was a line before. A destination that comes and goes must not fill the log, for which the user pays: a
cause that comes back is logged once more, and then 1, 2, 4, … up to 60 minutes after its last line at the earliest.
Together with the lines that it is over, that is 14 lines in the first hour and two in each later hour. 16 causes are
told apart and all others count as one, so a destination can cause at most 17 times as many lines.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from telemetry_forwarder.clock import Clock, Moment
from telemetry_forwarder.delivery.outstanding import Outcome, Outstanding
from telemetry_forwarder.errors import ConnectFailed, CredentialUnavailable, NotTheService, TransportError
from telemetry_forwarder.interfaces import (
    Cause,
    Delivered,
    Denied,
    DropReason,
    Partial,
    Rejected,
    Retry,
    TooLarge,
    Verdict,
    cause,
    is_preparing,
)
from telemetry_forwarder.log import Log

_FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 3600.0
MOST_KINDS = 16
# A cause is logged this many times before the pauses begin.
_FREE = 2
OTHERS = "others"


def cause_of(verdict: Verdict) -> Cause:
    """Return the cause of an answer that is not a delivery."""
    reason = verdict.reason if isinstance(verdict, Retry | Denied) else DropReason.DEADLINE
    return cause(describe(verdict), reason)


def news_of(verdict: Verdict, outcome: Outcome, left: Outstanding, *, was_total: bool) -> Cause | str | None:
    """Return what the user should know about an answer: the cause why nothing gets through, a warning text, or None.

    `left` has the records after the answer. `was_total`: the destination was known before to take nothing.
    """
    if isinstance(verdict, Delivered):
        return verdict.warning
    if outcome in (Outcome.PROGRESS, Outcome.GIVEN_UP):
        return describe(verdict)  # a warning: other records get through
    if outcome is Outcome.FAILED:
        return cause_of(verdict)
    if left.refusals.is_total:
        text = f"it takes nothing that is sent, so the records stay held; it says: {describe(verdict)}"
        return None if was_total else cause(text, DropReason.REJECTED)
    return cause(describe(verdict), DropReason.REJECTED) if left.has_suspects and not left.pieces else None


def no_answer(error: TransportError) -> Retry:
    """Return the verdict on a request that failed without an answer."""
    if isinstance(error, CredentialUnavailable):
        return Retry(detail=str(error), reason=DropReason.SECRET_UNREADABLE)
    if isinstance(error, NotTheService):
        return Retry(detail=str(error), reason=DropReason.WRONG_ADDRESS)
    if isinstance(error, ConnectFailed):
        return Retry(detail=str(error), reason=DropReason.UNREACHABLE)
    return Retry(detail=str(error))


def cut_off(step: Cause | None) -> Retry:
    """Return the verdict on a request that was cut off at `step`; None: while it waited for the answer."""
    return Retry(detail="no answer came in time") if step is None else Retry(detail=step.text, reason=step.reason)


class Readiness:
    """Tells whether requests could be sent all the time. If not, an answer is not late, and a copy would wait too."""

    def __init__(self, transport: "Any") -> None:
        self._transport = transport
        self._was_preparing = False

    def was_lacking(self) -> bool:
        """Return whether the transport prepares something before it sends, now or at the last call of this."""
        was, self._was_preparing = self._was_preparing, is_preparing(self._transport)
        return was or self._was_preparing


def describe(verdict: Verdict) -> str:
    """Return the verdict in a few words."""
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


class _Said(Struct):
    """How often a cause was logged, and when last."""

    times: int
    at: Moment


class Reporter:
    """Logs the trouble of one sink, and that it is over. `held` returns the number of records that wait."""

    def __init__(self, sink: str, log: Log, clock: Clock, held: Callable[[], int]) -> None:
        self._sink = sink
        self._log = log
        self._clock = clock
        self._held = held
        self._said: dict[str, _Said] = {}
        self._now: dict[str, bool] = {}  # the causes since it was last healthy, and whether each was logged
        self._last: Cause | None = None

    @property
    def reason(self) -> DropReason:
        """The reason for which held records are dropped when the environment ends."""
        return DropReason.DEADLINE if self._last is None else self._last.reason

    @property
    def because(self) -> str:
        """The current cause of trouble as the end of a sentence; "" if there is none."""
        return "" if self._last is None else f": {self._last.text.rstrip('.')}"

    def blame(self, cause: Cause | None) -> None:
        """Note why nothing gets through, without a log line: the end is near, and has its own line."""
        self._last = cause or self._last

    def trouble(self, cause: Cause, **members: Any) -> None:
        """Log that nothing gets through because of `cause`; at WARN unless that was done since the sink was healthy."""
        self._last = cause
        is_told = self._now.get(cause.kind, False)
        is_due = not is_told and self._may_say(cause.kind, _FREE)
        kind = cause.kind if cause.kind in self._now or len(self._now) < MOST_KINDS else OTHERS
        self._now[kind] = self._now.get(kind, False) or is_due
        self._write(cause.text, is_due, members)

    def note(self, detail: str, **members: Any) -> None:
        """Log what the user should know although records get through, or that has nothing to do with that."""
        self._write(detail, self._may_say(cause(detail).kind, 1), members)

    def waiting(self, cause: Cause) -> None:
        """Log what delays the sink: as trouble, or only at INFO if the delay is normal."""
        if cause.is_normal:
            self._write(cause.text, False, {})
        else:
            self.trouble(cause)

    def recovered(self) -> None:
        """Note that records were taken; log that the trouble is over, if there was any."""
        if self._last is None:
            return
        say = self._log.warning if any(self._now.values()) else self._log.info
        say(f"Sink {self._sink} is delivering again.")
        self._now.clear()
        self._last = None

    def _write(self, text: str, is_due: bool, members: dict[str, Any]) -> None:
        say = self._log.warning if is_due else self._log.info
        say(f"Sink {self._sink}: {text.rstrip('.')}.", held=self._held(), **members)

    def _may_say(self, kind: str, free: int) -> bool:
        """Return whether a line about `kind` may be written at WARN now; if so, count it as written."""
        if kind not in self._said and len(self._said) >= MOST_KINDS:
            kind = OTHERS
        said = self._said.get(kind)
        if said is None:
            self._said[kind] = _Said(1, Moment.now(self._clock))
            return True
        pause = min(LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(said.times - free, 16)) if said.times >= free else 0.0
        if said.at.age(self._clock) < pause:
            return False
        said.times += 1
        said.at = Moment.now(self._clock)
        return True
