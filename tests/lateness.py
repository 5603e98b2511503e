"""How late this process is: where a test shares a machine, what it measures is late by as much."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

TICK_S = 0.01


@dataclass
class Lateness:
    """The sum of what the ticks of this event loop came late, in milliseconds."""

    sum_ms: float = 0.0


@asynccontextmanager
async def lateness() -> AsyncIterator[Lateness]:
    """Count it while the context is open."""
    found, loop = Lateness(), asyncio.get_running_loop()

    async def tick() -> None:
        while True:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            found.sum_ms += (loop.time() - due) * 1000

    ticking = loop.create_task(tick())
    try:
        yield found
    finally:
        ticking.cancel()
