"""What goes to an OTLP receiver over the wire, read by the official classes, and how its answers are read."""

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_forwarder.errors import ConfigError, EncodeError
from telemetry_forwarder.intake.otlp_records import records_in
from telemetry_forwarder.interfaces import (
    Delivered,
    Denied,
    Destination,
    DropReason,
    Encoded,
    HeaderList,
    HttpResponse,
    Partial,
    Rejected,
    Retry,
    Signing,
    Tls,
    TooLarge,
)
from telemetry_forwarder.otlp.protobuf import decode, encode, normal
from telemetry_forwarder.otlp.values import for_readers
from telemetry_forwarder.records import record as records
from telemetry_forwarder.records.derived import body_of, records_of
from telemetry_forwarder.records.record import METRICS, SPAN, Record, Signal
from telemetry_forwarder.signals.points import MetricKind, Point, metrics
from telemetry_forwarder.sinks.otlp import create
from telemetry_forwarder.sinks.otlp_logs import UID
from telemetry_forwarder.sinks.otlp_metrics import BOUNDS, OtlpMetrics, _interval, _quickly
from telemetry_forwarder.sinks.otlp_traces import _in_protobuf, span
from telemetry_forwarder.variables.reading import is_sound, read_all, wanted_sinks
from telemetry_forwarder.variables.types import Secret, SecretReference
from tests.builders import record
from tests.sink_records import BARE, FULL, GOLDEN, METRIC_SAMPLES, NOW_MS, SAMPLES, SPAN_SAMPLES, make_record, make_span
from tests.telemetry_forwarder.otlp.test_protobuf import OFFICIAL, in_json

ENVIRON = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "https://otlp.example.com/x/",
    "TELEMETRY_FORWARDER_METRICS": "on",
    "TELEMETRY_FORWARDER_TRACES": "on",
}
AS_JSON = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"}
SIGNALS = {
    "logs": ("ExportLogsServiceRequest", SAMPLES),
    "metrics": ("ExportMetricsServiceRequest", METRIC_SAMPLES),
    "traces": ("ExportTraceServiceRequest", SPAN_SAMPLES),
}
each_signal = pytest.mark.parametrize("signal", SIGNALS)


def made(**environ: str | None) -> dict[str, Destination[Any, Any]]:
    """Return the destinations by the name of their sink."""
    given = {name: value for name, value in {**ENVIRON, **environ}.items() if value is not None}
    found = create(read_all(given))
    return {one.sink.name: one for one in (found if isinstance(found, tuple) else (found,))}


def sink_of(signal: str, **environ: str | None) -> Any:
    return made(**environ)["otlp" if signal == "logs" else f"otlp-{signal}"].sink


def item_of(record: Record, signal: str = "logs", **environ: str | None) -> dict[str, Any]:
    """Return the one item of a request in JSON, as the official class reads the request in protobuf."""
    sink = sink_of(signal, **environ)
    body = sink.request([sink.encode(record)]).body
    found = in_json(OFFICIAL[SIGNALS[signal][0]].FromString(body))
    for name in (sink.wire.resources, sink.wire.scopes, sink.wire.items):
        (found,) = found[name]
    return found


def attributes(found: dict[str, Any]) -> dict[str, Any]:
    """Return attributes as a plain dict; each name must be there once."""
    pairs = [(one["key"], *one["value"].values()) for one in found.get("attributes", ())]
    assert len({key for key, _ in pairs}) == len(pairs)
    return dict(pairs)


# --- requests -------------------------------------------------------------------------------------------------------


@each_signal
def test_the_request_is_the_golden_one(signal: str) -> None:
    _, samples = SIGNALS[signal]
    sink = sink_of(signal, **AS_JSON)
    request = sink.request([sink.encode(record) for record in samples])
    assert request.body == (GOLDEN / f"otlp_{signal}.json").read_bytes()
    assert (request.method, request.url) == ("POST", f"https://otlp.example.com/x/v1/{signal}")
    assert request.headers == {"content-type": "application/json"}


@each_signal
def test_in_protobuf_it_says_the_same_to_the_official_class(signal: str) -> None:
    name, samples = SIGNALS[signal]
    sink = sink_of(signal)
    request = sink.request([sink.encode(record) for record in samples])
    assert request.headers == {"content-type": "application/x-protobuf"}
    golden = orjson.loads((GOLDEN / f"otlp_{signal}.json").read_bytes())
    assert in_json(OFFICIAL[name].FromString(request.body)) == normal(name, golden)


