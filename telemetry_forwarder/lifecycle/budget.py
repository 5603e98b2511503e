"""Every time budget of the process, computed here from an event's deadline. Lengths are seconds."""

from telemetry_forwarder.clock import Clock, Deadline
from telemetry_forwarder.lazy_dataclass import dataclass

# The margin before the function's deadline is at most this share of the time that it has: a function with a timeout
# of a second is to be flushed too.
MARGIN_SHARE = 0.25
# Where the end of the function is not seen, the flush gets this share of the invocation's time, at most a hold.
FLUSH_SHARE = 0.1

# Of the shutdown window: for the last telemetry (longer than any sensible `timeoutMs`, which the platform ends early
# here), and for writing the ledger and leaving. The window is about 2 s less what the runtime used of it.
TAIL_SHARE = 0.4
LONGEST_TAIL_S = 0.8
MOST_TAIL_SHARE = 0.75  # of the time for sending, which must not end with the last record
LEDGER_S = 0.1
EXIT_SHARE = 0.1
# Where the processor is withheld, either may begin as late as that lasts: of a narrow window it gets up to this share.
LATE_SHARE = 0.15
# For telling the sinks that are well what was lost.
TELL_SHARE = 0.1
LONGEST_TELL_S = 0.2
# For storing outside what the sinks have not taken, where that is configured. A signed request to a service of the
# same region takes tens of milliseconds; a function with little memory takes long for packing and for TLS.
STORE_SHARE = 0.35
LONGEST_STORE_S = 0.8
EXIT_S = 0.15
# The shutdown window that AWS documents. Source: AWS Lambda Developer Guide, Extensions API, Shutdown phase.
EMERGENCY_S = 2.0


@dataclass(frozen=True, slots=True)
class Holding:
    """What the user allows: an invocation is held for `longest_s` after its end, and never within `margin_s` of its
    deadline. Lengths are seconds.
    """

    longest_s: float = 0.5
    margin_s: float = 0.2


@dataclass(frozen=True, slots=True)
class InvocationBudget:
    """`wait_until`: stop waiting for the function's end. `flush_until`: the next event is asked for, at the latest."""

    wait_until: Deadline
    flush_until: Deadline
    longest_s: float

    def hold_until(self, clock: Clock, ended_ms: int | None = None) -> Deadline:
        """Return how long a flush that starts now may take.

        `ended_ms` is when the function ended by Lambda's own clock, since the epoch: what the telemetry took to
        arrive counts as held.
        """
        ended_at = clock.monotonic()
        if ended_ms is not None:
            ended_at = min(ended_at, Deadline.from_epoch_ms(ended_ms, clock).at)
        return min(self.flush_until, Deadline(ended_at + self.longest_s))


def for_invocation(deadline_ms: int, clock: Clock, holding: Holding) -> InvocationBudget:
    """Divide an invocation, of which `deadline_ms` (since the epoch) is the end."""
    end = Deadline.from_epoch_ms(deadline_ms, clock)
    left = end.left(clock)
    flush_until = end.earlier(min(holding.margin_s, left * MARGIN_SHARE))
    wait_until = flush_until.earlier(min(holding.longest_s, left * FLUSH_SHARE))
    return InvocationBudget(wait_until, flush_until, holding.longest_s)


@dataclass(frozen=True, slots=True)
class ShutdownBudget:
    """`receive_until`: late telemetry is still taken. `send_until`: transports stop. `store_until`: what is left is
    stored outside by then, or not at all. `notify_until`: sinks that are well are told of losses. `exit_by`: gone.
    """

    receive_until: Deadline
    send_until: Deadline
    store_until: Deadline
    notify_until: Deadline
    exit_by: Deadline


def for_shutdown(deadline_ms: int, clock: Clock, *, has_fallback: bool = False, late_by: float = 0.0) -> ShutdownBudget:
    """Divide what is left of the shutdown window, backwards from its end.

    `late_by`: for how long the processor may be withheld, so that what ends at a deadline ends so much later.
    """
    end = Deadline.from_epoch_ms(deadline_ms, clock)
    left = end.left(clock)
    late = min(late_by, left * LATE_SHARE)
    exit_by = end.earlier(max(late, min(EXIT_S, left * EXIT_SHARE)))
    notify_until = exit_by.earlier(max(late, min(LEDGER_S, left * EXIT_SHARE)))
    store_until = notify_until.earlier(min(LONGEST_TELL_S, left * TELL_SHARE))
    send_until = store_until.earlier(min(LONGEST_STORE_S, left * STORE_SHARE)) if has_fallback else store_until
    tail = min(LONGEST_TAIL_S, left * TAIL_SHARE, send_until.left(clock) * MOST_TAIL_SHARE)
    receive_until = min(send_until, Deadline(clock.monotonic() + tail))
    return ShutdownBudget(receive_until, send_until, store_until, notify_until, exit_by)


def for_emergency(clock: Clock, *, has_fallback: bool) -> ShutdownBudget:
    """Divide the little time that Lambda may still give where it ends the extension without a word of how long."""
    return for_shutdown(round((clock.time() + EMERGENCY_S) * 1000), clock, has_fallback=has_fallback)
