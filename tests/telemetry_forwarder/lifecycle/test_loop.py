"""The conversation with Lambda: what is asked, when, and what is sent by then."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

from telemetry_forwarder.errors import ExtensionsApiError
from telemetry_forwarder.interfaces import Retry
from telemetry_forwarder.lambda_api.client import Event, Invoke, Shutdown
from telemetry_forwarder.ledger import IntakeCounts
from telemetry_forwarder.lifecycle import budget
from telemetry_forwarder.lifecycle.budget import Holding
from telemetry_forwarder.lifecycle.loop import Lifecycle
from telemetry_forwarder.lifecycle.machine import RUNNING_PERIOD_S, SILENCE_S, Machine
from telemetry_forwarder.lifecycle.strategy import Mode, Strategy
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.records.running import Invocation
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import Hang, Slow, World, freeze, record, records


class FakeLambda:
    """Plays events: `(seconds until it comes, event with seconds until its deadline)`; notes what happens and when."""

    is_freezing = False  # whether nothing runs until the next event

    def __init__(self, base: World, *script: tuple[float, tuple[str, ...] | Exception, float]) -> None:
        self._shop = base
        self._script = list(script)
        self.happened: list[tuple[str, float]] = []
        self.on_start: Callable[[str], None] = lambda request_id: None

    @property
    def now(self) -> float:
        return self._shop.clock.monotonic() - 1000.0

    async def next_event(self) -> Event:
        self.happened.append(("next", self.now))
        seconds, event, timeout = self._script.pop(0)
        if self.is_freezing:
            await asyncio.sleep(0.01)
            freeze(seconds)
        else:
            await asyncio.sleep(seconds)
        if isinstance(event, Exception):
            raise event
        kind, word = event
        self.happened.append((kind, self.now))
        deadline_ms = self._shop.clock.epoch_ms(timeout)
        if kind == "invoke":
            self.on_start(word)
        return Invoke(word, deadline_ms) if kind == "invoke" else Shutdown(word, deadline_ms)

    def when(self, word: str) -> list[float]:
        return [at for what, at in self.happened if what == word]


class LoopWorld:
    """A lifecycle with one real worker, and the telemetry that comes at given times."""

    def __init__(
        self,
        base: World,
        *script: Any,
        buffering_s: float = 0.025,
        strategy: Strategy = Strategy(Mode.END),  # noqa: B008 - frozen
        holding: Holding = Holding(longest_s=2.0),  # noqa: B008 - frozen
        is_heard: bool = True,
        is_freezing: bool = False,
        init_is_told: bool = True,
        last_word: Callable[[], Record | None] = lambda: None,
        **machine: Any,
    ) -> None:
        self.base = base
        self.counts = IntakeCounts()
        self.lambda_ = FakeLambda(base, *script)
        self.lambda_.is_freezing = is_freezing
        self.machine = Machine(clock=base.clock, strategy=strategy, holding=holding, buffering_s=buffering_s, **machine)
        if init_is_told:
            self.machine.on_events([INIT_REPORT])
        self.lifecycle = Lifecycle(
            client=self.lambda_,  # type: ignore[arg-type]
            machine=self.machine,
            workers=[base.worker],
            counts=self.counts,
            clock=base.clock,
            log=base.lines.log,
            last_word=last_word,
        )
        if is_heard:  # `platform.start` comes with the invocation; here it is for the lifecycle alone
            self.lambda_.on_start = lambda request_id: self.lifecycle.on_events([start(request_id)])

    def telemetry(self, seconds: float, *batch: Record) -> None:
        """Let a batch arrive `seconds` after the start."""
        asyncio.get_running_loop().call_at(1000.0 + seconds, self._receive, batch)

    def _receive(self, batch: tuple[Record, ...]) -> None:
        batch = tuple(replace(one, time_ms=self.base.clock.epoch_ms()) for one in batch)
        self.base.worker.offer(batch)
        self.lifecycle.on_events(batch)


def done(request: str) -> Record:
    return record({}, type="platform.runtimeDone", request=request, id=f"done {request}")


def start(request: str) -> Record:
    return record({}, type="platform.start", request=request, id=f"start {request}")


def report(request: str) -> Record:
    return record({}, type="platform.report", request=request, id=f"report {request}")


INVOKE = (0.0, ("invoke", "a"), 30.0)
SPINDOWN = (60.0, ("shutdown", "spindown"), 2.0)
TIMEOUT = (60.0, ("shutdown", "timeout"), 2.0)


@in_virtual_time
async def play(
    *script: Any,
    check: Callable[[LoopWorld], None],
    telemetry: Any = (),
    answers: Any = (),
    then: Any = None,
    arrange: Callable[[LoopWorld], None] = lambda world: None,
    **how: Any,
) -> None:
    """Run a lifecycle to the end of SHUTDOWN in virtual time; then `check`."""
    async with World(*answers, then=then) as base:
        world = LoopWorld(base, *script, **how)
        for seconds, *batch in telemetry:
            world.telemetry(seconds, *batch)
        arrange(world)
        await world.lifecycle.run()
        base.check()
        assert base.worker.held == 0
        check(world)


def test_the_next_event_is_asked_for_after_the_flush() -> None:
    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next") == pytest.approx([0.0, 1.7])
        assert world.base.transport.times[0] == 1.0
        assert world.base.delivered == 2

    play(INVOKE, SPINDOWN, telemetry=[(0.5, record()), (1.0, done("a"))], answers=[Slow(0.7)], check=check)


def test_long_invocation_sends_while_it_runs_and_holds_nobody_for_it() -> None:
    """What was written before is safe even where the environment is lost without a word."""

    def check(world: LoopWorld) -> None:
        assert world.base.transport.times[0] == pytest.approx(RUNNING_PERIOD_S)
        assert world.lambda_.when("next") == pytest.approx([0.0, 20.0])
        assert world.base.delivered == 3

    play(
        (0.0, ("invoke", "a"), 30.0),
        SPINDOWN,
        telemetry=[(1.0, record(), record()), (20.0, done("a"))],
        check=check,
    )


def test_nothing_is_sent_after_the_next_event_was_asked_for() -> None:
    """The environment may be frozen from then on."""

    def check(world: LoopWorld) -> None:
        assert world.base.transport.times[1] >= 61.0
        assert world.base.delivered == 202

    play(
        INVOKE, SPINDOWN, telemetry=[(1.0, record(), done("a")), (10.0, *records(200, prefix="late"))], check=check
    )  # fmt: skip


def test_a_hanging_backend_holds_the_invocation_for_the_longest_hold_and_no_longer() -> None:
    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next")[1] == pytest.approx(3.0)

    play(INVOKE, SPINDOWN, telemetry=[(1.0, record(), done("a"))], then=Hang(), check=check)


def test_a_hanging_backend_never_takes_a_function_to_its_timeout() -> None:
    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next")[1] <= 3.0 - Holding().margin_s

    play((0.0, ("invoke", "a"), 3.0), SPINDOWN, telemetry=[(2.5, record(), done("a"))], answers=[Hang()], check=check)


def test_an_outage_of_every_destination_holds_nobody_until_one_answers_again() -> None:
    """Not even the end of the function is waited for: it is probed in the background."""

    def check(world: LoopWorld) -> None:
        held = zip(world.lambda_.when("invoke"), world.lambda_.when("next")[1:], strict=True)
        assert [asked - began for began, asked in held] == pytest.approx([1.3, 0.0, 2.0], abs=0.3)
        assert world.base.delivered == 4

    play(
        INVOKE, (10.0, ("invoke", "b"), 30.0), (10.0, ("invoke", "c"), 30.0), SPINDOWN,
        telemetry=[(1.0, record(), done("a")), (12.5, done("b")), (23.3, done("c"))],
        answers=[Retry()] * 3, check=check,
    )  # fmt: skip


def test_an_end_that_came_before_its_invocation_was_read_is_flushed_at_once() -> None:
    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next") == [0.0, 1.0]
        assert world.base.delivered == 1
        assert world.base.transport.times == [1.0]

    play((1.0, ("invoke", "a"), 30.0), SPINDOWN, telemetry=[(0.9, done("a"))], check=check)


def test_a_function_that_never_ends_is_flushed_before_its_timeout() -> None:
    def check(world: LoopWorld) -> None:
        (sent, *_), asked = world.base.transport.times, world.lambda_.when("next")[1]
        assert sent == asked == pytest.approx(4.0 - 0.2 - 0.4)

    short = (0.0, ("invoke", "a"), 4.0)
    play(short, SPINDOWN, telemetry=[(1.0, record()), (1.1, done("another"))], check=check)


def test_an_end_in_the_moment_in_which_time_is_up_is_flushed_too() -> None:
    def check(world: LoopWorld) -> None:
        assert world.base.transport.times[0] == pytest.approx(27.8)
        assert len(world.lambda_.when("next")) == 2

    play(INVOKE, SPINDOWN, telemetry=[(27.8, record(), done("a"))], check=check)


def test_many_invocations_ask_once_each() -> None:
    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next") == [0.0, 1.0, 11.0, 21.0]
        assert world.base.delivered == 6

    play(
        (0.0, ("invoke", "a"), 30.0), (9.0, ("invoke", "b"), 30.0), (9.0, ("invoke", "a"), 30.0), SPINDOWN,
        telemetry=[(1.0, record(), done("a")), (11.0, report("a"), done("b")), (21.0, done("a")), (81.01, report("a"))],
        check=check,
    )  # fmt: skip


def test_it_is_told_of_each_invocation_and_since_when_it_may_have_run() -> None:
    heard: list[Invocation] = []

    def check(world: LoopWorld) -> None:
        began = world.base.clock.epoch_ms() - round(world.lambda_.now * 1000)
        seen = [(one.request_id, one.asked_ms and one.asked_ms - began, one.at_ms - began) for one in heard]
        assert seen == [("a", 0, 3_000), ("b", 4_000, 13_000)]

    def arrange(world: LoopWorld) -> None:
        world.lifecycle.on_invoke = heard.append

    play(
        (3.0, ("invoke", "a"), 30.0), (9.0, ("invoke", "b"), 30.0), SPINDOWN,
        telemetry=[(4.0, done("a")), (14.0, done("b"))], arrange=arrange, check=check,
    )  # fmt: skip


def test_an_answer_that_comes_after_the_thaw_is_read() -> None:
    def check(world: LoopWorld) -> None:
        assert len(world.base.transport.sent) == 2
        assert world.base.delivered == 3

    play(
        (0.0, ("invoke", "a"), 30.0), (600.0, ("invoke", "b"), 30.0), SPINDOWN, is_freezing=True,
        telemetry=[(1.0, record(), done("a")), (604.0, done("b"))], answers=[Slow(60.0)], check=check,
        holding=Holding(0.5, 0.2),
    )  # fmt: skip


def test_without_telemetry_each_event_is_answered_at_once() -> None:
    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next") == [0.0, 0.0, 5.0]
        assert world.base.transport.sent == []

    play(INVOKE, (5.0, ("invoke", "b"), 30.0), SPINDOWN, sees_ends=False, check=check)


def test_without_news_of_an_invocation_its_end_is_not_waited_for() -> None:
    """Whatever keeps telemetry from coming, the function must not pay for it up to its timeout."""

    gap = SILENCE_S + 0.025

    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next") == pytest.approx([0.0, gap, 10 + 2 * gap, 20 + 2 * gap])
        assert world.counts.unseen_ends == 2
        assert world.base.lines.said("its end is not waited for") == 2

    play(
        INVOKE, (10.0, ("invoke", "b"), 30.0), (10.0, ("invoke", "c"), 30.0), SPINDOWN, is_heard=False, check=check
    )  # fmt: skip


def test_when_telemetry_comes_again_ends_are_waited_for_again() -> None:
    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next")[-1] == pytest.approx(45.0)

    play(
        INVOKE, (9.0, ("invoke", "b"), 30.0), (9.0, ("invoke", "c"), 30.0), (20.0, ("invoke", "d"), 30.0), SPINDOWN,
        telemetry=[(35.0, start("c")), (41.0, start("d")), (45.0, done("d"))], is_heard=False, check=check,
    )  # fmt: skip


# --- strategies without a hold --------------------------------------------------------------------------------------


def test_periodic_delivers_beside_the_function_when_it_is_due() -> None:
    """What came since then waits for the next time that it is due."""

    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next") == pytest.approx([0.0, 0.0, 1.0, 20.5])
        assert world.base.transport.times == pytest.approx([20.0, 80.5])
        assert [len(ids) for ids in world.base.transport.ids] == [4, 1]

    play(
        INVOKE, (1.0, ("invoke", "b"), 30.0), (19.0, ("invoke", "c"), 30.0), SPINDOWN,
        telemetry=[(0.1, record(), done("a")), (1.1, record(id="r1"), done("b")), (21.0, done("c"))],
        strategy=Strategy(Mode.PERIODIC, 10.0), answers=[Slow(0.5)], check=check,
    )  # fmt: skip


def test_periodic_waits_for_what_is_under_way_when_the_function_ends_and_begins_no_more() -> None:
    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next") == pytest.approx([0.0, 0.0, 20.7])
        assert [len(ids) for ids in world.base.transport.ids][:1] == [2]
        assert world.base.transport.times[1] >= 80.7

    play(
        INVOKE, (20.0, ("invoke", "b"), 30.0), SPINDOWN,
        telemetry=[(0.1, record(), done("a")), (20.1, record(id="r1"), done("b"))],
        strategy=Strategy(Mode.PERIODIC, 10.0), answers=[Slow(0.7)], check=check,
    )  # fmt: skip


def test_periodic_holds_nobody_for_longer_than_a_hold() -> None:
    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next") == pytest.approx([0.0, 0.0, 20.6])

    play(
        INVOKE, (20.0, ("invoke", "b"), 30.0), SPINDOWN, holding=Holding(0.5, 0.2),
        telemetry=[(0.1, record(), done("a")), (20.1, done("b"))],
        strategy=Strategy(Mode.PERIODIC, 10.0), answers=[Hang()], check=check,
    )  # fmt: skip


def test_periodic_holds_nobody_for_longer_than_a_hold_whose_end_came_before_its_invocation_was_read() -> None:
    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next") == pytest.approx([0.0, 1.4])

    play(
        (1.0, ("invoke", "a"), 30.0), SPINDOWN, holding=Holding(0.5, 0.2), telemetry=[(0.9, record(), done("a"))],
        strategy=Strategy(Mode.PERIODIC, 10.0), then=Hang(), check=check,
    )  # fmt: skip


def test_continuous_sends_in_the_background_and_holds_nobody() -> None:
    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next") == pytest.approx([0.0, 0.0, 5.0])
        assert world.base.transport.times == pytest.approx([1.1, 6.1])

    play(
        INVOKE, (5.0, ("invoke", "b"), 30.0), SPINDOWN, strategy=Strategy(Mode.CONTINUOUS, 1.0),
        telemetry=[(0.1, record(), done("a")), (5.1, report("a"), done("b"))], answers=[Slow(0.7)], check=check,
    )  # fmt: skip


def test_continuous_goes_by_the_wall_clock_for_what_has_waited_in_a_freeze() -> None:
    """The loop's timers may stand still while nothing runs: a short function would never see them fall due."""

    def check(world: LoopWorld) -> None:
        assert world.base.transport.times[0] == pytest.approx(600.0, abs=0.2)

    play(
        INVOKE, (600.0, ("invoke", "b"), 30.0), SPINDOWN, strategy=Strategy(Mode.CONTINUOUS, 900.0), is_freezing=True,
        telemetry=[(0.005, record(), done("a"))], check=lambda world: None,
    )  # fmt: skip
    play(
        INVOKE, (600.0, ("invoke", "b"), 30.0), SPINDOWN, strategy=Strategy(Mode.CONTINUOUS, 5.0), is_freezing=True,
        telemetry=[(0.005, record(), done("a"))], check=check,
    )  # fmt: skip


