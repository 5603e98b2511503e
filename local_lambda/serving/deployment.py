"""What answers the requests of an endpoint: one fleet after the other, as the code changes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from local_lambda.errors import EmulatorError
from local_lambda.fleet import Fleet
from local_lambda.watch import Watch


class Deployment:
    """The fleet that answers now. Between two fleets requests wait, so an endpoint in front of it loses none.

    With `takes_turns` a request that finds all environments busy waits, too, where Lambda would throttle it.
    """

    def __init__(self, fleet: Fleet | None = None, *, takes_turns: bool = False) -> None:
        self._fleet = fleet
        self._takes_turns = takes_turns
        self._error: EmulatorError | None = None
        self._at_work = 0
        self._watch = Watch()

    @contextlib.asynccontextmanager
    async def fleet(self, *, takes_turns: bool | None = None) -> AsyncIterator[Fleet]:
        """Wait for a fleet and count as its work; `takes_turns` is other than usual for this request, if given.

        Raises the error given to `fail` if there is none to wait for.
        """
        fleet = await self._ready_fleet(self._takes_turns if takes_turns is None else takes_turns)
        self._at_work += 1
        try:
            yield fleet
        finally:
            self._at_work -= 1
            self._watch.notify()

    async def _ready_fleet(self, takes_turns: bool) -> Fleet:
        """Wait for a fleet, and for its room if need be. The caller begins its work without another wait."""
        while True:
            if self._error is not None:
                raise self._error.with_traceback(None)  # it is raised for many, and would grow with each
            fleet = self._fleet
            if fleet is None:
                await self._watch.until(lambda: self._fleet is not None or self._error is not None)
                continue
            if takes_turns:
                await fleet.until_room()
            if fleet is self._fleet:  # else it was withdrawn meanwhile
                return fleet

    def put(self, fleet: Fleet) -> None:
        """Send requests to `fleet` from now on, also those that wait."""
        self._fleet, self._error = fleet, None
        self._watch.notify()

    def fail(self, error: EmulatorError) -> None:
        """Refuse requests with `error` from now on, also those that wait."""
        self._fleet, self._error = None, error
        self._watch.notify()

    async def withdraw(self, limit_s: float) -> None:
        """Let requests wait from now on; return when those in progress are answered, at most after `limit_s`."""
        self._fleet = self._error = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._watch.until(lambda: self._at_work == 0)
