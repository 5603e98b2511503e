"""What goes to Datadog's metric API over the wire, byte for byte, and how its answers are read."""

import pytest
from msgspec.structs import replace

from local_backends.datadog_metrics import read_distributions
from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import Delivered, Denied, HttpDelivery, HttpResponse, Rejected, Retry
from telemetry_forwarder.sinks.datadog import Datadog, create
from telemetry_forwarder.sinks.datadog_metrics import DatadogMetrics
from telemetry_forwarder.variables.reading import read_all, wants_metrics
from tests.sink_records import GOLDEN, METRIC_SAMPLES, NOW_MS, encode_all, loads, make_record, same

API = "https://api.datadoghq.eu"
SINK = DatadogMetrics(url=API, tags=(("owner", "me"),), architecture="arm64")
ENVIRON = {"DD_API_KEY": "not-a-real-key", "TELEMETRY_FORWARDER_METRICS": "on"}


def series_of(record, sink=SINK):
    return loads(sink.request([sink.encode(record)]).body)["series"]


def measured(name, value, attributes=None, unit="ms", kind="distribution"):
    """Return the only series of a metric."""
    points = [{"name": name, "value": value, "unit": unit, "kind": kind}]
    fields = {"points": points, "attributes": attributes or {}, "source": "emf"}
    (series,) = series_of(replace(METRIC_SAMPLES[0], fields=fields))
    return series


def test_the_request_is_the_golden_one():
    request = SINK.request(encode_all(SINK, METRIC_SAMPLES))
    golden = (GOLDEN / "datadog_metrics.json").read_bytes().replace(b"\n", b"")  # a line for each series
    assert request.body == b'{"series":' + golden + b"}"
    assert request.url == f"{API}/api/v1/distribution_points"
    assert request.headers == {"content-type": "text/json"}
    assert SINK.encode_all(METRIC_SAMPLES) == encode_all(SINK, METRIC_SAMPLES)
    assert read_distributions(request.body)  # a strict reading raises nothing


def test_overhead_and_framing_are_exact():
    batch = encode_all(SINK, METRIC_SAMPLES)
    sizes = sum(len(encoded.data) + SINK.limits.overhead_bytes for encoded in batch)
    assert len(SINK.request(batch).body) == sizes + SINK.limits.framing_bytes - 1


@pytest.mark.parametrize(
    ("ours", "value", "theirs", "sent"),
    [
        ("lambda.duration", 182.4, "duration", 0.1824),
        ("lambda.billed_duration", 183, "billed_duration", 0.183),
        ("lambda.init_duration", 608.27, "init_duration", 0.60827),
        ("lambda.restore_duration", 214.5, "snapstart_restore_duration", 0.2145),
        ("lambda.runtime_duration", 182.4, "runtime_duration", 182.4),
        ("lambda.post_runtime_duration", 3.5, "post_runtime_duration", 3.5),
        ("lambda.memory_used", 97, "max_memory_used", 97),
        ("lambda.memory_size", 512, "memorysize", 512),
        ("lambda.estimated_cost", 3e-7, "estimated_cost", 3e-7),
        ("lambda.invocations", 1, "invocations", 1),
        ("lambda.out_of_memory", 1, "out_of_memory", 1),
        ("lambda.produced_bytes", 12, "produced_bytes", 12),
        ("lambda.cpu_user_time", 20, "cpu_user_time", 20),
        ("lambda.fd_use", 20, "fd_use", 20),
    ],
)
def test_names_and_units_are_those_of_datadogs_own_extension(ours, value, theirs, sent):
    series = measured(ours, value)
    assert series["metric"] == f"aws.lambda.enhanced.{theirs}"
    assert series["points"] == [[NOW_MS // 1000, [pytest.approx(sent)]]]
    assert series["type"] == "distribution"


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("lambda.extension_overhead", "lambda.extension_overhead"),
        ("Shop.Orders paid", "Shop.Orders_paid"),
        ("2xx", "metric_2xx"),
        ("größe", "gr__e"),
        ("a" * 300, "a" * 200),
    ],
)
def test_another_name_is_kept_as_far_as_datadog_takes_it(ours, theirs):
    assert measured(ours, 1)["metric"] == theirs


def test_what_datadog_has_in_another_form_is_not_sent_twice():
    points = [{"name": f"lambda.{name}", "value": 1, "unit": "1", "kind": "count"}
              for name in ("invocations", "successes", "cold_starts")]  # fmt: skip
    (series,) = series_of(replace(METRIC_SAMPLES[0], fields={"points": points}))
    assert series["metric"] == "aws.lambda.enhanced.invocations"
    with pytest.raises(EncodeError, match="nothing for Datadog"):
        SINK.encode(replace(METRIC_SAMPLES[0], fields={"points": points[1:]}))