def test_adaptive_holds_first_and_goes_on_in_the_background_for_a_busy_function() -> None:
    def check(world: LoopWorld) -> None:
        asked, invoked = world.lambda_.when("next"), world.lambda_.when("invoke")
        holds = [after - before for before, after in zip(invoked, asked[1:], strict=True)]
        assert holds[:4] == pytest.approx([0.1] * 4)
        assert holds[4:] == pytest.approx([0.0] * 4)

    at, telemetry = 0.0, []
    for n in range(8):
        telemetry.append((at + 0.1, done(str(n))))
        at += 1.1
    script = [(1.0 if 0 < n < 5 else 1.1 if n else 0.0, ("invoke", str(n)), 30.0) for n in range(8)]
    play(*script, SPINDOWN, strategy=Strategy(), telemetry=telemetry, check=check)


def test_a_hold_of_nothing_asks_at_the_functions_end() -> None:
    def check(world: LoopWorld) -> None:
        assert world.lambda_.when("next") == pytest.approx([0.0, 1.0])
        assert world.base.delivered == 2

    play(INVOKE, SPINDOWN, telemetry=[(1.0, record(), done("a"))], holding=Holding(0.0, 0.2), check=check)


def test_an_outage_costs_one_invocation_a_hold_and_the_others_nothing() -> None:
    def check(world: LoopWorld) -> None:
        asked, invoked = world.lambda_.when("next"), world.lambda_.when("invoke")
        holds = [after - before - 0.1 for before, after in zip(invoked, asked[1:], strict=True)]
        assert holds[0] == pytest.approx(0.5)
        assert max(holds[1:]) <= 1e-6

    script, telemetry, at = [], [], 0.0
    for n in range(20):
        script.append((0.0 if n == 0 else 10.0, ("invoke", str(n)), 30.0))
        telemetry.append((at + 0.1, record(id=str(n)), done(str(n))))
        at += 10.6 if n == 0 else 10.1
    play(*script, SPINDOWN, holding=Holding(0.5, 0.2), telemetry=telemetry, then=Hang(), check=check)


