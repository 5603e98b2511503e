"""A request that hangs is not the only one: it goes out again beside the first, seldom, and each record counts once."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.delivery.answer_time import UNUSUAL_S, AnswerTime, Copies
from telemetry_forwarder.delivery.retry import THAW_S
from telemetry_forwarder.delivery.window import CLOSED, SendWindow, answered_by
from telemetry_forwarder.errors import ConnectionLost
from telemetry_forwarder.interfaces import Delivered, Retry
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from telemetry_forwarder.turns import Turns
from tests.builders import Hang, ListSink, Slow, World, clock, freeze, in_seconds, limits, records
from tests.telemetry_forwarder.delivery.test_retry import DeliveryWorld, deliver

HOLD_S = 0.5


async def ten_short_invocations(world: World, *, gap_s: float, is_frozen: bool = False) -> list[float]:
    """Play ten invocations of 20 lines, each flushed at its end; return for how long each was held."""
    held = []
    for number in range(10):
        world.begin(in_seconds(3.0))
        await asyncio.sleep(0.01)
        world.worker.offer(records(20, prefix=f"{number}-"))
        before = world.clock.monotonic()
        await world.worker.flush(answered_by(in_seconds(HOLD_S)))
        held.append(world.clock.monotonic() - before)
        world.worker.allow(CLOSED)
        if is_frozen:
            freeze(gap_s)
        else:
            await asyncio.sleep(gap_s)
    return held


@pytest.mark.parametrize("gap_s", [0.0, 0.02, 0.5, 300.0])
@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize("hangs", [1, 2, 3])
@in_virtual_time
async def test_nothing_is_lost_where_the_first_requests_hang(gap_s: float, is_frozen: bool, hangs: int) -> None:
    async with World(*[Hang()] * hangs) as world:
        held = await ten_short_invocations(world, gap_s=gap_s, is_frozen=is_frozen)
        await world.worker.drain(in_seconds(1.55))
        assert (world.delivered, world.dropped) == (200, {})
        assert max(held) <= HOLD_S + 1e-6
        assert sum(each > 0.1 for each in held) <= 3, "an attempt is waited for once"


@in_virtual_time
async def test_of_two_answers_the_first_counts_and_the_other_is_discarded() -> None:
    world = DeliveryWorld(Slow(1.5), Slow(0.5))  # both in the same turn
    assert await world.delivery.run()
    world.check()
    assert world.account.delivered == 4
    assert world.transport.open == 0


def test_the_second_request_is_the_same_object() -> None:
    """So that it is compressed once, and stable ids tell repeats apart."""

    def check(world: DeliveryWorld, done: bool) -> None:
        assert len({id(request) for _, request in world.transport.sent}) == 1
        assert world.transport.times == pytest.approx([0.0, UNUSUAL_S])
        assert world.transport.open == 0

    deliver(Hang(), check=check)


def test_the_ledger_counts_what_went_out_beside_another_request_of_the_same_records() -> None:
    """A second attempt behind one that failed is no copy."""

    def check(world: DeliveryWorld, done: bool) -> None:
        statement = world.account.statement(held=0)
        assert (statement.attempts, statement.copies) == (3, 1)
        assert statement.snapshot()["copies"] == 1

    deliver(Retry(), Hang(), check=check)


@in_virtual_time
async def test_the_ledger_counts_copies_at_the_end_too() -> None:
    async with World(Hang(), Hang()) as world:
        world.worker.offer(records(3))
        await world.worker.drain(in_seconds(1.55))
        statement = world.worker.statement()
        assert (statement.attempts, statement.copies) == (3, 2)


@in_virtual_time
async def test_at_the_end_a_slow_destination_is_not_asked_again_before_it_may_have_answered() -> None:
    """It stores what it is asked twice, and of ten thousand environments that end at once each would ask it thrice."""
    async with World(Slow(0.9), Slow(0.9)) as world:
        world.begin(in_seconds(8.0))
        world.worker.offer(records(3))
        world.worker.nudge()
        await asyncio.sleep(1.0)  # now it is known how long it takes
        world.worker.offer(records(3, prefix="last-"))
        await world.worker.drain(in_seconds(1.55))
        statement = world.worker.statement()
        assert (world.delivered, statement.attempts, statement.copies) == (6, 2, 0)


@in_virtual_time
async def test_nothing_else_goes_out_beside_a_request_that_hangs_while_the_function_is_invoked() -> None:
    async with World(then=Hang(), sink=ListSink(limits=limits(max_records=1))) as world:
        world.begin(in_seconds(8.0))
        world.worker.offer(records(5))
        await asyncio.sleep(7.0)
        assert world.transport.ids == [("r0",)] * 3
        assert world.transport.most_open == 3


@in_virtual_time
async def test_two_requests_that_hang_are_not_waited_for_until_the_end() -> None:
    """The second copy goes out after twice the time, and finds a destination that is well again."""
    async with World(Hang(), Hang()) as world:
        world.begin(in_seconds(8.0))
        world.worker.offer(records(3))
        world.worker.nudge()
        await asyncio.sleep(UNUSUAL_S + 2 * UNUSUAL_S + 0.1)
        assert (world.delivered, world.transport.most_open) == (3, 3)


@in_virtual_time
async def test_at_the_end_everything_goes_out_beside_it() -> None:
    """A destination that takes a second for each answer gets all of it within the window."""
    async with World(then=Slow(1.0), sink=ListSink(limits=limits(max_records=2))) as world:
        world.worker.offer(records(6))
        await world.worker.drain(in_seconds(1.55))
        assert (world.delivered, world.dropped) == (6, {})


class Withheld(Turns):
    """Those of a function with a small share of a processor."""

    withheld_s = 0.1


@pytest.mark.parametrize(("answer_s", "most_open"), [(0.15, 1), (1.0, 3)])
@in_virtual_time
async def test_with_a_share_of_a_processor_a_request_is_begun_when_the_one_before_is_written(
    answer_s: float, most_open: int
) -> None:
    """Beside it only where the answer takes longer than that."""
    sink = ListSink(limits=limits(max_records=2))
    async with World(then=Slow(answer_s), sink=sink, turns=Withheld(clock())) as world:
        world.worker.offer(records(6))
        await world.worker.drain(in_seconds(1.55))
        assert (world.delivered, world.dropped) == (6, {})
        assert world.transport.most_open == most_open
        assert len(world.transport.ids) == 3, "none is taken for lost because it is written late"


@in_virtual_time
async def test_the_tail_is_sent_when_it_comes_and_not_when_the_tail_is_over() -> None:
    async with World(then=Slow(1.0)) as world:
        end = in_seconds(1.55)
        world.worker.offer(records(3))
        world.worker.allow(SendWindow(end, is_last=True))
        await asyncio.sleep(0.4)
        world.worker.offer(records(1, prefix="tail"))
        await asyncio.sleep(0.4)
        await world.worker.drain(end)
        assert (world.delivered, world.dropped) == (4, {})


@in_virtual_time
async def test_at_least_three_attempts_fit_into_the_window() -> None:
    async with World(Hang(), Hang(), Hang()) as world:
        world.worker.offer(records(3))
        await world.worker.drain(in_seconds(1.55))
        assert (world.delivered, world.dropped) == (3, {})
        assert len(world.transport.sent) == 4
        for before, after in zip(world.transport.times, world.transport.times[1:], strict=False):
            assert after - before <= (1.55 - before) / 3 + 0.01


@in_virtual_time
async def test_a_copy_is_never_started_in_a_freeze_nor_before_an_answer_that_waits_is_read() -> None:
    async with World(Slow(30.0)) as world:
        world.worker.offer(records(2))
        await world.worker.flush(answered_by(in_seconds(HOLD_S)))
        world.worker.allow(CLOSED)
        await asyncio.sleep(5.0)
        assert len(world.transport.sent) == 1, "nothing is started after the freeze"
        freeze(600.0)
        world.begin(in_seconds(60.0))
        await asyncio.sleep(THAW_S / 2)
        assert (world.delivered, len(world.transport.sent)) == (2, 1)


@in_virtual_time
async def test_a_slow_destination_is_not_asked_twice_for_ever() -> None:
    async with World(then=Slow(1.5)) as world:
        world.begin(in_seconds(1000.0))
        for number in range(100):
            world.worker.offer(records(1, prefix=f"{number}-"))
            world.worker.nudge()
            await asyncio.sleep(3.0)
        assert world.delivered == 100
        assert len(world.transport.sent) == 101, "the pace is learned from the first answer"


@in_virtual_time
async def test_a_destination_that_is_slow_now_and_then_is_asked_twice_within_a_budget() -> None:
    slow_now_and_then: list[Any] = [Slow(0.02), *[Slow(0.02)] * 8, Slow(5.0)] * 40
    async with World(*slow_now_and_then) as world:
        world.begin(in_seconds(10_000.0))
        for number in range(200):
            world.worker.offer(records(1, prefix=f"{number}-"))
            world.worker.nudge()
            await asyncio.sleep(6.0)
        assert world.delivered == 200
        assert len(world.transport.sent) <= 200 + 200 // 10 + 2


@pytest.mark.parametrize("is_last", [False, True])
@in_virtual_time
async def test_what_has_not_been_sent_yet_is_not_copied(is_last: bool) -> None:
    """A secret that is read, a log stream that is created: a copy would wait for the same, and then both would go."""
    world = DeliveryWorld(Slow(1.1))
    world.transport.is_preparing = lambda: world.clock.monotonic() < 1001.05  # type: ignore[attr-defined]
    if is_last:
        world.delivery.allow(SendWindow(in_seconds(3.0), is_last=True))
    assert await world.delivery.run()
    assert (world.account.attempts, world.account.copies) == (1, 0)


@in_virtual_time
async def test_a_failed_copy_leaves_the_first_request_alone() -> None:
    world = DeliveryWorld(Slow(3.0), ConnectionLost("reset"), then=Retry())
    assert await world.delivery.run()
    world.check()
    assert world.clock.monotonic() == pytest.approx(1003.0)
    assert world.account.delivered == 4


# --- what is unusual ------------------------------------------------------------------------------------------------


def test_of_a_destination_not_met_yet_a_second_is_unusual() -> None:
    assert AnswerTime().unusual_after() == UNUSUAL_S
    assert AnswerTime().unusual_after(0.5) == UNUSUAL_S


def test_what_is_unusual_is_learned() -> None:
    answer_time = AnswerTime()
    answer_time.answered(0.02)
    assert (answer_time.unusual_after(), answer_time.unusual_after(0.5)) == (UNUSUAL_S, 0.5)
    answer_time.answered(3.0)
    assert answer_time.unusual_after() == 6.0
    for _ in range(8):
        answer_time.answered(0.02)
    assert answer_time.unusual_after() == UNUSUAL_S


def test_an_answer_behind_a_freeze_teaches_little() -> None:
    answer_time = AnswerTime()
    answer_time.answered_sometime(3600.0)
    assert answer_time.unusual_after() == 4.0


@given(st.lists(st.booleans(), max_size=500))
def test_copies_are_at_most_one_for_every_ten_requests_and_two_more(wishes: list[bool]) -> None:
    copies, made, requests = Copies(), 0, 0
    for is_late in wishes:
        copies.requested()
        requests += 1
        if is_late and copies.is_allowed:
            copies.copied()
            made += 1
    assert made <= 2 + requests / 10


@in_virtual_time
async def test_an_answered_copy_is_no_failure_and_is_said_to_nobody() -> None:
    async with World(Hang(), Delivered()) as world:
        world.begin(in_seconds(60.0))
        world.worker.offer(records(2))
        world.worker.nudge()
        await asyncio.sleep(2.0)
        statement = world.worker.statement()
        assert (statement.delivered, statement.attempts, statement.failed_attempts) == (2, 2, 0)
        assert world.lines.written == []
