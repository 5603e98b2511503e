"""The end of an invocation is seen however much waits before it; what is not digested in time is counted, or kept."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest

from telemetry_forwarder.delivery.buffer import WhenFull
from telemetry_forwarder.delivery.window import SendWindow
from telemetry_forwarder.delivery.worker import Capacity, Worker
from telemetry_forwarder.intake.inbox import Inbox
from telemetry_forwarder.intake.intake import AT_ONCE, LINE, SMALL_BYTES, Intake
from telemetry_forwarder.intake.router import Router
from telemetry_forwarder.ledger import IntakeCounts
from telemetry_forwarder.records.enrich import Enricher
from telemetry_forwarder.records.lossless_json import parse_json
from telemetry_forwarder.records.record import Event, Item, Record
from telemetry_forwarder.spool.backlog import AT_ONCE as READ_AT_ONCE
from telemetry_forwarder.spool.backlog import Backlog
from telemetry_forwarder.spool.segments import Owner
from telemetry_forwarder.spool.spool import Spool
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from telemetry_forwarder.turns import SLICE_S, Turns
from tests.builders import ORIGIN, Lines, ListSink, ScriptedTransport, clock, freeze, in_seconds, request_id, run
from tests.generations import MemoryStore

COST_S = 0.001
CAPACITY = Capacity(max_records=100_000, max_bytes=10**8)


class CostlyEnricher(Enricher):
    """A small function's: each record takes a millisecond."""

    def enrich(
        self, items: Sequence[Item], batch: str, at_once: int, gaps: Sequence[int] = ()
    ) -> Iterator[list[Record]]:
        for some in super().enrich(items, batch, at_once, gaps):
            freeze(COST_S * len(some))
            yield some


class World:
    """An inbox, the intake behind it and one worker, in virtual time."""

    def __init__(
        self, *types: str, max_bytes: int = 10**7, is_strict: bool = False, capacity: Capacity = CAPACITY
    ) -> None:
        self.counts, self.lines, self.told = IntakeCounts(), Lines(), list[tuple[float, str]]()
        self.losses: list[float] = []
        self.turns = Turns(clock())
        owner = Owner(function=ORIGIN.function_name, version=None)
        self.spool = Spool(
            MemoryStore(), owner=owner, sinks=["list"], max_bytes=10**8, clock=clock(), log=self.lines.log
        )
        self.transport = ScriptedTransport(clock=clock())
        self.backlog = Backlog(self.spool, "list", ORIGIN)
        self.worker = Worker(
            ListSink(), self.transport, capacity=capacity, clock=clock(), log=self.lines.log,
            backlog=self.backlog, turns=self.turns,
        )  # fmt: skip
        self.intake = Intake(
            enricher=CostlyEnricher(ORIGIN),
            router=Router(types or ("platform", "function"), [self.worker], self.counts),
            counts=self.counts,
            on_events=self.note,
            on_loss=lambda: self.losses.append(clock().monotonic() - 1000.0),
            clock=clock(),
            log=self.lines.log,
            spool=self.spool,
        )
        self.inbox = Inbox(
            self.intake, [self.worker], self.turns, self.lines.log, max_bytes=max_bytes, is_strict=is_strict
        )
        self.tasks = [asyncio.ensure_future(one) for one in (self.inbox.run(), self.worker.run())]

    def note(self, events: Sequence[Event]) -> None:
        self.told += [(clock().monotonic() - 1000.0, event.type) for event in events if event.type != LINE]

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


def body(*records: Any, kind: str = "function") -> bytes:
    return json.dumps([{"time": "2026-03-02T10:15:30.123Z", "type": kind, "record": one} for one in records]).encode()


def lines(count: int, word: str = "line") -> bytes:
    found = body(*(f"{word} {number}\n" for number in range(count)))
    assert len(found) > SMALL_BYTES
    return found


def ending(first: bytes) -> bytes:
    """Return `first` with the end of the invocation behind it, as Lambda sends it."""
    end = body({"requestId": request_id(1), "status": "success"}, kind="platform.runtimeDone")
    return first[:-1] + b"," + end[1:]


