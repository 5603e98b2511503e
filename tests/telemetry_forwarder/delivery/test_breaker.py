"""How long an unwell destination is left alone."""

from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.delivery.breaker import Breaker
from tests.builders import ManualClock


def pause(breaker: Breaker, clock: ManualClock) -> float:
    """Let time pass, in tenths of a second, until it may be tried; return how long that took."""
    passed = 0
    while not breaker.may_try:
        passed += 1
        clock.pass_by(0.1)
    return passed / 10


def test_a_new_breaker_is_closed() -> None:
    assert not Breaker(ManualClock()).is_open


def test_it_opens_after_the_tolerated_failures_and_stays_open_until_one_succeeds() -> None:
    """Nobody waits for the destination, even where it may be tried in the background."""
    clock = ManualClock()
    breaker = Breaker(clock, tolerated=3)
    for _ in range(2):
        breaker.failed()
        assert not breaker.is_open
    breaker.failed()
    clock.pass_by(3600)
    assert breaker.is_open
    assert breaker.may_try
    breaker.succeeded()
    assert not breaker.is_open


def test_pauses_double_up_to_the_longest() -> None:
    clock = ManualClock()
    breaker, pauses = Breaker(clock, tolerated=3), []
    for _ in range(9):
        breaker.failed()
        pauses.append(pause(breaker, clock))
    assert pauses == [0.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_success_forgets_everything() -> None:
    clock = ManualClock()
    breaker = Breaker(clock, tolerated=1)
    for _ in range(5):
        breaker.failed()
    breaker.succeeded()
    assert not breaker.is_open
    breaker.failed()
    assert pause(breaker, clock) == 1.0


def test_a_longer_wait_that_was_asked_for_wins_up_to_the_longest() -> None:
    for asked, expected in ((0.5, 1.0), (12.0, 12.0), (3600.0, 30.0), (float("inf"), 30.0)):
        clock = ManualClock()
        breaker = Breaker(clock, tolerated=1)
        breaker.failed(asked)
        assert pause(breaker, clock) == expected


def test_a_wait_that_was_asked_for_is_kept_from_the_first_failure_on() -> None:
    clock = ManualClock()
    breaker = Breaker(clock, tolerated=3)
    breaker.failed(7.0)
    clock.pass_by(6.9)
    assert breaker.is_open
    clock.pass_by(0.1)
    assert not breaker.is_open


def test_a_wait_that_a_well_destination_asks_for_is_kept() -> None:
    clock = ManualClock()
    breaker = Breaker(clock)
    breaker.succeeded()
    breaker.asked_to_wait(7.0)
    assert pause(breaker, clock) == 7.0


def test_a_refused_credential_opens_at_once() -> None:
    clock = ManualClock()
    breaker = Breaker(clock, tolerated=3)
    breaker.denied(30.0)
    assert breaker.has_tripped
    assert pause(breaker, clock) == 30.0


def test_a_clock_that_was_set_back_does_not_stop_the_tries() -> None:
    """A thaw may correct the wall clock by hours."""
    clock = ManualClock()
    breaker = Breaker(clock, tolerated=1)
    breaker.failed()
    clock.epoch -= 3600.0
    clock.now += 1.0
    assert breaker.may_try


def test_a_pause_passes_in_a_freeze_whichever_clock_stands_still() -> None:
    for stands_still in ("now", "epoch"):
        clock = ManualClock()
        breaker = Breaker(clock, tolerated=1)
        breaker.failed()
        before = getattr(clock, stands_still)
        clock.pass_by(60.0)
        setattr(clock, stands_still, before)
        assert breaker.may_try


@given(st.lists(st.sampled_from(["failed", "succeeded", "denied"])), st.floats(0, 1e6))
def test_no_history_keeps_it_from_being_tried_for_longer_than_the_longest(history: list[str], after: float) -> None:
    clock = ManualClock()
    breaker = Breaker(clock, tolerated=2)
    for event in history:
        if event == "succeeded":
            breaker.succeeded()
        else:
            getattr(breaker, event)(after)
    clock.pass_by(30.001)
    assert breaker.may_try
    failures = next((n for n, event in enumerate(reversed(history)) if event == "succeeded"), len(history))
    assert breaker.has_tripped == (failures >= 2 or "denied" in history[len(history) - failures :])
