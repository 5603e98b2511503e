"""What the page is told of the places that records go to. Whoever starts them hands them in as a `Destination`.

The page knows neither the extension that sends nor the services that receive.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """One record as it was found outside of Lambda: at a destination, or on its way there.

    `id` is the same whenever the same record is seen. `time_ms`, `type` and `content` are those of the telemetry event
    that it was made from, as far as they can be told; by them it is recognized when it is seen for the first time.
    """

    id: str
    time_ms: int  # since the epoch
    type: str
    content: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to a destination. Times are seconds since the epoch; `ended` is None while it has no end.

    `status` is None as long as there is no answer, and if there never was one. `fault` is the fault that it met.
    """

    operation: str
    began: float
    ended: float | None = None
    status: int | None = None
    is_broken_off: bool = False
    fault: str | None = None
    brought: Sequence[Sighting] = ()


class Destination(Protocol):
    """A place that records go to. `faults` maps the faults that can be set to what they do, in words."""

    name: str
    faults: Mapping[str, str]
    fault: str | None

    @property
    def request_count(self) -> int:
        """The number of requests so far."""
        ...

    def request(self, number: int) -> Request:
        """Return request `number` (from 0) as it stands now."""
        ...

    def waiting(self) -> Sequence[Sighting] | None:
        """Return the records that the extension keeps on disk for this destination; None if that cannot be told."""
        ...

    def set_fault(self, fault: str | None) -> None:
        """Meet all requests from now on with one of `faults`, or with none. Those that hang go on."""
        ...

    def observe(self, observer: Callable[[], None]) -> None:
        """Call `observer` after each request and each answer. It is quick and does not raise."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Book:
    """The account of one destination in an extension's ledger: named counts, and whether they balance."""

    name: str
    counts: Mapping[str, int]
    balances: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """What an extension says, in a log line of its own, about the records that went through it.

    `law` is the equation that each book must keep to, in words.
    """

    books: Sequence[Book] = field(default_factory=list)
    law: str = ""


ReadLedger = Callable[[str], Ledger | None]  # reads a log line of an extension; None if it is no ledger
