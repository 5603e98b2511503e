"""One run of a function on the local Lambda, of which everything is known, and what each backend got of it.

The dashboards' queries are run against what the extension really sent; the figures that they have to return are those
of the local Lambda's own results.
"""

import asyncio
import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local_backends import Answer, SplunkHec
from local_backends.datadog_logs import DatadogLog
from local_backends.datadog_metrics import DatadogPoint
from local_backends.embedded_metrics import EmbeddedMetrics, Measurement
from local_backends.hec_events import HecEvent
from local_backends.otlp import OtlpItem, OtlpReceiver
from local_lambda import Invocation
from tests.integration.world import GROUP, World, world

FUNCTION = "orders-worker"
METRICS_INDEX = "lambda_metrics"
MEMORY_MB = 256
TIMEOUT_S = 5.0  # enough for an init within an invocation, on a busy machine
# A cold start, warm ones, an exception that the runtime answers, a crash, and a time-out. After the last two the
# platform starts everything again within the next invocation, and sends the report of the one before.
_EVENTS: Sequence[Mapping[str, Any]] = (
    {"lines": 2},
    {"lines": 1},
    {"raise": True},
    {"exit": True},
    {"lines": 1},
    {"sleep": 60},
    {"lines": 1},
    {"lines": 3},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRun:
    """`results` are what the local Lambda says of each invocation, in order.

    `log_events` are the events of the CloudWatch log group with their time in ms, `own_lines` what the extension wrote
    into the function's own log group, `measurements` what CloudWatch makes metrics of in both; `hec_events` are those
    of Splunk; `datadog_points` and `datadog_logs` those of Datadog; `otlp_metrics` came by OTLP.
    `lost` counts the records that were lost, by sink; `delivered` those that were not, over all sinks.
    """

    results: Sequence[Invocation]
    log_events: Sequence[tuple[int, str]]
    own_lines: Sequence[Mapping[str, Any]]
    measurements: Sequence[Measurement]
    hec_events: Sequence[HecEvent]
    datadog_points: Sequence[DatadogPoint]
    lost: Mapping[str, int]
    datadog_logs: Sequence[DatadogLog]
    otlp_metrics: Sequence[OtlpItem]
    delivered: int

    def with_status(self, status: str) -> list[Invocation]:
        return [one for one in self.results if one.status == status]

    @property
    def datadog_ids(self) -> set[str]:
        """The ids of the log records that Datadog has."""
        return {log.attributes["record_id"] for log in self.datadog_logs}

    @property
    def init_ms(self) -> float:
        """The duration of the init before the first invocation."""
        found = self.results[0].init_duration_ms
        assert found is not None
        return round(found, 3)

    @property
    def gb_second(self) -> float:
        """The price of a GB-second on this processor, in USD; from Lambda's price list of September 2026."""
        return 0.0000133334 if platform.machine() in ("aarch64", "arm64") else 0.0000166667

    @property
    def resets(self) -> list[Invocation]:
        """The invocations after which the platform started everything again."""
        return [one for one in self.results if one.status != "success"]

    @property
    def overheads_ms(self) -> list[float]:
        """The times that extensions took after the runtime was done; an invocation that failed has none."""
        found = (one.extension_overhead_ms for one in self.results if one.status == "success")
        return [round(value, 3) for value in found if value is not None]


async def _play(w: World[Any]) -> list[Invocation]:
    """Invoke the function as listed. Before the last one Datadog's key is revoked, so that something is lost."""
    results = []
    for number, event in enumerate(_EVENTS):
        if number == len(_EVENTS) - 1:
            w.datadog.faults.always(Answer(403), on="logs")
        results.append(await w.env.invoke(event))
    await w.env.shutdown()
    return results


async def _run() -> KnownRun:
    environment: dict[str, str | None] = {
        "TELEMETRY_FORWARDER_METRICS": "on",
        "TELEMETRY_FORWARDER_LEDGER_PERIOD": "10",
        "SPLUNK_METRICS_INDEX": METRICS_INDEX,
        "SPLUNK_HEC_TOKEN": "t",
    }
    async with SplunkHec(token="t", metric_indexes={METRICS_INDEX}) as hec, OtlpReceiver() as otlp:
        environment |= {"SPLUNK_HEC_URL": hec.url, "TELEMETRY_FORWARDER_OTLP_ENDPOINT": otlp.url}
        function: dict[str, Any] = {"name": FUNCTION, "memory_mb": MEMORY_MB, "timeout_s": TIMEOUT_S}
        async with world(environment=environment, **function) as w:
            results = await _play(w)
            return KnownRun(
                results=results,
                log_events=[(event.timestamp, event.message) for event in w.cloudwatch.events(GROUP)],
                own_lines=w.said,
                measurements=[*w.cloudwatch.metrics.found, *_embedded(w.said)],
                hec_events=list(hec.events),
                datadog_points=list(w.datadog.metrics.points),
                datadog_logs=list(w.datadog.logs),
                otlp_metrics=otlp.metrics,
                lost=_lost(w.ledgers),
                delivered=sum(book["delivered"] for ledger in w.ledgers for book in ledger["sinks"].values()),
            )


def _embedded(lines: Iterable[Mapping[str, Any]]) -> list[Measurement]:
    """Return what CloudWatch makes metrics of in the log group that Lambda itself writes."""
    found = EmbeddedMetrics()
    for line in lines:
        found.take(f"/aws/lambda/{FUNCTION}", json.dumps(line), round(time.time() * 1000))
    assert not found.errors
    return found.found


def _lost(ledgers: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    lost: dict[str, int] = {}
    for ledger in ledgers:
        for sink, book in ledger["sinks"].items():
            lost[sink] = lost.get(sink, 0) + sum(book["dropped"].values())
    return lost


def play() -> KnownRun:
    """Play the run, and return what is known of it."""
    return asyncio.run(_run())
