"""What all clients of the AWS SDK share: their configuration, their proxies, and their TLS context."""

import asyncio
import contextlib
import functools
import ssl
import threading
from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from botocore.httpsession import ProxyConfiguration

from telemetry_forwarder import __version__
from telemetry_forwarder.transports.addresses import Network, choose_proxy
from telemetry_forwarder.transports.connections import KEEP_ALIVE_S


def client_config(
    network: Network,
    *,
    connect_s: float,
    read_s: float,
    connections: int = 10,
) -> AioConfig:
    """Return a configuration with one attempt; retries are the worker's (a replay, with a person waiting, allows more).

    Its connections use the same proxies as the other sinks (see `proxy_for`). Those that botocore would read from the
    environment support neither networks in NO_PROXY nor special characters in a password.
    """
    return AioConfig(
        proxies={},
        http_session_cls=_directed(network.proxies),
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=connect_s,
        read_timeout=read_s,
        max_pool_connections=connections,
        connector_args={"keepalive_timeout": KEEP_ALIVE_S},
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
