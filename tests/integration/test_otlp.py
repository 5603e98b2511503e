"""OTLP on the whole road: a function on the local Lambda, the real executable, and a strict receiver."""

from collections import Counter
from typing import Any

import pytest

from local_backends import (
    Answer,
    Fault,
    OtlpReceiver,
    Page,
    RejectItems,
    Reset,
    RetryAt,
    Throttle,
    TooLarge,
    assert_trees,
)
from local_backends.otlp_rules import points_in
from tests.integration.world import World, world

EVERYTHING: dict[str, str | None] = {
    "TELEMETRY_FORWARDER_SINKS": "otlp",
    "TELEMETRY_FORWARDER_METRICS": "otlp",
    "TELEMETRY_FORWARDER_TRACES": "on",
    "OTEL_SERVICE_NAME": "till",
    "OTEL_RESOURCE_ATTRIBUTES": "team=shop",
}
ENCODINGS = ["http/protobuf", "http/json"]
each_encoding = pytest.mark.parametrize("encoding", ENCODINGS)


def assert_nothing_was_refused(otlp: OtlpReceiver) -> None:
    """Every request that no fault was for was sound for the strict receiver."""
    refused = [(one.operation, one.status) for one in otlp.requests if one.fault is None and one.status != 200]
    assert not refused


def counts(otlp: OtlpReceiver) -> Counter[str]:
    """Return the sums that were counted, by name."""
    found = Counter[str]()
    for one in otlp.metrics:
        shape, _, points = points_in(one.item)
        if shape == "sum":
            found[one.item["name"]] += sum(int(point.get("asInt", 0)) for point in points)
    return found


async def invoke_thrice(w: World[Any]) -> list[str]:
    """A cold start, a warm one, and one that ends by itself; return their ids."""
    results = [
        await w.env.invoke(event) for event in ({"lines": 3}, {"first": 3, "lines": 2, "json": 1}, {"exit": True})
    ]
    assert [result.status == "success" for result in results] == [True, True, False]
    await w.env.shutdown()
    return [result.request_id for result in results]


@each_encoding
async def test_logs_metrics_and_a_tree_of_each_request_arrive(encoding: str) -> None:
    otlp = OtlpReceiver()
    async with world(otlp=otlp, environment={**EVERYTHING, "OTEL_EXPORTER_OTLP_PROTOCOL": encoding}) as w:
        ids = await invoke_thrice(w)
        assert_nothing_was_refused(otlp)
        assert {one.is_json for one in otlp.exports} == {encoding == "http/json"}
        assert w.numbers("otlp") == Counter(range(5))
        assert max(Counter(one["record_id"] for one in w.arrived("otlp")).values()) == 1
        lines = [one["raw"] for one in w.arrived("otlp") if one["text"] == "json 000000"]
        assert [(one.item["severityText"], one.attributes["number"]) for one in lines] == [("ERROR", 0)]
        assert {one.resource["service.name"] for one in otlp.items} == {"till"}
        assert {one.resource["team"] for one in otlp.items} == {"shop"}
        found = counts(otlp)
        assert (found["aws.lambda.invocations"], found["faas.invocations"], found["faas.errors"]) == (3, 2, 1)
        assert_trees([one.item for one in otlp.spans])
        servers = [one for one in otlp.spans if one.item["kind"] == 2]
        assert {one.attributes["faas.invocation_id"] for one in servers} == set(ids)
        traces = {one.attributes["faas.invocation_id"]: one.item["traceId"] for one in servers}
        for one in otlp.logs:  # a line is joined to the trace of its request
            if (request := one.attributes.get("faas.invocation_id")) in traces and "traceId" in one.item:
                assert one.item["traceId"] == traces[request]
        assert any("traceId" in one.item for one in otlp.logs)
        for ledger in w.ledgers:
            assert all(book["held"] == 0 for book in ledger["sinks"].values())


@pytest.mark.parametrize(
    "faults",
    [
        [Answer(503, retry_after=0.1)], [Answer(502), Answer(504)], [Throttle(retry_after=0)], [Reset()],
        [Reset(stored=True)], [TooLarge()], [RetryAt(0)], [Page(503, size=100)],
    ],
    ids=str,
)  # fmt: skip
async def test_nothing_is_lost_when_the_receiver_is_unwell(faults: list[Fault]) -> None:
    otlp = OtlpReceiver()
    otlp.faults.script(*faults, on="logs")
    async with world(otlp=otlp, environment={**EVERYTHING, "TELEMETRY_FORWARDER_FLUSH": "end"}) as w:
        assert (await w.env.invoke({"lines": 50})).status == "success"
        await w.env.shutdown()
        assert set(w.numbers("otlp")) == set(range(50))
        assert_nothing_was_refused(otlp)
        (ledger,) = w.ledgers
        assert ledger["sinks"]["otlp"]["dropped"] == {}


async def test_what_is_rejected_is_counted_and_never_sent_again() -> None:
    otlp = OtlpReceiver()
    otlp.faults.always(RejectItems(1, "too old"), on="logs")
    async with world(otlp=otlp, environment=EVERYTHING) as w:
        await w.env.invoke({"lines": 3})
        await w.env.shutdown()
        (ledger,) = w.ledgers
        book = ledger["sinks"]["otlp"]
        assert book["dropped"] == {"rejected": sum(one.signal == "logs" for one in otlp.exports)}
        assert not any(one.is_repeated for one in otlp.exports)  # even where nothing was taken
        assert any("too old" in str(line) for line in w.said)


async def test_500_is_a_rejection() -> None:
    otlp = OtlpReceiver()
    otlp.faults.always(Answer(500), on="logs")
    async with world(otlp=otlp, environment=EVERYTHING) as w:
        await w.env.invoke({"lines": 3})
        await w.env.shutdown()
        (ledger,) = w.ledgers
        assert set(ledger["sinks"]["otlp"]["dropped"]) == {"rejected"}
        assert ledger["sinks"]["otlp-metrics"]["dropped"] == {}


async def test_credentials_reach_the_receiver_and_no_log() -> None:
    otlp = OtlpReceiver(vendor="datadog", key="hunter2")
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "dd-api-key=hunter2"}
    async with world(otlp=otlp, environment={**EVERYTHING, **headers}) as w:
        await w.env.invoke({"lines": 3})
        await w.env.shutdown()
        assert w.numbers("otlp") == Counter(range(3))
        assert otlp.metrics
        assert "hunter2" not in str(w.said)


async def test_a_wrong_credential_is_told_with_the_variable_that_holds_it() -> None:
    otlp = OtlpReceiver(vendor="datadog", key="another")
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "dd-api-key=hunter2"}
    async with world(otlp=otlp, environment={**EVERYTHING, **headers}) as w:
        await w.env.invoke({"lines": 3})
        await w.env.shutdown()
        assert any("OTEL_EXPORTER_OTLP_LOGS_HEADERS" in line["message"] for line in w.said)
        assert "hunter2" not in str(w.said)
        (ledger,) = w.ledgers
        assert set(ledger["sinks"]["otlp"]["dropped"]) == {"unauthorized"}


async def test_the_resource_tells_what_the_environment_is() -> None:
    otlp = OtlpReceiver()
    async with world(otlp=otlp, environment=EVERYTHING) as w:
        await w.env.invoke({"lines": 1})
        await w.env.shutdown()
    resource = otlp.items[-1].resource
    assert resource["faas.max_memory"] % 1_048_576 == 0
    assert resource["cloud.account.id"].isdigit()
    assert resource["faas.instance"]
    assert resource["cloud.resource_id"].startswith("arn:aws:lambda:")
