"""How long an unwell destination is left alone."""

from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.delivery.breaker import Breaker

NOW = 1_800_000_000.0


def pause(breaker: Breaker, now: float = NOW) -> float:
    """Return how long it may not be tried from `now` on, to a tenth of a second."""
    return next(n / 10 for n in range(10_000) if breaker.may_try(now + n / 10))


def test_a_new_breaker_is_closed() -> None:
    assert not Breaker().is_open(NOW)


def test_it_opens_after_the_tolerated_failures_and_stays_open_until_one_succeeds() -> None:
    """Nobody waits for the destination, even where it may be tried in the background."""
    breaker = Breaker(tolerated=3)
    for _ in range(2):
        breaker.failed(NOW)
        assert not breaker.is_open(NOW)
    breaker.failed(NOW)
    assert breaker.is_open(NOW + 3600)
    assert breaker.may_try(NOW + 3600)
    breaker.succeeded()
    assert not breaker.is_open(NOW)


def test_pauses_double_up_to_the_longest() -> None:
    breaker, pauses = Breaker(tolerated=3, first=1.0, longest=30.0), []
    for _ in range(9):
        breaker.failed(NOW)
        pauses.append(pause(breaker))
    assert pauses == [0.0, 0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_success_forgets_everything() -> None:
    breaker = Breaker(tolerated=1)
    for _ in range(5):
        breaker.failed(NOW)
    breaker.succeeded()
    assert not breaker.is_open(NOW)
    breaker.failed(NOW)
    assert pause(breaker) == 1.0


def test_a_longer_wait_that_was_asked_for_wins_up_to_the_longest() -> None:
    for asked, expected in ((0.5, 1.0), (12.0, 12.0), (3600.0, 30.0), (float("inf"), 30.0)):
        breaker = Breaker(tolerated=1)
        breaker.failed(NOW, asked)
        assert pause(breaker) == expected


def test_a_wait_that_was_asked_for_is_kept_from_the_first_failure_on() -> None:
    breaker = Breaker(tolerated=3)
    breaker.failed(NOW, 7.0)
    assert breaker.is_open(NOW + 6.9)
    assert not breaker.is_open(NOW + 7.0)


def test_a_wait_that_a_well_destination_asks_for_is_kept() -> None:
    breaker = Breaker()
    breaker.succeeded()
    breaker.asked_to_wait(NOW, 7.0)
    assert pause(breaker) == 7.0


def test_a_refused_credential_opens_at_once() -> None:
    breaker = Breaker(tolerated=3)
    breaker.denied(NOW, 30.0)
    assert breaker.has_tripped
    assert pause(breaker) == 30.0


def test_a_clock_that_was_set_back_does_not_stop_the_tries() -> None:
    """A thaw may correct the wall clock by hours."""
    breaker = Breaker(tolerated=1)
    breaker.failed(NOW)
    assert breaker.may_try(NOW - 3600)


@given(st.lists(st.sampled_from(["failed", "succeeded", "denied"])), st.floats(0, 2e9), st.floats(0, 1e6))
def test_no_history_keeps_it_from_being_tried_for_longer_than_the_longest(
    history: list[str], now: float, after: float
) -> None:
    breaker = Breaker(tolerated=2, longest=30.0)
    for event in history:
        if event == "succeeded":
            breaker.succeeded()
        else:
            getattr(breaker, event)(now, after)
    assert breaker.may_try(now + 30.001)
    failures = next((n for n, event in enumerate(reversed(history)) if event == "succeeded"), len(history))
    assert breaker.has_tripped == (failures >= 2 or "denied" in history[len(history) - failures :])
