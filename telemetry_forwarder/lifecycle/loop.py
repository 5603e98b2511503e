"""The loop that carries out the machine's actions: ask Lambda for events, give the sinks windows, flush and drain."""

import asyncio
from collections.abc import Callable, Sequence

from telemetry_forwarder.clock import Clock, Deadline
from telemetry_forwarder.delivery.window import NEVER, SendWindow, answered_by
from telemetry_forwarder.delivery.worker import Worker
from telemetry_forwarder.intake.inbox import Inbox
from telemetry_forwarder.lambda_api.client import ExtensionsClient, Invoke, Shutdown
from telemetry_forwarder.ledger import IntakeCounts
from telemetry_forwarder.lifecycle.budget import ShutdownBudget
from telemetry_forwarder.lifecycle.machine import Action, Machine
from telemetry_forwarder.lifecycle.strategy import Decision
from telemetry_forwarder.log import Log
from telemetry_forwarder.records.record import Event, Record
from telemetry_forwarder.records.running import Invocation
from telemetry_forwarder.turns import TimedEvent, Turns

# Bodies that were not made into records within this share of the time before `send_until` are given up: counting their
# records takes time, too.
_DIGEST_SHARE = 0.75
# A hold ends earlier by the time for which the processor was withheld lately, at most this share of the longest hold.
_MOST_WITHHELD_SHARE = 0.25


