"""What goes to Datadog over the wire, byte for byte, and how its answers are read."""

import pytest
from msgspec.structs import replace

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import (
    Delivered,
    Denied,
    DropReason,
    HttpDelivery,
    HttpResponse,
    Rejected,
    Retry,
    TooLarge,
)
from telemetry_forwarder.sinks.datadog import Datadog, create
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.types import Secret, SecretReference
from tests.sink_records import BARE, FULL, GOLDEN, REPORT, encode_all, loads, make_record, same

INTAKE = "https://http-intake.logs.datadoghq.eu"
SINK = Datadog(url=INTAKE, tags=(("owner", "me"),))
ENVIRON = {"DD_API_KEY": "not-a-real-key"}


def answer(status, **headers):
    body = b'{"errors":[{"status":"400","title":"Bad Request","detail":"x"}]}'
    return HttpResponse(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def log_of(record, sink=SINK):
    return loads(sink.encode(record).data)


# --- requests -------------------------------------------------------------------------------------------------------


def test_the_request_is_the_golden_one():
    """The file has a line for each log; no other line end can be in it, so without them it is the body."""
    request = SINK.request(encode_all(SINK))
    assert request.body == (GOLDEN / "datadog.json").read_bytes().replace(b"\n", b"")
    assert request.method == "POST"
    assert request.url == f"{INTAKE}/api/v2/logs"
    assert request.headers == {"content-type": "application/json"}


def test_overhead_and_framing_are_exact():
    batch = encode_all(SINK)
    sizes = sum(len(encoded.data) + SINK.limits.overhead_bytes for encoded in batch)
    assert len(SINK.request(batch).body) == sizes + SINK.limits.framing_bytes - 1  # no comma behind the last


@pytest.mark.parametrize(
    ("record", "status"),
    [
        (make_record("x"), None),
        (make_record("x", level="info"), "info"),
        (make_record("x", level="debug"), "debug"),
        (make_record("x", level="critical"), "critical"),
        (make_record(REPORT, "platform.report"), "error"),
        (make_record({**REPORT, "status": "success"}, "platform.report", level="info"), "info"),
        (make_record({"requestId": "r"}, "platform.report"), None),
        (make_record("odd", "platform.report"), None),
    ],
)
def test_status(record, status):
    """A status that is sent keeps Datadog from finding one itself: where no level is known there is none."""
    assert log_of(record).get("status") == status
    assert ("status" in log_of(record)) == (status is not None)


def test_without_an_arn_or_a_service_the_name_stands_in():
    log = log_of(make_record("x", origin=BARE, request_id=None, cold_start=None))
    assert (log["service"], log["hostname"], log["lambda"]) == ("orders-worker", "orders-worker", {})
    assert log["ddtags"] == "functionname:orders-worker,service:orders-worker,owner:me"


def test_a_comma_in_a_tag_does_not_make_two():
    origin = replace(FULL, tags=(("a,b", "c,d"),), env="x,y")
    tags = log_of(make_record("x", origin=origin))["ddtags"].split(",")
    assert "a_b:c_d" in tags
    assert "env:x_y" in tags
    assert all(":" in tag for tag in tags)


@pytest.mark.parametrize("body", ["✓" * 400_000, {"message": '"' * 700_000}, [["\n"] * 300_000]])
def test_a_record_over_the_limit_is_cut_and_marked(body):
    encoded = SINK.encode(make_record(body))
    assert encoded.is_cut
    assert 999_900 < len(encoded.data) <= SINK.limits.max_record_bytes == 1_000_000
    log = loads(encoded.data)
    assert log["message"].endswith(" bytes]")
    assert log["cut"] is True
    assert log["record_id"] == "0190f3-1"


def test_a_platform_record_that_fits_only_as_text_loses_nothing():
    body = {"name": "x" * 600_000}
    encoded = SINK.encode(make_record(body, "platform.news"))
    log = loads(encoded.data)
    assert loads(log["message"].encode()) == body
    assert not encoded.is_cut
    assert "cut" not in log
    assert "platform" not in log


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body"), [(202, b"{}"), (202, b""), (202, b'{"status":"ok"}'), (200, b"{}"), (200, b'{"status":"ok"}')]
)
def test_accepted(status, body):
    assert SINK.verdict(same(3), HttpResponse(status=status, body=body)) == Delivered()


@pytest.mark.parametrize("status", [200, 202, 204])
def test_a_2xx_that_cannot_be_read_is_delivered_with_a_warning(status):
    verdict = SINK.verdict(same(3), HttpResponse(status=status, unreadable="its body is no gzip"))
    assert isinstance(verdict, Delivered)
    for part in (f"HTTP {status}", "its body is no gzip", "not sent again"):
        assert part in verdict.warning


@pytest.mark.parametrize(("status", "kind"), [(503, Retry), (429, Retry), (403, Denied), (413, TooLarge)])
def test_any_other_status_is_what_it_is_when_the_rest_cannot_be_read(status, kind):
    assert isinstance(SINK.verdict(same(3), HttpResponse(status=status, unreadable="its body is no gzip")), kind)


def test_a_page_that_breaks_off_is_no_delivery():
    response = HttpResponse(status=200, body=b"<html>", unreadable="the connection ended before it did")
    assert isinstance(SINK.verdict(same(3), response), Denied)


PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>token=abc</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, PAGE, "text/html; charset=utf-8"),
        (202, PAGE, "text/html"),
        (200, b"Sign in", "text/html"),
        (200, b"OK", "text/plain"),
        (200, b"", "text/plain"),
        (200, b"", None),
        (204, b"", None),
        (200, b'{"message":"hello"}', "application/json"),
        (200, b"[]", "application/json"),
        (201, b"{}", "application/json"),
    ],
)
def test_what_datadog_does_not_say_is_no_delivery(status, body, kind):
    headers = {} if kind is None else {"content-type": kind}
    verdict = SINK.verdict(same(3), HttpResponse(status=status, body=body, headers=headers))
    assert isinstance(verdict, Denied)
    assert verdict.reason is DropReason.WRONG_ADDRESS
    for part in (f"HTTP {status} with", "DD_SITE", "proxy"):
        assert part in verdict.detail
    assert "abc" not in verdict.detail


def test_another_intake_may_answer_200_and_nothing_else():
    """Vector, and Datadog's own Observability Pipelines, do; a page, or what has a content type, is none of theirs."""
    elsewhere = replace(SINK, is_elsewhere=True)
    taken = elsewhere.verdict(same(3), HttpResponse(status=200))
    assert isinstance(taken, Delivered)
    assert taken.warning
    for body, kind in ((PAGE, "text/html"), (b"", "text/html"), (b"welcome", "text/plain")):
        answer_ = HttpResponse(status=200, body=body, headers={"content-type": kind})
        verdict = elsewhere.verdict(same(3), answer_)
        assert isinstance(verdict, Denied)
        assert "DD_LOGS_CONFIG_LOGS_DD_URL" in verdict.detail


def test_a_400_is_a_refusal_in_the_intakes_own_words():
    for count in (1, 2):
        refusal = SINK.verdict(same(count), answer(400))
        assert isinstance(refusal, Rejected)
        assert refusal.detail == 'HTTP 400 ("x")'


def test_413_is_too_large():
    assert isinstance(SINK.verdict(same(1), answer(413)), TooLarge)


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 404, 405, 407])
def test_what_the_key_or_the_address_is_to_blame_for_costs_no_record(status):
    verdict = SINK.verdict(same(2), answer(status))
    assert isinstance(verdict, Denied)
    reasons = {401: DropReason.UNAUTHORIZED, 403: DropReason.UNAUTHORIZED, 407: DropReason.UNREACHABLE}
    assert verdict.reason is reasons.get(status, DropReason.WRONG_ADDRESS)
    names = ("HTTPS_PROXY",) if status == 407 else ("DD_SITE",)
    for name in (*names, "DD_API_KEY") if status in (401, 403) else names:
        assert name in verdict.detail


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 520])
def test_unwell_is_tried_again(status):
    assert SINK.verdict(same(2), answer(status)) == Retry(0.0, f"HTTP {status}")


@pytest.mark.parametrize("status", [402, 415, 422, 501])
def test_any_other_refusal_is_final(status):
    assert isinstance(SINK.verdict(same(2), answer(status)), Rejected)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x_ratelimit_reset": "7"}, 7.0),
        ({"retry_after": "3"}, 3.0),
        ({"x_ratelimit_reset": "7", "retry_after": "9"}, 9.0),
        ({"x_ratelimit_reset": "7", "retry_after": "soon"}, 7.0),
    ],
)
def test_the_longer_of_the_waits_asked_for_is_kept(headers, seconds):
    for status in (429, 503):
        verdict = SINK.verdict(same(2), answer(status, **headers))
        assert isinstance(verdict, Retry)
        assert verdict.after == seconds


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "url"),
    [
        ({}, "https://http-intake.logs.datadoghq.com/api/v2/logs"),
        ({"DD_SITE": "https://US5.datadoghq.com/"}, "https://http-intake.logs.us5.datadoghq.com/api/v2/logs"),
        ({"DD_LOGS_CONFIG_LOGS_DD_URL": "http://127.0.0.1:8080"}, "http://127.0.0.1:8080/api/v2/logs"),
        (
            {"DD_LOGS_CONFIG_LOGS_DD_URL": "logs.corp:443", "DD_SITE": "datadoghq.eu"},
            "https://logs.corp:443/api/v2/logs",
        ),
    ],
)
def test_the_address_comes_from_the_site_or_is_given(own, url):
    assert create(read_all(ENVIRON | own)).sink.request(same(1)).url == url


def test_settings_reach_the_wire():
    destination = create(read_all(ENVIRON | {"DD_TAGS": "team:a owner:b,c:d"}))
    tags = loads(destination.sink.encode(make_record("x")).data)["ddtags"]
    assert tags.endswith(",team:a,owner:b,c:d")
    assert isinstance(destination.delivery, HttpDelivery)
    credential = destination.delivery.credential
    assert credential is not None
    assert (credential.header, credential.prefix, credential.secret) == ("DD-API-KEY", "", Secret("not-a-real-key"))
    assert destination.delivery.health is None
    assert "not-a-real-key" not in repr(destination)


def test_a_reference_will_do_and_unsound_settings_are_left_out():
    destination = create(read_all({"DD_API_KEY_SSM_PARAMETER": "/dd/key", "DD_TAGS": ":none"}))
    assert isinstance(destination.delivery, HttpDelivery)
    assert destination.delivery.credential is not None
    assert destination.delivery.credential.secret == SecretReference("ssm", "/dd/key")
    assert [problem.variable for problem in destination.problems] == ["DD_TAGS"]


def test_without_a_key_it_does_not_run():
    with pytest.raises(ConfigError) as caught:
        create(read_all({"DD_SITE": "nowhere"}))
    assert [problem.variable for problem in caught.value.problems] == ["DD_SITE", "DD_API_KEY"]
