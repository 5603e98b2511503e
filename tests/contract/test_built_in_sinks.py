"""The contract, for every sink that comes with the project."""

from typing import Any

import orjson
import pytest

from telemetry_forwarder.failover.parcels import from_line, to_line
from telemetry_forwarder.interfaces import AwsResponse, Destination, HttpResponse
from telemetry_forwarder.records.lossless_json import exact_json
from telemetry_forwarder.records.record import decode
from telemetry_forwarder.sinks import load
from telemetry_forwarder.testing.metric_sink_contract import MetricSinkContract
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract
from telemetry_forwarder.variables.reading import read_all
from tests.builders import ORIGIN, WholeBatches


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


SINKS: tuple[SinkContract, ...] = (TestSplunk(), TestDatadog(), TestCloudWatchLogs())


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
