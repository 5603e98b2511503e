"""What goes to Axiom over the wire, byte for byte, and how its answers are read."""

import pytest
from msgspec.structs import replace

from telemetry_forwarder.errors import ConfigError, EncodeError
from telemetry_forwarder.interfaces import (
    Delivered,
    Denied,
    DropReason,
    HttpDelivery,
    HttpResponse,
    Partial,
    Rejected,
    Retry,
    TooLarge,
)
from telemetry_forwarder.sinks import load
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.types import Secret, SecretReference
from tests.sink_records import GOLDEN, encode_all, loads, make_record, same

ENVIRON = {"AXIOM_TOKEN": "xaat-not-a-real-one", "AXIOM_DATASET": "lambda-logs"}


def made(**environ):
    return load("axiom")(read_all(ENVIRON | environ))


SINK = made().sink


def event_of(body, **more):
    return loads(SINK.encode(make_record(body, **more)).data)


# --- requests -------------------------------------------------------------------------------------------------------


def test_the_request_is_the_golden_one():
    request = SINK.request(encode_all(SINK))
    assert request.body + b"\n" == (GOLDEN / "axiom.ndjson").read_bytes()
    assert (request.method, request.url) == ("POST", "https://api.axiom.co/v1/datasets/lambda-logs/ingest")
    assert request.headers == {"content-type": "application/x-ndjson"}


def test_overhead_is_exact():
    batch = encode_all(SINK)
    sizes = sum(len(encoded.data) + SINK.limits.overhead_bytes for encoded in batch)
    assert len(SINK.request(batch).body) == sizes - 1  # no line end behind the last


def test_members_of_a_line_are_at_the_root():
    event = event_of({"level": "INFO", "message": "m", "order": {"id": 17}})
    assert (event["level"], event["message"], event["order"]) == ("INFO", "m", {"id": 17})


@pytest.mark.parametrize("name", ["_time", "_sysTime", "_rowId", "_blockInfo", "lambda"])
def test_a_member_that_means_something_else_overwrites_nothing(name):
    line = {"message": "m", name: "x"}
    event = event_of(line)
    assert event["_time"] == "2026-03-02T10:15:30.100Z"
    assert event["lambda"]["record_id"] == "0190f3-1"
    assert event["record"] == line


@pytest.mark.parametrize(
    ("time_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (1_772_446_530_007, "2026-03-02T10:15:30.007Z"),
        (-62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_time(time_ms, text):
    record = replace(make_record("x"), time_ms=time_ms)
    assert loads(SINK.encode(record).data)["_time"] == text
    assert loads(SINK.encode_all([record])[0].data)["_time"] == text


def test_a_time_that_no_date_can_express_is_refused():
    with pytest.raises(EncodeError):
        SINK.encode(replace(make_record("x"), time_ms=10**18))


# --- answers --------------------------------------------------------------------------------------------------------


def answer(body, status=200, **headers):
    return HttpResponse(status=status, body=body, headers=headers)


@pytest.mark.parametrize("body", [b'{"ingested":3,"failed":0}', b'{"ingested":3}', b'{"ingested":3,"failed":null}'])
def test_accepted(body):
    assert SINK.verdict(same(3), answer(body)) == Delivered()


def test_events_that_failed_inside_a_200_are_lost_and_never_sent_again():
    failures = b'[{"timestamp":"2026-03-02T10:15:30Z","error":"field limit exceeded"},{"error":"other"}]'
    verdict = SINK.verdict(same(5), answer(b'{"ingested":3,"failed":2,"failures":%b}' % failures))
    assert isinstance(verdict, Partial)
    assert verdict.is_final
    assert list(verdict.rejected.values()) == [DropReason.REJECTED] * 2
    assert "failed to ingest 2 of 5" in verdict.detail
    assert "field limit exceeded" in verdict.detail


def test_where_all_failed_a_setting_may_be_the_cause():
    verdict = SINK.verdict(same(2), answer(b'{"ingested":0,"failed":2}'))
    assert isinstance(verdict, Partial)
    assert not verdict.is_final


@pytest.mark.parametrize("failures", [b"null", b"7", b'["x",{"error":7}]', b"{}"])
def test_failures_may_be_anything(failures):
    verdict = SINK.verdict(same(2), answer(b'{"ingested":0,"failed":99,"failures":%b}' % failures))
    assert isinstance(verdict, Partial)
    assert len(verdict.rejected) == 2


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"<html>", b'{"ingested":"3"}', b'{"ingested":true}'])
def test_a_200_of_something_else_is_no_success(body):
    verdict = SINK.verdict(same(3), answer(body))
    assert isinstance(verdict, Denied)
    assert verdict.reason is DropReason.WRONG_ADDRESS
    assert "AXIOM_URL" in verdict.detail


def test_a_200_that_cannot_be_read_is_delivered():
    assert isinstance(SINK.verdict(same(3), HttpResponse(status=200, unreadable="it ended early")), Delivered)


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (400, Rejected, "what is wrong"),
        (401, Denied, "AXIOM_TOKEN"),
        (403, Denied, "AXIOM_DATASET"),
        (404, Denied, "the dataset lambda-logs (AXIOM_DATASET)"),
        (405, Denied, "AXIOM_URL"),
        (301, Denied, "AXIOM_URL"),
        (408, Retry, "408"),
        (429, Retry, "429"),
        (430, Retry, "the limit of the plan is reached"),
        (500, Retry, "500"),
        (503, Retry, "503"),
        (413, TooLarge, "413"),
        (422, Rejected, "what is wrong"),
    ],
)
def test_refused(status, kind, said):
    verdict = SINK.verdict(same(3), answer(b'{"message":"what is wrong"}', status))
    assert isinstance(verdict, kind)
    assert said in verdict.detail


