"""What goes to New Relic over the wire, byte for byte, and how its answers are read."""

import orjson
import pytest
from msgspec.structs import replace

from telemetry_forwarder.errors import ConfigError, EncodeError
from telemetry_forwarder.interfaces import (
    Delivered,
    Denied,
    Destination,
    DropReason,
    HttpResponse,
    Rejected,
    Retry,
    TooLarge,
)
from telemetry_forwarder.sinks import load
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.types import Secret, SecretReference
from tests.sink_records import BARE, FULL, GOLDEN, METRIC_SAMPLES, encode_all, make_record, same

ENVIRON = {"NEW_RELIC_LICENSE_KEY": "not-a-real-key", "NR_TAGS": "owner:me"}


def made(**environ):
    return load("newrelic")(read_all(ENVIRON | environ))


SINK = made().sink
METRICS = made(TELEMETRY_FORWARDER_METRICS="on")[1].sink


def log_of(body, kind="function", **more):
    record = make_record(body, kind, **more)
    (alone,), (among,) = [SINK.encode(record)], SINK.encode_all([record])
    assert alone == among
    return orjson.loads(alone.data)


def attributes_of(body, kind="function", **more):
    return log_of(body, kind, **more)["attributes"]


# --- requests -------------------------------------------------------------------------------------------------------


def test_the_request_is_the_golden_one():
    request = SINK.request(encode_all(SINK))
    assert request.body + b"\n" == (GOLDEN / "newrelic.json").read_bytes()
    assert (request.method, request.url) == ("POST", "https://log-api.newrelic.com/log/v1")
    assert request.headers == {"content-type": "application/json"}


def test_the_request_of_metrics_is_the_golden_one():
    request = METRICS.request(encode_all(METRICS, METRIC_SAMPLES))
    assert request.body + b"\n" == (GOLDEN / "newrelic_metrics.json").read_bytes()
    assert request.url == "https://metric-api.newrelic.com/metric/v1"
    assert METRICS.encode_all(METRIC_SAMPLES) == encode_all(METRICS, METRIC_SAMPLES)


def test_each_environment_has_one_block_however_its_records_lie():
    records = [make_record(str(number), origin=(BARE, FULL)[number % 2], batch=f"b{number}") for number in range(6)]
    blocks = orjson.loads(SINK.request([SINK.encode(one) for one in records]).body)
    assert [[log["message"] for log in block["logs"]] for block in blocks] == [["0", "2", "4"], ["1", "3", "5"]]
    assert [block["common"]["attributes"]["faas.name"] for block in blocks] == ["orders-worker", "Orders-Worker"]


def test_a_request_is_within_what_the_limits_count():
    batch = encode_all(SINK)
    sizes = sum(len(encoded.data) + SINK.limits.overhead_bytes for encoded in batch)
    assert len(SINK.request(batch).body) <= sizes + SINK.limits.framing_bytes


def test_attributes_are_flat_and_arrays_are_text():
    found = attributes_of({"message": "m", "order": {"id": 17, "tags": ["a", 1]}, "none": None})
    assert (found["order.id"], found["order.tags"]) == (17, '["a",1]')
    assert "none" not in found


@pytest.mark.parametrize("name", ["timestamp", "accountId", "eventType", "appId", "record_id", "telemetry.type", "cut"])
def test_a_member_with_a_name_that_means_something_else_keeps_its_value(name):
    found = attributes_of({"message": "m", name: "x"})
    assert found[f"record.{name}"] == "x"
    assert (found["record_id"], found["telemetry.type"]) == ("0190f3-1", "function")


def test_level_and_trace_of_a_line_count_for_more():
    trace = "68c4a1f03b2a90d1c7e845f6a0b1c2d3"
    line = {"msg": "m", "level": "WARN", "trace.id": "mine"}
    data = SINK.encode(make_record(line, level="warn", trace_id=trace)).data
    assert data.count(b'"level"') == data.count(b'"trace.id"') == 1
    found = attributes_of(line, level="warn", trace_id=trace)
    assert (found["level"], found["trace.id"]) == ("WARN", "mine")
    found = attributes_of("text", level="warn", trace_id=trace)
    assert (found["level"], found["trace.id"]) == ("warn", trace)


@pytest.mark.parametrize(
    "line",
    [
        {"order": 17},
        {"message": {"a": 1}, "b": 2},
        {"message": "", "b": 2},
        {"message": "m", **{f"m{number}": number for number in range(250)}},
        {"message": "m", "x" * 256: 1},
    ],
)
def test_a_line_that_is_no_message_with_attributes_is_sent_as_its_text(line):
    """New Relic takes JSON in a message apart itself."""
    log = log_of(line)
    assert orjson.loads(log["message"]) == line
    assert "order" not in log["attributes"]


