"""What AWS clients have in common here: how one is made cheaply, and how its exceptions are read.

Region, endpoint, credentials and proxy come by the AWS SDK's own variables. Making a first client costs botocore about
100 ms of CPU on a test machine; nearly half of that are listing 430 directories of services that are not used here, and
parsing JSON with the standard library. The loader below does neither.
"""

import gzip
import os
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
import orjson
from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore import exceptions as aws
from botocore.httpsession import ProxyConfiguration
from botocore.loaders import Loader
from botocore.parsers import ResponseParserError

from telemetry_forwarder import __version__
from telemetry_forwarder.errors import ConnectFailed, ConnectionLost, CredentialUnavailable, TimedOut, TransportError
from telemetry_forwarder.transports.http import KEEP_ALIVE_S, choose_proxy
from telemetry_forwarder.transports.tls_failures import is_tls, tls_failure

# The last three are asked for credentials, where a person's profile says so.
SERVICES = ["logs", "s3", "secretsmanager", "sqs", "ssm", "sso", "sso-oidc", "sts"]

# What botocore raises when a call had no answer; `ClientError` is an answer. The last is no BotoCoreError.
NO_ANSWER = (aws.BotoCoreError, aiohttp.ClientError, OSError, ResponseParserError)

CA_VARIABLES = "SSL_CERT_FILE or AWS_CA_BUNDLE"

NO_CREDENTIALS = (aws.NoCredentialsError, aws.PartialCredentialsError)


class OrjsonFiles:
    """Read botocore's data files; what its `JSONFileLoader` does, several times faster."""

    def exists(self, file_path: str) -> bool:
        return os.path.isfile(f"{file_path}.json") or os.path.isfile(f"{file_path}.json.gz")

    def load_file(self, file_path: str) -> Any:
        """Return the data of `file_path` (without its ending), or None where there is no such file."""
        if os.path.isfile(f"{file_path}.json"):
            with open(f"{file_path}.json", "rb") as file:
                return orjson.loads(file.read())
        if os.path.isfile(f"{file_path}.json.gz"):
            with gzip.open(f"{file_path}.json.gz", "rb") as file:
                return orjson.loads(file.read())
        return None


class FewServices(Loader):
    """A loader that knows which services it will be asked for, so that it need not list them all."""

    def list_available_services(self, type_name: str) -> list[str]:
        return SERVICES


def new_loader() -> Loader:
    """Return a loader for the data of `SERVICES`; it keeps what it has read."""
    return FewServices(file_loader=OrjsonFiles())  # type: ignore[arg-type]


def new_session(loader: Loader | None = None) -> AioSession:
    """Return a session for the clients of `SERVICES`, which shares a `loader` where one is given."""
    # botocore alone reads AWS_DEFAULT_REGION only; AWS_REGION is what Lambda and the other SDKs speak of.
    session = AioSession(session_vars={"region": ("region", ["AWS_REGION", "AWS_DEFAULT_REGION"], None, None)})
    session.register_component("data_loader", loader or new_loader())
    return session


def client_config(
    *,
    connect_s: float,
    read_s: float,
    connections: int = 10,
    proxies: Mapping[str, str] | None = None,
    looks_over_parameters: bool = True,
) -> AioConfig:
    """Return a configuration with one attempt: retry exists in the pipeline only.

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
        connector_args={"keepalive_timeout": KEEP_ALIVE_S},
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
        return ConnectFailed(f"{where}: no connection in time")
    if isinstance(error, aws.ProxyConnectionError):
        return ConnectFailed(f"{where}: the proxy cannot be reached or refused the connection")
    if isinstance(error, aws.EndpointConnectionError) and isinstance(cause, aiohttp.ClientConnectorError):
        return ConnectFailed(f"{where}: no connection ({cause.os_error.strerror or type(cause.os_error).__name__})")
    if isinstance(error, aws.CredentialRetrievalError | aws.MetadataRetrievalError):
        return CredentialUnavailable(f"{where}: the AWS credentials could not be read ({type(error).__name__})")
    return ConnectionLost(f"{where}: the connection ended before the answer did ({type(cause or error).__name__})")


def error_type(response: Mapping[str, Any]) -> str:
    """Return the type of a `ClientError.response` without its namespace (`com.amazonaws.logs#…`)."""
    return str(response.get("Error", {}).get("Code", "Unknown")).rpartition("#")[2]