@in_virtual_time
async def test_the_end_of_an_invocation_is_told_before_what_came_before_it_is_digested() -> None:
    world = World()
    for number in range(3):
        assert world.inbox.take(lines(1000, f"{number}"), f"{number}") is None
    world.inbox.take(ending(lines(1000)), "end")
    assert world.told == [(0.0, "platform.runtimeDone")]
    assert world.counts.received == 0
    await world.inbox.wait_empty(in_seconds(60.0))
    assert clock().monotonic() == pytest.approx(1000.0 + 4001 * COST_S)
    assert (world.counts.bodies, world.counts.received, world.counts.routed) == (4, 4001, 4001)
    assert world.worker.held == 4001
    assert world.told == [(0.0, "platform.runtimeDone")]
    await world.close()


@in_virtual_time
async def test_timers_fire_in_time_while_much_is_digested() -> None:
    world = World()
    world.inbox.take(lines(2000), "1")
    began = clock().monotonic()
    await world.inbox.wait_empty(in_seconds(0.5))
    # A slice ends after the step in which its time is up; one more may come before the timer is looked at.
    assert clock().monotonic() <= began + 0.5 + 2 * (SLICE_S + AT_ONCE * COST_S)
    assert world.worker.held == 0
    await world.inbox.wait_empty(in_seconds(60.0))
    assert world.worker.held == 2000
    await world.close()


@in_virtual_time
async def test_timers_fire_in_time_while_much_is_read_from_the_spool() -> None:
    """What did not fit into memory is made records of again, a body of a thousand lines like any other work."""
    world = World(capacity=Capacity(max_records=1000, max_bytes=10**8, when_full=WhenFull.SPILL))
    for number in range(3):
        world.inbox.take(lines(1000, f"{number}"), f"{number}")
    await world.inbox.wait_empty(in_seconds(60.0))
    assert world.backlog.waiting >= 2000
    world.backlog._enricher = CostlyEnricher(ORIGIN)
    longest = Longest(asyncio.get_running_loop())
    world.worker.allow(SendWindow(in_seconds(60.0)))
    world.worker.nudge(only_left_over=True)
    world.worker.nudge()
    await world.worker.wait_idle()
    assert longest.stop() <= SLICE_S + (READ_AT_ONCE + 1) * COST_S
    sent = [one for ids in world.transport.ids for one in ids]
    assert len(sent) == len(set(sent)) == 3000
    assert len(world.transport.ids) <= 32  # full ones, of a hundred records, and none with a slice's worth only
    await world.close()


class Longest:
    """The longest time between two rounds of the loop, in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._last_at = loop.time()
        self._found_s = 0.0
        self._next = loop.call_soon(self._look)

    def _look(self) -> None:
        now = self._loop.time()
        self._found_s, self._last_at = max(self._found_s, now - self._last_at), now
        self._next = self._loop.call_soon(self._look)

    def stop(self) -> float:
        self._next.cancel()
        return self._found_s


def damaged(whole: bytes) -> bytes:
    """Put a record that is no JSON before all others."""
    return b'[{"time":"2026-03-02T10:15:30.123Z","type":"function","record":{oops}},' + whole[1:]


def test_timers_fire_in_time_while_a_damaged_body_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each element costs a small function a millisecond to parse: the body is taken apart in slices, like the rest."""

    def costly(data: bytes) -> Any:
        freeze(COST_S)
        return parse_json(data)

    monkeypatch.setattr("telemetry_forwarder.records.record.parse_json", costly)

    async def main() -> None:
        world = World()
        began = clock().monotonic()
        world.inbox.take(damaged(ending(lines(1000))), "1")
        assert clock().monotonic() <= began + COST_S  # the attempt at the whole
        assert world.losses == [pytest.approx(COST_S)]  # at once: nobody knows yet whether the end can be read
        held = [began]
        while world.counts.received == 0:
            await asyncio.sleep(0)
            held.append(clock().monotonic())
        assert max(after - before for before, after in pairwise(held)) <= SLICE_S + AT_ONCE * COST_S
        assert [kind for _, kind in world.told] == ["platform.runtimeDone"]
        assert (world.counts.received, world.counts.unreadable_records, len(world.losses)) == (1002, 1, 1)
        assert world.worker.held == 1002
        await world.close()

    run(main())


@in_virtual_time
async def test_a_damaged_body_that_is_given_up_half_way_is_counted_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(
        "telemetry_forwarder.records.record.parse_json", lambda data: (freeze(COST_S), parse_json(data))[1]
    )
    world.inbox.take(damaged(lines(1000)), "1")
    await world.inbox.wait_empty(in_seconds(0.1))
    assert world.counts.received == 0
    world.inbox.give_up()
    assert (world.counts.received, world.counts.unreadable_records, world.counts.routed) == (1001, 1, 1001)
    await world.close()


