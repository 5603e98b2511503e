"""The tasks of attempts end with the block that starts them, and no round of the event loop later."""

import asyncio

import pytest

from telemetry_forwarder.delivery.pieces import Tasks
from telemetry_forwarder.testing.virtual_time import in_virtual_time


async def _slow(ended: list[str]) -> None:
    try:
        await asyncio.sleep(60)
    finally:
        await asyncio.sleep(1)  # as a transport that closes its connection
        ended.append("slow")


@in_virtual_time
async def test_a_block_whose_tasks_have_ended_is_left_in_the_same_round() -> None:
    rounds: list[int] = []
    async with Tasks() as tasks:
        await asyncio.wait([tasks.create(asyncio.sleep(1))])
        asyncio.get_running_loop().call_soon(rounds.append, 1)
    assert rounds == []


@in_virtual_time
async def test_a_task_that_was_cancelled_is_waited_for_and_not_cancelled_again() -> None:
    ended: list[str] = []
    async with Tasks() as tasks:
        task = tasks.create(_slow(ended))
        await asyncio.sleep(1)
        task.cancel()
    assert ended == ["slow"]
    assert task.cancelled()


@in_virtual_time
async def test_an_error_ends_the_tasks_and_is_raised_as_it_is() -> None:
    ended: list[str] = []

    async def fail() -> None:
        async with Tasks() as tasks:
            tasks.create(_slow(ended))
            await asyncio.sleep(1)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert ended == ["slow"]


@in_virtual_time
async def test_whoever_is_cancelled_takes_the_tasks_along() -> None:
    ended: list[str] = []

    async def run() -> None:
        async with Tasks() as tasks:
            for _ in range(3):
                tasks.create(_slow(ended))
            await asyncio.sleep(60)

    running = asyncio.ensure_future(run())
    await asyncio.sleep(1)
    running.cancel()
    await asyncio.wait([running])
    assert running.cancelled()
    assert ended == ["slow"] * 3