# --- shutdown -------------------------------------------------------------------------------------------------------


def ended(world: LoopWorld) -> float:
    """Return how long after SHUTDOWN everything was over."""
    return world.lambda_.now - world.lambda_.when("shutdown")[0]


def test_shutdown_waits_for_the_report_that_is_due() -> None:
    """Source: it is made after the next event was asked for, so the last one comes in the shutdown window."""

    def check(world: LoopWorld) -> None:
        assert world.base.delivered == 2
        assert 0.5 <= ended(world) < 0.8

    play(INVOKE, SPINDOWN, telemetry=[(1.0, done("a")), (61.5, report("a"))], check=check)


def test_shutdown_waits_no_longer_than_its_tail_for_a_report_that_never_comes() -> None:
    def check(world: LoopWorld) -> None:
        assert ended(world) == pytest.approx(budget.LONGEST_TAIL_S)

    play(INVOKE, SPINDOWN, telemetry=[(1.0, done("a"))], check=check)


@pytest.mark.parametrize("reason", ["timeout", "failure", "sandboxterminated"])
def test_after_a_timeout_no_report_is_waited_for(reason: str) -> None:
    """It is made when we are gone, and goes to the next generation."""

    def check(world: LoopWorld) -> None:
        assert ended(world) == pytest.approx(0.125)

    play(INVOKE, (60.0, ("shutdown", reason), 2.0), telemetry=[(1.0, done("a"))], check=check)


