"""The local OTLP receiver refuses what real ones refuse, or lose data by: raw requests over real sockets."""

import copy
import gzip
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import orjson
import pytest

from local_backends import Answer, OtlpReceiver, Page, RejectItems, RetryAt, Throttle, TooLarge, assert_trees
from telemetry_forwarder.otlp.protobuf import decode, encode
from tests.sink_records import GOLDEN

PROTOBUF, JSON = "application/x-protobuf", "application/json"
NOW = 1_791_048_500.0
REQUESTS = {"logs": "ExportLogsServiceRequest", "metrics": "ExportMetricsServiceRequest",
            "traces": "ExportTraceServiceRequest"}  # fmt: skip
RESPONSES = {signal: name.replace("Request", "Response") for signal, name in REQUESTS.items()}
START, END = "1791048401000000000", "1791048401679000000"


def text(value: str) -> dict[str, Any]:
    return {"stringValue": value}


RESOURCE = {"attributes": [{"key": "service.name", "value": text("orders")},
                           {"key": "faas.max_memory", "value": {"intValue": "536870912"}}]}  # fmt: skip
SCOPE = {"name": "lambda-telemetry", "version": "1.0"}
LOG = {"timeUnixNano": START, "observedTimeUnixNano": START, "severityNumber": 9, "severityText": "INFO",
       "body": text("paid"), "attributes": [{"key": "a", "value": {"boolValue": True}}],
       "traceId": "68c4a1f03b2a90d1c7e845f6a0b1c2d3", "spanId": "7f3e1d2c4b5a6978"}  # fmt: skip
SUM = {"name": "faas.invocations", "unit": "{invocation}", "sum": {
    "aggregationTemporality": 1, "isMonotonic": True,
    "dataPoints": [{"startTimeUnixNano": START, "timeUnixNano": END, "asInt": "3",
                    "attributes": [{"key": "faas.trigger", "value": text("other")}]}]}}  # fmt: skip
HISTOGRAM = {"name": "faas.invoke_duration", "unit": "s", "histogram": {
    "aggregationTemporality": 1,
    "dataPoints": [{"startTimeUnixNano": START, "timeUnixNano": END, "count": "3", "sum": 0.61,
                    "bucketCounts": ["0", "2", "1"], "explicitBounds": [0.1, 0.25], "min": 0.12,
                    "max": 0.31}]}}  # fmt: skip
SPAN = {"traceId": "68c4a1f03b2a90d1c7e845f6a0b1c2d3", "spanId": "7f3e1d2c4b5a6978", "flags": 1, "name": "orders-fn",
        "kind": 2, "startTimeUnixNano": START, "endTimeUnixNano": END, "status": {"code": 2, "message": "timed out"},
        "attributes": [{"key": "faas.invocation_id", "value": text("7b0c")}],
        "links": [{"traceId": "68c4a1f03b2a90d1c7e845f6a0b1c2d3", "spanId": "1a2b3c4d5e6f7081"}]}  # fmt: skip
ITEMS: dict[str, Any] = {"logs": LOG, "metrics": SUM, "traces": SPAN}


def request(signal: str, *items: Any, resource: Any = RESOURCE) -> dict[str, Any]:
    outer = {"traces": "Spans"}.get(signal, signal.title())
    inner = {"logs": "logRecords", "metrics": "metrics", "traces": "spans"}[signal]
    scopes = [{"scope": SCOPE, inner: list(items or [ITEMS[signal]])}]
    return {f"resource{outer}": [{"resource": resource, f"scope{outer}": scopes}]}


def changed(original: Any, path: str, value: Any) -> Any:
    """Return a copy with the member at `path` (`a.0.b`) set, or without it (...)."""
    found = copy.deepcopy(original)
    *parents, last = [int(word) if word.isdigit() else word for word in path.split(".")]
    inner = found
    for word in parents:
        inner = inner[word]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return found


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def otlp() -> AsyncIterator[OtlpReceiver]:
    async with OtlpReceiver(now=lambda: NOW) as otlp:
        yield otlp


