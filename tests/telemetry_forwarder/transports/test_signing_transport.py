"""Requests to AWS's OTLP endpoints are signed: what is signed is what is sent."""

import pytest

from telemetry_forwarder.errors import CredentialUnavailable
from telemetry_forwarder.interfaces import HeaderList, HttpRequest, HttpResponse, Signing
from telemetry_forwarder.transports.auth import AuthTransport
from telemetry_forwarder.transports.aws_environment import NoCredentials
from telemetry_forwarder.transports.aws_signature import Credentials, signed
from telemetry_forwarder.transports.gzip import GzipTransport
from telemetry_forwarder.transports.signing import SigningTransport
from telemetry_forwarder.variables.types import Secret
from tests.builders import ManualClock, ScriptedTransport

URL = "https://logs.eu-west-1.amazonaws.com/v1/logs"
CREDENTIALS = Credentials("AKID", "hunter2", "token")


class Given:
    async def get(self) -> Credentials:
        return CREDENTIALS


class Nothing:
    async def get(self) -> Credentials:
        raise NoCredentials


async def test_the_packed_body_is_signed_with_all_headers_that_the_sink_and_the_user_gave() -> None:
    inner, clock = ScriptedTransport(HttpResponse(status=200)), ManualClock()
    signing = SigningTransport(inner, Signing("logs", "eu-west-1"), credentials=Given(), clock=clock)
    listed = HeaderList(Secret("x-aws-log-group=/g,x-aws-log-stream=s"))
    request = HttpRequest(url=URL, body=b"x" * 5000, headers={"content-type": "application/x-protobuf"})
    await GzipTransport(AuthTransport(signing, listed)).send(request)
    (sent,) = inner.requests
    assert sent.body != request.body
    given = {
        name: value for name, value in sent.headers.items()
        if name not in ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")
    }  # fmt: skip
    assert given == {
        "content-type": "application/x-protobuf", "Content-Encoding": "gzip", "x-aws-log-group": "/g",
        "x-aws-log-stream": "s",
    }  # fmt: skip
    assert sent.headers == signed(CREDENTIALS, "logs", "eu-west-1", URL, given, sent.body, clock.time())
    assert (
        "content-encoding;content-type;host;x-amz-date;x-amz-security-token;x-aws-log-group"
        in (sent.headers["Authorization"])
    )
    assert "AKID" not in repr(sent)


async def test_without_credentials_nothing_is_sent() -> None:
    inner = ScriptedTransport(HttpResponse(status=200))
    transport = SigningTransport(inner, Signing("xray", "eu-west-1"), credentials=Nothing())
    with pytest.raises(CredentialUnavailable, match="no AWS credentials"):
        await transport.send(HttpRequest(url=URL, body=b"", headers={}))
    assert not inner.requests
