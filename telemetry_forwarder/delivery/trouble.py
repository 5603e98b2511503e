"""What is said of a sink's trouble: each cause once, at the level that people see, and so seldom that it costs little.

Of a cause that is new since the sink was last well, one line at WARN, whatever was said before it; and one when the
sink delivers again, if anything was said. A destination that comes and goes must not fill the log, which is the user's
bill too: a cause that comes back is said once more, and from then on at the earliest 1, 2, 4, … up to 60 minutes after
it was said last: with the line that it is over, 14 lines in the first hour and two in each that follows. 16 causes are
told apart and all others count as one, so that no destination can have more than 17 times that written.
"""

from collections.abc import Callable
from typing import Any

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
from telemetry_forwarder.lazy_dataclass import dataclass
from telemetry_forwarder.log import Log

FIRST_PAUSE_S = 60.0
LONGEST_PAUSE_S = 3600.0
MOST_KINDS = 16
# A cause that comes back is said so often before the pauses begin.
FREE = 2
OTHERS = "others"


def cause_of(verdict: Verdict) -> Cause:
    """Return why an answer is not a delivery."""
    reason = verdict.reason if isinstance(verdict, Retry | Denied) else DropReason.DEADLINE
    return cause(describe(verdict), reason)


def news_of(verdict: Verdict, outcome: Outcome, left: Outstanding, *, was_total: bool) -> Cause | str | None:
    """Return what the user should know of an answer: why nothing gets through, a warning, or nothing.

    `left` is what it leaves; `was_total` says whether the destination was known before to take nothing.
    """
    if isinstance(verdict, Delivered):
        return verdict.warning
    if outcome in (Outcome.PROGRESS, Outcome.GIVEN_UP):
        return describe(verdict)  # the others get through
    if outcome is Outcome.FAILED:
        return cause_of(verdict)
    if left.refusals.is_total:
        text = f"it takes nothing that is sent, so the records stay held; it says: {describe(verdict)}"
        return None if was_total else cause(text, DropReason.REJECTED)
    return cause(describe(verdict), DropReason.REJECTED) if left.has_suspects and not left.pieces else None


def no_answer(error: TransportError) -> Retry:
    """Return the verdict on a request that no answer came to."""
    if isinstance(error, CredentialUnavailable):
        return Retry(detail=str(error), reason=DropReason.SECRET_UNREADABLE)
    if isinstance(error, NotTheService):
        return Retry(detail=str(error), reason=DropReason.WRONG_ADDRESS)
    if isinstance(error, ConnectFailed):
        return Retry(detail=str(error), reason=DropReason.UNREACHABLE)
    return Retry(detail=str(error))


def cut_off(step: Cause | None) -> Retry:
    """Return the verdict on a request that was given up, at `step` on its way or, where that is None, on its answer."""
    return Retry(detail="no answer came in time") if step is None else Retry(detail=step.text, reason=step.reason)


class Readiness:
    """Whether requests could be sent all the while: one that waits for what each would wait for is not late."""

    def __init__(self, transport: "Any") -> None:
        self._transport = transport
        self._was_preparing = False

    def was_lacking(self) -> bool:
        """Say whether the transport prepares something before it sends, now or when this was asked last."""
        was, self._was_preparing = self._was_preparing, is_preparing(self._transport)
        return was or self._was_preparing


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


@dataclass(slots=True)
class _Said:
    """How often a cause was said, and when last."""

    times: int
    at: Moment


class Reporter:
    """Says of one sink what is wrong and that it is well again. `held` counts the records that wait meanwhile."""

    def __init__(self, sink: str, log: Log, clock: Clock, held: Callable[[], int]) -> None:
        self._sink = sink
        self._log = log
        self._clock = clock
        self._held = held
        self._said: dict[str, _Said] = {}
        self._now: dict[str, bool] = {}  # the causes since it was last well, and whether each was said
        self._last: Cause | None = None

    @property
    def reason(self) -> DropReason:
        """Return what the records are dropped for that are held when the environment ends."""
        return DropReason.DEADLINE if self._last is None else self._last.reason

    @property
    def because(self) -> str:
        """Return what keeps the sink from delivering as the end of a sentence; "" where nothing is known to."""
        return "" if self._last is None else f": {self._last.text.rstrip('.')}"

    def blame(self, cause: Cause | None) -> None:
        """Note what nothing gets through for, without a word: the end is near, and has its own line."""
        self._last = cause or self._last

    def trouble(self, cause: Cause, **members: Any) -> None:
        """Say that nothing gets through for `cause`, unless that was said since the sink was last well."""
        self._last = cause
        is_told = self._now.get(cause.kind, False)
        is_due = not is_told and self._may_say(cause.kind, FREE)
        kind = cause.kind if cause.kind in self._now or len(self._now) < MOST_KINDS else OTHERS
        self._now[kind] = self._now.get(kind, False) or is_due
        self._write(cause.text, is_due, members)

    def note(self, detail: str, **members: Any) -> None:
        """Say what the user should know although records get through, or what has no bearing on that."""
        self._write(detail, self._may_say(cause(detail).kind, 1), members)

    def waiting(self, cause: Cause) -> None:
        """Say what is waited for: as trouble, or for the curious alone where it only takes its time."""
        if cause.is_normal:
            self._write(cause.text, False, {})
        else:
            self.trouble(cause)

    def recovered(self) -> None:
        """Note that records were taken, and say so where anything else was said."""
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
        """Say whether a line about `kind` may be written now, and enter it as written if so."""
        if kind not in self._said and len(self._said) >= MOST_KINDS:
            kind = OTHERS
        said = self._said.get(kind)
        if said is None:
            self._said[kind] = _Said(1, Moment.now(self._clock))
            return True
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(said.times - free, 16)) if said.times >= free else 0.0
        if said.at.age(self._clock) < pause:
            return False
        said.times += 1
        said.at = Moment.now(self._clock)
        return True