@pytest.mark.parametrize("status", [429, 430, 503])
def test_the_wait_is_what_retry_after_says_and_no_point_in_time(status):
    headers = {"retry-after": "7", "x-ratelimit-reset": "1772446530", "x-ingestlimit-reset": "1772446530"}
    assert SINK.verdict(same(3), HttpResponse(status=status, headers=headers)).after == 7.0


# --- settings -------------------------------------------------------------------------------------------------------


def test_the_token_is_a_credential_and_no_part_of_a_request():
    destination = made()
    assert isinstance(destination.delivery, HttpDelivery)
    credential = destination.delivery.credential
    assert (credential.header, credential.prefix, credential.secret) == (
        "Authorization", "Bearer ", Secret("xaat-not-a-real-one"),
    )  # fmt: skip
    assert "not-a-real-one" not in repr(destination)


@pytest.mark.parametrize(
    ("name", "value", "service"),
    [
        (
            "AXIOM_TOKEN_SECRET_ARN",
            "arn:aws:secretsmanager:eu-west-1:210987654321:secret:axiom#token",
            "secretsmanager",
        ),
        ("AXIOM_TOKEN_SSM_PARAMETER", "/axiom/token", "ssm"),
    ],
)
def test_the_token_by_reference(name, value, service):
    destination = made(AXIOM_TOKEN="", **{name: value})
    secret = destination.delivery.credential.secret
    assert isinstance(secret, SecretReference)
    assert secret.service == service


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"AXIOM_URL": "https://api.eu.axiom.co/"}, "https://api.eu.axiom.co/v1/datasets/lambda-logs/ingest"),
        ({"AXIOM_EDGE": "eu-central-1.aws.edge.axiom.co"},
         "https://eu-central-1.aws.edge.axiom.co/v1/ingest/lambda-logs"),
        ({"AXIOM_URL": "https://us-east-1.aws.edge.axiom.co"},
         "https://us-east-1.aws.edge.axiom.co/v1/ingest/lambda-logs"),
        ({"AXIOM_EDGE": "http://127.0.0.1:8080", "AXIOM_URL": "https://api.axiom.co"},
         "http://127.0.0.1:8080/v1/ingest/lambda-logs"),
    ],
)  # fmt: skip
def test_addresses(environ, url):
    destination = made(**environ)
    assert destination.sink.request(same(1)).url == destination.delivery.url == url
    assert not destination.problems


def test_a_personal_token_needs_the_organisation():
    (problem,) = made(AXIOM_TOKEN="xapt-not-a-real-one").problems
    assert "AXIOM_ORG_ID" in str(problem)
    assert "not-a-real-one" not in str(problem)
    with_it = made(AXIOM_TOKEN="xapt-not-a-real-one", AXIOM_ORG_ID="org-1")
    assert not with_it.problems
    assert with_it.sink.request(same(1)).headers["x-axiom-org-id"] == "org-1"
    (problem,) = made(AXIOM_TOKEN="xapt-x", AXIOM_ORG_ID="org-1", AXIOM_EDGE="edge.axiom.co").problems
    assert "an edge deployment refuses" in str(problem)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"AXIOM_TOKEN": ""}, "AXIOM_TOKEN is not set; allowed: AXIOM_TOKEN or AXIOM_TOKEN_SECRET_ARN or"),
        ({"AXIOM_TOKEN": "Bearer hunter2"}, "Leave the word `Bearer` out."),
        ({"AXIOM_TOKEN": "arn:aws:secretsmanager:x:1:secret:n"}, "AXIOM_TOKEN_SECRET_ARN"),
        ({"AXIOM_DATASET": ""}, "AXIOM_DATASET is not set; allowed: 1 to 128"),
        ({"AXIOM_DATASET": "my logs"}, "AXIOM_DATASET is 'my logs'; allowed: 1 to 128"),
        ({"AXIOM_DATASET": "a/../b"}, "AXIOM_DATASET"),
        ({"AXIOM_URL": "api.axiom.co"}, "Sink axiom does not run, as it would send to another place than was meant."),
        ({"AXIOM_EDGE": "edge.axiom.co/v1/x"}, "AXIOM_EDGE"),
    ],
)
def test_wrong_settings_are_told(environ, said):
    with pytest.raises(ConfigError) as caught:
        made(**environ)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_credential_that_is_set_twice_is_told():
    (problem,) = made(AXIOM_TOKEN_SSM_PARAMETER="/axiom/token").problems
    assert problem.variable == "AXIOM_TOKEN_SSM_PARAMETER"
