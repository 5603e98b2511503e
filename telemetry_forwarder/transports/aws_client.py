"""What AWS clients have in common here: how one is made cheaply, and how its exceptions are read.

Region, endpoint, credentials and proxy come by the AWS SDK's own variables. Making a first client costs botocore about
100 ms of CPU on a test machine; nearly half of that are listing 430 directories of services that are not used here, and
parsing JSON with the standard library. The loader below does neither.
"""

import gzip
import os
import ssl
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore import exceptions as aws
from botocore.loaders import Loader
from botocore.parsers import ResponseParserError

from telemetry_forwarder import __version__
from telemetry_forwarder.errors import ConnectFailed, ConnectionLost, CredentialUnavailable, TimedOut, TransportError
from telemetry_forwarder.transports.http import KEEP_ALIVE_S

# The last three are asked for credentials, where a person's profile says so.
SERVICES = ["logs", "s3", "secretsmanager", "sqs", "ssm", "sso", "sso-oidc", "sts"]

# What botocore raises when a call had no answer; `ClientError` is an answer. The last is no BotoCoreError.
NO_ANSWER = (aws.BotoCoreError, aiohttp.ClientError, OSError, ResponseParserError)

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


def client_config(*, connect_s: float, read_s: float, connections: int = 10) -> AioConfig:
    """Return a configuration with one attempt: retry exists in the pipeline only."""
    return AioConfig(
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=connect_s,
        read_timeout=read_s,
        max_pool_connections=connections,
        connector_args={"keepalive_timeout": KEEP_ALIVE_S},
        user_agent_extra=f"telemetry-forwarder/{__version__}",
    )


def translated(error: BaseException, where: str) -> TransportError:
    """Return the transport error that an exception of `NO_ANSWER` amounts to; `where` is host and port."""
    # botocore wraps what aiohttp raised; a reset in the middle of an answer comes as EndpointConnectionError too.
    cause = error.__cause__ or error.__context__
    if isinstance(error, aws.SSLError):
        return ConnectFailed(
            f"{where}: the TLS handshake failed or the certificate is not trusted; set SSL_CERT_FILE or AWS_CA_BUNDLE "
            "to a PEM file of its authority"
        )
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