def test_json_has_what_readers_cannot_do_without() -> None:
    """Numbers, empty lists: without them a common reader answers 200 and loses the point, or refuses the request."""
    golden = orjson.loads((GOLDEN / "otlp_metrics.json").read_bytes())
    assert for_readers(golden) == golden
    assert for_readers(
        {"histogram": {"dataPoints": [{"count": "3", "bucketCounts": ["1", "2"]}]}, "v": [{"kvlistValue": {}}]}
    ) == {
        "histogram": {"dataPoints": [{"count": 3, "bucketCounts": [1, 2], "attributes": []}]},
        "v": [{"kvlistValue": {"values": []}}],
    }


def test_records_of_one_environment_share_an_envelope_and_stay_in_order() -> None:
    sink = sink_of("logs")
    batch = [sink.encode(record) for record in SAMPLES]
    envelopes = decode("ExportLogsServiceRequest", sink.request(batch).body)["resourceLogs"]
    names = [attributes(one["resource"]).get("faas.instance") for one in envelopes]
    assert names == [SAMPLES[0].origin.instance_id, None]
    sizes = [len(one["scopeLogs"][0]["logRecords"]) for one in envelopes]
    assert sizes == [4, 4]
    there_and_back = [batch[0], batch[-1], batch[1]]
    assert len(decode("ExportLogsServiceRequest", sink.request(there_and_back).body)["resourceLogs"]) == 3


def test_the_resource_is_the_users_first() -> None:
    sink = sink_of(
        "logs", OTEL_RESOURCE_ATTRIBUTES="service.name=shop,team=a%2Cb,cloud.provider=mine", OTEL_SERVICE_NAME="till",
    )  # fmt: skip
    (envelope,) = decode("ExportLogsServiceRequest", sink.request([sink.encode(SAMPLES[0])]).body)["resourceLogs"]
    found = attributes(envelope["resource"])
    assert (found["service.name"], found["team"], found["cloud.provider"]) == ("till", "a,b", "mine")
    assert found["faas.max_memory"] == str(512 * 1_048_576)  # in bytes


# --- log records ----------------------------------------------------------------------------------------------------


def test_the_rest_of_a_json_line_becomes_attributes_flat_and_none_is_there_twice() -> None:
    line = {"message": "no stock", "a": {"b": 1, "c": {"d": [1, {}]}}, "a.b": 2.5, "none": None, "empty": {},
            "telemetry.type": "mine", "log.record.uid": "mine", "record.telemetry.type": "there",
            "big": 2**70, "yes": True}  # fmt: skip
    found = item_of(make_record(line, request_id="r"))
    assert found["body"] == {"stringValue": "no stock"}
    kept = attributes(found)
    assert kept["a.b"] == "1"
    assert kept["a.b_"] == 2.5
    assert (kept["a.c.d"], kept["empty"], kept["big"], kept["yes"]) == ("[1,{}]", "{}", str(2**70), True)
    assert (kept["telemetry.type"], kept["record.telemetry.type"], kept["record.telemetry.type_"]) == (
        "function", "there", "mine",
    )  # fmt: skip
    assert (kept["log.record.uid"], kept["record.log.record.uid"]) == ("0190f3-1", "mine")
    assert "none" not in kept


