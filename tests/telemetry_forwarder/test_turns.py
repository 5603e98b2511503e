"""Between two rounds of the event loop one slice of work is done, and at the end of a hold none."""

import asyncio

import pytest

from telemetry_forwarder.testing.virtual_time import in_virtual_time
from telemetry_forwarder.turns import SLICE_S, WAY_ROUNDS, Turns
from tests.builders import clock, freeze


async def work(turns: Turns, name: str, slices: int, done: list[str], costs_s: float = SLICE_S) -> None:
    for _ in range(slices):
        async with turns:
            while not turns.is_over():
                freeze(costs_s)
            done.append(name)


@in_virtual_time
async def test_those_who_wait_have_their_slices_in_turn() -> None:
    turns, done = Turns(clock()), list[str]()
    async with turns:
        working = asyncio.gather(*(work(turns, name, 3, done) for name in "abc"))
        await asyncio.sleep(0)
    await working
    assert "".join(done) == "abcabcabc"


@pytest.mark.parametrize("workers", [1, 3])
@in_virtual_time
async def test_a_timer_is_never_later_than_a_slice_however_many_work(workers: int) -> None:
    loop, late = asyncio.get_running_loop(), list[float]()

    def tick(due: float) -> None:
        late.append(loop.time() - due)
        loop.call_at(loop.time() + 0.01, tick, loop.time() + 0.01)

    tick(loop.time())
    turns = Turns(clock())
    await asyncio.gather(*(work(turns, "", 50, [], 0.001) for _ in range(workers)))
    assert len(late) > 10
    assert max(late) <= SLICE_S + 0.001


@in_virtual_time
async def test_no_slice_begins_after_work_was_told_to_rest_until_it_may_go_on() -> None:
    turns, done = Turns(clock()), list[str]()
    turns.rest_from(clock().monotonic() + 2.5 * SLICE_S)
    working = asyncio.gather(work(turns, "a", 5, done), work(turns, "b", 5, done))
    await asyncio.sleep(10.0)
    assert len(done) == 3
    turns.go_on()
    await working
    assert len(done) == 10


@in_virtual_time
async def test_what_has_just_arrived_goes_through_the_loop_before_another_slice() -> None:
    turns, done = Turns(clock()), list[str]()
    working = asyncio.gather(work(turns, "a", 5, done), work(turns, "b", 5, done))
    await asyncio.sleep(0)
    for _ in range(3):  # more arrives, with each of which it begins anew
        turns.give_way()
        before = len(done)
        for _ in range(WAY_ROUNDS - 1):
            await asyncio.sleep(0)
        assert len(done) == before, "not even one whose turn it was already"
    await working
    assert len(done) == 10


@in_virtual_time
async def test_who_gives_way_while_all_rests_begins_no_slice() -> None:
    turns, done = Turns(clock()), list[str]()
    turns.rest_from(clock().monotonic())
    turns.give_way()
    working = asyncio.gather(work(turns, "a", 2, done))
    await asyncio.sleep(10.0)
    assert done == []
    turns.go_on()
    await working
    assert done == ["a", "a"]


@in_virtual_time
async def test_one_who_is_cancelled_takes_nobodys_turn() -> None:
    turns, done = Turns(clock()), list[str]()
    async with turns:
        tasks = [asyncio.ensure_future(work(turns, name, 2, done)) for name in "abc"]
        await asyncio.sleep(0)
        tasks[1].cancel()
    await asyncio.wait(tasks)
    assert "".join(done) == "acac"
    async with asyncio.timeout(1.0):
        await work(turns, "d", 1, done)


@in_virtual_time
async def test_one_who_is_cancelled_in_the_moment_of_its_turn_passes_it_on() -> None:
    turns, done = Turns(clock()), list[str]()
    async with turns:
        waiting = [asyncio.ensure_future(work(turns, name, 1, done)) for name in "ab"]
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # the first has been given the turn, and has not run yet
    waiting[0].cancel()
    await asyncio.wait(waiting)
    assert done == ["b"]


@in_virtual_time
async def test_what_the_processor_was_withheld_is_known_and_forgotten_and_a_freeze_is_none() -> None:
    turns = Turns(clock())
    assert turns.withheld_s == 0.0
    await work(turns, "", 1, [], 0.08)
    assert turns.withheld_s == pytest.approx(0.08 - SLICE_S)
    await work(turns, "", 1, [], 60.0)
    assert turns.withheld_s == pytest.approx(0.08 - SLICE_S)
    await work(turns, "", 40, [])
    assert turns.withheld_s == 0.0


async def calls(done: list[str], *answers: "asyncio.Future[str]") -> str:
    """Wait for one answer after the other, as an SDK does."""
    for answer in answers:
        came = await answer
        done.append(came)
    return "".join(done)


@in_virtual_time
async def test_no_step_of_an_sdk_begins_at_rest() -> None:
    turns, done = Turns(clock()), list[str]()
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
    turns.rest_from(clock().monotonic() + 1.0)
    working = asyncio.create_task(turns.pace(calls(done, first, second)))
    await asyncio.sleep(0.5)
    first.set_result("a")
    await asyncio.sleep(0.6)
    second.set_result("b")
    await asyncio.sleep(10.0)
    assert done == ["a"]
    turns.go_on()
    assert await working == "ab"


@in_virtual_time
async def test_an_answer_that_came_at_rest_is_not_lost_to_a_timeout() -> None:
    turns, answer = Turns(clock()), asyncio.get_running_loop().create_future()
    turns.rest_from(clock().monotonic())
    asyncio.get_running_loop().call_later(1.0, answer.set_result, "a")
    async with asyncio.timeout(2.0):
        assert await turns.pace(calls([], answer)) == "a"


@in_virtual_time
async def test_what_is_cancelled_at_rest_waits_for_nothing_more() -> None:
    turns, done = Turns(clock()), list[str]()
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
    turns.rest_from(clock().monotonic())
    first.set_result("a")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2.0):
            await turns.pace(calls(done, first, second))
    assert (done, second.cancelled()) == (["a"], True)


@in_virtual_time
async def test_an_error_in_paced_work_is_raised() -> None:
    turns, answer = Turns(clock()), asyncio.get_running_loop().create_future()
    answer.set_exception(OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        await turns.pace(calls([], answer))
