"""Drives the machine: asks Lambda for events, waits for the function's end, flushes, drains."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from math import inf

from telemetry_forwarder.clock import Clock, Deadline
from telemetry_forwarder.delivery.window import CLOSED, NEVER, SendWindow, answered_by
from telemetry_forwarder.delivery.worker import Worker
from telemetry_forwarder.intake.inbox import Inbox
from telemetry_forwarder.lambda_api.client import ExtensionsClient, Invoke, Shutdown
from telemetry_forwarder.ledger import Door
from telemetry_forwarder.lifecycle import budget
from telemetry_forwarder.lifecycle.budget import Holding, InvocationBudget, ShutdownBudget
from telemetry_forwarder.lifecycle.doubt import Doubt
from telemetry_forwarder.lifecycle.machine import END, Action, Machine
from telemetry_forwarder.lifecycle.strategy import Decision, Gaps, Strategy
from telemetry_forwarder.log import Log
from telemetry_forwarder.records.record import Record, Told
from telemetry_forwarder.records.running import Invocation
from telemetry_forwarder.turns import Turns

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
# What has not been made records of by then, of the time for sending, is given up: to count it takes time, too.
DIGEST_SHARE = 0.75
# A hold ends earlier by what the processor is withheld for, lately: at most by this share of what the user allows.
MOST_WITHHELD_SHARE = 0.25
# Where telemetry was lost that may have told the end, it is waited for this share of a hold; the rest is for sending.
DOUBT_SHARE = 0.5


class Lifecycle:
    """The conversation with Lambda, from the first `/event/next` to the end of SHUTDOWN.

    `last_word` makes the record that tells of what was lost, when everything is settled; None where nothing was.
    """

    def __init__(
        self,
        *,
        client: ExtensionsClient,
        machine: Machine,
        strategy: Strategy,
        holding: Holding,
        workers: Sequence[Worker],
        door: Door,
        buffering_s: float,
        clock: Clock,
        log: Log,
        turns: Turns | None = None,
        has_fallback: bool = False,
        last_word: Callable[[], Record | None] = lambda: None,
    ) -> None:
        self.on_invoke: Callable[[Invocation], None] = lambda invocation: None  # before anything else is done
        self.inbox: Inbox | None = None  # what was received and is still to be made records of
        self._client = client
        self._turns = turns or Turns(clock)
        self._has_fallback = has_fallback
        self._last_word = last_word
        self._machine = machine
        self._strategy = strategy
        self._holding = holding
        self._workers = workers
        self._door = door
        self._last_news_at = clock.monotonic()
        self._quiet_s = min(buffering_s, LONGEST_BUFFERING_S) + QUIET_S
        self._silence_s = buffering_s + SILENCE_S
        self._silences = 0
        self._missed = 0  # invocations in a row whose start was seen and whose end was not
        self._doubt = Doubt()
        self._invoked: str | None = None  # the request of the last event
        self._started: str | None = None  # the request of the last `platform.start`
        self._flushed_at = 0.0  # on the wall clock
        self._gaps = Gaps()
        self._clock = clock
        self._log = log
        self._ended = asyncio.Event()
        self._last_end: tuple[str | None, int] = (None, 0)  # the last request whose end was told, and when it was
        self._news = asyncio.Event()
        self._stirred = asyncio.Event()  # set when the function has ended, or its end is doubted

    def on_records(self, records: Sequence[Told]) -> None:
        """Take note of the platform's events in a batch of telemetry, if any; called by the receiver, in order.

        The records that came before them, and those of the same batch, may still have to be made.
        """
        self._last_news_at = self._clock.monotonic()
        self._news.set()
        self._doubt.on_batch()
        for record in records:
            if record.type == "function":
                self._doubt.on_line(min(record.time_ms, self._now_ms))
            elif record.type == "platform.initReport":
                self._machine.on_init_report()
            elif record.type == "platform.logsDropped":
                self.on_loss()
            elif record.type in ("platform.start", "platform.runtimeDone", "platform.report"):
                self._on_request(record)

    def _on_request(self, record: Told) -> None:
        """Take note of what tells of one request; where it does not tell of which, it may be the one that is held."""
        if record.request_id is None:
            self.on_loss()
        elif record.type == "platform.runtimeDone":
            self._on_runtime_done(record.request_id, record.time_ms)
        elif record.type == "platform.start":
            self._gaps.on_start(record.time_ms)
            self._doubt.clear()
            if self._machine.held not in (None, record.request_id) and self._machine.held == self._started:
                self.on_loss()  # another one runs: the end of the one that is held was before
            self._started = record.request_id
            self._silences = 0
        else:
            self._machine.on_report(record.request_id)

    def on_loss(self) -> None:
        """Note that telemetry was lost, which may have told the end of the function: it is not waited for any longer.

        Call it after `on_records` with what came whole of the same body.
        """
        self._doubt.on_loss(self._now_ms)
        self._stirred.set()

    def on_interruption(self) -> None:
        """Note that a body of telemetry is not coming on, or was broken off. Lambda may send it again."""
        self._doubt.on_interruption(self._now_ms)
        self._stirred.set()

    @property
    def _now_ms(self) -> int:
        return round(self._clock.time() * 1000)

    def _on_runtime_done(self, request_id: str, time_ms: int) -> None:
        self._gaps.on_end(time_ms)
        self._last_end = (request_id, time_ms)
        self._missed = 0
        actions = self._machine.on_runtime_done(request_id)
        if Action.FLUSH in actions:
            self._end()
        elif Action.FREEZE in actions:
            self._end()
            self._freeze()

    def _end(self) -> None:
        self._ended.set()
        self._stirred.set()

    async def run(self) -> None:
        """Serve events until SHUTDOWN has been dealt with. Raises ExtensionsApiError."""
        asked_ms = 0  # the first event was asked for before this
        while True:
            self._doubt.clear()  # whatever was lost before was not of the next invocation
            event = await self._client.next_event()
            self._turns.go_on()
            match event:
                case Invoke():
                    self.on_invoke(Invocation(event.request_id, asked_ms, self._now_ms))
                    await self._invocation(event)
                    asked_ms = self._now_ms
                case Shutdown():
                    await self._shutdown(event)
                    return

    async def catch_up(self, event: Invoke) -> None:
        """Deal with an invocation beside which the next event was asked for before there was anything to send with."""
        self.on_invoke(Invocation(event.request_id, 0, self._now_ms))
        limits = budget.for_invocation(event.deadline_ms, self._clock, self._holding)
        self._invoked = event.request_id
        for action in self._machine.on_invoke(event.request_id, Decision.BACKGROUND):
            await self._do(action, limits)

    def go_on(self) -> None:
        """Send in the background from now on, where nothing is ever frozen and no invocation is seen."""
        for worker in self._workers:
            worker.allow(SendWindow(linger=self._strategy.period_s))

    async def _invocation(self, event: Invoke) -> None:
        """Deal with an invocation as the strategy wants it; return when the next event may be asked for."""
        limits = budget.for_invocation(event.deadline_ms, self._clock, self._holding)
        self._ended.clear()
        self._invoked = event.request_id
        actions = self._machine.on_invoke(event.request_id, self._decide())
        if Action.WAIT in actions:
            self._doubt.on_line(self._now_ms)
            for worker in self._workers:
                worker.allow(SendWindow(limits.flush_until))
                worker.nudge(only_left_over=True)
            actions = await self._wait_for_end(limits)
        for action in actions:
            await self._do(action, limits)

    @property
    def _ended_ms(self) -> int | None:
        """Return when the function ended, by Lambda's clock, or was last known to run; None where neither is known."""
        request_id, time_ms = self._last_end
        return time_ms if request_id == self._invoked else self._doubt.since_ms

    @property
    def _is_heard(self) -> bool:
        """Say whether telemetry of this invocation has come, so that its end will too."""
        return self._started == self._invoked

    def _decide(self) -> Decision:
        if self._silences >= MOST_SILENCES or self._missed >= MOST_SILENCES:
            return Decision.LATER  # what is not seen cannot be waited for
        decision = self._strategy.decide(self._clock.time(), self._flushed_at, self._gaps)
        if decision is Decision.HOLD and not self._is_anybody_waited_for():
            return Decision.BACKGROUND  # in an outage of every destination an invocation costs nothing
        return decision

    def _is_anybody_waited_for(self) -> bool:
        deadline = Deadline(self._clock.monotonic() + self._holding.longest_s)
        return any(worker.is_worth_waiting_for(deadline) for worker in self._workers)

    async def _do(self, action: Action, limits: InvocationBudget) -> None:
        match action:
            case Action.FLUSH:
                await self._flush(limits.hold_until(self._clock, self._ended_ms))
            case Action.FLUSH_BESIDE:
                await self._flush_beside(limits)
            case Action.STAND_BY if not self._ended.is_set():
                for worker in self._workers:
                    worker.allow(SendWindow(limits.flush_until))
            case Action.GO_ON:
                self.go_on()
            case Action.FREEZE:
                self._freeze()

    async def _wait_for_end(self, limits: InvocationBudget) -> tuple[Action, ...]:
        """Wait for the function's end, in its bounds; meanwhile send what a long invocation has written so far."""
        silent_until = self._clock.monotonic() + self._silence_s
        while not self._ended.is_set():
            now = self._clock.monotonic()
            doubted_until = self._doubted_until(limits)
            if now >= doubted_until:
                return self._give_end_up()
            if not self._is_heard and now >= silent_until:
                self._note_silence()
                return self._machine.on_time_up()
            if now >= limits.wait_until.at:
                self._missed += 1
                return self._machine.on_time_up()
            wake_at = now + RUNNING_PERIOD_S if self._is_heard else silent_until
            await self._wait_stirred(min(limits.wait_until.at, wake_at, doubted_until))
            if not self._ended.is_set() and self._clock.monotonic() >= wake_at:
                for worker in self._workers:
                    worker.nudge()
        return END

    def _doubted_until(self, limits: InvocationBudget) -> float:
        """Return when, on the monotonic clock, an end that is doubted is not waited for any longer; else infinity."""
        if self._doubt.since_ms is None:
            return inf
        until = limits.hold_until(self._clock, self._doubt.since_ms)
        return until.earlier(limits.longest_s * (1 - DOUBT_SHARE)).at

    def _give_end_up(self) -> tuple[Action, ...]:
        self._door.unseen_ends += 1
        self._log.info("Telemetry of an invocation was lost, which may have told its end: it is not waited for.")
        return self._machine.on_end_lost()

    async def _wait_stirred(self, until: float) -> None:
        """Wait until the function ends or its end is doubted, at most to the point `until` on the monotonic clock."""
        self._stirred.clear()
        if self._ended.is_set():
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until if until < inf else None):
                await self._stirred.wait()

    def _note_silence(self) -> None:
        self._silences += 1
        self._door.unseen_ends += 1
        self._log.warning(
            f"Of an invocation no telemetry came within {self._silence_s:g} s, so its end is not waited for."
        )

    def _end_of_hold(self, deadline: Deadline) -> Deadline:
        """Let all work rest at the end of a hold until the next event is asked for; return when that has to be.

        Earlier than `deadline` by what it may take until the processor is given again.
        """
        end = deadline.earlier(min(self._turns.withheld_s, MOST_WITHHELD_SHARE * self._holding.longest_s))
        self._turns.rest_from(end.at)
        return end

    async def _flush(self, deadline: Deadline) -> None:
        deadline = self._end_of_hold(deadline)
        if self.inbox is not None:
            await self.inbox.wait_empty(deadline)
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(worker.flush(answered_by(deadline)))
        self._flushed_at = self._clock.time()

    async def _flush_beside(self, limits: InvocationBudget) -> None:
        """Send what is held while the function runs; once it has ended, wait for what is under way, in its bounds."""
        for worker in self._workers:
            worker.allow(SendWindow(limits.flush_until))
            worker.nudge()
        silent_until = Deadline(self._clock.monotonic() + self._silence_s)
        if not await self._is_idle_or_over_by(min(limits.flush_until, silent_until), limits):
            if self._is_heard:
                await self._is_idle_or_over_by(limits.flush_until, limits)
            else:
                self._note_silence()
        deadline = self._end_of_hold(limits.hold_until(self._clock, self._ended_ms))
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(worker.flush(SendWindow(NEVER, answer_by=deadline)))
        self._flushed_at = self._clock.time()

    async def _is_idle_or_over_by(self, deadline: Deadline, limits: InvocationBudget) -> bool:
        """Wait until everything is sent or the function has ended, at most until `deadline`; say whether that came.

        An end that was probably lost is taken for one.
        """
        async with asyncio.TaskGroup() as group:
            waits = (group.create_task(self._all_idle()), group.create_task(self._over(limits)))
            done, _ = await asyncio.wait(waits, timeout=deadline.left(self._clock), return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        return bool(done)

    async def _over(self, limits: InvocationBudget) -> None:
        while not self._ended.is_set() and self._clock.monotonic() < (until := self._doubted_until(limits)):
            await self._wait_stirred(until)

    async def _all_idle(self) -> None:
        for worker in self._workers:
            await worker.wait_idle()

    def _freeze(self) -> None:
        for worker in self._workers:
            worker.allow(CLOSED)

    async def _shutdown(self, event: Shutdown) -> None:
        """Send what is held while the tail still comes in, then settle everything."""
        self._machine.on_shutdown()
        limits = budget.for_shutdown(event.deadline_ms, self._clock, has_fallback=self._has_fallback)
        if event.reason in ("timeout", "failure"):
            self.expect_heir()
        for worker in self._workers:
            worker.allow(SendWindow(limits.send_until, is_last=True))
        await self._receive_tail(limits.receive_until, reason=event.reason)
        await self.drain(limits)

    def expect_heir(self) -> None:
        """Note that /tmp outlives this process and another one follows: what is held then is left to it."""
        for worker in self._workers:
            worker.expect_heir()
        if self.inbox is not None:
            self.inbox.expect_heir()

    async def drain(self, limits: ShutdownBudget) -> None:
        """Deliver what is held, store elsewhere what is left, settle the rest and tell of it those who can be told."""
        if self.inbox is not None:
            left = limits.send_until.left(self._clock)
            await self.inbox.wait_empty(limits.send_until.earlier((1 - DIGEST_SHARE) * left))
            self.inbox.give_up()
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(worker.drain(limits.send_until, limits.store_until))
        if (word := self._last_word()) is not None:
            async with asyncio.TaskGroup() as group:
                for worker in self._workers:
                    group.create_task(worker.tell(word, limits.tell_until))

    async def _receive_tail(self, until: Deadline, *, reason: str) -> None:
        """Wait for the last records, at most `until`.

        In an environment that ends in peace the last one is the report of its last invocation; with that, or where
        it was never invoked, there is nothing to wait for. After a timeout or a crash the report is made when we are
        gone, and goes to the next generation; but the last lines may still come, so it is waited until all is quiet.
        What was told of an init that failed is on its way when the end is already there: its report is waited for.
        """
        is_peaceful = reason == "spindown"
        started = self._clock.monotonic()
        while self._clock.monotonic() < until.at:
            is_due = self._machine.is_init_due or (is_peaceful and self._machine.is_report_due)
            quiet_at = max(started, self._last_news_at) + self._quiet_s
            if not is_due and (is_peaceful or self._clock.monotonic() >= quiet_at):
                return
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until.at if is_due else min(until.at, quiet_at)):
                    await self._news.wait()
