"""The one task of a sink: its books balance at every await point, and nothing it waits for is unbounded."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_forwarder.delivery.retry import PIECES_AT_LAST, TRIES_AT_LAST
from telemetry_forwarder.delivery.window import CLOSED, SendWindow, answered_by
from telemetry_forwarder.errors import ConnectFailed, ConnectionLost, TimedOut
from telemetry_forwarder.interfaces import Delivered, Denied, DropReason, Partial, Rejected, Retry, TooLarge
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import (
    Bug,
    Hang,
    ListSink,
    Slow,
    World,
    all_ids,
    freeze,
    in_seconds,
    limits,
    record,
    records,
)

# Pieces beside each other, and of each what was under way before, a copy of it, and the tries of the end.
MOST_OPEN_AT_LAST = PIECES_AT_LAST * (3 + TRIES_AT_LAST)

ANSWERS = st.sampled_from(
    [
        Delivered(), Delivered("careful"), Retry(), Retry(after=1.0), Retry(after=300.0), Rejected("bad"), TooLarge(),
        Denied("401"), Partial(retry=(0,)), Partial((0, 2), {1: DropReason.TOO_OLD}), Partial(tuple(range(50))),
        ConnectFailed("x"), ConnectionLost("x"), TimedOut("x"), Bug(), ValueError("bug"), Hang(), Slow(0.5), Slow(3.0),
        Slow(30.0, Retry()), Slow(2.0, ConnectionLost("x")),
    ]
)  # fmt: skip
BODIES = st.sampled_from(
    ["hello"] * 6 + ["x" * 90, "x" * 200, "inexpressible", "bug in encode", "nothing encoded", "bug in request"]
)
STEPS = st.one_of(
    st.tuples(st.just("offer"), st.lists(BODIES, min_size=1, max_size=8)),
    st.tuples(st.just("flush"), st.sampled_from([0.0, 0.5, 2.0])),
    st.tuples(st.just("begin"), st.sampled_from([0.0, 1.0, 30.0])),
    st.tuples(st.just("freeze"), st.sampled_from([0.0, 5.0])),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 0.3, 4.0])),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ANSWERS, max_size=8), ANSWERS, st.lists(STEPS, max_size=10), st.booleans())
@in_virtual_time
async def test_the_books_balance_at_every_await_point_and_nothing_is_held_after_a_drain(
    script: list[Any], then: Any, steps: list[tuple[str, Any]], hurries: bool
) -> None:
    sink = ListSink(limits=limits(max_records=5, max_bytes=100, overhead_bytes=2, framing_bytes=4))
    async with World(*script, then=then, sink=sink, capacity=12) as world:
        worker, offered = world.worker, 0
        for verb, how in steps:
            if verb == "offer":
                worker.offer([record(body, id=f"{offered + n}") for n, body in enumerate(how)])
                offered += len(how)
            elif verb == "flush":
                before = world.clock.monotonic()
                await worker.flush(answered_by(in_seconds(how)))
                assert world.clock.monotonic() <= before + how + 1e-6
            elif verb == "begin":
                world.begin(in_seconds(how))
            elif verb == "freeze":
                worker.allow(CLOSED)
                await asyncio.sleep(how)
            else:
                await asyncio.sleep(how)
            world.check()
        send_until = in_seconds(1.5)
        if hurries:
            worker.allow(SendWindow(send_until, is_last=True))
            worker.offer(records(2, prefix="late"))
            offered += 2
            await asyncio.sleep(0.4)
        assert world.transport.most_open <= 3 or hurries
        await worker.drain(send_until)
        assert world.clock.monotonic() <= send_until.at + 0.051
        world.check()
        assert worker.held == 0
        assert worker.statement().offered == offered
        sent = len(world.transport.sent)
        worker.offer(records(1, prefix="too late"))
        await asyncio.sleep(60.0)
        world.check()
        assert worker.held == 0
        assert len(world.transport.sent) == sent
        assert all(at < send_until.at for at, _ in world.transport.sent)
        assert world.transport.open == 0
        assert world.transport.most_open <= MOST_OPEN_AT_LAST


# --- flushing -------------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_a_flush_sends_everything_in_order_and_in_as_few_requests_as_the_limits_allow() -> None:
    async with World(sink=ListSink(limits=limits(max_records=3))) as world:
        world.worker.offer(records(7))
        await world.worker.flush(answered_by(in_seconds(2.0)))
        assert [len(ids) for ids in world.transport.ids] == [3, 3, 1]
        assert all_ids(world.transport.ids) == [f"r{n}" for n in range(7)]
        assert world.delivered == 7
        assert world.clock.monotonic() == 1000.0
        assert world.checks > 0


@in_virtual_time
async def test_nothing_is_sent_before_it_is_allowed() -> None:
    """Before the first event there is no deadline to keep."""
    async with World(sink=ListSink(limits=limits(max_records=1))) as world:
        world.worker.offer(records(5))
        await asyncio.sleep(10.0)
        assert world.transport.sent == []


@in_virtual_time
async def test_a_flush_with_nothing_held_returns_at_once() -> None:
    async with World() as world:
        await world.worker.flush(answered_by(in_seconds(2.0)))
        assert world.clock.monotonic() == 1000.0
        assert world.transport.sent == []


@in_virtual_time
async def test_a_flush_returns_at_its_deadline_while_the_attempt_lives_on() -> None:
    async with World(Slow(5.0)) as world:
        world.worker.offer(records(2))
        await world.worker.flush(answered_by(in_seconds(0.5)))
        assert world.clock.monotonic() == pytest.approx(1000.5)
        assert (world.transport.open, world.worker.held) == (1, 2)
        await asyncio.sleep(5.0)
        assert world.delivered == 2
        assert len(world.transport.sent) == 1


@in_virtual_time
async def test_an_attempt_that_lived_on_through_a_freeze_is_not_repeated() -> None:
    async with World(Slow(5.0)) as world:
        world.worker.offer(records(1))
        await world.worker.flush(answered_by(in_seconds(0.5)))
        world.worker.allow(CLOSED)
        freeze(600.0)  # the answer comes as the environment thaws
        world.begin(in_seconds(60.0))
        await asyncio.sleep(0.01)
        world.worker.offer(records(1, prefix="next"))
        await world.worker.flush(answered_by(in_seconds(2.0)))
        assert world.transport.ids == [("r0",), ("next0",)]
        assert world.delivered == 2


@in_virtual_time
async def test_a_frozen_worker_starts_nothing() -> None:
    async with World(Slow(1.0), sink=ListSink(limits=limits(max_records=1))) as world:
        world.worker.offer(records(3))
        await world.worker.flush(answered_by(in_seconds(0.5)))
        world.worker.allow(CLOSED)
        await asyncio.sleep(5.0)
        assert len(world.transport.sent) == 1
        assert (world.delivered, world.worker.held) == (1, 2)


@in_virtual_time
async def test_a_failed_flush_returns_when_no_further_attempt_fits() -> None:
    """Waiting on until the deadline would only make the invocation longer."""
    async with World(Retry(after=60.0)) as world:
        world.worker.offer(records(2))
        await world.worker.flush(answered_by(in_seconds(2.0)))
        assert world.clock.monotonic() == 1000.0
        assert world.worker.held == 2


@in_virtual_time
async def test_a_flush_does_not_wait_for_a_pause_that_does_not_fit() -> None:
    """A batch that was sent early and is to wait for 20 s must not hold the end of the invocation open."""
    async with World(Retry(after=20.0), sink=ListSink(limits=limits(max_records=1))) as world:
        world.begin(in_seconds(60.0))
        world.worker.offer(records(2))
        await asyncio.sleep(1.0)
        await world.worker.flush(answered_by(in_seconds(2.0)))
        assert world.clock.monotonic() == pytest.approx(1001.0)


@in_virtual_time
async def test_an_unwell_sink_is_skipped_at_the_next_flush() -> None:
    async with World(Retry(after=20.0)) as world:
        world.worker.offer(records(1))
        await world.worker.flush(answered_by(in_seconds(2.0)))
        await asyncio.sleep(5.0)
        await world.worker.flush(answered_by(in_seconds(2.0)))
        assert len(world.transport.sent) == 1
        assert world.clock.monotonic() == pytest.approx(1005.0)
        await asyncio.sleep(16.0)
        await world.worker.flush(answered_by(in_seconds(2.0)))
        assert world.delivered == 1


@in_virtual_time
async def test_a_drain_tries_an_unwell_sink_once_more() -> None:
    async with World(Denied("401")) as world:
        world.worker.offer(records(1))
        await world.worker.flush(answered_by(in_seconds(2.0)))
        await world.worker.drain(in_seconds(1.5))
        assert (world.delivered, world.dropped) == (1, {})
        assert world.transport.times == [0.0, 0.0]


@in_virtual_time
async def test_a_sink_that_is_well_again_says_so_once() -> None:
    async with World(Retry(), Retry(), Delivered(), Delivered()) as world:
        for _ in range(2):
            world.worker.offer(records(1))
            await world.worker.flush(answered_by(in_seconds(2.0)))
        assert world.lines.said("delivering again") == 1
        assert world.lines.said("come back later", "WARN") == 1


# --- filling up -----------------------------------------------------------------------------------------------------


@in_virtual_time
async def test_more_than_one_requests_worth_is_sent_early() -> None:
    async with World(sink=ListSink(limits=limits(max_records=3))) as world:
        world.begin(in_seconds(60.0))
        world.worker.offer(records(3))
        await asyncio.sleep(1.0)
        assert world.transport.sent == []
        world.worker.offer(records(1, prefix="more"))
        await asyncio.sleep(1.0)
        assert world.delivered == 4


@in_virtual_time
async def test_more_bytes_than_a_request_holds_are_sent_early() -> None:
    async with World(sink=ListSink(limits=limits(max_bytes=250))) as world:
        world.begin(in_seconds(60.0))
        world.worker.offer(records(3))
        await asyncio.sleep(1.0)
        assert world.delivered == 3


@in_virtual_time
async def test_a_buffer_smaller_than_a_request_is_sent_early_too() -> None:
    """A function of 128 MB holds less than the 10,000 records of a request, so a full request never comes together."""
    async with World(sink=ListSink(limits=limits(max_records=100)), capacity=10) as world:
        world.begin(in_seconds(60.0))
        for batch in range(10):
            world.worker.offer(records(4, prefix=f"b{batch}-"))
            await asyncio.sleep(0.1)
        await world.worker.flush(answered_by(in_seconds(1.0)))
        assert (world.delivered, world.dropped) == (40, {})


@in_virtual_time
async def test_a_full_buffer_drops_the_oldest_and_counts_them() -> None:
    async with World(capacity=4) as world:
        world.worker.offer(records(10))
        assert world.dropped == {"buffer_full": 6}
        assert world.worker.held == 4
        await world.worker.flush(answered_by(in_seconds(1.0)))
        assert world.transport.ids == [("r6", "r7", "r8", "r9")]
        assert world.lines.said("buffer is full", "WARN") == 1


@in_virtual_time
async def test_a_slow_sink_does_not_delay_another() -> None:
    async with World(then=Hang()) as slow, World() as quick:
        same = records(3)
        for world in (slow, quick):
            world.worker.offer(same)
        flushes = [asyncio.ensure_future(world.worker.flush(answered_by(in_seconds(2.0)))) for world in (slow, quick)]
        await asyncio.wait_for(flushes[1], 0.001)
        assert (quick.delivered, slow.delivered) == (3, 0)
        await flushes[0]
        assert slow.worker.held == 3


# --- records that cannot be sent ------------------------------------------------------------------------------------


@in_virtual_time
async def test_each_record_that_cannot_be_encoded_is_dropped_alone() -> None:
    async with World() as world:
        bodies = ["a", "inexpressible", "bug in encode", "nothing encoded", "x" * 20_000, "b"]
        world.worker.offer([record(body, id=body[:1]) for body in bodies])
        await world.worker.flush(answered_by(in_seconds(1.0)))
        assert world.transport.ids == [("a", "b")]
        assert world.dropped == {"unencodable": 1, "sink_failed": 2, "oversize": 1}


@in_virtual_time
async def test_oversize_counts_overhead_and_framing() -> None:
    sink = ListSink(limits=limits(max_bytes=20, overhead_bytes=3, framing_bytes=2))
    async with World(sink=sink) as world:
        world.worker.offer([record("x" * 15, id="fits"), record("x" * 16, id="no")])
        await world.worker.flush(answered_by(in_seconds(1.0)))
        assert world.transport.ids == [("fits",)]
        assert world.dropped == {"oversize": 1}


@in_virtual_time
async def test_records_older_than_the_destination_takes_are_dropped_and_said() -> None:
    async with World(sink=ListSink(limits=limits(max_age_ms=60_000))) as world:
        now_ms = world.clock.epoch_ms()
        world.worker.offer([record(id="old", time_ms=now_ms - 60_001), record(id="just", time_ms=now_ms - 60_000)])
        await world.worker.flush(answered_by(in_seconds(1.0)))
        assert world.transport.ids == [("just",)]
        assert world.dropped == {"too_old": 1}


@in_virtual_time
async def test_a_worker_shows_its_state_and_its_counts() -> None:
    async with World(Slow(0.5)) as world:
        assert repr(world.worker) == (
            "<Worker list: idle, 0 in memory, 0 on disk, 0 packed, 0 leaving, "
            "<0 outstanding in 0 pieces, 0 of them refused, 0 under way, 0 failures in a row>>"
        )
        world.worker.offer(records(3))
        world.worker.allow(SendWindow(in_seconds(2.0), is_last=True))
        await asyncio.sleep(0.1)
        assert "sending, 0 in memory" in repr(world.worker)
        assert "3 outstanding in 1 pieces, 0 of them refused, 1 under way for the last time" in repr(world.worker)
        await world.worker.drain(in_seconds(2.0))
        assert repr(world.worker).startswith("<Worker list: drained, 0 in memory")
