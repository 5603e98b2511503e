"""PutLogEvents and secrets: against moto, which others wrote, and against a server that says what it is told to say."""

import asyncio
import json
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from aiobotocore.session import get_session
from moto.server import ThreadedMotoServer

from telemetry_forwarder.errors import (
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    SecretDenied,
    SecretNotFound,
    SecretUnavailable,
)
from telemetry_forwarder.interfaces import AwsResponse, PutLogEvents
from telemetry_forwarder.secrets import fetch as fetching
from telemetry_forwarder.secrets.fetch import fetch
from telemetry_forwarder.transports.aws import open_logs
from telemetry_forwarder.variables import SecretReference

from .sockets import Answer, Seen, hang, listening, make_certificate, raw, says, serving

REGION = "eu-central-1"
ENDPOINTS = ("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", "AWS_ENDPOINT_URL_SSM", "AWS_ENDPOINT_URL_SECRETS_MANAGER")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Lambda sets, and nothing of the machine that the tests run on."""
    for name in ("AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL", "HTTP_PROXY", "HTTPS_PROXY", *ENDPOINTS):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Point every service at a URL."""

    def point(url: str) -> None:
        for name in ENDPOINTS:
            monkeypatch.setenv(name, url)

    return point


def put(group: str, *messages: str, stream: str = "s") -> PutLogEvents:
    now = int(time.time() * 1000)
    return PutLogEvents(group=group, stream=stream, events=tuple((now, message) for message in messages))


class Service:
    """Answers each operation with its own list of answers, and with 200 when that is over."""

    def __init__(self, **answers: list[Answer]) -> None:
        self.answers = answers
        self.calls: list[str] = []
        self.bodies: list[dict[str, Any]] = []

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        operation = seen.headers["x-amz-target"].rpartition(".")[2]
        self.calls.append(operation)
        self.bodies.append(json.loads(seen.body))
        waiting = self.answers.get(operation)
        return await (waiting.pop(0) if waiting else says(200, b"{}"))(seen, writer)


def error(kind: str, status: int = 400, *headers: str) -> Answer:
    return says(status, json.dumps({"__type": kind, "message": f"{kind} it is"}).encode(), *headers)


MISSING = error("ResourceNotFoundException")
EXISTS = error("ResourceAlreadyExistsException")


# --- CloudWatch Logs ------------------------------------------------------------------------------------------------


async def test_moto_gets_group_stream_retention_and_events(moto, endpoint):
    endpoint(moto)
    async with open_logs(retention_days=7) as transport:
        answers = [await transport.send(put("/acme/new", "one", "zwei ü")) for _ in range(2)]
    assert [(answer.status, answer.error) for answer in answers] == [(200, None)] * 2
    async with get_session().create_client("logs") as client:
        (group,) = (await client.describe_log_groups(logGroupNamePrefix="/acme/new"))["logGroups"]
        events = (await client.get_log_events(logGroupName="/acme/new", logStreamName="s"))["events"]
    assert group["retentionInDays"] == 7
    assert [event["message"] for event in events] == ["one", "zwei ü"] * 2


async def test_moto_says_in_the_answers_body_which_events_are_too_old(moto, endpoint):
    endpoint(moto)
    old = PutLogEvents(group="/acme/old", stream="s", events=((1_000, "old"), (int(time.time() * 1000), "new")))
    async with open_logs() as transport:
        answer = await transport.send(old)
    assert answer.status == 200
    assert "tooOldLogEventEndIndex" in answer.body["rejectedLogEventsInfo"]


async def test_the_stream_alone_is_created_where_the_group_is_there_and_only_once(endpoint):
    service = Service()
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs(retention_days=7) as transport:
            await transport.send(put("g", "m"))
            await transport.send(put("g", "m"))
            await transport.send(put("g", "m", stream="other"))
    first = ["CreateLogStream", "PutLogEvents"]
    assert service.calls == [*first, "PutLogEvents", *first]
    assert service.bodies[1]["logEvents"][0]["message"] == "m"
    assert "credential=akidexample/" in server.requests[1].headers["authorization"].lower()


