"""What goes to any receiver of JSON over the wire, byte for byte, and how its answers are read."""

import pytest

from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import (
    Delivered,
    Denied,
    DropReason,
    HeaderList,
    HttpResponse,
    Rejected,
    Retry,
    Signing,
    TooLarge,
)
from telemetry_forwarder.sinks import load
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.types import Secret, SecretReference
from tests.sink_records import GOLDEN, encode_all, loads, make_record, same

URL = "https://logs.example.com/in?stream=a"
PREFIX = "TELEMETRY_FORWARDER_HTTP_"


def made(**environ):
    given = {"URL": URL, **environ}
    others = {name: given.pop(name) for name in list(given) if name.startswith("AWS_REGION")}
    return load("http")(read_all({f"{PREFIX}{name}": text for name, text in given.items()} | others))


def problems_of(**environ):
    return [str(problem) for problem in made(**environ).problems]


SINK = made().sink


# --- requests -------------------------------------------------------------------------------------------------------


def test_the_request_is_the_golden_one():
    request = SINK.request(encode_all(SINK))
    assert request.body == (GOLDEN / "generic_http.ndjson").read_bytes()
    assert (request.method, request.url) == ("POST", URL)
    assert request.headers["content-type"] == "application/x-ndjson"
    assert len(request.headers["Idempotency-Key"]) == 32


@pytest.mark.parametrize(
    ("form", "opening", "closing"),
    [
        ("json_array", b"[", b"]"),
        ("json_array:records", b'{"records":[', b"]}"),
        ("json-array: a.b", b'{"a.b":[', b"]}"),
    ],
)
def test_a_body_may_be_an_array(form, opening, closing):
    sink = made(FORMAT=form).sink
    batch = encode_all(sink)
    request = sink.request(batch)
    assert request.body == opening + b",".join(encoded.data for encoded in batch) + closing
    assert request.headers["content-type"] == "application/json"
    assert loads(request.body)


@pytest.mark.parametrize("form", ["ndjson", "json_array", "json_array:records"])
def test_overhead_and_framing_are_exact(form):
    sink = made(FORMAT=form).sink
    batch = encode_all(sink)
    sizes = sum(len(encoded.data) + sink.limits.overhead_bytes for encoded in batch)
    spare = 0 if form == "ndjson" else 1  # no comma behind the last
    assert len(sink.request(batch).body) == sizes + sink.limits.framing_bytes - spare


def test_the_delivery_id_is_that_of_the_bytes():
    batch = encode_all(SINK)
    ids = [SINK.request(records).headers["Idempotency-Key"] for records in (batch, batch, batch[:1])]
    assert ids[0] == ids[1] != ids[2]
    assert made(DELIVERY_ID_HEADER="X-Id").sink.request(batch).headers["X-Id"] == ids[0]
    assert made(DELIVERY_ID_HEADER="none").sink.request(batch).headers == {"content-type": "application/x-ndjson"}


def test_method_and_content_type_are_those_that_are_given():
    request = made(METHOD="put", CONTENT_TYPE="application/json; charset=utf-8").sink.request(same(1))
    assert (request.method, request.headers["content-type"]) == ("PUT", "application/json; charset=utf-8")


@pytest.mark.parametrize("name", ["@timestamp", "lambda"])
def test_a_member_with_a_name_of_ours_overwrites_nothing(name):
    sent = loads(SINK.encode(make_record({"message": "m", name: "x"})).data)
    assert sent["record"] == {"message": "m", name: "x"}
    assert sent["@timestamp"] == "2026-03-02T10:15:30.100Z"
    assert sent["lambda"]["record_id"] == "0190f3-1"


def test_limits_are_those_that_are_given():
    sink = made(BATCH_BYTES="20000", BATCH_RECORDS="3", FORMAT="json_array").sink
    encoded = sink.encode(make_record("x" * 50_000))
    assert encoded.is_cut
    assert len(sink.request([encoded]).body) <= sink.limits.max_bytes == 20_000
    assert sink.limits.max_records == 3


# --- answers --------------------------------------------------------------------------------------------------------

PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"


