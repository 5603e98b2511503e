"""What goes to Loki over the wire, byte for byte, and how its answers are read."""

from base64 import b64encode

import pytest
from msgspec.structs import replace

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
from telemetry_forwarder.sinks.loki_push import LIMITS
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.types import Secret, SecretReference
from tests.sink_records import BARE, FULL, GOLDEN, NOW_MS, REPORT, encode_all, loads, make_record, same

ADDRESS = "https://loki.example.com"


def made(**environ):
    return load("loki")(read_all({"LOKI_ADDR": ADDRESS} | environ))


SINK = made(LOKI_ORG_ID="shop", LOKI_LABELS="team:shop").sink


def entry_of(record, sink=SINK):
    """Return time, line and metadata of a record."""
    return loads(sink.encode(record).data)


def streams_of(records, sink=SINK):
    return loads(sink.request([sink.encode(record) for record in records]).body)["streams"]


# --- requests -------------------------------------------------------------------------------------------------------


def test_the_request_is_the_golden_one():
    """The file has a line for each stream."""
    request = SINK.request(encode_all(SINK))
    assert request.body == b'{"streams":[' + (GOLDEN / "loki.ndjson").read_bytes().strip().replace(b"\n", b",") + b"]}"
    assert (request.method, request.url) == ("POST", f"{ADDRESS}/loki/api/v1/push")
    assert request.headers == {"content-type": "application/json", "X-Scope-OrgID": "shop"}
    assert "X-Scope-OrgID" not in made().sink.request(same(1)).headers


def test_a_request_is_within_what_is_reckoned():
    batch = encode_all(SINK)
    sizes = sum(len(encoded.data) + LIMITS.overhead_bytes for encoded in batch)
    assert sizes < len(SINK.request(batch).body) < sizes + LIMITS.framing_bytes


def test_labels_are_few_and_the_same_in_all_environments():
    environments = [replace(FULL, instance_id=f"2026/03/02/[$LATEST]{number}") for number in range(3)]
    records = [make_record("x", origin=origin, request_id=f"r-{origin.instance_id}") for origin in environments]
    (stream,) = streams_of(records)
    assert stream["stream"] == {
        "service_name": "Orders",
        "function_name": "Orders-Worker",
        "env": "prod",
        "region": "eu-west-1",
        "source": "function",
        "team": "shop",
    }
    assert len(stream["values"]) == 3


def test_a_stream_for_each_source():
    kinds = [("x", "function"), (REPORT, "platform.report"), ("x", "extension"), ("x", "function")]
    found = streams_of([make_record(body, kind) for body, kind in kinds])
    assert [stream["stream"]["source"] for stream in found] == ["function", "platform", "extension"]


def test_what_is_not_known_is_no_label():
    (stream,) = streams_of([make_record("x", origin=BARE)], made().sink)
    assert stream["stream"] == {
        "service_name": "orders-worker", "function_name": "orders-worker", "source": "function"
    }  # fmt: skip


def test_every_value_is_a_text():
    for record in (make_record("x"), make_record(REPORT, "platform.report"), make_record("x" * 300_000)):
        time, line, metadata = entry_of(record)
        assert {type(time), type(line), *map(type, metadata.values())} == {str}


