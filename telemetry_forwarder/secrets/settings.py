"""The settings of the secrets endpoint and its cache, from the values of the environment. Pure."""

from collections.abc import Mapping

from msgspec import Struct

from telemetry_forwarder.secrets.cache import Policy
from telemetry_forwarder.secrets.names import SECRETS_MANAGER, SSM, Prefetch, prefetch_of
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import SNAP_START
from telemetry_forwarder.variables.types import Secret

# The timeout of a request if the variable is 0. AWS's extension waits for ever in that case.
TIMEOUT_S = 10.0
# The longest time for the AWS SDK to read credentials that are not in the environment, before the timeout begins.
LOAD_S = 10.0
# If the service is down, an entry is given for another TTL after its own, within these bounds.
_LEAST_STALE_S = 60.0
_MOST_STALE_S = 3600.0
# The entries may take up to one part in MEMORY_SHARE of the function's memory, within the bounds below.
_MEMORY_SHARE = 32
MEBIBYTE = 1024 * 1024
_LEAST_BYTES = 4 * MEBIBYTE
_MOST_BYTES = 64 * MEBIBYTE

TTL = {SSM: "SSM_PARAMETER_STORE_TTL", SECRETS_MANAGER: "SECRETS_MANAGER_TTL"}
TIMEOUT = {SSM: "SSM_PARAMETER_STORE_TIMEOUT_MILLIS", SECRETS_MANAGER: "SECRETS_MANAGER_TIMEOUT_MILLIS"}


class SecretsSettings(Struct, frozen=True, kw_only=True):
    """The valid settings. `mode` is `off`, `token` or `open`. In mode `token` a request must send one of `tokens`."""

    mode: str
    tokens: tuple[Secret, ...]
    prefetch: Prefetch
    allow: tuple[str, ...] | None
    policy: Policy
    timeout_s: Mapping[str, float]
    connections: int
    is_snap_start: bool

    @property
    def is_served(self) -> bool:
        return self.mode != "off"


def secrets_from(values: Values) -> SecretsSettings:
    """Return the settings of the endpoint; invalid ones were left out."""
    timeout_s = {name: values[variable] / 1000 or TIMEOUT_S for name, variable in TIMEOUT.items()}
    return SecretsSettings(
        mode=values["TELEMETRY_FORWARDER_SECRETS"],
        tokens=_tokens(values),
        prefetch=prefetch_of(values["TELEMETRY_FORWARDER_SECRETS_PREFETCH"]),
        allow=_allow(values),
        policy=_policy(values, max(timeout_s.values())),
        timeout_s=timeout_s,
        connections=values["PARAMETERS_SECRETS_EXTENSION_MAX_CONNECTIONS"],
        is_snap_start=values.given("AWS_LAMBDA_INITIALIZATION_TYPE") == SNAP_START,
    )


def _tokens(values: Values) -> tuple[Secret, ...]:
    """Return the valid tokens. The function has the same variables. With SnapStart there is no session token.

    Source: AWS Lambda Developer Guide, "Improving startup performance with Lambda SnapStart", credentials.
    """
    names = ("AWS_SESSION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
    return tuple(Secret(token) for name in names if (token := values.given(name)))


def _allow(values: Values) -> tuple[str, ...] | None:
    """Return the patterns; None if none are set. If the value is invalid, nothing is allowed rather than everything."""
    name = "TELEMETRY_FORWARDER_SECRETS_ALLOW"
    patterns: tuple[str, ...] | None = values[name]
    return () if patterns is None and values.given(name) else patterns


def _policy(values: Values, longest_timeout_s: float) -> Policy:
    is_enabled = values["PARAMETERS_SECRETS_EXTENSION_CACHE_ENABLED"]
    ttl_s = {name: float(values[variable]) for name, variable in TTL.items()}
    share = (values["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] or 128) * MEBIBYTE // _MEMORY_SHARE
    return Policy(
        ttl_s=ttl_s if is_enabled else dict.fromkeys(ttl_s, 0.0),
        stale_s={name: min(_MOST_STALE_S, max(_LEAST_STALE_S, ttl)) for name, ttl in ttl_s.items()},
        flight_s=LOAD_S + longest_timeout_s,
        max_entries=values["PARAMETERS_SECRETS_EXTENSION_CACHE_SIZE"],
        max_bytes=max(_LEAST_BYTES, min(_MOST_BYTES, share)),
    )
