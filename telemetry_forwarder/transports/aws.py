"""What all AWS clients share: their configuration, their proxies, and what their connections wait for."""

import asyncio
import contextlib
import functools
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from botocore.httpsession import ProxyConfiguration

from telemetry_forwarder import __version__
from telemetry_forwarder.interfaces import Cause
from telemetry_forwarder.transports.addresses import Network, choose_proxy
from telemetry_forwarder.transports.connections import KEEP_ALIVE_S
from telemetry_forwarder.transports.steps import connection_wanted, name_wanted


class Road(AbstractResolver):
    """Tracks how far the connections of one client have come. aiohttp resolves names and makes sockets through it."""

    def __init__(self) -> None:
        self._names = 0  # look-ups under way
        self._sockets: list[socket.socket] = []
        self._resolver: AbstractResolver | None = None

    def waits_for(self, where: str) -> Cause | None:
        """Return what is waited for before a request to `where` is sent; None if it is nothing, or TLS."""
        if self._names:
            return name_wanted(where)
        self._sockets = [one for one in self._sockets if one.fileno() != -1 and not _is_connected(one)]
        return connection_wanted(where) if self._sockets else None

    def new_socket(self, address: tuple[Any, ...]) -> socket.socket:
        """Create a socket for one of the addresses from `resolve`."""
        made = socket.socket(*address[:3])
        self._sockets = [one for one in self._sockets if one.fileno() != -1] + [made]
        return made

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self._resolver = self._resolver or ThreadedResolver()
        self._names += 1
        try:
            return await self._resolver.resolve(host, port, family)
        finally:
            self._names -= 1

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""


def _is_connected(one: socket.socket) -> bool:
    try:
        one.getpeername()
    except OSError:
        return False
    return True


def client_config(
    network: Network,
    *,
    connect_s: float,
    read_s: float,
    connections: int = 10,
    looks_over_parameters: bool = True,
    road: Road | None = None,
) -> AioConfig:
    """Return a configuration with one attempt; retries are the worker's (a replay, with a person waiting, allows more).

    `road` tracks the connections, which use the same proxies as the other sinks (see `proxy_for`). Those that botocore
    would read from the environment support neither networks in NO_PROXY nor special characters in a password.
    """
    return AioConfig(
        proxies={},
        http_session_cls=_directed(network.proxies),
        parameter_validation=looks_over_parameters,
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=connect_s,
        read_timeout=read_s,
        max_pool_connections=connections,
        connector_args={
            "keepalive_timeout": KEEP_ALIVE_S,
            **({"resolver": road, "socket_factory": road.new_socket} if road else {}),
        },
        user_agent_extra=f"telemetry-forwarder/{__version__}",
    )


class _Directions(ProxyConfiguration):
    """Gives botocore's sessions the proxy of an address by our own rule."""

    def __init__(self, by_scheme: Mapping[str, str]) -> None:
        super().__init__()
        self._by_scheme = by_scheme

    def proxy_url_for(self, url: str) -> str | None:  # type: ignore[override]  # its own gives None too
        return choose_proxy(url, self._by_scheme)


def _directed(proxies: Mapping[str, str]) -> type[AIOHTTPSession]:
    """Return a class of sessions that use `proxies`. botocore itself decides by the scheme alone."""

    class Session(AIOHTTPSession):
        _verify: str | Literal[True]  # the types of these two are not published
        _setup_proxy_ssl_context: Callable[[str], ssl.SSLContext]

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._proxy_config = _Directions(proxies)

        async def __aenter__(self) -> Self:
            # Early, while INIT waits, and not beside the first invocation. The first request reports an error.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(_tls_context, self._verify)
            await super().__aenter__()
            return self

        def _build_ssl_contexts(self, proxy_url: str | None) -> tuple[ssl.SSLContext, ssl.SSLContext | None]:
            return _tls_context(self._verify), self._setup_proxy_ssl_context(proxy_url) if proxy_url else None

    return Session


_MAKING = threading.Lock()


def _tls_context(verify: str | Literal[True]) -> ssl.SSLContext:
    """Return the context in which all AWS clients verify a service; `verify` is a CA file, or True for botocore's own.

    It is made once, because that costs 35 ms of CPU: on a function of 128 MB half a second. Call this in a thread.
    """
    with _MAKING:
        return _made_context(verify)


@functools.cache
def _made_context(verify: str | Literal[True]) -> ssl.SSLContext:
    session: Any = AIOHTTPSession
    context: ssl.SSLContext = session(verify=verify)._build_verify_context()
    return context