@in_virtual_time
async def test_a_small_body_is_digested_as_it_comes_unless_another_waits() -> None:
    world = World()
    world.inbox.take(body("a", "b"), "1")
    assert world.worker.held == 2
    world.inbox.take(lines(1000), "2")
    world.inbox.take(body("c"), "3")
    assert world.worker.held == 2
    await world.inbox.wait_empty(in_seconds(60.0))
    world.worker.allow(SendWindow(in_seconds(60.0)))
    world.worker.nudge(only_left_over=True)
    world.worker.nudge()
    await world.worker.wait_idle()
    sent = [one for ids in world.transport.ids for one in ids]
    assert len(sent) == 1003
    assert sent[-1][:24] not in (sent[0][:24], sent[2][:24])  # the last to come is the last to go
    await world.close()


@pytest.mark.parametrize(("is_strict", "max_bytes"), [(True, 10**7), (False, SMALL_BYTES)])
@in_virtual_time
async def test_what_is_to_be_kept_first_or_is_too_much_is_answered_when_it_is_digested(
    is_strict: bool, max_bytes: int
) -> None:
    world = World(is_strict=is_strict, max_bytes=max_bytes)
    answer = world.inbox.take(lines(1000), "1")
    assert answer is not None
    await answer
    assert world.worker.held == 1000
    assert world.spool.counts.bodies == 1
    await world.close()


@in_virtual_time
async def test_a_body_that_comes_again_while_it_waits_is_taken_once() -> None:
    world = World()
    world.inbox.take(lines(1000), "1")
    assert world.inbox.take(lines(1000), "1") is None
    await world.inbox.wait_empty(in_seconds(60.0))
    assert (world.counts.bodies, world.counts.redelivered_bodies, world.counts.received) == (2, 1, 1000)
    await world.close()


@pytest.mark.parametrize("has_heir", [False, True])
@in_virtual_time
async def test_what_is_not_digested_in_time_is_counted_once_and_left_to_an_heir_where_there_is_one(
    has_heir: bool,
) -> None:
    world = World("function")
    world.inbox.take(lines(300), "1")
    world.inbox.take(lines(1000, "x"), "2")
    world.inbox.take(ending(lines(1000, "y")), "3")
    await world.inbox.wait_empty(in_seconds(0.6))  # in the middle of the second
    if has_heir:
        world.inbox.expect_next_process()
        world.worker.expect_next_process()
    world.inbox.give_up()
    world.inbox.take(lines(500, "z"), "4")  # the receiver is closed last
    await world.worker.drain(in_seconds(1.0))
    assert (world.counts.received, world.counts.unrouted.total()) == (2801, 1)
    statement = world.worker.statement()
    assert statement.is_balanced()
    assert statement.offered == 2800
    assert statement.delivered == 300
    assert statement.spilled == (2500 if has_heir else 0)
    assert sum(statement.dropped.values()) == (0 if has_heir else 2500)
    waiting = sum(mask.bit_count() for one in world.spool.open_bodies(0) for mask in one.open)
    assert waiting == (2500 if has_heir else 0)
    await world.close()


@in_virtual_time
async def test_no_telemetry_is_counted_and_the_next_body_digested() -> None:
    world = World()
    world.inbox.take(b"{" + b" " * SMALL_BYTES, "1")
    world.inbox.take(lines(1000), "2")
    await world.inbox.wait_empty(in_seconds(60.0))
    assert (world.counts.undecodable_bodies, world.counts.received) == (1, 1000)
    await world.close()


def test_a_bug_in_one_body_spares_the_next() -> None:
    class Buggy(CostlyEnricher):
        def enrich(self, items: Sequence[Item], *rest: Any) -> Iterator[list[Record]]:
            if "bug" in items[0].body:
                raise KeyError("oops")
            return super().enrich(items, *rest)

    async def main() -> None:
        world = World()
        world.intake._enricher = Buggy(ORIGIN)
        world.inbox.take(lines(1000, "bug"), "1")
        world.inbox.take(lines(1000), "2")
        await world.inbox.wait_empty(in_seconds(60.0))
        assert world.worker.held == 1000
        assert world.lines.said("A bug kept telemetry from being read", "ERROR") == 1
        await world.close()

    run(main())
