"""What goes to Sumo Logic over the wire, byte for byte, how its answers are read, and that its address stays secret."""

import traceback

import pytest
from msgspec.structs import replace

from telemetry_forwarder.errors import ConfigError, CredentialUnavailable
from telemetry_forwarder.interfaces import (
    CredentialUrl,
    Delivered,
    Denied,
    DropReason,
    HttpRequest,
    HttpResponse,
    Rejected,
    Retry,
    TooLarge,
)
from telemetry_forwarder.sinks import load
from telemetry_forwarder.transports.auth import AuthTransport
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.types import Secret, SecretReference
from tests.sink_records import BARE, FULL, GOLDEN, encode_all, loads, make_record

TOKEN = "ZaVnC4dhaV39Tn37hunter2=="
ADDRESS = f"https://endpoint4.collection.sumologic.com/receiver/v1/http/{TOKEN}"
ENVIRON = {"SUMO_HTTP_ENDPOINT": ADDRESS}


def made(**environ):
    return load("sumologic")(read_all(ENVIRON | environ))


SINK = made().sink
ONE = [SINK.encode(make_record("x", origin=FULL))]


# --- requests -------------------------------------------------------------------------------------------------------


def test_the_request_is_the_golden_one():
    request = SINK.request(encode_all(SINK))
    assert request.body + b"\n" == (GOLDEN / "sumologic.ndjson").read_bytes()
    assert request.method == "POST"
    assert request.url == "https://endpoint4.collection.sumologic.com/receiver/v1/http/***"
    assert request.headers == {"content-type": "application/x-ndjson"}  # of two functions: no name in common


def test_overhead_is_exact():
    batch = encode_all(SINK)
    sizes = sum(len(encoded.data) + SINK.limits.overhead_bytes for encoded in batch)
    assert len(SINK.request(batch).body) == sizes - 1


def test_the_time_comes_first_because_the_first_one_counts():
    data = SINK.encode(make_record("due at 2019-01-01T00:00:00Z")).data
    assert data.startswith(b'{"@timestamp":"2026-03-02T10:15:30.100Z",')


def test_a_time_of_the_line_itself_is_kept_under_record():
    line = {"@timestamp": "2019-01-01T00:00:00Z", "message": "m"}
    found = loads(SINK.encode(make_record(line)).data)
    assert (found["@timestamp"], found["record"]) == ("2026-03-02T10:15:30.100Z", line)


def test_the_name_is_that_of_the_function_or_the_one_that_is_set():
    assert SINK.request(ONE).headers["x-sumo-name"] == "Orders-Worker"
    both = [*ONE, SINK.encode(make_record("y", origin=replace(BARE, function_name="Orders-Worker")))]
    assert SINK.request(both).headers["x-sumo-name"] == "Orders-Worker"
    other = [*ONE, SINK.encode(make_record("y", origin=BARE))]
    assert "x-sumo-name" not in SINK.request(other).headers
    assert made(SUMO_SOURCE_NAME="mine").sink.request(other).headers["x-sumo-name"] == "mine"


def test_what_is_set_is_in_the_headers():
    sink = made(
        SUMO_SOURCE_CATEGORY="prod/orders", SUMO_SOURCE_HOST="lambda", SUMO_FIELDS="team=shop, cost_center = a b",
        SOURCE_CATEGORY_OVERRIDE="unused",
    ).sink  # fmt: skip
    assert sink.request(ONE).headers == {
        "content-type": "application/x-ndjson", "x-sumo-category": "prod/orders", "x-sumo-host": "lambda",
        "x-sumo-fields": "team=shop,cost_center=a b", "x-sumo-name": "Orders-Worker",
    }  # fmt: skip
    theirs = made(SOURCE_CATEGORY_OVERRIDE="theirs").sink
    assert theirs.request(ONE).headers["x-sumo-category"] == "theirs"


# --- the address ----------------------------------------------------------------------------------------------------


class _Keeps:
    """A transport that keeps what it is given, and answers with what it was made with."""

    def __init__(self, *statuses):
        self.statuses = list(statuses)
        self.seen = []

    async def send(self, request):
        self.seen.append(request)
        return HttpResponse(status=self.statuses.pop(0) if self.statuses else 200)

    async def aclose(self): ...


class _Secrets:
    def __init__(self, *texts):
        self.texts = list(texts)

    async def fetch(self, reference, *, fresh=False):
        return Secret(self.texts.pop(0))

    def waits_for(self, reference):
        return None


async def test_the_address_is_put_in_at_the_end_and_shown_nowhere():
    destination = made()
    request = destination.sink.request(ONE)
    inner = _Keeps()
    transport = AuthTransport(inner, destination.delivery.credential)
    await transport.send(request)
    (sent,) = inner.seen
    assert str(sent.url) == ADDRESS
    for shown in (
        repr(destination),
        repr(request),
        repr(sent),
        f"{sent!r}",
        str([sent]),
        repr(transport),
        repr(vars(transport)),
    ):
        assert "hunter2" not in shown


