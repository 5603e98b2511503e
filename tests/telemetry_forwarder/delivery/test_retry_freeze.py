"""An attempt or a pause when the environment freezes, thaws, or ends."""

import asyncio

import pytest

from telemetry_forwarder.delivery.answer_time import AFTER_THAW_S, FIRST_S
from telemetry_forwarder.delivery.retry import THAW_S
from telemetry_forwarder.delivery.window import CLOSED, LAST_ANSWER_S, SendWindow
from telemetry_forwarder.interfaces import Delivered, Retry, Verdict
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import Hang, Slow, encoded, freeze, in_seconds
from tests.telemetry_forwarder.delivery.test_retry import DeliveryWorld


async def thawed() -> tuple[DeliveryWorld, "asyncio.Queue[Verdict]", "asyncio.Future[bool]"]:
    """Return a delivery whose request was caught by a freeze, the queue of its answers, and the delivery's end."""
    answers: asyncio.Queue[Verdict] = asyncio.Queue()
    world = DeliveryWorld()
    world.transport.send = lambda request: answers.get()  # type: ignore[method-assign]
    running = asyncio.ensure_future(world.delivery.run())
    await asyncio.sleep(0.9)
    freeze(3600.0)
    return world, answers, running


@in_virtual_time
async def test_an_answer_that_waits_after_a_freeze_is_read() -> None:
    """The attempt's timer is long overdue when the environment thaws, in the turn in which the answer is read."""
    world, answers, running = await thawed()
    answers.put_nowait(Delivered())
    assert await running
    assert world.account.attempts == 1


@in_virtual_time
async def test_an_answer_that_comes_soon_after_a_thaw_is_read_too() -> None:
    """Its request is not cut off, though another has gone out beside it, and it counts once."""
    world, answers, running = await thawed()
    asyncio.get_running_loop().call_later(AFTER_THAW_S - 0.1, answers.put_nowait, Delivered())
    world.delivery.allow(SendWindow(in_seconds(60.0)))
    await running
    assert world.account.attempts == 2
    assert world.account.delivered == 4


@in_virtual_time
async def test_an_answer_that_comes_within_the_first_moments_after_a_thaw_is_waited_for() -> None:
    world, answers, running = await thawed()
    asyncio.get_running_loop().call_later(THAW_S - 0.01, answers.put_nowait, Delivered())
    world.delivery.allow(SendWindow(in_seconds(60.0)))
    await running
    assert world.account.attempts == 1


@in_virtual_time
async def test_an_attempt_that_nobody_answers_after_a_thaw_ends_soon() -> None:
    world = DeliveryWorld(Hang(), Hang(), deadline=8000.0)
    running = asyncio.ensure_future(world.delivery.run())
    await asyncio.sleep(0.5)
    freeze(3600.0)
    assert await running
    assert world.transport.times[1] == pytest.approx(3600.5 + THAW_S)
    assert world.transport.times[2] == pytest.approx(3600.5 + AFTER_THAW_S, abs=0.2)


@in_virtual_time
async def test_an_answer_in_the_turn_in_which_time_is_up_wins() -> None:
    world = DeliveryWorld(Slow(FIRST_S), Hang(), Hang())
    assert await world.delivery.run()
    assert world.account.attempts == 3
    assert world.account.delivered == 4


@in_virtual_time
async def test_no_pace_is_learned_from_an_attempt_that_may_have_been_frozen() -> None:
    world = DeliveryWorld(Slow(7.0))
    running = asyncio.ensure_future(world.delivery.run())
    await asyncio.sleep(1.0)
    world.delivery.allow(SendWindow(in_seconds(60.0)))  # an event came
    assert await running
    assert world.delivery.answer_time.expects_answer_within(0.0)


@pytest.mark.parametrize("frozen_s", [0.0, 3600.0])
@in_virtual_time
async def test_a_last_window_cuts_a_running_attempt(frozen_s: float) -> None:
    world = DeliveryWorld(then=Hang())
    running = asyncio.ensure_future(world.delivery.run())
    await asyncio.sleep(1.0)
    freeze(frozen_s)
    world.delivery.allow(SendWindow(in_seconds(1.5), is_last=True))
    assert not await running
    assert world.clock.monotonic() == pytest.approx(1002.5 + frozen_s - LAST_ANSWER_S)
    assert world.transport.open == 0


