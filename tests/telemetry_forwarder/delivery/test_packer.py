"""However long encoding takes, a hold ends when it is due, the rest stays held, and no sink waits for another."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from telemetry_forwarder.delivery.packer import LONGEST_PACK_S
from telemetry_forwarder.delivery.window import CLOSED, answered_by
from telemetry_forwarder.delivery.worker import Capacity, Worker
from telemetry_forwarder.interfaces import Delivered, Encoded, Retry
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from telemetry_forwarder.turns import SLICE_S, Turns
from tests.builders import (
    Lines,
    ListSink,
    ScriptedTransport,
    Slow,
    World,
    all_ids,
    clock,
    freeze,
    in_seconds,
    limits,
    records,
)


@dataclass
class CostlySink(ListSink):
    """A sink on a small function: each record takes `costs_s` of the processor."""

    costs_s: float = 0.001
    encodings: int = 0

    def encode(self, record: Record) -> Encoded:
        self.encodings += 1
        freeze(self.costs_s)
        return super().encode(record)


@in_virtual_time
async def test_a_flush_ends_at_its_deadline_whatever_is_half_done_and_the_rest_stays_held() -> None:
    sink = CostlySink(limits=limits(max_records=10_000, max_bytes=10**6))
    async with World(sink=sink) as world:
        world.worker.offer(records(4000))
        await world.worker.flush(answered_by(in_seconds(0.5)))
        world.worker.allow(CLOSED)
        assert world.clock.monotonic() <= 1000.5 + SLICE_S + 0.001
        assert 200 <= world.delivered <= 500
        assert world.delivered + world.worker.held == 4000
        await asyncio.sleep(60.0)
        assert world.delivered + world.worker.held == 4000
        world.begin(in_seconds(60.0))
        await world.worker.wait_idle()
        assert world.delivered == 4000
        assert sink.encodings == 4000
        assert all_ids(world.transport.ids) == [f"r{n}" for n in range(4000)]


@in_virtual_time
async def test_a_flush_without_time_begins_nothing_and_does_not_blame_the_destination() -> None:
    async with World(sink=CostlySink(limits=limits(max_records=10_000), costs_s=0.01)) as world:
        world.worker.offer(records(90))
        await world.worker.flush(answered_by(in_seconds(0.0)))
        assert world.transport.sent == []
        assert not world.lines.written
        assert world.worker.is_worth_waiting_for(in_seconds(0.5))


@in_virtual_time
async def test_what_takes_long_to_pack_is_sent_in_time_although_more_would_fit() -> None:
    async with World(sink=CostlySink(limits=limits(max_records=10_000, max_bytes=10**6))) as world:
        world.worker.offer(records(1000))
        world.begin(in_seconds(60.0))
        world.worker.nudge()
        await world.worker.wait_idle()
        sizes = [len(ids) for ids in world.transport.ids]
        assert sum(sizes) == 1000
        assert max(sizes) <= (LONGEST_PACK_S + SLICE_S) / 0.001 + 1


@in_virtual_time
async def test_a_full_batch_is_sent_full_where_packing_takes_no_time() -> None:
    async with World(sink=ListSink(limits=limits(max_records=3000, max_bytes=10**6))) as world:
        world.worker.offer(records(7000))
        await world.worker.flush(answered_by(in_seconds(0.5)))
        assert [len(ids) for ids in world.transport.ids] == [3000, 3000, 1000]


@pytest.mark.parametrize("seconds", [0.5, 2.0])
@in_virtual_time
async def test_one_sinks_work_does_not_keep_another_waiting(seconds: float) -> None:
    turns, lines = Turns(clock()), Lines()
    slow = CostlySink(name="slow", limits=limits(max_records=10_000, max_bytes=10**6))
    workers, transports = [], []
    for sink in (slow, ListSink(name="fast")):
        transports.append(ScriptedTransport(clock=clock()))
        capacity = Capacity(max_records=10_000, max_bytes=10**7)
        workers.append(Worker(sink, transports[-1], capacity=capacity, clock=clock(), log=lines.log, turns=turns))
    running = [asyncio.ensure_future(worker.run()) for worker in workers]
    for worker, count in zip(workers, (5000, 5), strict=True):
        worker.offer(records(count))
    await asyncio.gather(*(worker.flush(answered_by(in_seconds(seconds))) for worker in workers))
    assert transports[1].times[0] <= 3 * SLICE_S
    assert clock().monotonic() <= 1000.0 + seconds + SLICE_S + 0.001
    for task in running:
        task.cancel()
    await asyncio.wait(running)


@in_virtual_time
async def test_at_the_end_the_next_batch_is_packed_while_the_one_before_is_under_way() -> None:
    """A backend that takes 0.2 s to answer, and a processor that takes as long to pack: both at once."""
    sink = CostlySink(limits=limits(max_records=100), costs_s=0.002)
    async with World(sink=sink, then=Slow(0.2)) as world:
        world.worker.offer(records(700))
        await world.worker.drain(in_seconds(2.0))
        assert world.delivered == 700
        assert world.clock.monotonic() <= 1001.8  # one after the other it would be 2.8 s


@in_virtual_time
async def test_at_the_end_the_whole_window_is_used() -> None:
    async with World(sink=CostlySink(limits=limits(max_records=10_000, max_bytes=10**6))) as world:
        world.worker.offer(records(4000))
        await world.worker.drain(in_seconds(1.5))
        assert world.clock.monotonic() <= 1001.5 + 0.05
        assert world.transport.times[-1] >= 1.4
        assert world.delivered >= 1300
        assert world.delivered + world.dropped["deadline"] == 4000


@pytest.mark.parametrize("answer", [Retry(), Retry(after=0.2)])
@in_virtual_time
async def test_what_was_packed_ahead_is_counted_whatever_comes_of_the_batch_before(answer: Any) -> None:
    async with World(Slow(0.1, answer), then=Delivered(), sink=CostlySink(limits=limits(max_records=50))) as world:
        world.worker.offer(records(500))
        await world.worker.drain(in_seconds(2.0))
        assert world.delivered == 500
        assert world.checks > 10
