"""Asynchronous invocations: a queue in front of the function, retries, and a record of what was given up.

Source: AWS docs "How Lambda handles errors and retries with asynchronous invocation".
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from local_lambda.errors import EmulatorError, InvalidSetting
from local_lambda.results import Invocation
from local_lambda.rules.destination_records import Condition, failure
from local_lambda.serving.deployment import Deployment
from local_lambda.settings import Function

_MENDING_S = 1.0  # between two looks at whether the function can run again

OnFailure = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRetries:
    """How often an event is tried again, and for how long. Times are in seconds.

    Lambda waits a minute before the second attempt and two before the third; here `first_wait_s` is short, and is
    doubled too. An event that is older than `max_age_s` when its turn comes is given up.
    """

    attempts: int = 2  # after the first
    first_wait_s: float = 1.0
    max_age_s: float = 6 * 3600.0

    def __post_init__(self) -> None:
        if not 0 <= self.attempts <= 2:
            raise InvalidSetting(
                f"The retries of an asynchronous invocation are {self.attempts}; Lambda allows 0 to 2."
            )
        if not 0 < self.max_age_s <= 6 * 3600:
            raise InvalidSetting(f"The age of an event is {self.max_age_s:g} s; Lambda allows up to 21600.")


@dataclass(slots=True, kw_only=True)
class _Event:
    """One event of the queue. Its request id stays the same in all attempts, as on Lambda."""

    payload: bytes
    request_id: str
    trace: str | None
    client_context: str | None
    queued_at: float
    attempts: int = 0
    last: Invocation | None = None


class EventQueue:
    """The queue, as an async context manager. `on_failure` gets the record of each event that is given up."""

    def __init__(self, deployment: Deployment, retries: EventRetries, on_failure: OnFailure) -> None:
        self._deployment = deployment
        self._retries = retries
        self._on_failure = on_failure
        self._tasks = asyncio.TaskGroup()
        self._waiting: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._waiting:
            task.cancel()
        await self._tasks.__aexit__(kind, error, trace)

    @property
    def waiting(self) -> int:
        """How many events have neither been processed nor given up."""
        return len(self._waiting)

    def put(self, payload: bytes, *, request_id: str, trace: str | None, client_context: str | None) -> None:
        """Invoke the function as soon as it has room, and again if it fails; return at once."""
        event = _Event(
            payload=payload,
            request_id=request_id,
            trace=trace,
            client_context=client_context,
            queued_at=time.monotonic(),
        )
        task = self._tasks.create_task(self._process(event))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)

    async def _process(self, event: _Event) -> None:
        """Try until the function has succeeded, or the event is given up."""
        while True:
            try:
                async with self._deployment.fleet(takes_turns=True) as fleet:
                    function = fleet.function
                    if time.monotonic() - event.queued_at > self._retries.max_age_s:
                        return self._give_up(event, function, "EventAgeExceeded")
                    served = await fleet.serve(
                        event.payload,
                        request_id=event.request_id,
                        trace=event.trace,
                        client_context=event.client_context,
                    )
            except EmulatorError:  # not the function's fault, so no attempt: it was stopped, or is being mended
                await asyncio.sleep(_MENDING_S)
                continue
            event.attempts += 1
            event.last = served.invocation
            if event.last.function_error is None:
                return None
            if event.attempts > self._retries.attempts:
                return self._give_up(event, function, "RetriesExhausted")
            await asyncio.sleep(self._retries.first_wait_s * 2 ** (event.attempts - 1))

    def _give_up(self, event: _Event, function: Function, condition: Condition) -> None:
        self._on_failure(
            failure(
                function,
                event.request_id,
                event.payload,
                condition=condition,
                attempts=event.attempts,
                last=event.last,
                at=time.time(),
            )
        )
