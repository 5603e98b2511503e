"""Every time budget of the process, computed here from an event's deadline. Lengths are seconds."""

from telemetry_forwarder.clock import Clock, Deadline
from telemetry_forwarder.values import dataclass

# The longest that a flush may keep an invocation open after its function is done. A destination that is slower keeps
# its records held: what they arrive later by is the price of never doubling somebody's duration.
LONGEST_HOLD_S = 2.0
# A function that runs into its timeout is cut off with us. This much before, the flush has to be over and the next
# event asked for, so that the SHUTDOWN that follows finds an idle extension with its whole window.
LEAST_MARGIN_S = 0.1
MOST_MARGIN_S = 0.5
# Where the end of the function is not seen, the flush gets this share of the invocation's time, at most LONGEST_HOLD_S.
FLUSH_SHARE = 0.1

# Of the shutdown window: for the last telemetry (longer than any sensible `timeoutMs`, which the platform ends early
# here), and for writing the ledger and leaving. The window is about 2 s less what the runtime used of it.
TAIL_SHARE = 0.5
LONGEST_TAIL_S = 0.8
LEDGER_S = 0.1
EXIT_SHARE = 0.1
EXIT_S = 0.15


@dataclass(frozen=True, slots=True)
class InvocationBudget:
    """`wait_until`: stop waiting for the function's end. `flush_until`: the next event is asked for, at the latest."""

    wait_until: Deadline
    flush_until: Deadline

    def hold_until(self, clock: Clock) -> Deadline:
        """Return how long a flush that starts now may take."""
        return min(self.flush_until, Deadline(clock.monotonic() + LONGEST_HOLD_S))


def for_invocation(deadline_ms: int, clock: Clock) -> InvocationBudget:
    """Divide an invocation, of which `deadline_ms` (since the epoch) is the end."""
    end = Deadline.from_epoch_ms(deadline_ms, clock)
    left = end.left(clock)
    flush_until = end.earlier(min(MOST_MARGIN_S, max(LEAST_MARGIN_S, left * FLUSH_SHARE)))
    return InvocationBudget(
        wait_until=flush_until.earlier(min(LONGEST_HOLD_S, left * FLUSH_SHARE)), flush_until=flush_until
    )


@dataclass(frozen=True, slots=True)
class ShutdownBudget:
    """`receive_until`: late telemetry is still taken. `send_until`: transports stop. `exit_by`: gone."""

    receive_until: Deadline
    send_until: Deadline
    exit_by: Deadline


def for_shutdown(deadline_ms: int, clock: Clock) -> ShutdownBudget:
    """Divide what is left of the shutdown window, backwards from its end."""
    end = Deadline.from_epoch_ms(deadline_ms, clock)
    left = end.left(clock)
    exit_by = end.earlier(min(EXIT_S, left * EXIT_SHARE))
    send_until = exit_by.earlier(min(LEDGER_S, left * EXIT_SHARE))
    tail = min(LONGEST_TAIL_S, left * TAIL_SHARE)
    return ShutdownBudget(min(send_until, Deadline(clock.monotonic() + tail)), send_until, exit_by)
