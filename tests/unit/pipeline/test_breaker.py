"""How long an unwell destination is left alone."""

from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.pipeline.breaker import Breaker

NOW = 1_800_000_000.0


def pause(breaker: Breaker, now: float = NOW) -> float:
    """Return how long it stays open from `now` on, to a tenth of a second."""
    return next(n / 10 for n in range(10_000) if not breaker.is_open(now + n / 10))


def test_a_new_breaker_is_closed() -> None:
    assert not Breaker().is_open(NOW)


def test_pauses_double_up_to_the_longest() -> None:
    breaker, pauses = Breaker(first=1.0, longest=30.0), []
    for _ in range(7):
        breaker.failed(NOW)
        pauses.append(pause(breaker))
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_success_forgets_everything() -> None:
    breaker = Breaker()
    for _ in range(5):
        breaker.failed(NOW)
    breaker.succeeded()
    assert not breaker.is_open(NOW)
    breaker.failed(NOW)
    assert pause(breaker) == 1.0


def test_a_longer_wait_that_was_asked_for_wins_up_to_the_longest() -> None:
    for asked, expected in ((0.5, 1.0), (12.0, 12.0), (3600.0, 30.0), (float("inf"), 30.0)):
        breaker = Breaker()
        breaker.failed(NOW, asked)
        assert pause(breaker) == expected


def test_a_clock_that_was_set_back_does_not_keep_it_open() -> None:
    """A thaw may correct the wall clock by hours."""
    breaker = Breaker()
    breaker.failed(NOW)
    assert not breaker.is_open(NOW - 3600)


@given(st.lists(st.sampled_from(["failed", "succeeded"])), st.floats(0, 2e9), st.floats(0, 1e6))
def test_no_history_keeps_it_open_for_longer_than_the_longest(history: list[str], now: float, after: float) -> None:
    breaker = Breaker(longest=30.0)
    for event in history:
        breaker.failed(now, after) if event == "failed" else breaker.succeeded()
    assert not breaker.is_open(now + 30.001)
    assert breaker.is_open(now) == (history[-1:] == ["failed"])