def test_no_record_has_more_than_255_attributes():
    """With what it has in common, tags included."""
    origin = replace(FULL, tags=tuple((f"tag{number}", "x") for number in range(60)))
    for count in range(100, 250, 3):
        record = make_record({"message": "m", **{f"m{n}": n for n in range(count)}}, origin=origin)
        (block,) = orjson.loads(SINK.request([SINK.encode(record)]).body)
        assert len(block["common"]["attributes"]) + len(block["logs"][0]["attributes"]) <= 255


@pytest.mark.parametrize("body", ["é" * 100_000, {"message": "m", "a": "x" * 130_000}, {"message": "\x00" * 30_000}])
def test_a_text_over_128_kb_is_cut_and_marked(body):
    encoded = SINK.encode(make_record(body))
    log = orjson.loads(encoded.data)
    assert encoded.is_cut
    assert log["attributes"]["cut"] is True
    assert all(len(str(value).encode()) <= 128_000 for value in (log["message"], *log["attributes"].values()))


# --- metrics --------------------------------------------------------------------------------------------------------


def metrics_of(value, kind, **attributes):
    points = [{"name": "orders", "value": value, "unit": "ms", "kind": kind}]
    fields = {"points": points, "attributes": attributes, "source": "emf"}
    (block,) = orjson.loads(METRICS.request([METRICS.encode(replace(METRIC_SAMPLES[0], fields=fields))]).body)
    return block["metrics"]


@pytest.mark.parametrize(
    ("value", "kind", "type", "sent"),
    [
        (3, "count", "count", 3),
        ([1, 2.5], "count", "count", 3.5),
        (7.5, "gauge", "gauge", 7.5),
        ([1, 9], "gauge", "gauge", 9),
        (0.1, "distribution", "summary", {"count": 1, "sum": 0.1, "min": 0.1, "max": 0.1}),
        ([3, 1], "distribution", "summary", {"count": 2, "sum": 4, "min": 1, "max": 3}),
    ],
)
def test_kinds(value, kind, type, sent):
    (metric,) = metrics_of(value, kind)
    assert (metric["type"], metric["value"], metric["attributes"]["unit"]) == (type, sent, "ms")
    assert ("interval.ms" in metric) == (type != "gauge")


def test_metrics_have_no_attribute_that_is_new_in_every_environment():
    body = METRICS.request(encode_all(METRICS, METRIC_SAMPLES)).body
    assert FULL.instance_id.encode() not in body
    assert b"0190f3" not in body


def test_the_attributes_of_a_metric_are_bounded():
    (metric,) = metrics_of(1, "count", long="x" * 5_000, **{f"a{n}": "x" for n in range(110)}, **{"y" * 256: "z"})
    assert len(metric["attributes"]) <= 102
    assert max(map(len, map(str, metric["attributes"].values()))) == 4_096


def test_a_record_without_points_is_refused():
    with pytest.raises(EncodeError):
        METRICS.encode(replace(METRIC_SAMPLES[0], fields={"points": []}))


# --- answers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b'{"requestId":"1"}', b"{}", b""])
def test_accepted(body):
    assert SINK.verdict(same(3), HttpResponse(status=202, body=body)) == Delivered()


@pytest.mark.parametrize(("status", "body"), [(202, b"<html>"), (200, b"{}"), (204, b""), (200, b'{"success":true}')])
def test_another_2xx_is_no_success(status, body):
    verdict = SINK.verdict(same(3), HttpResponse(status=status, body=body))
    assert isinstance(verdict, Denied)
    assert verdict.reason is DropReason.WRONG_ADDRESS
    assert "NEW_RELIC_LOG_ENDPOINT" in verdict.detail


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (400, Rejected, "what is wrong"),
        (403, Denied, "NEW_RELIC_LICENSE_KEY is an ingest license key of the region (NEW_RELIC_REGION)"),
        (404, Denied, "NEW_RELIC_REGION"),
        (408, Retry, "408"),
        (413, TooLarge, "413"),
        (415, Rejected, "what is wrong"),
        (429, Retry, "429"),
        (500, Retry, "500"),
        (503, Retry, "503"),
    ],
)
@pytest.mark.parametrize("sink", [SINK, METRICS], ids=lambda sink: sink.name)
def test_refused(sink, status, kind, said):
    body = b'{"message":"what is wrong"}'
    verdict = sink.verdict(same(3), HttpResponse(status=status, body=body, headers={"retry-after": "60"}))
    assert isinstance(verdict, kind)
    assert said in verdict.detail
    if kind is Retry:
        assert verdict.after == 60.0


def test_each_sink_names_its_own_address():
    assert "NEW_RELIC_METRIC_ENDPOINT" in METRICS.verdict(same(1), HttpResponse(status=404)).detail


# --- settings -------------------------------------------------------------------------------------------------------


