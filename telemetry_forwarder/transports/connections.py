"""aiohttp's connections for an environment that is frozen between two invocations, and for answers that end early.

- Age is that of a `Moment`. The monotonic clock may have stood still while the environment was frozen or kept as a
  snapshot; the other end has long forgotten the connection then, and may not even say so.
- What comes unasked ("408 Request Timeout", say) ends a connection: it would be taken for the answer to what is asked
  next.
- The first bytes of an answer are kept. aiohttp gives nothing of an answer with an odd line in its head, or one that
  ends within it; but with its status the server has said what it did.
- Closing aborts: what was not sent of a request that was given up is never sent.
"""

import asyncio
from contextvars import ContextVar
from socket import AddressFamily
from typing import Any

from aiohttp.abc import ResolveResult
from aiohttp.client import ClientRequest, ClientTimeout
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection as Lease
from aiohttp.connector import TCPConnector
from aiohttp.resolver import ThreadedResolver

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

# Shorter than the idle limit of any load balancer, so that a connection is seldom found dead when it is used again.
KEEP_ALIVE_S = 5.0

# An address that does not answer is given this long before the next one of the name is tried beside it.
# Source: RFC 8305, section 5.
_NEXT_ADDRESS_S = 0.25

# What is kept of the beginning of an answer, and the longest line of a head that is read.
LONGEST_HEAD_BYTES = 64 * 1024

_END_OF_HEAD = b"\r\n\r\n"


class Attempt:
    """How far one request has come; `connection` is set once it is on its way to who answers it.

    aiohttp's resolver, protocol factory and connector find theirs in `CURRENT`. With whom it deals: with the proxy
    while `is_with_proxy`, which is asked for a tunnel once `is_tunnelling`, then with the destination.
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
        """Note that there is a connection, or a tunnel, in which TLS may begin."""
        if self.is_tunnelling:
            self.is_tunnelling = self.is_with_proxy = False
            self._next = self.where
        self.way.waits_for = handshake_wanted(self._next)

    def is_through(self) -> None:
        """Note that there is a connection over which HTTP can be spoken."""
        if self.is_with_proxy and self._wants_tunnel:
            self.is_tunnelling = True
            self.way.waits_for = tunnel_wanted(self.where, self._variable)

    def is_sent_on(self, connection: "Connection") -> None:
        self.connection = connection
        self.way.waits_for = None


CURRENT: ContextVar[Attempt] = ContextVar("CURRENT")


class Connector(TCPConnector):
    """aiohttp's pool, out of which no connection is used again that was idle for too long by the wall clock."""

    def __init__(self, clock: Clock) -> None:
        # No memory for names: where an address has moved, the next connection finds it.
        super().__init__(
            limit=0,
            use_dns_cache=False,
            resolver=_Resolver(),
            keepalive_timeout=KEEP_ALIVE_S,
            happy_eyeballs_delay=_NEXT_ADDRESS_S,
        )
        self._factory = self._make_connection  # type: ignore[assignment]  # aiohttp's is a partial of its own class
        self._clock = clock

    def __repr__(self) -> str:
        idle = sum(connection.is_connected() for pool in self._conns.values() for connection, _ in pool)
        return f"{len(self._acquired)} connections busy, {idle} idle"

    async def connect(self, req: ClientRequest, traces: list[Any], timeout: ClientTimeout) -> Lease:  # noqa: ASYNC109
        attempt = CURRENT.get()
        attempt.connects()
        while True:
            lease = await super().connect(req, traces, timeout)
            connection = lease.protocol
            assert isinstance(connection, Connection)  # noqa: S101 - the factory makes no other
            if connection.is_usable(self._clock):
                break
            lease.close()
        connection.begin()
        lease.add_callback(lambda: connection.rest(self._clock))
        attempt.is_sent_on(connection)
        return lease

    def _make_connection(self) -> "Connection":
        attempt = CURRENT.get()
        attempt.shakes_hands()
        return Connection(self._loop, attempt)


class _Resolver(ThreadedResolver):
    async def resolve(
        self, host: str, port: int = 0, family: AddressFamily = AddressFamily.AF_INET
    ) -> list[ResolveResult]:
        attempt = CURRENT.get()
        attempt.looks_up()
        found = await super().resolve(host, port, family)
        attempt.connects()
        return found


class Connection(ResponseHandler):
    """One connection. `received` is the beginning of the answer, `end` why the connection is over (None: it is not).

    `is_garbled` once something came that is not HTTP.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, attempt: Attempt) -> None:
        super().__init__(loop)
        self._attempt = attempt
        self._idle_since: Moment | None = None
        self.received = bytearray()
        self.end: BaseException | None = None
        self.is_garbled = False

    def is_usable(self, clock: Clock) -> bool:
        """Say whether a request may be sent. A new one is usable, whatever has come on it."""
        return self._idle_since is None or (not self.should_close and self._idle_since.age(clock) <= KEEP_ALIVE_S)

    def begin(self) -> None:
        self._idle_since = None
        self.received.clear()

    def rest(self, clock: Clock) -> None:
        self._idle_since = Moment.now(clock)

    def close(self) -> None:
        self.abort()

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._attempt.is_through()

    def data_received(self, data: bytes) -> None:
        if data and self._idle_since is not None:  # aiohttp itself calls with nothing, to go on
            self.abort()
            return
        self.received += data[: LONGEST_HEAD_BYTES - len(self.received)]
        # aiohttp's parser gives nothing of what it was handed together with bytes that it cannot read. Apart, the head
        # is given before its body is judged, and that before what stands behind it.
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
        """Tell who reads the body too that it cannot be read: aiohttp's parser has forgotten it."""
        self.is_garbled = True
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(ClientPayloadError("what came is not HTTP"))
        if self.transport is not None:
            self.transport.abort()
