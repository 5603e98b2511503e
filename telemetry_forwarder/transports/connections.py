"""aiohttp's connections, adapted to environments that freeze between invocations and to answers that end early.

- A connection's idle time is the age of a `Moment`. The monotonic clock may have stood still while the environment was
  frozen or stored as a snapshot. Then the server has long dropped the connection, perhaps without a signal.
- Bytes that come unasked (such as "408 Request Timeout") end a connection, because they would be taken for the answer
  to the next request.
- The first bytes of an answer are kept. aiohttp returns nothing if a line of the head is invalid or the head is cut
  off, although the status already tells what the server did.
- Closing aborts: unsent bytes of a request that was given up are never sent.
"""

import asyncio
import contextlib
from contextvars import ContextVar
from importlib import import_module

from aiohttp.client_exceptions import ClientConnectionResetError, ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import TimerNoop
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

from telemetry_forwarder.clock import Clock, Moment
from telemetry_forwarder.transports.addresses import address, host_port
from telemetry_forwarder.transports.steps import (
    Way,
    connection_wanted,
    handshake_wanted,
    name_wanted,
    proxy_wanted,
    tunnel_wanted,
)

# What libraries import when they send their first request, if they import lazily (see `bootstrap`). An invocation would
# wait for it, so it is loaded here.
for _name in (
    "aiohappyeyeballs.impl", "aiohappyeyeballs.utils", "aiohttp.tcp_helpers",
    "asyncio.queues", "asyncio.sslproto", "asyncio.trsock", "concurrent.futures.thread", "encodings.idna", "heapq",
    "queue",
):  # fmt: skip
    import_module(_name)

# Shorter than the idle timeout of any load balancer, so that a reused connection is seldom dead.
KEEP_ALIVE_S = 5.0

# The most bytes kept from the start of an answer, and the longest line of a head.
LONGEST_HEAD_BYTES = 64 * 1024

# A request up to this length is written at once; a longer one would block the event loop for long.
_AT_ONCE_BYTES = 2**20
_PIECE_BYTES = 64 * 1024

_NO_TIMER = TimerNoop()
_END_OF_HEAD = b"\r\n\r\n"


class Attempt:
    """The progress of one request; `connection` is set once the request goes to its receiver.

    Whoever looks up, connects or makes the protocol finds its Attempt in `CURRENT`. While `is_with_proxy` the peer
    is the proxy, which is asked for a tunnel once `is_tunnelling`; then it is the destination.
    """

    def __init__(self, url: str, proxy: str | None, way: Way) -> None:
        self.way = way
        self.where = address(url, proxy)
        self.connection: Connection | None = None
        self.is_with_proxy = proxy is not None
        self.is_tunnelling = False
        self._next = host_port(proxy or url)
        self._variable = "HTTPS_PROXY" if url.startswith("https:") else "HTTP_PROXY"
        self._wants_tunnel = proxy is not None and url.startswith("https:")

    def looks_up(self) -> None:
        self.way.waits_for = name_wanted(self._next)

    def connects(self) -> None:
        is_proxy = self.is_with_proxy
        self.way.waits_for = proxy_wanted(self.where, self._variable) if is_proxy else connection_wanted(self._next)

    def shakes_hands(self) -> None:
        """Note that a connection or a tunnel exists, in which TLS may begin."""
        if self.is_tunnelling:
            self.is_tunnelling = self.is_with_proxy = False
            self._next = self.where
        self.way.waits_for = handshake_wanted(self._next)

    def is_through(self) -> None:
        """Note that a connection is ready for HTTP."""
        if self.is_with_proxy and self._wants_tunnel:
            self.is_tunnelling = True
            self.way.waits_for = tunnel_wanted(self.where, self._variable)

    def is_sent_on(self, connection: "Connection") -> None:
        self.connection = connection
        self.way.waits_for = None


CURRENT: ContextVar[Attempt] = ContextVar("CURRENT")