def test_a_json_line_without_a_message_is_a_body_that_keeps_its_form() -> None:
    found = item_of(make_record({"order": 17, "items": ["a", None], "more": {}}))
    assert found["body"] == {
        "kvlistValue": {
            "values": [
                {"key": "order", "value": {"intValue": "17"}},
                {"key": "items", "value": {"arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "null"}]}}},
                {"key": "more", "value": {"kvlistValue": {}}},
            ]
        }
    }


def test_more_members_than_a_record_has_attributes_are_a_body() -> None:
    found = item_of(make_record({"message": "m"} | {f"k{number}": number for number in range(129)}))
    assert len(found["body"]["kvlistValue"]["values"]) == 130
    assert len(found["attributes"]) == 4


@pytest.mark.parametrize(
    ("level", "word", "expected"),
    [("info", None, (9, "INFO")), ("warn", "Warning", (13, "Warning")), ("critical", "FATAL", (21, "FATAL")),
     ("debug", 10, (5, "DEBUG")), (None, None, (None, None))],
)  # fmt: skip
def test_the_severity_keeps_the_records_own_word(level: str | None, word: Any, expected: tuple[Any, Any]) -> None:
    body: Any = {"message": "m", "level": word} if word is not None else "m"
    found = item_of(make_record(body, level=level))
    assert (found.get("severityNumber"), found.get("severityText")) == expected


TRACE, SPAN_ID = "68c4a1f03b2a90d1c7e845f6a0b1c2d3", "7f3e1d2c4b5a6978"


@pytest.mark.parametrize(
    ("line", "trace", "span"),
    [
        ({}, TRACE, None),
        ({"trace_id": "A" * 32, "span_id": SPAN_ID}, "a" * 32, SPAN_ID),
        ({"trace.id": "b" * 32, "span.id": "0" * 16}, "b" * 32, None),
        ({"trace_id": "0" * 32, "span_id": SPAN_ID}, TRACE, None),
        ({"trace_id": "1-68c4a1f0-3b2a90d1c7e845f6a0b1c2d3"}, TRACE, None),
        ({"trace_id": 17}, TRACE, None),
    ],
)
def test_a_lines_own_trace_goes_before_that_of_its_request(line: Any, trace: str, span: str | None) -> None:
    found = item_of(make_record({"message": "m"} | line, trace_id=TRACE))
    assert (found["traceId"], found.get("spanId")) == (trace, span)
    text = item_of(make_record("a line", trace_id=TRACE))
    assert text["traceId"] == TRACE


def test_a_time_before_1970_and_one_after_2554_are_written_as_the_nearest() -> None:
    assert "timeUnixNano" not in item_of(make_record("x", time_ms=-5))
    assert item_of(make_record("x", time_ms=10**17))["timeUnixNano"] == str(2**64 - 1)


# --- metrics --------------------------------------------------------------------------------------------------------


def metric(points: list[dict[str, Any]], **more: Any) -> Record:
    body = {"points": points, "attributes": more.pop("attributes", {})}
    return make_record(body, METRICS, fields=body, **more)


def point(name: str, value: Any, unit: str = "1", kind: str = "count") -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "kind": kind}


def test_names_and_units_are_those_of_the_conventions() -> None:
    found = item_of(metric([point("lambda.runtime_duration", 250, "ms", "distribution")]), "metrics")
    (data,) = found["histogram"]["dataPoints"]
    assert (found["name"], found["unit"], data["sum"], data["min"], data["max"]) == (
        "faas.invoke_duration", "s", 0.25, 0.25, 0.25,
    )  # fmt: skip
    assert (data["count"], data["bucketCounts"][BOUNDS["s"].index(0.25)]) == ("1", "1")  # its bound belongs to it
    memory = item_of(metric([point("lambda.memory_size", 512, "MiBy", "gauge")]), "metrics")
    assert (memory["name"], memory["unit"]) == ("aws.lambda.memory_limit", "By")
    assert memory["gauge"]["dataPoints"][0]["asDouble"] == 512 * 1_048_576
    theirs = item_of(metric([point("orders.paid", 2, "ms", "distribution")]), "metrics")
    assert (theirs["name"], theirs["unit"]) == ("orders.paid", "ms")


def test_points_of_one_name_become_one() -> None:
    """Two values of one series at one time are one too many."""
    counts = item_of(metric([point("a", 1), point("a", 2.5)], attributes={"k": "v"}), "metrics")
    assert counts["sum"]["dataPoints"][0]["asDouble"] == 3.5
    assert attributes(counts["sum"]["dataPoints"][0]) == {"k": "v"}
    spread = item_of(metric([point("a", 1, "", "distribution"), point("a", [2, 90], "", "distribution")]), "metrics")
    assert spread["histogram"]["dataPoints"][0]["count"] == "3"
    assert item_of(metric([point("a", 1, "", "gauge"), point("a", 2, "", "gauge")]), "metrics")["gauge"]


def test_what_no_receiver_takes_is_left_out() -> None:
    assert item_of(metric([point("a", [1e308, 1e308], "", "distribution"), point("b", 1)]), "metrics")["name"] == "b"
    with pytest.raises(EncodeError, match="without points"):
        sink_of("metrics").encode(metric([point("a", "x")]))


POINTS = st.builds(
    Point,
    st.sampled_from(["lambda.duration", "lambda.invocations", "lambda.memory_used", "lambda.estimated_cost", "n", "ü"]),
    st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, 1, 3.2, 1e300, 10**400]),
    st.sampled_from(["ms", "1", "MiBy", "USD", ""]),
    st.sampled_from(list(MetricKind)),
)


