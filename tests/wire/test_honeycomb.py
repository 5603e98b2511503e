"""What goes to Honeycomb over the wire, byte for byte, and how its answers are read."""

import orjson
import pytest

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import (
    Delivered,
    Denied,
    DropReason,
    HttpResponse,
    Partial,
    Rejected,
    Retry,
    TooLarge,
)
from telemetry_forwarder.sinks import load
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.types import Secret, SecretReference
from tests.sink_records import FULL, GOLDEN, encode_all, loads, make_record, same

ENVIRON = {"HONEYCOMB_API_KEY": "not-a-real-key", "HONEYCOMB_DATASET": "My logs"}


def made(**environ):
    return load("honeycomb")(read_all(ENVIRON | environ))


SINK = made().sink


def data_of(body, kind="function", **more):
    record = make_record(body, kind, **more)
    (alone,), (among,) = [SINK.encode(record)], SINK.encode_all([record])
    assert alone == among
    return loads(alone.data)["data"]


# --- requests -------------------------------------------------------------------------------------------------------


def test_the_request_is_the_golden_one():
    request = SINK.request(encode_all(SINK))
    assert request.body == (GOLDEN / "honeycomb.json").read_bytes().replace(b"\n", b"")
    assert (request.method, request.url) == ("POST", "https://api.honeycomb.io/1/batch/My%20logs")
    assert request.headers == {"content-type": "application/json"}


def test_overhead_and_framing_are_exact():
    batch = encode_all(SINK)
    sizes = sum(len(encoded.data) + SINK.limits.overhead_bytes for encoded in batch)
    assert len(SINK.request(batch).body) == sizes + SINK.limits.framing_bytes - 1


def test_data_is_flat():
    data = data_of({"message": "m", "order": {"id": 17, "tags": ["a", 1]}, "none": None, "empty": {}})
    del data["lambda.record_id"]
    own = {key: value for key, value in data.items() if not key.startswith("lambda.")}
    assert own == {"message": "m", "order.id": 17, "order.tags": '["a",1]', "empty": "{}"}
    assert data["lambda.tags.costs"] == "a,b"


@pytest.mark.parametrize("body", [{"x": None}, {}, "text", [1], 7, None])
def test_data_is_never_without_a_message(body):
    assert "message" in data_of(body)


def test_a_member_with_one_of_our_names_keeps_its_value_under_another():
    data = data_of({"lambda.record_id": "x", "lambda": {"type": "y"}, "record.lambda.type": 1})
    assert data["lambda.record_id"] == "0190f3-1"
    assert (data["record.lambda.record_id"], data["record.lambda.type_"], data["record.lambda.type"]) == ("x", "y", 1)
    assert data["lambda.type"] == "function"


def test_a_trace_that_the_line_names_counts_for_more():
    trace = "68c4a1f03b2a90d1c7e845f6a0b1c2d3"
    assert data_of("x", trace_id=trace)["trace.trace_id"] == trace
    assert data_of({"trace.trace_id": "mine", "m": 1}, trace_id=trace)["trace.trace_id"] == "mine"


def test_an_event_has_its_members_and_the_familiar_line():
    data = data_of({"requestId": "r", "metrics": {"durationMs": 1.5}}, "platform.report")
    assert data["message"].startswith("REPORT RequestId: r")
    assert (data["record.metrics.durationMs"], data["lambda.type"]) == (1.5, "platform.report")


def test_a_line_with_too_many_members_becomes_its_text():
    line = {f"m{number}": number for number in range(1_901)}
    assert orjson.loads(data_of(line)["message"]) == line


@pytest.mark.parametrize(
    "body", ["é" * 50_000, {"a": "x" * 70_000, "b": 1}, {"message": "\x00" * 20_000}, {"a": {"b": ["x" * 70_000]}}]
)
def test_a_text_over_64_kb_is_cut_and_marked(body):
    encoded = SINK.encode(make_record(body))
    data = loads(encoded.data)["data"]
    assert encoded.is_cut
    assert data["lambda.cut"] is True
    assert all(len(value.encode()) <= 65_536 for value in data.values() if isinstance(value, str))
    assert any(isinstance(value, str) and value.endswith(" bytes]") for value in data.values())


def test_a_text_of_64_kb_is_whole():
    encoded = SINK.encode(make_record("x" * 65_536))
    assert not encoded.is_cut
    assert loads(encoded.data)["data"]["message"] == "x" * 65_536


def test_an_event_over_the_limit_becomes_its_text():
    encoded = SINK.encode(make_record({f"m{number}": "x" * 65_000 for number in range(20)}))
    assert encoded.is_cut
    assert len(encoded.data) < 70_000


# --- answers --------------------------------------------------------------------------------------------------------


def answered(*found, status=200):
    return SINK.verdict(same(3), HttpResponse(status=status, body=orjson.dumps([*found])))


OK = {"status": 202}


def test_accepted():
    assert answered(OK, OK, OK) == Delivered()


