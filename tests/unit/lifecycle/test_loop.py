"""The conversation with Lambda: what is asked, when, and what is sent by then."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from telemetry_forwarder import budget
from telemetry_forwarder.budget import Holding
from telemetry_forwarder.errors import ExtensionsApiError
from telemetry_forwarder.interfaces import Delivered, Retry
from telemetry_forwarder.ledger import Door
from telemetry_forwarder.lifecycle.client import Event, Invoke, Shutdown
from telemetry_forwarder.lifecycle.loop import RUNNING_PERIOD_S, SILENCE_S, Lifecycle
from telemetry_forwarder.lifecycle.machine import Machine
from telemetry_forwarder.lifecycle.strategy import Mode, Strategy
from telemetry_forwarder.records import Record
from tests.builders import Hang, Slow, Workshop, record, records, run


class FakeLambda:
    """Plays events: `(seconds until it comes, event with seconds until its deadline)`; notes what happens and when."""

    def __init__(self, shop: Workshop, *script: tuple[float, tuple[str, ...] | Exception, float]) -> None:
        self._shop = shop
        self._script = list(script)
        self.happened: list[tuple[str, float]] = []

    @property
    def now(self) -> float:
        return self._shop.clock.monotonic() - 1000.0

    async def next_event(self) -> Event:
        self.happened.append(("next", self.now))
        seconds, event, timeout = self._script.pop(0)
        await asyncio.sleep(seconds)
        if isinstance(event, Exception):
            raise event
        kind, word = event
        self.happened.append((kind, self.now))
        deadline_ms = self._shop.clock.epoch_ms(timeout)
        return Invoke(word, deadline_ms) if kind == "invoke" else Shutdown(word, deadline_ms)

    def when(self, word: str) -> list[float]:
        return [at for what, at in self.happened if what == word]


class Stage:
    """A lifecycle with one real worker, and the telemetry that comes at given times."""

    def __init__(
        self,
        shop: Workshop,
        *script: Any,
        buffering_s: float = 0.025,
        strategy: Strategy = Strategy(Mode.END),  # noqa: B008 - frozen
        holding: Holding = Holding(longest_s=2.0),  # noqa: B008 - frozen
        **machine: Any,
    ) -> None:
        self.shop = shop
        self.door = Door()
        self.lambda_ = FakeLambda(shop, *script)
        self.machine = Machine(**machine)
        self.lifecycle = Lifecycle(
            client=self.lambda_,  # type: ignore[arg-type]
            machine=self.machine,
            strategy=strategy,
            holding=holding,
            workers=[shop.worker],
            door=self.door,
            buffering_s=buffering_s,
            clock=shop.clock,
            log=shop.lines.log,
        )

    def telemetry(self, seconds: float, *batch: Record) -> None:
        """Let a batch arrive `seconds` after the start."""
        asyncio.get_running_loop().call_at(1000.0 + seconds, self._receive, batch)

    def _receive(self, batch: tuple[Record, ...]) -> None:
        self.shop.worker.offer(batch)
        self.lifecycle.on_records(batch)


def done(request: str) -> Record:
    return record({}, type="platform.runtimeDone", request=request, id=f"done {request}")


def start(request: str) -> Record:
    return record({}, type="platform.start", request=request, id=f"start {request}")


def report(request: str) -> Record:
    return record({}, type="platform.report", request=request, id=f"report {request}")


INVOKE = (0.0, ("invoke", "a"), 30.0)
SPINDOWN = (60.0, ("shutdown", "spindown"), 2.0)


def play(
    *script: Any, check: Callable[[Stage], None], telemetry: Any = (), answers: Any = (), then: Any = None, **how: Any
) -> None:
    """Run a lifecycle to the end of SHUTDOWN in virtual time; then `check`."""

    async def main() -> None:
        async with Workshop(*answers, then=then) as shop:
            stage = Stage(shop, *script, **how)
            for seconds, *batch in telemetry:
                stage.telemetry(seconds, *batch)
            await stage.lifecycle.run()
            shop.check()
            assert shop.worker.held == 0
            check(stage)

    run(main())


def test_the_next_event_is_asked_for_after_the_flush() -> None:
    def check(stage: Stage) -> None:
        assert stage.lambda_.when("next") == pytest.approx([0.0, 1.7])
        assert stage.shop.transport.times[0] == 1.0
        assert stage.shop.delivered == 2

    play(INVOKE, SPINDOWN, telemetry=[(0.5, record()), (1.0, done("a"))], answers=[Slow(0.7)], check=check)


def test_long_invocation_sends_while_it_runs_and_holds_nobody_for_it() -> None:
    """What was written before is safe even where the environment is lost without a word."""

    def check(stage: Stage) -> None:
        assert stage.shop.transport.times[0] == pytest.approx(RUNNING_PERIOD_S)
        assert stage.lambda_.when("next") == pytest.approx([0.0, 20.0])
        assert stage.shop.delivered == 3

    play(
        (0.0, ("invoke", "a"), 30.0),
        SPINDOWN,
        telemetry=[(1.0, record(), record()), (20.0, done("a"))],
        check=check,
    )


def test_nothing_is_sent_after_the_next_event_was_asked_for() -> None:
    """The environment may be frozen from then on."""

    def check(stage: Stage) -> None:
        assert stage.shop.transport.times[1] >= 61.0
        assert stage.shop.delivered == 202

    play(
        INVOKE, SPINDOWN, telemetry=[(1.0, record(), done("a")), (10.0, *records(200, prefix="late"))], check=check
    )  # fmt: skip


def test_a_hanging_backend_holds_the_invocation_for_the_longest_hold_and_no_longer() -> None:
    def check(stage: Stage) -> None:
        assert stage.lambda_.when("next")[1] == pytest.approx(1.0 + budget.LONGEST_HOLD_S)

    play(INVOKE, SPINDOWN, telemetry=[(1.0, record(), done("a"))], answers=[Hang()], check=check)


def test_a_hanging_backend_never_takes_a_function_to_its_timeout() -> None:
    def check(stage: Stage) -> None:
        assert stage.lambda_.when("next")[1] <= 3.0 - budget.LEAST_MARGIN_S

    play((0.0, ("invoke", "a"), 3.0), SPINDOWN, telemetry=[(2.5, record(), done("a"))], answers=[Hang()], check=check)


def test_an_end_that_came_before_its_invocation_was_read_is_flushed_at_once() -> None:
    def check(stage: Stage) -> None:
        assert stage.lambda_.when("next") == [0.0, 1.0]
        assert stage.shop.delivered == 1
        assert stage.shop.transport.times == [1.0]

    play((1.0, ("invoke", "a"), 30.0), SPINDOWN, telemetry=[(0.9, done("a"))], check=check)


def test_a_function_that_never_ends_is_flushed_before_its_timeout() -> None:
    def check(stage: Stage) -> None:
        (sent, *_), asked = stage.shop.transport.times, stage.lambda_.when("next")[1]
        assert sent == asked == pytest.approx(4.0 - 0.4 - 0.4)

    short = (0.0, ("invoke", "a"), 4.0)
    play(short, SPINDOWN, telemetry=[(1.0, record()), (1.1, done("another"))], check=check)


def test_an_end_in_the_moment_in_which_time_is_up_is_flushed_too() -> None:
    def check(stage: Stage) -> None:
        assert stage.shop.transport.times[0] == pytest.approx(27.5)
        assert len(stage.lambda_.when("next")) == 2

    play(INVOKE, SPINDOWN, telemetry=[(27.5, record(), done("a"))], check=check)


def test_many_invocations_ask_once_each() -> None:
    def check(stage: Stage) -> None:
        assert stage.lambda_.when("next") == [0.0, 1.0, 11.0, 21.0]
        assert stage.shop.delivered == 6

    play(
        (0.0, ("invoke", "a"), 30.0), (9.0, ("invoke", "b"), 30.0), (9.0, ("invoke", "a"), 30.0), SPINDOWN,
        telemetry=[(1.0, record(), done("a")), (11.0, report("a"), done("b")), (21.0, done("a")), (81.01, report("a"))],
        check=check,
    )  # fmt: skip


def test_an_answer_that_comes_after_the_thaw_is_read() -> None:
    def check(stage: Stage) -> None:
        assert len(stage.shop.transport.sent) == 2
        assert stage.shop.delivered == 3

    play(
        (0.0, ("invoke", "a"), 30.0), (600.0, ("invoke", "b"), 30.0), SPINDOWN,
        telemetry=[(1.0, record(), done("a")), (604.0, done("b"))], answers=[Slow(602.0)], check=check,
    )  # fmt: skip


def test_without_telemetry_each_event_is_answered_at_once() -> None:
    def check(stage: Stage) -> None:
        assert stage.lambda_.when("next") == [0.0, 0.0, 5.0]
        assert stage.shop.transport.sent == []

    play(INVOKE, (5.0, ("invoke", "b"), 30.0), SPINDOWN, sees_ends=False, check=check)


# --- shutdown -------------------------------------------------------------------------------------------------------


def ended(stage: Stage) -> float:
    """Return how long after SHUTDOWN everything was over."""
    return stage.lambda_.now - stage.lambda_.when("shutdown")[0]


def test_shutdown_waits_for_the_report_that_is_due() -> None:
    """Source: it is made after the next event was asked for, so the last one comes in the shutdown window."""

    def check(stage: Stage) -> None:
        assert stage.shop.delivered == 2
        assert 0.5 <= ended(stage) < 0.8

    play(INVOKE, SPINDOWN, telemetry=[(1.0, done("a")), (61.5, report("a"))], check=check)


def test_shutdown_waits_no_longer_than_its_tail_for_a_report_that_never_comes() -> None:
    def check(stage: Stage) -> None:
        assert ended(stage) == pytest.approx(budget.LONGEST_TAIL_S)

    play(INVOKE, SPINDOWN, telemetry=[(1.0, done("a"))], check=check)


@pytest.mark.parametrize("reason", ["timeout", "failure", "sandboxterminated"])
def test_after_a_timeout_no_report_is_waited_for(reason: str) -> None:
    """It is made when we are gone, and goes to the next generation."""

    def check(stage: Stage) -> None:
        assert ended(stage) == pytest.approx(0.125)

    play(INVOKE, (60.0, ("shutdown", reason), 2.0), telemetry=[(1.0, done("a"))], check=check)


def test_an_environment_that_was_never_invoked_waits_for_no_report() -> None:
    """Provisioned concurrency, or an environment that was started ahead of time."""

    def check(stage: Stage) -> None:
        assert ended(stage) == pytest.approx(0.125)
        assert stage.shop.delivered == 1

    play(SPINDOWN, telemetry=[(1.0, record())], check=check)


def test_each_late_batch_makes_the_tail_longer_within_its_budget() -> None:
    def check(stage: Stage) -> None:
        assert ended(stage) == pytest.approx(budget.LONGEST_TAIL_S)
        assert stage.shop.delivered == 40

    late = [(60.0 + n / 50, record(id=f"late{n}")) for n in range(1, 41)]
    play(SPINDOWN, telemetry=late, check=check)


def test_a_long_buffering_time_is_not_waited_out() -> None:
    """At the end Lambda sends what it still has, whatever `timeoutMs` says."""

    def check(stage: Stage) -> None:
        assert ended(stage) == pytest.approx(0.3)

    play(SPINDOWN, buffering_s=30.0, check=check)


def test_what_is_held_is_sent_while_the_tail_comes_in() -> None:
    def check(stage: Stage) -> None:
        assert stage.shop.transport.times[:2] == [1.0, 61.0]
        assert stage.shop.delivered == 2

    play(INVOKE, SPINDOWN, telemetry=[(1.0, record(), done("a"))], answers=[Retry(after=20.0)], check=check)


@pytest.mark.parametrize("answer", [Hang(), Retry(), Slow(0.9)])
@pytest.mark.parametrize("window", [2.0, 0.5, 0.0, -1.0])
def test_shutdown_is_over_before_its_deadline_and_sends_nothing_after_send_until(answer: Any, window: float) -> None:
    def check(stage: Stage) -> None:
        assert ended(stage) <= max(window, 0.0) + (0.051 if window <= 0 else 0.0)
        shut = stage.lambda_.when("shutdown")[0]
        assert all(at - shut < max(window, 0.001) for at in stage.shop.transport.times)

    play((60.0, ("shutdown", "spindown"), window), telemetry=[(1.0, *records(3))], then=answer, check=check)


def test_a_refusal_of_the_next_event_is_passed_on() -> None:
    """What is to be done then is decided one room further up; the workers still run."""

    async def main() -> None:
        async with Workshop() as shop:
            stage = Stage(shop, (0.0, ExtensionsApiError("/event/next", 403, "x", "y"), 0.0))
            with pytest.raises(ExtensionsApiError):
                await stage.lifecycle.run()
            shop.worker.offer(records(1))
            await stage.lifecycle.drain(budget.Deadline(shop.clock.monotonic() + 1.0))
            assert shop.delivered == 1

    run(main())


def test_on_managed_instances_what_is_held_is_flushed_periodically() -> None:
    async def main() -> None:
        async with Workshop(Delivered()) as shop:
            stage = Stage(shop, SPINDOWN)
            flushing = asyncio.ensure_future(stage.lifecycle.flush_periodically())
            stage.telemetry(0.5, record())
            stage.telemetry(PERIOD_S + 0.5, record(id="r1"))
            await asyncio.sleep(PERIOD_S * 3)
            flushing.cancel()
            assert shop.transport.times == [PERIOD_S, PERIOD_S * 2]

    run(main())


def test_records_without_request_are_no_news_of_an_invocation() -> None:
    def check(stage: Stage) -> None:
        assert stage.lambda_.when("next")[1] == pytest.approx(27.5)

    odd = [record({}, type="platform.runtimeDone"), record({}, type="platform.report")]
    play(INVOKE, SPINDOWN, telemetry=[(1.0, *odd)], check=check)
