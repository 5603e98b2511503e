"""The metrics that CloudWatch is sent in the embedded format, byte for byte, and what it makes of them."""

import pytest
from msgspec.structs import replace

from local_backends import EmbeddedMetrics
from local_backends.embedded_metrics import UNITS
from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.records.record import Signal
from telemetry_forwarder.sinks.cloudwatch_logs import CloudWatchLogs, create
from telemetry_forwarder.sinks.cloudwatch_metrics import CloudWatchMetrics, unit_of
from telemetry_forwarder.variables.reading import read_all
from tests.sink_records import BARE, GOLDEN, METRIC_SAMPLES, NOW_MS, SAMPLES, encode_all, loads, make_record

SINK = CloudWatchMetrics(group="/acme/orders", stream=None, fallback_stream="fallback", namespace="TelemetryForwarder")
ENVIRON = {"CLOUDWATCH_LOG_GROUP": "g", "TELEMETRY_FORWARDER_METRICS": "on"}


def extracted(*records):
    """Return what CloudWatch makes of the events."""
    metrics = EmbeddedMetrics()
    for encoded in SINK.encode_all(records):
        metrics.take("group", encoded.data.decode(), NOW_MS)
    assert not metrics.errors
    return metrics


def record_of(*points, **attributes):
    given = [{"name": name, "value": value, "unit": unit, "kind": "distribution"} for name, value, unit in points]
    return replace(METRIC_SAMPLES[0], fields={"points": given, "attributes": attributes, "source": "dogstatsd"})


def test_the_events_are_the_golden_ones():
    request = SINK.request(encode_all(SINK, METRIC_SAMPLES))
    lines = [f'{{"timestamp":{time_ms},"message":{message}}}\n' for time_ms, message in request.events]
    assert "".join(lines).encode() == (GOLDEN / "cloudwatch_metrics.ndjson").read_bytes()


def test_log_records_are_what_they_are_without_metrics():
    plain = CloudWatchLogs(group="/acme/orders", stream=None, fallback_stream="fallback")
    assert encode_all(SINK) == encode_all(plain)
    assert SINK.encode_all(SAMPLES) == plain.encode_all(SAMPLES)
    mixed = [*SAMPLES, *METRIC_SAMPLES]
    assert SINK.encode_all(mixed) == [SINK.encode(record) for record in mixed]


def test_each_metric_is_one_of_the_functions():
    """A set of dimensions for each error or cold start would be a bill for each."""
    metrics = extracted(*METRIC_SAMPLES)
    assert {tuple(one.dimensions.items()) for one in metrics.found} == {(("function_name", "Orders-Worker"),)}
    assert metrics.total("lambda.invocations", function_name="Orders-Worker") == 1
    assert metrics.total("Orders paid", function_name="Orders-Worker") == 3.5
    assert {one.name: one.unit for one in metrics.found} == {
        "lambda.invocations": "Count", "lambda.errors": "Count", "lambda.runtime_duration": "Milliseconds",
        "lambda.duration": "Milliseconds", "lambda.billed_duration": "Milliseconds",
        "lambda.memory_used": "Megabytes", "lambda.memory_size": "Megabytes", "lambda.estimated_cost": "None",
        "lambda.extension_overhead": "Milliseconds", "Orders paid": "None",
    }  # fmt: skip
    event = loads(SINK.encode(METRIC_SAMPLES[0]).data)
    assert event["attributes"] == {"error.type": "timeout"}
    assert event["lambda"]["cold_start"] is True


@pytest.mark.parametrize(
    ("ucum", "unit"),
    [("s", "Seconds"), ("us", "Microseconds"), ("By", "Bytes"), ("MiBy", "Megabytes"), ("%", "Percent"), ("1", "Count"),
     ("{request}", "Count"), ("By/s", "Bytes/Second"), ("1/s", "Count/Second"), ("ms/s", None), ("By/min", None),
     ("USD", None), ("", None)],
)  # fmt: skip
def test_units_are_those_of_cloudwatch(ucum, unit):
    assert unit_of(ucum) == unit
    assert unit is None or unit in UNITS


def test_what_the_event_has_anyway_is_not_overwritten_by_a_metric():
    metrics = extracted(record_of(("lambda", 1, ""), ("_aws", 2, ""), ("attributes", 3, ""), ("function_name", 4, "")))
    assert {one.name: one.values for one in metrics.found} == {
        "metric.lambda": (1,), "metric._aws": (2,), "metric.attributes": (3,), "metric.function_name": (4,)
    }  # fmt: skip


def test_more_than_a_hundred_metrics_are_more_than_one_directive():
    record = record_of(*((f"n{number}", number, "ms") for number in range(250)))
    directives = loads(SINK.encode(record).data)["_aws"]["CloudWatchMetrics"]
    assert [len(one["Metrics"]) for one in directives] == [100, 100, 50]
    assert len(extracted(record).found) == 250


def test_a_metric_that_is_in_a_record_twice_is_not_lost():
    assert extracted(record_of(("n", 1, "ms"), ("n", [2, 3], "ms"))).found[0].values == (1, 2, 3)


@pytest.mark.parametrize("value", [[1] * 101, 2.0**361, [1, -(2.0**361)]])
def test_what_cloudwatch_would_throw_away_is_refused_by_name(value):
    with pytest.raises(EncodeError, match="'n'"):
        SINK.encode(record_of(("n", value, "ms")))


def test_a_record_without_a_measurement_or_before_1970_is_refused():
    with pytest.raises(EncodeError, match="without points"):
        SINK.encode(record_of())
    with pytest.raises(EncodeError, match="1970"):
        SINK.encode(replace(METRIC_SAMPLES[0], time_ms=-1))


def test_without_a_functions_name_there_is_no_dimension():
    context = replace(METRIC_SAMPLES[0].context, origin=replace(BARE, function_name=""))
    assert extracted(replace(METRIC_SAMPLES[0], context=context)).total("lambda.invocations") == 1


def test_settings():
    plain = create(read_all({"CLOUDWATCH_LOG_GROUP": "g"})).sink
    assert type(plain) is CloudWatchLogs
    made = create(read_all({**ENVIRON, "CLOUDWATCH_METRICS_NAMESPACE": "acme/lambda"}))
    assert isinstance(made.sink, CloudWatchMetrics)
    assert (made.sink.namespace, made.sink.takes) == ("acme/lambda", {Signal.LOG, Signal.METRIC})
    assert create(read_all(ENVIRON)).sink.namespace == "TelemetryForwarder"
    (problem,) = create(read_all({"CLOUDWATCH_LOG_GROUP": "g", "CLOUDWATCH_METRICS_NAMESPACE": "x"})).problems
    assert "TELEMETRY_FORWARDER_METRICS" in str(problem)


@pytest.mark.parametrize("name", ["AWS/Lambda", ":x", "a b", "a" * 256, "ü"])
def test_a_namespace_that_one_may_not_use_is_told(name):
    made = create(read_all({**ENVIRON, "CLOUDWATCH_METRICS_NAMESPACE": name}))
    assert made.sink.namespace == "TelemetryForwarder"
    assert [problem.variable for problem in made.problems] == ["CLOUDWATCH_METRICS_NAMESPACE"]


def test_a_log_record_is_no_metric_whatever_it_holds():
    assert "_aws" not in loads(SINK.encode(make_record({"points": [{"name": "n", "value": 1}]})).data)
