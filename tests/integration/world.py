"""The whole road for one test: local backends, a local Lambda, the real executable."""

import json
import random
import re
import socket
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, Protocol, TypeVar

from local_backends import CloudWatchLogs, Datadog, OtlpReceiver, SplunkHec
from local_backends.otlp import OtlpItem
from local_backends.otlp_messages import value_of
from local_lambda import Function, LocalLambda, Platform
from tests.sharing import sharing

EXTENSION = Path(__file__).parents[2] / "extensions/telemetry-forwarder"
FUNCTIONS = Path(__file__).parent / "functions"
GROUP = "/telemetry-forwarder/test"
NUMBERED = re.compile(r"line (\d{6})")
# Below Linux's range for outgoing connections (net.ipv4.ip_local_port_range): between two generations nobody holds one.
PORTS = range(20_000, 32_000)
SINKS = ("splunk", "datadog", "cloudwatch")


class HasOutput(Protocol):
    """What a world needs of the Lambda it is built round."""

    def extension_output(self, name: str) -> list[str]: ...


Env = TypeVar("Env", bound=HasOutput)


@dataclass(slots=True)
class World(Generic[Env]):
    splunk: SplunkHec
    datadog: Datadog
    cloudwatch: CloudWatchLogs
    env: Env
    otlp: OtlpReceiver | None = None  # only where a test wants it
    others: Mapping[str, Any] = field(default_factory=dict)  # the backends of further sinks

    def backend(self, sink: str) -> Any:
        known = {"splunk": self.splunk, "datadog": self.datadog, "cloudwatch": self.cloudwatch, "otlp": self.otlp}
        return known[sink] if sink in known else self.others[sink]

    def arrived(self, sink: str) -> list[dict[str, Any]]:
        """Return what a backend took, in one form: record_id, type, request_id, text."""
        if sink == "splunk":
            return [{**event.fields, "text": _text(event.event), "raw": event.event} for event in self.splunk.events]
        if sink == "datadog":
            return [
                {
                    "record_id": log.attributes["record_id"],
                    "type": log.attributes.get("platform", {}).get("type", "function"),
                    "request_id": log.attributes.get("lambda", {}).get("request_id"),
                    "text": log.message,
                    "raw": log,
                }
                for log in self.datadog.logs
            ]
        if sink == "otlp":
            return [_arrived_by_otlp(one) for one in self.otlp.logs] if self.otlp is not None else []
        found = []
        for event in self.cloudwatch.events(GROUP) if GROUP in self.cloudwatch.groups else []:
            message = json.loads(event.message)
            found.append({**message["lambda"], "text": message.get("message", event.message), "raw": message})
        return found

    def numbers(self, sink: str) -> Counter[int]:
        """Count how often each numbered line arrived. Processes that share a pipe may write two into one line."""
        return Counter(int(number) for one in self.arrived(sink) for number in NUMBERED.findall(one["text"]))

    def reports(self, sink: str) -> Counter[str]:
        """Count the platform.report of each request."""
        return Counter(one["request_id"] for one in self.arrived(sink) if one["type"] == "platform.report")

    @property
    def said(self) -> list[dict[str, Any]]:
        """The extension's own log lines."""
        lines = self.env.extension_output(EXTENSION.name)
        return [json.loads(line) for line in lines if line.startswith('{"telemetry_forwarder"')]

    @property
    def ledgers(self) -> list[dict[str, Any]]:
        """The ledgers that were written at the end, one for each generation of the extension."""
        return [line for line in self.said if "door" in line]


def assert_balanced(ledger: dict[str, Any]) -> None:
    """Check both laws in what the extension wrote."""
    door = ledger["door"]
    assert door["received"] == door["routed"] + sum(door["unrouted"].values())
    for book in ledger["sinks"].values():
        assert book["held"] == 0
        assert book["offered"] == book["delivered"] + sum(book["dropped"].values()) + book["spilled"]
        assert book["offered"] == door["routed"] + book["recovered"] + book["told"]


