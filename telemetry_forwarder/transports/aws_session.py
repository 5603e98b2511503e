"""Create clients of the AWS SDK: cheaply, and from only the variables that are documented as the extension's own.

Our clients take from the environment what `aws_environment` lists, and none of the function's own SDK's sixty variables
(AWS_PROFILE, AWS_CONFIG_FILE, AWS_ENDPOINT_URL, AWS_RETRY_MODE, AWS_MAX_ATTEMPTS, …), whether set, empty or wrong. So a
session gets an empty configuration. The SDK is used for S3 and SQS, and for credentials that are not in the environment
itself; all other calls are made without it (`aws_json`).

The first client costs botocore about 100 ms of CPU on a test machine. Nearly half of that goes into
listing 430 directories of services that are not used here, and parsing JSON with the standard library. The loader below
avoids both.
"""

import gzip
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

import msgspec.json
import orjson
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioContainerProvider, AioCredentialResolver, AioEnvProvider
from aiobotocore.session import AioSession
from botocore.configprovider import (
    BOTOCORE_DEFAUT_SESSION_VARIABLES,
    ConfigChainFactory,
    ConfigValueStore,
    ConstantProvider,
)
from botocore.exceptions import BotoCoreError, InvalidRegionError, NoRegionError, PartialCredentialsError
from botocore.loaders import Loader
from botocore.plugin import PluginContext, reset_plugin_context, set_plugin_context

from telemetry_forwarder.foreign import what_answered
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.transports.aws_answers import OF_AWS
from telemetry_forwarder.transports.aws_environment import ENDPOINTS
from telemetry_forwarder.variables.table import Problem

# What the SDK imports for its first call, if it imports lazily: as in `transports.connections`.
for _name in (
    "aiobotocore._endpoint_helpers", "aiobotocore.awsrequest", "aiobotocore.httpchecksum", "aiobotocore.response",
    "aiohttp.cookiejar", "botocore.compress", "email.utils", "hmac",
):  # fmt: skip
    import_module(_name)


class QuickFiles:
    """Reads botocore's data files like its `JSONFileLoader`, several times faster.

    It is not done with orjson, which takes 12 times a file's size to parse it. The C library counts on needing that
    much again, and would from then on return no free memory below twice that.
    """

    def exists(self, file_path: str) -> bool:
        return os.path.isfile(f"{file_path}.json") or os.path.isfile(f"{file_path}.json.gz")

    def load_file(self, file_path: str) -> Any:
        """Return the data of `file_path` (without its suffix), or None if there is no such file."""
        if os.path.isfile(f"{file_path}.json"):
            with open(f"{file_path}.json", "rb") as file:
                return msgspec.json.decode(file.read())
        if os.path.isfile(f"{file_path}.json.gz"):
            with gzip.open(f"{file_path}.json.gz", "rb") as file:
                return msgspec.json.decode(file.read())
        return None


class FewServices(Loader):
    """A loader with a fixed list of services, so that it need not list directories."""

    def list_available_services(self, type_name: str) -> list[str]:
        return sorted(ENDPOINTS)


def new_loader() -> Loader:
    """Return a loader for botocore's own data of these services, and no other data; it caches what it has read."""
    return FewServices(
        extra_search_paths=[Loader.BUILTIN_DATA_PATH],
        file_loader=QuickFiles(),  # type: ignore[arg-type]
        include_default_search_paths=False,
    )


def new_session(loader: Loader | None = None) -> AioSession:
    """Return a session for the clients of `ENDPOINTS`; it uses `loader` if one is given."""
    session = AioSession()
    session.register_component("data_loader", loader or new_loader())
    session.register_component("config_store", _own_configuration(session))
    # Only Lambda's own names, without the names that others add: an account, an expiry, and the token's former name.
    names = {"token": "AWS_SESSION_TOKEN", "account_id": "", "expiry_time": ""}
    providers = [AioEnvProvider(mapping=names), AioContainerProvider()]
    session.register_component("credential_provider", AioCredentialResolver(providers=providers))
    return session


