"""What AWS clients have in common here: their configuration, what they wait for, and how their exceptions are read."""

import socket
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp.abc import AbstractResolver, ResolveResult
from botocore import exceptions as aws
from botocore.httpsession import ProxyConfiguration
from botocore.parsers import ResponseParserError

from telemetry_forwarder import __version__
from telemetry_forwarder.errors import (
    ConnectFailed,
    ConnectionLost,
    CredentialUnavailable,
    NotTheService,
    TimedOut,
    TransportError,
)
from telemetry_forwarder.interfaces import Cause
from telemetry_forwarder.transports.addresses import choose_proxy
from telemetry_forwarder.transports.aws_session import ForeignAnswer
from telemetry_forwarder.transports.connections import KEEP_ALIVE_S
from telemetry_forwarder.transports.steps import VPC, connection_wanted, name_wanted
from telemetry_forwarder.transports.tls_failures import is_tls, tls_failure

# What botocore raises when a call had no answer; `ClientError` is an answer. The last two are no BotoCoreErrors.
NO_ANSWER = (aws.BotoCoreError, aiohttp.ClientError, OSError, ResponseParserError, ForeignAnswer)

CA_VARIABLES = "SSL_CERT_FILE or AWS_CA_BUNDLE"

NO_CREDENTIALS = (aws.NoCredentialsError, aws.PartialCredentialsError)

# Of botocore's own exceptions those that tell of the network. All others are about us: a setting, a model, a parameter.
_OF_THE_NETWORK = (
    aws.HTTPClientError,
    aws.ConnectionError,
    aws.EndpointConnectionError,
    aws.ConnectTimeoutError,
    aws.SSLError,
    aws.ProxyConnectionError,
    aws.IncompleteReadError,
    aws.ChecksumError,
    aws.FlexibleChecksumError,
)
LONGEST_REASON = 300


class Road(AbstractResolver):
    """How far the connections of one client have come: aiohttp asks it for names and for sockets."""

    def __init__(self) -> None:
        self._names = 0  # look-ups under way
        self._sockets: list[socket.socket] = []
        self._resolver: AbstractResolver | None = None

    def waits_for(self, where: str) -> Cause | None:
        """Return what is waited for before anything is sent to `where`; None where nothing is, or it is TLS."""
        if self._names:
            return name_wanted(where)
        self._sockets = [one for one in self._sockets if one.fileno() != -1 and not _is_connected(one)]
        return connection_wanted(where) if self._sockets else None

    def new_socket(self, address: tuple[Any, ...]) -> socket.socket:
        """Make the socket for one of the addresses of `resolve`."""
        made = socket.socket(*address[:3])
        self._sockets = [one for one in self._sockets if one.fileno() != -1] + [made]
        return made

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self._resolver = self._resolver or aiohttp.ThreadedResolver()
        self._names += 1
        try:
            return await self._resolver.resolve(host, port, family)
        finally:
            self._names -= 1

    async def close(self) -> None:
        """Nothing is kept open."""


def _is_connected(one: socket.socket) -> bool:
    try:
        one.getpeername()
    except OSError:
        return False
    return True


