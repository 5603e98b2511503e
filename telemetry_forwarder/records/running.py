"""Track which request runs, for a function that serves one request at a time. Pure: events in, a request or None out.

Lambda sends telemetry in order, so a line belongs to the request of the last `platform.start` unless telemetry was lost
in between. After a loss the INVOKE events tell which request ran when. If neither tells, the line gets no request: a
line without one can still be found by its time, but a line with a wrong one misleads.
"""

from collections.abc import Sequence
from typing import NamedTuple

from telemetry_forwarder.records.record import Item

ENDS = ("platform.runtimeDone", "platform.report")
_OF_A_REQUEST = ("platform.start", *ENDS)
# The newest INVOKE events are kept; after a loss they tell what runs.
_MOST_HEARD = 8
# The most time that passes from the start of an invocation until its INVOKE is read, if our process gets no CPU time.
_MOST_BELATED_MS = 1000


class Invocation(NamedTuple):
    """An INVOKE event: the request began after `asked_ms`, when we asked for the next event, and ran by `at_ms`.

    Both are wall-clock times in ms since the epoch. `asked_ms` is 0 if it is not known.
    """

    request_id: str
    asked_ms: int
    at_ms: int


class Heard(NamedTuple):
    """The last INVOKE events, oldest first, and the request of the very first one.

    They arrive independently of the telemetry, as soon as a request runs: before or after its telemetry.
    """

    invocations: tuple[Invocation, ...] = ()
    first: str | None = None

    def and_of(self, invocation: Invocation) -> "Heard":
        return Heard((*self.invocations, invocation)[-_MOST_HEARD:], self.first or invocation.request_id)

    def since(self, request_id: str | None, time_ms: int) -> tuple[Invocation, ...]:
        """Return the invocations from the request on that started at `time_ms`; all if none has started."""
        return self.invocations if request_id is None else _from(request_id, time_ms, self.invocations)


class Running:
    """The running request while the items of one batch pass. `Knowledge` has the same members between two batches.

    `told` are the invocations from the current one on, as far as they are needed: `consult` copies INVOKE events from
    `Heard` only if the telemetry leaves something open.
    """

    def __init__(
        self, current: str | None, started_ms: int, is_lost: bool, end: tuple[str, int] | None,
        told: tuple[Invocation, ...],
    ) -> None:  # fmt: skip
        self.current = current  # the request of the last start
        self.started_ms = started_ms
        self.is_lost = is_lost  # whether telemetry was lost since then, or ever if there was no start
        self.end = end  # the request whose end came last since then, and its time in ms
        self.announced = told

    def start(self, request_id: str, time_ms: int) -> list[str]:
        """Note a start. Return the earlier requests whose start was not seen."""
        missed = [one.request_id for one in self.announced if one.at_ms < time_ms and one.request_id != self.current]
        self.current, self.started_ms, self.is_lost, self.end = request_id, time_ms, False, None
        self.announced = _from(request_id, time_ms, self.announced)
        return [one for one in missed if one != request_id]

    def finish(self, request_id: str, time_ms: int) -> bool:
        """Note the end of a request. Return whether that was new."""
        is_known = request_id == self.current or any(one.request_id == request_id for one in self.announced)
        if not is_known or (self.end is not None and self.end[0] == request_id):
            return False
        self.end = (request_id, time_ms)
        return True

    def lose(self) -> bool:
        """Note that telemetry was lost, which may have contained a start. Return whether that was new."""
        was_lost, self.is_lost = self.is_lost, True
        return not was_lost

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last start does not tell which request runs now."""
        return self.is_lost or bool(self.announced and self.announced[-1].request_id != self.current)

    def at(self, time_ms: int, dead: str | None) -> str | None:
        """Return the request of a line written at `time_ms`; `dead` is the request before the first start, if any."""
        current = self.current or dead
        if not self.is_in_doubt:
            return current
        # The newest INVOKE that was read before the line was written names its candidate.
        number = next((n for n in range(len(self.announced) - 1, -1, -1) if self.announced[n].at_ms <= time_ms), -1)
        request_id = self.announced[number].request_id if number >= 0 else None
        if not self.is_lost:
            return self._of_one_that_was_lost_silently(request_id, time_ms) if request_id else current
        if request_id is None:
            # The next request begins only after the INVOKE of the current one has been read.
            is_first = bool(self.announced) and self.announced[0].request_id == self.current
            is_before_its_end = self.end is not None and self.end[0] == self.current and time_ms <= self.end[1]
            return self.current if is_first or is_before_its_end else None
        if number + 1 < len(self.announced):
            following = self.announced[number + 1]
            # The next request may have begun at any time since then, so the line may belong to either.
            if time_ms >= max(following.asked_ms, following.at_ms - _MOST_BELATED_MS):
                return None
        return None if self._is_over(request_id, time_ms) else request_id

    def _of_one_that_was_lost_silently(self, request_id: str, time_ms: int) -> str | None:
        """Return the request of a line that was written while a later request than the current one ran.

        No loss is known, but that request's start did not come. At least the end of the current one should have come.
        """
        if request_id == self.current:
            return self.current
        is_next = self.current is None or (self.end is not None and self.end[0] != request_id)
        return request_id if is_next and not self._is_over(request_id, time_ms) else None

    def _is_over(self, request_id: str, time_ms: int) -> bool:
        return self.end is not None and self.end[0] == request_id and time_ms > self.end[1]


def is_needed(heard: tuple[Invocation, ...], current: str | None, items: Sequence[Item]) -> bool:
    """Return whether a line of `items` was written during the newest of `heard`, whose start has not come."""
    newest = heard[-1]
    if newest.request_id == current:
        return False
    for item in items:
        if item.type == "platform.start" and not is_loss(item) and item.body["requestId"] == newest.request_id:
            return False
        if item.type == "function" and item.time_ms >= newest.at_ms:
            return True
    return False


def is_loss(item: Item) -> bool:
    """Return whether an item reports lost telemetry, or is an event of a request without its id."""
    if item.type == "platform.logsDropped":
        return True
    if item.type not in _OF_A_REQUEST:
        return False
    return not (isinstance(item.body, dict) and isinstance(item.body.get("requestId"), str))


def _from(request_id: str, time_ms: int, invocations: tuple[Invocation, ...]) -> tuple[Invocation, ...]:
    """Return the invocations from the one on that started at `time_ms`; an INVOKE is read after its request begins.

    If its own INVOKE has not been read yet, return those that were read later.
    """
    for number in range(len(invocations) - 1, -1, -1):
        if invocations[number].request_id == request_id:
            return invocations[number:]
    return tuple(one for one in invocations if one.at_ms >= time_ms)