def test_an_environment_that_was_never_invoked_waits_for_no_report() -> None:
    """Provisioned concurrency, or an environment that was started ahead of time."""

    def check(world: LoopWorld) -> None:
        assert ended(world) == 0.0
        assert world.base.delivered == 1

    play(SPINDOWN, telemetry=[(1.0, record())], check=check)


INIT_REPORT = record({}, type="platform.initReport", id="init report")


@pytest.mark.parametrize(
    ("reason", "comes_at", "lasts"),
    [
        ("spindown", 60.5, 0.5),  # it is the last word
        ("failure", 60.5, 0.625),  # an invocation ends with it, so more may come
        ("spindown", 70.0, budget.LONGEST_TAIL_S),
        ("failure", 70.0, budget.LONGEST_TAIL_S),
    ],
)
def test_the_report_of_an_init_is_waited_for(reason: str, comes_at: float, lasts: float) -> None:
    """An init that fails ends at once, with all that is told of it still on its way."""

    def check(world: LoopWorld) -> None:
        assert ended(world) == pytest.approx(lasts)

    script = (60.0, ("shutdown", reason), 2.0)
    play(script, telemetry=[(1.0, record()), (comes_at, INIT_REPORT)], check=check, init_is_told=False)


def test_without_telemetry_no_report_of_an_init_is_waited_for() -> None:
    def check(world: LoopWorld) -> None:
        assert ended(world) == 0.0

    play(SPINDOWN, check=check, init_is_told=False, sees_ends=False)


