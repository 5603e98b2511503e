"""Sends batches to a listener, the way the platform sends them."""

import asyncio
import base64
import secrets
from typing import Any

import aiohttp

from local_lambda.conformance.observations import Post
from local_lambda.rules.subscriptions import Subscription

_ANSWER_S = 3.0


class Poster:
    """Sends batches to one listener, at the address that Lambda would use."""

    def __init__(self, subscription: Subscription, host: str, session: aiohttp.ClientSession) -> None:
        self._subscription = subscription
        self._host = host
        self._session = session

    async def post(self, what: str, body: bytes, sequence_id: str | None = None) -> Post:
        """Send one batch and return its answer."""
        if self._subscription.protocol == "TCP":
            return await self._write(what, body)
        url = f"http://{self._host}:{self._subscription.port}{self._subscription.path}"
        headers = _headers(sequence_id or _sequence_id())
        try:
            async with asyncio.timeout(_ANSWER_S):
                async with self._session.request(
                    self._subscription.method, url, data=body, headers=headers, allow_redirects=False
                ) as response:
                    await response.read()
                    return Post(what, response.status)
        except TimeoutError:
            return Post(what, None, f"no answer within {_ANSWER_S:g} s")
        except (OSError, aiohttp.ClientError) as error:
            return Post(what, None, type(error).__name__)

    async def post_twice(self, what: str, body: bytes) -> Post:
        """Send one batch without waiting for the answer, send it twice more, and return the worse answer."""
        sequence_id = _sequence_id()
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._send_and_leave(body, sequence_id)
        except (OSError, TimeoutError) as error:
            return Post(what, None, type(error).__name__)
        # Twice: the listener may handle the first of these before the one without a waiting sender.
        again = await self.post(what, body, sequence_id)
        return await self.post(what, body, sequence_id) if again.is_accepted else again

    async def _send_and_leave(self, body: bytes, sequence_id: str) -> None:
        subscription = self._subscription
        _, writer = await asyncio.open_connection(self._host, subscription.port)
        named = {**_headers(sequence_id), "host": f"{self._host}:{subscription.port}", "content-length": len(body)}
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        writer.write(f"{subscription.method} {subscription.path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def _write(self, what: str, body: bytes) -> Post:
        """Write the records as lines; over TCP nothing is acknowledged."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                _, writer = await asyncio.open_connection(self._host, self._subscription.port)
                # Split as text, not parsed: orjson would refuse the lone surrogate.
                inner = body.strip()[1:-1].replace(b'},{"time"', b'}\n{"time"')
                writer.write(inner + b"\n" if inner else b"")
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError) as error:
            return Post(what, None, type(error).__name__)
        return Post(what, 200, "TCP")


def _headers(sequence_id: str) -> dict[str, Any]:
    return {
        "content-type": "application/json",
        "sequence-id": sequence_id,
        "connection": "keep-alive",
        "user-agent": "awslambda-worker/1.0",
    }


def _sequence_id() -> str:
    return base64.b64encode(secrets.token_bytes(32)).rstrip(b"=").decode()
