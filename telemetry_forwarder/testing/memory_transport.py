"""A transport that answers requests from a script instead of the network: for tests and demos."""

import asyncio
from collections.abc import Iterable
from enum import Enum
from typing import Any, Generic

from msgspec import Struct

from telemetry_forwarder.errors import ConnectFailed
from telemetry_forwarder.interfaces import Request, Response


class _Silence(Enum):
    """The type of `HANG`, the step of a script that never answers."""

    HANG = "hang"


HANG = _Silence.HANG


class Delay(Struct, frozen=True):
    """A step of a script: play the step `then` after `seconds` on the event loop's clock."""

    seconds: float
    then: Any


class ScriptEnded(AssertionError):
    """More requests were sent than the script has answers for."""


class MemoryTransport(Generic[Request, Response]):
    """Answer each request with the next step of `script`; record the requests, their times and cancellations.

    A step is a response, an exception (raised), `HANG` (until the caller cancels), `Delay(seconds, step)`, or a
    callable that gets the request and returns a step. After the end of the script the step `otherwise` is played;
    without it, `send` raises ScriptEnded. `script` may be endless.
    """

    def __init__(self, script: Iterable[Any] = (), *, otherwise: Any = None) -> None:
        self._steps = iter(script)
        self._otherwise = otherwise
        self.requests: list[Request] = []
        self.times: list[float] = []  # of each request, on the event loop's clock
        self.in_flight = 0
        self.cancelled = 0
        self.is_closed = False

    async def send(self, request: Request) -> Response:
        if self.is_closed:
            raise ConnectFailed("the transport is closed")
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        self.in_flight += 1
        try:
            return await self._play(next(self._steps, self._otherwise), request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1

    async def aclose(self) -> None:
        self.is_closed = True

    async def _play(self, step: Any, request: Request) -> Response:
        while True:
            if step is None:
                raise ScriptEnded(f"request {len(self.requests)} has no answer in the script")
            if step is HANG:
                await asyncio.get_running_loop().create_future()
            elif isinstance(step, Delay):
                await asyncio.sleep(step.seconds)
                step = step.then
            elif isinstance(step, BaseException) or (isinstance(step, type) and issubclass(step, BaseException)):
                raise step
            elif callable(step):
                step = step(request)
            else:
                answer: Response = step
                return answer