@pytest.mark.parametrize("refusal", ["AccessDeniedException", "ThrottlingException", "LimitExceededException"])
async def test_a_creation_that_is_refused_keeps_no_event_back(endpoint, refusal):
    service = Service(CreateLogStream=[error(refusal)])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs() as transport:
            assert (await transport.send(put("g", "m"))).status == 200
            assert (await transport.send(put("g", "m"))).status == 200
    assert service.calls == ["CreateLogStream", "PutLogEvents", "PutLogEvents"]


async def test_a_group_that_others_are_creating_is_answered_so_and_found_by_the_next_attempt(endpoint):
    service = Service(
        CreateLogStream=[MISSING, MISSING, MISSING],
        CreateLogGroup=[error("OperationAbortedException"), error("OperationAbortedException"), EXISTS],
        PutLogEvents=[MISSING, MISSING],
    )
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs(retention_days=7) as transport:
            assert (await transport.send(put("g", "m"))).error == "OperationAbortedException"
            assert (await transport.send(put("g", "m"))).status == 200
    assert "PutRetentionPolicy" not in service.calls  # the group is another's


async def test_a_stream_that_vanished_is_created_again_and_the_events_put_once_more(endpoint):
    service = Service(CreateLogStream=[EXISTS], PutLogEvents=[says(200, b"{}"), MISSING])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs() as transport:
            assert (await transport.send(put("g", "m"))).status == 200
            assert (await transport.send(put("g", "m"))).status == 200
    assert service.calls == ["CreateLogStream", "PutLogEvents", "PutLogEvents", "CreateLogStream", "PutLogEvents"]


async def test_what_stays_missing_is_said(endpoint):
    service = Service(PutLogEvents=[MISSING, MISSING])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs() as transport:
            answer = await transport.send(put("g", "m"))
    assert (answer.status, answer.error) == (400, "ResourceNotFoundException")
    assert service.calls.count("PutLogEvents") == 2


async def test_a_retention_that_cannot_be_set_is_told_and_keeps_no_event_back(endpoint):
    told: list[str] = []
    service = Service(CreateLogStream=[MISSING], PutRetentionPolicy=[error("AccessDeniedException")])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs(retention_days=7, warn=told.append) as transport:
            assert (await transport.send(put("g", "m"))).status == 200
    assert service.calls == [
        "CreateLogStream",
        "CreateLogGroup",
        "PutRetentionPolicy",
        "CreateLogStream",
        "PutLogEvents",
    ]
    assert len(told) == 1
    assert "log group g " in told[0]
    assert "AccessDeniedException" in told[0]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (
            error("ThrottlingException", 400, "x-amz-retry-after: 1500"),
            AwsResponse(status=400, error="ThrottlingException", message="ThrottlingException it is", retry_after=1.5),
        ),
        (
            error("com.amazonaws.logs#ServiceUnavailableException", 503, "Retry-After: 2"),
            AwsResponse(
                status=503,
                error="ServiceUnavailableException",
                message="com.amazonaws.logs#ServiceUnavailableException it is",
                retry_after=2.0,
            ),
        ),
    ],
)
async def test_an_error_is_an_answer_with_type_text_and_wait_after_one_attempt(endpoint, answer, expected):
    service = Service(PutLogEvents=[answer])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs() as transport:
            assert await transport.send(put("g", "m")) == expected
    assert service.calls == ["CreateLogStream", "PutLogEvents"]


async def test_a_page_of_a_gateway_is_an_answer_too(endpoint):
    service = Service(PutLogEvents=[says(502, b"<html>Bad Gateway</html>", "Content-Type: text/html")])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs() as transport:
            assert (await transport.send(put("g", "m"))).status == 502


async def test_parameters_that_the_sdk_refuses_are_an_answer(endpoint):
    async with serving(Service()) as server:
        endpoint(server.url())
        async with open_logs() as transport:
            answer = await transport.send(put("g", ""))
    assert (answer.status, answer.error) == (400, "InvalidParameterException")
    assert "logEvents[0].message" in answer.message