@in_virtual_time
async def test_after_a_last_window_nothing_but_another_last_one_opens() -> None:
    """The end of the function may be told while the environment ends: nothing closes then."""
    world = DeliveryWorld(Retry())
    last = SendWindow(in_seconds(3.0), is_last=True)
    for window in (last, CLOSED, SendWindow(in_seconds(60.0)), SendWindow(linger=1.0)):
        world.delivery.allow(window)
        assert world.delivery.window is last
    assert await world.delivery.run()
    assert len(world.transport.sent) == 2


@in_virtual_time
async def test_a_last_window_bounds_attempts_that_start_later() -> None:
    world = DeliveryWorld(then=Hang(), deadline=3.0)
    world.delivery.allow(SendWindow(in_seconds(3.0), is_last=True))
    assert not await world.delivery.run()
    assert world.clock.monotonic() == pytest.approx(1003.0 - LAST_ANSWER_S)


@in_virtual_time
async def test_nothing_is_begun_whose_answer_nobody_would_read() -> None:
    """What is cut off at once may be stored all the same: sent twice, or said to be lost although it arrived."""
    world = DeliveryWorld()
    world.delivery.allow(SendWindow(in_seconds(1.0), is_last=True))
    freeze(1.0 - LAST_ANSWER_S / 2)
    assert not await world.delivery.run()
    assert (world.transport.sent, world.account.attempts, world.delivery.outstanding.held) == ([], 0, 4)


@in_virtual_time
async def test_a_pause_ends_when_the_deadline_is_moved_before_it() -> None:
    """The end of an invocation: its flush must not hold it open for a pause that will not fit."""
    world = DeliveryWorld(Retry(after=20.0))
    running = asyncio.ensure_future(world.delivery.run())
    await asyncio.sleep(1.0)
    world.delivery.allow(SendWindow(in_seconds(2.0)))
    assert not await running
    assert world.clock.monotonic() == 1001.0


@in_virtual_time
async def test_a_pause_goes_on_where_the_deadline_is_moved_behind_it() -> None:
    world = DeliveryWorld(Retry(after=20.0))
    running = asyncio.ensure_future(world.delivery.run())
    for _ in range(3):
        await asyncio.sleep(1.0)
        world.delivery.allow(SendWindow(in_seconds(30.0)))
    assert await running
    assert world.transport.times == [0.0, 20.0]


@in_virtual_time
async def test_shutdown_ends_a_pause_with_one_more_attempt() -> None:
    """What the destination asked for is worth less then than the records."""
    world = DeliveryWorld(Retry(after=20.0))
    running = asyncio.ensure_future(world.delivery.run())
    await asyncio.sleep(1.0)
    world.delivery.allow(SendWindow(in_seconds(1.5), is_last=True))
    assert await running
    assert world.transport.times == [0.0, 1.0]


@in_virtual_time
async def test_a_wait_that_is_asked_for_at_the_end_and_does_not_fit_is_cut_to_a_third_of_what_is_left() -> None:
    """One 503 with a Retry-After longer than the window must not cost what is held."""
    world = DeliveryWorld(Retry(after=20.0), Retry(after=30.0))
    world.delivery.allow(SendWindow(in_seconds(1.52), is_last=True))
    assert await world.delivery.run()
    assert world.transport.times == pytest.approx([0.0, 0.5, 0.5 + 1.0 / 3], abs=0.01)


@in_virtual_time
async def test_what_asks_for_a_pause_until_the_end_is_asked_a_few_times_more() -> None:
    world = DeliveryWorld(then=Retry(after=30.0))
    world.delivery.allow(SendWindow(in_seconds(1.52), is_last=True))
    assert not await world.delivery.run()
    assert 4 <= len(world.transport.sent) <= 9
    assert world.clock.monotonic() <= 1001.52


