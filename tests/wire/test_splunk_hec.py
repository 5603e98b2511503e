"""What goes to Splunk over the wire, byte for byte, and how its answers are read."""

import pytest
from msgspec.structs import replace

from local_backends.hec_acks import GUID
from telemetry_forwarder.errors import ConfigError
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
from telemetry_forwarder.sinks.splunk_hec import SplunkHec, create
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.types import Secret, SecretReference
from tests.sink_records import FULL, GOLDEN, NOW_MS, SAMPLES, encode_all, loads, make_record, same

SINK = SplunkHec(url="https://splunk.example.com:8088")
ENVIRON = {"SPLUNK_HEC_URL": "https://splunk.example.com:8088", "SPLUNK_HEC_TOKEN": "not-a-real-token"}


def answer(status, body=b"", **headers):
    return HttpResponse(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def object_of(record, sink=SINK):
    return loads(sink.encode(record).data)


# --- requests -------------------------------------------------------------------------------------------------------


def test_the_request_is_the_golden_one():
    request = SINK.request(encode_all(SINK))
    assert request.body + b"\n" == (GOLDEN / "splunk_hec.ndjson").read_bytes()
    assert request.method == "POST"
    assert request.url == "https://splunk.example.com:8088/services/collector/event"
    assert request.headers == {"content-type": "application/json"}


CHANNEL = "x-splunk-request-channel"


def test_a_channel_is_sent_that_is_one_for_an_hour_of_a_process():
    """A token with acknowledgement wants one; a request that is repeated has the same one as before."""
    sink = create(read_all(ENVIRON)).sink
    first, same_hour = encode_all(sink)[:2]
    later = sink.encode(make_record("x", time_ms=NOW_MS + 3_600_000))
    channels = [sink.request([one]).headers[CHANNEL] for one in (first, same_hour, first, later)]
    assert all(GUID.fullmatch(channel) for channel in channels)
    assert channels[0] == channels[1] == channels[2] != channels[3]
    assert create(read_all(ENVIRON)).sink.request([first]).headers[CHANNEL] not in channels
    assert sink.request([sink.encode(make_record("x", time_ms=-1))]).headers[CHANNEL]


def test_a_channel_that_did_not_arrive_names_the_setting_of_the_token():
    for code in (10, 28):
        verdict = SINK.verdict(same(2), answer(400, b'{"text":"Data channel is missing","code":%d}' % code))
        assert isinstance(verdict, Denied)
        assert "useACK" in verdict.detail
        assert "X-Splunk-Request-Channel" in verdict.detail


def test_every_field_is_a_text_or_a_list_of_texts():
    """HEC takes no other values of indexed fields. Source: "Automate indexed field extractions with HEC"."""
    for encoded in encode_all(SINK):
        for value in loads(encoded.data)["fields"].values():
            assert isinstance(value, str) or all(isinstance(one, str) for one in value)
    fields = object_of(make_record("x"))["fields"]
    assert (fields["memory_mb"], fields["cold_start"], fields["costs"]) == ("512", "true", ["a", "b"])
    assert object_of(make_record("x", cold_start=False))["fields"]["cold_start"] == "false"


def test_every_key_is_on_every_object_and_no_other():
    """HEC may carry metadata over, and stops at a key that it does not know while it answers 200."""
    sink = replace(SINK, index="apps", source="s", sourcetype="t", host="h")
    for encoded in encode_all(sink):
        found = loads(encoded.data)
        assert list(found) == ["time", "host", "source", "sourcetype", "index", "event", "fields"]
        assert (found["host"], found["source"], found["sourcetype"], found["index"]) == ("h", "s", "t", "apps")


@pytest.mark.parametrize(
    ("time_ms", "written"),
    [(NOW_MS, b"1772446530.100"), (0, b"0.000"), (5, b"0.005"), (10**19, b"10000000000000000.000"), (-1500, b"-1.500")],
)
def test_time_is_in_seconds_with_three_decimals_and_no_exponent(time_ms, written):
    assert SINK.encode(make_record("x", time_ms=time_ms)).data.startswith(b'{"time":' + written + b",")


@pytest.mark.parametrize(
    ("body", "event"),
    [
        ("", {"message": ""}),
        (" \t", {"message": " \t"}),
        ({}, {"record": {}}),
        ([], {"record": []}),
        (None, {"record": None}),
        (0, 0),
        (False, False),
        ([1], [1]),
    ],
)
def test_what_hec_would_refuse_as_blank_is_wrapped(body, event):
    assert object_of(make_record(body))["event"] == event


def test_fields_are_flat_and_tags_never_replace_ours():
    origin = replace(FULL, tags=(("type", "a"), ("tag_type", "b"), ("host", "c"), ("cut", "d")))
    fields = object_of(make_record("x", origin=origin))["fields"]
    assert fields["type"] == "function"
    assert {key: fields[key] for key in fields if key.startswith("tag_")} == {
        "tag_type": "a", "tag_tag_type": "b", "tag_host": "c", "tag_cut": "d",
    }  # fmt: skip
    assert not any(isinstance(value, dict) for value in fields.values())


@pytest.mark.parametrize("body", ["ä" * 600_000, {"message": "ä" * 600_000}, '"\n' * 400_000])
def test_a_record_over_the_limit_is_cut_and_marked(body):
    encoded = SINK.encode(make_record(body))
    assert encoded.is_cut
    assert 999_900 < len(encoded.data) <= SINK.limits.max_record_bytes
    found = loads(encoded.data)
    assert found["event"].endswith(" bytes]")
    assert "…[cut, " in found["event"]
    assert found["fields"]["cut"] == "true"
    assert found["fields"]["record_id"] == "0190f3-1"


def test_a_blank_text_over_the_limit_is_not_sent_blank():
    """Not even where it would just fit without what a blank text is wrapped in."""
    around = len(SINK.encode(make_record(" ")).data) - 1
    most = SINK.limits.max_record_bytes - around
    assert object_of(make_record(" " * most))["event"] == {"message": " " * most}
    for over in (1, 3, 1_000_000):
        event = object_of(make_record(" " * (most + over)))["event"]
        assert event.endswith(" bytes]")


def test_an_object_at_the_limit_fits_a_request_by_itself():
    assert SINK.limits.max_record_bytes + SINK.limits.overhead_bytes <= SINK.limits.max_bytes == 1_000_000


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b'{"text":"Success","code":0}', b'{"text":"Success","code":0,"ackId":7}', b'"OK"', b"OK\n", b'{"text":"OK"}'],
)
@pytest.mark.parametrize("status", [200, 202])
def test_what_an_hec_and_its_like_say_is_a_delivery(status, body):
    """The last three are of other receivers: older OpenTelemetry Collectors answer 202 and `OK`."""
    assert SINK.verdict(same(3), answer(status, body)) == Delivered()


