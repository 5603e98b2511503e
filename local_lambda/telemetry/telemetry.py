"""The telemetry of one environment: the events produced, and the senders to its subscribers."""

import asyncio
import time
from typing import Any

import aiohttp

from local_lambda.rules import telemetry_events as events
from local_lambda.rules.log_levels import passes
from local_lambda.rules.logs_schema import is_legacy
from local_lambda.rules.subscriptions import Subscription
from local_lambda.rules.telemetry_events import TelemetryEvent
from local_lambda.settings import Function, Platform
from local_lambda.telemetry.delivery import Destination, HttpDestination, Sender, TcpDestination
from local_lambda.transcript import Transcript
from local_lambda.watch import Watch


class Telemetry:
    """The platform's side of the Telemetry API."""

    def __init__(
        self,
        platform: Platform,
        tasks: asyncio.TaskGroup,
        session: aiohttp.ClientSession,
        watch: Watch,
        transcript: Transcript,
        function: Function,
        address: str,
    ) -> None:
        self.events: list[TelemetryEvent] = []
        self.is_closed = False
        self._platform = platform
        self._function = function
        self._address = address  # of sandbox.localdomain
        self._tasks = tasks
        self._session = session
        self._watch = watch
        self._transcript = transcript
        self._senders: dict[Subscription, Sender] = {}
        self._running: dict[Subscription, asyncio.Task[None]] = {}
        self._init_began = 0  # like the next one, a number of events
        self._resumed_at = 0

    def begin_init(self) -> None:
        """Open subscriptions. A new subscriber gets every event from now on, however late in the init it subscribes."""
        self.is_closed = False
        self._init_began = len(self.events)

    def close_subscriptions(self, *, forget: bool) -> None:
        """Close subscriptions; with `forget`, drop those that the new generation did not renew."""
        self.is_closed = True
        if forget:
            self._senders = {known: sender for known, sender in self._senders.items() if known in self._running}

    def emit(self, type_: str, record: Any, *, at: float | None = None) -> None:
        """Produce a `platform.*` event, now or `at` seconds since the epoch."""
        self.publish(TelemetryEvent(time=time.time() if at is None else at, type=type_, record=record))

    def publish(self, event: TelemetryEvent) -> None:
        """Keep `event` and offer it to every subscriber of its stream."""
        self.events.append(event)
        for sender in self._senders.values():
            self._offer(sender, event)
        self._watch.notify()

    async def subscribe(self, subscription: Subscription) -> bool:
        """Start delivery. Return False if the same subscription existed before (`AlreadySubscribed`).

        Raises OSError if the platform must connect at once (`Platform.tcp_connect`) and nobody listens.
        """
        destination = self._destination(subscription)
        if subscription not in self._running and self._platform.tcp_connect == "subscribe":
            await destination.connect()
        known = subscription in self._senders
        if not known:
            self._senders[subscription] = sender = Sender(subscription, self._platform, self._heard)
            for event in self.events[self._init_began :]:
                self._offer(sender, event)
        if subscription not in self._running:
            sender = self._senders[subscription]
            sender.resume()
            self._running[subscription] = self._tasks.create_task(sender.run(destination))
        else:
            destination.close()
        kind = "platform.logsSubscription" if is_legacy(subscription.schema) else "platform.telemetrySubscription"
        self.emit(kind, events.subscription(subscription.name, subscription.types, again=known))
        return not known

    def uses_other_api(self, asked: Subscription) -> bool:
        """Whether the extension is subscribed through the other API (Telemetry or Logs); it may use only one."""
        legacy = is_legacy(asked.schema)
        return any(known.name == asked.name and is_legacy(known.schema) != legacy for known in self._senders)

    def pause(self) -> None:
        for sender in self._senders.values():
            sender.pause()

    def resume(self) -> None:
        self._resumed_at = len(self.events)
        for sender in self._senders.values():
            sender.resume()

    def function_ended(self) -> None:
        """Push what the function wrote since the last thaw: its process has ended, and nothing is added any more.

        Source: AWS docs, Telemetry API, Configuring memory usage and buffering: a batch is also sent when its stream
        closes.
        """
        if any(event.stream == "function" for event in self.events[self._resumed_at :]):
            for subscription, sender in self._senders.items():
                if "function" in subscription.types:
                    sender.push()

    async def stop(self) -> None:
        """Stop delivery to the extensions: they are gone. Held records are kept for their successors."""
        tasks = list(self._running.values())
        self._running.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def subscriptions(self) -> list[Subscription]:
        """The current subscriptions, oldest first."""
        return list(self._senders)

    @property
    def held(self) -> list[bytes]:
        """The held records of all subscriptions, encoded as they would be sent."""
        return [record for sender in self._senders.values() for record in sender.buffer]

    @property
    def undelivered(self) -> int:
        """The number of held records, over all subscriptions."""
        return sum(len(sender.buffer) for sender in self._senders.values())

    def _destination(self, subscription: Subscription) -> Destination:
        host = self._address
        if subscription.protocol == "TCP":
            return TcpDestination(host, subscription)
        return HttpDestination(self._session, host, subscription)

    def _offer(self, sender: Sender, event: TelemetryEvent) -> None:
        if event.stream in sender.subscription.types and self._is_wanted(event):
            for record in event.encode_all(sender.subscription.schema, self._platform.schema_reading):
                sender.offer(record, beyond_limit=event.type == "platform.logsDropped")

    def _is_wanted(self, event: TelemetryEvent) -> bool:
        return not self._platform.filter_telemetry or passes(self._function, event.type, event.record)

    def _heard(self, subscription: Subscription, records: int, status: int | None, detail: str) -> None:
        """Record an attempt in the transcript; after a success, tell the subscriber about records dropped before."""
        call = f"telemetry {subscription.protocol}"
        summary = f"{records} records" + (f" ({detail})" if detail else "")
        self._transcript.sent(subscription.name, call, status, summary)
        sender = self._senders.get(subscription)
        dropped = sender.buffer.take_dropped() if sender and status is not None and status < 300 else None
        if sender and dropped:
            record = events.logs_dropped("consumer slower than producer", dropped.records, dropped.size_bytes)
            event = TelemetryEvent(time=time.time(), type="platform.logsDropped", record=record)
            self.events.append(event)
            self._offer(sender, event)
        self._watch.notify()
