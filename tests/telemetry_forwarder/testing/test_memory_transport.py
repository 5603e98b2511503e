"""The scripted transport does what its script says."""

import asyncio

import pytest

from telemetry_forwarder.errors import ConnectFailed, TimedOut
from telemetry_forwarder.testing.memory_transport import HANG, Delay, MemoryTransport, ScriptEnded


async def test_steps_are_played_in_order_and_requests_remembered():
    transport = MemoryTransport(["one", TimedOut("late"), TimedOut, lambda request: request * 2], otherwise="more")
    assert await transport.send("a") == "one"
    with pytest.raises(TimedOut, match="late"):
        await transport.send("b")
    with pytest.raises(TimedOut):
        await transport.send("c")
    assert await transport.send("d") == "dd"
    assert [await transport.send("e"), await transport.send("f")] == ["more", "more"]
    assert transport.requests == list("abcdef")
    assert transport.times == sorted(transport.times)
    assert len(transport.times) == 6


async def test_a_script_that_is_over_is_said():
    with pytest.raises(ScriptEnded, match="request 1"):
        await MemoryTransport().send("a")


async def test_a_delay_passes_on_the_loops_clock_and_then_plays_its_step():
    transport, loop = MemoryTransport([Delay(0.02, lambda request: Delay(0.01, "late"))]), asyncio.get_running_loop()
    start = loop.time()
    assert await transport.send("a") == "late"
    assert loop.time() - start >= 0.03


async def test_a_hang_ends_with_the_callers_patience():
    transport = MemoryTransport([HANG])
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await transport.send("a")
    assert (transport.cancelled, transport.in_flight) == (1, 0)


async def test_nothing_is_sent_after_closing():
    transport = MemoryTransport(otherwise="x")
    await transport.aclose()
    with pytest.raises(ConnectFailed):
        await transport.send("a")
    assert transport.requests == []