def client_config(
    *,
    connect_s: float,
    read_s: float,
    connections: int = 10,
    proxies: Mapping[str, str] | None = None,
    looks_over_parameters: bool = True,
    road: Road | None = None,
) -> AioConfig:
    """Return a configuration with one attempt: retry exists in the pipeline only. `road` sees how connecting goes.

    With `proxies` (see `proxy_for`) connections take the way that those of the other sinks take; without, the way that
    botocore reads in the environment, which knows no networks in NO_PROXY, and of a password no special characters.
    """
    direction: dict[str, Any] = {} if proxies is None else {"proxies": {}, "http_session_cls": directed(proxies)}
    return AioConfig(
        **direction,
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


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what it came from; aiohttp keeps that of a certificate in an attribute."""
    while error is not None:
        yield error
        error = getattr(error, "certificate_error", None) or error.__cause__ or error.__context__


class Directions(ProxyConfiguration):
    """What tells botocore's sessions the proxy of an address, by our own rule."""

    def __init__(self, by_scheme: Mapping[str, str]) -> None:
        super().__init__()
        self._by_scheme = by_scheme

    def proxy_url_for(self, url: str) -> str | None:  # type: ignore[override]  # its own gives None too
        return choose_proxy(url, self._by_scheme)


def directed(proxies: Mapping[str, str]) -> type[AIOHTTPSession]:
    """Return a class of sessions that take the way of `proxies`. botocore itself decides by the scheme alone."""

    class Session(AIOHTTPSession):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._proxy_config = Directions(proxies)

    return Session


def translated(error: BaseException, where: str) -> TransportError:
    """Return the transport error that an exception of `NO_ANSWER` amounts to; `where` is host and port."""
    # botocore wraps what aiohttp raised; a reset in the middle of an answer comes as EndpointConnectionError too.
    cause = error.__cause__ or error.__context__
    if isinstance(error, aws.SSLError):
        tls = next((one for one in causes(error) if is_tls(one)), None)
        reason = "the TLS handshake failed" if tls is None else tls_failure(tls, variable=CA_VARIABLES)
        return ConnectFailed(f"{where}: {reason}")
    if isinstance(cause, FileNotFoundError | IsADirectoryError | PermissionError | ssl.SSLError):
        return ConnectFailed(f"{where}: the CA file that SSL_CERT_FILE or AWS_CA_BUNDLE names cannot be read")
    if isinstance(error, aws.ReadTimeoutError):
        return TimedOut(f"{where}: no answer in time")
    if isinstance(error, aws.ConnectTimeoutError):
        return ConnectFailed(f"{where}: no connection in time; {VPC}")
    if isinstance(error, aws.ProxyConnectionError):
        return ConnectFailed(f"{where}: the proxy cannot be reached or refused the connection; check HTTPS_PROXY")
    if isinstance(error, aws.EndpointConnectionError) and isinstance(cause, aiohttp.ClientConnectorError):
        return ConnectFailed(f"{where}: {_why_not(cause.os_error)}")
    if isinstance(error, aws.CredentialRetrievalError | aws.MetadataRetrievalError | aws.PartialCredentialsError):
        return CredentialUnavailable(f"{where}: the AWS credentials could not be read ({type(error).__name__})")
    if isinstance(error, ForeignAnswer | ResponseParserError):
        return NotTheService(not_aws(error, where))
    if isinstance(error, aws.BotoCoreError) and not isinstance(error, _OF_THE_NETWORK):
        return ConnectFailed(f"{where}: the AWS SDK cannot send it: {own_fault(error)}")
    if isinstance(error, aws.HTTPClientError) and not isinstance(cause, OSError | aiohttp.ClientError | None):
        return ConnectFailed(f"{where}: the request cannot be sent ({type(cause).__name__})")
    return ConnectionLost(f"{where}: the connection ended before the answer did ({type(cause or error).__name__})")


def not_aws(error: Exception, where: str) -> str:
    """Say that something answered that is no service of AWS, and what to check."""
    what = str(error) if isinstance(error, ForeignAnswer) else "its answer cannot be read"
    return f"{where}: what answered is not AWS ({what}); check the proxy and AWS_ENDPOINT_URL_…, if they are set"


def _why_not(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved ({error.strerror}); check AWS_REGION, and in a VPC its DNS support"
    return f"no connection ({error.strerror or type(error).__name__})"


def own_fault(error: Exception) -> str:
    """Say what botocore found wrong on our side: the kind, and its own words, which hold settings and no secrets."""
    return f"{type(error).__name__}: {str(error)[:LONGEST_REASON].rstrip('.')}"


def error_type(response: Mapping[str, Any]) -> str:
    """Return the type of a `ClientError.response` without its namespace (`com.amazonaws.logs#…`)."""
    return str(response.get("Error", {}).get("Code", "Unknown")).rpartition("#")[2]