class Post:
    """Sends one request after another to a receiver."""

    def __init__(self, client: aiohttp.ClientSession, otlp: OtlpReceiver) -> None:
        self.client = client
        self.otlp = otlp

    async def __call__(
        self, signal: str, body: Any, *, kind: str = JSON, path: str = "", method: str = "POST", **headers: str
    ) -> tuple[int, bytes]:
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        url = self.otlp.url + (path or f"{self.otlp.prefix}/v1/{signal}")
        given = {"Content-Type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.request(method, url, data=data, headers=given) as answer:
            self.headers = dict(answer.headers)
            return answer.status, await answer.read()


@pytest.fixture
def post(client: aiohttp.ClientSession, otlp: OtlpReceiver) -> Post:
    return Post(client, otlp)


@pytest.mark.parametrize("signal", REQUESTS)
async def test_each_signal_is_taken_in_both_encodings(post: Post, otlp: OtlpReceiver, signal: str) -> None:
    found = request(signal)
    assert await post(signal, found) == (200, b"{}")
    packed = gzip.compress(encode(REQUESTS[signal], found))
    assert await post(signal, packed, kind=PROTOBUF, content_encoding="gzip") == (200, b"")
    assert post.headers["Content-Type"] == PROTOBUF
    first, second = otlp.items
    assert (first, first.resource) == (second, {"service.name": "orders", "faas.max_memory": 536870912})
    assert [one.is_json for one in otlp.exports] == [True, False]
    assert otlp.exports[1].size == len(packed)
    assert otlp.exports[1].raw_size == len(gzip.decompress(packed))
    assert {"logs": otlp.logs, "metrics": otlp.metrics, "traces": otlp.spans}[signal] == [first, second]


@pytest.mark.parametrize("signal", REQUESTS)
async def test_what_our_own_sink_writes_is_taken(post: Post, otlp: OtlpReceiver, signal: str) -> None:
    body = (GOLDEN / f"otlp_{signal}.json").read_bytes()
    assert (await post(signal, body))[0] == 200
    assert (await post(signal, encode(REQUESTS[signal], orjson.loads(body)), kind=PROTOBUF))[0] == 200
    assert len(otlp.items) > 2


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"path": "/v1/logs/"}, 404),
        ({"path": "/"}, 404),
        ({"method": "PUT"}, 405),
        ({"kind": "application/json; charset=utf-8"}, 415),
        ({"kind": "text/plain"}, 415),
        ({"content_encoding": "zstd"}, 415),
        ({"content_encoding": "gzip"}, 400),
    ],
)
async def test_another_way_to_send_it_is_refused(post: Post, otlp: OtlpReceiver, more: Any, status: int) -> None:
    assert (await post("logs", request("logs"), **more))[0] == status
    assert not otlp.items


BAD_JSON = [
    ("logs", "log_records", {}, "lowerCamelCase"),
    ("logs", "logRecords.0.severityNumber", "SEVERITY_NUMBER_INFO", "no int"),
    ("logs", "logRecords.0.traceId", "aMSh8DsqkNHH6EX2oLHC0w==", "hexadecimal"),
    ("logs", "logRecords.0.traceId", "68c4a1f0", "has 4 bytes"),
    ("logs", "logRecords.0.timeUnixNano", 1791048401000000000, "as a string"),
    ("logs", "logRecords.0.timeUnixNano", "-1", "out of range"),
    ("logs", "logRecords.0.body", "paid", "no JSON object"),
    ("logs", "logRecords.0.body", {"stringValue": None}, "one of several"),
    ("logs", "logRecords.0.attributes", {}, "no array"),
    ("logs", "logRecords.0.flags", "1", "no int"),
    ("logs", "logRecords.0.flags", True, "no int"),
    ("logs", "logRecords.0.eventName", 1, "no str"),
    ("logs", "logRecords.0.attributes.0.value", {"boolValue": 1}, "no bool"),
    ("logs", "logRecords.0.attributes.0.value", {"bytesValue": "*"}, "base64"),
    ("logs", "logRecords.0.attributes.0.value", {"doubleValue": "one"}, "no number"),
    ("logs", "logRecords", [], "empty envelope in scopeLogs"),
    ("logs", "logRecords.0.observedTimeUnixNano", ..., "observedTimeUnixNano"),
    ("logs", "logRecords.0.body", {}, "empty body"),
    ("logs", "logRecords.0.severityNumber", 25, "severityNumber"),
    ("logs", "logRecords.0.traceId", "0" * 32, "traceId is zero"),
    ("logs", "logRecords.0.attributes.0.value", {}, "no value"),
    ("logs", "logRecords.0.attributes.0.key", "", "no key"),
    ("logs", "logRecords.0.attributes", [{"key": "a", "value": text("x")}] * 2, "there twice"),
    ("metrics", "metrics.0.name", "", "without a name"),
    ("metrics", "metrics.0.sum", ..., "without data points"),
    ("metrics", "metrics.0.sum.dataPoints", [], "without data points"),
    ("metrics", "metrics.0.sum.aggregationTemporality", 0, "temporality"),
    ("metrics", "metrics.0.sum.dataPoints.0.startTimeUnixNano", END, "interval is empty"),
    ("metrics", "metrics.0.sum.dataPoints.0.timeUnixNano", ..., "without a time"),
    ("metrics", "metrics.0.sum.dataPoints.0.asInt", ..., "finite value"),
    ("metrics", "metrics.0.sum.dataPoints.0.asInt", "-3", "monotonic"),
    ("metrics", "metrics.1.unit", ..., "without a unit"),
    ("metrics", "metrics.1.histogram.dataPoints.0.bucketCounts", ["3"], "1 buckets for 2 bounds"),
    ("metrics", "metrics.1.histogram.dataPoints.0.explicitBounds", [0.25, 0.1], "do not rise"),
    ("metrics", "metrics.1.histogram.dataPoints.0.count", "4", "sum of its buckets"),
    ("metrics", "metrics.1.histogram.dataPoints.0.sum", "NaN", "not finite"),
    ("traces", "spans.0.name", "", "without a name"),
    ("traces", "spans.0.spanId", ..., "without its ids"),
    ("traces", "spans.0.spanId", "0" * 16, "spanId is zero"),
    ("traces", "spans.0.parentSpanId", SPAN["spanId"], "own parent"),
    ("traces", "spans.0.kind", 0, "no kind"),
    ("traces", "spans.0.kind", 6, "no kind"),
    ("traces", "spans.0.endTimeUnixNano", "1791048400000000000", "ends before it starts"),
    ("traces", "spans.0.status.code", 3, "unknown status"),
    ("traces", "spans.0.status.code", 1, "but no error"),
    ("traces", "spans.0.links.0.traceId", "0" * 32, "traceId is zero"),
]


