"""Build the frozen Settings from the parsed values of the environment. Nothing here parses or reads `os.environ`."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from telemetry_forwarder import sinks
from telemetry_forwarder.delivery.buffer import WhenFull
from telemetry_forwarder.delivery.worker import Capacity
from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import LOGS, Destination, HttpDelivery, taken_by
from telemetry_forwarder.lifecycle.budget import Holding
from telemetry_forwarder.lifecycle.strategy import Mode, Strategy
from telemetry_forwarder.records.record import Origin
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.variables.failover_target import S3Prefix, SqsQueue
from telemetry_forwarder.variables.reading import BY_NAME, SELECTING, Values, metric_line_mode, unsound, wanted_sinks
from telemetry_forwarder.variables.table import Problem
from telemetry_forwarder.variables.types import SecretReference
from telemetry_forwarder.variables.wording import Notice

if TYPE_CHECKING:
    from telemetry_forwarder.secrets.settings import SecretsSettings

MEBIBYTE = 1024 * 1024
# One sink may hold 1/32 of the function's memory, because the extension shares it.
_CAPACITY_SHARE = 32
_LEAST_CAPACITY_BYTES = 4 * MEBIBYTE
_MOST_CAPACITY_BYTES = 32 * MEBIBYTE
# The default periods of strategies, in seconds: for `periodic` the time between two requests, in the background the
# time for which records are collected into one request.
_PERIODS_S = {Mode.PERIODIC: 10.0}
_BACKGROUND_PERIOD_S = 1.0
# A record takes at least about a kilobyte of memory, however short its text is.
_RECORD_COST_BYTES = 1024
# Far more than needed: a bundle of all public authorities has a quarter of a megabyte.
_LONGEST_CA_FILE_BYTES = 16 * MEBIBYTE
_CERTIFICATE = re.compile(rb"^-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[ \t]*\r?\nM[A-Za-z0-9+/]", re.MULTILINE)


class Spooling(Struct, frozen=True, kw_only=True):
    """The spool's directory and size limit. `is_strict`: write each body to disk before it is answered."""

    path: str
    max_bytes: int
    is_strict: bool


