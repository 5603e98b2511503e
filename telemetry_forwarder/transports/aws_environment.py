"""What calls to AWS take from the environment: region, endpoint, certificate authorities and credentials.

The extension shares its environment with the function, whose own AWS SDK has some sixty variables. Only these are meant
for our calls too, so only these affect them:

| AWS_REGION, AWS_DEFAULT_REGION | if no region is given |
| AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN | credentials, as Lambda sets them |
| AWS_CONTAINER_CREDENTIALS_…, AWS_CONTAINER_AUTHORIZATION_TOKEN | credentials, as Lambda sets them with SnapStart |
| AWS_ENDPOINT_URL_CLOUDWATCH_LOGS and its like, `ENDPOINTS` below | another endpoint of that service |
| AWS_CA_BUNDLE | certificate authorities for AWS |

They are read when they are needed, as the SDK does, and not with the settings: the SDK reads the same ones itself where
it is still used (`aws_session`).
"""

import asyncio
import os
import re
from importlib import import_module
from typing import Any, Protocol
from urllib.parse import urlsplit

from telemetry_forwarder.aws_regions import host_in
from telemetry_forwarder.errors import CredentialUnavailable
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.transports.aws_signature import Credentials

ENDPOINTS = {
    "logs": "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS",
    "s3": "AWS_ENDPOINT_URL_S3",
    "secretsmanager": "AWS_ENDPOINT_URL_SECRETS_MANAGER",
    "sqs": "AWS_ENDPOINT_URL_SQS",
    "ssm": "AWS_ENDPOINT_URL_SSM",
}
_REGION = re.compile(r"(?![0-9]+$)(?!-)[a-zA-Z0-9-]{1,63}(?<!-)")
_CONTAINER = ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI")


class NoEndpoint(ValueError):
    """A service has no address, because of what `variable` is set to."""

    def __init__(self, variable: str, reason: str, allowed: str) -> None:
        super().__init__(f"{variable} is {reason}")
        self.variable = variable
        self.reason = reason
        self.allowed = allowed


class NoCredentials(Exception):
    """The environment has no credentials."""


def region_of(network: Network, region: str | None = None) -> str:
    """Return `region`, or the network's, or the environment's. Raises NoEndpoint if there is none or it is unsound."""
    found = region or network.region or _given("AWS_REGION") or _given("AWS_DEFAULT_REGION")
    if not found or not _REGION.fullmatch(found):
        raise NoEndpoint("AWS_REGION", f"{found!r}" if found else "not set", "a region such as `eu-central-1`")
    return found


def endpoint_of(service: str, region: str) -> str:
    """Return the URL of a service, with a path; its variable goes before the rule. Raises NoEndpoint."""
    if url := _given(ENDPOINTS[service]):
        try:
            parts = urlsplit(url)
            is_sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_sound = False
        if not is_sound or parts.query or parts.fragment:
            raise NoEndpoint(ENDPOINTS[service], "not a URL that can be used", "`https://host[:port]`, or not set")
        return url if url.endswith("/") else f"{url}/"
    return f"https://{host_in(service, region)}/"


def ca_file_of(network: Network) -> str | None:
    """Return the file of the authorities that AWS's services are verified with; None for the system's."""
    return network.aws_ca_file or _given("AWS_CA_BUNDLE") or None


class CredentialSource(Protocol):
    """Gives the credentials for one call."""

    async def get(self) -> Credentials:
        """Return them. Raises NoCredentials, or CredentialUnavailable if they cannot be read now."""
        ...


class EnvironmentCredentials:
    """The environment's credentials; where it has only the address of some, those from there, by the AWS SDK.

    They are kept: `EnvironmentCredentials()` anew reads them anew. The SDK renews its own before they expire.
    """

    def __init__(self) -> None:
        self._held: Credentials | None = None
        self._provided: Any = None  # of the SDK
        self._loading = asyncio.Lock()

    async def get(self) -> Credentials:
        if self._held is None and (key_id := _given("AWS_ACCESS_KEY_ID")):
            if not (secret := _given("AWS_SECRET_ACCESS_KEY")):
                raise NoCredentials
            self._held = Credentials(key_id, secret, _given("AWS_SESSION_TOKEN"))
        if self._held is not None:
            return self._held
        if not any(_given(name) for name in _CONTAINER):
            raise NoCredentials
        async with self._loading:
            try:
                if self._provided is None:
                    self._provided = await _provided_by_sdk()
                found = await self._provided.get_frozen_credentials()
            except NoCredentials:
                raise
            except Exception as error:  # noqa: BLE001 - the SDK raises many kinds, and others for what is no JSON
                name = type(error).__name__
                raise CredentialUnavailable(f"the AWS credentials could not be read ({name})") from None
        return Credentials(found.access_key, found.secret_key, found.token or "")


async def _provided_by_sdk() -> Any:
    """Return what the SDK's provider gives. The SDK is imported only here, in a thread, because it is heavy."""
    sdk = await asyncio.to_thread(import_module, "telemetry_forwarder.transports.aws_session")
    found = await sdk.new_session().get_credentials()
    if found is None:
        raise NoCredentials
    return found


def _given(name: str) -> str:
    return os.environ.get(name, "")
