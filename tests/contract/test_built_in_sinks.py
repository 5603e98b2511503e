"""The contract, for every sink that comes with the project."""

from typing import Any

import orjson
import pytest

from telemetry_forwarder.failover.parcels import from_line, to_line
from telemetry_forwarder.interfaces import AwsResponse, Destination, HttpResponse
from telemetry_forwarder.otlp.protobuf import encode
from telemetry_forwarder.records.lossless_json import exact_json
from telemetry_forwarder.records.record import Record, decode
from telemetry_forwarder.sinks import load
from telemetry_forwarder.sinks.otlp_metrics import _interval
from telemetry_forwarder.testing.metric_sink_contract import MetricSinkContract
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract
from telemetry_forwarder.variables.reading import read_all
from tests.builders import ORIGIN, WholeBatches
from tests.sink_records import NOW_NS, make_span


class TestSplunk(SinkContract):
    answers = Answers(
        accept=HttpResponse(status=200, body=b'{"text":"Success","code":0}'),
        throttle=HttpResponse(status=503, body=b'{"text":"Server is busy","code":9}'),
        reject=HttpResponse(status=400, body=b'{"text":"Invalid data channel","code":11}'),
        deny=HttpResponse(status=403, body=b'{"text":"Invalid token","code":4}'),
        too_large=HttpResponse(status=413, body=b"<html>"),
        partial=lambda count: HttpResponse(
            status=400, body=b'{"text":"Invalid data format","code":6,"invalid-event-number":0}'
        ),
    )

    def destination(self) -> Destination[Any, Any]:
        return load("splunk")(read_all({"SPLUNK_HEC_URL": "http://127.0.0.1:1", "SPLUNK_HEC_TOKEN": "t"}))


def for_metrics(sink: str, environ: dict[str, str]) -> Destination[Any, Any]:
    """Return the destination of a sink's metrics, which it makes beside that of its log records."""
    made = load(sink)(read_all({"TELEMETRY_FORWARDER_METRICS": sink, **environ}))
    assert isinstance(made, tuple)
    return made[1]


class TestSplunkMetrics(MetricSinkContract):
    answers = TestSplunk.answers

    def destination(self) -> Destination[Any, Any]:
        return for_metrics("splunk", {"SPLUNK_HEC_URL": "http://127.0.0.1:1", "SPLUNK_HEC_TOKEN": "t"})


class TestDatadog(SinkContract):
    answers = Answers(
        accept=HttpResponse(status=202, body=b"{}"),
        throttle=HttpResponse(status=429, headers={"x-ratelimit-reset": "0"}),
        reject=HttpResponse(status=400, body=b'{"errors":[{"status":"400","title":"Bad Request"}]}'),
        deny=HttpResponse(status=403, body=b'{"errors":[{"status":"403","title":"Forbidden"}]}'),
        too_large=HttpResponse(status=413),
    )

    def destination(self) -> Destination[Any, Any]:
        return load("datadog")(read_all({"DD_API_KEY": "k", "DD_LOGS_CONFIG_LOGS_DD_URL": "http://127.0.0.1:1"}))


class TestDatadogMetrics(MetricSinkContract):
    answers = Answers(
        accept=HttpResponse(status=202, body=b'{"status":"ok"}'),
        throttle=HttpResponse(status=429, headers={"x-ratelimit-reset": "0"}),
        reject=HttpResponse(status=400, body=b'{"errors":["Payload is not in the expected format"]}'),
        deny=HttpResponse(status=403, body=b'{"errors":["Forbidden"]}'),
        too_large=HttpResponse(status=413, body=b'{"errors":["Payload too large"]}'),
    )

    def destination(self) -> Destination[Any, Any]:
        return for_metrics("datadog", {"DD_API_KEY": "k", "DD_DD_URL": "http://127.0.0.1:1"})


class TestCloudWatchLogs(SinkContract):
    answers = Answers(
        accept=AwsResponse(status=200, body={"nextSequenceToken": "1"}),
        throttle=AwsResponse(status=400, error="ThrottlingException", message="Rate exceeded"),
        reject=AwsResponse(status=400, error="InvalidParameterException", message="no"),
        deny=AwsResponse(status=400, error="AccessDeniedException", message="no"),
        too_large=AwsResponse(status=413, error="RequestEntityTooLarge"),
        partial=lambda count: AwsResponse(status=200, body={"rejectedLogEventsInfo": {"tooOldLogEventEndIndex": 1}}),
    )

    def destination(self) -> Destination[Any, Any]:
        return load("cloudwatch")(read_all({"CLOUDWATCH_LOG_GROUP": "/my/group", "CLOUDWATCH_LOG_STREAM": "one"}))


class TestCloudWatchMetrics(MetricSinkContract):
    answers = TestCloudWatchLogs.answers

    def destination(self) -> Destination[Any, Any]:
        own = {"CLOUDWATCH_LOG_GROUP": "/my/group", "CLOUDWATCH_LOG_STREAM": "one"}
        return load("cloudwatch")(read_all({"TELEMETRY_FORWARDER_METRICS": "on", **own}))

    def test_no_request_id_is_sent(self) -> None:
        """It is, but as no dimension: the event is a log event, too, and belongs to its request."""
        sink = self.destination().sink
        for record in self.records(9):
            document = orjson.loads(sink.encode(record).data)
            assert [one["Dimensions"] for one in document["_aws"]["CloudWatchMetrics"]] == [[["function_name"]]]
            assert document["lambda"]["request_id"] == record.request_id


