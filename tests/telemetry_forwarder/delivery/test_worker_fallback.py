"""What a sink does not take at the end goes to the fallback: each record in one place, the books right."""

import asyncio
from collections.abc import Sequence

import pytest

from telemetry_forwarder.clock import Deadline
from telemetry_forwarder.delivery.window import answered_by
from telemetry_forwarder.interfaces import Denied, Retry
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import Hang, Slow, World, in_seconds, record, records


class Shelf:
    """A fallback that takes `room` records and needs `seconds` for it."""

    def __init__(self, room: int = 10_000, seconds: float = 0.1) -> None:
        self.room = room
        self.seconds = seconds
        self.taken: list[str] = []
        self.sinks: list[str] = []
        self.warmed_at: list[float] = []

    def warm(self) -> None:
        self.warmed_at.append(asyncio.get_running_loop().time() - 1000.0)

    async def store(self, sink: str, given: Sequence[Record], deadline: Deadline) -> list[Record]:
        self.sinks.append(sink)
        await asyncio.sleep(min(self.seconds, max(0.0, deadline.at - asyncio.get_running_loop().time())))
        taken = given[: self.room]
        self.room -= len(taken)
        self.taken += [one.id for one in taken]
        return list(given[len(taken) :])


@in_virtual_time
async def test_everything_that_is_held_is_stored_and_counted_as_spilled() -> None:
    """From each place that a record can be in: the open batch, the one that did not fit it, the buffer."""
    shelf = Shelf()
    async with World(then=Retry(), fallback=shelf) as world:
        world.worker.offer([record("x" * 4000, id=f"r{number}") for number in range(8)])
        await world.worker.drain(in_seconds(1.0), in_seconds(1.5))
        world.check()
        statement = world.worker.statement()
    assert shelf.taken == [f"r{number}" for number in range(8)]
    assert shelf.sinks == ["list"]
    assert (statement.spilled, statement.held, statement.dropped) == (8, 0, {})
    assert statement.lost == 0
    assert not world.lines.said("were not delivered", "ERROR")


@in_virtual_time
async def test_what_the_fallback_does_not_take_is_dropped_and_said() -> None:
    shelf = Shelf(room=3)
    async with World(then=Hang(), fallback=shelf) as world:
        world.worker.offer(records(5))
        await world.worker.drain(in_seconds(1.0), in_seconds(1.5))
        statement = world.worker.statement()
    assert shelf.taken == ["r0", "r1", "r2"]
    assert (statement.spilled, world.dropped) == (3, {"deadline": 2})
    assert world.lines.said("2 records were not delivered", "ERROR") == 1


@in_virtual_time
async def test_what_comes_while_it_stores_is_stored_too() -> None:
    shelf = Shelf(seconds=0.2)
    async with World(then=Hang(), fallback=shelf) as world:
        world.worker.offer(records(2))
        async with asyncio.TaskGroup() as group:
            group.create_task(world.worker.drain(in_seconds(1.0), in_seconds(1.8)))
            await asyncio.sleep(1.05)
            world.worker.offer(records(2, prefix="late"))
        statement = world.worker.statement()
    assert shelf.taken == ["r0", "r1", "late0", "late1"]
    assert (statement.offered, statement.spilled, statement.held) == (4, 4, 0)


@in_virtual_time
async def test_the_fallback_never_takes_longer_than_its_share() -> None:
    shelf = Shelf(room=0, seconds=60.0)
    async with World(then=Retry(), fallback=shelf) as world:
        world.worker.offer(records(2))
        end = in_seconds(1.5)
        await world.worker.drain(in_seconds(1.0), end)
        assert world.clock.monotonic() <= end.at + 1e-6
    assert world.dropped == {"deadline": 2}


@in_virtual_time
async def test_a_refused_credential_leaves_the_fallback_the_whole_rest() -> None:
    shelf = Shelf()
    async with World(then=Denied("token"), fallback=shelf) as world:
        world.worker.offer(records(2))
        await world.worker.drain(in_seconds(1.0), in_seconds(1.5))
        assert world.clock.monotonic() < 1000.5
    assert shelf.taken == ["r0", "r1"]


@in_virtual_time
async def test_a_healthy_sink_wants_nothing_of_the_fallback() -> None:
    shelf = Shelf()
    async with World(fallback=shelf) as world:
        world.worker.offer(records(50))
        await world.worker.drain(in_seconds(1.0), in_seconds(1.5))
    assert world.delivered == 50
    assert shelf.warmed_at == []
    assert shelf.sinks == []


@pytest.mark.parametrize(("answers", "by_s"), [(Hang(), 0.5), (Retry(), 0.5)], ids=["hangs", "unwell"])
@in_virtual_time
async def test_the_fallback_is_warmed_when_a_sink_is_first_in_trouble(answers: object, by_s: float) -> None:
    """Long before SHUTDOWN, so that it is there in time; at the first flush that ends without an answer, or with a
    breaker that is open.
    """
    shelf = Shelf()
    async with World(then=answers, fallback=shelf) as world:
        world.worker.offer(records(1))
        for _ in range(5):
            await world.worker.flush(answered_by(in_seconds(by_s)))
        assert shelf.warmed_at
        assert shelf.warmed_at[0] <= 5 * by_s


@in_virtual_time
async def test_trouble_that_begins_at_the_end_warms_it_beside_the_last_attempt() -> None:
    shelf = Shelf()
    async with World(then=Slow(0.9), fallback=shelf) as world:
        world.worker.offer(records(1))
        await world.worker.drain(in_seconds(1.0), in_seconds(1.5))
    assert shelf.warmed_at == [pytest.approx(0.15)]
    assert world.delivered == 1
    assert shelf.taken == []
