"""What is learned of a destination's pace, and what a late timer may not do."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.delivery.answer_time import (
    AFTER_THAW_S,
    FIRST_S,
    GRACE_S,
    LONGEST_S,
    SLACK,
    AnswerTime,
    FreezeSafeTimeout,
)
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import clock, freeze, run


def test_of_a_destination_not_met_yet_an_answer_is_hoped_for() -> None:
    assert AnswerTime().expects_answer_within(0.0)
    assert AnswerTime().limit == FIRST_S


def test_the_last_answer_says_what_to_expect() -> None:
    answer_time = AnswerTime()
    answer_time.answered(0.7)
    assert not answer_time.expects_answer_within(0.5)
    answer_time.answered(0.1)
    assert answer_time.expects_answer_within(0.5)


def test_a_slow_but_sure_destination_is_given_its_time() -> None:
    answer_time = AnswerTime()
    answer_time.answered(7.0)
    assert answer_time.limit == SLACK * 7.0


def test_the_limit_doubles_while_no_answer_comes_up_to_the_longest() -> None:
    answer_time, limits = AnswerTime(), []
    for _ in range(5):
        limits.append(answer_time.limit)
        answer_time.cut_off()
    assert limits == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, LONGEST_S, LONGEST_S]
    answer_time.answered(0.1)
    assert answer_time.limit == FIRST_S


def test_one_wait_in_vain_is_bad_luck_and_two_are_not() -> None:
    answer_time = AnswerTime()
    answer_time.waited_in_vain(0.5)
    assert answer_time.expects_answer_within(0.5)
    answer_time.waited_in_vain(0.5)
    assert not answer_time.expects_answer_within(0.5)
    answer_time.answered(0.1)
    assert answer_time.expects_answer_within(0.5)


def test_after_an_attempt_without_answer_none_is_expected_until_one_comes() -> None:
    answer_time = AnswerTime()
    answer_time.cut_off()
    assert not answer_time.expects_answer_within(1e9)
    answer_time.answered_sometime()
    assert answer_time.expects_answer_within(0.5)


@given(st.lists(st.sampled_from(["answered", "waited_in_vain", "cut_off"])), st.floats(0, 1e6))
def test_no_history_makes_the_limit_endless_or_shorter_than_the_first(history: list[str], seconds: float) -> None:
    answer_time = AnswerTime()
    for event in history:
        answer_time.cut_off() if event == "cut_off" else getattr(answer_time, event)(seconds)
    assert FIRST_S <= answer_time.limit <= LONGEST_S


@pytest.mark.parametrize(
    ("stop_at", "frozen_s", "expected"),
    [
        (None, 0.0, 5.0 + GRACE_S),
        (None, 600.0, 601.0 + AFTER_THAW_S + GRACE_S),
        (3.0, 0.0, 3.0),
        (3.0, 600.0, 601.0),
        (9.0, 0.0, 5.0 + GRACE_S),
    ],
)
def test_it_cuts_off_in_time_but_not_because_the_environment_slept(
    stop_at: float | None, frozen_s: float, expected: float
) -> None:
    async def hang() -> None:
        async with FreezeSafeTimeout(1005.0) as cut:
            if stop_at is not None:
                cut.stop_at(1000.0 + stop_at)
            await asyncio.sleep(1.0)
            freeze(frozen_s)
            await asyncio.Event().wait()

    async def main() -> float:
        with pytest.raises(TimeoutError):
            await hang()
        return clock().monotonic() - 1000.0

    assert run(main()) == pytest.approx(expected)


@in_virtual_time
async def test_what_ends_in_time_is_not_cut_off_and_leaves_no_timer() -> None:
    async with FreezeSafeTimeout(1005.0):
        await asyncio.sleep(1.0)
    await asyncio.sleep(60.0)