def test_equal_lines_of_a_batch_have_times_of_their_own_in_their_order():
    lines = [make_record("same", batch="0123456789abcdef01234567", index=index) for index in range(10_000)]
    times = [int(loads(encoded.data)[0]) for encoded in SINK.encode_all(lines)]
    assert times == sorted(set(times))
    assert {time // 1_000_000 for time in times} == {NOW_MS}


def test_equal_lines_of_two_environments_have_times_of_their_own():
    times = {entry_of(make_record("same", batch=f"{number:024x}", index=0))[0] for number in range(200)}
    assert len(times) == 200


def test_a_line_of_json_is_its_text():
    text = '{"level":"WARN", "msg":"slow"}'
    assert entry_of(make_record(text, fields=loads(text.encode())))[1] == text
    assert entry_of(make_record({"a": [1, None]}))[1] == '{"a":[1,null]}'


def test_an_event_has_its_members_as_metadata_if_its_line_does_not_tell_them():
    _, line, metadata = entry_of(make_record(REPORT, "platform.report"))
    assert line.startswith("REPORT RequestId: ")
    assert (metadata["record_status"], metadata["record_metrics_durationMs"]) == ("timeout", "3000.0")
    _, line, metadata = entry_of(make_record({"name": "x"}, "platform.news"))
    assert line == '{"name":"x"}'
    assert "record_name" not in metadata


def test_a_tag_that_is_called_as_one_of_ours_replaces_nothing():
    origin = replace(FULL, tags=(("level", "9"), ("cost.centre", "a"), ("1st", "b"), ("team", "c"), ("team", "d")))
    metadata = entry_of(make_record("x", origin=origin, level="info"))[2]
    assert (metadata["level"], metadata["tag_level"], metadata["cost_centre"]) == ("info", "9", "a")
    assert (metadata["_1st"], metadata["team"]) == ("b", "c,d")


def test_no_line_is_longer_than_loki_takes():
    for text in ("x" * 300_000, "é" * 200_000, "\\" * 200_000, "\n" * 140_000):
        encoded = SINK.encode(make_record(text))
        line = loads(encoded.data)[1]
        assert encoded.is_cut
        assert len(line.encode()) <= 262_144
        assert line.endswith(" bytes]")


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("response", [HttpResponse(status=204), HttpResponse(status=200)])
def test_accepted(response):
    assert SINK.verdict(same(3), response) == Delivered()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [(200, b"<html>", "text/html"), (200, b"OK", "text/plain"), (202, b"", ""), (201, b"{}", "application/json")],
)
def test_what_loki_does_not_say_is_no_delivery(status, body, kind):
    verdict = SINK.verdict(same(3), HttpResponse(status=status, body=body, headers={"content-type": kind}))
    assert isinstance(verdict, Denied)
    assert verdict.reason is DropReason.WRONG_ADDRESS
    assert "LOKI_ADDR" in verdict.detail


@pytest.mark.parametrize("status", [200, 204, 260, 400])
def test_a_tenant_that_is_blocked_costs_no_record(status):
    body = b"ingestion blocked for user 'shop' until '2026-12-31T00:00:00Z' with status code '260'"
    verdict = SINK.verdict(same(3), HttpResponse(status=status, body=body))
    assert isinstance(verdict, Denied)
    assert "ingestion blocked" in verdict.detail
    assert isinstance(SINK.verdict(same(3), HttpResponse(status=260)), Denied)


OLD = "entry for stream '{a=\"b\"}' has timestamp too old: 2026-02-01T00:00:00Z, oldest acceptable timestamp is: x"
BEHIND = "entry with timestamp 2026-02-01 ignored, reason: 'entry too far behind', user 'a', total ignored: 2 out of 4"
BATCH = [SINK.encode(make_record("x" * length, time_ms=NOW_MS + at)) for at, length in ((2, 5), (0, 5), (1, 9), (3, 5))]


@pytest.mark.parametrize(
    ("said", "rejected"),
    [
        (OLD, {1: DropReason.TOO_OLD}),
        (f"2 errors like: {OLD}", {1: DropReason.TOO_OLD, 2: DropReason.TOO_OLD}),
        (BEHIND, {1: DropReason.TOO_OLD, 2: DropReason.TOO_OLD}),
        ("entry for stream '{}' has timestamp too new: 2027", {3: DropReason.TOO_NEW}),
        ("1 errors like: max entry size '262144' bytes exceeded for stream '{}'", {2: DropReason.OVERSIZE}),
        ("9 errors like: stream '{}' has label value too long: 'x'", dict.fromkeys(range(4), DropReason.REJECTED)),
        ("stream '{}' includes structured metadata, but this feature is disallowed.", {0: DropReason.REJECTED}),
        ("missing required labels 'x' for user 'a'", {0: DropReason.REJECTED}),
    ],
)
def test_of_a_push_with_invalid_entries_the_others_are_stored_and_nothing_is_sent_again(said, rejected):
    verdict = SINK.verdict(BATCH, HttpResponse(status=400, body=said.encode()))
    assert isinstance(verdict, Partial)
    assert (verdict.rejected, verdict.retry, verdict.is_final) == (rejected, (), True)
    assert verdict.detail.startswith('HTTP 400 ("')


def test_a_push_that_is_none_is_refused_as_a_whole():
    assert isinstance(SINK.verdict(same(2), HttpResponse(status=400, body=b"loghttp.PushRequest: bad")), Rejected)
    assert isinstance(SINK.verdict(same(2), HttpResponse(status=422, body=b"error at least one valid")), Rejected)


