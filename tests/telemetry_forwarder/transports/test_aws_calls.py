"""One call to AWS: what the SDK returns or raises, as an answer or as a transport error."""

from types import SimpleNamespace
from typing import Any

import pytest
from botocore import exceptions as aws

from telemetry_forwarder.errors import NotTheService, TimedOut
from telemetry_forwarder.interfaces import AwsResponse
from telemetry_forwarder.transports.aws_answers import NO_CREDENTIALS
from telemetry_forwarder.transports.aws_calls import call
from telemetry_forwarder.transports.aws_session import ForeignAnswer

META = SimpleNamespace(endpoint_url="https://ssm.eu-central-1.amazonaws.com")


def client(outcome: Any) -> Any:
    """Return a client of one operation, `ask`, that returns or raises `outcome`."""

    async def ask(**_: Any) -> Any:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return SimpleNamespace(meta=META, ask=ask)


async def test_an_answer_is_its_status_and_its_members() -> None:
    response = await call(client({"Value": "v", "ResponseMetadata": {"HTTPStatusCode": 200}}), "ask", {})
    assert response == AwsResponse(status=200, body={"Value": "v"})


async def test_an_error_of_the_service_is_an_answer_with_what_it_said() -> None:
    said = {
        "Error": {"Code": "com.amazonaws.ssm#ThrottlingException", "Message": "slower"},
        "ResponseMetadata": {"HTTPStatusCode": 429, "HTTPHeaders": {"retry-after": "3"}},
        "member": 1,
    }
    response = await call(client(aws.ClientError(said, "Ask")), "ask", {})  # type: ignore[arg-type]
    expected = AwsResponse(
        status=429, error="ThrottlingException", message="slower", retry_after=3.0, body={"member": 1}
    )
    assert response == expected


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (aws.NoCredentialsError(), "UnrecognizedClientException", NO_CREDENTIALS),
        (
            aws.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"),
            "UnrecognizedClientException",
            NO_CREDENTIALS,
        ),
        (
            aws.ParamValidationError(report="a\nb"),
            "InvalidParameterException",
            "the AWS SDK refuses ask (Parameter validation failed: a b)",
        ),
    ],
)
async def test_what_the_sdk_refuses_is_an_answer_that_was_not_sent(error: Exception, kind: str, said: str) -> None:
    response = await call(client(error), "ask", {})
    assert response == AwsResponse(status=400, error=kind, message=said, is_unsent=True)


async def test_who_else_answers_and_who_does_not_are_told_apart() -> None:
    with pytest.raises(
        NotTheService, match=r"ssm\.eu-central-1\.amazonaws\.com:443: what answered is not AWS \(a page"
    ):
        await call(client(ForeignAnswer("a page")), "ask", {})
    with pytest.raises(TimedOut, match="no answer in time"):
        await call(client(aws.ReadTimeoutError(endpoint_url="u")), "ask", {})


def test_a_body_is_not_shown() -> None:
    assert "hunter2" not in repr(AwsResponse(status=200, body={"SecretString": "hunter2"}))
