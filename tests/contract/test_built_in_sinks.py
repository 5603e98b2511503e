"""The contract, for every sink that comes with the project."""

from typing import Any

from telemetry_forwarder.interfaces import AwsResponse, Destination, HttpResponse
from telemetry_forwarder.sinks import load
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract


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
        return load("splunk")({"SPLUNK_HEC_URL": "http://127.0.0.1:1", "SPLUNK_HEC_TOKEN": "t"})


class TestDatadog(SinkContract):
    answers = Answers(
        accept=HttpResponse(status=202, body=b"{}"),
        throttle=HttpResponse(status=429, headers={"x-ratelimit-reset": "0"}),
        reject=HttpResponse(status=400, body=b'{"errors":[{"status":"400","title":"Bad Request"}]}'),
        deny=HttpResponse(status=403, body=b'{"errors":[{"status":"403","title":"Forbidden"}]}'),
        too_large=HttpResponse(status=413),
    )

    def destination(self) -> Destination[Any, Any]:
        return load("datadog")({"DD_API_KEY": "k", "DD_LOGS_CONFIG_LOGS_DD_URL": "http://127.0.0.1:1"})


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
        return load("cloudwatch")({"CLOUDWATCH_LOG_GROUP": "/my/group", "CLOUDWATCH_LOG_STREAM": "one"})