@pytest.mark.parametrize(
    ("status", "body", "shown"),
    [
        (200, b"<html><head><title>Sign in to Hotel Wi-Fi</title></head>", "HTML that begins “Sign in to Hotel Wi-Fi”"),
        (200, b"", "an empty body"),
        (204, b"", "HTTP 204 with an empty body"),
        (200, b"ok, thank you", "begins “ok, thank you”"),
        (200, b'{"message":"hello"}', "HTTP 200"),
        (200, b'{"text":"The requested URL was not found","code":404}', "HTTP 200"),
        (201, b'{"text":"Success","code":0}', "HTTP 201"),
    ],
)
def test_what_no_hec_says_is_no_delivery(status, body, shown):
    verdict = SINK.verdict(same(3), answer(status, body))
    assert isinstance(verdict, Denied)
    assert verdict.reason is DropReason.WRONG_ADDRESS
    for part in (shown, "SPLUNK_HEC_URL", "proxy"):
        assert part in verdict.detail


@pytest.mark.parametrize(("status", "body"), [(200, b""), (200, b'{"text":"Succ'), (204, b""), (299, b"?")])
def test_a_2xx_that_cannot_be_read_is_delivered_with_a_warning(status, body):
    response = HttpResponse(status=status, body=body, unreadable="its body is no gzip")
    verdict = SINK.verdict(same(3), response)
    assert isinstance(verdict, Delivered)
    for part in (f"HTTP {status}", "its body is no gzip", "not sent again"):
        assert part in verdict.warning


