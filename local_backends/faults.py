"""The faults that a local backend can be told to produce, and the queue that hands them out.

A fault is a value. `times` is the number of requests it applies to (None: every one from then on). The faults common to
all backends are here; a fault of only one service (`BadEvent`, `RejectEvents`, …) is defined next to that service.
"""

import asyncio
from collections import deque
from dataclasses import dataclass

ANY: str = "*"  # value of `on`: any operation


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer with `status` and the backend's own error body; `code` selects one of its errors with that status.

    `code` is a HEC code for Splunk and an error type for AWS; Datadog has none. `retry_after` (seconds) becomes a
    `Retry-After` header. With `stored` the request is carried out before this answer.
    """

    status: int
    times: int | None = 1
    code: int | str | None = None
    retry_after: float | None = None
    stored: bool = False


@dataclass(frozen=True, slots=True)
class Throttle:
    """Answer "too many requests" as the backend does, with `retry_after` (seconds) in the header named `header`.

    For AWS services that is HTTP 400 with `ThrottlingException`, and `x-amz-retry-after` (milliseconds) is sent too.
    """

    retry_after: float | None = None
    times: int | None = 1
    header: str = "Retry-After"


@dataclass(frozen=True, slots=True)
class TooLarge:
    """Refuse the request as too large, whatever its size, as the backend does."""

    times: int | None = 1


@dataclass(frozen=True, slots=True)
class Hang:
    """Hold the request for `seconds` (None: until `Faults.release`), then carry it out and answer.

    If the client disconnects meanwhile, the request is never carried out.
    """

    seconds: float | None = None
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class Slow:
    """Carry the request out at once, and answer after `seconds`. The data is stored even if the client gives up."""

    seconds: float
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection (TCP RST) instead of answering; with `stored`, carry the request out first."""

    stored: bool = False
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class HalfAnswer:
    """Carry the request out, send the head and half of the body of the answer, and close the connection."""

    times: int | None = 1


@dataclass(frozen=True, slots=True)
class Page:
    """Answer with `status` and a page of HTML, as a proxy does; nothing is stored. `size` pads it."""

    status: int = 502
    size: int = 0
    times: int | None = 1


class ServiceFault:
    """The base class of faults of only one service; the service itself produces them."""

    __slots__ = ()
    times: int | None


@dataclass(frozen=True, slots=True)
class Withhold:
    """Apply `then` (None: carry the request out), but hold its result back until `Faults.release`.

    A client that is frozen meanwhile finds the result in its socket when it thaws.
    """

    then: "Fault | None" = None
    times: int | None = 1


Fault = Answer | Throttle | TooLarge | Hang | Slow | Reset | HalfAnswer | Page | Withhold | ServiceFault


@dataclass(slots=True)
class _Scripted:
    fault: Fault
    on: str | None
    left: int | None


class Faults:
    """The faults waiting for the next requests of one backend.

    A fault applies to the backend's delivery operations (`deliveries`), unless `on` names another operation or is
    `ANY`. `own` are the service's own faults; scripting those of another service raises TypeError.
    """

    def __init__(self, deliveries: frozenset[str], own: tuple[type, ...] = ()) -> None:
        self._deliveries = deliveries
        self._known = (Answer, Throttle, TooLarge, Hang, Slow, Reset, HalfAnswer, Page, Withhold, *own)
        self._queue: deque[_Scripted] = deque()
        self._always: list[_Scripted] = []
        self._release = asyncio.Event()

    def script(self, *faults: Fault, on: str | None = None) -> None:
        """Append `faults` to the queue; each applies to `times` matching requests, in this order."""
        self._queue.extend(self._scripted(fault, on) for fault in faults)

    def always(self, fault: Fault, on: str | None = None) -> None:
        """Apply `fault` to every matching request for which no fault is queued, until `clear`."""
        scripted = self._scripted(fault, on)
        scripted.left = None
        self._always.insert(0, scripted)

    def clear(self) -> None:
        """Remove all faults not used yet. Requests that hang continue to hang: see `release`."""
        self._queue.clear()
        self._always.clear()

    def release(self) -> None:
        """Let every request that hangs now continue."""
        self._release.set()
        self._release = asyncio.Event()

    @property
    def pending(self) -> int:
        """The number of faults in the queue."""
        return len(self._queue)

    def take(self, operation: str) -> Fault | None:
        """Return the fault for a request of `operation` and count it as used; None to serve the request normally."""
        for scripted in [*self._queue, *self._always]:
            if self._meets(scripted, operation):
                self._use(scripted)
                return scripted.fault
        return None

    async def hang(self, seconds: float | None) -> None:
        """Wait for `release`, at most `seconds`."""
        release = self._release
        try:
            async with asyncio.timeout(seconds):
                await release.wait()
        except TimeoutError:
            return

    def _scripted(self, fault: Fault, on: str | None) -> _Scripted:
        self._check(fault)
        if fault.times is not None and fault.times < 1:
            raise ValueError(f"{fault!r} would never be used")
        return _Scripted(fault, on, fault.times)

    def _check(self, fault: Fault) -> None:
        if not isinstance(fault, self._known):
            names = ", ".join(known.__name__ for known in self._known)
            raise TypeError(f"{fault!r} is no fault of this backend, which knows {names}")
        if isinstance(fault, Withhold) and fault.then is not None:
            self._check(fault.then)

    def _meets(self, scripted: _Scripted, operation: str) -> bool:
        if scripted.on is None:
            return operation in self._deliveries
        return scripted.on in (ANY, operation)

    def _use(self, scripted: _Scripted) -> None:
        if scripted.left is None:
            return
        scripted.left -= 1
        if not scripted.left:
            self._queue.remove(scripted)