def test_each_late_batch_makes_the_tail_longer_within_its_budget() -> None:
    def check(world: LoopWorld) -> None:
        assert ended(world) == pytest.approx(budget.LONGEST_TAIL_S)
        assert world.base.delivered == 40

    late = [(60.0 + n / 50, record(id=f"late{n}")) for n in range(1, 41)]
    play(TIMEOUT, telemetry=late, check=check)


def test_a_long_buffering_time_is_not_waited_out() -> None:
    """At the end Lambda sends what it still has, whatever `timeoutMs` says."""

    def check(world: LoopWorld) -> None:
        assert ended(world) == pytest.approx(0.3)

    play(TIMEOUT, buffering_s=30.0, check=check)


def test_what_is_held_is_sent_while_the_tail_comes_in() -> None:
    def check(world: LoopWorld) -> None:
        assert world.base.transport.times[:2] == [1.0, 61.0]
        assert world.base.delivered == 2

    play(INVOKE, SPINDOWN, telemetry=[(1.0, record(), done("a"))], answers=[Retry(after=20.0)], check=check)


@pytest.mark.parametrize("answer", [Hang(), Retry(), Slow(0.9)])
@pytest.mark.parametrize("window", [2.0, 0.5, 0.0, -1.0])
def test_shutdown_is_over_before_its_deadline_and_sends_nothing_after_send_until(answer: Any, window: float) -> None:
    def check(world: LoopWorld) -> None:
        assert ended(world) <= max(window, 0.0) + (0.051 if window <= 0 else 0.0)
        shut = world.lambda_.when("shutdown")[0]
        assert all(at - shut < max(window, 0.001) for at in world.base.transport.times)

    play((60.0, ("shutdown", "spindown"), window), telemetry=[(1.0, *records(3))], then=answer, check=check)