@given(
    st.lists(POINTS, max_size=6), st.dictionaries(st.text(max_size=3), st.text(max_size=3), max_size=2), st.booleans()
)
def test_what_is_written_fast_is_what_is_written_slowly(
    points: list[Point], attributes: dict[str, str], has_counts: bool
) -> None:
    """Every record of a known shape, and no other, goes the fast way."""
    fields = metrics(points, NOW_MS, "platform", attributes).fields
    one = replace(METRIC_SAMPLES[0], fields=fields, body=fields)
    fast = _quickly(one, has_counts)
    sink = OtlpMetrics(url="http://a", limits=made()["otlp-metrics"].sink.limits, has_counts=has_counts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("telemetry_forwarder.sinks.otlp_metrics._quickly", lambda *given: None)
        try:
            slow = sink.encode(one).data
        except EncodeError:
            slow = None
    assert fast in (slow, None)
    is_usual = points and len({one.name for one in points}) == len(points)
    if is_usual and all(isinstance(one.value, int | float) and abs(one.value) < 1e80 for one in points):
        assert fast is not None


def test_no_two_intervals_of_a_series_meet() -> None:
    records = [metric([point("a", 1)], batch="b", index=index, time_ms=NOW_MS) for index in range(10_000)]
    records += [metric([point("a", 1)], batch="b", index=index, time_ms=NOW_MS + 1) for index in range(10_000)]
    intervals = sorted(map(_interval, records))
    assert all(start < end for start, end in intervals)
    assert all(end < start for (_, end), (start, _) in pairwise(intervals))


def test_datadog_gets_counts_as_distributions_and_the_resource_as_tags() -> None:
    """Of two counts of one second it keeps the last."""
    sink = sink_of("metrics", OTEL_EXPORTER_OTLP_ENDPOINT="https://otlp.us3.datadoghq.com")
    request = sink.request([sink.encode(metric([point("a", 1)]))])
    assert "resource_attributes_as_tags" in request.headers["dd-otel-metric-config"]
    found = decode("ExportMetricsServiceRequest", request.body)
    assert "histogram" in found["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]
    assert sink.limits.max_bytes == 500_000


@pytest.mark.parametrize("shape", ["sum", "histogram", "exponentialHistogram"])
def test_a_cumulative_metric_of_an_sdk_does_not_cost_datadog_the_records_beside_it(shape: str) -> None:
    item = {"name": "a", shape: {"aggregationTemporality": 2, "dataPoints": [{"timeUnixNano": "5"}]}}
    fields = {"points": [], "otlp": {"item": item}}
    record = make_record(fields, METRICS, fields=fields)
    with pytest.raises(EncodeError, match="TEMPORALITY_PREFERENCE to `delta`"):
        sink_of("metrics", OTEL_EXPORTER_OTLP_ENDPOINT="https://otlp.datadoghq.eu").encode(record)
    assert sink_of("metrics").encode(record).data


# --- spans ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["trace_id", "span_id", "name", "start_ns", "end_ns"])
def test_a_span_without_what_it_needs_is_refused_by_name(missing: str) -> None:
    with pytest.raises(EncodeError, match=missing):
        sink_of("traces").encode(make_span(**{missing: None}))
    with pytest.raises(EncodeError, match="traceId of Span is no hexadecimal"):
        sink_of("traces").encode(make_span(trace_id="x" * 32))


def test_a_span_has_a_status_only_if_there_was_an_error() -> None:
    assert "status" not in item_of(make_span(message="not an error"), "traces")
    assert item_of(make_span(error=True), "traces")["status"] == {"code": 2}


# --- what the function's own SDK sent -------------------------------------------------------------------------------


def test_what_an_sdk_sent_goes_on_unharmed_in_its_own_resource_and_scope() -> None:
    item = {"traceId": TRACE, "spanId": SPAN_ID, "name": "GET /", "kind": 3, "startTimeUnixNano": "5",
            "endTimeUnixNano": "6", "events": [{"timeUnixNano": "5", "name": "e"}]}  # fmt: skip
    unknown = {"key": "service.name", "value": {"stringValue": "unknown_service:python"}}
    theirs = {"attributes": [unknown, {"key": "faas.name", "value": {"stringValue": "theirs"}}]}
    fields = {"otlp": {"resource": theirs, "scope": {"name": "opentelemetry.urllib"}, "item": item}}
    for environ in ({}, AS_JSON):
        sink = sink_of("traces", **environ)
        record = make_record(fields, SPAN, fields=fields)
        body = sink.request([sink.encode(record), sink.encode(make_span())]).body
        found = orjson.loads(body) if environ else decode("ExportTraceServiceRequest", body)
        first, second = found["resourceSpans"]
        assert first["scopeSpans"] == [{"scope": {"name": "opentelemetry.urllib"}, "spans": [item]}]
        named = attributes(first["resource"])
        assert (named["service.name"], named["faas.name"], named["cloud.region"]) == ("Orders", "theirs", "eu-west-1")
        assert second["scopeSpans"][0]["scope"]["name"] == "telemetry-forwarder"


@pytest.mark.parametrize("environ", [{}, AS_JSON], ids=["protobuf", "JSON"])
@pytest.mark.parametrize(
    "given",
    [
        {"item": {"traceId": "x"}}, {"item": {"attributes": {}}}, {"item": {}, "scope": [1]},
        {"item": {}, "resource": {"attributes": 1}}, {"item": {}, "resource": {"attributes": [1]}},
    ],
)  # fmt: skip
def test_what_an_sdk_sent_malformed_is_refused_by_itself(given: Any, environ: dict[str, str]) -> None:
    """In a request it would cost the records beside it."""
    with pytest.raises(EncodeError):
        sink_of("traces", **environ).encode(make_record({"otlp": given}, SPAN, fields={"otlp": given}))


def test_a_log_record_of_an_sdk_is_put_together_again() -> None:
    sent = {
        "timeUnixNano": "1772446530100000123", "severityNumber": 10, "severityText": "INFO2",
        "body": {"stringValue": "x"}, "traceId": TRACE, "spanId": SPAN_ID, "flags": 1, "eventName": "e",
        "attributes": [{"key": "n", "value": {"intValue": "3"}}, {"key": "l", "value": {"arrayValue": {
            "values": [{"doubleValue": 0.5}]}}}],
    }  # fmt: skip
    theirs = {"attributes": [{"key": "service.name", "value": {"stringValue": "theirs"}}]}
    scope = {"name": "their.logger", "version": "2"}
    request = {"resourceLogs": [{"resource": theirs, "scopeLogs": [{"scope": scope, "logRecords": [sent]}]}]}
    derived = records_in(Signal.LOG, request, NOW_MS).derived
    (record,) = records_of(FULL, records.decode(body_of(derived), NOW_MS).items, "0" * 24)
    for environ in ({}, AS_JSON):
        sink = sink_of("logs", **environ)
        body = sink.request([sink.encode(record)]).body
        found = orjson.loads(body) if environ else decode("ExportLogsServiceRequest", body)
        (envelope,) = found["resourceLogs"]
        assert attributes(envelope["resource"])["service.name"] == "theirs"
        assert envelope["scopeLogs"][0]["scope"] == scope
        (item,) = envelope["scopeLogs"][0]["logRecords"]
        assert item.pop("observedTimeUnixNano") == f"{NOW_MS}000000"
        assert item.pop("attributes") == [*sent["attributes"], {"key": UID, "value": {"stringValue": record.id}}]
        assert item == {name: value for name, value in sent.items() if name != "attributes"}


def test_a_line_that_only_looks_like_it_is_a_line() -> None:
    found = item_of(make_record({"otlp": {"item": {"traceId": "x"}}}))
    assert found["body"]["kvlistValue"]


# --- answers --------------------------------------------------------------------------------------------------------

PROTOBUF = {"content-type": "application/x-protobuf"}


def verdict(status: int, body: bytes = b"", count: int = 3, signal: str = "logs", **headers: str) -> Any:
    sink = sink_of(signal)
    batch: list[Encoded] = [sink.encode(SIGNALS[signal][1][0])] * count
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return sink.verdict(batch, HttpResponse(status=status, body=body, headers=named))


def partial(rejected: int, message: str = "", name: str = "rejectedLogRecords") -> bytes:
    inner = {name: str(rejected), "errorMessage": message}
    return encode(f"Export{'Logs' if 'Log' in name else 'Metrics'}ServiceResponse", {"partialSuccess": inner})


@pytest.mark.parametrize("status", [200, 202])
@pytest.mark.parametrize("body", [b"", b"{}", b'{"partialSuccess":null}', b'{"partialSuccess":{}}', b'{"errors":[]}'])
def test_every_way_to_say_success(status: int, body: bytes) -> None:
    assert verdict(status, body) == Delivered()
    if not body:
        assert verdict(status, body, content_type="application/x-protobuf") == Delivered()


def test_a_partial_success_is_never_sent_again_and_counts_what_was_rejected() -> None:
    found = verdict(200, partial(2, "too old"), content_type="application/x-protobuf")
    assert isinstance(found, Partial)
    assert (list(found.rejected.values()), found.retry) == ([DropReason.REJECTED] * 2, ())
    assert "rejected 2" in found.detail
    assert "too old" in found.detail
    as_json = verdict(200, b'{"partialSuccess":{"rejectedLogRecords":"2"}}', content_type="application/json")
    assert len(as_json.rejected) == 2
    points = verdict(200, partial(40, name="rejectedDataPoints"), 3, "metrics", content_type="application/x-protobuf")
    assert len(points.rejected) == 3  # of a record that has several


def test_a_warning_is_logged_and_the_records_are_delivered() -> None:
    found = verdict(200, partial(0, "use a newer version"), content_type="application/x-protobuf")
    assert isinstance(found, Delivered)
    assert "use a newer version" in (found.warning or "")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_four_statuses_are_retried_and_no_other(status: int) -> None:
    assert verdict(status, retry_after="7") == Retry(after=7.0, detail=f"HTTP {status}")


@pytest.mark.parametrize("status", [400, 408, 409, 418, 422, 425, 500, 501, 505, 507])
def test_others_are_rejections(status: int) -> None:
    found = verdict(status, encode("Error", {"code": 3, "message": "bad"}), content_type=PROTOBUF["content-type"])
    assert found == Rejected(f'HTTP {status} ("bad")')
    assert verdict(status, b"\xff", content_type="application/x-protobuf") == Rejected(f"HTTP {status}")


def test_a_date_is_compared_with_the_answers_own() -> None:
    at = {"retry_after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}
    assert verdict(503, **at).after == 30.0
    assert verdict(503, retry_after=at["date"], date=at["retry_after"]).after == 0.0
    assert verdict(503, retry_after=at["retry_after"], date="yesterday").after == 0.0
    assert verdict(503, retry_after="Wed, 99 Oct 2026 07:28:30 GMT", date=at["date"]).after == 0.0


@pytest.mark.parametrize(
    ("status", "body", "reason", "said"),
    [
        (200, b"<html>Sign in", DropReason.WRONG_ADDRESS, "something else answered"),
        (200, b"hello there", DropReason.WRONG_ADDRESS, "something else answered"),
        (200, b"[]", DropReason.WRONG_ADDRESS, "something else answered"),
        (301, b"", DropReason.WRONG_ADDRESS, "redirects are not followed"),
        (404, b"", DropReason.WRONG_ADDRESS, "the path is part of it"),
        (415, b"", DropReason.WRONG_ADDRESS, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        (401, b"", DropReason.UNAUTHORIZED, "OTEL_EXPORTER_OTLP_LOGS_HEADERS"),
        (403, b"", DropReason.UNAUTHORIZED, "OTEL_EXPORTER_OTLP_HEADERS"),
    ],
)
def test_what_is_the_settings_fault_keeps_the_records(status: int, body: bytes, reason: DropReason, said: str) -> None:
    found = verdict(status, body)
    assert isinstance(found, Denied)
    assert found.reason is reason
    assert said in found.detail


def test_too_large_is_split_also_where_cloudwatch_calls_it_400() -> None:
    assert isinstance(verdict(413), TooLarge)
    said = b'{"message":"Maximum number of datapoints per request exceeded: 1000."}'
    assert isinstance(verdict(400, said, signal="metrics"), TooLarge)


# --- settings -------------------------------------------------------------------------------------------------------


def test_each_signal_is_a_destination_if_it_is_wanted() -> None:
    assert list(made()) == ["otlp", "otlp-metrics", "otlp-traces"]
    assert list(made(TELEMETRY_FORWARDER_METRICS="splunk", TELEMETRY_FORWARDER_TRACES="off")) == ["otlp"]
    only = made(OTEL_EXPORTER_OTLP_ENDPOINT=None, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="https://x.example.com/")
    assert {name: one.delivery.url for name, one in only.items()} == {"otlp-traces": "https://x.example.com/"}


@pytest.mark.parametrize(
    ("given", "url"),
    [("https://h", "https://h/"), ("https://h/a/", "https://h/a/"), ("http://h:4318/v1/logs", "http://h:4318/v1/logs")],
)
def test_a_signals_own_address_is_used_as_it_is(given: str, url: str) -> None:
    assert made(OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=given)["otlp"].delivery.url == url


def test_our_own_address_goes_before_that_of_the_functions_sdk() -> None:
    found = made(OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4318", TELEMETRY_FORWARDER_OTLP_ENDPOINT="https://h/")
    assert found["otlp"].delivery.url == "https://h/v1/logs"


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://h"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://h"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, False),  # a collector beside the function
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1]:4318"}, False),
        ({"TELEMETRY_FORWARDER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"TELEMETRY_FORWARDER_SINKS": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "a=b"}, False),
    ],
)
def test_an_address_chooses_the_sink(environ: dict[str, str], wanted: bool) -> None:
    assert ("otlp" in wanted_sinks(read_all(environ))) is wanted


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": None}, "OTEL_EXPORTER_OTLP_ENDPOINT is not set"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "gRPC is not spoken here"),
        ({"OTEL_SDK_DISABLED": "true"}, "nothing is sent by OTLP"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": None, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://h",
             "TELEMETRY_FORWARDER_TRACES": "off"},
            "traces are off: set TELEMETRY_FORWARDER_TRACES",
        ),
    ],
)  # fmt: skip
def test_what_keeps_the_sink_from_running_is_said(environ: dict[str, str | None], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(**environ)
    given = {name: value for name, value in {**ENVIRON, **environ}.items() if value is not None}
    assert not is_sound("otlp", read_all(given))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4317", "gRPC"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h/v1/logs", "leave that out"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc", "counts for all signals"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative", "deltatocumulative"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem", "without a client certificate"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,c", "key=value"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz", "key=value"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b=c", "key=value"),
    ],
)
def test_likely_mistakes_are_said_once(name: str, value: str, said: str) -> None:
    found = made(**{name: value})
    problems = [str(problem) for one in found.values() for problem in one.problems if problem.variable == name]
    assert len(problems) == 1
    assert said in problems[0]