class Lifecycle:
    """The conversation with Lambda, from the first `/event/next` to the end of SHUTDOWN.

    `last_word` makes the loss notice when everything is settled; it returns None if nothing was lost.
    """

    def __init__(
        self,
        *,
        client: ExtensionsClient,
        machine: Machine,
        workers: Sequence[Worker],
        counts: IntakeCounts,
        clock: Clock,
        log: Log,
        turns: Turns | None = None,
        last_word: Callable[[], Record | None] = lambda: None,
    ) -> None:
        self.on_invoke: Callable[[Invocation], None] = lambda invocation: None  # before anything else is done
        # Called when the last telemetry was read, with the reason of SHUTDOWN; None if there was none.
        self.before_drain: Callable[[str | None], None] = lambda reason: None
        self.inbox: Inbox | None = None  # received bodies that are still to be made into records
        self._client = client
        self._machine = machine
        self._workers = workers
        self._counts = counts
        self._clock = clock
        self._log = log
        self._turns = turns or Turns(clock)
        self._last_word = last_word
        self._reason: str | None = None  # of the SHUTDOWN event
        self._stirred = TimedEvent()  # set when something has happened on which the machine may decide
        for worker in workers:
            worker.on_idle = self._stirred.set

    # --- notifications from the receiver ---

    def on_events(self, events: Sequence[Event]) -> None:
        """Note the platform's events in a batch of telemetry, if there are any. The receiver calls this in order.

        Earlier items of telemetry, and those of the same batch, may still have to be made into records.
        """
        if Action.ALLOW in self._machine.on_events(events):
            self._allow()
        self._stirred.set()

    def on_loss(self) -> None:
        """Note lost telemetry. It may have contained the end of the function, which is then not waited for any longer.

        Call this after `on_events` with the complete items of the same body.
        """
        self._machine.on_loss()
        self._stirred.set()

    def on_interruption(self) -> None:
        """Note that a body of telemetry stalled or was cut off. Lambda may send it again."""
        self._machine.on_interruption()
        self._stirred.set()

    # --- events ---

    async def run(self) -> None:
        """Handle events until SHUTDOWN is done. Raises ExtensionsApiError if Lambda refuses to go on."""
        asked_ms = 0  # when the event was requested; the first one was requested before this
        is_over = False
        while not is_over:
            event = await self._client.next_event()
            self._turns.go_on()
            match event:
                case Invoke():
                    self.on_invoke(Invocation(event.request_id, asked_ms, self._now_ms))
                    actions = self._machine.on_invoke(
                        event.request_id, event.deadline_ms, is_worth_waiting=self._is_anybody_waited_for()
                    )
                case Shutdown():
                    self._reason = event.reason
                    actions = self._machine.on_shutdown(event.reason, event.deadline_ms, late_by=self._turns.withheld_s)
            is_over = await self._carry_out(actions)
            asked_ms = self._now_ms

    async def catch_up(self, event: Invoke) -> None:
        """Handle an invocation that came while the app was loading; the event after it has been requested already."""
        self.on_invoke(Invocation(event.request_id, 0, self._now_ms))
        await self._carry_out(
            self._machine.on_invoke(event.request_id, event.deadline_ms, decision=Decision.BACKGROUND)
        )

    def go_on(self) -> None:
        """Send in the background from now on. Used where nothing is ever frozen and no invocation is seen."""
        self._machine.on_managed()
        self._allow()

    @property
    def _now_ms(self) -> int:
        return round(self._clock.time() * 1000)

    def _is_anybody_waited_for(self) -> bool:
        deadline = Deadline(self._clock.monotonic() + self._machine.holding.longest_s)
        return any(worker.is_worth_waiting_for(deadline) for worker in self._workers)

    # --- actions ---

    async def _carry_out(self, actions: Sequence[Action]) -> bool:
        """Do the actions until the next event is to be requested, or the drain is done; return whether it is done."""
        while True:
            for action in actions:
                await self._do(action)
            if actions[-1] is not Action.WAIT:
                return actions[-1] is Action.DRAIN
            actions = await self._wait()

    async def _do(self, action: Action) -> None:
        match action:
            case Action.ALLOW:
                self._allow()
            case Action.NUDGE | Action.NUDGE_LEFT_OVER:
                for worker in self._workers:
                    worker.nudge(only_left_over=action is Action.NUDGE_LEFT_OVER)
            case Action.FLUSH | Action.FINISH:
                await self._flush(self._machine.hold_until, only_finish=action is Action.FINISH)
            case Action.NOTE_LOSS | Action.NOTE_SILENCE:
                self._note_unseen_end(action)
            case Action.FOLLOWED:
                self.expect_next_process()
            case Action.NEXT:
                self._machine.on_next()
            case Action.DRAIN if self._machine.ending is not None:
                await self.drain(self._machine.ending)

    def _allow(self) -> None:
        for worker in self._workers:
            worker.allow(self._machine.window)

    async def _wait(self) -> Sequence[Action]:
        """Wait until the machine decides on actions; return them."""
        while not (actions := self._machine.decide(is_idle=all(worker.is_idle for worker in self._workers))):
            self._stirred.clear()
            await self._stirred.wait(self._machine.wake_at)
        return actions

    def _note_unseen_end(self, why: Action) -> None:
        self._counts.unseen_ends += 1
        if why is Action.NOTE_LOSS:
            self._log.info("Telemetry of an invocation was lost, which may have told its end: it is not waited for.")
        else:
            waited_s = self._machine.silence_s
            self._log.warning(
                f"Of an invocation no telemetry came within {waited_s:g} s, so its end is not waited for."
            )

    async def _flush(self, hold_until: Deadline, *, only_finish: bool) -> None:
        """Send held records and wait for the answers; with `only_finish`, only wait for attempts under way.

        This ends at `hold_until`, or earlier by the time for which the processor may be withheld. From that end until
        the next event is requested, all other work rests.
        """
        longest_s = self._machine.holding.longest_s
        deadline = hold_until.earlier(min(self._turns.withheld_s, _MOST_WITHHELD_SHARE * longest_s))
        self._turns.rest_from(deadline.at)
        self._turns.has_gone_through()
        if self.inbox is not None and not only_finish:
            await self.inbox.wait_empty(deadline)
        window = SendWindow(NEVER, answer_by=deadline) if only_finish else answered_by(deadline)
        for worker in self._workers:
            worker.begin_flush(window)
        for worker in self._workers:
            await worker.wait_for_flush()
        self._machine.on_flushed()

    def expect_next_process(self) -> None:
        """Note that /tmp outlives this process and another one follows: held records are left to it at the end."""
        for worker in self._workers:
            worker.expect_next_process()
        if self.inbox is not None:
            self.inbox.expect_next_process()

    async def drain(self, limits: ShutdownBudget) -> None:
        """Deliver held records, store the rest by failover, settle what is left then, and send the loss notice."""
        self._turns.go_on()  # also where the next event could not be asked for
        if self.inbox is not None:
            left = limits.send_until.left(self._clock)
            await self.inbox.wait_empty(limits.send_until.earlier((1 - _DIGEST_SHARE) * left))
            self.inbox.give_up()
        self.before_drain(self._reason)
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(worker.drain(limits.send_until, limits.store_until))
        if (word := self._last_word()) is not None:
            async with asyncio.TaskGroup() as group:
                for worker in self._workers:
                    group.create_task(worker.send_loss_notice(word, limits.notify_until))
