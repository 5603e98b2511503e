"""Connections to one destination: looked up, raced, tunnelled through a proxy, kept for the next request.

It stands in for aiohttp's connector, for the protocol and parser of aiohttp. That one comes with the session, cookies,
web sockets and tracing, and loading them took a sixth of what the first invocation waited for. How long a connection
is kept is judged by `Connection`; nothing here sets a timer that would wake an idle process.

The race of a name's addresses (RFC 8305) is that of aiohappyeyeballs, as in aiohttp.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import deque

from aiohappyeyeballs import AddrInfoType, start_connection
from aiohappyeyeballs.utils import pop_addr_infos_interleave
from aiohttp.client_exceptions import ClientConnectionError, InvalidUrlClientError
from aiohttp.helpers import is_canonical_ipv4_address, is_ip_address
from msgspec import Struct

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.transports.connections import CURRENT, Connection

# The time for an address to answer before the next one of the name is tried beside it.
# Source: RFC 8305, section 5.
_NEXT_ADDRESS_S = 0.25


class Peer(Struct, frozen=True):
    """Whom to connect to; with `tls`, in TLS, and its certificate must be for `host`."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None


_Key = tuple[Peer, Peer | None, bytes]


class Route(Struct, frozen=True):
    """Where requests go: `peer` is the destination, or who forwards unencrypted requests to it.

    Through a `proxy` a tunnel is made by asking it with the head `connect`. `authority` is the value of `Host`, and
    `target` what follows the method in the first line: a path, or a whole URL for a proxy that forwards.
    """

    peer: Peer
    authority: str
    target: str
    proxy: Peer | None = None
    connect: bytes = b""

    @property
    def connection(self) -> _Key:
        """What routes that can use the same connection have in common."""
        return self.peer, self.proxy, self.connect


class ProxyRefused(ConnectionError):
    """A proxy makes no tunnel, but answers with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Connector:
    """The connections of one transport, each used by one request at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._idle: dict[_Key, deque[Connection]] = {}
        self._busy: set[Connection] = set()
        self._is_closed = False

    def __repr__(self) -> str:
        idle = sum(connection.is_connected() for kept in self._idle.values() for connection in kept)
        return f"{len(self._busy)} connections busy, {idle} idle"

    async def lease(self, route: Route, connect_s: float) -> Connection:
        """Return a connection for one request, to be released or closed.

        `connect_s` bounds the look-up, TCP, proxy and TLS together. Raises TimeoutError without an error number if it
        is over, ProxyRefused, ClientError, HttpProcessingError (of a proxy), another OSError, or ValueError.
        """
        attempt = CURRENT.get()
        attempt.connects()
        connection = self._kept(route)
        if connection is None:
            async with asyncio.timeout(connect_s):
                connection = await self._connect(route)
            if self._is_closed:
                connection.close()
                raise ClientConnectionError("the transport was closed")
        self._busy.add(connection)
        connection.begin()
        attempt.is_sent_on(connection)
        return connection

    def release(self, route: Route, connection: Connection) -> None:
        """Keep a connection whose answer was read, if it can be used again."""
        self._busy.discard(connection)
        connection.rest(self._clock)
        if self._is_closed or connection.should_close:
            connection.close()
        else:
            self._idle.setdefault(route.connection, deque()).append(connection)

    def drop(self, connection: Connection) -> None:
        """Close a connection that is of no use any more."""
        self._busy.discard(connection)
        connection.close()

    async def close(self) -> None:
        """Close all connections, and wait until they are."""
        self._is_closed = True
        closing = []
        for connection in (*self._busy, *(one for kept in self._idle.values() for one in kept)):
            if (closed := connection.closed) is not None and connection.transport is not None:
                closing.append(closed)
            connection.close()
        self._busy.clear()
        self._idle.clear()
        for closed in closing:
            with contextlib.suppress(Exception):  # why it ended interests nobody
                await closed

    def _kept(self, route: Route) -> Connection | None:
        kept = self._idle.get(route.connection)
        while kept:
            connection = kept.popleft()
            if connection.is_connected() and connection.is_usable(self._clock):
                return connection
            connection.close()
        self._idle.pop(route.connection, None)
        return None

    async def _connect(self, route: Route) -> Connection:
        if route.proxy is None:
            return await self._reach(route.peer)
        connection = await self._reach(route.proxy)
        try:
            return await self._through(connection, route)
        except BaseException:
            connection.close()
            raise

    async def _reach(self, peer: Peer) -> Connection:
        """Connect to the first address that accepts, in TLS if the peer is so reached."""
        addresses = await _addresses(peer)
        name = _name(peer) if peer.tls else None
        while True:
            try:
                made = await start_connection(addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S)
                loop = asyncio.get_running_loop()
                return (await loop.create_connection(_connection, sock=made, ssl=peer.tls, server_hostname=name))[1]
            except OSError:
                pop_addr_infos_interleave(addresses)
                if not addresses:
                    raise

    async def _through(self, connection: Connection, route: Route) -> Connection:
        """Have the proxy at the other end of `connection` make a tunnel, and begin TLS in it."""
        message, _ = await connection.exchange(route.connect, b"", is_head_alone=False, read_s=None)
        if message.code != 200:
            raise ProxyRefused(message.code)
        assert connection.transport is not None  # noqa: S101 - it has just answered
        assert route.peer.tls is not None  # noqa: S101 - no tunnel is made without
        inner, below = _connection(), connection.transport
        try:
            transport = await asyncio.get_running_loop().start_tls(
                below, inner, route.peer.tls, server_hostname=_name(route.peer)
            )
        except BaseException:
            below.abort()
            raise
        if transport is None:
            raise OSError("the tunnel ended as TLS began")
        inner.connection_made(transport)
        return inner


def _connection() -> Connection:
    attempt = CURRENT.get()
    attempt.shakes_hands()
    return Connection(asyncio.get_running_loop(), attempt)


def _name(peer: Peer) -> str:
    """Return the name that the certificate has to have: never with the dot that ends a fully qualified name."""
    return peer.host.rstrip(".")


async def _addresses(peer: Peer) -> list[AddrInfoType]:
    """Look the peer's name up. Raises OSError, or ValueError if it can be no name."""
    host, port = peer.host, peer.port
    if is_ip_address(host):
        if ":" in host:
            return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port, 0, 0))]
        if not is_canonical_ipv4_address(host):  # `127.1`, which a rule on addresses would not recognize
            raise InvalidUrlClientError(host, "is not a canonical IPv4 address")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    attempt = CURRENT.get()
    attempt.looks_up()
    found = await asyncio.get_running_loop().getaddrinfo(
        host if not host.endswith("..") else f"{_name(peer)}.",
        port,
        type=socket.SOCK_STREAM,
        flags=socket.AI_ADDRCONFIG,
    )
    attempt.connects()
    return [(family, kind, protocol, "", address) for family, kind, protocol, _, address in found]
