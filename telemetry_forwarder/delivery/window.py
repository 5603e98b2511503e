"""The window in which one sink may send, as a value: until when, whether somebody waits, whether it is the last."""

import asyncio
import math
from collections.abc import Callable

from msgspec import Struct

from telemetry_forwarder.clock import Clock, Deadline, Moment

# A deadline that never comes, and one that is always past.
ALWAYS, NEVER = Deadline(math.inf), Deadline(0.0)
# The last attempt ends this much before the last window does, so that its failure is still entered in the books.
LAST_ANSWER_S = 0.02


class SendWindow(Struct, frozen=True):
    """What may be sent until another window is given. `delivery/worker.py` begins with a table of the kinds.

    No attempt starts at or after `until`. If somebody waits, `answer_by` says until when: only attempts start that are
    likely to be answered by then. With `linger`, records are sent by themselves, that many seconds after they came;
    without it, only on request or when memory fills. `is_last`: there is no other chance, so attempts start whatever
    the destination's health and speed, and those that still run near the end are cut off.
    """

    until: Deadline = ALWAYS
    answer_by: Deadline | None = None
    linger: float | None = None
    is_last: bool = False

    @property
    def stop_at(self) -> Deadline | None:
        """When attempts under way are cut off; None for never."""
        return self.until.earlier(LAST_ANSWER_S) if self.is_last else None


# No attempt starts, because the environment may be frozen. Attempts under way go on.
CLOSED = SendWindow(NEVER)


def answered_by(deadline: Deadline) -> SendWindow:
    """Return the window of a flush, for which somebody waits until `deadline`."""
    return SendWindow(deadline, answer_by=deadline)


class LingerTimer:
    """Calls `ring` when held records have waited for their window's `linger`. Not set while nothing is held."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._since = Moment(0.0, 0.0)

    def start(self, seconds: float) -> None:
        """Ring in `seconds`, unless the timer is set already."""
        if self._timer is None:
            self._since = Moment.now(self._clock)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._fall_due)

    def is_overdue(self, seconds: float) -> bool:
        """Return whether the timer was set `seconds` ago. The timer itself may stand still during a freeze."""
        return self._timer is not None and self._since.age(self._clock) >= seconds

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fall_due(self) -> None:
        self._timer = None
        self._ring()