@in_virtual_time
async def test_a_refusal_of_the_next_event_is_passed_on() -> None:
    """What is to be done then is decided one room further up; the workers still run."""
    async with World() as base:
        world = LoopWorld(base, (0.0, ExtensionsApiError("/event/next", 403, "x", "y"), 0.0))
        with pytest.raises(ExtensionsApiError):
            await world.lifecycle.run()
        base.worker.offer(records(1))
        await world.lifecycle.drain(budget.for_emergency(base.clock, has_fallback=False))
        assert base.delivered == 1


@in_virtual_time
async def test_on_managed_instances_what_is_held_is_sent_in_the_background() -> None:
    async with World() as base:
        world = LoopWorld(base, SPINDOWN, strategy=Strategy(Mode.CONTINUOUS, 2.0))
        world.lifecycle.go_on()
        world.telemetry(0.5, record())
        world.telemetry(1.5, record(id="r1"))
        world.telemetry(9.0, record(id="r2"))
        await asyncio.sleep(20.0)
        assert base.transport.times == [2.5, 11.0]
        assert base.transport.ids == [("r0", "r1"), ("r2",)]


# --- an end that may have been lost ---------------------------------------------------------------------------------

HOLD = Holding()  # as by default: 500 ms
DROPPED = record({"droppedRecords": 9, "droppedBytes": 99}, type="platform.logsDropped", id="dropped")
ODD = [
    record({}, type="platform.runtimeDone", id="odd"), record("text", type="platform.runtimeDone", id="odd"),
    record({}, type="platform.start", id="odd"), record({}, type="platform.report", id="odd"),
]  # fmt: skip


