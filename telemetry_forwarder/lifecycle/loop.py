"""Drives the machine: asks Lambda for events, waits for the function's end, flushes, drains."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from telemetry_forwarder import budget
from telemetry_forwarder.clock import Clock, Deadline
from telemetry_forwarder.lifecycle.client import ExtensionsClient, Invoke, Shutdown
from telemetry_forwarder.lifecycle.machine import Action, Machine
from telemetry_forwarder.log import Log
from telemetry_forwarder.pipeline.worker import Worker
from telemetry_forwarder.records import Record

# How long after the last batch no further one is expected, beyond what Lambda itself may hold a batch back.
QUIET_S = 0.1
LONGEST_BUFFERING_S = 0.2
# On Managed Instances nothing freezes and nothing ends before SHUTDOWN: an ordinary periodic flush.
PERIOD_S = 2.0
# In an invocation that takes longer than this, what is held is sent meanwhile: it costs the caller nothing, and an
# environment that is lost without a word takes less with it.
RUNNING_PERIOD_S = 5.0


class Lifecycle:
    """The conversation with Lambda, from the first `/event/next` to the end of SHUTDOWN."""

    def __init__(
        self,
        *,
        client: ExtensionsClient,
        machine: Machine,
        workers: Sequence[Worker],
        buffering_s: float,
        clock: Clock,
        log: Log,
    ) -> None:
        self.on_invoke: Callable[[], None] = lambda: None  # told of each invocation before anything else is done
        self._client = client
        self._machine = machine
        self._workers = workers
        self._last_news_at = clock.monotonic()
        self._quiet_s = min(buffering_s, LONGEST_BUFFERING_S) + QUIET_S
        self._clock = clock
        self._log = log
        self._ended = asyncio.Event()
        self._news = asyncio.Event()

    def on_records(self, records: Sequence[Record]) -> None:
        """Take note of a batch of telemetry; called by the receiver, in order."""
        self._last_news_at = self._clock.monotonic()
        self._news.set()
        for record in records:
            if record.request_id is None:
                continue
            if record.type == "platform.runtimeDone" and self._machine.on_runtime_done(record.request_id):
                self._ended.set()
            elif record.type == "platform.report":
                self._machine.on_report(record.request_id)

    async def run(self) -> None:
        """Serve events until SHUTDOWN has been dealt with. Raises ExtensionsApiError."""
        while True:
            match await self._client.next_event():
                case Invoke() as event:
                    self.on_invoke()
                    await self._invocation(event)
                case Shutdown() as event:
                    await self._shutdown(event)
                    return

    async def flush_periodically(self) -> None:
        """Flush every `PERIOD_S` seconds, until cancelled; for environments that are never frozen."""
        while True:
            await self._flush(Deadline(self._clock.monotonic() + PERIOD_S))
            await asyncio.sleep(PERIOD_S)

    async def _invocation(self, event: Invoke) -> None:
        """Hold on to the invocation until its end has been seen and sent, within its budget."""
        limits = budget.for_invocation(event.deadline_ms, self._clock)
        for worker in self._workers:
            worker.begin(limits.flush_until)
        self._ended.clear()
        actions = self._machine.on_invoke(event.request_id)
        if not actions:
            actions = await self._wait_for_end(limits.wait_until)
        if Action.FLUSH in actions:
            await self._flush(limits.hold_until(self._clock))
        for worker in self._workers:
            worker.freeze()

    async def _wait_for_end(self, until: Deadline) -> tuple[Action, ...]:
        """Wait for the function's end, at most `until`; meanwhile send what a long invocation has written so far."""
        while not self._ended.is_set():
            now = self._clock.monotonic()
            if now >= until.at:
                return self._machine.on_time_up()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(min(until.at, now + RUNNING_PERIOD_S)):
                    await self._ended.wait()
            if not self._ended.is_set():
                for worker in self._workers:
                    worker.nudge()
        return Action.FLUSH, Action.NEXT

    async def _flush(self, deadline: Deadline) -> None:
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(worker.flush(deadline))

    async def _shutdown(self, event: Shutdown) -> None:
        """Send what is held while the tail still comes in, then settle everything."""
        self._machine.on_shutdown()
        limits = budget.for_shutdown(event.deadline_ms, self._clock)
        for worker in self._workers:
            worker.hurry(limits.send_until)
        await self._receive_tail(limits.receive_until, waits_for_report=event.reason == "spindown")
        await self.drain(limits.send_until)

    async def drain(self, deadline: Deadline) -> None:
        """Deliver what is held until `deadline` and settle the rest."""
        async with asyncio.TaskGroup() as group:
            for worker in self._workers:
                group.create_task(worker.drain(deadline))

    async def _receive_tail(self, until: Deadline, *, waits_for_report: bool) -> None:
        """Wait for the last records: until all is quiet and no report is due, at most `until`.

        After a timeout or a crash the report is made when we are gone, and goes to the next generation. An
        environment that was never invoked has none.
        """
        started = self._clock.monotonic()
        while not self._clock.monotonic() >= until.at:
            due = waits_for_report and self._machine.is_report_due
            quiet_at = max(started, self._last_news_at) + self._quiet_s
            if not due and self._clock.monotonic() >= quiet_at:
                return
            self._news.clear()
            try:
                async with asyncio.timeout_at(until.at if due else min(until.at, quiet_at)):
                    await self._news.wait()
            except TimeoutError:
                continue