class Settings(Struct, frozen=True, kw_only=True):
    """The valid settings of the environment, and every problem found in it."""

    destinations: tuple[Destination[Any, Any], ...]
    types: tuple[str, ...]
    buffering_s: float  # for how long Lambda collects a batch of telemetry, and how large it may grow
    buffering_bytes: int
    strategy: Strategy
    holding: Holding
    log_level: str
    is_strict: bool
    origin: Origin
    capacity: Capacity
    spooling: Spooling | None
    network: Network
    secrets: "SecretsSettings | None"  # None: neither the function nor a sink needs secrets
    failover: S3Prefix | SqsQueue | None
    ledger_period_s: int | None  # None: metrics of the ledger alone, for sinks that take metrics
    converts_lines: bool  # whether a sink wants metrics of the metric lines that functions print
    traces: str | float  # off, on, follow_xray, or the share of the requests that become traces
    price_request: float | None  # in USD, as `price_gb_second`; None: the list price
    price_gb_second: float | None
    problems: tuple[Problem, ...]

    def capacity_for(self, destination: Destination[Any, Any]) -> Capacity:
        """Return how much the destination may hold in memory; what is more waits in the spool."""
        if taken_by(destination.sink) & LOGS:
            return self.capacity
        records, size = self.capacity.max_records, self.capacity.max_bytes
        return replace(self.capacity, max_records=records // _SIGNALS_SHARE, max_bytes=size // _SIGNALS_SHARE)

    @classmethod
    def from_values(cls, values: Values) -> "Settings":
        """Return the settings for `values`. Never raises: invalid values are left out and named in `problems`."""
        problems: list[Problem] = []
        destinations, converts_lines = _destinations(values, problems)
        problems.extend(values.problems(None, "network"))
        function = _origin(values)
        ca_file = _ca_file(values, problems)
        proxies = _proxies(values, problems)
        secrets = _secrets(values, destinations, problems)
        holding = Holding(
            longest_s=values["TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS"] / 1000,
            margin_s=values["TELEMETRY_FORWARDER_DEADLINE_MARGIN_MS"] / 1000,
        )
        return cls(
            destinations=destinations,
            types=values["TELEMETRY_FORWARDER_TYPES"],
            buffering_s=values["TELEMETRY_FORWARDER_BUFFERING_TIMEOUT_MS"] / 1000,
            buffering_bytes=values["TELEMETRY_FORWARDER_BUFFERING_MAX_BYTES"],
            strategy=_strategy(values),
            holding=holding,
            log_level=values["TELEMETRY_FORWARDER_LOG_LEVEL"],
            is_strict=values["TELEMETRY_FORWARDER_STRICT"],
            origin=function,
            capacity=_capacity(values, function.memory_mb),
            spooling=_spooling(values),
            network=Network(
                proxies=proxies,
                ca_file=ca_file,
                region=function.region,
                aws_ca_file=None if values.given("AWS_CA_BUNDLE") else ca_file,
            ),
            secrets=secrets,
            failover=values["TELEMETRY_FORWARDER_FAILOVER"],
            ledger_period_s=values["TELEMETRY_FORWARDER_LEDGER_PERIOD"],
            traces=values["TELEMETRY_FORWARDER_TRACES"],
            converts_lines=converts_lines,
            price_request=values["TELEMETRY_FORWARDER_PRICE_REQUEST"],
            price_gb_second=values["TELEMETRY_FORWARDER_PRICE_GB_SECOND"],
            problems=(*problems, *_unknown_names(values)),
        )


# Metrics and spans are a few records of an invocation, where lines may be thousands: their destinations hold less.
_SIGNALS_SHARE = 4


def capacity_bytes(memory_mb: int | None) -> int:
    """Return the default number of bytes that one sink may hold in a function of `memory_mb` MB."""
    share = (memory_mb or 128) * MEBIBYTE // _CAPACITY_SHARE
    return max(_LEAST_CAPACITY_BYTES, min(_MOST_CAPACITY_BYTES, share))


def _capacity(values: Values, memory_mb: int | None) -> Capacity:
    size: int = values["TELEMETRY_FORWARDER_BUFFER_BYTES"] or capacity_bytes(memory_mb)
    records: int | None = values["TELEMETRY_FORWARDER_BUFFER_RECORDS"]
    return Capacity(
        max_records=records or size // _RECORD_COST_BYTES,
        max_bytes=size,
        when_full=WhenFull(values["TELEMETRY_FORWARDER_WHEN_FULL"]),
    )


def _spooling(values: Values) -> Spooling | None:
    """Return the settings of the spool; None if the user wants no spool."""
    spooling = Spooling(
        path=values["TELEMETRY_FORWARDER_SPOOL_DIR"],
        max_bytes=values["TELEMETRY_FORWARDER_SPOOL_BYTES"],
        is_strict=values["TELEMETRY_FORWARDER_DURABILITY"] == "strict",
    )
    return spooling if values["TELEMETRY_FORWARDER_WHEN_FULL"] == WhenFull.SPILL else None


def _destinations(values: Values, problems: list[Problem]) -> tuple[tuple[Destination[Any, Any], ...], bool]:
    """Return the destinations, and whether metric records are to be made of metric lines for one of them."""
    is_converted = False
    found: dict[str, tuple[Destination[Any, Any], ...]] = {}
    for name in wanted_sinks(values):
        try:
            made = sinks.load(name)(values)
        except ConfigError as error:
            problems.extend(error.problems)
        else:
            found[name] = made if isinstance(made, tuple) else (made,)
            problems.extend(problem for destination in found[name] for problem in destination.problems)
    if any(name.startswith(SELECTING) for name in values.environ):
        from telemetry_forwarder.sinks.selection import with_selection  # loaded only if wanted

        found = {name: with_selection(name, made, values, problems) for name, made in found.items()}
    if values["TELEMETRY_FORWARDER_METRIC_LINES"]:
        from telemetry_forwarder.sinks.metric_line_modes import with_modes  # loaded only if wanted

        modes = {name: metric_line_mode(name, values) for name in found}
        found, is_converted = with_modes(found, modes, problems)
    return tuple(destination for destinations in found.values() for destination in destinations), is_converted


def _secrets(
    values: Values, destinations: Sequence[Destination[Any, Any]], problems: list[Problem]
) -> "SecretsSettings | None":
    """Return the settings of the secrets cache; None if neither the function nor a sink's credential needs it."""
    if values["TELEMETRY_FORWARDER_SECRETS"] == "off" and not any(map(_has_reference, destinations)):
        return None
    from telemetry_forwarder.secrets.settings import secrets_from  # loaded only if needed

    problems.extend(values.problems("secrets"))
    return secrets_from(values)


def _has_reference(destination: Destination[Any, Any]) -> bool:
    delivery = destination.delivery
    if not isinstance(delivery, HttpDelivery):
        return False
    secrets = [one.secret for one in (delivery.credential, *delivery.headers) if one is not None]
    return any(isinstance(secret, SecretReference) for secret in secrets)


def _strategy(values: Values) -> Strategy:
    word, *seconds = values["TELEMETRY_FORWARDER_FLUSH"]
    mode = Mode(word)
    return Strategy(mode, float(seconds[0]) if seconds else _PERIODS_S.get(mode, _BACKGROUND_PERIOD_S))


def _origin(values: Values) -> Origin:
    name = values.given("AWS_LAMBDA_FUNCTION_NAME")
    return Origin(
        function_name=name,
        function_version=values.given("AWS_LAMBDA_FUNCTION_VERSION") or None,
        # Unchecked, because the SDK uses the same text unchecked.
        region=values.given("AWS_REGION") or values.given("AWS_DEFAULT_REGION") or None,
        memory_mb=values["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
        init_type=values.given("AWS_LAMBDA_INITIALIZATION_TYPE") or None,
        service=values["DD_SERVICE"] or name or None,
        env=values["DD_ENV"],
        version=values["DD_VERSION"],
        tags=values["TELEMETRY_FORWARDER_TAGS"],
    )


def _proxies(values: Values, problems: list[Problem]) -> dict[str, str]:
    """Return the proxies by scheme, and the exceptions under "no", like urllib's `getproxies`."""
    found = {}
    for scheme in ("http", "https"):
        if (proxy := values[f"{scheme.upper()}_PROXY"]) is not None:
            found[scheme] = proxy.reveal()
    if exceptions := values["NO_PROXY"]:
        found["no"] = ",".join(exceptions)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        used, other = values.given(name), values.given(name.lower())
        if used and other and other != used:
            problems.append(Notice(name, f"and {name.lower()} are set and differ: {name} is used."))
    return found


# Prefixes of names that are checked for mistakes: our own, and vendors' prefixes that may mean one of our settings.
_STEMS = (
    "TELEMETRY_FORWARDER", "TELEMETRYFORWARDER", "SPLUNK_HEC", "SPLUNK_TOKEN", "SPLUNK_URL", "SPLUNK_INDEX",
    "SPLUNK_SOURCE", "DD_API", "DD_SITE", "DD_TAG", "CLOUDWATCH_LOG", "CLOUDWATCH_RETENTION",
)  # fmt: skip


def _unknown_names(values: Values) -> "list[Problem]":
    """Return a notice for each variable in the environment that looks like a setting, but is none."""
    names = [name for name in values.environ if not values.is_known(name) and name.upper().startswith(_STEMS)]
    if not names:
        return []
    from telemetry_forwarder.variables.unknown import notices  # loaded only to explain an error

    return [*notices(values, names, sinks.every_variable)]


def _ca_file(values: Values, problems: list[Problem]) -> str | None:
    """Return the path of the CA file; None without a valid one: then the system's certificates are used."""
    path: str | None = values["SSL_CERT_FILE"]
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            content = file.read(_LONGEST_CA_FILE_BYTES)
    except OSError as error:
        reason = error.strerror or type(error).__name__
    else:
        if _CERTIFICATE.search(content):
            return path
        from telemetry_forwarder.variables.advice import ca_content  # loaded only to explain an error

        reason = ca_content(content)
    problem = unsound(BY_NAME["SSL_CERT_FILE"], path)
    where = "" if path.startswith("/") else " A layer's files are below /opt: give the whole path."
    problem.advice = f"{reason}.{where}"
    problem.consequence = "It is left out: backends are checked against the authorities of the system."
    problems.append(problem)
    return None