def test_headers_are_secrets() -> None:
    found = made(
        OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20hunter2, x-team=a b",
        OTEL_EXPORTER_OTLP_LOGS_HEADERS="x-dataset=logs",
        OTEL_EXPORTER_OTLP_HEADERS_SSM_PARAMETER="/otlp/headers",
    )
    assert found["otlp"].delivery.headers == (
        HeaderList(Secret("x-dataset=logs")),
        HeaderList(SecretReference("ssm", "/otlp/headers")),
        HeaderList(Secret("Authorization=Bearer%20hunter2, x-team=a b")),
    )
    assert "hunter2" not in repr(found)
    wrong = read_all({**ENVIRON, "OTEL_EXPORTER_OTLP_HEADERS": "Bearer hunter2"})
    assert "hunter2" not in str(wrong.problems("otlp"))
    assert "OTEL_EXPORTER_OTLP_HEADERS" in str(wrong.problems("otlp"))


GROUP = "x-aws-log-group=g,x-aws-log-stream=s"


def test_requests_to_cloudwatch_are_signed() -> None:
    found = made(
        OTEL_EXPORTER_OTLP_ENDPOINT=None,
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="https://logs.eu-west-1.amazonaws.com/v1/logs",
        OTEL_EXPORTER_OTLP_LOGS_HEADERS=GROUP,
        OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="https://monitoring.cn-north-1.amazonaws.com.cn/v1/metrics",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="https://vpce-0a1b.xray.us-gov-west-1.vpce.amazonaws.com/v1/traces",
    )
    assert {name: one.delivery.signing for name, one in found.items()} == {
        "otlp": Signing("logs", "eu-west-1"),
        "otlp-metrics": Signing("monitoring", "cn-north-1"),
        "otlp-traces": Signing("xray", "us-gov-west-1"),
    }
    assert [one.sink.limits.max_records for one in found.values()] == [10_000, 10, 10_000]
    assert found["otlp-traces"].sink.limits.max_record_bytes == 200_000


