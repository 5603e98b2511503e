"""When to flush, for every mode and any pace."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.clock import Moment
from telemetry_forwarder.lifecycle.strategy import ENOUGH_GAPS, LONGEST_WAIT_S, Decision, Gaps, Mode, Strategy
from tests.builders import ManualClock


def gaps(*seconds: float) -> Gaps:
    found, at_ms = Gaps(), 0
    found.on_end(at_ms)
    for one in seconds:
        at_ms += round(one * 1000)
        found.on_start(at_ms)
        at_ms += 50
        found.on_end(at_ms)
    return found


@pytest.mark.parametrize(("mode", "decision"), [(Mode.END, Decision.HOLD), (Mode.CONTINUOUS, Decision.BACKGROUND)])
@given(since=st.floats(0, math.inf), paces=st.lists(st.floats(0, 1e5)))
def test_two_modes_decide_the_same_always(mode: Mode, decision: Decision, since: float, paces: list[float]) -> None:
    assert Strategy(mode).decide(since, gaps(*paces)) is decision


@pytest.mark.parametrize(
    ("ago", "decision"),
    [(0.0, Decision.LATER), (9.9, Decision.LATER), (10.0, Decision.BESIDE), (-3600.0, Decision.BESIDE)],
)
def test_periodic_delivers_when_it_is_due(ago: float, decision: Decision) -> None:
    """Clocks that were set back make it due too."""
    clock = ManualClock()
    since_flush = Moment(clock.time() - ago, clock.monotonic() - ago).age(clock)
    assert Strategy(Mode.PERIODIC, 10.0).decide(since_flush, Gaps()) is decision


def test_adaptive_holds_until_it_knows_the_pace() -> None:
    for known in range(ENOUGH_GAPS):
        assert Strategy().decide(math.inf, gaps(*[0.1] * known)) is Decision.HOLD
    assert Strategy().decide(math.inf, gaps(*[0.1] * ENOUGH_GAPS)) is Decision.BACKGROUND


@pytest.mark.parametrize(
    ("paces", "decision"),
    [
        ([LONGEST_WAIT_S] * 8, Decision.BACKGROUND),
        ([LONGEST_WAIT_S + 0.1] * 8, Decision.HOLD),
        ([0.1] * 7 + [300.0], Decision.HOLD),
        ([300.0] + [0.1] * 7, Decision.HOLD),
        ([300.0] + [0.1] * 8, Decision.BACKGROUND),
    ],
)
def test_adaptive_goes_by_the_longest_of_the_last_gaps(paces: list[float], decision: Decision) -> None:
    """What is left over at the end of an invocation waits for the next one."""
    assert Strategy().decide(math.inf, gaps(*paces)) is decision


def test_a_start_without_an_end_before_it_is_no_gap() -> None:
    """A report that was lost, or the first invocation."""
    found = Gaps()
    for at_ms in range(0, 100_000, 1000):
        found.on_start(at_ms)
    assert not found.are_short


def test_an_end_after_the_next_start_is_no_negative_gap() -> None:
    found = Gaps()
    for at_ms in range(0, 10_000, 1000):
        found.on_end(at_ms + 500)
        found.on_start(at_ms)
    assert found.are_short
