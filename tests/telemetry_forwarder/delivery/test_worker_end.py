"""The end of a worker: what is held is sent or settled, in time, and nothing comes after."""

import asyncio
from typing import Any

import pytest

from telemetry_forwarder.clock import Deadline
from telemetry_forwarder.delivery.window import SendWindow, answered_by
from telemetry_forwarder.errors import ConnectFailed, ConnectionLost, CredentialUnavailable
from telemetry_forwarder.interfaces import Delivered, Denied, DropReason, Retry
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import Hang, ListSink, Slow, World, freeze, in_seconds, limits, record, records, run


@in_virtual_time
async def test_a_drain_delivers_what_is_held_and_ends_the_worker() -> None:
    async with World() as world:
        world.worker.offer(records(3))
        await world.worker.drain(in_seconds(1.0))
        assert world.delivered == 3
        assert world.clock.monotonic() == 1000.0
        await asyncio.sleep(0.001)
        assert world.runner is not None
        assert world.runner.done()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Hang(), "deadline"),
        (Retry(), "deadline"),
        (Denied("401"), "unauthorized"),
        (Denied("404", DropReason.WRONG_ADDRESS), "wrong_address"),
        (ConnectFailed("no such name"), "unreachable"),
        (ConnectionLost("reset"), "deadline"),
        (CredentialUnavailable("no such secret"), "secret_unreadable"),
    ],
)
@in_virtual_time
async def test_what_a_drain_cannot_deliver_is_dropped_for_its_reason(answer: Any, reason: str) -> None:
    async with World(then=answer, sink=ListSink(limits=limits(max_records=2))) as world:
        world.worker.offer(records(5))
        await world.worker.drain(in_seconds(1.0))
        assert world.dropped == {reason: 5}
        assert world.clock.monotonic() <= 1001.051
        assert world.transport.open == 0
        assert world.lines.said("5 records were not delivered", "ERROR") == 1


@in_virtual_time
async def test_a_transport_that_does_not_let_go_cannot_hold_the_drain() -> None:
    async with World() as world:

        async def stubborn(request: Any) -> Delivered:
            try:
                await asyncio.sleep(5.0)
            except asyncio.CancelledError:
                await asyncio.sleep(0.5)
            return Delivered()

        world.transport.send = stubborn  # type: ignore[method-assign]
        world.worker.offer(records(2))
        await world.worker.drain(in_seconds(1.0))
        assert world.clock.monotonic() <= 1001.1
        assert world.worker.held == 0
        await asyncio.sleep(1.0)
        world.check()
        assert (world.delivered, world.dropped) == (0, {"deadline": 2})


@in_virtual_time
async def test_hurry_sends_what_is_held_before_the_tail_has_come() -> None:
    async with World(Retry(after=20.0)) as world:
        world.worker.offer(records(1))
        await world.worker.flush(answered_by(in_seconds(2.0)))
        end = in_seconds(1.5)
        world.worker.allow(SendWindow(end, is_last=True))
        await asyncio.sleep(0.1)
        assert world.delivered == 1
        world.worker.offer(records(1, prefix="tail"))
        await world.worker.drain(end)
        assert world.delivered == 2


@in_virtual_time
async def test_shutdown_in_a_pause_gives_the_records_one_more_attempt() -> None:
    async with World(Retry(after=20.0), sink=ListSink(limits=limits(max_records=1))) as world:
        world.begin(in_seconds(60.0))
        world.worker.offer(records(2))
        await asyncio.sleep(1.0)
        await world.worker.drain(in_seconds(1.5))
        assert (world.delivered, world.dropped) == (2, {})


class Choosy(ListSink):
    """A sink that takes nothing."""

    def admits(self, record: Record) -> bool:
        return False


@in_virtual_time
async def test_what_a_sink_does_not_take_is_filtered_and_no_loss_even_after_a_drain() -> None:
    async with World(sink=Choosy()) as world:
        world.worker.offer(records(2))
        await world.worker.drain(in_seconds(1.0))
        world.worker.offer(records(3, prefix="late-"))
        assert world.dropped == {DropReason.FILTERED: 5}
        assert world.worker.statement().is_balanced()