@pytest.mark.parametrize(("signal", "path", "value", "said"), BAD_JSON, ids=lambda one: str(one)[:50])
async def test_bad_items_refuse_the_request(
    post: Post, otlp: OtlpReceiver, signal: str, path: str, value: Any, said: str
) -> None:
    good = request("metrics", SUM, HISTOGRAM) if signal == "metrics" else request(signal)
    outer = {"traces": "Spans"}.get(signal, signal.title())
    bad = changed(good, f"resource{outer}.0.scope{outer}.0.{path}", value)
    status, body = await post(signal, bad)
    assert (status, orjson.loads(body)["code"]) == (400, 3)
    assert said in orjson.loads(body)["message"]
    assert not otlp.items


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"resourceLogs":[{"resource":{}}]}', b'{"resourceLogs":NaN}'])
async def test_what_is_no_request_in_json_is_refused(post: Post, body: bytes) -> None:
    assert (await post("logs", body))[0] == 400


async def test_memory_in_megabytes_is_refused(post: Post) -> None:
    wrong = {"attributes": [{"key": "faas.max_memory", "value": {"intValue": "512"}}]}
    status, body = await post("logs", request("logs", resource=wrong))
    assert status == 400
    assert b"faas.max_memory" in body


@pytest.mark.parametrize(
    "spoil",
    [lambda body: body + b"\x07", lambda body: body[:-1], lambda body: b"\x08\x01", lambda body: b'{"a":1}',
     lambda body: body.replace(bytes.fromhex(LOG["spanId"]), b"\1" * 7 + b"\x00")[:-1]],
)  # fmt: skip
async def test_spoilt_protobuf_is_refused_in_its_own_encoding(post: Post, spoil: Callable[[bytes], bytes]) -> None:
    status, body = await post("logs", spoil(encode(REQUESTS["logs"], request("logs"))), kind=PROTOBUF)
    assert status == 400
    assert decode("Error", body)["code"] == 3
    assert post.headers["Content-Type"] == PROTOBUF


async def test_an_id_of_another_length_is_refused_in_protobuf_too(post: Post) -> None:
    short = changed(LOG, "traceId", "68c4a1f0")
    assert (await post("logs", encode(REQUESTS["logs"], request("logs", short)), kind=PROTOBUF))[0] == 400


async def test_intervals_of_a_series_may_not_meet_but_the_same_point_may_come_again(
    post: Post, otlp: OtlpReceiver
) -> None:
    assert (await post("metrics", request("metrics")))[0] == 200
    assert (await post("metrics", request("metrics")))[0] == 200
    assert (otlp.series.repeated, [one.is_repeated for one in otlp.exports]) == (1, [False, True])
    later = changed(SUM, "sum.dataPoints.0.timeUnixNano", "1791048401679000001")
    status, body = await post("metrics", request("metrics", later))
    assert status == 400
    assert b"two intervals" in body
    elsewhere = {"attributes": [{"key": "faas.instance", "value": text("another")}]}
    assert (await post("metrics", request("metrics", later, resource=elsewhere)))[0] == 200
    behind = changed(changed(SUM, "sum.dataPoints.0.timeUnixNano", "1791048401900000000"),
                     "sum.dataPoints.0.startTimeUnixNano", END)  # fmt: skip
    assert (await post("metrics", request("metrics", behind)))[0] == 200