def test_a_bearer_token_is_no_signature_but_xray_takes_none() -> None:
    base = {"OTEL_EXPORTER_OTLP_ENDPOINT": None, "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer t"}
    logs = made(
        **base,
        OTEL_EXPORTER_OTLP_LOGS_ENDPOINT="https://logs.eu-west-1.amazonaws.com/v1/logs",
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="https://xray.eu-west-1.amazonaws.com/v1/traces",
    )
    assert logs["otlp"].delivery.signing is None
    assert logs["otlp-traces"].delivery.signing == Signing("xray", "eu-west-1")


def test_cloudwatch_logs_without_a_group_would_refuse_everything() -> None:
    url = "https://logs.eu-west-1.amazonaws.com/v1/logs"
    with pytest.raises(ConfigError, match="x-aws-log-group=GROUP"):
        made(OTEL_EXPORTER_OTLP_ENDPOINT=None, OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=url)
    by_reference = made(OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=url, OTEL_EXPORTER_OTLP_HEADERS_SSM_PARAMETER="/otlp/headers")
    assert by_reference["otlp"].delivery.signing is None  # most likely it holds a token


def test_axiom_takes_metrics_in_protobuf_alone() -> None:
    found = made(OTEL_EXPORTER_OTLP_ENDPOINT="https://api.axiom.co", **AS_JSON)
    assert [one.sink.is_json for one in found.values()] == [True, False, True]
    assert "protobuf alone" in str(found["otlp"].problems)


