"""Time as a value: a clock to be handed down, deadlines as points on its monotonic line, ages across a freeze."""

import math
import time
from typing import NamedTuple, Protocol

from telemetry_forwarder.lazy_dataclass import dataclass


class Clock(Protocol):
    """What may be asked for the time. Unit tests pass one that they move by hand."""

    def monotonic(self) -> float:
        """Seconds on a line that never goes back; the same line as the event loop's `time()`."""
        ...

    def time(self) -> float:
        """Seconds since the epoch."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)  # asked for each record
    time = staticmethod(time.time)


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """A point on the monotonic line, in seconds. It is handed down and only ever moved earlier."""

    at: float

    @classmethod
    def from_epoch_ms(cls, deadline_ms: int, clock: Clock) -> "Deadline":
        """Place an event's `deadlineMs` on the monotonic line, as both clocks stand now."""
        return cls(clock.monotonic() + deadline_ms / 1000 - clock.time())

    def earlier(self, seconds: float) -> "Deadline":
        """Return the point `seconds` before this one (a negative length does not move it later)."""
        return Deadline(self.at - max(0.0, seconds))

    def left(self, clock: Clock) -> float:
        """Seconds until this point; 0.0 when it has passed."""
        return max(0.0, self.at - clock.monotonic())


class Moment(NamedTuple):
    """A point in time of which the age is asked later, perhaps behind a freeze: taken on both clocks, in seconds.

    While an environment is frozen either clock may stand still, and the wall clock may be set anew at any time.
    """

    wall: float
    monotonic: float

    @classmethod
    def now(cls, clock: Clock) -> "Moment":
        return cls(clock.time(), clock.monotonic())

    def age(self, clock: Clock) -> float:
        """Return the seconds since then: by the clock that says more, for ever where both say that it is to come."""
        age = max(clock.time() - self.wall, clock.monotonic() - self.monotonic)
        return age if age >= 0 else math.inf
