"""Sends telemetry to one subscriber: batches in order, retried until acknowledged, paused while frozen."""

import asyncio
import base64
import io
import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

import aiohttp

from local_lambda.rules.buffering import Buffer
from local_lambda.rules.subscriptions import Subscription
from local_lambda.settings import Platform, Retry

_Heard = Callable[[Subscription, int, int | None, str], None]  # subscription, records, status (None: no answer), detail


class Destination(Protocol):
    """The receiver of batches. `send` returns a status; it raises OSError or aiohttp.ClientError if no answer came."""

    async def connect(self) -> None: ...

    async def send(self, batch: Sequence[bytes], sequence_id: str) -> int: ...

    def close(self) -> None: ...


class HttpDestination:
    """A listener over HTTP. The names, order and case of the headers are those captured on real Lambda."""

    def __init__(self, session: aiohttp.ClientSession, host: str, subscription: Subscription) -> None:
        self._session = session
        self._method = subscription.method
        self._host = f"{host}:{subscription.port}"
        self._url = f"http://{self._host}{subscription.path}"

    async def connect(self) -> None:
        """Do nothing: an HTTP connection is made for the first batch."""

    async def send(self, batch: Sequence[bytes], sequence_id: str) -> int:
        """Send the records as one JSON array and return the status."""
        body = b"[" + b",".join(batch) + b"]"
        headers = {
            "host": self._host,
            "content-type": "application/json",
            "sequence-id": sequence_id,
            "connection": "keep-alive",
            "user-agent": "awslambda-worker/1.0",
            "content-length": str(len(body)),
        }
        skip = ("Accept", "Accept-Encoding")
        async with self._session.request(
            self._method,
            self._url,
            data=io.BytesIO(body),
            headers=headers,
            skip_auto_headers=skip,
            allow_redirects=False,
        ) as response:
            await response.read()
            return response.status

    def close(self) -> None:
        """Do nothing: the session is shared and outlives this object."""


class TcpDestination:
    """A listener over TCP: one JSON record per line. Nothing is acknowledged, so written records count as accepted."""

    def __init__(self, host: str, subscription: Subscription) -> None:
        self._host = host
        self._port = subscription.port
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self) -> None:
        """Connect, if not connected yet. Raises OSError if nobody listens."""
        if self._writer is None or self._writer.is_closing():
            _, self._writer = await asyncio.open_connection(self._host, self._port)

    async def send(self, batch: Sequence[bytes], sequence_id: str) -> int:
        """Write the records and return 200."""
        await self.connect()
        if self._writer is None:  # cannot happen: connect raises instead
            raise ConnectionError
        self._writer.write(b"".join(record + b"\n" for record in batch))
        await self._writer.drain()
        return 200

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class Sender:
    """The platform's sender for one subscription. It lives as long as the environment; `run` lasts one generation."""

    def __init__(self, subscription: Subscription, platform: Platform, heard: _Heard) -> None:
        self.subscription = subscription
        self.buffer = Buffer(
            max_items=subscription.max_items,
            max_bytes=subscription.max_bytes,
            timeout_s=subscription.timeout_ms / 1000,
            limit_bytes=platform.buffer_bytes,
        )
        self._retry: Retry = platform.retry
        self._spoil = platform.spoil
        self._heard = heard
        self._moving = True
        self._changed = asyncio.Event()
        self._attempt: asyncio.Timeout | None = None
        self._attempt_left = 0.0

    def offer(self, record: bytes, *, beyond_limit: bool = False) -> None:
        """Add `record` to the buffer, which holds it until its batch is due. Never waits."""
        self.buffer.add(record, _now(), beyond_limit=beyond_limit)
        self._changed.set()

    def pause(self) -> None:
        """Pause until `resume`: no request begins and no timer runs."""
        self._moving = False
        if self._attempt is not None and (when := self._attempt.when()) is not None:
            self._attempt_left = max(0.0, when - _now())
            self._attempt.reschedule(None)
        self._changed.set()

    def resume(self) -> None:
        """Continue. Records held during the freeze are due at once."""
        self._moving = True
        if self._attempt is not None and self._attempt.when() is None:
            self._attempt.reschedule(_now() + self._attempt_left)
        self.push()

    def push(self) -> None:
        """Make the records held now due at once."""
        self.buffer.seal()
        self._changed.set()

    async def run(self, destination: Destination) -> None:
        """Send batch after batch until cancelled; a batch not acknowledged by then goes back into the buffer."""
        try:
            while True:
                batch = await self._next()
                try:
                    await self._deliver(batch, destination)
                except asyncio.CancelledError:
                    self.buffer.put_back(batch)
                    raise
        finally:
            destination.close()

    async def _next(self) -> Sequence[bytes]:
        while True:
            if self._moving and (batch := self.buffer.take(_now())):
                return batch
            self._changed.clear()
            due_at = self.buffer.due_at if self._moving else None
            try:
                async with asyncio.timeout_at(due_at):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _deliver(self, batch: Sequence[bytes], destination: Destination) -> None:
        sequence_id = base64.b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
        pause = self._retry.first_s
        if self._spoil is not None and not (batch := self._spoil(batch)):
            return
        for attempt in range(self._retry.attempts):
            if attempt:
                await asyncio.sleep(pause)
                pause = min(pause * self._retry.factor, self._retry.longest_s)
            await self._until_moving()
            if await self._accepted(batch, sequence_id, destination):
                return
        self.buffer.count_dropped(batch)

    async def _accepted(self, batch: Sequence[bytes], sequence_id: str, destination: Destination) -> bool:
        status: int | None = None
        detail = ""
        try:
            async with asyncio.timeout(self._retry.attempt_timeout_s) as self._attempt:
                status = await destination.send(batch, sequence_id)
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            detail = f"{type(error).__name__}: {error}"
        finally:
            self._attempt = None
        self._heard(self.subscription, len(batch), status, detail)
        return status is not None and 200 <= status < 300

    async def _until_moving(self) -> None:
        while not self._moving:
            self._changed.clear()
            await self._changed.wait()


def _now() -> float:
    return asyncio.get_running_loop().time()