@pytest.mark.parametrize(("status", "body"), [(200, b""), (200, b"OK"), (201, b"{}"), (202, b"[]"), (204, b"")])
def test_a_2xx_is_a_success(status, body):
    assert SINK.verdict(same(3), HttpResponse(status=status, body=body)) == Delivered()


def test_one_that_cannot_be_read_is_delivered_with_a_warning():
    verdict = SINK.verdict(same(3), HttpResponse(status=200, unreadable="its body is no gzip"))
    assert isinstance(verdict, Delivered)
    assert verdict.warning


@pytest.mark.parametrize(("status", "body"), [(200, PAGE), (260, b"ingestion blocked for user")])
def test_a_2xx_that_stored_nothing_costs_no_record(status, body):
    verdict = SINK.verdict(same(3), HttpResponse(status=status, body=body))
    assert isinstance(verdict, Denied)
    assert verdict.reason is DropReason.WRONG_ADDRESS
    assert f"{PREFIX}URL" in verdict.detail


def test_codes_that_are_given_count_alone():
    sink = made(SUCCESS_CODES="202, 409", RETRY_CODES="404,470-479").sink
    for status, body in ((202, PAGE), (409, b"I had it")):
        assert sink.verdict(same(2), HttpResponse(status=status, body=body)) == Delivered()
    assert isinstance(sink.verdict(same(2), HttpResponse(status=200)), Denied)
    waits = HttpResponse(status=404, headers={"retry-after": "7"})
    assert sink.verdict(same(2), waits) == Retry(after=7.0, detail="HTTP 404")
    assert isinstance(sink.verdict(same(2), HttpResponse(status=475)), Retry)
    assert isinstance(sink.verdict(same(2), HttpResponse(status=480)), Rejected)
    assert isinstance(sink.verdict(same(2), HttpResponse(status=503)), Retry)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(301, Denied), (307, Denied), (400, Rejected), (404, Denied), (405, Denied), (407, Denied), (408, Retry),
     (409, Rejected), (413, TooLarge), (415, Rejected), (422, Rejected), (425, Retry), (429, Retry), (500, Retry),
     (501, Rejected), (502, Retry), (503, Retry), (504, Retry)],
)  # fmt: skip
def test_the_others_are_read_as_usual(status, kind):
    assert isinstance(SINK.verdict(same(2), HttpResponse(status=status)), kind)


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ({"TOKEN": "t"}, ["TOKEN", "HEADERS"]),
        ({"USERNAME": "u", "PASSWORD": "p"}, ["USERNAME", "PASSWORD"]),
        ({}, ["TOKEN", "PASSWORD", "HEADERS"]),
        ({"AWS_SERVICE": "lambda", "AWS_REGION": "eu-west-1"}, ["AWS_SERVICE"]),
    ],
)
@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_names_the_variables_of_the_credential(own, named, status):
    verdict = made(**own).sink.verdict(same(2), HttpResponse(status=status))
    assert isinstance(verdict, Denied)
    for name in named:
        assert f"{PREFIX}{name}" in verdict.detail


# --- settings -------------------------------------------------------------------------------------------------------


def test_a_token():
    delivery = made(TOKEN="not-a-real-one").delivery
    credential = delivery.credential
    assert (credential.header, credential.prefix, credential.user) == ("authorization", "Bearer ", None)
    assert credential.secret == Secret("not-a-real-one")
    assert "not-a-real-one" not in repr(delivery)


def test_user_name_and_password():
    delivery = made(USERNAME="me", PASSWORD_SECRET_ARN="arn:aws:secretsmanager:eu-west-1:1:secret:p").delivery
    credential = delivery.credential
    assert (credential.prefix, credential.user) == ("Basic ", "me")
    assert credential.secret == SecretReference("secretsmanager", "arn:aws:secretsmanager:eu-west-1:1:secret:p")


def test_a_password_may_be_anything_that_is_printable():
    assert made(USERNAME="me", PASSWORD="two wörds: yes").delivery.credential.secret == Secret("two wörds: yes")