@pytest.mark.parametrize(("status", "body"), [(401, b"no org id"), (400, b"no org id"), (400, b"no X-Scope-OrgID")])
def test_without_a_tenant_it_is_told_which_variable_names_it(status, body):
    verdict = SINK.verdict(same(2), HttpResponse(status=status, body=body))
    assert isinstance(verdict, Denied)
    assert "LOKI_ORG_ID" in verdict.detail


RATE = (
    "ingestion rate limit exceeded for user a (limit: {} bytes/sec) while attempting to ingest '9' lines "
    "totaling '{}' bytes, reduce log volume"
)


def test_a_push_over_the_rate_is_sent_again_and_one_that_can_never_pass_is_halved():
    passing = HttpResponse(status=429, body=RATE.format(4_194_304, 900_000).encode(), headers={"retry-after": "3"})
    verdict = SINK.verdict(same(2), passing)
    assert isinstance(verdict, Retry)
    assert verdict.after == 3.0
    assert "ingestion rate limit exceeded" in verdict.detail
    never = HttpResponse(status=429, body=RATE.format(100_000, 900_000).encode())
    assert isinstance(SINK.verdict(same(2), never), TooLarge)
    assert isinstance(SINK.verdict(same(1), never), Retry), "a single record is never given up for that"


@pytest.mark.parametrize(
    "said", [b"maximum active stream limit exceeded when trying", b"Per stream rate limit exceeded"]
)
def test_a_limit_of_streams_is_waited_for(said):
    """What is stored of the push already is not stored again: it has the same time and text."""
    assert isinstance(SINK.verdict(same(2), HttpResponse(status=429, body=said)), Retry)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, Denied),
        (403, Denied),
        (404, Denied),
        (408, Retry),
        (413, TooLarge),
        (500, Retry),
        (503, Retry),
        (530, Denied),
    ],
)
def test_the_others(status, kind):
    assert isinstance(SINK.verdict(same(2), HttpResponse(status=status)), kind)


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}/loki/api/v1/push"])
def test_the_path_is_added_where_it_is_missing(text):
    assert made(LOKI_ADDR=text).sink.request(same(1)).url == f"{ADDRESS}/loki/api/v1/push"


def test_grafana_cloud_takes_a_user_and_a_token():
    address = {"LOKI_ADDR": "https://logs-prod-012.grafana.net"}
    delivery = made(**address, LOKI_USERNAME="12345", LOKI_PASSWORD="glc_not-a-real-one").delivery
    assert (delivery.credential.prefix, delivery.credential.user) == ("Basic ", "12345")
    assert delivery.credential.secret == Secret("glc_not-a-real-one")
    assert b64encode(b"12345") not in repr(delivery).encode()
    for own in ({}, {"LOKI_BEARER_TOKEN": "glc_x"}):
        assert "LOKI_USERNAME" in str(made(**address, **own).problems)


def test_a_token_by_reference_and_certificates():
    delivery = made(
        LOKI_BEARER_TOKEN_SSM_PARAMETER="/loki",
        LOKI_CA_CERT_PATH="/a",
        LOKI_CLIENT_CERT_PATH="/b",
        LOKI_CLIENT_KEY_PATH="/c",
    ).delivery
    assert (delivery.credential.prefix, delivery.credential.secret) == ("Bearer ", SecretReference("ssm", "/loki"))
    assert (delivery.tls.ca_file, delivery.tls.certificate, delivery.tls.key) == ("/a", "/b", "/c")


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"LOKI_LABELS": "a:b,1x:y,source:z,__p:q"}, "'1x:y', 'source:z', '__p:q'"),
        ({"LOKI_LABELS": ",".join(f"l{number}:x" for number in range(11))}, "l9:x"),
        ({"LOKI_LABELS": "nothing"}, "LOKI_LABELS"),
        ({"LOKI_USERNAME": "u"}, "LOKI_USERNAME is set without LOKI_PASSWORD"),
        ({"LOKI_CLIENT_KEY_PATH": "/k"}, "LOKI_CLIENT_KEY_PATH is set without LOKI_CLIENT_CERT_PATH"),
    ],
)
def test_what_is_wrong_is_told(own, said):
    (problem,) = made(**own).problems
    assert said in str(problem)


@pytest.mark.parametrize("text", ["", "loki.example.com", "https://12345:hunter2@logs.grafana.net"])
def test_without_an_address_it_does_not_run(text):
    with pytest.raises(ConfigError) as caught:
        made(LOKI_ADDR=text)
    (problem,) = caught.value.problems
    assert problem.variable == "LOKI_ADDR"
    assert "hunter2" not in str(problem)
