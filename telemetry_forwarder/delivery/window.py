"""What one sink may send now, as a value: until when, who waits for it, and whether it is for the last time."""

import asyncio
import math
from collections.abc import Callable

from telemetry_forwarder.clock import Clock, Deadline, Moment
from telemetry_forwarder.lazy_dataclass import dataclass

# As long as the process lives; and what is past at any time.
ALWAYS, NEVER = Deadline(math.inf), Deadline(0.0)
# The last attempt ends this much before a last window does, so that its failure is still entered in the books.
LAST_ANSWER_S = 0.02


@dataclass(frozen=True, slots=True)
class SendWindow:
    """What may be sent until another window is given. `delivery/worker.py` opens with what follows from each.

    No attempt starts at or after `until`. Where somebody waits, `answer_by` is until when: only such attempts start as
    should be answered by then. With `linger`, what is held goes out by itself, so many seconds after it came; without,
    when it is asked for, or memory fills. `is_last`: there is no other chance, so neither the destination's health nor
    its pace counts, and what still runs near the end is cut off.
    """

    until: Deadline = ALWAYS
    answer_by: Deadline | None = None
    linger: float | None = None
    is_last: bool = False

    @property
    def stop_at(self) -> Deadline | None:
        """When even a running attempt is cut off; None for never."""
        return self.until.earlier(LAST_ANSWER_S) if self.is_last else None


# Nothing starts: the environment may be frozen. What is under way is left as it is.
CLOSED = SendWindow(NEVER)


def answered_by(deadline: Deadline) -> SendWindow:
    """Return the window of a flush: somebody waits until `deadline`."""
    return SendWindow(deadline, answer_by=deadline)


class LingerTimer:
    """Rings when what is held has waited for as long as its window lets it. Not set where nothing is held."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._since = Moment(0.0, 0.0)

    def start(self, seconds: float) -> None:
        """Ring in so many seconds, unless it is set already."""
        if self._timer is None:
            self._since = Moment.now(self._clock)
            self._timer = asyncio.get_running_loop().call_later(seconds, self._fall_due)

    def is_overdue(self, seconds: float) -> bool:
        """Say whether it was set so long ago: in a freeze the loop's clock, and the timer with it, may stand still."""
        return self._timer is not None and self._since.age(self._clock) >= seconds

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fall_due(self) -> None:
        self._timer = None
        self._ring()