@pytest.mark.parametrize("headers", [{}, {"content-type": "text/html"}])
def test_of_a_page_that_breaks_off_enough_can_be_read(headers):
    body = b"" if headers else b"<html><title>Sign"
    response = HttpResponse(status=200, body=body, headers=headers, unreadable="the connection ended before it did")
    assert isinstance(SINK.verdict(same(3), response), Denied)


def test_what_can_be_read_counts_whatever_stands_behind_it():
    whole = HttpResponse(status=200, body=b'{"text":"Success","code":0}', unreadable="its packed body is cut short")
    assert SINK.verdict(same(3), whole) == Delivered()
    busy = HttpResponse(status=200, body=b'{"text":"Busy","code":9}', unreadable="its packed body is cut short")
    assert isinstance(SINK.verdict(same(3), busy), Retry)


@pytest.mark.parametrize(
    ("status", "kind"), [(503, Retry), (429, Retry), (403, Denied), (404, Denied), (413, TooLarge), (400, Rejected)]
)
def test_any_other_status_is_what_it_is_when_the_rest_cannot_be_read(status, kind):
    response = HttpResponse(status=status, headers={"retry-after": "7"}, unreadable="its body is no gzip")
    verdict = SINK.verdict(same(3), response)
    assert isinstance(verdict, kind)
    if kind is Retry:
        assert verdict.after == 7.0


@pytest.mark.parametrize("code", [8, 9, 18, 19, 20, 23, 26, 27])
def test_a_200_that_hides_an_error_is_tried_again(code):
    assert isinstance(SINK.verdict(same(3), answer(200, b'{"text":"x","code":%d}' % code)), Retry)


@pytest.mark.parametrize("body", [b'{"text":"","code":24}', b'{"text":"","code":25}'])
def test_200_with_something_to_say_is_delivered_with_a_warning(body):
    verdict = SINK.verdict(same(3), answer(200, body))
    assert isinstance(verdict, Delivered)
    assert verdict.warning


@pytest.mark.parametrize("code", [6, 12, 13, 15])
def test_a_bad_object_is_dropped_and_only_those_behind_it_are_sent_again(code):
    """HEC has stored what stood before it."""
    body = b'{"text":"x","code":%d,"invalid-event-number":2}' % code
    verdict = SINK.verdict(same(5), answer(400, body))
    assert isinstance(verdict, Partial)
    assert (verdict.retry, verdict.rejected) == ((3, 4), {2: DropReason.REJECTED})


@pytest.mark.parametrize(("number", "bad"), [(3, 2), (5, 4)])
def test_the_number_of_a_bad_index_is_one_too_high(number, bad):
    verdict = SINK.verdict(same(5), answer(400, b'{"text":"x","code":7,"invalid-event-number":%d}' % number))
    assert isinstance(verdict, Partial)
    assert (verdict.retry, verdict.rejected) == (tuple(range(bad + 1, 5)), {bad: DropReason.REJECTED})


@pytest.mark.parametrize("number", [b',"invalid-event-number":1', b',"invalid-event-number":0', b""])
def test_a_bad_index_that_nothing_was_taken_before_is_the_configuration(number):
    """All records name the same index; HEC's own words and what to mend are said."""
    verdict = SINK.verdict(same(5), answer(400, b'{"text":"Incorrect index","code":7%b}' % number))
    assert isinstance(verdict, Denied)
    assert "Incorrect index" in verdict.detail
    assert "SPLUNK_INDEX" in verdict.detail


