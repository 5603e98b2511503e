"""The contract, for the sinks of Amazon's streams."""

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from telemetry_forwarder.interfaces import Destination, HttpResponse
from telemetry_forwarder.sinks import load
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract
from telemetry_forwarder.variables.reading import read_all


def error(kind: str, status: int = 400) -> HttpResponse:
    body = orjson.dumps({"__type": kind, "message": "as it is"})
    return HttpResponse(status=status, body=body, headers={"x-amzn-requestid": "1"})


def json(members: Mapping[str, Any]) -> HttpResponse:
    return HttpResponse(status=200, body=orjson.dumps(members), headers={"x-amzn-requestid": "1"})


def destination(kind: str, **environ: str) -> Destination[Any, Any]:
    made = load(kind)(read_all({"AWS_REGION": "eu-west-1", f"{kind.upper()}_STREAM_NAME": "logs"} | environ))
    assert isinstance(made, Destination)
    return made


class TestFirehose(SinkContract):
    """One line for each record, so that the answers can be counted."""

    answers = Answers(
        accept=json({"FailedPutCount": 0, "RequestResponses": []}),
        throttle=error("ServiceUnavailableException", 503),
        reject=error("InvalidArgumentException"),
        deny=error("AccessDeniedException"),
        too_large=error("RequestEntityTooLarge", 413),
        partial=lambda count: json(
            {
                "FailedPutCount": 1,
                "RequestResponses": [{"ErrorCode": "InternalFailure"}, *[{"RecordId": "r"}] * (count - 1)],
            }
        ),
    )
    kind = "firehose"
    environ: Mapping[str, str] = {"FIREHOSE_RECORD_BYTES": "0"}

    def destination(self) -> Destination[Any, Any]:
        return destination(self.kind, **self.environ)

    def payload(self, request: Any) -> bytes:
        return b"".join(base64.b64decode(one["Data"]) for one in orjson.loads(request.body)["Records"])


def packed(answers: Answers) -> Answers:
    """Return the answers that do not depend on how many lines are in a record."""
    return Answers(
        accept=answers.accept, throttle=answers.throttle, reject=answers.reject, deny=answers.deny,
        too_large=answers.too_large,
    )  # fmt: skip


class TestFirehosePacked(TestFirehose):
    answers = packed(TestFirehose.answers)
    environ: Mapping[str, str] = {}


class TestFirehoseForSplunk(TestFirehosePacked):
    environ: Mapping[str, str] = {"FIREHOSE_FORMAT": "hec", "SPLUNK_INDEX": "main"}


class TestKinesis(TestFirehose):
    answers = Answers(
        accept=json({"FailedRecordCount": 0, "Records": []}),
        throttle=error("ProvisionedThroughputExceededException"),
        reject=error("InvalidArgumentException"),
        deny=error("KMSAccessDeniedException"),
        too_large=error("RequestEntityTooLarge", 413),
        partial=lambda count: json(
            {
                "FailedRecordCount": 1,
                "Records": [
                    {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "Rate exceeded"},
                    *[{"SequenceNumber": "1", "ShardId": "shardId-000000000000"}] * (count - 1),
                ],
            }
        ),
    )
    kind = "kinesis"
    environ: Mapping[str, str] = {"KINESIS_RECORD_BYTES": "0"}


class TestKinesisPacked(TestKinesis):
    answers = packed(TestKinesis.answers)
    environ: Mapping[str, str] = {}
