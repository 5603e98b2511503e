"""From the environment to frozen settings, once. A pure function of the mapping; nothing here reads `os.environ`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from telemetry_forwarder import sinks
from telemetry_forwarder.budget import Holding
from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import Destination, HttpDelivery
from telemetry_forwarder.kinds import SecretReference
from telemetry_forwarder.lifecycle.client import Buffering
from telemetry_forwarder.lifecycle.strategy import Mode, Strategy
from telemetry_forwarder.pipeline.buffer import WhenFull
from telemetry_forwarder.pipeline.worker import Capacity
from telemetry_forwarder.places import Bucket, Queue
from telemetry_forwarder.records import Origin
from telemetry_forwarder.transports.stack import Network
from telemetry_forwarder.values import dataclass
from telemetry_forwarder.variables import BY_NAME, Problem, buffering_timeout_ms, read, unsound, wanted_sinks

if TYPE_CHECKING:
    from telemetry_forwarder.secrets.settings import SecretsSettings

MEBIBYTE = 1024 * 1024
# What one sink may hold back: a share of the function's memory, as it is the function's memory that it takes.
CAPACITY_SHARE = 32
LEAST_CAPACITY_BYTES = 4 * MEBIBYTE
MOST_CAPACITY_BYTES = 32 * MEBIBYTE
# The period of a strategy that is given none, in seconds. In the background, the time in which records become one
# request; periodically, the time between two.
PERIODS_S = {Mode.PERIODIC: 10.0}
BACKGROUND_PERIOD_S = 1.0
# A record costs about a kilobyte of objects, however short its text is.
RECORD_COST_BYTES = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Spooling:
    """Where bodies are kept on disk, how many bytes of them, and whether each is before it is answered."""

    path: str
    max_bytes: int
    is_strict: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is sound of the environment, and every problem found in it."""

    destinations: tuple[Destination[Any, Any], ...]
    types: tuple[str, ...]
    port: int
    buffering: Buffering
    strategy: Strategy
    holding: Holding
    log_level: str
    is_strict: bool
    origin: Origin
    capacity: Capacity
    spooling: Spooling | None
    network: Network
    secrets: "SecretsSettings | None"  # None: nobody asks for any
    failover: Bucket | Queue | None
    problems: tuple[Problem, ...]

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Settings":
        """Read every setting. Never raises: what is unsound is left out and named in `problems`."""
        problems: list[Problem] = []
        destinations = _destinations(environ, problems)
        function = _origin(environ, problems)
        strategy = _strategy(environ, problems)
        ca_file = _ca_file(environ, problems)
        holding = Holding(
            longest_s=read("TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS", environ, problems) / 1000,
            margin_s=read("TELEMETRY_FORWARDER_DEADLINE_MARGIN_MS", environ, problems) / 1000,
        )
        return cls(
            destinations=destinations,
            types=read("TELEMETRY_FORWARDER_TYPES", environ, problems),
            port=read("TELEMETRY_FORWARDER_PORT", environ, problems),
            buffering=Buffering(
                timeout_ms=buffering_timeout_ms(environ, problems),
                max_bytes=read("TELEMETRY_FORWARDER_BUFFERING_MAX_BYTES", environ, problems),
                max_items=read("TELEMETRY_FORWARDER_BUFFERING_MAX_ITEMS", environ, problems),
            ),
            strategy=strategy,
            holding=holding,
            log_level=read("TELEMETRY_FORWARDER_LOG_LEVEL", environ, problems),
            is_strict=read("TELEMETRY_FORWARDER_STRICT", environ, problems),
            origin=function,
            capacity=_capacity(environ, problems, function.memory_mb),
            spooling=_spooling(environ, problems),
            network=Network(
                proxies=_proxies(environ, problems),
                ca_file=ca_file,
                region=function.region,
                aws_ca_file=None if environ.get("AWS_CA_BUNDLE") else ca_file,
            ),
            secrets=_secrets(environ, destinations, problems),
            failover=read("TELEMETRY_FORWARDER_FAILOVER", environ, problems),
            problems=_without_repeats(problems),
        )


def capacity_bytes(memory_mb: int | None) -> int:
    """Return how many bytes one sink may hold in a function of `memory_mb` MB, where nobody says otherwise."""
    share = (memory_mb or 128) * MEBIBYTE // CAPACITY_SHARE
    return max(LEAST_CAPACITY_BYTES, min(MOST_CAPACITY_BYTES, share))


