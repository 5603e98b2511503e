"""When to flush, to ask for the next event, and to drain. Pure: events in, actions out, in any order that may come.

All that is known of the course of invocations is here; `loop.py` carries out what it says. It waits for nothing and
sends nothing, so that any course can be tried in no time. After `Action.WAIT` it is asked what to do (`decide`) when
anything has happened, and at `wake_at`.
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
from telemetry_forwarder.records.record import Told

# How long after the last batch no further one is expected, beyond what Lambda itself may hold a batch back.
QUIET_S = 0.1
LONGEST_BUFFERING_S = 0.2
# In an invocation that takes longer than this, what is held is sent meanwhile: it costs the caller nothing, and an
# environment that is lost without a word takes less with it.
RUNNING_PERIOD_S = 5.0
# `platform.start` comes with the invocation. Where it does not for this long, beyond what Lambda holds it back, the end
# of the function will not be seen either; and after so many invocations in a row none is waited for.
SILENCE_S = 1.0
MOST_SILENCES = 2
# Where telemetry was lost that may have told the end, it is waited for this share of a hold; the rest is for sending.
DOUBT_SHARE = 0.5


class Action(StrEnum):
    """What the driver does, in the order in which actions are returned. The last one is WAIT, NEXT or DRAIN."""

    ALLOW = "allow"  # give the sinks the `window` that holds now
    NUDGE_LEFT_OVER = "nudge what is left over"  # send what the last invocation left over
    NUDGE = "nudge"  # send what is held
    FLUSH = "flush"  # send what is held, and wait for the answers until `hold_until`
    FINISH = "finish"  # begin nothing more; wait for what is under way until `hold_until`
    NOTE_LOSS = "note loss"  # that the end may have been lost, and is not waited for
    NOTE_SILENCE = "note silence"  # that no telemetry came, so that the end is not waited for
    FOLLOWED = "followed"  # by another process in this environment, to which what is held is left
    WAIT = "wait"  # until `decide` says what to do
    NEXT = "next"  # ask for the next event
    DRAIN = "drain"  # settle everything by the deadlines of `ending`, and go


class Phase(StrEnum):
    ASKING = "asking"  # for the next event, whether the function runs or not
    HOLDING = "holding"  # back the next event until the function ends
    BESIDE = "beside"  # the function that runs, what is held is sent
    ENDING = "ending"  # the tail of telemetry comes in
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
    """The phases of an extension.

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
    | holding | it has run for another while             | until       | nudge, wait                               |
    | beside  | its end                                  | closed      | allow; finish, allow, next                |
    | beside  | all is sent, its end was probably lost   | until       | finish, allow, next                       |
    | beside  | no telemetry of it comes                 | until       | note silence, finish, allow, next         |
    | any     | shutdown (after a crash: followed)       | last        | allow, wait                               |
    | ending  | the tail is in, or its time is up        | last        | drain                                     |
    | any     | anything else                            | as it was   | none                                      |

    Without telemetry no end is ever seen, so there is nothing to wait for and nothing to flush: next.
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
        self._quiet_s = min(buffering_s, LONGEST_BUFFERING_S) + QUIET_S
        self.silence_s = buffering_s + SILENCE_S
        self._sees_ends = sees_ends
        self._has_fallback = has_fallback
        # The invocation at hand.
        self._limits = budget.for_invocation(0, clock, holding)
        self._invoked: str | None = None
        self._is_over = False
        self._silent_until = self._nudge_at = 0.0
        # What telemetry has told.
        self._started: str | None = None  # the request of the last `platform.start`
        self._last_end: tuple[str | None, int] = (None, 0)  # the last request whose end was told, and when it was
        self._running: deque[str] = deque(maxlen=64)  # invoked, the newest last, and their ends not seen
        self._ended: deque[str] = deque(maxlen=64)  # a fast function is done before its own INVOKE has been read
        self._reports_due: deque[str] = deque(maxlen=64)
        self._has_init_report = False
        self._last_news_at = clock.monotonic()
        self._doubt = Doubt()
        # What was learned of the invocations before.
        self._gaps = Gaps()
        self._flushed = Moment(0.0, 0.0)
        self._silences = 0
        self._missed = 0  # invocations in a row whose start was seen and whose end was not
        self._is_peaceful = True  # the end

    def __repr__(self) -> str:
        return f"<Machine {self.phase}: {self._invoked} invoked, {len(self._running)} running, {self.window}>"

    # --- events of Lambda ---

    def lives_without_telemetry(self) -> None:
        """Note that no end of an invocation will ever be seen."""
        self._sees_ends = False

    def on_managed(self) -> tuple[Action, ...]:
        """Note that nothing is ever frozen here, and no invocation seen."""
        self.window = SendWindow(linger=self._strategy.period_s)
        return (Action.ALLOW,)

    def on_invoke(
        self, request_id: str, deadline_ms: int, *, is_worth_waiting: bool = True, decision: Decision | None = None
    ) -> tuple[Action, ...]:
        """Begin an invocation, of which `deadline_ms` (since the epoch) is the end.

        `is_worth_waiting`: whether a flush would wait for any destination. `decision`: what is made of it, whatever
        the strategy is.
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
        if self._silences >= MOST_SILENCES or self._missed >= MOST_SILENCES:
            return Decision.LATER  # what is not seen cannot be waited for
        decision = self._strategy.decide(self._flushed.age(self._clock), self._gaps)
        if decision is Decision.HOLD and not is_worth_waiting:
            return Decision.BACKGROUND  # in an outage of every destination an invocation costs nothing
        return decision

    def on_next(self) -> None:
        """Note that the next event is asked for: whatever was lost before is not of the next invocation."""
        self.phase = Phase.ASKING
        self._doubt.clear()

    def on_flushed(self) -> None:
        self._flushed = Moment.now(self._clock)

    def on_shutdown(self, reason: str, deadline_ms: int, *, late_by: float = 0.0) -> tuple[Action, ...]:
        """End, by `deadline_ms` (since the epoch); `late_by`: how long the processor may be withheld, in seconds."""
        if self.phase is Phase.CLOSED or self.phase is Phase.ENDING:
            return ()
        self.ending = budget.for_shutdown(deadline_ms, self._clock, has_fallback=self._has_fallback, late_by=late_by)
        self.phase = Phase.ENDING
        self.window = SendWindow(self.ending.send_until, is_last=True)
        self._running.clear()
        self._last_news_at = max(self._last_news_at, self._clock.monotonic())
        self._is_peaceful = reason == "spindown"
        # /tmp outlives this process, and another one follows.
        followed = (Action.FOLLOWED,) if reason in ("timeout", "failure") else ()
        return (*followed, Action.ALLOW, Action.WAIT)

    # --- telemetry ---

    def on_records(self, records: Sequence[Told]) -> tuple[Action, ...]:
        """Take note of the platform's events in a batch, if any, in order; return what to do at once."""
        window = self.window
        self._last_news_at = self._clock.monotonic()
        self._doubt.on_batch()
        for record in records:
            if record.type == "function":
                self._doubt.on_line(min(record.time_ms, self._now_ms))
            elif record.type == "platform.initReport":
                self._has_init_report = True
            elif record.type == "platform.logsDropped":
                self.on_loss()
            elif record.type in ("platform.start", "platform.runtimeDone", "platform.report"):
                self._on_request(record.type, record.request_id, record.time_ms)
        is_sent_first = self.phase is Phase.HOLDING  # its flush closes the window behind it
        return (Action.ALLOW,) if self.window is not window and not is_sent_first else ()

    def _on_request(self, kind: str, request_id: str | None, time_ms: int) -> None:
        """Take note of what tells of one request; where it does not tell of which, it may be the one that is held."""
        if request_id is None:
            self.on_loss()
        elif kind == "platform.runtimeDone":
            self._on_runtime_done(request_id, time_ms)
        elif kind == "platform.start":
            self._gaps.on_start(time_ms)
            self._doubt.clear()
            if self.phase is Phase.HOLDING and self._is_heard and request_id != self._invoked:
                self.on_loss()  # another one runs: the end of the one that is held was before
            self._started = request_id
            self._silences = 0
        else:  # reports of earlier requests that never had one are no longer waited for
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
        """Let nothing start any more, unless it is sent in the background anyway."""
        if self.window.linger is None:
            self.window = CLOSED

    def on_loss(self) -> None:
        """Note that telemetry was lost, which may have told the end of the function."""
        self._doubt.on_loss(self._now_ms)

    def on_interruption(self) -> None:
        """Note that a body of telemetry is not coming on, or was broken off. Lambda may send it again."""
        self._doubt.on_interruption(self._now_ms)

    @property
    def _now_ms(self) -> int:
        return round(self._clock.time() * 1000)

    @property
    def _is_heard(self) -> bool:
        """Whether telemetry of this invocation has come, so that its end will too."""
        return self._started == self._invoked

    # --- what is waited for ---

    def decide(self, *, is_idle: bool = False) -> tuple[Action, ...]:
        """Say what to do now; nothing where it is still to be waited. `is_idle`: no sink can send more for now."""
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
        if now >= self._doubted_until:  # if the end is told after all, what was begun meanwhile ends with it
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
        """When, on the monotonic clock, `decide` has something to say even if nothing happens; infinity for never."""
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
        """Until when a flush that starts now may hold the invocation.

        It counts from the function's end by Lambda's clock or, where that was lost, from when it was last known to run.
        """
        request_id, time_ms = self._last_end
        return self._limits.hold_until(self._clock, time_ms if request_id == self._invoked else self._doubt.since_ms)

    @property
    def _doubted_until(self) -> float:
        """When, on the monotonic clock, an end that is doubted is not waited for any longer; else infinity."""
        if self._doubt.since_ms is None:
            return inf
        until = self._limits.hold_until(self._clock, self._doubt.since_ms)
        return until.earlier(self._limits.longest_s * (1 - DOUBT_SHARE)).at

    @property
    def _tail_until(self) -> float:
        """Until when, on the monotonic clock, the last records are waited for.

        In an environment that ends in peace the last one is the report of its last invocation; with that, or where
        it was never invoked, there is nothing to wait for. After a timeout or a crash the report is made when we are
        gone, and goes to the next generation; but the last lines may still come, so it is waited until all is quiet.
        What was told of an init that failed is on its way when the end is already there: its report is waited for.
        """
        if self.ending is None:
            return inf
        until = self.ending.receive_until.at
        is_init_due = self._sees_ends and not self._has_init_report
        if is_init_due or (self._is_peaceful and self._reports_due):
            return until
        return 0.0 if self._is_peaceful else min(until, self._last_news_at + self._quiet_s)