@pytest.mark.parametrize(
    "body",
    [
        b'{"text":"x","code":6}',
        b'{"text":"x","code":6,"invalid-event-number":5}',
        b'{"text":"x","code":6,"invalid-event-number":-1}',
        b'{"text":"x","code":7,"invalid-event-number":6}',
        b'{"text":"x","code":6,"invalid-event-number":"2"}',
        b'{"text":"x","code":6,"invalid-event-number":true}',
        b'{"text":"x","code":5}',
        b'{"text":"x","code":999}',
        b'{"code":{}}',
        b"[]",
        b"<html>Bad request</html>",
        b"",
        b"\xff\xfe",
    ],
)
def test_a_400_that_names_no_record_of_the_batch_is_final(body):
    assert isinstance(SINK.verdict(same(5), answer(400, body)), Rejected)


def test_code_6_for_the_first_of_a_large_batch_means_too_large():
    """Splunk Cloud says so where Enterprise answers 413."""
    reply = answer(400, b'{"text":"Invalid data format","code":6,"invalid-event-number":0}')
    assert isinstance(SINK.verdict(same(6, b"x" * 100_000), reply), TooLarge)
    assert isinstance(SINK.verdict(same(4, b"x" * 100_000), reply), Partial)
    assert isinstance(SINK.verdict(same(1, b"x" * 900_000), reply), Partial)
    assert isinstance(SINK.verdict(same(6, b"x" * 100_000), answer(413)), TooLarge)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, b'{"text":"Token is required","code":2}'),
        (401, b'{"text":"Invalid authorization","code":3}'),
        (403, b'{"text":"Token disabled","code":1}'),
        (403, b'{"text":"Invalid token","code":4}'),
        (403, b"<html>forbidden</html>"),
        (400, b'{"text":"","code":10}'),
        (400, b'{"text":"","code":21}'),
        (400, b'{"text":"","code":22}'),
        (400, b'{"text":"","code":28}'),
        (404, b'{"text":"The requested URL was not found on this server.","code":404}'),
        (405, b""),
        (407, b""),
    ],
)
def test_what_the_token_or_the_address_is_to_blame_for_costs_no_record(status, body):
    verdict = SINK.verdict(same(2), answer(status, body))
    assert isinstance(verdict, Denied)
    reasons = {404: DropReason.WRONG_ADDRESS, 405: DropReason.WRONG_ADDRESS, 407: DropReason.UNREACHABLE}
    assert verdict.reason is reasons.get(status, DropReason.UNAUTHORIZED)
    names = {404: "SPLUNK_HEC_URL", 405: "SPLUNK_HEC_URL", 407: "HTTPS_PROXY"}
    assert names.get(status, "SPLUNK_HEC_TOKEN") in verdict.detail


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599, 100, 0, 700])
def test_unwell_is_tried_again(status):
    assert SINK.verdict(same(2), answer(status, b'{"text":"Server is busy","code":9}')) == Retry(0.0, f"HTTP {status}")


@pytest.mark.parametrize("status", [402, 415, 422, 501])
def test_any_other_refusal_is_final(status):
    assert isinstance(SINK.verdict(same(2), answer(status, b"<html>no</html>")), Rejected)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 2.5 ", 2.5),
        ("Wed, 21 Oct 2026 07:28:00 GMT", 0.0),
        ("-1", 0.0),
        ("1e9", 0.0),
        ("²", 0.0),
        ("", 0.0),
    ],
)
def test_retry_after_is_read_in_seconds_alone(text, seconds):
    verdict = SINK.verdict(same(2), answer(503, retry_after=text))
    assert isinstance(verdict, Retry)
    assert verdict.after == seconds


