"""How late this process is: where a test shares a machine, what it measures is late by as much."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

TICK_S = 0.01


@dataclass
class Lateness:
    """What the ticks of this event loop came late, as (when each came on the loop's clock, in milliseconds)."""

    ticks: list[tuple[float, float]] = field(default_factory=list)

    @property
    def sum_ms(self) -> float:
        """What they came late in all."""
        return sum(late_ms for _, late_ms in self.ticks)

    def last_ms(self, within_ms: float) -> float:
        """Return what they came late within the last `within_ms`, a tick that was under way then included."""
        since = asyncio.get_running_loop().time() - within_ms / 1000
        return sum(late_ms for at, late_ms in self.ticks if at >= since)


@asynccontextmanager
async def lateness() -> AsyncIterator[Lateness]:
    """Count it while the context is open."""
    found, loop = Lateness(), asyncio.get_running_loop()

    async def tick() -> None:
        while True:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            found.ticks.append((loop.time(), (loop.time() - due) * 1000))

    ticking = loop.create_task(tick())
    try:
        yield found
    finally:
        ticking.cancel()
