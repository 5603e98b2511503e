"""Metrics on the whole road: a function on the local Lambda, the real executable, strict backends."""

from collections import Counter
from typing import Any

import pytest

from local_backends import Answer, Fault, Reset, SplunkHec, Throttle, TooLarge
from tests.integration.world import World, world

INDEX = "numbers"


def assert_balanced(ledger: dict[str, Any]) -> None:
    """Check the laws of a run with metrics: on the way in, and for each destination."""
    door = ledger["door"]
    assert door["derived"] > 0
    assert door["received"] + door["derived"] == door["routed"] + sum(door["unrouted"].values())
    for book in ledger["sinks"].values():
        assert book["held"] == 0
        assert book["offered"] == book["delivered"] + sum(book["dropped"].values()) + book["spilled"]


async def three_invocations(w: World[Any]) -> None:
    """A cold start that succeeds, a success, and one that ends by itself; then SHUTDOWN."""
    for event in ({"lines": 2}, {"lines": 1}):
        assert (await w.env.invoke(event)).status == "success"
    assert (await w.env.invoke({"exit": True})).status != "success"
    await w.env.shutdown()


def splunk_metrics(hec: SplunkHec) -> list[tuple[str, float, dict[str, Any]]]:
    """Return the metrics that HEC took, each with its dimensions."""
    return [
        (name.removeprefix("metric_name:"), value, dict(event.fields))
        for event in hec.events
        if event.is_metric
        for name, value in event.fields.items()
        if name.startswith("metric_name:")
    ]


async def test_splunk_gets_metrics_in_their_own_index_and_logs_in_the_other() -> None:
    environment = {"TELEMETRY_FORWARDER_METRICS": "splunk", "SPLUNK_METRICS_INDEX": INDEX}
    async with (
        SplunkHec(token="t", metric_indexes={INDEX}) as hec,
        world(environment={**environment, "SPLUNK_HEC_URL": hec.url, "SPLUNK_HEC_TOKEN": "t"}) as w,
    ):
        await three_invocations(w)
        found = splunk_metrics(hec)
        counts = Counter[str]()
        for name, value, _ in found:
            counts[name] += value  # type: ignore[assignment]
        assert (counts["lambda.invocations"], counts["lambda.errors"], counts["lambda.successes"]) == (3, 1, 2)
        told = [event.event["record"] for event in hec.events if event.fields.get("type") == "platform.report"]
        billed = [value for name, value, _ in found if name == "lambda.billed_duration"]
        assert billed == [report["metrics"]["billedDurationMs"] for report in told]
        assert len(billed) >= 2  # that of a crash may come after the end of the extension
        errors = [dimensions for name, _, dimensions in found if name == "lambda.errors"]
        assert [one["error.type"] for one in errors] == ["Runtime.ExitError"]
        assert {event.index for event in hec.events if event.is_metric} == {INDEX}
        assert any("line 000000" in str(event.event) for event in hec.events if event.index == "main")
        for ledger in w.ledgers:
            assert_balanced(ledger)
            assert set(ledger["sinks"]) == {"splunk", "splunk-metrics", "datadog", "cloudwatch"}


async def test_an_index_that_is_none_of_metrics_is_told_once_and_costs_the_logs_nothing() -> None:
    environment = {
        "TELEMETRY_FORWARDER_METRICS": "on",
        "SPLUNK_METRICS_INDEX": "typo",
        "TELEMETRY_FORWARDER_SINKS": "splunk",
    }
    async with world(environment=environment) as w:  # its HEC has no index of metrics
        for _ in range(3):
            await w.env.invoke({"lines": 5})
        await w.env.shutdown()
        assert len(w.numbers("splunk")) == 5
        (ledger,) = w.ledgers
        book = ledger["sinks"]["splunk-metrics"]
        assert book["dropped"] == {"unauthorized": book["offered"]}
        assert not ledger["sinks"]["splunk"]["dropped"]
        said = [line for line in w.said if "Incorrect index" in line["message"] and line["level"] != "INFO"]
        assert [line["level"] for line in said] == ["WARN", "ERROR"]  # at once, and that they are lost at the end
        assert all("SPLUNK_METRICS_INDEX" in line["message"] for line in said)


async def test_datadog_gets_distributions_by_the_names_of_its_own_extension() -> None:
    async with world(environment={"DD_ENHANCED_METRICS": "true", "DD_ENV": "test"}) as w:
        await three_invocations(w)
        metrics = w.datadog.metrics
        told = [log.attributes["platform"]["record"] for log in w.datadog.logs if "REPORT Req" in log.message]
        assert metrics.values("aws.lambda.enhanced.invocations") == [1, 1, 1]
        assert metrics.values("aws.lambda.enhanced.errors") == [1]
        billed = [report["metrics"]["billedDurationMs"] / 1000 for report in told]
        assert metrics.values("aws.lambda.enhanced.billed_duration") == billed
        assert len(metrics.values("aws.lambda.enhanced.init_duration")) >= 1
        first, second, third = metrics.tags("aws.lambda.enhanced.invocations")
        assert (first["cold_start"], second["cold_start"], third["error.type"]) == (
            "true",
            "false",
            "Runtime.ExitError",
        )
        assert {first["env"], first["functionname"]} == {"test", w.env.function.name.lower()}
        sent = [seen for seen in w.datadog.requests if seen.operation == "distributions"]
        assert {seen.status for seen in sent} == {202}
        assert {seen.headers.get("content-encoding", "deflate") for seen in sent} == {"deflate"}
        assert not metrics.lost
        for ledger in w.ledgers:
            assert_balanced(ledger)


@pytest.mark.parametrize("fault", [Answer(503, times=4), Reset(times=2), TooLarge(times=2), Throttle(retry_after=1)])
async def test_metrics_wait_while_datadog_is_unwell_and_are_counted_once(fault: Fault) -> None:
    async with world(environment={"DD_ENHANCED_METRICS": "true", "TELEMETRY_FORWARDER_SINKS": "datadog"}) as w:
        w.datadog.faults.script(fault, on="distributions")
        for _ in range(4):
            await w.env.invoke({"lines": 1})
        await w.env.shutdown()
        assert w.datadog.metrics.values("aws.lambda.enhanced.invocations") == [1] * 4
        assert len(w.datadog.metrics.values("aws.lambda.enhanced.duration")) == 4
        (ledger,) = w.ledgers
        assert_balanced(ledger)
        assert not ledger["sinks"]["datadog-metrics"]["dropped"]


async def test_cloudwatch_makes_metrics_of_what_it_is_sent_and_the_logs_stay_what_they_are() -> None:
    environment = {"TELEMETRY_FORWARDER_METRICS": "cloudwatch", "CLOUDWATCH_METRICS_NAMESPACE": "acme/lambda"}
    async with world(environment=environment) as w:
        await three_invocations(w)
        metrics, name = w.cloudwatch.metrics, w.env.function.name
        assert not metrics.errors
        assert {one.namespace for one in metrics.found} == {"acme/lambda"}
        assert metrics.total("lambda.invocations", function_name=name) == 3
        assert metrics.total("lambda.errors", function_name=name) == 1
        told = [one["raw"]["record"] for one in w.arrived("cloudwatch") if one["type"] == "platform.report"]
        billed = sum(report["metrics"]["billedDurationMs"] for report in told)
        assert metrics.total("lambda.billed_duration", function_name=name) == billed
        assert w.numbers("cloudwatch") == Counter({0: 2, 1: 1})
        for ledger in w.ledgers:
            assert_balanced(ledger)
            assert set(ledger["sinks"]) == {"splunk", "datadog", "cloudwatch"}