def test_headers_that_are_secret_count_more():
    delivery = made(HEADERS="x-a=1,x-b=2", HEADERS_SSM_PARAMETER="/headers").delivery
    assert delivery.headers == (HeaderList(SecretReference("ssm", "/headers")), HeaderList(Secret("x-a=1,x-b=2")))
    assert "x-a=1" not in repr(delivery)


def test_signing_takes_the_functions_region_unless_one_is_given():
    assert made(AWS_SERVICE="execute-api", AWS_REGION="eu-west-1").delivery.signing == Signing(
        "execute-api", "eu-west-1"
    )
    given = {f"{PREFIX}URL": URL, f"{PREFIX}AWS_SERVICE": "lambda", "AWS_REGION": "us-east-2"}
    assert load("http")(read_all(given)).delivery.signing == Signing("lambda", "us-east-2")


def test_compression_and_certificates():
    delivery = made(
        COMPRESSION="none", CERTIFICATE="/ca.pem", CLIENT_CERTIFICATE="/c.pem", CLIENT_KEY="/k.pem"
    ).delivery
    assert delivery.gzip is False
    assert (delivery.tls.ca_file, delivery.tls.certificate, delivery.tls.key) == ("/ca.pem", "/c.pem", "/k.pem")
    assert delivery.tls.variables[0] == f"{PREFIX}CERTIFICATE"


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"TOKEN": "t", "USERNAME": "u", "PASSWORD": "p"}, f"{PREFIX}PASSWORD is set as well as {PREFIX}TOKEN"),
        ({"PASSWORD": "p"}, f"{PREFIX}PASSWORD is set without {PREFIX}USERNAME"),
        ({"USERNAME": "u"}, f"{PREFIX}USERNAME is set without {PREFIX}PASSWORD"),
        ({"USERNAME": "a:b", "PASSWORD": "p"}, "without `:`"),
        ({"TOKEN": "two words"}, f"{PREFIX}TOKEN"),
        ({"HEADERS": "no header"}, f"{PREFIX}HEADERS"),
        ({"AWS_SERVICE": "lambda"}, "with a region"),
        ({"AWS_SERVICE": "lambda", "AWS_REGION": "eu-west-1", "TOKEN": "t"}, "beside a token"),
        ({"AWS_SERVICE": "Lambda!"}, f"{PREFIX}AWS_SERVICE"),
        ({"CLIENT_KEY": "/k"}, f"set without {PREFIX}CLIENT_CERTIFICATE"),
        ({"SUCCESS_CODES": "200, 302, 99"}, "'302', '99'"),
        ({"RETRY_CODES": "abc"}, f"{PREFIX}RETRY_CODES"),
        ({"METHOD": "patch"}, f"{PREFIX}METHOD"),
        ({"DELIVERY_ID_HEADER": "two words"}, f"{PREFIX}DELIVERY_ID_HEADER"),
        ({"BATCH_BYTES": "1"}, f"{PREFIX}BATCH_BYTES"),
        ({"COMPRESSION": "zstd"}, f"{PREFIX}COMPRESSION"),
    ],
)
def test_what_is_wrong_is_told_and_the_rest_used(own, said):
    (problem,) = problems_of(**own)
    assert said in problem


@pytest.mark.parametrize(
    "own",
    [{"URL": text} for text in ("", "h.example.com", "ftp://h", "https://u:hunter2@h", "https://h/#x", "https://h?a b")]
    + [{"FORMAT": text} for text in ("xml", "ndjson:a", "json_array:")],
)
def test_without_an_address_or_a_form_it_does_not_run(own):
    with pytest.raises(ConfigError) as caught:
        made(**own)
    (problem,) = caught.value.problems
    assert problem.variable == f"{PREFIX}{next(iter(own))}"
    assert "hunter2" not in str(problem)


def test_a_token_in_the_query_of_a_wrong_address_is_not_shown():
    with pytest.raises(ConfigError) as caught:
        made(URL="https://h/in?token=hunter2#")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["https://h", "https://h/", "http://h:8080/a/b/", "https://h/a?x=%20&y", "https://h?a=b"]
)
def test_an_address_is_used_as_it_is(text):
    url = made(URL=text).sink.url
    assert url == (text if text.count("/") > 2 else text.replace("://h", "://h/"))