class Connection(ResponseHandler):
    """One connection. `received` is the start of the answer; `end` is why the connection ended (None: it has not).

    `is_garbled` is set once something came that is not HTTP.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, attempt: Attempt) -> None:
        super().__init__(loop)
        self._attempt: Attempt | None = attempt  # until the connection is made
        self._idle_since: Moment | None = None
        self.received = bytearray()
        self.end: BaseException | None = None
        self.is_garbled = False

    def is_usable(self, clock: Clock) -> bool:
        """Return whether a request may be sent. A new connection is usable, whatever has come on it."""
        return self._idle_since is None or (not self.should_close and self._idle_since.age(clock) <= KEEP_ALIVE_S)

    def begin(self) -> None:
        self._idle_since = None
        self.received.clear()

    def rest(self, clock: Clock) -> None:
        self._idle_since = Moment.now(clock)

    def close(self) -> None:
        self.abort()

    def resume_reading(self, resume_parser: bool = True) -> None:
        if self._reading_paused:  # aiohttp calls this after each read
            super().resume_reading(resume_parser)

    async def exchange(
        self, head: bytes, body: bytes, *, is_head_alone: bool, read_s: float | None
    ) -> tuple[RawResponseMessage, StreamReader]:
        """Send a request; return the answer's head and a reader of its body, which is not unpacked.

        The answer to HEAD is a head alone. `read_s` bounds each wait for more of an answer. Raises ClientError, OSError
        or HttpProcessingError.
        """
        self.set_response_params(
            timer=_NO_TIMER,
            skip_payload=is_head_alone,
            read_until_eof=True,
            auto_decompress=False,
            read_timeout=read_s,
            max_line_size=LONGEST_HEAD_BYTES,
            max_field_size=LONGEST_HEAD_BYTES,
        )
        if len(body) <= _AT_ONCE_BYTES:
            self._write(head + body)
            self.start_timeout()
            return await self._answer()
        failure: Exception | None = None
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(self._write_in_pieces(head, body))
            try:
                answer = await self._answer()
            except Exception as error:  # noqa: BLE001 - a TaskGroup would wrap it
                failure = error
            if writing.cancel():
                self.force_close()  # after it was used: the rest of the request is missing
        if failure is not None:
            raise failure
        return answer

    async def _answer(self) -> tuple[RawResponseMessage, StreamReader]:
        """Wait for an answer that is no interim one."""
        message, content = await self.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, content = await self.read()
        return message, content

    def _write(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise ClientConnectionResetError("the connection is closed")
        self.transport.write(data)

    async def _write_in_pieces(self, head: bytes, body: bytes) -> None:
        """Write a long request no faster than it is taken. Who reads the answer learns of a connection that ended."""
        with contextlib.suppress(OSError):
            self._write(head)
            for at in range(0, len(body), _PIECE_BYTES):
                self._write(body[at : at + _PIECE_BYTES])
                await self._drain_helper()
            self.start_timeout()

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._attempt is not None:
            self._attempt.is_through()
            self._attempt = None  # which refers to the connection later: no cycle

    def data_received(self, data: bytes) -> None:
        if data and self._idle_since is not None:  # aiohttp itself passes no data, to resume
            self.abort()
            return
        self.received += data[: LONGEST_HEAD_BYTES - len(self.received)]
        # aiohttp's parser returns nothing of a chunk that contains invalid bytes. So the head is passed separately: it
        # is parsed before its body, and the body before what follows it.
        head, end, body = data.partition(_END_OF_HEAD)
        super().data_received(head + end)
        if body and self.exception() is None:
            super().data_received(body)
        if self.exception() is not None:
            self._give_up()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.end = self.end or exc or ConnectionAbortedError()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        """Tell the reader of the body too that it cannot be read, because aiohttp's parser has forgotten the reader."""
        self.is_garbled = True
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(ClientPayloadError("what came is not HTTP"))
        if self.transport is not None:
            self.transport.abort()
