"""Time as values: clocks that are passed as arguments, deadlines on the monotonic clock, ages across a freeze."""

import math
import time
from typing import NamedTuple, Protocol

from msgspec import Struct


class Clock(Protocol):
    """A source of time. Unit tests pass a clock that they move by hand."""

    def monotonic(self) -> float:
        """Return seconds that never go back, on the same scale as the event loop's `time()`."""
        ...

    def time(self) -> float:
        """Return seconds since the epoch."""
        ...


class SystemClock:
    """The machine's clocks."""

    monotonic = staticmethod(time.monotonic)  # called for each record, so it has no wrapper
    time = staticmethod(time.time)


class Deadline(Struct, frozen=True, order=True):
    """A point on the monotonic clock, in seconds. Code that passes it on may only move it earlier."""

    at: float

    @classmethod
    def from_epoch_ms(cls, deadline_ms: int, clock: Clock) -> "Deadline":
        """Convert an event's `deadlineMs` to the monotonic clock, by the current time of both clocks."""
        return cls(clock.monotonic() + deadline_ms / 1000 - clock.time())

    def earlier(self, seconds: float) -> "Deadline":
        """Return the deadline `seconds` before this one; a negative number does not move it later."""
        return Deadline(self.at - max(0.0, seconds))

    def left(self, clock: Clock) -> float:
        """Return the seconds until this deadline; 0.0 if it has passed."""
        return max(0.0, self.at - clock.monotonic())


class Moment(NamedTuple):
    """A point in time whose age can be measured even after a freeze: the time on both clocks, in seconds.

    Either clock may stand still while an environment is frozen, and the wall clock may be changed at any time.
    """

    wall: float
    monotonic: float

    @classmethod
    def now(cls, clock: Clock) -> "Moment":
        return cls(clock.time(), clock.monotonic())

    def age(self, clock: Clock) -> float:
        """Return the seconds since then, by the clock that counted more; infinity if both say it is in the future."""
        age = max(clock.time() - self.wall, clock.monotonic() - self.monotonic)
        return age if age >= 0 else math.inf
