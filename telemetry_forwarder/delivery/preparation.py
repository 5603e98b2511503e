"""What a destination needs is made sure of beside the first invocation, and not in front of the first batch."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from telemetry_forwarder.errors import EncodeError, TransportError
from telemetry_forwarder.interfaces import Encoded, Sink
from telemetry_forwarder.records.record import Record

# Of the first records so many are looked at; what the request asks for, they have in common.
SAMPLE = 20


class Preparation:
    """Calls `prepare` of a transport that has it, with a request of the first records that the sink is offered."""

    def __init__(self, sink: Sink[Any, Any], transport: Any) -> None:
        self._sink = sink
        self._prepare: Callable[[Any], Awaitable[None]] | None = getattr(transport, "prepare", None)
        self._sample: Sequence[Record] = ()
        self._is_seen = asyncio.Event()

    def see(self, records: Sequence[Record]) -> None:
        """Take note of the first records."""
        if self._prepare is not None and not self._sample and records:
            self._sample = records[:SAMPLE]
            self._is_seen.set()

    async def run(self) -> None:
        """Wait for the first records, and prepare for them. What fails here is met again, and told, by what is sent."""
        if self._prepare is None:
            return
        await self._is_seen.wait()
        batch = [encoded for record in self._sample if (encoded := self._encode(record)) is not None]
        if batch:
            with contextlib.suppress(TransportError):
                await self._prepare(self._sink.request(batch))

    def _encode(self, record: Record) -> Encoded | None:
        try:
            return self._sink.encode(record)
        except EncodeError:
            return None
