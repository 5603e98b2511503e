"""Virtual time shows what goes wrong in it, wherever it does."""

import asyncio
import signal

import pytest

from telemetry_forwarder.testing.virtual_time import run


@pytest.mark.parametrize("error", [AssertionError("no"), ZeroDivisionError(), pytest.fail.Exception("time is up")])
def test_what_a_callback_raises_ends_the_run(error: BaseException) -> None:
    """asyncio would write it to the log, and the test pass, or fail for what it never heard of."""

    def fail() -> None:
        raise error

    async def main() -> None:
        asyncio.get_running_loop().call_later(1.0, fail)
        await asyncio.sleep(5.0)
        pytest.fail("it went on")

    with pytest.raises(type(error)) as caught:
        run(main())
    assert caught.value is error


def test_an_alarm_in_a_callback_ends_the_run() -> None:
    """As pytest-timeout's, whose exception is raised in whatever runs when it comes."""

    def ring(number: int, frame: object) -> None:
        raise pytest.fail.Exception("time is up")

    async def main() -> None:
        asyncio.get_running_loop().call_later(1.0, signal.raise_signal, signal.SIGUSR1)
        await asyncio.sleep(5.0)
        pytest.fail("it went on")

    before = signal.signal(signal.SIGUSR1, ring)
    try:
        with pytest.raises(pytest.fail.Exception, match="time is up"):
            run(main())
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_is_left_is_cancelled_after_a_failure() -> None:
    ended = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(wait())
            asyncio.get_running_loop().call_later(1.0, [].pop)

    with pytest.raises(IndexError):
        run(main())
    assert ended == [True]
