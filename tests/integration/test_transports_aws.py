"""PutLogEvents against moto, which others wrote, and against a service that says what it is told to say."""

import asyncio
import json
import time
from base64 import b64encode
from contextlib import suppress

import pytest
from aiobotocore.session import get_session

from local_backends import CloudWatchLogs, Slow
from local_backends.faults import ANY
from telemetry_forwarder.errors import ConfigError, ConnectFailed, ConnectionLost, CredentialUnavailable, TransportError
from telemetry_forwarder.interfaces import AwsResponse, PutLogEvents
from telemetry_forwarder.transports import cloudwatch_logs as logs
from telemetry_forwarder.transports import http
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.transports.cloudwatch_logs import open_logs
from telemetry_forwarder.transports.http import context_of

from .aws_service import ENDPOINTS, REGION, Service, endpoint, environment, error, moto
from .certificates import Authority
from .sockets import hang, listening, make_certificate, proxying, raw, says, serving

# Fixtures are found by name in the module that asks for them.
__all__ = ["endpoint", "environment", "moto"]

MISSING = error("ResourceNotFoundException")
EXISTS = error("ResourceAlreadyExistsException")


@pytest.fixture(autouse=True)
def no_step_is_slow(monkeypatch):
    """On a busy machine a call may take longer than one that is waited for."""
    monkeypatch.setattr(logs, "STEP_S", 30.0)


def put(group: str, *messages: str, stream: str = "s") -> PutLogEvents:
    now = int(time.time() * 1000)
    return PutLogEvents(group=group, stream=stream, events=tuple((now, message) for message in messages))


async def test_moto_gets_group_stream_retention_and_events(moto, endpoint):
    endpoint(moto)
    async with open_logs(Network(), retention_days=7) as transport:
        answers = [await transport.send(put("/acme/new", "one", "zwei ü")) for _ in range(2)]
    assert [(answer.status, answer.error) for answer in answers] == [(200, None)] * 2
    async with get_session().create_client("logs", region_name=REGION) as client:
        (group,) = (await client.describe_log_groups(logGroupNamePrefix="/acme/new"))["logGroups"]
        events = (await client.get_log_events(logGroupName="/acme/new", logStreamName="s"))["events"]
    assert group["retentionInDays"] == 7
    assert [event["message"] for event in events] == ["one", "zwei ü"] * 2


async def test_moto_says_in_the_answers_body_which_events_are_too_old(moto, endpoint):
    endpoint(moto)
    old = PutLogEvents(group="/acme/old", stream="s", events=((1_000, "old"), (int(time.time() * 1000), "new")))
    async with open_logs(Network()) as transport:
        answer = await transport.send(old)
    assert answer.status == 200
    assert "tooOldLogEventEndIndex" in answer.body["rejectedLogEventsInfo"]


@pytest.mark.parametrize("body", [b"\x1f\x8b\x00", b"\xff", b"[]", b"{a}", b"1"])
@pytest.mark.parametrize("status", [200, 503, 403])
async def test_an_answer_of_aws_whose_body_cannot_be_read_is_one_of_its_status(status, body, endpoint):
    head = b"HTTP/1.1 %d X\r\nx-amzn-RequestId: 1\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    async with serving(raw(head + body)) as server:
        endpoint(server.url())
        async with open_logs(Network()) as transport:
            answer = await transport.send(put("g", "m"))
    assert answer.status == status
    assert (answer.error is None) is (status == 200)


async def test_the_stream_alone_is_created_where_the_group_is_there_and_only_once(endpoint):
    service = Service()
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs(Network(), retention_days=7) as transport:
            await transport.send(put("g", "m"))
            await transport.send(put("g", "m"))
            await transport.send(put("g", "m", stream="other"))
            await transport.aclose()
    first = ["CreateLogStream", "PutLogEvents"]
    assert service.calls == [*first, "PutLogEvents", *first]
    assert service.bodies[1]["logEvents"][0]["message"] == "m"
    assert "credential=akidexample/" in server.requests[1].headers["authorization"].lower()