def test_a_redirect_names_its_host_and_nothing_else_of_it():
    location = "https://user:secret@login.example.com/path?token=secret"
    verdict = SINK.verdict(same(2), answer(302, location=location))
    assert isinstance(verdict, Denied)
    assert "login.example.com" in verdict.detail
    assert "secret" not in verdict.detail
    assert isinstance(SINK.verdict(same(2), answer(307, location="/elsewhere")), Denied)


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    ["", "/", "/services/collector", "/services/collector/", "/services/collector/event", "/services/collector/raw/1.0",
     "/services/collector/event/1.0", "/services/collector/1.0", "/services/collector/health"],
)  # fmt: skip
def test_any_pasted_form_of_the_address_leads_to_the_endpoint(path):
    for base in ("https://splunk.example.com:8088", "http://proxy.example.com/hec"):
        destination = create(read_all({**ENVIRON, "SPLUNK_HEC_URL": base + path}))
        assert destination.sink.request(same(1)).url == f"{base}/services/collector/event"
        assert isinstance(destination.delivery, HttpDelivery)
        assert destination.delivery.health is not None
        assert destination.delivery.health.url == f"{base}/services/collector/health"
        assert destination.delivery.health.method == "GET"


def test_settings_reach_the_wire():
    own = {"SPLUNK_INDEX": "apps", "SPLUNK_SOURCE": "src", "SPLUNK_SOURCETYPE": "st", "SPLUNK_HOST": "web-1"}
    destination = create(read_all(ENVIRON | own))
    found = loads(destination.sink.encode(SAMPLES[0]).data)
    assert (found["index"], found["source"], found["sourcetype"], found["host"]) == ("apps", "src", "st", "web-1")
    assert destination.problems == ()


def test_the_token_is_sent_as_splunk_wants_it_and_never_shown():
    destination = create(read_all(ENVIRON))
    assert isinstance(destination.delivery, HttpDelivery)
    credential = destination.delivery.credential
    assert credential is not None
    assert (credential.header, credential.prefix) == ("Authorization", "Splunk ")
    assert credential.secret == Secret("not-a-real-token")
    assert "not-a-real-token" not in repr(destination)


def test_the_plain_token_wins_and_secrets_manager_comes_before_ssm():
    arn = "arn:aws:secretsmanager:eu-west-1:210987654321:secret:hec#token"
    references = {"SPLUNK_HEC_TOKEN_SECRET_ARN": arn, "SPLUNK_HEC_TOKEN_SSM_PARAMETER": "/hec/token"}
    everything = create(read_all(ENVIRON | references))
    assert isinstance(everything.delivery, HttpDelivery)
    assert everything.delivery.credential is not None
    assert everything.delivery.credential.secret == Secret("not-a-real-token")
    assert [problem.variable for problem in everything.problems] == list(references)
    two = create(read_all({"SPLUNK_HEC_URL": ENVIRON["SPLUNK_HEC_URL"]} | references))
    assert isinstance(two.delivery, HttpDelivery)
    assert two.delivery.credential is not None
    assert two.delivery.credential.secret == SecretReference("secretsmanager", arn.partition("#")[0], "token")
    assert [problem.variable for problem in two.problems] == ["SPLUNK_HEC_TOKEN_SSM_PARAMETER"]


@pytest.mark.parametrize(
    ("environ", "variables"),
    [
        ({}, ["SPLUNK_HEC_URL", "SPLUNK_HEC_TOKEN"]),
        ({"SPLUNK_HEC_URL": "splunk.example.com", "SPLUNK_HEC_TOKEN": "x"}, ["SPLUNK_HEC_URL"]),
        ({"SPLUNK_HEC_URL": "https://h", "SPLUNK_HEC_TOKEN": "two words"}, ["SPLUNK_HEC_TOKEN"]),
    ],
)
def test_without_address_or_token_every_problem_is_named(environ, variables):
    with pytest.raises(ConfigError) as caught:
        create(read_all(environ))
    assert [problem.variable for problem in caught.value.problems] == variables
    assert "two words" not in str(caught.value)