async def test_the_address_by_reference_is_read_and_read_again():
    reference = SecretReference("ssm", "/sumo/url")
    inner = _Keeps(401)
    transport = AuthTransport(inner, CredentialUrl(reference), _Secrets(ADDRESS, f" {ADDRESS}2\n"))
    await transport.send(HttpRequest(url="https://collectors.sumologic.com", body=b"", headers={}))
    assert [str(one.url) for one in inner.seen] == [ADDRESS, f"{ADDRESS}2"]


@pytest.mark.parametrize("text", ["hunter2", "", "ftp://h/hunter2", "https://user:hunter2@h/x", "https://h/ hunter2"])
async def test_a_reference_to_something_else_is_told_without_it(text):
    transport = AuthTransport(_Keeps(), CredentialUrl(SecretReference("ssm", "/sumo/url")), _Secrets(text))
    with pytest.raises(CredentialUnavailable, match="ssm /sumo/url holds no URL") as caught:
        await transport.send(HttpRequest(url="https://h", body=b"", headers={}))
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("name", "value", "service"),
    [
        (
            "SUMO_HTTP_ENDPOINT_SECRET_ARN",
            "arn:aws:secretsmanager:eu-west-1:210987654321:secret:sumo#url",
            "secretsmanager",
        ),
        ("SUMO_HTTP_ENDPOINT_SSM_PARAMETER", "/sumo/url", "ssm"),
    ],
)
def test_settings_by_reference(name, value, service):
    destination = made(SUMO_HTTP_ENDPOINT="", **{name: value})
    assert destination.delivery.credential.secret.service == service
    assert destination.delivery.url == "https://collectors.sumologic.com"  # for the choice of a proxy


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"\n", b"{}", b'{"id":"1","status":200}'])
def test_accepted(body):
    assert SINK.verdict(ONE, HttpResponse(status=200, body=body)) == Delivered()


@pytest.mark.parametrize("body", [b"<html>", b"OK", b"[]", b"\xff"])
def test_a_200_of_something_else_is_no_success(body):
    verdict = SINK.verdict(ONE, HttpResponse(status=200, body=body))
    assert isinstance(verdict, Denied)
    assert verdict.reason is DropReason.WRONG_ADDRESS


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (400, Rejected, "HTTP 400"),
        (401, Denied, "does not know the address; check that SUMO_HTTP_ENDPOINT is the whole address"),
        (403, Denied, "SUMO_HTTP_ENDPOINT"),
        (404, Denied, "SUMO_HTTP_ENDPOINT"),
        (307, Denied, "redirects are not followed"),
        (408, Retry, "a part may come twice"),
        (413, TooLarge, "413"),
        (429, Retry, "the quota of the account is exceeded; nothing was stored"),
        (503, Retry, "503"),
        (504, Retry, "504"),
    ],
)
def test_refused_and_no_body_is_quoted(status, kind, said):
    body = b'{"message":"no source at /receiver/v1/http/ZaVnC hunter2"}'
    headers = {"location": ADDRESS, "retry-after": "3"}
    verdict = SINK.verdict(ONE, HttpResponse(status=status, body=body, headers=headers))
    assert isinstance(verdict, kind)
    assert said in verdict.detail
    assert "hunter2" not in repr(verdict)
    assert "ZaVnC" not in repr(verdict)
    if kind is Retry:
        assert verdict.after == 3.0


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"SUMO_HTTP_ENDPOINT": ""}, "SUMO_HTTP_ENDPOINT is not set; allowed: SUMO_HTTP_ENDPOINT or"),
        (
            {"SUMO_HTTP_ENDPOINT": "hunter2"},
            "SUMO_HTTP_ENDPOINT is *** (hidden); allowed: the whole address of an HTTP",
        ),
        ({"SUMO_HTTP_ENDPOINT": "https://h.sumologic.com"}, "the whole address"),
        ({"SUMO_HTTP_ENDPOINT": "https://h.sumologic.com/x hunter2"}, "the whole address"),
        ({"SUMO_HTTP_ENDPOINT": "https://hunter2@h.sumologic.com/x"}, "Sink sumologic does not run without it."),
    ],
)
def test_wrong_settings_are_told_and_no_address_is_shown(environ, said):
    with pytest.raises(ConfigError) as caught:
        made(**environ)
    assert said in str(caught.value)
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_fields_that_are_none_are_left_out_and_told():
    destination = made(SUMO_FIELDS="team=shop,x,a b=c")
    (problem,) = destination.problems
    assert "partly unsound: 'x', 'a b=c'" in str(problem)
    assert destination.sink.request(ONE).headers["x-sumo-fields"] == "team=shop"