def _capacity(environ: Mapping[str, str], problems: list[Problem], memory_mb: int | None) -> Capacity:
    size: int = read("TELEMETRY_FORWARDER_BUFFER_BYTES", environ, problems) or capacity_bytes(memory_mb)
    records: int | None = read("TELEMETRY_FORWARDER_BUFFER_RECORDS", environ, problems)
    return Capacity(
        max_records=records or size // RECORD_COST_BYTES,
        max_bytes=size,
        when_full=WhenFull(read("TELEMETRY_FORWARDER_WHEN_FULL", environ, problems)),
    )


def _spooling(environ: Mapping[str, str], problems: list[Problem]) -> Spooling | None:
    """Read what concerns the spool; None where the user wants none."""
    spooling = Spooling(
        path=read("TELEMETRY_FORWARDER_SPOOL_DIR", environ, problems),
        max_bytes=read("TELEMETRY_FORWARDER_SPOOL_BYTES", environ, problems),
        is_strict=read("TELEMETRY_FORWARDER_DURABILITY", environ, problems) == "strict",
    )
    return spooling if read("TELEMETRY_FORWARDER_WHEN_FULL", environ) == WhenFull.SPILL else None


def _destinations(environ: Mapping[str, str], problems: list[Problem]) -> tuple[Destination[Any, Any], ...]:
    found = []
    for name in wanted_sinks(environ, problems):
        try:
            destination = sinks.load(name)(environ)
        except ConfigError as error:
            problems.extend(error.problems)
        else:
            problems.extend(destination.problems)
            found.append(destination)
    return tuple(found)


def _secrets(
    environ: Mapping[str, str], destinations: Sequence[Destination[Any, Any]], problems: list[Problem]
) -> "SecretsSettings | None":
    """Return the settings of the secrets cache where the function may ask, or a sink's credential is a reference."""
    if read("TELEMETRY_FORWARDER_SECRETS", environ, problems) == "off" and not any(map(_has_reference, destinations)):
        return None
    from telemetry_forwarder.secrets.settings import secrets_from_env  # only where it is needed

    return secrets_from_env(environ, problems)


def _has_reference(destination: Destination[Any, Any]) -> bool:
    delivery = destination.delivery
    credential = delivery.credential if isinstance(delivery, HttpDelivery) else None
    return credential is not None and isinstance(credential.secret, SecretReference)


def _strategy(environ: Mapping[str, str], problems: list[Problem]) -> Strategy:
    word, *seconds = read("TELEMETRY_FORWARDER_FLUSH", environ, problems)
    mode = Mode(word)
    return Strategy(mode, float(seconds[0]) if seconds else PERIODS_S.get(mode, BACKGROUND_PERIOD_S))


def _origin(environ: Mapping[str, str], problems: list[Problem]) -> Origin:
    name = environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    memory = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
    return Origin(
        function_name=name,
        function_version=environ.get("AWS_LAMBDA_FUNCTION_VERSION") or None,
        region=environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or None,
        memory_mb=int(memory) if memory.isdigit() else None,
        init_type=environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") or None,
        service=read("DD_SERVICE", environ, problems) or name or None,
        env=read("DD_ENV", environ, problems),
        version=read("DD_VERSION", environ, problems),
        tags=read("TELEMETRY_FORWARDER_TAGS", environ, problems),
    )


def _proxies(environ: Mapping[str, str], problems: list[Problem]) -> dict[str, str]:
    """Return the proxies by scheme, and the exceptions under "no", as urllib names them."""
    found = {}
    for scheme in ("http", "https"):
        if (proxy := read(f"{scheme.upper()}_PROXY", environ, problems)) is not None:
            found[scheme] = proxy.reveal()
    if (exceptions := read("NO_PROXY", environ, problems)) is not None:
        found["no"] = exceptions
    return found


def _ca_file(environ: Mapping[str, str], problems: list[Problem]) -> str | None:
    """Return the file of CA certificates; without a sound one, backends are checked against the system's."""
    path: str | None = read("SSL_CERT_FILE", environ, problems)
    if path is not None and not _holds_certificates(path):
        problems.append(unsound(BY_NAME["SSL_CERT_FILE"], path))
        return None
    return path


def _holds_certificates(path: str) -> bool:
    """Say whether `path` is a readable file with something in PEM form; not whether that is a certificate of worth."""
    try:
        with open(path, "rb") as file:
            return any(line.startswith(b"-----BEGIN") for line in file)
    except OSError:
        return False


def _without_repeats(problems: list[Problem]) -> tuple[Problem, ...]:
    """Keep each problem once: two readers may have met the same variable."""
    return tuple({str(problem): problem for problem in problems}.values())
