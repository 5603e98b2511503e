"""What is left of a request that got no answer: nothing, as soon as nobody holds it, and without garbage collection.

The extension collects garbage seldom (`bootstrap.load`), and a body may have megabytes.
"""

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import pytest

from telemetry_forwarder.errors import TransportError
from telemetry_forwarder.interfaces import HttpRequest, PutLogEvents
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.transports.cloudwatch_logs import open_logs
from telemetry_forwarder.transports.gzip import GzipTransport
from telemetry_forwarder.transports.http import HttpTransport

from .aws_service import endpoint, environment
from .sockets import Answer, hang, raw, serving

__all__ = ["endpoint", "environment"]

BODY_BYTES = 400_000
WAIT_S = 0.05  # for an answer that does not come
TIMES = 3

Send = Callable[[], Awaitable[object]]


ENDINGS: dict[str, Answer | None] = {
    "no server": None,
    "no answer": hang,
    "reset": raw(b"", by_reset=True),
    "closed": raw(b""),
    "half a head": raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "half a body": raw(b"HTTP/1.1 503 X\r\nContent-Length: 10\r\n\r\n{}"),
    "no HTTP": raw(b"SSH-2.0\r\n\r\n"),
    "unavailable": raw(b"HTTP/1.1 503 X\r\nContent-Length: 2\r\n\r\n{}"),
    "taken": raw(b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\n{}"),
}


@asynccontextmanager
async def over_http(url: str) -> AsyncIterator[Send]:
    transport = GzipTransport(HttpTransport())
    # What does not shrink is sent as it is, so that the body counts and not what it is compressed to.
    yield lambda: transport.send(HttpRequest(url=url, body=b"a" * BODY_BYTES, headers={"Content-Encoding": "none"}))
    await transport.aclose()


@asynccontextmanager
async def to_cloudwatch(url: str) -> AsyncIterator[Send]:
    async with open_logs(Network()) as transport:
        transport._ready.add(("g", "s"))  # no request to create it: the put is what has a body
        yield lambda: transport.send(PutLogEvents(group="g", stream="s", events=((1, "a" * BODY_BYTES),)))


@pytest.fixture
def traced() -> Iterator[None]:
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


async def one(send: Send) -> None:
    with suppress(TransportError, TimeoutError):
        async with asyncio.timeout(WAIT_S):
            await send()
    await asyncio.sleep(0.01)  # the connection ends in a turn of its own


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("opened", [over_http, to_cloudwatch])
async def test_nothing_is_left_of_a_request_that_has_ended(opened, ending, endpoint, traced) -> None:
    async with serving(ENDINGS[ending] or hang) as server:
        url = server.url()
        if ENDINGS[ending] is not None:
            left = await left_by(opened, url, endpoint, server)
    if ENDINGS[ending] is None:
        left = await left_by(opened, url, endpoint, server)
    assert left < BODY_BYTES // 2


async def left_by(opened, url, endpoint, server) -> int:
    """Return the bytes that `TIMES` requests have left, after one that has everything loaded."""
    endpoint(url)
    async with opened(url) as send:
        await one(send)
        server.requests.clear()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(TIMES):
            await one(send)
        server.requests.clear()
        after, _ = tracemalloc.get_traced_memory()
    return after - before