def _own_configuration(session: AioSession) -> ConfigValueStore:
    """Return a configuration of defaults that reads only our documented variables."""
    mapping: dict[str, Any] = {
        name: ConstantProvider(value=default) for name, (_, _, default, _) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
    }
    nothing = ("profile", "config_file", "credentials_file", "data_path")
    mapping |= {name: ConstantProvider(value=None) for name in nothing}
    mapping["ignore_configured_endpoint_urls"] = ConstantProvider(value=True)
    chains = ConfigChainFactory(session=session)
    mapping["region"] = chains.create_config_chain(env_var_names=["AWS_REGION", "AWS_DEFAULT_REGION"])
    mapping["ca_bundle"] = chains.create_config_chain(env_var_names="AWS_CA_BUNDLE")
    for service, variable in ENDPOINTS.items():
        mapping[_endpoint_of(service)] = chains.create_config_chain(env_var_names=variable)
    return ConfigValueStore(mapping=mapping)


def _endpoint_of(service: str) -> str:
    return f"endpoint_url_{service}"


@asynccontextmanager
async def open_client(
    session: AioSession,
    service: Any,
    network: Network,
    *,
    config: AioConfig,
    region: str | None = None,
    endpoint_url: str | None = None,
) -> AsyncIterator[Any]:
    """Open a client of `service`, in `region` or that of `network`; leaving the context closes its connections.

    Raises BotoCoreError, or ValueError for an endpoint that is no URL, if no client can be made.
    """
    creator = session.create_client(
        service,
        region_name=region or network.region or None,
        # Never None, because botocore would then read REQUESTS_CA_BUNDLE; nor "", which switches verification off.
        verify=network.aws_ca_file or session.get_config_variable("ca_bundle") or True,
        endpoint_url=endpoint_url or session.get_config_variable(_endpoint_of(service)) or None,
        config=config,
    )
    token = set_plugin_context(PluginContext(plugins="DISABLED"))  # BOTOCORE_EXPERIMENTAL__PLUGINS is the function's
    try:
        opening = await creator.__aenter__()
    finally:
        reset_plugin_context(token)
    opening.meta.events.register("before-parse", _refuse_foreign)
    try:
        yield opening
    finally:
        await creator.__aexit__(None, None, None)


class ForeignAnswer(Exception):
    """A success that did not come from AWS or a compatible service. The text tells what it was."""


def _refuse_foreign(response_dict: Mapping[str, Any], **_: Any) -> None:
    """Raise ForeignAnswer for a success that no AWS service gave, because botocore accepts even an empty one.

    A compatible service may omit the headers of AWS, but then it must answer with a JSON object. Source: Amazon S3 API
    Reference, common response headers; Fluent Bit, which takes a success without a request id as a failure.
    """
    status, headers = response_dict["status_code"], response_dict["headers"]
    known = {name.lower(): value for name, value in headers.items()}
    if not 200 <= status < 300 or OF_AWS & known.keys():
        return
    body = response_dict["body"]
    body = bytes(body) if isinstance(body, bytes | bytearray) else b"?"  # some operations have a stream
    if not _is_object(body):
        raise ForeignAnswer(what_answered(status, body, known))


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(orjson.loads(body), dict)
    except orjson.JSONDecodeError:
        return False


def sdk_problem(error: Exception, service: str, consequence: str) -> Problem:
    """Return the problem with the settings that made `open_client` raise `error`."""
    if isinstance(error, NoRegionError | InvalidRegionError):
        name, allowed = "AWS_REGION", "a region such as `eu-central-1`"
    elif isinstance(error, PartialCredentialsError):
        name, allowed = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", "both of them, or neither"
    elif isinstance(error, BotoCoreError):
        name, allowed = "what the AWS SDK was given", "what its message says"
    else:  # ValueError
        name, allowed = ENDPOINTS[service], "`https://host[:port]`, or not set"
    return Problem(name, f"not what the AWS SDK can use ({str(error)[:300].rstrip('.')})", allowed, consequence)
