"""Any course of events, any answers, any mode: the books balance, nobody is held for too long, nothing comes late."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_forwarder.delivery.retry import PIECES_AT_LAST, TRIES_AT_LAST
from telemetry_forwarder.errors import ConnectFailed, ConnectionLost, TimedOut
from telemetry_forwarder.interfaces import Delivered, Denied, DropReason, Partial, Rejected, Retry, TooLarge
from telemetry_forwarder.lambda_api.client import Event, Invoke, Shutdown
from telemetry_forwarder.ledger import IntakeCounts
from telemetry_forwarder.lifecycle import budget
from telemetry_forwarder.lifecycle.budget import Holding
from telemetry_forwarder.lifecycle.loop import Lifecycle
from telemetry_forwarder.lifecycle.machine import SILENCE_S, Machine
from telemetry_forwarder.lifecycle.strategy import Mode, Strategy
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import Bug, Hang, ListSink, Slow, World, freeze, limits, record
from tests.telemetry_forwarder.lifecycle.test_loop import done, report, start

HOLDING = Holding(longest_s=0.5, margin_s=0.2)
BUFFERING_S = 0.025
# What the loop's turns and the grace of a timer may add to a bound.
NEAR = 0.05

ANSWERS = st.sampled_from(
    [
        Delivered(), Delivered(), Delivered("careful"), Retry(), Retry(after=1.0), Retry(after=300.0), Rejected("bad"),
        TooLarge(), Denied("401"), Partial(retry=(0,)), Partial((0, 2), {1: DropReason.TOO_OLD}), ConnectFailed("x"),
        ConnectionLost("x"), TimedOut("x"), Bug(), ValueError("bug"), Hang(), Slow(0.02), Slow(0.2), Slow(1.0),
        Slow(10.0), Slow(30.0, Retry()), Slow(2.0, ConnectionLost("x")), Hang(), Slow(1.2), Slow(0.6, Rejected("bad")),
    ]
)  # fmt: skip
STRATEGIES = st.sampled_from(
    [Strategy(), Strategy(Mode.END), Strategy(Mode.PERIODIC, 5.0), Strategy(Mode.CONTINUOUS, 1.0)]
)


@dataclass(frozen=True)
class Call:
    """One invocation: how long nothing ran before it, its lines, how long it runs, and what of it is heard when."""

    gap_s: float
    is_frozen: bool
    lines: int
    runs_s: float
    timeout_s: float
    is_heard: bool  # its telemetry comes while it runs, and not with the next invocation


CALLS = st.builds(
    Call,
    gap_s=st.sampled_from([0.0, 0.01, 0.5, 5.0, 30.0, 900.0]),
    is_frozen=st.booleans(),
    lines=st.integers(0, 12),
    runs_s=st.sampled_from([0.0, 0.005, 0.3, 2.0, 12.0]),
    timeout_s=st.sampled_from([1.0, 3.0, 30.0]),
    is_heard=st.sampled_from([True, True, True, False]),
)


class Course:
    """Plays Lambda: a course of invocations and the end; notes when each thing happened."""

    def __init__(self, shops: list[World], calls: list[Call], reason: str, window_s: float) -> None:
        self.shops = shops
        self.clock = shops[0].clock
        self.calls = calls
        self.reason = reason
        self.window_s = window_s
        self.asked: list[float] = []
        self.ended: dict[int, float] = {}  # when each function ended
        self.deadlines: list[float] = []
        self.late: list[Record] = []  # telemetry that comes with the next event
        self.offered = 0
        self.most_open = 0  # requests of one sink at once, before the end
        self.lifecycle: Lifecycle | None = None

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    async def next_event(self) -> Event:
        number = len(self.asked)
        self.asked.append(self.now)
        if number:
            await self._until_ended(number - 1)
            self.send([report(str(number - 1))] if number % 3 else [])
        if number == len(self.calls):
            await asyncio.sleep(1.0)
            self.most_open = max(world.transport.most_open for world in self.shops)
            self.send(self._taken_late())
            return Shutdown(self.reason, self.clock.epoch_ms(self.window_s))
        call = self.calls[number]
        if call.is_frozen:
            freeze(call.gap_s)
        else:
            await asyncio.sleep(call.gap_s)
        self.deadlines.append(self.now + call.timeout_s)
        self._begin(number, call)
        return Invoke(str(number), self.clock.epoch_ms(call.timeout_s))

    def _taken_late(self) -> list[Record]:
        late, self.late = self.late, []
        return late

    def _begin(self, number: int, call: Call) -> None:
        lines = [record(id=f"{number}-{line}") for line in range(call.lines)]
        runs_s = min(call.runs_s, call.timeout_s - 0.1)
        self.ended[number] = self.now + runs_s
        self.send(self._taken_late())
        if call.is_heard:
            self.send([start(str(number))])
            asyncio.get_running_loop().call_later(runs_s + 0.01, self.send, [*lines, done(str(number))])
        else:
            self.late += [start(str(number)), *lines, done(str(number))]

    async def _until_ended(self, number: int) -> None:
        """Wait for the function itself: Lambda sends the next event when both it and the extension are done."""
        await asyncio.sleep(max(0.0, self.ended[number] - self.now) + 0.02)

    def send(self, batch: list[Record]) -> None:
        batch = [replace(one, time_ms=self.clock.epoch_ms()) for one in batch]
        self.offered += len(batch)
        for world in self.shops:
            world.worker.offer(batch)
            world.check()
        if batch and self.lifecycle is not None:
            self.lifecycle.on_events(batch)


@pytest.mark.timeout(600)  # on a machine that has other things to do
@settings(max_examples=300, deadline=None)
@given(
    calls=st.lists(CALLS, max_size=10),
    answers=st.tuples(st.lists(ANSWERS, max_size=12), st.lists(ANSWERS, max_size=3)),
    then=st.tuples(ANSWERS, st.just(Delivered())),
    strategy=STRATEGIES,
    reason=st.sampled_from(["spindown", "timeout", "failure"]),
    window_s=st.sampled_from([2.0, 0.7, 0.1, -1.0]),
)
@in_virtual_time
async def test_whatever_happens(
    calls: list[Call], answers: Any, then: Any, strategy: Strategy, reason: str, window_s: float
) -> None:
    """The ledger's equation after every step, one `/event/next` for each event, bounded holds, nothing too late."""
    async with AsyncExitStack() as stack:
        shops = [
            await stack.enter_async_context(
                World(*script, then=last, sink=ListSink(limits=limits(max_records=7)), capacity=40)
            )
            for script, last in zip(answers, then, strict=True)
        ]
        course = Course(shops, calls, reason, window_s)
        course.lifecycle = Lifecycle(
            client=course,  # type: ignore[arg-type]
            machine=Machine(clock=shops[0].clock, strategy=strategy, holding=HOLDING, buffering_s=BUFFERING_S),
            workers=[world.worker for world in shops],
            counts=IntakeCounts(),
            clock=shops[0].clock,
            log=shops[0].lines.log,
        )
        await course.lifecycle.run()
        over = course.now
        judge(course, strategy)
        sent = [len(world.transport.sent) for world in shops]
        await asyncio.sleep(120.0)
        assert [len(world.transport.sent) for world in shops] == sent, "nothing after the end"
        for world in shops:
            world.check()
            assert world.worker.held == 0
            assert world.worker.statement().offered == course.offered
            assert world.transport.most_open <= PIECES_AT_LAST * (3 + TRIES_AT_LAST)
            assert course.most_open <= 3
            assert all(at <= over for at, _ in world.transport.sent)


def judge(course: Course, strategy: Strategy) -> None:
    """Check when each next event was asked for, and that the window was kept."""
    assert len(course.asked) == len(course.calls) + 1
    for number, call in enumerate(course.calls):
        begun, asked = course.deadlines[number] - call.timeout_s, course.asked[number + 1]
        margin = min(HOLDING.margin_s, call.timeout_s * budget.MARGIN_SHARE)
        assert asked <= course.deadlines[number] - margin + NEAR, "never within the margin"
        if strategy.mode is Mode.CONTINUOUS:
            assert asked <= begun + NEAR
        elif call.is_heard:
            assert asked <= max(course.ended[number], begun) + HOLDING.longest_s + NEAR, "never for longer than a hold"
        else:
            assert asked <= begun + SILENCE_S + BUFFERING_S + HOLDING.longest_s + NEAR, "never for what is not seen"
    shut = course.asked[-1] + 1.0
    ended = max(course.ended.values(), default=0.0)
    assert course.now <= max(shut, ended + 1.02) + max(course.window_s, 0.0) + 2 * NEAR + (1.0 if course.calls else 0.0)