@dataclass
class Lost:
    """A body that could not be read, at a time: with what could be, in front of it."""

    seconds: float
    sound: tuple[Record, ...] = ()
    is_interruption: bool = False

    def happens(self, world: LoopWorld) -> None:
        if self.sound:
            world._receive(self.sound)
        (world.lifecycle.on_interruption if self.is_interruption else world.lifecycle.on_loss)()


def play_losses(*script: Any, losses: Sequence[Lost], check: Callable[[LoopWorld], None], **how: Any) -> None:
    def arrange(world: LoopWorld) -> None:
        for loss in losses:
            asyncio.get_running_loop().call_at(1000.0 + loss.seconds, loss.happens, world)

    play(*script, check=check, arrange=arrange, holding=HOLD, **how)


def held(world: LoopWorld, since: float, number: int = 1) -> float:
    """Return how long after the function's end the next event was asked for."""
    return world.lambda_.when("next")[number] - since


@pytest.mark.parametrize("answer", [None, Hang()])
@pytest.mark.parametrize(
    "sign", [[Lost(1.0)], [Lost(1.0, is_interruption=True)], *((DROPPED,), *((odd,) for odd in ODD), (start("b"),))]
)
def test_a_hold_is_bounded_also_where_the_end_was_lost(sign: Any, answer: Any) -> None:
    """Whatever tells that telemetry was lost ends the wait, and with it the hold, within the flush time-out."""

    def check(world: LoopWorld) -> None:
        assert 0.0 < held(world, 1.0) <= HOLD.longest_s + 0.001
        assert world.counts.unseen_ends == 1
        if answer is None:
            assert world.base.transport.times[0] <= 1.0 + HOLD.longest_s
            assert world.base.transport.ids[0][0] == "r0"

    losses = sign if isinstance(sign, list) else []
    telemetry = [(0.5, record()), *([(1.0, *sign)] if not losses else [])]
    answers = [] if answer is None else [answer]
    play_losses(INVOKE, SPINDOWN, losses=losses, telemetry=telemetry, answers=answers, check=check)


@pytest.mark.parametrize(
    "mode", [Strategy(Mode.ADAPTIVE), Strategy(Mode.PERIODIC, 0.1), Strategy(Mode.CONTINUOUS, 0.5)]
)
@pytest.mark.parametrize("answers", [[], [Hang(), Hang(), Hang()]])
def test_a_hold_is_bounded_where_the_end_was_lost_whatever_the_strategy(mode: Strategy, answers: list[Any]) -> None:
    def check(world: LoopWorld) -> None:
        for asked, over in zip(world.lambda_.when("next")[1:], (1.0, 61.0), strict=True):
            assert asked <= over + HOLD.longest_s + 0.001

    second = (59.0, ("invoke", "b"), 30.0)
    losses = [Lost(1.0), Lost(61.0)]
    lines = [(0.5, record()), (60.5, record(id="r9"))]
    play_losses(INVOKE, second, SPINDOWN, losses=losses, telemetry=lines, strategy=mode, answers=answers, check=check)


@pytest.mark.parametrize("batch", [(record(), DROPPED, done("a")), (DROPPED, done("a")), (ODD[0], done("a"))])
def test_an_end_beside_a_loss_is_an_end(batch: tuple[Record, ...]) -> None:
    def check(world: LoopWorld) -> None:
        assert held(world, 1.0) == 0.0
        assert world.counts.unseen_ends == 0
        assert world.base.delivered == len(batch)

    play_losses(INVOKE, SPINDOWN, losses=[], telemetry=[(1.0, *batch)], check=check)


def test_one_bad_record_beside_the_end_holds_nobody() -> None:
    def check(world: LoopWorld) -> None:
        assert held(world, 1.0) == 0.0

    play_losses(INVOKE, SPINDOWN, losses=[Lost(1.0, (record(), done("a")))], check=check)