async def test_a_cumulative_start_may_not_move(post: Post) -> None:
    total = changed(SUM, "sum.aggregationTemporality", 2)
    assert (await post("metrics", request("metrics", total)))[0] == 200
    moved = changed(total, "sum.dataPoints.0.startTimeUnixNano", "1791048401000000001")
    assert (await post("metrics", request("metrics", moved)))[0] == 400


async def test_answers_as_scripted(post: Post, otlp: OtlpReceiver) -> None:
    otlp.faults.script(
        Answer(503, retry_after=2), Throttle(retry_after=1), TooLarge(), RetryAt(30), Page(502, size=5_000_000),
        RejectItems(3, "too old"), RejectItems(0, "upgrade"), Page(200),
    )  # fmt: skip
    assert (await post("logs", request("logs")))[0] == 503
    assert post.headers["Retry-After"] == "2"
    assert (await post("logs", request("logs")))[0] == 429
    assert (await post("logs", request("logs")))[0] == 413
    assert (await post("logs", request("logs")))[0] == 503
    assert post.headers["Retry-After"].endswith("GMT")
    status, body = await post("logs", request("logs"))
    assert (status, len(body) > 4 * 1024 * 1024) == (502, True)
    assert not otlp.items
    _, body = await post("logs", request("logs"))
    assert orjson.loads(body) == {"partialSuccess": {"rejectedLogRecords": "3", "errorMessage": "too old"}}
    _, body = await post("traces", encode(REQUESTS["traces"], request("traces")), kind=PROTOBUF)
    assert decode(RESPONSES["traces"], body) == {"partialSuccess": {"errorMessage": "upgrade"}}
    assert b"<html>" in (await post("logs", request("logs")))[1]


# --- vendors --------------------------------------------------------------------------------------------------------


async def test_datadog(client: aiohttp.ClientSession) -> None:
    async with OtlpReceiver(vendor="datadog", key="k", now=lambda: NOW) as otlp:
        post = Post(client, otlp)
        assert (await post("metrics", request("metrics")))[0] == 403
        assert (await post("metrics", request("metrics"), dd_api_key="k"))[0] == 202
        total = changed(SUM, "sum.aggregationTemporality", 2)
        assert (await post("metrics", request("metrics", total), dd_api_key="k"))[0] == 400
        assert (await post("logs", request("logs"), dd_api_key="k"))[0] == 415
        long = changed(SUM, "description", "x" * 600_000)
        assert (await post("metrics", request("metrics", long), dd_api_key="k"))[0] == 413
        other = changed(SUM, "sum.dataPoints.0.startTimeUnixNano", END)
        other = changed(other, "sum.dataPoints.0.timeUnixNano", "1791048401679000001")
        assert (await post("metrics", request("metrics", other), dd_api_key="k"))[0] == 202
        assert otlp.overwritten == 1  # of the same second
        assert (await post("metrics", request("metrics", HISTOGRAM), dd_api_key="k"))[0] == 202
        assert otlp.overwritten == 1


async def test_axiom_and_rotel(client: aiohttp.ClientSession) -> None:
    async with OtlpReceiver(vendor="axiom") as axiom, OtlpReceiver(vendor="rotel", prefix="/x") as rotel:
        assert (await Post(client, axiom)("metrics", request("metrics")))[0] == 415
        assert (await Post(client, axiom)("logs", request("logs")))[0] == 200
        assert (await Post(client, rotel)("logs", request("logs"), kind="application/json;charset=utf-8"))[0] == 400
        assert (await Post(client, rotel)("logs", request("logs")))[0] == 200


@pytest.mark.parametrize("signal", REQUESTS)
async def test_what_our_own_sink_writes_is_lost_by_no_receiver(client: aiohttp.ClientSession, signal: str) -> None:
    async with OtlpReceiver(vendor="rotel", now=lambda: NOW) as rotel:
        assert (await Post(client, rotel)(signal, (GOLDEN / f"otlp_{signal}.json").read_bytes()))[0] == 200