async def test_missing_credentials_are_an_answer(endpoint, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    endpoint("http://127.0.0.1:9")
    async with open_logs() as transport:
        answer = await transport.send(put("g", "m"))
    assert (answer.status, answer.error) == (400, "UnrecognizedClientException")


@pytest.mark.parametrize(
    "broken",
    [raw(b""), raw(b"", by_reset=True), raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), raw(b"hidden\r\n\r\n")],
    ids=["closed", "reset", "half a body", "not HTTP"],
)
async def test_an_answer_that_does_not_come_whole_is_connection_lost(endpoint, broken):
    service = Service(PutLogEvents=[broken])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs() as transport:
            with pytest.raises(ConnectionLost, match=f"127.0.0.1:{server.port}: ") as caught:
                await transport.send(put("g", "hidden"))
    assert "hidden" not in str(caught.value)
    assert service.calls == ["CreateLogStream", "PutLogEvents"]


async def test_no_connection_is_connect_failed(endpoint):
    async with serving(Service()) as server:
        endpoint(server.url())
    async with open_logs() as transport:
        with pytest.raises(ConnectFailed, match=f"127.0.0.1:{server.port}: no connection"):
            await transport.send(put("g", "m"))


async def test_a_handshake_that_does_not_come_is_connect_failed(endpoint):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with listening(silent) as port:
        endpoint(f"https://127.0.0.1:{port}")
        async with open_logs(connect_s=0.2) as transport:
            with pytest.raises(ConnectFailed, match="in time"):
                await transport.send(put("g", "m"))


async def test_a_cancelled_put_hangs_up_and_the_transport_goes_on(endpoint):
    async with serving(Service(PutLogEvents=[hang])) as server:
        endpoint(server.url())
        async with open_logs() as transport:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await transport.send(put("g", "m"))
            async with asyncio.timeout(5):
                await server.hung_up.wait()
            assert (await transport.send(put("g", "m"))).status == 200


async def test_certificates_are_those_of_the_ca_file(endpoint, tmp_path):
    context, trusted = make_certificate(tmp_path)
    async with serving(Service(), context) as server:
        endpoint(server.url(scheme="https"))
        async with open_logs(ca_file=str(trusted)) as transport:
            assert (await transport.send(put("g", "m"))).status == 200
        async with open_logs() as transport:
            with pytest.raises(ConnectFailed, match="SSL_CERT_FILE"):
                await transport.send(put("g", "m"))
        async with open_logs(ca_file=str(tmp_path / "missing.pem")) as transport:
            with pytest.raises(ConnectFailed, match="CA file"):
                await transport.send(put("g", "m"))


async def test_no_region_and_an_endpoint_that_is_no_url_are_configuration_errors(endpoint, monkeypatch):
    endpoint("no url")
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"):
        async with open_logs():
            pass
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", ENDPOINTS[0]):
        monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match="AWS_REGION"):
        async with open_logs():
            pass


# --- secrets --------------------------------------------------------------------------------------------------------


async def test_moto_gives_secrets_and_parameters(moto, endpoint):
    endpoint(moto)
    async with get_session().create_client("secretsmanager", region_name="us-west-2") as client:
        whole = (await client.create_secret(Name="whole", SecretString="t0ken\n"))["ARN"]
        member = (await client.create_secret(Name="member", SecretString='{"hec": "t0ken"}'))["ARN"]
        binary = (await client.create_secret(Name="binary", SecretBinary=b" t0ken"))["ARN"]
    async with get_session().create_client("ssm") as client:
        await client.put_parameter(Name="/hec/token", Value="t0ken", Type="SecureString")
        name = (await client.get_parameter(Name="/hec/token"))["Parameter"]["ARN"]
    for reference in (
        SecretReference("secretsmanager", whole),
        SecretReference("secretsmanager", member, "hec"),
        SecretReference("secretsmanager", binary),
        SecretReference("ssm", "/hec/token"),
        SecretReference("ssm", name),
    ):
        secret = await fetch(reference)
        assert (secret.reveal(), repr(secret)) == ("t0ken", "***")


