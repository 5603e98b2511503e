"""Which request runs, on a function that serves one at a time. Pure: what is told, in order, in; a request or None out.

Lambda sends telemetry in order, so a line belongs to the request of the last `platform.start`, as long as nothing was
lost between the two. Where something was, the INVOKE events tell which request ran when; what neither tells is of no
request: a line without one can be found by its time, a line of a wrong one misleads.
"""

from collections.abc import Sequence
from typing import NamedTuple

from telemetry_forwarder.records.record import Item

ENDS = ("platform.runtimeDone", "platform.report")
_OF_A_REQUEST = ("platform.start", *ENDS)
# After a loss the newest of them tell what runs.
_MOST_HEARD = 8
# An INVOKE is read this much later than its invocation begins at most: by a process that was not given its processor.
_MOST_BELATED_MS = 1000


class Invocation(NamedTuple):
    """What an INVOKE event tells: the request began after `asked_ms`, when we asked for it, and ran by `at_ms`.

    Both by the wall clock, in ms since the epoch. `asked_ms` is 0 where that is not known.
    """

    request_id: str
    asked_ms: int
    at_ms: int


class Heard(NamedTuple):
    """The INVOKE events that came last, oldest first, and the request of the first one of all.

    They come beside the telemetry, as soon as their requests run: before what is told of those, or behind it.
    """

    invocations: tuple[Invocation, ...] = ()
    first: str | None = None

    def and_of(self, invocation: Invocation) -> "Heard":
        return Heard((*self.invocations, invocation)[-_MOST_HEARD:], self.first or invocation.request_id)

    def since(self, request_id: str | None, time_ms: int) -> tuple[Invocation, ...]:
        """Return those from the request on that started at `time_ms`; all where none has started."""
        return self.invocations if request_id is None else _from(request_id, time_ms, self.invocations)


class Running:
    """What runs, while the items of one batch pass. `enrich.Knowledge` has the same members between two batches.

    `told` are the invocations from the current one on, as far as they are needed: INVOKE events are taken over from
    `Heard` only where the telemetry leaves something open (`consult`).
    """

    def __init__(
        self, current: str | None, started_ms: int, is_lost: bool, end: tuple[str, int] | None,
        told: tuple[Invocation, ...],
    ) -> None:  # fmt: skip
        self.current = current  # the request of the last start
        self.started_ms = started_ms
        self.is_lost = is_lost  # whether something was lost since then, or since the beginning
        self.end = end  # the request whose end was told last since then, and when it was over
        self.announced = told

    def start(self, request_id: str, time_ms: int) -> list[str]:
        """Note a start; return the requests before it whose start was not seen."""
        missed = [one.request_id for one in self.announced if one.at_ms < time_ms and one.request_id != self.current]
        self.current, self.started_ms, self.is_lost, self.end = request_id, time_ms, False, None
        self.announced = _from(request_id, time_ms, self.announced)
        return [one for one in missed if one != request_id]

    def finish(self, request_id: str, time_ms: int) -> bool:
        """Note the end of a request; return whether that was new."""
        is_known = request_id == self.current or any(one.request_id == request_id for one in self.announced)
        if not is_known or (self.end is not None and self.end[0] == request_id):
            return False
        self.end = (request_id, time_ms)
        return True

    def lose(self) -> bool:
        """Note that telemetry was lost: a start may have been among it. Return whether that was new."""
        was_lost, self.is_lost = self.is_lost, True
        return not was_lost

    @property
    def is_in_doubt(self) -> bool:
        """Whether the last start does not tell of what runs now."""
        return self.is_lost or bool(self.announced and self.announced[-1].request_id != self.current)

    def at(self, time_ms: int, dead: str | None) -> str | None:
        """Return the request that a line of that time belongs to; `dead` is the one before the first start, if any."""
        current = self.current or dead
        if not self.is_in_doubt:
            return current
        number = next((n for n in range(len(self.announced) - 1, -1, -1) if self.announced[n].at_ms <= time_ms), -1)
        request_id = self.announced[number].request_id if number >= 0 else None
        if not self.is_lost:
            return self._of_one_that_was_lost_silently(request_id, time_ms) if request_id else current
        if request_id is None:
            # The next one begins when the INVOKE of the current one has been read, and not before.
            is_first = bool(self.announced) and self.announced[0].request_id == self.current
            is_before_its_end = self.end is not None and self.end[0] == self.current and time_ms <= self.end[1]
            return self.current if is_first or is_before_its_end else None
        if number + 1 < len(self.announced):
            following = self.announced[number + 1]
            if time_ms >= max(following.asked_ms, following.at_ms - _MOST_BELATED_MS):
                return None
        return None if self._is_over(request_id, time_ms) else request_id

    def _of_one_that_was_lost_silently(self, request_id: str, time_ms: int) -> str | None:
        """Return the request of a line that was written beside a later request than the current one.

        Nothing is known to be lost, but its start did not come; the end of the current one should have, at least.
        """
        if request_id == self.current:
            return self.current
        is_next = self.current is None or (self.end is not None and self.end[0] != request_id)
        return request_id if is_next and not self._is_over(request_id, time_ms) else None

    def _is_over(self, request_id: str, time_ms: int) -> bool:
        return self.end is not None and self.end[0] == request_id and time_ms > self.end[1]


def is_needed(heard: tuple[Invocation, ...], current: str | None, items: Sequence[Item]) -> bool:
    """Say whether a line among `items` was written beside the newest of `heard`, whose start has not come."""
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
    """Say whether an item tells of telemetry that was lost, or tells of some request without saying which."""
    if item.type == "platform.logsDropped":
        return True
    if item.type not in _OF_A_REQUEST:
        return False
    return not (isinstance(item.body, dict) and isinstance(item.body.get("requestId"), str))


def _from(request_id: str, time_ms: int, invocations: tuple[Invocation, ...]) -> tuple[Invocation, ...]:
    """Return those from the one that started at `time_ms` on: an INVOKE is read when its request has begun.

    Its own INVOKE may still be unread.
    """
    for number in range(len(invocations) - 1, -1, -1):
        if invocations[number].request_id == request_id:
            return invocations[number:]
    return tuple(one for one in invocations if one.at_ms >= time_ms)
