"""The state machine that decides when to flush, to ask for the next event, and to drain. Pure: events in, actions out.

All knowledge about the course of invocations is here; `loop.py` carries out the actions. The machine does no I/O and
never waits, so tests run any course of events at once. After `Action.WAIT` the loop calls `decide` when something has
happened, and at `wake_at`.
"""

from collections import deque
from collections.abc import Sequence
from enum import StrEnum
from math import inf

from telemetry_forwarder.clock import Clock, Deadline, Moment
from telemetry_forwarder.delivery.window import CLOSED, SendWindow
from telemetry_forwarder.lifecycle import budget
from telemetry_forwarder.lifecycle.budget import Holding
from telemetry_forwarder.lifecycle.doubt import Doubt
from telemetry_forwarder.lifecycle.strategy import Decision, Gaps, Strategy
from telemetry_forwarder.records.record import Event

# No further batch is expected this long after the last one, plus the time for which Lambda itself may buffer a batch.
_QUIET_S = 0.1
_LONGEST_BUFFERING_S = 0.2
# During an invocation, held records are sent after each such period. It costs the caller nothing, and fewer records are
# lost if the environment ends without notice.
RUNNING_PERIOD_S = 5.0
# `platform.start` comes with the invocation. If it has not come after this time, plus Lambda's own buffering, the
# function's end will not be seen either. After MOST_SILENCES such invocations in a row, no end is waited for.
SILENCE_S = 1.0
_MOST_SILENCES = 2
# If the lost telemetry may have contained the end, it is awaited for this share of a hold; the rest is for sending.
_DOUBT_SHARE = 0.5


class Action(StrEnum):
    """What the loop does, in the order in which actions are returned. The last one is WAIT, NEXT or DRAIN."""

    ALLOW = "allow"  # give the sinks the current `window`
    NUDGE_LEFT_OVER = "nudge what is left over"  # send the records that the last invocation left over
    NUDGE = "nudge"  # send held records
    FLUSH = "flush"  # send held records, and wait for the answers until `hold_until`
    FINISH = "finish"  # start no attempt; wait for those under way until `hold_until`
    NOTE_LOSS = "note loss"  # report that the end may have been lost, and is not waited for
    NOTE_SILENCE = "note silence"  # report that no telemetry came, so the end is not waited for
    FOLLOWED = "followed"  # another process follows in this environment; leave held records to it
    WAIT = "wait"  # wait until `decide` returns actions
    NEXT = "next"  # ask for the next event
    DRAIN = "drain"  # settle everything by the deadlines of `ending`, and end


class Phase(StrEnum):
    ASKING = "asking"  # the next event is requested, whether the function runs or not
    HOLDING = "holding"  # the next event is not requested until the function ends
    BESIDE = "beside"  # held records are sent while the function runs
    ENDING = "ending"  # after SHUTDOWN: the last telemetry is awaited
    CLOSED = "closed"


_END = (Action.FLUSH, Action.ALLOW, Action.NEXT)
_FINISHED = (Action.FINISH, Action.ALLOW, Action.NEXT)
_PLANS = {
    Decision.HOLD: (Action.ALLOW, Action.NUDGE_LEFT_OVER, Action.WAIT),
    Decision.BESIDE: (Action.ALLOW, Action.NUDGE, Action.WAIT),
    Decision.LATER: (Action.ALLOW, Action.NEXT),
    Decision.BACKGROUND: (Action.ALLOW, Action.NEXT),
}
_PLANS_OF_ENDED = {Decision.HOLD: _END, Decision.BESIDE: _END}


