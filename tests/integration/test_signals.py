"""Metrics beside logs, in one pipeline: what was counted is what the local Lambda did, whatever happened on the way."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from local_backends import Answer, Hang, SplunkHec, Throttle
from local_lambda import LocalLambda
from telemetry_forwarder.records.record import Signal
from tests.integration.test_metrics import INDEX, assert_balanced, splunk_metrics
from tests.integration.world import World, free_port, world
from tests.telemetry_forwarder.intake.test_otlp_records import SPAN, TRACE, request

METRICS = {"TELEMETRY_FORWARDER_METRICS": "splunk", "SPLUNK_METRICS_INDEX": INDEX}


@asynccontextmanager
async def splunk_alone(**environment: str) -> AsyncIterator[tuple[World[LocalLambda], SplunkHec]]:
    """Open a world with Splunk as the only sink, which has an index of metrics."""
    async with SplunkHec(token="t", metric_indexes={INDEX}) as hec:
        only = {"TELEMETRY_FORWARDER_SINKS": "splunk", "SPLUNK_HEC_URL": hec.url, "SPLUNK_HEC_TOKEN": "t"}
        async with world(environment={**only, **METRICS, **environment}, timeout_s=1.5) as w:
            yield w, hec


def sums(hec: SplunkHec) -> Counter[str]:
    """Return the sums of the values that arrived, by metric."""
    found: Counter[str] = Counter()
    for name, value, _ in splunk_metrics(hec):
        found[name] += value  # type: ignore[assignment]
    return found


async def test_counts_are_what_happened_while_the_backend_refuses_and_processes_are_reset() -> None:
    """A success, an exception, an exit and a time-out, the last two with a new process behind them."""
    async with splunk_alone() as (w, hec):
        hec.faults.script(Answer(503), Throttle(0.05), Answer(503))
        events: list[dict[str, Any]] = [{"lines": 3}, {"raise": True}, {"exit": True}, {"sleep": 9}, {"lines": 1}, {}]
        results = [await w.env.invoke(event) for event in events]
        await w.env.shutdown()
        found = sums(hec)
        ended = Counter(result.status for result in results)  # on a busy machine an init, too, may take too long
        assert ended["timeout"]
        assert ended["error"]
        assert found["lambda.invocations"] == len(events)
        assert found["lambda.timeouts"] == ended["timeout"]
        assert found["lambda.errors"] == ended["error"] + ended["timeout"], "the runtime answered for the exception"
        assert found["lambda.function_errors"] == 1
        assert found["lambda.successes"] == ended["success"]
        assert found["lambda.billed_duration"] == sum(result.billed_ms or 0 for result in results)
        for ledger in w.ledgers:
            assert_balanced(ledger)


async def test_metrics_that_a_backend_did_not_take_are_sent_by_the_next_process() -> None:
    """They wait in the spool as lines do: counted once, though two processes had them."""
    async with splunk_alone(TELEMETRY_FORWARDER_FLUSH="end", TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS="100") as (w, hec):
        hec.faults.always(Hang(None))
        await w.env.invoke({"lines": 2})
        await w.env.invoke({"sleep": 9})  # a time-out: this process ends
        hec.faults.clear()
        await w.env.invoke({"lines": 2})
        await w.env.shutdown()
        assert sums(hec)["lambda.invocations"] == 3
        first, second = w.ledgers
        assert first["sinks"]["splunk-metrics"]["spilled"]
        assert second["sinks"]["splunk-metrics"]["recovered"] == first["sinks"]["splunk-metrics"]["spilled"]


async def test_metrics_that_linger_outlive_a_kill() -> None:
    """Of invocations that come often nothing is derived for a while: whoever comes next derives it of the bodies."""
    strict = {"TELEMETRY_FORWARDER_DURABILITY": "strict", "TELEMETRY_FORWARDER_FLUSH": "end"}
    async with splunk_alone(**strict) as (w, hec):
        for _ in range(12):
            await w.env.invoke({"lines": 1})
        before = sums(hec)["lambda.invocations"]
        assert 0 < before < 12, "the first of them left with their lines"
        running = asyncio.ensure_future(w.env.invoke({"lines": 1, "sleep": 1}))
        await w.env.until(lambda: sum(one["type"] == "function" for one in w.env.telemetry) >= 13, timeout_s=20.0)
        os.kill(w.env.pids["telemetry-forwarder"], signal.SIGKILL)
        assert (await running).error_type == "Extension.Crash"
        await w.env.invoke({"lines": 1})
        await w.env.shutdown()
        found = sums(hec)
        assert found["lambda.invocations"] == 14
        assert found["lambda.errors"] == 1
        (ledger,) = w.ledgers
        assert_balanced(ledger)


async def test_the_ledger_of_a_period_is_a_record_metrics_and_a_line_of_emf() -> None:
    async with splunk_alone(TELEMETRY_FORWARDER_LEDGER_PERIOD="10") as (w, hec):
        for _ in range(2):
            await w.env.invoke({"lines": 2})
        await w.env.shutdown()  # the last period ends here
        (record,) = [event.event for event in hec.events if event.fields.get("type") == "forwarder.ledger"]
        assert record["record"]["sinks"]["splunk"]["delivered"] > 0
        line, last = [line for line in w.said if line["message"] == "ledger of a period"]
        assert line["Delivered"] == sum(one["delivered"] for one in record["record"]["sinks"].values())
        (ledger,) = w.ledgers  # the last line has what the drain did
        assert line["Delivered"] + last["Delivered"] == sum(one["delivered"] for one in ledger["sinks"].values())
        assert last["Held"] == 0
        assert line["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "TelemetryForwarder"
        delivered = [value for name, value, about in splunk_metrics(hec) if (name, about.get("sink")) == DELIVERED]
        assert delivered == [record["record"]["sinks"]["splunk"]["delivered"]]


DELIVERED = ("forwarder.delivered", "splunk")


async def test_metrics_that_nobody_asked_for_cost_nothing() -> None:
    async with world() as w:
        await w.env.invoke({"lines": 2})
        await w.env.shutdown()
        (ledger,) = w.ledgers
        assert ledger["door"]["derived"] == 0
        assert not any("metric" in name for name in ledger["sinks"])
        assert not any(event.is_metric for event in w.splunk.events)


async def test_a_function_s_own_metrics_by_dogstatsd_leave_with_its_invocation() -> None:
    """Sent by UDP from the function, in its init and in its handler; what is no metric is refused and counted."""
    port = str(free_port())
    async with splunk_alone(DD_USE_DOGSTATSD="true", DD_DOGSTATSD_PORT=port, TELEMETRY_FORWARDER_FLUSH="end") as (
        w,
        hec,
    ):
        lines = ["orders.paid:1|c|#env:prod", "orders.paid:2|c|#env:prod", "cart:3:5|d", "nonsense"]
        await w.env.invoke({"statsd": lines, "port": int(port)})
        found = {(name, about.get("env")): value for name, value, about in splunk_metrics(hec)}
        assert found["orders.paid", "prod"] == 3
        assert found["cart.count", None] == 2
        assert found["cart.sum", None] == 8
        await w.env.shutdown()
        (ledger,) = w.ledgers
        assert ledger["door"]["refused_metrics"] == 1
        (said,) = [line["message"] for line in w.said if line["message"].startswith("DogStatsD")]
        assert "name:value|type" in said


async def test_dogstatsd_without_a_sink_for_it_is_told() -> None:
    environment = {"DD_USE_DOGSTATSD": "true", "DD_DOGSTATSD_PORT": str(free_port())}
    async with world(environment={**environment}) as w:
        await w.env.invoke({})
        await w.env.shutdown()
        assert any("TELEMETRY_FORWARDER_METRICS" in line["message"] for line in w.said)


async def test_what_a_function_sends_by_otlp_passes_the_same_pipeline() -> None:
    """A log record and a metric arrive; a span, which no sink here takes, is rejected in the answer to the function."""
    port = str(free_port())
    given = {"TELEMETRY_FORWARDER_OTLP_RECEIVER": "true", "TELEMETRY_FORWARDER_OTLP_PORT": port}
    async with splunk_alone(**given, TELEMETRY_FORWARDER_FLUSH="end") as (w, hec):
        point = {"asInt": "3", "timeUnixNano": "1795860000000000000"}
        posts = {
            "/v1/logs": request(Signal.LOG, {"body": {"stringValue": "by the SDK"}, "severityNumber": 17}),
            "/v1/metrics": request(Signal.METRIC, {"name": "carts", "gauge": {"dataPoints": [point]}}),
            "/v1/traces": request(Signal.SPAN, {"traceId": TRACE, "spanId": SPAN, "name": "a"}),
        }
        result = await w.env.invoke({"otlp": posts, "port": int(port)})
        answers = result.json()["answers"]
        assert answers["/v1/logs"] == answers["/v1/metrics"] == {}
        assert answers["/v1/traces"]["partialSuccess"]["rejectedSpans"] == "1"
        (event,) = [event for event in hec.events if event.fields.get("type") == "otlp"]
        assert event.event["message"] == "by the SDK"
        assert event.fields["level"] == "error"
        assert [value for name, value, _ in splunk_metrics(hec) if name == "carts"] == [3]
        await w.env.shutdown()
        (ledger,) = w.ledgers
        assert_balanced(ledger)