def test_the_key_is_a_credential_and_no_part_of_a_request():
    destination = made()
    credential = destination.delivery.credential
    assert (credential.header, credential.prefix, credential.secret) == ("Api-Key", "", Secret("not-a-real-key"))
    assert "not-a-real-key" not in repr(destination)


ARN = "arn:aws:secretsmanager:eu-west-1:210987654321:secret:nr"


@pytest.mark.parametrize(
    ("name", "value", "reference"),
    [
        ("_SECRET_ARN", f"{ARN}#key", SecretReference("secretsmanager", ARN, "key")),
        ("_SSM_PARAMETER", "/nr/key", SecretReference("ssm", "/nr/key")),
        ("_SECRET", "NEW_RELIC_LICENSE_KEY", SecretReference("secretsmanager", "NEW_RELIC_LICENSE_KEY", "LicenseKey")),
        ("_SECRET", ARN, SecretReference("secretsmanager", ARN, "LicenseKey")),
        ("_SECRET", f"{ARN}#mine", SecretReference("secretsmanager", ARN, "mine")),
        ("_SSM_PARAMETER_NAME", "/nr/key", SecretReference("ssm", "/nr/key")),
    ],
)
def test_the_key_by_reference(name, value, reference):
    destination = made(NEW_RELIC_LICENSE_KEY="", **{f"NEW_RELIC_LICENSE_KEY{name}": value})
    assert destination.delivery.credential.secret == reference
    assert not destination.problems


@pytest.mark.parametrize(
    ("environ", "logs", "metrics"),
    [
        ({}, "https://log-api.newrelic.com/log/v1", "https://metric-api.newrelic.com/metric/v1"),
        ({"NEW_RELIC_LICENSE_KEY": "eu01xx0123"}, "https://log-api.eu.newrelic.com/log/v1",
         "https://metric-api.eu.newrelic.com/metric/v1"),
        ({"NEW_RELIC_LICENSE_KEY": "eu01xx0123", "NEW_RELIC_REGION": "US"}, "https://log-api.newrelic.com/log/v1",
         "https://metric-api.newrelic.com/metric/v1"),
        ({"NEW_RELIC_REGION": "jp"}, "https://log-api.jp.nr-data.net/log/v1", "https://metric-api.jp.nr-data.net/metric/v1"),
        ({"NEW_RELIC_REGION": "gov"}, "https://gov-log-api.newrelic.com/log/v1",
         "https://gov-metric-api.newrelic.com/metric/v1"),
        ({"NEW_RELIC_LOG_ENDPOINT": "https://log-api.eu.newrelic.com/log/v1", "NEW_RELIC_METRIC_ENDPOINT": "http://h:1/"},
         "https://log-api.eu.newrelic.com/log/v1", "http://h:1/metric/v1"),
    ],
)  # fmt: skip
def test_addresses(environ, logs, metrics):
    found = made(TELEMETRY_FORWARDER_METRICS="newrelic", **environ)
    assert [one.sink.request(same(1)).url for one in found] == [logs, metrics]
    assert [one.delivery.url for one in found] == [logs, metrics]
    assert [one.sink.name for one in found] == ["newrelic", "newrelic-metrics"]


def test_metrics_only_where_they_are_wanted():
    assert isinstance(made(), Destination)


def test_labels_in_their_form():
    (block,) = orjson.loads(made(NR_TAGS="team:shop; env:prod").sink.request(encode_all(SINK)[:1]).body)
    assert block["common"]["attributes"]["team"] == "shop,shop"  # the tag of the record and the label
    assert block["common"]["attributes"]["env"] == "prod"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"NEW_RELIC_LICENSE_KEY": ""}, "NEW_RELIC_LICENSE_KEY is not set; allowed: NEW_RELIC_LICENSE_KEY or"),
        ({"NEW_RELIC_LICENSE_KEY": "hunter 2"}, "There is a space in it."),
        ({"NEW_RELIC_REGION": "europe"}, "NEW_RELIC_REGION is 'europe'; allowed: `us`, `eu`, `jp`, `gov`"),
        (
            {"NEW_RELIC_REGION": "europe"},
            "Sink newrelic does not run, as it would send to another place than was meant.",
        ),
        ({"NEW_RELIC_LOG_ENDPOINT": "log-api.newrelic.com"}, "Write `https://log-api.newrelic.com`."),
        (
            {"NEW_RELIC_LICENSE_KEY": "", "NEW_RELIC_LICENSE_KEY_SECRET": "not a name"},
            "the name or the ARN of a secret",
        ),
    ],
)
def test_wrong_settings_are_told(environ, said):
    with pytest.raises(ConfigError) as caught:
        made(**environ)
    assert said in str(caught.value)
    assert "hunter" not in str(caught.value)