@pytest.mark.parametrize(
    ("signal", "item", "said"),
    [
        ("metrics", SUM, "asInt is text"),
        ("metrics", changed(SUM, "sum.dataPoints.0.asInt", 3), ""),
        ("metrics", changed(HISTOGRAM, "histogram.dataPoints.0.attributes", []), "count is text"),
        ("metrics", changed(changed(changed(HISTOGRAM, "histogram.dataPoints.0.count", 3),
                    "histogram.dataPoints.0.bucketCounts", [0, 2, 1]), "unit", "s"), "without attributes"),
        ("logs", changed(LOG, "body", {"kvlistValue": {}}), "has no values"),
    ],
)  # fmt: skip
async def test_rotel_loses_what_is_written_so(client: aiohttp.ClientSession, signal: str, item: Any, said: str) -> None:
    async with OtlpReceiver(vendor="rotel", now=lambda: NOW) as rotel:
        status, body = await Post(client, rotel)(signal, request(signal, item))
        assert status == (400 if said else 200)
        assert said.encode() in body


SIGNED = {
    "authorization": "AWS4-HMAC-SHA256 Credential=AKID/20261004/eu-west-1/{}/aws4_request, "
    "SignedHeaders=content-type;host;x-amz-date;x-aws-log-group;x-aws-log-stream, Signature=" + "0" * 64,
    "x_amz_date": "20261004T114820Z",
}


async def test_cloudwatch(client: aiohttp.ClientSession) -> None:
    now = 1_791_114_500.0  # 2026-10-04T11:48:20Z
    async with OtlpReceiver(vendor="cloudwatch", region="eu-west-1", now=lambda: now) as otlp:
        post = Post(client, otlp)

        def signed(service: str) -> dict[str, str]:
            return {name: value.format(service) for name, value in SIGNED.items()}

        group = {"x_aws_log_group": "g", "x_aws_log_stream": "s"}
        assert (await post("logs", request("logs")))[0] == 403
        assert (await post("logs", request("logs"), **signed("xray")))[0] == 403
        assert (await post("logs", request("logs"), **signed("logs")))[0] == 400
        assert (await post("logs", request("logs"), **signed("logs"), **group))[0] == 200
        assert (await post("logs", request("logs"), authorization="Bearer t", **group))[0] == 200
        assert (await post("traces", request("traces"), authorization="Bearer t"))[0] == 403
        assert (await post("traces", request("traces"), **signed("xray")))[0] == 200
        for bad in (
            changed(SPAN, "startTimeUnixNano", "1780000000000000000"),
            changed(SPAN, "name", "x" * 200_001),
        ):
            assert (await post("traces", request("traces", SPAN, bad), **signed("xray")))[0] == 400
        huge = {"attributes": [{"key": "k", "value": text("x" * 17_000)}]}
        assert (await post("traces", request("traces", resource=huge), **signed("xray")))[0] == 400
        many = [
            changed(
                SUM, "sum.dataPoints.0.attributes", [{"key": "k", "value": text(str(number))}]
            ) for number in range(1_001)
        ]  # fmt: skip
        status, body = await post("metrics", request("metrics", *many), **signed("monitoring"))
        assert (status, b"datapoints per request exceeded: 1000" in body) == (400, True)
        assert (await post("metrics", request("metrics", *many[1:]), **signed("monitoring")))[0] == 200


# --- trees ----------------------------------------------------------------------------------------------------------


def tree_span(
    span_id: int, parent: int | None = None, kind: int = 1, start: int = 100, end: int = 200, **more: Any
) -> Any:
    ids = {"traceId": "1" * 32, "spanId": f"{span_id:016x}"} | ({"parentSpanId": f"{parent:016x}"} if parent else {})
    of = [{"key": "faas.invocation_id", "value": text("r")}]
    times = {"startTimeUnixNano": start * 1_000_000, "endTimeUnixNano": end * 1_000_000}
    return {**ids, "name": f"s{span_id}", "kind": kind, **times, "attributes": of, **more}


ROOT = tree_span(1, kind=2)


def test_a_tree_is_one() -> None:
    assert_trees([ROOT, tree_span(2, 1), tree_span(3, 2), tree_span(2, 1), tree_span(4, 1, start=99, end=201)])
    assert_trees([tree_span(1, 9, kind=2)], external=[f"{9:016x}"])


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([ROOT, tree_span(2, 9)], "never came"),
        ([tree_span(2)], "0 SERVER spans"),
        ([ROOT, tree_span(2, 1, kind=2)], "2 SERVER spans"),
        ([ROOT, tree_span(2, 1, start=98)], "not within"),
        ([ROOT, tree_span(2, 1, end=202)], "not within"),
        ([ROOT, tree_span(2, 1), tree_span(2, 1, end=150)], "differs"),
    ],
)
def test_what_is_no_tree_is_named(spans: Any, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        assert_trees(spans)