def test_each_event_is_read_by_its_position():
    verdict = answered(OK, {"status": 400, "error": "Event has too many columns"}, {"status": 429})
    assert isinstance(verdict, Partial)
    assert (verdict.retry, dict(verdict.rejected)) == ((2,), {1: DropReason.REJECTED})
    assert "2 of 3 events were refused, the first with 400" in verdict.detail
    assert "Event has too many columns" in verdict.detail


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_all_that_are_to_be_sent_again(status):
    assert isinstance(answered(*[{"status": status, "error": "x"}] * 3), Retry)


def test_a_long_list_names_no_event_that_there_is_not():
    verdict = answered(OK, OK, {"status": 400}, {"status": 400}, {"status": 400})
    assert dict(verdict.rejected) == {2: DropReason.REJECTED}


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"<html>", b'[{"status":"202"}]', b"[1]", b"[{}]"])
def test_a_200_of_something_else_is_no_success(body):
    verdict = SINK.verdict(same(3), HttpResponse(status=200, body=body))
    assert isinstance(verdict, Denied)
    assert verdict.reason is DropReason.WRONG_ADDRESS


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (400, Rejected, "what is wrong"),
        (401, Denied, "HONEYCOMB_API_KEY"),
        (403, Denied, "or the team is throttled"),
        (404, Denied, "HONEYCOMB_DATASET"),
        (405, Denied, "HONEYCOMB_API_ENDPOINT"),
        (413, TooLarge, "413"),
        (429, Retry, "429"),
        (500, Retry, "500"),
    ],
)
def test_refused(status, kind, said):
    verdict = SINK.verdict(same(3), HttpResponse(status=status, body=b'{"error":"what is wrong"}'))
    assert isinstance(verdict, kind)
    assert said in verdict.detail


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({}, 0.0),
        ({"retry-after": "3"}, 3.0),
        ({"ratelimit": "limit=100, remaining=0, reset=54"}, 54.0),
        ({"ratelimit": "reset=7"}, 7.0),
        ({"ratelimit": "limit=100;xreset=9, reset=soon"}, 0.0),
        ({"ratelimit": "reset=54", "retry-after": "2"}, 2.0),
    ],
)
def test_the_wait(headers, wait):
    assert SINK.verdict(same(3), HttpResponse(status=429, headers=headers)).after == wait


# --- settings -------------------------------------------------------------------------------------------------------


def test_the_key_is_a_credential_and_no_part_of_a_request():
    credential = made().delivery.credential
    assert (credential.header, credential.prefix) == ("X-Honeycomb-Team", "")
    assert credential.secret == Secret("not-a-real-key")
    assert "not-a-real-key" not in repr(made())


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({"HONEYCOMB_API_KEY_SECRET_ARN": "arn:aws:secretsmanager:eu-west-1:210987654321:secret:hc"}, SecretReference),
        ({"HONEYCOMB_API_KEY_SSM_PARAMETER": "/hc/key"}, SecretReference),
        ({"LIBHONEY_API_KEY": "other"}, Secret),
    ],
)
def test_other_ways_to_the_key(environ, kind):
    assert isinstance(made(HONEYCOMB_API_KEY="", **environ).delivery.credential.secret, kind)


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"HONEYCOMB_API_ENDPOINT": "https://api.eu1.honeycomb.io/"}, "https://api.eu1.honeycomb.io/1/batch/My%20logs"),
        ({"LIBHONEY_API_HOST": "http://refinery:8080"}, "http://refinery:8080/1/batch/My%20logs"),
        ({"HONEYCOMB_DATASET": "", "LIBHONEY_DATASET": "a?b#ü"}, "https://api.honeycomb.io/1/batch/a%3Fb%23%C3%BC"),
    ],
)
def test_addresses(environ, url):
    assert made(**environ).sink.request(same(1)).url == url


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"HONEYCOMB_API_KEY": ""}, "HONEYCOMB_API_KEY is not set; allowed: HONEYCOMB_API_KEY or"),
        ({"HONEYCOMB_API_KEY": "hunter 2"}, "There is a space in it."),
        ({"HONEYCOMB_DATASET": ""}, "HONEYCOMB_DATASET is not set; allowed: HONEYCOMB_DATASET or LIBHONEY_DATASET"),
        ({"HONEYCOMB_DATASET": "a/b"}, "HONEYCOMB_DATASET is 'a/b'; allowed: 1 to 255"),
        ({"HONEYCOMB_API_ENDPOINT": "api.honeycomb.io:443"}, "Write `https://api.honeycomb.io:443`."),
    ],
)
def test_wrong_settings_are_told(environ, said):
    with pytest.raises(ConfigError) as caught:
        made(**environ)
    assert said in str(caught.value)
    assert "hunter" not in str(caught.value)


def test_the_region_of_the_batch_is_that_of_the_origin():
    assert data_of("x", origin=FULL)["lambda.region"] == "eu-west-1"
