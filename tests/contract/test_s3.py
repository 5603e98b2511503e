"""The contract, for objects in S3."""

from typing import Any

from telemetry_forwarder.interfaces import Destination, HttpResponse
from telemetry_forwarder.sinks import load
from telemetry_forwarder.testing.sink_contract import Answers, SinkContract
from telemetry_forwarder.variables.reading import read_all


def error(code: str, status: int) -> HttpResponse:
    body = f'<?xml version="1.0"?>\n<Error><Code>{code}</Code><Message>as it is</Message></Error>'.encode()
    return HttpResponse(status=status, body=body, headers={"x-amz-request-id": "1", "content-type": "application/xml"})


class TestS3(SinkContract):
    answers = Answers(
        accept=HttpResponse(status=200, headers={"etag": '"1"'}),
        throttle=error("SlowDown", 503),
        reject=error("InvalidRequest", 400),
        deny=error("AccessDenied", 403),
        too_large=error("EntityTooLarge", 400),
    )

    def destination(self) -> Destination[Any, Any]:
        made = load("s3")(read_all({"AWS_REGION": "eu-west-1", "S3_LOGS_URI": "s3://logs/a"}))
        assert isinstance(made, Destination)
        return made


class TestS3AsContentEncoding(TestS3):
    """What is there already is a success, too."""

    answers = Answers(
        accept=error("PreconditionFailed", 412),
        throttle=error("ConditionalRequestConflict", 409),
        reject=error("KeyTooLongError", 400),
        deny=error("KMS.DisabledException", 400),
        too_large=error("EntityTooLarge", 400),
    )

    def destination(self) -> Destination[Any, Any]:
        more = {"S3_LOGS_CONTENT_ENCODING": "gzip"}
        made = load("s3")(read_all({"AWS_REGION": "eu-west-1", "S3_LOGS_URI": "s3://my.logs", **more}))
        assert isinstance(made, Destination)
        return made
