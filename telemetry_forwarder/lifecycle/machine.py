"""When to flush, to ask for the next event, and to drain. Pure: events in, actions out, in any order that may come."""

from collections import deque
from enum import StrEnum


class Action(StrEnum):
    """What the driver does, in the order in which actions are returned."""

    FLUSH = "flush"
    NEXT = "next"  # ask for the next event: the environment may be frozen from then on
    DRAIN = "drain"  # receive the tail, settle everything, leave


class Machine:
    """The phases of an extension.

    | phase   | event                              | actions             |
    | waiting | invoke, its end not yet seen       | none, then invoked  |
    | waiting | invoke, its end was already seen   | flush, next         |
    | invoked | runtime done, or time is up        | flush, next         |
    | any     | shutdown                           | drain, then closed  |
    | any     | anything else                      | none                |

    Without telemetry no end is ever seen, so there is nothing to wait for and nothing to flush.
    """

    def __init__(self, *, sees_ends: bool = True) -> None:
        self._sees_ends = sees_ends
        self._running: str | None = None
        self._is_closed = False
        # A fast function is done before its own INVOKE has been read.
        self._ended: deque[str] = deque(maxlen=64)
        self._reports_due: deque[str] = deque(maxlen=64)

    def lives_without_telemetry(self) -> None:
        """Note that no end of an invocation will ever be seen."""
        self._sees_ends = False

    @property
    def running(self) -> str | None:
        """The request whose end is waited for."""
        return self._running

    @property
    def is_report_due(self) -> bool:
        """Say whether an invocation has not had its `platform.report` yet."""
        return bool(self._reports_due)

    def on_invoke(self, request_id: str) -> tuple[Action, ...]:
        if self._is_closed:
            return ()
        if not self._sees_ends:
            return (Action.NEXT,)
        self._reports_due.append(request_id)
        if request_id in self._ended:
            self._ended.remove(request_id)  # Lambda retries an asynchronous invocation under the same id
            return Action.FLUSH, Action.NEXT
        self._running = request_id
        return ()

    def on_runtime_done(self, request_id: str) -> tuple[Action, ...]:
        if request_id == self._running:
            return self._end()
        self._ended.append(request_id)
        return ()

    def on_time_up(self) -> tuple[Action, ...]:
        return self._end() if self._running is not None else ()

    def on_report(self, request_id: str) -> None:
        """Note a report. Reports of earlier requests that never had one are no longer waited for."""
        while self._reports_due and request_id in self._reports_due:
            self._reports_due.popleft()

    def on_shutdown(self) -> tuple[Action, ...]:
        if self._is_closed:
            return ()
        self._is_closed = True
        self._running = None
        return (Action.DRAIN,)

    def _end(self) -> tuple[Action, ...]:
        self._running = None
        return Action.FLUSH, Action.NEXT