@pytest.mark.parametrize("refusal", ["AccessDeniedException", "ThrottlingException", "LimitExceededException"])
async def test_a_creation_that_is_refused_keeps_no_event_back(endpoint, refusal):
    service = Service(CreateLogStream=[error(refusal)])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs(Network()) as transport:
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
        async with open_logs(Network(), retention_days=7) as transport:
            assert (await transport.send(put("g", "m"))).error == "OperationAbortedException"
            assert (await transport.send(put("g", "m"))).status == 200
    assert "PutRetentionPolicy" not in service.calls  # the group is another's


async def test_a_stream_that_vanished_is_created_again_and_the_events_put_once_more(endpoint):
    service = Service(CreateLogStream=[EXISTS], PutLogEvents=[says(200, b"{}"), MISSING])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs(Network()) as transport:
            assert (await transport.send(put("g", "m"))).status == 200
            assert (await transport.send(put("g", "m"))).status == 200
    assert service.calls == ["CreateLogStream", "PutLogEvents", "PutLogEvents", "CreateLogStream", "PutLogEvents"]


async def test_what_stays_missing_is_said(endpoint):
    service = Service(PutLogEvents=[MISSING, MISSING])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs(Network()) as transport:
            answer = await transport.send(put("g", "m"))
    assert (answer.status, answer.error) == (400, "ResourceNotFoundException")
    assert service.calls.count("PutLogEvents") == 2


@pytest.mark.parametrize(
    ("answer", "says_what"),
    [
        (error("AccessDeniedException"), "AccessDeniedException"),
        (raw(b""), "the connection ended"),
        (hang, "TimeoutError"),
    ],
    ids=["denied", "closed", "hangs"],
)
async def test_a_retention_that_cannot_be_set_is_told_and_keeps_no_event_back(endpoint, monkeypatch, answer, says_what):
    monkeypatch.setattr(logs, "RETENTION_S", 0.1)
    told: list[str] = []
    service = Service(CreateLogStream=[MISSING], PutRetentionPolicy=[answer])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs(Network(), retention_days=7, warn=told.append) as transport:
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
    assert says_what in told[0]


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
        async with open_logs(Network()) as transport:
            assert await transport.send(put("g", "m")) == expected
    assert service.calls == ["CreateLogStream", "PutLogEvents"]


async def test_a_page_of_a_gateway_is_an_answer_too(endpoint):
    service = Service(PutLogEvents=[says(502, b"<html>Bad Gateway</html>", "Content-Type: text/html")])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs(Network()) as transport:
            assert (await transport.send(put("g", "m"))).status == 502


async def test_parameters_are_looked_over_by_the_service_alone(endpoint):
    """The SDK's own look at each event took as long as all the rest of a request."""
    async with serving(Service(PutLogEvents=[error("InvalidParameterException")])) as server:
        endpoint(server.url())
        async with open_logs(Network()) as transport:
            answer = await transport.send(put("g", ""))
    assert (answer.status, answer.error) == (400, "InvalidParameterException")


