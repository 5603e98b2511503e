"""How long ago something was, whatever the clocks did meanwhile."""

import math

import pytest

from telemetry_forwarder.clock import Moment
from tests.builders import ManualClock


@pytest.mark.parametrize(
    ("monotonic", "wall", "age"),
    [
        (5.0, 5.0, 5.0),
        (0.0, 3600.0, 3600.0),  # the monotonic clock stood still in a freeze
        (3600.0, 0.0, 3600.0),  # the other one did
        (5.0, -3600.0, 5.0),  # the wall clock was set back
        (-100.0, 3600.0, 3600.0),  # another machine, after a snapshot
        (-100.0, -3600.0, math.inf),  # nobody knows: too long ago for anything
    ],
)
def test_an_age_is_that_of_the_clock_which_says_more(monotonic: float, wall: float, age: float) -> None:
    clock = ManualClock()
    then = Moment.now(clock)
    clock.now += monotonic
    clock.epoch += wall
    assert then.age(clock) == age