def assert_arrived(arrived: Counter[int], numbers: Iterable[int], book: dict[str, Any]) -> None:
    """Check that each of `numbers` arrived, and that none came twice but in a copy that the sink's book tells of.

    A request whose answer is unusually late goes out again beside the first; on a busy machine an answer may be.
    """
    assert set(arrived) == set(numbers)
    assert arrived.total() == len(arrived) or book["copies"], "twice, and not in a copy"


def _arrived_by_otlp(one: OtlpItem) -> dict[str, Any]:
    known = one.attributes
    return {
        "record_id": known["log.record.uid"],
        "type": known["telemetry.type"],
        "request_id": known.get("faas.invocation_id"),
        "text": _text(value_of(one.item["body"])),
        "raw": one,
    }


def _text(event: Any) -> str:
    return event if isinstance(event, str) else json.dumps(event)


@asynccontextmanager
async def world(
    *,
    platform: Platform | None = None,
    environment: dict[str, str | None] | None = None,
    handler: str = "lines.handler",
    code: Path = FUNCTIONS,
    extensions: Sequence[Path] = (),
    otlp: OtlpReceiver | None = None,
    metric_indexes: Collection[str] = (),
    **function: Any,
) -> AsyncIterator[World[LocalLambda]]:
    """Open everything; `environment` adds to the variables of the function, or takes away (None).

    `extensions` run beside ours. `otlp` is opened, too, and is then a destination.
    `metric_indexes` are the indexes of Splunk that hold metrics.
    """
    async with AsyncExitStack() as stack:
        wanted = dict(environment or {})
        if otlp is not None:
            await stack.enter_async_context(otlp)
            wanted = {"TELEMETRY_FORWARDER_OTLP_ENDPOINT": otlp.url + otlp.prefix, **wanted}
        splunk, datadog, cloudwatch, given = await open_backends(stack, wanted, metric_indexes)
        if region := given.pop("AWS_REGION", None):  # reserved, as on Lambda: it follows from the function's region
            function["region"] = region
        env = LocalLambda(
            Function(code=code, handler=handler, environment=given, **function),
            extensions=[EXTENSION, *extensions],
            platform=sharing(platform),
        )
        await stack.enter_async_context(env)
        yield World(splunk, datadog, cloudwatch, env, otlp)


async def open_backends(
    stack: AsyncExitStack, environment: Mapping[str, str | None], metric_indexes: Collection[str] = ()
) -> tuple[SplunkHec, Datadog, CloudWatchLogs, dict[str, str]]:
    """Open the three backends and return them with the variables that lead there, changed as `environment` says."""
    splunk = await stack.enter_async_context(SplunkHec(token="hec-token", metric_indexes=metric_indexes))
    datadog = await stack.enter_async_context(Datadog(api_key="dd-key"))
    cloudwatch = await stack.enter_async_context(CloudWatchLogs())
    spool = stack.enter_context(TemporaryDirectory(prefix="spool-"))  # /tmp is everybody's here
    variables: dict[str, str | None] = {
        "SPLUNK_HEC_URL": splunk.url,
        "SPLUNK_HEC_TOKEN": "hec-token",
        "DD_API_KEY": "dd-key",
        "DD_LOGS_CONFIG_LOGS_DD_URL": datadog.url,
        "DD_DD_URL": datadog.url,
        "CLOUDWATCH_LOG_GROUP": GROUP,
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": cloudwatch.url,
        "TELEMETRY_FORWARDER_PORT": str(free_port()),
        "TELEMETRY_FORWARDER_LOG_LEVEL": "info",
        # All of it within INIT, so that a busy machine does not change what a test sees: see test_early_start.py.
        "TELEMETRY_FORWARDER_INIT_BUDGET_MS": "9000",
        "TELEMETRY_FORWARDER_SPOOL_DIR": spool,
        **environment,
    }
    given = {name: value for name, value in variables.items() if value is not None}
    return splunk, datadog, cloudwatch, given


def free_port() -> int:
    """Return a port that can be listened on, and that no outgoing connection will be given meanwhile."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return port