@in_virtual_time
async def test_what_is_offered_after_a_drain_is_settled() -> None:
    """The receiver is closed last."""
    async with World() as world:
        await world.worker.drain(in_seconds(1.0))
        world.worker.offer(records(2))
        world.check()
        assert (world.worker.held, world.dropped) == (0, {"deadline": 2})


@in_virtual_time
async def test_a_drain_before_the_worker_has_run_settles_everything() -> None:
    world = World()
    world.worker.offer(records(2))
    await world.worker.drain(Deadline(world.clock.monotonic() - 1.0))
    world.check()
    assert world.dropped == {"deadline": 2}


# --- what is told at the very end -----------------------------------------------------------------------------------


@in_virtual_time
async def test_a_sink_that_is_well_is_told_of_what_was_lost() -> None:
    async with World() as world:
        world.worker.offer(records(3))
        await world.worker.drain(in_seconds(1.0))
        await world.worker.send_loss_notice(record("lost 3", id="loss"), in_seconds(0.2))
        world.check()
        assert world.transport.ids[-1] == ("loss",)
        assert (world.delivered, world.worker.held) == (4, 0)


@in_virtual_time
async def test_a_sink_that_left_records_behind_is_told_nothing() -> None:
    async with World(then=Retry()) as world:
        world.worker.offer(records(3))
        await world.worker.drain(in_seconds(1.0))
        sent = len(world.transport.sent)
        await world.worker.send_loss_notice(record("lost 3"), in_seconds(0.2))
        assert len(world.transport.sent) == sent
        assert world.dropped == {"deadline": 3}


@pytest.mark.parametrize(
    ("answer", "reason"), [(Hang(), "deadline"), (Retry(), "deadline"), (ValueError("a bug"), "sink_failed")]
)
@in_virtual_time
async def test_what_cannot_be_told_is_counted_in_time(answer: Any, reason: str) -> None:
    async with World(then=answer) as world:
        await world.worker.drain(in_seconds(1.0))
        await world.worker.send_loss_notice(record("lost 3"), in_seconds(0.2))
        world.check()
        assert (world.worker.held, world.dropped) == (0, {reason: 1})
        assert world.clock.monotonic() <= 1000.2 + 1e-6
        assert world.transport.open == 0


@in_virtual_time
async def test_what_cannot_even_be_encoded_is_counted_too() -> None:
    async with World() as world:
        await world.worker.drain(in_seconds(1.0))
        await world.worker.send_loss_notice(record("inexpressible"), in_seconds(0.2))
        world.check()
        assert world.dropped == {"unencodable": 1}


@in_virtual_time
async def test_request_that_hung_before_the_drain_is_tried_again_within_it() -> None:
    """Its connection may have died with an outage that is long over; it gets a third of the window for its answer."""
    async with World(Hang()) as world:
        world.worker.offer(records(3))
        await world.worker.flush(answered_by(in_seconds(0.5)))
        assert world.delivered == 0
        began = world.clock.monotonic()
        await world.worker.drain(in_seconds(1.0))
        assert (world.delivered, world.dropped) == (3, {})
        assert world.clock.monotonic() - began == pytest.approx(1 / 3, abs=0.01)
        assert world.transport.open == 0


@in_virtual_time
async def test_request_that_is_answered_within_a_third_of_the_drain_is_sent_once() -> None:
    async with World(Slow(0.8)) as world:
        world.worker.offer(records(3))
        await world.worker.flush(answered_by(in_seconds(0.5)))
        await world.worker.drain(in_seconds(1.0))
        assert world.delivered == 3
        assert len(world.transport.sent) == 1


def test_drain_of_much_with_little_of_a_processor_is_over_in_time() -> None:
    """The event loop stands still while a batch is made; so none is begun that might not be over in time."""

    class SlowSink(ListSink):
        def encode(self, record: Any) -> Any:
            freeze(0.05)
            return super().encode(record)

    async def main() -> None:
        async with World(sink=SlowSink(limits=limits(max_records=2)), then=Slow(0.01)) as world:
            world.worker.offer(records(100))
            await world.worker.drain(in_seconds(2.0))
            assert world.clock.monotonic() <= 1002.0
            assert world.delivered >= 20
            assert world.delivered + world.dropped["deadline"] == 100

    run(main())
