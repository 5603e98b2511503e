"""OTLP on the whole road: a function on the local Lambda, the real executable, and a strict receiver."""

import ssl
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

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
from telemetry_forwarder.interfaces import HeaderList, HttpDelivery, Signing
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.transports.stack import open_transport
from telemetry_forwarder.variables.types import Secret
from tests.integration.certificates import Authority
from tests.integration.world import World, world
from tests.sink_records import METRIC_SAMPLES, SAMPLES, SPAN_SAMPLES, make_span
from tests.wire.test_otlp import sink_of

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


def receiver_with_certificates(tmp_path: Path) -> tuple[OtlpReceiver, Authority, Path]:
    """Return a receiver that wants a certificate to be shown, who signs both, and a certificate with its key."""
    authority = Authority(tmp_path)
    tls = authority.server("127.0.0.1")
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(authority.trusted)
    authority.server("the-extension")
    return OtlpReceiver(tls=tls), authority, tmp_path / "server-2.pem"


async def test_certificates_are_checked_and_shown(tmp_path: Path) -> None:
    otlp, authority, shown = receiver_with_certificates(tmp_path)
    files = {"CERTIFICATE": authority.trusted, "CLIENT_CERTIFICATE": shown, "CLIENT_KEY": shown}
    given = {f"OTEL_EXPORTER_OTLP_{name}": str(path) for name, path in files.items()}
    async with world(otlp=otlp, environment={**EVERYTHING, **given}) as w:
        await w.env.invoke({"lines": 3})
        await w.env.shutdown()
        assert w.numbers("otlp") == Counter(range(3))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "CERTIFICATE",
            "no certificate",
            "OTEL_EXPORTER_OTLP_CERTIFICATE must name a file of certificates in PEM form",
        ),
        ("CLIENT_KEY", "no key", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE and OTEL_EXPORTER_OTLP_CLIENT_KEY must name"),
    ],
)
async def test_a_file_that_is_no_certificate_is_told_by_its_variable(
    name: str, content: str, said: str, tmp_path: Path
) -> None:
    otlp, authority, shown = receiver_with_certificates(tmp_path)
    (tmp_path / "wrong.pem").write_text(content)
    files = {"CERTIFICATE": authority.trusted, "CLIENT_CERTIFICATE": shown, "CLIENT_KEY": shown}
    files[name] = tmp_path / "wrong.pem"
    given = {f"OTEL_EXPORTER_OTLP_{name}": str(path) for name, path in files.items()}
    async with world(otlp=otlp, environment={**EVERYTHING, **given}) as w:
        await w.env.invoke({"lines": 3})
        await w.env.shutdown()
        assert any(said in line["message"] for line in w.said)
        (ledger,) = w.ledgers
        assert set(ledger["sinks"]["otlp"]["dropped"]) == {"unreachable"}


@pytest.mark.parametrize(("signal", "service"), [("logs", "logs"), ("metrics", "monitoring"), ("traces", "xray")])
async def test_cloudwatch_takes_what_is_signed(signal: str, service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the transport alone: only a host of AWS's is signed for."""
    for name, value in (("ACCESS_KEY_ID", "AKID"), ("SECRET_ACCESS_KEY", "s"), ("SESSION_TOKEN", "t")):
        monkeypatch.setenv(f"AWS_{name}", value)
    samples = {"logs": SAMPLES, "metrics": METRIC_SAMPLES, "traces": SPAN_SAMPLES}[signal]
    sink = sink_of(signal)
    now_ns = time.time_ns()
    if signal == "traces":
        samples = (make_span(start_ns=now_ns, end_ns=now_ns + 1),)
    async with OtlpReceiver(vendor="cloudwatch", region="eu-west-1") as otlp:
        delivery = HttpDelivery(
            url=otlp.url,
            headers=(HeaderList(Secret("x-aws-log-group=/g,x-aws-log-stream=s")),),
            signing=Signing(service, "eu-west-1"),
        )
        async with open_transport(delivery, Network(), print) as transport:
            request = sink.request([sink.encode(record) for record in samples])
            answer = await transport.send(replace(request, url=f"{otlp.url}/v1/{signal}"))
        assert (answer.status, answer.body) == (200, b"")
        assert otlp.items
        assert "x-aws-log-group" in otlp.exports[0].header_names
