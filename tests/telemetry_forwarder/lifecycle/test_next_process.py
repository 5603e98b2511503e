"""How an environment ends decides who has what could not be delivered: the next process, or the books."""

import asyncio
from collections import deque

import pytest

from telemetry_forwarder.app import _live
from telemetry_forwarder.errors import ExtensionsApiError
from telemetry_forwarder.lambda_api.client import Event, Shutdown
from telemetry_forwarder.lifecycle.budget import Holding
from telemetry_forwarder.lifecycle.loop import Lifecycle
from telemetry_forwarder.lifecycle.machine import Machine
from telemetry_forwarder.lifecycle.strategy import Mode, Strategy
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import clock
from tests.generations import World

REFUSED = ExtensionsApiError("/event/next", 403, "Forbidden", "no more")


class EndingLambda:
    """Ends the environment at once, in the way that it is told."""

    def __init__(self, world: World, reason: str) -> None:
        self._world = world
        self._reason = reason
        self.told: deque[str] = deque()

    async def next_event(self) -> Event:
        if self._reason == "refused":
            raise REFUSED
        return Shutdown(self._reason, self._world.clock.epoch_ms(2.0))

    async def exit_error(self, error_type: str, message: str) -> None:
        self.told.append(error_type)


@pytest.mark.parametrize(
    ("reason", "has_heir"), [("timeout", True), ("failure", True), ("refused", True), ("spindown", False)]
)
@in_virtual_time
async def test_what_is_held_at_the_end_goes_to_the_next_process_where_there_is_one(reason: str, has_heir: bool) -> None:
    world = World(clock(), "a", max_bytes=1_000_000)
    world.backends["a"].is_well = False
    world.take(9)
    worker = world.process.workers["a"]
    lambda_ = EndingLambda(world, reason)
    lifecycle = Lifecycle(
        client=lambda_,  # type: ignore[arg-type]
        machine=Machine(
            clock=world.clock, strategy=Strategy(Mode.END), holding=Holding(longest_s=0.5), buffering_s=0.025
        ),
        workers=[worker],
        counts=world.process.counts,
        clock=world.clock,
        log=world.lines.log,
        last_word=lambda: None,
    )
    code = await _live(lifecycle, lambda_, world.clock, world.lines.log, has_fallback=False)  # type: ignore[arg-type]
    statement = worker.statement()
    assert (statement.held, statement.spilled) == (0, 9 if has_heir else 0)
    assert statement.dropped == ({} if has_heir else {"deadline": 9})
    assert (code, list(lambda_.told)) == ((1, ["Extension.EventsRefused"]) if reason == "refused" else (0, []))
    world.process.spool.close()
    assert bool(world.store.files) is has_heir
    world.kill()
    assert world.process.workers["a"].held == (9 if has_heir else 0)
    world.process.die()
    await asyncio.sleep(0)