def test_an_end_that_comes_soon_after_a_loss_is_waited_for() -> None:
    def check(world: LoopWorld) -> None:
        assert held(world, 1.2) == pytest.approx(0.0)
        assert world.base.transport.times[0] == pytest.approx(1.2)

    play_losses(INVOKE, SPINDOWN, losses=[Lost(1.0)], telemetry=[(1.2, record(), done("a"))], check=check)


def test_what_the_function_writes_after_a_loss_shows_that_it_runs() -> None:
    """A flood of which Lambda drops a part, in a function that goes on: its end is waited for like any other."""

    def check(world: LoopWorld) -> None:
        assert held(world, 5.0) == 0.0
        assert world.counts.unseen_ends == 0

    lines = [(1.0 + n / 5, record(id=f"r{n}")) for n in range(20)]
    play_losses(INVOKE, SPINDOWN, losses=[Lost(1.1)], telemetry=[*lines, (5.0, done("a"))], check=check)


def test_lines_of_an_extension_do_not_show_that_the_function_runs() -> None:
    def check(world: LoopWorld) -> None:
        assert held(world, 1.0) <= HOLD.longest_s

    lines = [(1.0 + n / 10, record(id=f"r{n}", type="extension")) for n in range(100)]
    play_losses(INVOKE, SPINDOWN, losses=[Lost(1.0)], telemetry=lines, check=check)


def test_what_was_lost_before_a_start_is_not_its_end() -> None:
    """Lambda sends in order: a batch may tell of what was dropped before, and of the start."""

    def check(world: LoopWorld) -> None:
        assert held(world, 9.0) == 0.0
        assert world.counts.unseen_ends == 0

    losses = [Lost(0.0)]
    telemetry = [(0.1, DROPPED, start("a")), (9.0, record(), done("a"))]
    play_losses(INVOKE, SPINDOWN, losses=losses, telemetry=telemetry, is_heard=False, check=check)


def test_a_body_that_was_broken_off_and_came_again_is_no_loss() -> None:
    def check(world: LoopWorld) -> None:
        assert held(world, 9.0) == 0.0

    losses = [Lost(1.0, is_interruption=True)]
    play_losses(INVOKE, SPINDOWN, losses=losses, telemetry=[(1.1, record()), (9.0, done("a"))], check=check)


def test_after_a_loss_everything_is_as_it_was() -> None:
    """The next invocations are held to their ends, a late end is harmless, and so is a loss between two invocations."""

    def check(world: LoopWorld) -> None:
        asked = world.lambda_.when("next")
        assert asked[1] <= 1.5
        assert asked[2:] == pytest.approx([35.0, 69.0])
        assert world.base.delivered == 6
        assert world.counts.unseen_ends == 1

    script = (INVOKE, (29.0, ("invoke", "b"), 30.0), (30.0, ("invoke", "c"), 30.0), SPINDOWN)
    telemetry = [
        (0.5, record()), (2.0, done("a")), (35.0, record(id="r1"), done("b")), (69.0, record(id="r2"), done("c")),
    ]  # fmt: skip
    play_losses(*script, losses=[Lost(1.0), Lost(20.0), Lost(40.0)], telemetry=telemetry, check=check)


def test_ends_that_never_come_though_nothing_is_known_to_be_lost_are_waited_for_twice_in_a_row_at_most() -> None:
    """Until one is told again: its request may have been over long ago."""

    def check(world: LoopWorld) -> None:
        held = zip(world.lambda_.when("invoke"), world.lambda_.when("next")[1:], strict=True)
        assert [asked - began for began, asked in held] == pytest.approx([29.3, 29.3, 0.0, 1.0])

    script = [(60.0, ("invoke", name), 30.0) for name in "abcd"]
    play_losses(*script, SPINDOWN, losses=[], telemetry=[(240.0, done("c")), (299.6, done("d"))], check=check)


def test_at_the_end_a_sink_that_is_well_is_told_of_losses() -> None:
    def check(world: LoopWorld) -> None:
        assert world.base.transport.ids[-1] == ("loss",)
        assert world.base.delivered == 3

    loss = record("lost 5", id="loss", type="forwarder.recordsLost")
    play(INVOKE, SPINDOWN, telemetry=[(1.0, record(), done("a"))], last_word=lambda: loss, check=check)
