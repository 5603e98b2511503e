"""A bad record costs itself; a destination that refuses everything is left alone, and nothing is lost by it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_forwarder.delivery.refusals import CONVINCED, MOST_TOKENS, SUSPICIOUS, Refusals
from telemetry_forwarder.delivery.window import CLOSED, answered_by
from telemetry_forwarder.interfaces import Delivered, DropReason, Partial, Rejected, TooLarge, Verdict
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import ListSink, ManualClock, ScriptedTransport, Sent, World, in_seconds, limits, records


class Picky(ScriptedTransport):
    """A destination that judges each request by its ids."""

    judge: Callable[[tuple[str, ...]], Verdict] = staticmethod(lambda ids: Delivered())

    async def send(self, request: Sent) -> Any:
        await super().send(request)
        return self.judge(request.ids)

    @property
    def records_sent(self) -> int:
        return sum(len(ids) for ids in self.ids)


def pick(world: World, judge: Callable[[tuple[str, ...]], Verdict]) -> Picky:
    """Let the world's destination judge."""
    world.transport.__class__ = Picky
    transport: Any = world.transport
    transport.judge = judge
    return transport


def all_or_nothing(*bad: str, how: Verdict = Rejected("bad")) -> Callable[[tuple[str, ...]], Verdict]:  # noqa: B008
    return lambda ids: how if {*ids} & {*bad} else Delivered()


def as_a_stream(*bad: str) -> Callable[[tuple[str, ...]], Verdict]:
    """As HEC reads: what stands before the bad record is taken, what stands behind it is not looked at."""

    def judge(ids: tuple[str, ...]) -> Verdict:
        found = next((place for place, one in enumerate(ids) if one in bad), None)
        if found is None:
            return Delivered()
        return Partial(tuple(range(found + 1, len(ids))), {found: DropReason.REJECTED})

    return judge


@pytest.mark.parametrize("bad", [("r0",), ("r500",), ("r999",), ("r3", "r4"), ("r0", "r999")])
@pytest.mark.parametrize("reader", [all_or_nothing, as_a_stream])
@in_virtual_time
async def test_bad_records_among_good_ones_are_found_and_only_they_are_lost(bad: tuple[str, ...], reader: Any) -> None:
    async with World(sink=ListSink(limits=limits(max_records=1000, max_bytes=1_000_000))) as world:
        transport = pick(world, reader(*bad))
        world.worker.offer(records(1000))
        await world.worker.flush(answered_by(in_seconds(0.5)))
        assert (world.delivered, world.dropped) == (1000 - len(bad), {"rejected": len(bad)})
        assert len(transport.sent) <= 25 * len(bad)
        assert transport.records_sent <= 1000 * (1 + 2 * len(bad)) + len(transport.sent)


@pytest.mark.parametrize(
    "refusal",
    [
        lambda ids: Rejected("HTTP 400"),
        lambda ids: TooLarge("HTTP 413"),
        lambda ids: Partial(tuple(range(1, len(ids))), {0: DropReason.REJECTED}, detail="HTTP 400, code 6"),
    ],
)
@in_virtual_time
async def test_a_destination_that_refuses_everything_costs_little_and_loses_nothing_once_it_is_mended(
    refusal: Any,
) -> None:
    async with World(sink=ListSink(limits=limits(max_records=1000, max_bytes=1_000_000))) as world:
        transport = pick(world, refusal)
        held = []
        for number in range(8):
            world.begin(in_seconds(3.0))
            world.worker.offer(records(400, prefix=f"{number}-"))
            before = world.clock.monotonic()
            await world.worker.flush(answered_by(in_seconds(0.5)))
            held.append(world.clock.monotonic() - before)
            world.worker.allow(CLOSED)
            await asyncio.sleep(1.0)
        assert (world.delivered, world.dropped, world.worker.held) == (0, {}, 3200)
        assert len(transport.sent) <= CONVINCED
        assert transport.records_sent <= 3 * 400 + CONVINCED
        assert held[1:] == [0.0] * 7
        assert world.lines.said("takes nothing that is sent", "WARN") == 1
        assert world.lines.said("delivering again") == 0
        transport.judge = lambda ids: Delivered()
        await world.worker.drain(in_seconds(1.55))
        assert (world.delivered, world.dropped) == (3200, {})
        assert world.lines.said("delivering again") == 1


