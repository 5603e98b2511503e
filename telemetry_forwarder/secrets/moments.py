"""Points in time that survive a freeze: each is taken on the wall clock and on the monotonic clock at once."""

import math
from typing import NamedTuple

from telemetry_forwarder.clock import Clock


class Moment(NamedTuple):
    """A point in time. While an environment is frozen either clock may stand still, and either may be set anew."""

    wall: float
    monotonic: float

    def age(self, clock: Clock) -> float:
        """Return the seconds since then: by the clock that says more, for ever where both say that it is to come."""
        age = max(clock.time() - self.wall, clock.monotonic() - self.monotonic)
        return age if age >= 0 else math.inf


def now(clock: Clock) -> Moment:
    return Moment(clock.time(), clock.monotonic())
