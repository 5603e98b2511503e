"""The HTTP server under both of our endpoints: aiohttp's low-level server, without application and router.

`Connection` is aiohttp's protocol for one connection; each endpoint subclasses it. `serving` opens and closes a server.
Answers have no `Date` and `Server`, an invalid request is answered in HTTP/1.1 like any other, a connection is kept
open as long as the client wants, and the end does not wait for handlers.
"""

import asyncio
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp.http_writer import HttpVersion11
from aiohttp.web_protocol import ERROR, RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse
from aiohttp.web_server import Server

_CLOSE_S = 1.0  # the longest wait for handlers, which are cancelled when the server ends


class Connection(RequestHandler):
    """One connection, whose requests are answered one after the other. `limits` are passed to aiohttp."""

    def __init__(self, http: Server, **limits: Any) -> None:
        super().__init__(
            http, loop=asyncio.get_running_loop(), keepalive_timeout=0, tcp_keepalive=False, lingering_time=0,
            access_log=None, **limits,  # type: ignore[arg-type]  # aiohttp accepts None, its annotation does not
        )  # fmt: skip
        # A timer that is never scheduled, in the place of aiohttp's own, which would close an idle connection. The
        # environment may be frozen for long, and an idle process must not be woken, not even once a day.
        self._keepalive_handle = asyncio.TimerHandle(math.inf, lambda: None, (), self._loop)

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused:  # aiohttp calls this after each read
            super().resume_reading(resume_parser)

    def drop(self) -> None:
        """End the connection without an answer."""
        if self.transport is not None:
            self.transport.abort()


class _Request(BaseRequest):
    async def _prepare_hook(self, response: StreamResponse) -> None:
        """Remove the headers that aiohttp adds to every answer; our clients do not need them."""
        for name in ("Date", "Server"):
            response.headers.popall(name, None)


@asynccontextmanager
async def serving(
    listeners: Sequence[socket.socket],
    answer: Callable[[BaseRequest], Awaitable[StreamResponse]],
    connect: Callable[[Server], Connection],
    connections: Iterable[Connection],
    *,
    backlog: int,
) -> AsyncIterator[None]:
    """Serve on sockets that already listen; earlier connections wait in the kernel's queue.

    `connect` makes the protocol of a new connection. Leaving the context closes the sockets and drops `connections`.
    """
    loop = asyncio.get_running_loop()

    def request_of(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> BaseRequest:
        message = message._replace(version=HttpVersion11) if message is ERROR else message
        return _Request(message, payload, protocol, writer, task, loop)

    http = Server(answer, request_factory=request_of, handler_cancellation=True)
    async with AsyncExitStack() as stack:
        for listener in listeners:
            listener.setblocking(False)
            server = await loop.create_server(lambda: connect(http), sock=listener, backlog=backlog)
            stack.callback(server.close)
        try:
            yield
        finally:
            for connection in list(connections):
                connection.drop()
            await http.shutdown(_CLOSE_S)