class Machine:
    """The phases of an extension, and the transitions between them.

    | phase   | what happens                             | window then | actions                                   |
    | asking  | invoke: hold                             | until       | allow, nudge what is left over, wait      |
    | asking  | invoke: beside                           | until       | allow, nudge, wait                        |
    | asking  | invoke: hold or beside, its end was seen | closed      | flush, allow, next                        |
    | asking  | invoke: later (its end was seen: closed) | until       | allow, next                               |
    | asking  | invoke: background                       | linger      | allow, next                               |
    | asking  | the end of the newest, unless background | closed      | allow                                     |
    | holding | its end, or its time is up               | closed      | flush, allow, next                        |
    | holding | no telemetry of it comes                 | closed      | note silence, flush, allow, next          |
    | holding | its end was probably lost                | until       | note loss, flush, allow, next             |
    | holding | it has run for another period            | until       | nudge, wait                               |
    | beside  | its end                                  | closed      | allow; finish, allow, next                |
    | beside  | all is sent, its end was probably lost   | until       | finish, allow, next                       |
    | beside  | no telemetry of it comes                 | until       | note silence, finish, allow, next         |
    | any     | shutdown (after a crash: followed)       | last        | allow, wait                               |
    | ending  | the tail is in, or its time is up        | last        | drain                                     |
    | any     | anything else                            | as it was   | none                                      |

    Without telemetry no end is ever seen. There is nothing to wait for and nothing to flush, so the action is next.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        strategy: Strategy,
        holding: Holding,
        buffering_s: float,
        sees_ends: bool = True,
        has_fallback: bool = False,
    ) -> None:
        self.phase = Phase.ASKING
        self.window: SendWindow = CLOSED
        self.holding = holding
        self.ending: budget.ShutdownBudget | None = None  # known from SHUTDOWN on
        self._clock = clock
        self._strategy = strategy
        self._quiet_s = min(buffering_s, _LONGEST_BUFFERING_S) + _QUIET_S
        self.silence_s = buffering_s + SILENCE_S
        self._sees_ends = sees_ends
        self._has_fallback = has_fallback
        # The current invocation.
        self._limits = budget.for_invocation(0, clock, holding)
        self._invoked: str | None = None
        self._is_over = False
        self._silent_until = self._nudge_at = 0.0
        # Known from telemetry.
        self._started: str | None = None  # the request of the last `platform.start`
        self._last_end: tuple[str | None, int] = (None, 0)  # the last request whose end was seen, and the end's time
        self._running: deque[str] = deque(maxlen=64)  # requests whose end was not seen yet, the newest last
        self._ended: deque[str] = deque(maxlen=64)  # requests that ended before their INVOKE was read: fast functions
        self._reports_due: deque[str] = deque(maxlen=64)
        self._has_init_report = False
        self._last_news_at = clock.monotonic()
        self._doubt = Doubt()
        self._is_managed = False
        # Learned from earlier invocations.
        self._gaps = Gaps()
        self._flushed = Moment(0.0, 0.0)
        self._silences = 0
        self._missed = 0  # invocations in a row whose start was seen but not their end
        self._is_peaceful = True  # whether the reason of SHUTDOWN is `spindown`

    def __repr__(self) -> str:
        return f"<Machine {self.phase}: {self._invoked} invoked, {len(self._running)} running, {self.window}>"

    @property
    def is_frequent(self) -> bool:
        """Whether the next invocation is expected soon; where nothing is ever frozen, nothing has to wait for it."""
        return self._is_managed or self._gaps.are_short

    # --- events of Lambda ---

    def lives_without_telemetry(self) -> None:
        """Note that no end of an invocation will ever be seen."""
        self._sees_ends = False

    def on_managed(self) -> tuple[Action, ...]:
        """Note that this environment is never frozen, and sees no invocations."""
        self._is_managed = True
        self.window = SendWindow(linger=self._strategy.period_s)
        return (Action.ALLOW,)

    def on_invoke(
        self, request_id: str, deadline_ms: int, *, is_worth_waiting: bool = True, decision: Decision | None = None
    ) -> tuple[Action, ...]:
        """Begin an invocation that ends at `deadline_ms` (since the epoch) at the latest.

        `is_worth_waiting`: whether a flush would wait for any destination. `decision` overrides the strategy.
        """
        if self.phase is Phase.CLOSED or self.phase is Phase.ENDING:
            return ()
        if not self._sees_ends:
            return (Action.NEXT,)
        decision = decision or self._decide(is_worth_waiting)
        now = self._clock.monotonic()
        self._limits = budget.for_invocation(deadline_ms, self._clock, self.holding)
        self._invoked, self._is_over = request_id, False
        self._silent_until = now + self.silence_s
        self._nudge_at = now + RUNNING_PERIOD_S if self._is_heard else self._silent_until
        self._reports_due.append(request_id)
        if decision is Decision.BACKGROUND:
            self.window = SendWindow(linger=self._strategy.period_s)
        else:
            self.window = SendWindow(self._limits.flush_until)
        if request_id in self._ended:
            self._ended.remove(request_id)  # Lambda retries an asynchronous invocation under the same id
            self._close_window()
            return _PLANS_OF_ENDED.get(decision, _PLANS[decision])
        self._running.append(request_id)
        if decision is Decision.HOLD:
            self.phase = Phase.HOLDING
            self._doubt.on_line(self._now_ms)
        elif decision is Decision.BESIDE:
            self.phase = Phase.BESIDE
        return _PLANS[decision]

    def _decide(self, is_worth_waiting: bool) -> Decision:
        if self._silences >= _MOST_SILENCES or self._missed >= _MOST_SILENCES:
            return Decision.LATER  # ends are not seen, so they cannot be waited for
        decision = self._strategy.decide(self._flushed.age(self._clock), self._gaps)
        if decision is Decision.HOLD and not is_worth_waiting:
            return Decision.BACKGROUND  # while every destination is down, no invocation has to wait
        return decision

    def on_next(self) -> None:
        """Note that the next event is requested: earlier losses do not concern the next invocation."""
        self.phase = Phase.ASKING
        self._doubt.clear()

    def on_flushed(self) -> None:
        self._flushed = Moment.now(self._clock)

    def on_shutdown(self, reason: str, deadline_ms: int, *, late_by: float = 0.0) -> tuple[Action, ...]:
        """End by `deadline_ms` (since the epoch). `late_by`: for how long the processor may be withheld, in seconds."""
        if self.phase is Phase.CLOSED or self.phase is Phase.ENDING:
            return ()
        self.ending = budget.for_shutdown(deadline_ms, self._clock, has_fallback=self._has_fallback, late_by=late_by)
        self.phase = Phase.ENDING
        self.window = SendWindow(self.ending.send_until, is_last=True)
        self._running.clear()
        self._last_news_at = max(self._last_news_at, self._clock.monotonic())
        self._is_peaceful = reason == "spindown"
        # After these, /tmp outlives this process and another one follows.
        followed = (Action.FOLLOWED,) if reason in ("timeout", "failure") else ()
        return (*followed, Action.ALLOW, Action.WAIT)

    # --- telemetry ---

    def on_events(self, events: Sequence[Event]) -> tuple[Action, ...]:
        """Note the platform's events in a batch, in order; return the actions to do at once."""
        window = self.window
        self._last_news_at = self._clock.monotonic()
        self._doubt.on_batch()
        for event in events:
            if event.type == "function":
                self._doubt.on_line(min(event.time_ms, self._now_ms))
            elif event.type == "platform.initReport":
                self._has_init_report = True
            elif event.type == "platform.logsDropped":
                self.on_loss()
            elif event.type in ("platform.start", "platform.runtimeDone", "platform.report"):
                self._on_request(event.type, event.request_id, event.time_ms)
        is_sent_first = self.phase is Phase.HOLDING  # then the flush comes first, and the closed window after it
        return (Action.ALLOW,) if self.window is not window and not is_sent_first else ()

    def _on_request(self, kind: str, request_id: str | None, time_ms: int) -> None:
        """Note an event about one request. Without a request id, it may be the end of the current invocation."""
        if request_id is None:
            self.on_loss()
        elif kind == "platform.runtimeDone":
            self._on_runtime_done(request_id, time_ms)
        elif kind == "platform.start":
            self._gaps.on_start(time_ms)
            self._doubt.clear()
            if self.phase is Phase.HOLDING and self._is_heard and request_id != self._invoked:
                self.on_loss()  # another request runs, so the end of the current one was lost before
            self._started = request_id
            self._silences = 0
        else:  # reports come in order, so missing ones of earlier requests are no longer waited for
            while request_id in self._reports_due:
                self._reports_due.popleft()

    def _on_runtime_done(self, request_id: str, time_ms: int) -> None:
        self._gaps.on_end(time_ms)
        self._last_end = (request_id, time_ms)
        self._missed = 0
        if request_id in self._running:
            is_newest = request_id == self._running[-1]
            self._running.remove(request_id)
            if is_newest:
                self._is_over = True
                self._close_window()
        elif self.phase is not Phase.CLOSED and self.phase is not Phase.ENDING:
            self._ended.append(request_id)

    def _close_window(self) -> None:
        """Let no attempt start any more, unless records are sent in the background anyway."""
        if self.window.linger is None:
            self.window = CLOSED

    def on_loss(self) -> None:
        """Note lost telemetry, which may have contained the end of the function."""
        self._doubt.on_loss(self._now_ms)

    def on_interruption(self) -> None:
        """Note that a body of telemetry stalled or was cut off. Lambda may send it again."""
        self._doubt.on_interruption(self._now_ms)

    @property
    def _now_ms(self) -> int:
        return round(self._clock.time() * 1000)

    @property
    def _is_heard(self) -> bool:
        """Whether the start of the current invocation was seen, so that its end will be seen, too."""
        return self._started == self._invoked

    # --- decisions while waiting ---

    def decide(self, *, is_idle: bool = False) -> tuple[Action, ...]:
        """Return the actions to do now; none means wait on. `is_idle`: no sink can send more for now."""
        match self.phase:
            case Phase.HOLDING:
                return self._decide_holding(self._clock.monotonic())
            case Phase.BESIDE:
                return self._decide_beside(self._clock.monotonic(), is_idle)
            case Phase.ENDING if self._clock.monotonic() >= self._tail_until:
                self.phase = Phase.CLOSED
                return (Action.DRAIN,)
        return ()

    def _decide_holding(self, now: float) -> tuple[Action, ...]:
        if self._is_over:
            return _END
        if now >= self._doubted_until:  # the window stays open; it closes if the end is seen after all
            return (Action.NOTE_LOSS, *_END)
        if not self._is_heard and now >= self._silent_until:
            self._silences += 1
            self.window = CLOSED
            return (Action.NOTE_SILENCE, *_END)
        if now >= self._limits.wait_until.at:
            self._missed += 1
            self.window = CLOSED
            return _END
        if now >= self._nudge_at:
            self._nudge_at = now + RUNNING_PERIOD_S
            return (Action.NUDGE, Action.WAIT)
        return ()

    def _decide_beside(self, now: float, is_idle: bool) -> tuple[Action, ...]:
        if is_idle or self._is_over or now >= min(self._doubted_until, self._limits.flush_until.at):
            return _FINISHED
        if not self._is_heard and now >= self._silent_until:
            self._silences += 1
            return (Action.NOTE_SILENCE, *_FINISHED)
        return ()

    @property
    def wake_at(self) -> float:
        """When (monotonic clock) `decide` may return actions even if nothing happens; infinity for never."""
        match self.phase:
            case Phase.HOLDING:
                return min(self._limits.wait_until.at, self._nudge_at, self._doubted_until)
            case Phase.BESIDE:
                silent_until = inf if self._is_heard else self._silent_until
                return min(self._limits.flush_until.at, silent_until, self._doubted_until)
            case Phase.ENDING:
                return self._tail_until
        return inf

    @property
    def hold_until(self) -> Deadline:
        """The deadline of a flush that starts now.

        It counts from the function's end by Lambda's clock or, if that was lost, from when it was last known to run.
        """
        request_id, time_ms = self._last_end
        return self._limits.hold_until(self._clock, time_ms if request_id == self._invoked else self._doubt.since_ms)

    @property
    def _doubted_until(self) -> float:
        """When (monotonic clock) to stop waiting for an end that may be lost; infinity if there is no doubt."""
        if self._doubt.since_ms is None:
            return inf
        until = self._limits.hold_until(self._clock, self._doubt.since_ms)
        return until.earlier(self._limits.longest_s * (1 - _DOUBT_SHARE)).at

    @property
    def _tail_until(self) -> float:
        """Until when (monotonic clock) the last telemetry is awaited after SHUTDOWN.

        In a normal shutdown the last record is the report of the last invocation. When it has come, or if there was no
        invocation, nothing is awaited. After a timeout or a crash Lambda makes the report after this process has ended,
        for the next process; but the last lines may still come, so the wait ends when no more telemetry comes. The
        telemetry of a failed init may come after SHUTDOWN, so its report is awaited in any case.
        """
        if self.ending is None:
            return inf
        until = self.ending.receive_until.at
        is_init_due = self._sees_ends and not self._has_init_report
        if is_init_due or (self._is_peaceful and self._reports_due):
            return until
        return 0.0 if self._is_peaceful else min(until, self._last_news_at + self._quiet_s)
