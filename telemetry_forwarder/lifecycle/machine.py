"""When to flush, to ask for the next event, and to drain. Pure: events in, actions out, in any order that may come."""

from collections import deque
from enum import StrEnum

from telemetry_forwarder.lifecycle.strategy import Decision


class Action(StrEnum):
    """What the driver does, in the order in which actions are returned."""

    WAIT = "wait"  # for the end of this invocation
    FLUSH = "flush"
    FLUSH_BESIDE = "flush beside"  # what is held from before, while the function runs
    STAND_BY = "stand by"  # send only what fills a buffer, as long as the function runs
    GO_ON = "go on"  # sending in the background, from now on
    FREEZE = "freeze"  # start nothing: the environment may be frozen
    NEXT = "next"  # ask for the next event
    DRAIN = "drain"  # receive the tail, settle everything, leave


END = (Action.FLUSH, Action.FREEZE, Action.NEXT)
# The function may be running still.
LOST = (Action.FLUSH, Action.STAND_BY, Action.NEXT)
PLANS = {
    Decision.HOLD: (Action.WAIT,),
    Decision.BESIDE: (Action.FLUSH_BESIDE, Action.STAND_BY, Action.NEXT),
    Decision.LATER: (Action.STAND_BY, Action.NEXT),
    Decision.BACKGROUND: (Action.GO_ON, Action.NEXT),
}
PLANS_OF_ENDED = {
    Decision.HOLD: END,
    Decision.BESIDE: (Action.FLUSH_BESIDE, Action.FREEZE, Action.NEXT),
    Decision.LATER: (Action.FREEZE, Action.NEXT),
    Decision.BACKGROUND: (Action.GO_ON, Action.NEXT),
}


class Machine:
    """The phases of an extension.

    | phase   | event                              | actions                             |
    | waiting | invoke, hold                       | wait, then invoked                  |
    | waiting | invoke, hold, its end already seen | flush, freeze, next                 |
    | waiting | invoke, beside                     | flush beside, stand by, next        |
    | waiting | invoke, later                      | stand by, next                      |
    | waiting | invoke, background                 | go on, next                         |
    | invoked | runtime done, or time is up        | flush, freeze, next                 |
    | invoked | its end was probably lost          | flush, stand by, next               |
    | waiting | runtime done of the newest         | freeze, unless in the background    |
    | any     | shutdown                           | drain, then closed                  |
    | any     | anything else                      | none                                |

    Without telemetry no end is ever seen, so there is nothing to wait for and nothing to flush.
    """

    def __init__(self, *, sees_ends: bool = True) -> None:
        self._sees_ends = sees_ends
        self._held: str | None = None
        self._is_in_background = False
        self._is_closed = False
        self._is_init_told = False
        self._running: deque[str] = deque(maxlen=64)  # invoked, the newest last, and their ends not seen
        # A fast function is done before its own INVOKE has been read.
        self._ended: deque[str] = deque(maxlen=64)
        self._reports_due: deque[str] = deque(maxlen=64)

    def lives_without_telemetry(self) -> None:
        """Note that no end of an invocation will ever be seen."""
        self._sees_ends = False

    @property
    def held(self) -> str | None:
        """The request whose end is waited for."""
        return self._held

    @property
    def is_init_due(self) -> bool:
        """Say whether the `platform.initReport` of this generation is still to come: the last word of its init."""
        return self._sees_ends and not self._is_init_told

    @property
    def is_report_due(self) -> bool:
        """Say whether an invocation has not had its `platform.report` yet."""
        return bool(self._reports_due)

    def on_invoke(self, request_id: str, decision: Decision = Decision.HOLD) -> tuple[Action, ...]:
        if self._is_closed:
            return ()
        if not self._sees_ends:
            return (Action.NEXT,)
        self._reports_due.append(request_id)
        self._is_in_background = decision is Decision.BACKGROUND
        if request_id in self._ended:
            self._ended.remove(request_id)  # Lambda retries an asynchronous invocation under the same id
            return PLANS_OF_ENDED[decision]
        self._running.append(request_id)
        if decision is Decision.HOLD:
            self._held = request_id
        return PLANS[decision]

    def on_runtime_done(self, request_id: str) -> tuple[Action, ...]:
        if request_id not in self._running:
            if not self._is_closed:
                self._ended.append(request_id)
            return ()
        is_newest = request_id == self._running[-1]
        self._running.remove(request_id)
        if request_id == self._held:
            return self._end()
        return (Action.FREEZE,) if is_newest and not self._is_in_background else ()

    def on_time_up(self) -> tuple[Action, ...]:
        return self._end() if self._held is not None else ()

    def on_end_lost(self) -> tuple[Action, ...]:
        """Wait no longer: the end may never be told. If it is, what was begun meanwhile ends with it."""
        if self._held is None:
            return ()
        self._held = None
        return LOST

    def on_report(self, request_id: str) -> None:
        """Note a report. Reports of earlier requests that never had one are no longer waited for."""
        while self._reports_due and request_id in self._reports_due:
            self._reports_due.popleft()

    def on_init_report(self) -> None:
        self._is_init_told = True

    def on_shutdown(self) -> tuple[Action, ...]:
        if self._is_closed:
            return ()
        self._is_closed = True
        self._held = None
        self._running.clear()
        return (Action.DRAIN,)

    def _end(self) -> tuple[Action, ...]:
        self._held = None
        return END
