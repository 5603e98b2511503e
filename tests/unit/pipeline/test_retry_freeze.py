"""An attempt or a pause when the environment freezes, thaws, or ends."""

import asyncio

import pytest

from telemetry_forwarder.clock import Deadline
from telemetry_forwarder.interfaces import Delivered, Retry, Verdict
from telemetry_forwarder.pipeline.retry import ATTEMPT_S
from tests.builders import Hang, Slow, in_seconds, run
from tests.unit.pipeline.test_retry import Bench


def test_an_answer_that_waits_after_a_freeze_is_read() -> None:
    """Timers fire as soon as the environment thaws; the attempt's own must not."""

    async def main() -> None:
        answers: asyncio.Queue[Verdict] = asyncio.Queue()
        bench = Bench()
        bench.transport.send = lambda request: answers.get()  # type: ignore[method-assign]
        running = asyncio.ensure_future(bench.delivery.run())
        await asyncio.sleep(2.0)
        bench.delivery.freeze()
        bench.delivery.freeze()
        await asyncio.sleep(3600.0)
        answers.put_nowait(Delivered())
        bench.delivery.deadline = in_seconds(60)
        bench.delivery.thaw()
        assert await running
        assert bench.account.attempts == 1

    run(main())


def test_after_a_thaw_an_attempt_has_the_time_that_it_had_left() -> None:
    async def main() -> None:
        bench = Bench(Hang(), deadline=8000.0)
        running = asyncio.ensure_future(bench.delivery.run())
        await asyncio.sleep(4.0)
        bench.delivery.freeze()
        await asyncio.sleep(3600.0)
        bench.delivery.thaw()
        bench.delivery.thaw()
        assert await running
        assert 3610.0 <= bench.transport.times[1] <= 3610.2

    run(main())


def test_an_attempt_that_ends_in_a_freeze_leaves_no_time_for_the_next() -> None:
    async def main() -> None:
        bench = Bench(Slow(1.0, Retry()), Hang(), deadline=100.0)
        running = asyncio.ensure_future(bench.delivery.run())
        await asyncio.sleep(0.5)
        bench.delivery.freeze()
        await asyncio.sleep(3.0)
        bench.delivery.thaw()
        assert await running
        assert bench.transport.times[2] - bench.transport.times[1] >= ATTEMPT_S

    run(main())


@pytest.mark.parametrize("is_frozen", [False, True])
def test_stop_by_cuts_a_running_attempt(is_frozen: bool) -> None:
    async def main() -> None:
        bench = Bench(then=Hang())
        running = asyncio.ensure_future(bench.delivery.run())
        await asyncio.sleep(1.0)
        if is_frozen:
            bench.delivery.freeze()
        bench.delivery.deadline = in_seconds(1.5)
        bench.delivery.stop_by(in_seconds(1.5))
        assert not await running
        assert bench.clock.monotonic() == pytest.approx(1002.5)
        assert bench.transport.open == 0

    run(main())


def test_stop_by_never_gives_an_attempt_more_time() -> None:
    async def main() -> None:
        bench = Bench(Hang(), deadline=5.0)
        running = asyncio.ensure_future(bench.delivery.run())
        await asyncio.sleep(1.0)
        bench.delivery.stop_by(in_seconds(100))
        assert not await running
        assert bench.clock.monotonic() == pytest.approx(1000.0 + ATTEMPT_S)

    run(main())


def test_stop_by_bounds_attempts_that_start_later() -> None:
    async def main() -> None:
        bench = Bench(Hang(), deadline=3.0)
        bench.delivery.stop_by(in_seconds(3.0))
        assert not await bench.delivery.run()
        assert bench.clock.monotonic() == pytest.approx(1003.0)

    run(main())


def test_a_pause_ends_when_the_deadline_is_moved_before_it() -> None:
    """The end of an invocation: its flush must not hold it open for a pause that will not fit."""

    async def main() -> None:
        bench = Bench(Retry(after=20.0))
        running = asyncio.ensure_future(bench.delivery.run())
        await asyncio.sleep(1.0)
        bench.delivery.deadline = in_seconds(2.0)
        assert not await running
        assert bench.clock.monotonic() == 1001.0

    run(main())


def test_a_pause_goes_on_where_the_deadline_is_moved_behind_it() -> None:
    async def main() -> None:
        bench = Bench(Retry(after=20.0))
        running = asyncio.ensure_future(bench.delivery.run())
        for _ in range(3):
            await asyncio.sleep(1.0)
            bench.delivery.deadline = in_seconds(30.0)
        assert await running
        assert bench.transport.times == [0.0, 20.0]

    run(main())


def test_shutdown_ends_a_pause_with_one_more_attempt() -> None:
    """What the destination asked for is worth less then than the records."""

    async def main() -> None:
        bench = Bench(Retry(after=20.0))
        running = asyncio.ensure_future(bench.delivery.run())
        await asyncio.sleep(1.0)
        bench.delivery.deadline = in_seconds(1.5)
        bench.delivery.stop_by(in_seconds(1.5))
        assert await running
        assert bench.transport.times == [0.0, 1.0]

    run(main())


def test_a_wait_that_is_asked_for_at_the_end_and_does_not_fit_ends_the_delivery() -> None:
    async def main() -> None:
        bench = Bench(Retry(after=20.0), deadline=1.5)
        bench.delivery.stop_by(Deadline(bench.clock.monotonic() + 1.5))
        assert not await bench.delivery.run()
        assert bench.transport.times == [0.0]

    run(main())
