"""One environment of the matrix: the real executable on a local Lambda, with backends that can fail."""

import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from local_backends import CloudWatchLogs, Datadog, SplunkHec
from local_lambda import Function, Invocation, LocalLambda, Platform
from tests.integration.sockets import make_certificate
from tests.integration.world import EXTENSION, GROUP, World, free_port
from tests.matrix.places import PLACES
from tests.sharing import sharing

HERE = Path(__file__).parent
SHARED = Platform(cpu_quota="cgroup", memory_limit="off")


@dataclass
class MatrixWorld:
    """The environment and its backends, and a record of its invocations."""

    base: World[LocalLambda]
    sinks: Sequence[str]
    untrusted: ssl.SSLContext | None  # if they use https
    invocations: list[Invocation] = field(default_factory=list)
    lines: int = 0  # written so far; also the next line's number
    withheld: list[str] = field(default_factory=list)  # the sinks whose backend withholds a result until the freeze
    last_batch: int = 0  # the records in the last batch acknowledged before the kill

    @property
    def timeout_s(self) -> float:
        """The function's timeout."""
        return self.env.function.timeout_s

    @property
    def env(self) -> LocalLambda:
        return self.base.env

    async def invoke(self, *, lines: int = 5, **event: float) -> Invocation:
        """Invoke the function with the next lines to write; `event` holds its other instructions."""
        payload = {"first": self.lines, "lines": lines, **event}
        self.lines += lines
        result = await self.env.invoke(payload)
        self.invocations.append(result)
        return result

    @property
    def batches(self) -> list[int]:
        """The number of records in each batch that the extension has acknowledged, over all its generations."""
        sent = (entry for entry in self.env.transcript if entry.direction == "out" and entry.status == 200)
        return [int(entry.sent.split()[0]) for entry in sent]


@asynccontextmanager
async def open_world(
    folder: Path,
    sinks: Sequence[str],
    *,
    over_tls: bool = False,
    timeout_s: float,
    memory_mb: int | None = None,
    extension: Path = EXTENSION,
    **variables: str,
) -> AsyncIterator[MatrixWorld]:
    """Open backends, environment and extension; `folder` is the environment's /tmp, `variables` are added.

    With `memory_mb` a control group limits the environment to the matching share of a processor.
    """
    trusted, untrusted, ca_file = _certificates(folder) if over_tls else (None, None, None)
    async with AsyncExitStack() as stack:
        splunk = await stack.enter_async_context(SplunkHec(token="hec-token", tls=trusted))
        datadog = await stack.enter_async_context(Datadog(api_key="dd-key", tls=trusted))
        cloudwatch = await stack.enter_async_context(CloudWatchLogs(tls=trusted))
        others = {sink: await stack.enter_async_context(PLACES[sink].open(trusted)) for sink in sinks if sink in PLACES}
        environment = {
            "SPLUNK_HEC_URL": splunk.url,
            "SPLUNK_HEC_TOKEN": "hec-token",
            "DD_API_KEY": "dd-key",
            "DD_LOGS_CONFIG_LOGS_DD_URL": datadog.url,
            "CLOUDWATCH_LOG_GROUP": GROUP,
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": cloudwatch.url,
            "TELEMETRY_FORWARDER_SINKS": ",".join(sinks),
            "TELEMETRY_FORWARDER_PORT": str(free_port()),
            "TELEMETRY_FORWARDER_LOG_LEVEL": "info",
            # The whole start within INIT. On a busy machine a start that continues during the few short invocations
            # would take most of the shutdown window, and leave nothing for the faults.
            "TELEMETRY_FORWARDER_INIT_BUDGET_MS": "9000",
            "TELEMETRY_FORWARDER_SPOOL_DIR": str(folder / "spool"),
            **{name: text for sink, one in others.items() for name, text in PLACES[sink].environ(one).items()},
            **({"SSL_CERT_FILE": str(ca_file)} if ca_file else {}),
            **variables,
        }
        command = [sys.executable, "-I", "-S", str(HERE / "function.py")]
        function = Function(code=HERE, command=command, timeout_s=timeout_s, environment=environment)
        if memory_mb is not None:
            function = replace(function, memory_mb=memory_mb)
        platform = Platform() if memory_mb is None else SHARED
        env = await stack.enter_async_context(LocalLambda(function, [extension], platform=sharing(platform)))
        yield MatrixWorld(World(splunk, datadog, cloudwatch, env, others=others), sinks, untrusted)


def _certificates(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext, Path]:
    """Return a TLS context that the extension trusts, one that it does not, and the CA file of the first."""
    made = []
    for name in ("trusted", "untrusted"):
        (folder / name).mkdir(exist_ok=True)
        made.append(make_certificate(folder / name))
    (trusted, ca_file), (untrusted, _) = made
    return trusted, untrusted, ca_file
