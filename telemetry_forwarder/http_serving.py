"""What both of our servers take from aiohttp: its low-level server, without application and router.

`Connection` is its protocol for one connection, to be subclassed for what a server allows; `serving` opens and closes.
An answer goes without `Date` and `Server`, a broken request is answered in HTTP/1.1 like any other, a connection is
kept for as long as the other end wants it, and nobody waits for a handler at the end.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiohttp.http_writer import HttpVersion11
from aiohttp.web_protocol import ERROR, RequestHandler
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse
from aiohttp.web_server import Server

# aiohttp would end a connection that is idle for an hour; the environment may be frozen for longer.
_FOR_EVER_S = 1e9
_CLOSE_S = 1.0  # for handlers, which are cancelled when the server ends


class Connection(RequestHandler):
    """One connection, on which one request after the other is answered. `limits` are aiohttp's."""

    def __init__(self, http: Server, **limits: Any) -> None:
        super().__init__(
            http, loop=asyncio.get_running_loop(), keepalive_timeout=_FOR_EVER_S, tcp_keepalive=False, lingering_time=0,
            access_log=None, **limits,  # type: ignore[arg-type]  # no log of accesses
        )  # fmt: skip

    def drop(self) -> None:
        """End the connection without a word."""
        if self.transport is not None:
            self.transport.abort()


class _Request(BaseRequest):
    async def _prepare_hook(self, response: StreamResponse) -> None:
        """Leave out what aiohttp adds to every answer: of no use to whoever is at the other end."""
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
    """Serve on sockets that already listen; what came before this waits in the kernel's queue.

    `connect` makes what serves a new connection. Leaving the context closes the sockets and drops `connections`.
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