def test_several_measurements_are_the_values_of_one_point():
    assert measured("n", [3, 0.5])["points"] == [[NOW_MS // 1000, [3.0, 0.5]]]


def test_tags_are_those_of_datadogs_own_extension():
    tags = measured("n", 1)["tags"]
    assert {"functionname:orders-worker", "region:eu-west-1", "account_id:210987654321", "aws_account:210987654321",
            "resource:orders-worker", "memorysize:512", "architecture:arm64", "cold_start:true", "init_type:on-demand",
            "env:prod", "service:orders", "version:1.4.2", "owner:me", "team:shop",
            "function_arn:arn:aws:lambda:eu-west-1:210987654321:function:orders-worker"} <= set(tags)  # fmt: skip
    assert not [tag for tag in tags if "$LATEST" in tag or tag.startswith(("request_id", "host", "instance_id"))]
    context = METRIC_SAMPLES[0].context
    published = replace(context, origin=replace(context.origin, function_version="7"))
    tags = series_of(replace(METRIC_SAMPLES[0], context=published))[0]["tags"]
    assert {"resource:orders-worker:7", "executedversion:7"} <= set(tags)


def test_what_the_function_names_counts_for_more_and_a_hundred_tags_are_the_most():
    tags = measured("n", 1, {"service": "payment", "flag": ""})["tags"]
    assert [tag for tag in tags if tag.startswith("service")] == ["service:payment"]
    assert "flag" in tags
    assert len(measured("n", 1, {f"k{number}": "v" for number in range(200)})["tags"]) == 100


@pytest.mark.parametrize("fields", [None, {}, {"points": []}])
def test_a_record_without_a_measurement_is_refused(fields):
    with pytest.raises(EncodeError, match="without points"):
        SINK.encode(make_record("x", fields=fields))


# --- answers --------------------------------------------------------------------------------------------------------


def test_answers():
    batch = same(2)
    assert SINK.verdict(batch, HttpResponse(status=202, body=b'{"status":"ok"}')) == Delivered()
    assert isinstance(SINK.verdict(batch, HttpResponse(status=400, body=b'{"errors":["no"]}')), Rejected)
    assert SINK.verdict(batch, HttpResponse(status=429, headers={"x-ratelimit-reset": "7"})) == Retry(7.0, "HTTP 429")
    denied = SINK.verdict(batch, HttpResponse(status=403, body=b'{"errors":["Forbidden"]}'))
    assert isinstance(denied, Denied)
    assert "DD_SITE" in denied.detail
    elsewhere = replace(SINK, is_elsewhere=True)
    for status in (302, 403, 404):
        assert "DD_DD_URL" in elsewhere.verdict(batch, HttpResponse(status=status)).detail


# --- settings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "url"),
    [
        ({}, "https://api.datadoghq.com"),
        ({"DD_SITE": "us5.datadoghq.com"}, "https://api.us5.datadoghq.com"),
        ({"DD_DD_URL": "http://127.0.0.1:8080"}, "http://127.0.0.1:8080"),
        ({"DD_LOGS_CONFIG_LOGS_DD_URL": "logs.corp:443", "DD_SITE": "datadoghq.eu"}, "https://api.datadoghq.eu"),
    ],
)
def test_metrics_go_to_the_api_of_the_site_or_where_they_are_led(own, url):
    logs, metrics = create(read_all(ENVIRON | own))
    assert isinstance(metrics.delivery, HttpDelivery)
    assert (metrics.sink.url, metrics.delivery.url, metrics.sink.name) == (url, url, "datadog-metrics")
    assert metrics.delivery.encoding == "deflate"
    assert metrics.delivery.credential == logs.delivery.credential
    assert isinstance(logs.sink, Datadog)
    assert not logs.problems


@pytest.mark.parametrize(
    ("own", "is_wanted"),
    [
        ({}, False),
        ({"TELEMETRY_FORWARDER_METRICS": "datadog"}, True),
        ({"TELEMETRY_FORWARDER_METRICS": "splunk"}, False),
        ({"DD_ENHANCED_METRICS": "true"}, True),
        ({"TELEMETRY_FORWARDER_METRICS": "on", "DD_ENHANCED_METRICS": "false"}, False),
    ],
)
def test_datadogs_own_switch_counts_for_more(own, is_wanted):
    values = read_all({"DD_API_KEY": "k", **own})
    assert wants_metrics("datadog", values) is is_wanted
    assert isinstance(create(values), tuple) is is_wanted
    assert wants_metrics("splunk", values) is (own.get("TELEMETRY_FORWARDER_METRICS") in ("on", "splunk"))


@pytest.mark.parametrize(
    "own",
    [{"DD_DD_URL": "proxy/path"}, {"DD_SITE": "https://app.datadoghq.eu", "DD_LOGS_CONFIG_LOGS_DD_URL": "https://x:1"}],
)
def test_metrics_never_go_to_another_place_than_was_meant(own):
    made = create(read_all(ENVIRON | own))
    assert isinstance(made.sink, Datadog)
    assert not isinstance(made.sink, DatadogMetrics)
    assert [problem.variable for problem in made.problems] == [next(iter(own))]
    if "DD_DD_URL" in own:
        assert "No metrics are sent to Datadog" in str(made.problems[0])