def test_certificates_and_compression_are_for_otlp_alone() -> None:
    prefix = "OTEL_EXPORTER_OTLP_"
    files = {"CERTIFICATE": "/ca.pem", "CLIENT_CERTIFICATE": "/c.pem", "CLIENT_KEY": "/k.pem"}
    found = made(**{prefix + name: path for name, path in files.items()}, OTEL_EXPORTER_OTLP_COMPRESSION="none")
    names = tuple(prefix + name for name in files)
    assert found["otlp"].delivery.tls == Tls(ca_file="/ca.pem", certificate="/c.pem", key="/k.pem", variables=names)
    assert found["otlp"].delivery.gzip is False
    assert made()["otlp"].delivery.gzip is True


def test_a_record_that_is_too_large_for_the_receiver_is_refused_by_name() -> None:
    huge = make_span(attributes={"a": "x" * 1_100_000})
    with pytest.raises(EncodeError, match="1100"):
        sink_of("traces").encode(huge)
    with pytest.raises(EncodeError, match="bytes"):
        sink_of("metrics").encode(metric([point("a" * 1_100_000, 1)]))


def test_records_of_a_bare_origin_have_a_service_too() -> None:
    sink = sink_of("logs")
    bare = make_record("x", origin=replace(BARE, function_name=""))
    (envelope,) = decode("ExportLogsServiceRequest", sink.request([sink.encode(bare)]).body)["resourceLogs"]
    assert attributes(envelope["resource"])["service.name"] == "unknown_service"


