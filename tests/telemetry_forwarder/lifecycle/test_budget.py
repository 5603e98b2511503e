"""Every budget, for any deadline: in order, and never past its end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.clock import Deadline, SystemClock
from telemetry_forwarder.lifecycle import budget
from telemetry_forwarder.lifecycle.budget import Holding
from tests.builders import ManualClock

EPOCH_MS = 1_800_000_000_000
OFFSETS_MS = st.integers(-10_000_000, 20 * 60 * 1000) | st.integers(-EPOCH_MS, 2**62)
MONOTONIC = st.floats(0, 1e7)
NEAR = 1e-3  # what a float of this size may be off by


@given(OFFSETS_MS, MONOTONIC)
def test_an_invocations_budget_is_in_order(offset_ms: int, monotonic: float) -> None:
    clock = ManualClock(monotonic)
    end = Deadline.from_epoch_ms(EPOCH_MS + offset_ms, clock)
    limits = budget.for_invocation(EPOCH_MS + offset_ms, clock, Holding())
    assert limits.wait_until <= limits.flush_until <= end
    assert limits.hold_until(clock) <= limits.flush_until
    assert limits.hold_until(clock).left(clock) <= Holding().longest_s + 1e-6


@given(st.integers(-10_000, 10_000), st.integers(0, 10_000), st.integers(50, 10_000))
def test_a_hold_counts_from_the_functions_end_and_never_reaches_into_the_margin(
    ended_ms: int, timeout_ms: int, margin_ms: int
) -> None:
    """What the news of the end took to arrive is paid for by the caller too."""
    clock = ManualClock()
    holding = Holding(timeout_ms / 1000, margin_ms / 1000)
    limits = budget.for_invocation(EPOCH_MS + 60_000, clock, holding)
    until = limits.hold_until(clock, EPOCH_MS + ended_ms)
    assert until.at <= clock.now + min(ended_ms, 0) / 1000 + holding.longest_s + NEAR
    assert until.at <= clock.now + 60.0 - holding.margin_s + NEAR


@given(OFFSETS_MS, MONOTONIC, st.booleans(), st.floats(0, 0.2))
def test_a_shutdowns_budget_is_in_order(offset_ms: int, monotonic: float, has_fallback: bool, late_by: float) -> None:
    clock = ManualClock(monotonic)
    end = Deadline.from_epoch_ms(EPOCH_MS + offset_ms, clock)
    limits = budget.for_shutdown(EPOCH_MS + offset_ms, clock, has_fallback=has_fallback, late_by=late_by)
    assert has_fallback or limits.store_until == limits.send_until
    assert limits.receive_until <= limits.send_until <= limits.store_until <= limits.notify_until
    assert limits.notify_until <= limits.exit_by <= end
    assert limits.receive_until.left(clock) <= budget.LONGEST_TAIL_S + 1e-6


@pytest.mark.parametrize("seconds", [1, 3, 30, 900])
def test_a_flush_at_the_end_of_the_wait_has_time_left(seconds: int) -> None:
    """A function that never ends must not cost its own flush."""
    clock = ManualClock()
    limits = budget.for_invocation(EPOCH_MS + seconds * 1000, clock, Holding())
    assert limits.flush_until.at - limits.wait_until.at == pytest.approx(min(0.5, seconds / 10))
    assert clock.now + seconds - limits.flush_until.at == pytest.approx(0.2)


def test_the_shutdown_window_of_two_seconds_is_divided_as_documented() -> None:
    clock = ManualClock()
    limits = budget.for_shutdown(EPOCH_MS + 2000, clock)
    assert limits.exit_by.left(clock) == pytest.approx(1.85)
    assert limits.notify_until.left(clock) == pytest.approx(1.75)
    assert limits.send_until.left(clock) == pytest.approx(1.55)
    assert limits.receive_until.left(clock) == pytest.approx(0.8)


def test_a_fallback_has_its_share_of_the_window_between_sending_and_telling() -> None:
    clock = ManualClock()
    limits = budget.for_shutdown(EPOCH_MS + 2000, clock, has_fallback=True)
    assert limits.store_until.left(clock) == pytest.approx(1.55)
    assert limits.send_until.left(clock) == pytest.approx(0.85)
    assert limits.receive_until.left(clock) == pytest.approx(0.6375)


@pytest.mark.parametrize(("window_ms", "least_s"), [(2000, 0.25), (1000, 0.2), (700, 0.2), (200, 0.06)])
def test_where_the_processor_is_withheld_the_books_are_written_in_time_all_the_same(
    window_ms: int, least_s: float
) -> None:
    """What ends at a deadline ends as late as the processor is withheld, and so does what is done then."""
    clock = ManualClock()
    limits = budget.for_shutdown(EPOCH_MS + window_ms, clock, late_by=0.1)
    assert window_ms / 1000 - limits.notify_until.left(clock) >= least_s - 1e-6
    assert limits.send_until.left(clock) >= 0.5 * window_ms / 1000, "most of it is still for sending"


def test_a_narrow_window_still_has_time_for_sending() -> None:
    """A busy extension gets SHUTDOWN late: what is left of the window may be small."""
    clock = ManualClock()
    limits = budget.for_shutdown(EPOCH_MS + 200, clock)
    assert limits.send_until.at - limits.receive_until.at >= 0.05
    shared = budget.for_shutdown(EPOCH_MS + 200, clock, has_fallback=True)
    assert shared.send_until.at - shared.receive_until.at >= 0.015
    assert shared.store_until.at - shared.send_until.at >= 0.05
    assert limits.exit_by.left(clock) > limits.send_until.left(clock) > 0


def test_a_deadline_is_never_moved_later() -> None:
    assert Deadline(5.0).earlier(-3.0) == Deadline(5.0)
    assert Deadline(5.0).earlier(3.0) == Deadline(2.0)


def test_a_deadline_that_has_passed_has_nothing_left() -> None:
    assert Deadline(5.0).left(ManualClock(6.0)) == 0.0


def test_the_systems_clocks_agree_with_an_events_deadline() -> None:
    clock = SystemClock()
    deadline = Deadline.from_epoch_ms(round(clock.time() * 1000) + 1000, clock)
    assert deadline.left(clock) == pytest.approx(1.0, abs=0.5)