@in_virtual_time
async def test_a_destination_that_begins_to_refuse_everything_is_left_alone_too() -> None:
    async with World() as world:
        transport = pick(world, all_or_nothing())
        world.worker.offer(records(5))
        await world.worker.flush(answered_by(in_seconds(0.5)))
        transport.judge = lambda ids: Rejected("HTTP 400")
        world.worker.offer(records(50, prefix="held"))
        await world.worker.flush(answered_by(in_seconds(0.5)))
        assert (world.delivered, world.dropped, world.worker.held) == (5, {}, 50)
        assert not world.worker.is_worth_waiting_for(in_seconds(0.5))


@in_virtual_time
async def test_what_is_refused_to_the_end_is_dropped_for_that_reason() -> None:
    async with World() as world:
        pick(world, lambda ids: Rejected("HTTP 400"))
        world.worker.offer(records(50))
        await world.worker.flush(answered_by(in_seconds(0.5)))
        await world.worker.drain(in_seconds(1.55))
        assert world.dropped == {"rejected": 50}


@in_virtual_time
async def test_one_record_that_is_refused_is_held_until_another_is_taken() -> None:
    async with World() as world:
        transport = pick(world, all_or_nothing("bad0"))
        world.worker.offer(records(1, prefix="bad"))
        await world.worker.flush(answered_by(in_seconds(0.5)))
        assert (world.worker.held, world.dropped) == (1, {})
        assert world.worker.is_worth_waiting_for(in_seconds(0.5)), "one refusal says nothing of the destination"
        world.worker.offer(records(3, prefix="good"))
        await world.worker.flush(answered_by(in_seconds(0.5)))
        assert (world.delivered, world.dropped) == (3, {"rejected": 1})
        assert transport.ids == [("bad0",), ("good0", "good1", "good2"), ("bad0",)]


@in_virtual_time
async def test_one_record_that_is_the_only_one_and_refused_is_asked_for_seldom() -> None:
    async with World() as world:
        transport = pick(world, all_or_nothing("bad0"))
        world.worker.offer(records(1, prefix="bad"))
        for _ in range(100):
            await world.worker.flush(answered_by(in_seconds(0.5)))
            await asyncio.sleep(1.0)
        assert len(transport.sent) <= SUSPICIOUS + 5
        await world.worker.drain(in_seconds(1.55))
        assert world.dropped == {"rejected": 1}


@in_virtual_time
async def test_a_bad_record_does_not_keep_good_ones_from_being_tried() -> None:
    """Held as the only one, it is not what the destination is judged by when others come."""
    async with World() as world:
        pick(world, all_or_nothing("bad0"))
        world.worker.offer(records(1, prefix="bad"))
        for _ in range(5):
            await world.worker.flush(answered_by(in_seconds(0.5)))
        for number in range(20):
            world.begin(in_seconds(3.0))
            world.worker.offer(records(2, prefix=f"good{number}-"))
            await asyncio.sleep(0.1)
            await world.worker.flush(answered_by(in_seconds(0.5)))
            world.worker.allow(CLOSED)
            await asyncio.sleep(31.0)
        assert (world.delivered, world.dropped) == (40, {"rejected": 1})


@settings(max_examples=60, deadline=None)
@given(
    bad=st.sets(st.integers(0, 63), max_size=64),
    is_stream=st.booleans(),
    mended_after=st.integers(0, 30),
)
@in_virtual_time
async def test_whatever_is_bad_no_good_record_is_lost(bad: set[int], is_stream: bool, mended_after: int) -> None:
    """While the environment lives, and as long as a destination has time to be asked in."""
    async with World(sink=ListSink(limits=limits(max_records=16))) as world:
        names = [f"r{number}" for number in bad]
        judge = (as_a_stream if is_stream else all_or_nothing)(*names)
        transport = pick(world, lambda ids: Rejected("all") if len(transport.sent) <= mended_after else judge(ids))
        world.worker.offer(records(64))
        for _ in range(200):
            world.begin(in_seconds(30.0))
            await asyncio.sleep(0.1)
            await world.worker.flush(answered_by(in_seconds(5.0)))
            world.worker.allow(CLOSED)
            await asyncio.sleep(31.0)
        if len(bad) < 64 and len(transport.sent) > mended_after:
            assert world.delivered == 64 - len(bad)
        assert world.dropped.get("rejected", 0) <= len(bad)
        world.check()


def test_splitting_has_a_pace() -> None:
    clock = ManualClock()
    refusals = Refusals(clock)
    refusals.refused(is_last=False)
    refusals.taken()
    spent = 1
    while not refusals.pause:
        refusals.refused(is_last=False)
        spent += 1
    assert spent == MOST_TOKENS
    assert not refusals.is_total, "something was taken meanwhile"
    assert refusals.pause == pytest.approx(0.2)
    clock.pass_by(0.2)
    assert refusals.pause == pytest.approx(0.0)
