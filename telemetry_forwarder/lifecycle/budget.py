"""All time budgets of the process, computed from an event's deadline. Durations are in seconds."""

from msgspec import Struct

from telemetry_forwarder.clock import Clock, Deadline

# The margin before the function's deadline is at most this share of the function's time, so that a flush also fits
# into an invocation with a timeout of one second.
MARGIN_SHARE = 0.25
# If the end of the function is not seen, the flush gets this share of the invocation's time, at most `longest_s`.
_FLUSH_SHARE = 0.1

# Shares of the shutdown window, which is about 2 s less what the runtime used of it. The tail is for the last telemetry
# and longer than any sensible `timeoutMs`, which the platform cuts short here.
_TAIL_SHARE = 0.4
LONGEST_TAIL_S = 0.8
_MOST_TAIL_SHARE = 0.75  # of the time for sending, which must not end with the last record
# For writing the ledger, and for the exit.
_LEDGER_S = 0.1
_EXIT_SHARE = 0.1
# If the processor is withheld, each of these two may begin late. In a short window each gets up to this share.
_LATE_SHARE = 0.15
# For sending the loss notice to the healthy sinks.
_TELL_SHARE = 0.1
_LONGEST_TELL_S = 0.2
# For the failover, if it is configured. A signed request to a service in the same region takes tens of milliseconds; a
# function with little memory takes long for packing and TLS.
_STORE_SHARE = 0.35
_LONGEST_STORE_S = 0.8
_EXIT_S = 0.15
# The shutdown window that AWS documents. Source: AWS Lambda Developer Guide, Extensions API, Shutdown phase.
_EMERGENCY_S = 2.0


class Holding(Struct, frozen=True):
    """What the user allows: an invocation is held for at most `longest_s` seconds after the function's end, and never
    in the last `margin_s` seconds before its deadline.
    """

    longest_s: float = 0.5
    margin_s: float = 0.2


class _InvocationBudget(Struct, frozen=True):
    """The deadlines of one invocation. `wait_until`: stop waiting for the function's end. `flush_until`: ask for the
    next event. `longest_s`: the longest time after the function's end for which the invocation is held.
    """

    wait_until: Deadline
    flush_until: Deadline
    longest_s: float

    def hold_until(self, clock: Clock, ended_ms: int | None = None) -> Deadline:
        """Return the deadline of a flush that starts now.

        `ended_ms` is when the function ended by Lambda's own clock, since the epoch. The time that the telemetry took
        to arrive counts as part of the hold.
        """
        ended_at = clock.monotonic()
        if ended_ms is not None:
            ended_at = min(ended_at, Deadline.from_epoch_ms(ended_ms, clock).at)
        return min(self.flush_until, Deadline(ended_at + self.longest_s))


def for_invocation(deadline_ms: int, clock: Clock, holding: Holding) -> _InvocationBudget:
    """Divide the time of an invocation that ends at `deadline_ms` (since the epoch)."""
    end = Deadline.from_epoch_ms(deadline_ms, clock)
    left = end.left(clock)
    flush_until = end.earlier(min(holding.margin_s, left * MARGIN_SHARE))
    wait_until = flush_until.earlier(min(holding.longest_s, left * _FLUSH_SHARE))
    return _InvocationBudget(wait_until, flush_until, holding.longest_s)


class ShutdownBudget(Struct, frozen=True):
    """The deadlines of SHUTDOWN, in order. `receive_until`: late telemetry is still awaited. `send_until`: the sinks
    send. `store_until`: the failover stores the rest. `notify_until`: healthy sinks get the loss notice. `exit_by`: the
    process has ended.
    """

    receive_until: Deadline
    send_until: Deadline
    store_until: Deadline
    notify_until: Deadline
    exit_by: Deadline


def for_shutdown(deadline_ms: int, clock: Clock, *, has_fallback: bool = False, late_by: float = 0.0) -> ShutdownBudget:
    """Divide the rest of the shutdown window, which ends at `deadline_ms` (since the epoch), backwards from its end.

    `late_by`: for how long the processor may be withheld; work that ends at a deadline may end that much later.
    """
    end = Deadline.from_epoch_ms(deadline_ms, clock)
    left = end.left(clock)
    late = min(late_by, left * _LATE_SHARE)
    exit_by = end.earlier(max(late, min(_EXIT_S, left * _EXIT_SHARE)))
    notify_until = exit_by.earlier(max(late, min(_LEDGER_S, left * _EXIT_SHARE)))
    store_until = notify_until.earlier(min(_LONGEST_TELL_S, left * _TELL_SHARE))
    send_until = store_until.earlier(min(_LONGEST_STORE_S, left * _STORE_SHARE)) if has_fallback else store_until
    tail = min(LONGEST_TAIL_S, left * _TAIL_SHARE, send_until.left(clock) * _MOST_TAIL_SHARE)
    receive_until = min(send_until, Deadline(clock.monotonic() + tail))
    return ShutdownBudget(receive_until, send_until, store_until, notify_until, exit_by)


def for_emergency(clock: Clock, *, has_fallback: bool) -> ShutdownBudget:
    """Divide the time that Lambda may still give if it ends the extension without a SHUTDOWN, so without a deadline."""
    return for_shutdown(round((clock.time() + _EMERGENCY_S) * 1000), clock, has_fallback=has_fallback)
