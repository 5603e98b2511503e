"""Prepare a destination (e.g. create a log stream) during the first invocation, so that no batch has to wait for it."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from telemetry_forwarder.errors import EncodeError, TransportError
from telemetry_forwarder.interfaces import Encoded, Sink
from telemetry_forwarder.records.record import Record

# The number of first records from which the request is made. All records need the same preparation.
_SAMPLE = 20


class Preparation:
    """Calls the transport's `prepare`, if it has one, with a request made of the sink's first records."""

    def __init__(self, sink: Sink[Any, Any], transport: Any) -> None:
        self._sink = sink
        self._prepare: Callable[[Any], Awaitable[None]] | None = getattr(transport, "prepare", None)
        self._sample: Sequence[Record] = ()
        self._is_seen = asyncio.Event()

    def see(self, records: Sequence[Record]) -> None:
        """Keep a sample of the first records."""
        if self._prepare is not None and not self._sample and records:
            self._sample = records[:_SAMPLE]
            self._is_seen.set()

    async def run(self) -> None:
        """Wait for the first records and prepare for them. Errors are ignored: the first batch meets them again."""
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