@pytest.mark.parametrize(
    "reference",
    [
        SecretReference("ssm", "/not/there"),
        SecretReference("secretsmanager", f"arn:aws:secretsmanager:{REGION}:123456789012:secret:not-there"),
    ],
)
async def test_moto_knows_no_such_secret(moto, endpoint, reference):
    endpoint(moto)
    with pytest.raises(SecretNotFound, match=f"{reference.name} does not exist"):
        await fetch(reference)


HEC = SecretReference("ssm", "/hec/token")
ARN = SecretReference("secretsmanager", f"arn:aws:secretsmanager:{REGION}:123456789012:secret:hec-AbCdEf", "token")


@pytest.mark.parametrize(
    ("kind", "reference", "error_class", "says_what"),
    [
        ("AccessDeniedException", HEC, SecretDenied, "ssm:GetParameter"),
        ("AccessDeniedException", ARN, SecretDenied, "secretsmanager:GetSecretValue"),
        ("DecryptionFailure", ARN, SecretDenied, "kms:Decrypt"),
        ("InvalidRequestException", ARN, SecretNotFound, "being deleted"),
        ("ExpiredTokenException", HEC, SecretDenied, "credentials"),
    ],
)
async def test_a_refusal_says_what_to_do_and_is_not_asked_twice(endpoint, kind, reference, error_class, says_what):
    async with serving(error(kind)) as server:
        endpoint(server.url())
        with pytest.raises(error_class, match=says_what) as caught:
            await fetch(reference)
    assert reference.name in str(caught.value)
    assert kind in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "failure",
    [error("ThrottlingException"), error("InternalServerError", 500), raw(b""), says(200, b"<html>hidden</html>")],
    ids=["throttled", "unwell", "closed", "not JSON"],
)
async def test_a_service_that_is_away_is_asked_once_more(endpoint, failure):
    good = says(200, json.dumps({"Parameter": {"Value": "t0ken"}}).encode())
    service = Service(GetParameter=[failure, good, failure, failure])
    async with serving(service) as server:
        endpoint(server.url())
        assert (await fetch(HEC)).reveal() == "t0ken"
        with pytest.raises(SecretUnavailable, match="/hec/token") as caught:
            await fetch(HEC)
    assert "hidden" not in str(caught.value)
    assert service.calls == ["GetParameter"] * 4
    assert all(body == {"Name": "/hec/token", "WithDecryption": True} for body in service.bodies)


async def test_a_service_that_hangs_is_given_up(endpoint, monkeypatch):
    monkeypatch.setattr(fetching, "READ_S", 0.1)
    async with serving(hang) as server:
        endpoint(server.url())
        with pytest.raises(SecretUnavailable, match="no answer in time"):
            await fetch(HEC)
    assert len(server.requests) == 2


async def test_a_malformed_secret_is_in_no_text_and_no_chain(endpoint):
    held = json.dumps({"SecretString": '{"token": "hidden'}).encode()
    async with serving(says(200, held)) as server:
        endpoint(server.url())
        with pytest.raises(SecretNotFound) as caught:
            await fetch(ARN)
    assert "hidden" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


async def test_without_credentials_or_region_it_is_said(endpoint, monkeypatch):
    endpoint("http://127.0.0.1:9")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SecretDenied, match="no AWS credentials"):
        await fetch(HEC)
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.delenv(ENDPOINTS[1])
    with pytest.raises(SecretNotFound, match="region"):
        await fetch(HEC)


async def test_the_region_of_an_arn_goes_before_all_others(endpoint):
    both = {"SecretString": "t0ken", "Parameter": {"Value": "t0ken"}}
    async with serving(says(200, json.dumps(both).encode())) as server:
        endpoint(server.url())
        await fetch(
            SecretReference("secretsmanager", "arn:aws:secretsmanager:sa-east-1:1:secret:x"), region="us-east-1"
        )
        await fetch(HEC, region="us-east-1")
    scopes = [seen.headers["authorization"].split("/", 2)[2] for seen in server.requests]
    assert [scope.partition("/aws4")[0] for scope in scopes] == ["sa-east-1/secretsmanager", "us-east-1/ssm"]