def test_nothing_is_sent_to_our_own_receiver() -> None:
    """An SDK's address may be it, and what came from there would come again."""
    with pytest.raises(ConfigError, match="our own receiver's address"):
        made(OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4318", TELEMETRY_FORWARDER_OTLP_RECEIVER="true")
    found = made(OTEL_EXPORTER_OTLP_ENDPOINT="http://localhost:4319", TELEMETRY_FORWARDER_OTLP_RECEIVER="true")
    assert found["otlp"].delivery.url == "http://localhost:4319/v1/logs"


VALUES = st.text() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.none() | st.lists(st.text())
IDS = st.integers(1, 2**64 - 1).map("{:016x}".format)
SPANS = st.fixed_dictionaries(
    {
        "trace_id": st.integers(1, 2**128 - 1).map("{:032x}".format),
        "span_id": IDS,
        "name": st.text(),
        "kind": st.sampled_from(["server", "internal", "client", "other"]),
        "start_ns": st.integers(0, 2**63),
        "end_ns": st.integers(0, 2**63),
        "attributes": st.dictionaries(st.text(), VALUES, max_size=5),
    },
    optional={
        "parent_id": IDS,
        "error": st.booleans(),
        "message": st.text(),
        "links": st.lists(
            st.fixed_dictionaries({"trace_id": IDS.map(lambda one: one * 2), "span_id": IDS}), max_size=2
        ),
        "flags": st.integers(0, 255),
        "trace_state": st.text(),
    },
)


@given(SPANS)
def test_the_fast_way_to_write_a_span_writes_what_the_table_says(fields: dict[str, Any]) -> None:
    one = record(fields, type=SPAN)
    fast = _in_protobuf(one)
    if fast is not None:
        assert fast == encode("Span", span(one))