async def test_missing_credentials_are_an_answer(endpoint, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    endpoint("http://127.0.0.1:9")
    async with open_logs(Network()) as transport:
        answer = await transport.send(put("g", "m"))
    assert (answer.status, answer.error) == (400, "UnrecognizedClientException")


async def test_half_of_an_answer_is_told_with_its_status(endpoint):
    half = raw(b"HTTP/1.1 200 OK\r\nx-amzn-RequestId: 1\r\nContent-Length: 9\r\n\r\n{")
    async with serving(Service(PutLogEvents=[half])) as server:
        endpoint(server.url())
        async with open_logs(Network()) as transport:
            with pytest.raises(ConnectionLost, match="of the answer 200, the connection ended before it did"):
                await transport.send(put("g", "m"))


async def test_credentials_at_an_address_are_read_there_once(endpoint, monkeypatch):
    """As with SnapStart: the environment has no keys, as they would be those of the snapshot."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    keys = {
        "AccessKeyId": "AKIDSNAPSTART",
        "SecretAccessKey": "k",
        "Token": "session",
        "Expiration": "2999-01-01T00:00:00Z",
    }
    service = Service()
    async with serving(service) as server, serving(says(200, json.dumps(keys).encode())) as giver:
        endpoint(server.url())
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", giver.url("/credentials"))
        monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "allowed")
        async with open_logs(Network()) as transport:
            assert (await transport.send(put("g", "m"))).status == 200
    assert [seen.headers["authorization"] for seen in giver.requests] == ["allowed"]
    for seen in server.requests:
        assert "Credential=AKIDSNAPSTART/" in seen.headers["authorization"]
        assert seen.headers["x-amz-security-token"] == "session"


async def test_credentials_that_cannot_be_read_are_told_as_that(endpoint, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    async with serving(says(403, b"hidden")) as giver:
        endpoint("http://127.0.0.1:9")
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", giver.url("/credentials"))
        async with open_logs(Network()) as transport:
            with pytest.raises(
                CredentialUnavailable, match=r"127\.0\.0\.1:9: the AWS credentials could not be read"
            ) as caught:
                await transport.send(put("g", "m"))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "broken",
    [raw(b""), raw(b"", by_reset=True), raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), raw(b"hidden\r\n\r\n")],
    ids=["closed", "reset", "half a body", "not HTTP"],
)
async def test_an_answer_that_does_not_come_whole_is_connection_lost(endpoint, broken):
    service = Service(PutLogEvents=[broken])
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs(Network()) as transport:
            with pytest.raises(ConnectionLost, match=f"127.0.0.1:{server.port}: ") as caught:
                await transport.send(put("g", "hidden"))
    assert "hidden" not in str(caught.value)
    assert service.calls == ["CreateLogStream", "PutLogEvents"]


async def test_no_connection_is_connect_failed(endpoint):
    async with serving(Service()) as server:
        endpoint(server.url())
    async with open_logs(Network()) as transport:
        with pytest.raises(ConnectFailed, match=f"127.0.0.1:{server.port}: no connection"):
            await transport.send(put("g", "m"))


async def test_a_handshake_that_does_not_come_is_connect_failed(endpoint):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with listening(silent) as port:
        endpoint(f"https://127.0.0.1:{port}")
        async with open_logs(Network(), connect_s=0.2) as transport:
            with pytest.raises(ConnectFailed, match="in time"):
                await transport.send(put("g", "m"))


async def test_a_cancelled_put_hangs_up_and_the_transport_goes_on(endpoint):
    async with serving(Service(PutLogEvents=[hang])) as server:
        endpoint(server.url())
        async with open_logs(Network()) as transport:
            await transport.prepare(put("g", "m"))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await transport.send(put("g", "m"))
            async with asyncio.timeout(5):
                await server.hung_up.wait()
            assert (await transport.send(put("g", "m"))).status == 200


async def test_certificates_are_those_of_the_ca_file(endpoint, tmp_path):
    context, trusted = make_certificate(tmp_path)
    async with serving(Service(), context) as server:
        endpoint(server.url(scheme="https"))
        async with open_logs(Network(aws_ca_file=str(trusted))) as transport:
            assert (await transport.send(put("g", "m"))).status == 200
        async with open_logs(Network()) as transport:
            with pytest.raises(ConnectFailed, match="SSL_CERT_FILE"):
                await transport.send(put("g", "m"))
        async with open_logs(Network(aws_ca_file=str(tmp_path / "missing.pem"))) as transport:
            with pytest.raises(ConnectFailed, match="CA file"):
                await transport.send(put("g", "m"))


async def test_one_context_is_made_for_all_clients(endpoint, tmp_path, monkeypatch):
    context, trusted = make_certificate(tmp_path)
    made = []
    monkeypatch.setattr(http, "context_of", lambda ca_file: made.append(ca_file) or context_of(ca_file))
    network = Network(aws_ca_file=str(trusted))
    async with serving(Service(), context) as server:
        endpoint(server.url(scheme="https"))
        async with open_logs(network) as first, open_logs(network) as second:
            assert [(await each.send(put("g", "m"))).status for each in (first, second)] == [200, 200]
    assert made == [str(trusted)]


async def test_texts_arrive_as_they_are(endpoint):
    texts = ['{"a":"ü\\u2028\\"\\\\"}', "tab\t", "\U0001f600", ""]
    service, request = Service(), put("/g/ü", *texts)
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs(Network()) as transport:
            await transport.send(request)
    sent = service.bodies[-1]
    events = [{"timestamp": time_ms, "message": text} for time_ms, text in request.events]
    assert sent == {"logGroupName": "/g/ü", "logStreamName": "s", "logEvents": events}


@pytest.mark.parametrize(
    ("names", "ends", "is_trusted", "reason"),
    [
        (["127.0.0.1"], -0.5, True, "has expired: it has to be renewed there"),
        (["a.example"], 1, True, "the certificate is not for that name"),
        (["127.0.0.1"], 1, False, "SSL_CERT_FILE or AWS_CA_BUNDLE must name a PEM file with the authority's own"),
    ],
)
async def test_a_failure_of_tls_is_told_as_for_the_other_sinks(endpoint, tmp_path, names, ends, is_trusted, reason):
    authority = Authority(tmp_path)
    async with serving(Service(), authority.server(*names, ends=ends)) as server:
        endpoint(server.url(scheme="https"))
        async with open_logs(Network(aws_ca_file=str(authority.trusted) if is_trusted else None)) as transport:
            with pytest.raises(ConnectFailed, match=reason):
                await transport.send(put("g", "m"))


async def test_the_way_is_that_of_the_other_sinks_whatever_the_environment_says(endpoint, monkeypatch):
    """botocore reads the environment by rules of its own; what the settings have read counts."""
    async with proxying() as proxy, serving(Service()) as server:
        endpoint(server.url())
        monkeypatch.setenv("HTTP_PROXY", "socks5://nowhere")
        ours = {"http": f"http://u:p%23@127.0.0.1:{proxy.port}"}
        async with open_logs(Network(proxies=ours | {"no": "127.0.0.0/8"})) as transport:
            assert (await transport.send(put("g", "m"))).status == 200
        assert proxy.requests == []
        async with open_logs(Network(proxies=ours)) as transport:
            with suppress(TransportError):  # what the proxy answers is no answer of the service
                await transport.send(put("g", "m"))
    assert proxy.requests[0].headers["proxy-authorization"] == "Basic " + b64encode(b"u:p#").decode()


async def test_no_region_and_an_endpoint_that_is_no_url_are_configuration_errors(endpoint, monkeypatch):
    endpoint("no url")
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL_CLOUDWATCH_LOGS"):
        async with open_logs(Network()):
            pass
    for name in ("AWS_REGION", ENDPOINTS[0]):
        monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match="AWS_REGION"):
        async with open_logs(Network()):
            pass


async def test_no_step_of_a_creation_waits_for_the_answer_to_the_one_before(endpoint, monkeypatch):
    """At a service that takes long for each answer, four steps one after the other would not fit into a window."""
    monkeypatch.setattr(logs, "STEP_S", 0.05)
    async with CloudWatchLogs() as backend:
        endpoint(backend.url)
        backend.faults.always(Slow(1.0, times=None), on=ANY)
        async with open_logs(Network()) as transport:
            began = time.monotonic()
            async with asyncio.TaskGroup() as group:
                preparing = group.create_task(transport.prepare(put("g", "m")))
                await asyncio.sleep(0)
                answer = await transport.send(put("g", "m"))
            assert (answer.status, answer.error) == (200, None)
            assert preparing.done()
    operations = [request.operation for request in backend.requests]
    assert operations == ["CreateLogStream", "CreateLogGroup", "CreateLogStream", "PutLogEvents"]
    starts = [request.time for request in backend.requests]
    assert starts[-1] - starts[0] < 1.0, "the put was on its way before the first answer"
    assert time.monotonic() - began < 4.0


async def test_what_is_prepared_is_not_created_again(endpoint):
    service = Service()
    async with serving(service) as server:
        endpoint(server.url())
        async with open_logs(Network()) as transport:
            await transport.prepare(put("g", "m"))
            await transport.prepare(put("g", "m"))
            await transport.send(put("g", "m"))
    assert service.calls == ["CreateLogStream", "PutLogEvents"]