class TestCloudWatchWithMetrics(TestCloudWatchLogs):
    """With metrics, log records are what they are without."""

    def destination(self) -> Destination[Any, Any]:
        return TestCloudWatchMetrics().destination()


def otlp(index: int = 0, **environ: str) -> Destination[Any, Any]:
    """Return the destination of log records, of metrics (1) or of traces (2)."""
    every = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
        "TELEMETRY_FORWARDER_METRICS": "otlp",
        "TELEMETRY_FORWARDER_TRACES": "on",
    }
    made = load("otlp")(read_all(every | environ))
    assert isinstance(made, tuple)
    return made[index]


ERROR = encode("Error", {"code": 3, "message": "no"})


class TestOtlp(SinkContract):
    answers = Answers(
        accept=HttpResponse(status=200, headers={"content-type": "application/x-protobuf"}),
        throttle=HttpResponse(status=503, headers={"retry-after": "0"}),
        reject=HttpResponse(status=400, body=ERROR, headers={"content-type": "application/x-protobuf"}),
        deny=HttpResponse(status=401, body=b'{"message":"unknown API key"}'),
        too_large=HttpResponse(status=413),
        partial=lambda count: HttpResponse(
            status=200,
            body=encode("ExportLogsServiceResponse", {"partialSuccess": {"rejectedLogRecords": "1"}}),
            headers={"content-type": "application/x-protobuf"},
        ),
    )

    def destination(self) -> Destination[Any, Any]:
        return otlp()


class TestOtlpAsJson(TestOtlp):
    answers = Answers(
        accept=HttpResponse(status=202, body=b"{}"),
        throttle=HttpResponse(status=429),
        reject=HttpResponse(status=500, body=b'{"code":13,"message":"no"}'),
        deny=HttpResponse(status=403),
        too_large=HttpResponse(status=413),
        partial=lambda count: HttpResponse(status=200, body=b'{"partialSuccess":{"rejectedLogRecords":"1"}}'),
    )

    def destination(self) -> Destination[Any, Any]:
        return otlp(OTEL_EXPORTER_OTLP_PROTOCOL="http/json")


class TestOtlpMetrics(MetricSinkContract):
    answers = TestOtlp.answers
    answers = Answers(
        accept=answers.accept, throttle=answers.throttle, reject=answers.reject, deny=answers.deny,
        too_large=answers.too_large,
    )  # fmt: skip

    shared_mark = b'"timeUnixNano":"'

    def mark(self, record: Record) -> bytes:
        """Return the end of its interval, which no other record has."""
        return b'"timeUnixNano":"%d"' % _interval(record)[1]

    def destination(self) -> Destination[Any, Any]:
        return otlp(1, OTEL_EXPORTER_OTLP_PROTOCOL="http/json")


class TestOtlpTraces(SinkContract):
    answers = TestOtlpMetrics.answers

    def destination(self) -> Destination[Any, Any]:
        return otlp(2, OTEL_EXPORTER_OTLP_PROTOCOL="http/json")

    def records(self, count: int) -> list[Record]:
        """Return spans, whose ids are what shows that they arrived."""
        return [
            make_span(trace_id=f"{number + 1:032x}", span_id=f"{number + 1:016x}", start_ns=NOW_NS + number)
            for number in range(count)
        ]

    shared_mark = b'"spanId":"'

    def mark(self, record: Record) -> bytes:
        assert record.fields is not None
        return f'"spanId":"{record.fields["span_id"]}"'.encode()

    @pytest.mark.skip(reason="a span has no text to cut")
    def test_oversize_record_is_cut_to_the_limit_and_marked(self) -> None: ...  # type: ignore[override]


SINKS: tuple[SinkContract, ...] = (TestSplunk(), TestDatadog(), TestCloudWatchLogs(), TestOtlp(), TestOtlpAsJson())


@pytest.mark.parametrize("sink", SINKS, ids=lambda sink: type(sink).__name__)
@pytest.mark.parametrize("kind", ["function", "platform.report", "unheardOf"])
@pytest.mark.parametrize("levels", [199, 200, 249, 254, 255, 600, 990, 1_022, 1_100, 100_000])
@pytest.mark.parametrize("around", [b"%b", b'{"requestId":%b}', b'"%b"'])
def test_a_record_of_any_depth_is_sent_by_every_sink(sink: SinkContract, kind: str, levels: int, around: bytes) -> None:
    """What was read can be written; as text, where as JSON it cannot."""
    deep = b"[" * levels + b'1,"the needle"' + b"]" * levels
    if around.startswith(b'"'):
        deep = deep.replace(b'"', b'\\"')
    element = b'{"time":"2026-03-02T10:15:30.123Z","type":"%b","record":%b}' % (kind.encode(), around % deep)
    (record,) = WholeBatches(ORIGIN).enrich_all(decode(b"[" + element + b"]", 0).items, "b")
    encoded = sink.destination().sink.encode(record)
    assert record.id.encode() in encoded.data
    if levels < 1_000:
        assert b"the needle" in encoded.data
    assert exact_json(from_line(to_line(record)).body) == exact_json(record.body)
