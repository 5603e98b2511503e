"""What each sink is sent of metric lines, in each of the four modes."""

import json
import subprocess
import sys
from typing import Any

import pytest

from local_backends import EmbeddedMetrics
from telemetry_forwarder.delivery.encoder import Encoder
from telemetry_forwarder.errors import FilteredOut
from telemetry_forwarder.interfaces import Destination, DropReason, Encoded
from telemetry_forwarder.ledger import Account
from telemetry_forwarder.records.derived import body_of, records_of
from telemetry_forwarder.records.record import Record, decode
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.signals.metric_lines import metrics_in
from telemetry_forwarder.variables.reading import metric_line_mode, read_all
from tests.builders import ManualClock
from tests.sink_records import FULL, METRIC_SAMPLES, NOW_MS, SAMPLES, make_record

EMF: dict[str, Any] = {
    "_aws": {"Timestamp": NOW_MS, "CloudWatchMetrics": [
        {"Namespace": "shop", "Dimensions": [["service"]], "Metrics": [{"Name": "paid"}]}
    ]},
    "service": "orders",
    "paid": 1,
}  # fmt: skip
TEXT, OBJECT = make_record(json.dumps(EMF), fields=EMF), make_record(EMF)
OF_DATADOG = make_record({"m": "paid", "v": 1, "e": NOW_MS // 1000, "t": ["env:prod"]})
ENVIRON = {
    "SPLUNK_HEC_URL": "https://splunk.example.com",
    "SPLUNK_HEC_TOKEN": "t",
    "DD_API_KEY": "k",
    "CLOUDWATCH_LOG_GROUP": "g",
    "AWS_LAMBDA_FUNCTION_NAME": "f",
}
ALL = {"TELEMETRY_FORWARDER_METRICS": "on"}


def settings_of(modes: str, **more: str) -> Settings:
    return Settings.from_values(read_all({**ENVIRON, "TELEMETRY_FORWARDER_METRIC_LINES": modes, **more}))


def sinks_of(modes: str, **more: str) -> dict[str, Any]:
    return {destination.sink.name: destination.sink for destination in settings_of(modes, **more).destinations}


def derived_from(record: Record) -> Record:
    return records_of(FULL, decode(body_of(metrics_in(record)), NOW_MS).items, "d" * 24)[0]


def sent(sink: Any, record: Record) -> Any:
    """Return what is sent, None if nothing is; the same whether records are encoded alone or together."""
    try:
        encoded = sink.encode(record)
    except FilteredOut:
        with pytest.raises(FilteredOut):
            sink.encode_all([record])
        return None
    assert encoded.record is record
    assert sink.encode_all([record]) == [encoded]
    return json.loads(encoded.data)


def counted(sink: Any, *records: Record) -> list[str]:
    """Return the metrics that CloudWatch makes of what it is sent."""
    metrics = EmbeddedMetrics()
    for record in records:
        if (event := sent(sink, record)) is not None:
            metrics.take("ours", json.dumps(event), NOW_MS)
    assert not metrics.errors
    return [one.name for one in metrics.found]


def test_without_the_variable_sinks_are_what_they_are() -> None:
    assert [type(one.sink).__name__ for one in settings_of("").destinations] == [
        "SplunkHec",
        "Datadog",
        "CloudWatchLogs",
    ]
    assert not settings_of("keep", **ALL).converts_lines
    assert [type(sink).__name__ for sink in sinks_of("keep").values()] == ["SplunkHec", "Datadog", "CloudWatchLogs"]


@pytest.mark.parametrize("record", [TEXT, OBJECT], ids=["text", "object"])
def test_keep_sends_the_line_as_it_is_and_cloudwatch_counts_it_once(record: Record) -> None:
    sinks = sinks_of("keep", **ALL)
    assert sent(sinks["splunk"], record)["event"] == EMF
    assert json.loads(sent(sinks["datadog"], record)["message"]) == EMF
    assert sent(sinks["cloudwatch"], record)["aws_emf"] == EMF["_aws"]
    assert counted(sinks["cloudwatch"], record) == []  # Lambda's own group has it


@pytest.mark.parametrize("record", [TEXT, OBJECT], ids=["text", "object"])
def test_strip_takes_away_what_only_cloudwatch_reads(record: Record) -> None:
    sinks, rest = sinks_of("strip", **ALL), {"service": "orders", "paid": 1}
    assert sent(sinks["splunk"], record)["event"] == rest
    assert json.loads(sent(sinks["datadog"], record)["message"]) == rest
    event = sent(sinks["cloudwatch"], record)
    assert {**rest, "lambda": event["lambda"]} == event
    for name in ("splunk", "datadog", "cloudwatch"):
        assert "paid" in json.dumps(sent(sinks[name], OF_DATADOG)), "there is nothing to take away"


@pytest.mark.parametrize("record", [TEXT, OBJECT, OF_DATADOG], ids=["text", "object", "Datadog's"])
def test_drop_sends_nothing(record: Record) -> None:
    sinks = sinks_of("drop", **ALL)
    assert [sent(sinks[name], record) for name in ("splunk", "datadog", "cloudwatch")] == [None] * 3


@pytest.mark.parametrize("record", [TEXT, OBJECT], ids=["text", "object"])
def test_metrics_sends_the_metric_and_not_the_line(record: Record) -> None:
    sinks, metric = sinks_of("metrics", **ALL), derived_from(record)
    assert sent(sinks["splunk"], record) is None
    assert sent(sinks["datadog"], record) is None
    assert sent(sinks["splunk-metrics"], metric)["fields"]["metric_name:shop.paid"] == 1
    assert sent(sinks["datadog-metrics"], metric)["metric"] == "shop.paid"
    assert sent(sinks["cloudwatch"], record)["_aws"] == EMF["_aws"]  # it makes the metric itself
    assert counted(sinks["cloudwatch"], record, metric) == ["paid"]


def test_a_line_of_datadogs_becomes_a_metric_in_each_sink() -> None:
    sinks, metric = sinks_of("metrics", **ALL), derived_from(OF_DATADOG)
    assert [sent(sinks[name], OF_DATADOG) for name in ("splunk", "datadog", "cloudwatch")] == [None] * 3
    assert counted(sinks["cloudwatch"], OF_DATADOG, metric) == ["paid"]
    assert "env:prod" in sent(sinks["datadog-metrics"], metric)["tags"]


def test_each_sink_may_have_a_mode_of_its_own() -> None:
    modes = "datadog:metrics, strip, cloudwatch:drop"
    values = read_all({"TELEMETRY_FORWARDER_METRIC_LINES": modes})
    assert [metric_line_mode(one, values) for one in ("splunk", "datadog", "cloudwatch")] == [
        "strip",
        "metrics",
        "drop",
    ]
    sinks, metric = sinks_of(modes, **ALL), derived_from(TEXT)
    assert sent(sinks["splunk"], TEXT)["event"] == {"service": "orders", "paid": 1}
    assert sent(sinks["splunk-metrics"], metric) is None, "it is one of Datadog alone"
    assert sent(sinks["datadog-metrics"], metric)["metric"] == "shop.paid"
    assert [sent(sinks["datadog"], TEXT), sent(sinks["cloudwatch"], TEXT), sent(sinks["cloudwatch"], metric)] == [
        None
    ] * 3


def test_a_sink_that_keeps_its_lines_does_so_beside_one_that_wants_metrics() -> None:
    sinks, metric = sinks_of("splunk:metrics", **ALL), derived_from(TEXT)
    assert sent(sinks["cloudwatch"], TEXT)["aws_emf"] == EMF["_aws"]
    assert counted(sinks["cloudwatch"], TEXT, metric) == []
    assert json.loads(sent(sinks["datadog"], TEXT)["message"]) == EMF
    assert sent(sinks["datadog-metrics"], metric) is None


@pytest.mark.parametrize("modes", ["strip", "drop", "metrics"])
def test_all_other_records_are_what_they_are(modes: str) -> None:
    plain, changed = sinks_of("", **ALL), sinks_of(modes, **ALL)
    others = [make_record("about _aws"), make_record({"_aws": 1}), make_record({"m": 1}), *SAMPLES]
    for name in ("splunk", "datadog", "cloudwatch"):
        assert changed[name].encode_all(others) == plain[name].encode_all(others)
    for name in ("splunk-metrics", "datadog-metrics", "cloudwatch"):
        ours = METRIC_SAMPLES[:2]
        assert changed[name].encode_all(ours) == plain[name].encode_all(ours)
        assert changed[name].takes == plain[name].takes
        assert changed[name].limits is plain[name].limits


def test_what_is_left_out_is_counted_as_filtered_and_by_no_word() -> None:
    sink, account, said = sinks_of("drop")["splunk"], Account(), list[str]()
    encoder = Encoder(sink, account, ManualClock(), lambda detail, **members: said.append(detail))
    refused: list[Record] = []
    found = encoder.encode_all([make_record("a"), TEXT, make_record("b")], refused)
    assert [encoded.record.body for encoded in found] == ["a", "b"]
    assert refused == [TEXT]
    assert account.dropped == {DropReason.FILTERED: 1}
    assert account.statement(0).lost == 0
    assert said == []


def test_a_sink_that_is_sent_no_metrics_keeps_its_lines_and_it_is_told() -> None:
    """Else they would be lost: dropped as lines, and sent by nobody as metrics."""
    settings = settings_of("metrics", TELEMETRY_FORWARDER_METRICS="splunk")
    (problem,) = settings.problems
    assert "datadog" in str(problem)
    assert "Its lines are kept." in str(problem)
    assert problem.is_wrong
    sinks = {one.sink.name: one.sink for one in settings.destinations}
    assert "paid" in sent(sinks["datadog"], TEXT)["message"]
    assert sent(sinks["splunk"], TEXT) is None
    assert settings.converts_lines
    assert counted(sinks["cloudwatch"], TEXT) == ["paid"], "CloudWatch needs nothing of us to make it"
    assert "m" in sent(sinks["cloudwatch"], OF_DATADOG), "but nobody would make it of this one"


def test_a_sink_without_a_fast_way_has_none_with_a_mode() -> None:
    class Plain:
        name, limits = "plain", sinks_of("")["splunk"].limits

        def encode(self, record: Record) -> Encoded:
            return Encoded(record, json.dumps(record.body).encode())

    from telemetry_forwarder.sinks.metric_line_modes import with_modes

    destination: Destination[Any, Any] = Destination(sink=Plain(), delivery=lambda: None)  # type: ignore[arg-type, return-value]
    changed, is_converted = with_modes({"plain": (destination,)}, {"plain": "strip"}, [])
    sink: Any = changed["plain"][0].sink
    assert not is_converted
    assert not hasattr(sink, "encode_all")
    assert json.loads(sink.encode(OBJECT).data) == {"service": "orders", "paid": 1}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [("kepe", "'kepe'"), ("datadog:", "'datadog:'"), ("keep, datadog:drop, x:y", "x:y"), ("a b:drop", "'a'")],
)
def test_a_mode_that_is_none_is_told(text: str, wrong: str) -> None:
    problems = [one for one in settings_of(text).problems if one.variable == "TELEMETRY_FORWARDER_METRIC_LINES"]
    (problem,) = problems
    assert wrong in str(problem)
    assert "`keep`, `strip`, `drop` or `metrics`" in str(problem)


_LOADED = """
import sys
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.variables.reading import read_all
environ = dict(pair.split("=", 1) for pair in sys.argv[1:])
assert Settings.from_values(read_all(environ)).destinations
print(*sorted(name.rpartition(".")[2] for name in sys.modules if name.startswith("telemetry_forwarder.s")))
"""
_OURS = {"splunk_metrics", "datadog_metrics", "cloudwatch_metrics", "metric_line_modes", "metric_lines", "points"}


@pytest.mark.parametrize(
    ("more", "loaded"),
    [
        ({}, set()),
        ({"TELEMETRY_FORWARDER_METRICS": "splunk"}, {"splunk_metrics", "points"}),
        ({"TELEMETRY_FORWARDER_METRICS": "cloudwatch"}, {"cloudwatch_metrics", "points"}),
        ({"DD_ENHANCED_METRICS": "true"}, {"datadog_metrics", "points"}),
        ({"TELEMETRY_FORWARDER_METRIC_LINES": "drop"}, {"metric_line_modes", "metric_lines", "points"}),
    ],
)
def test_what_a_run_does_not_use_is_not_loaded(more: dict[str, str], loaded: set[str]) -> None:
    pairs = [f"{name}={value}" for name, value in {**ENVIRON, **more}.items()]
    command = [sys.executable, "-c", _LOADED, *pairs]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert set(found) & _OURS == loaded