# What lies between an answer's first byte in the socket and the verdict, in turns of the loop, at the most.
TURNS = 12


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("starved_s", [0.0, 0.1, 0.2])
@in_virtual_time
async def test_an_answer_that_waits_in_the_socket_is_read_before_a_copy_is_begun(
    starved_s: float, is_last: bool
) -> None:
    """A small function has its share of the processor in slices: what came meanwhile is not copied when it goes on."""
    answers: asyncio.Queue[Verdict] = asyncio.Queue()

    async def send(request: object) -> Verdict:
        verdict = await answers.get()
        for _ in range(TURNS):
            await asyncio.sleep(0)
        return verdict

    world = DeliveryWorld()
    world.transport.send = send  # type: ignore[method-assign]
    if is_last:
        world.delivery.allow(SendWindow(in_seconds(3.2), is_last=True))
    running = asyncio.ensure_future(world.delivery.run())
    await asyncio.sleep(1.0 - starved_s)
    freeze(starved_s)
    answers.put_nowait(Delivered())
    assert await running
    assert (world.account.attempts, world.account.copies) == (1, 0)


HOUR_S = 3600.0


@pytest.mark.parametrize("young", [0, 1, 3])
@in_virtual_time
async def test_what_became_too_old_in_a_freeze_is_not_sent_to_be_thrown_away(young: int) -> None:
    """The destination would accept it, and nobody would count the loss."""
    world = DeliveryWorld(Retry(after=100.0), Retry(), max_age_ms=3_300_000)
    later_ms = world.clock.epoch_ms(HOUR_S)
    if young:
        world.delivery.add([encoded(id=f"y{number}", time_ms=later_ms) for number in range(young)])
        world.account.offered += young
    assert not await world.delivery.run()
    freeze(HOUR_S)
    world.delivery.allow(SendWindow(in_seconds(60.0)))
    assert await world.delivery.run()
    world.check()
    assert world.dropped == {"too_old": 4}
    assert world.account.delivered == young
    assert all(one.startswith("y") for ids in world.transport.ids[1:] for one in ids)
    assert len(world.transport.ids) == (3 if young else 1)  # the first, and what was left of all: refused, and taken


@in_virtual_time
async def test_a_part_of_a_request_may_be_too_old_and_the_rest_is_sent() -> None:
    world = DeliveryWorld(Retry(after=100.0), max_age_ms=3_300_000, count=0)
    world.account.offered = 3
    times = (world.clock.epoch_ms(), world.clock.epoch_ms(600.0), world.clock.epoch_ms(1200.0))
    world.delivery.outstanding.pieces.clear()
    world.delivery.add([encoded(id=f"r{number}", time_ms=time_ms) for number, time_ms in enumerate(times)])
    assert not await world.delivery.run()
    freeze(HOUR_S)
    world.delivery.allow(SendWindow(in_seconds(60.0)))
    assert await world.delivery.run()
    world.check()
    assert world.transport.ids == [("r0", "r1", "r2"), ("r1", "r2")]
    assert world.dropped == {"too_old": 1}


@in_virtual_time
async def test_what_is_given_the_time_of_now_is_encoded_anew_and_stays_the_same_record() -> None:
    settled: list[Record] = []
    world = DeliveryWorld(Retry(after=100.0), max_age_ms=3_300_000, redated_ms=7_000_000)
    world.delivery.outstanding._on_settled = settled.extend
    assert not await world.delivery.run()
    freeze(HOUR_S)
    world.delivery.allow(SendWindow(in_seconds(60.0)))
    assert await world.delivery.run()
    world.check()
    assert world.account.delivered == 4
    assert [one.id for one in settled] == ["r0", "r1", "r2", "r3"]
    assert {one.time_ms for one in settled} == {world.clock.epoch_ms()}


@in_virtual_time
async def test_without_a_limit_of_age_all_is_sent_again() -> None:
    world = DeliveryWorld(Retry(after=100.0))
    assert not await world.delivery.run()
    freeze(100 * HOUR_S)
    world.delivery.allow(SendWindow(in_seconds(60.0)))
    assert await world.delivery.run()
    assert world.account.delivered == 4
