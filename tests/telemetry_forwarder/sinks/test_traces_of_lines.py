"""A log record has the trace id of its request in the form by which each backend joins it to spans."""

from typing import Any

import pytest
from msgspec.structs import replace

from telemetry_forwarder.records.record import METRICS, Record
from telemetry_forwarder.sinks import load
from telemetry_forwarder.sinks.splunk_metrics import SplunkMetrics
from telemetry_forwarder.variables.reading import read_all
from tests.sink_records import FULL, REPORT, loads, make_record
from tests.telemetry_forwarder.sinks.test_every_sink import ENVIRON

TRACE = "68c4a1f03b2a90d1c7e845f6a0b1c2d3"
FORMS: dict[str, tuple[str | None, dict[str, str]]] = {
    "splunk": ("fields", {"trace_id": TRACE}),
    "datadog": (None, {"dd.trace_id": "14404840333704807123"}),  # what the lower 64 bits are in decimal
    "cloudwatch": ("lambda", {"trace_id": TRACE, "xray_trace_id": "1-68c4a1f0-3b2a90d1c7e845f6a0b1c2d3"}),
}
LINES = make_record("paid"), make_record({"message": "paid", "order": 17}), make_record(REPORT, "platform.report")


def sent(sink: str, record: Record) -> dict[str, Any]:
    found: dict[str, Any] = loads(load(sink)(read_all(ENVIRON)).sink.encode(record).data)
    return found


@pytest.mark.parametrize("sink", FORMS)
@pytest.mark.parametrize("record", LINES, ids=["text", "json", "event"])
def test_it_is_where_the_backend_looks_for_it_and_nothing_else_is_changed(sink: str, record: Record) -> None:
    container, form = FORMS[sink]
    plain = sent(sink, record)
    traced = sent(sink, replace(record, context=replace(record.context, trace_id=TRACE)))
    inside = traced if container is None else traced[container]
    assert {name: inside.pop(name) for name in form} == form
    assert traced == plain


def test_a_tag_of_that_name_is_renamed_only_beside_it() -> None:
    tagged = make_record("paid", origin=replace(FULL, tags=(("trace_id", "mine"),)))
    assert sent("splunk", tagged)["fields"]["trace_id"] == "mine"
    fields = sent("splunk", replace(tagged, context=replace(tagged.context, trace_id=TRACE)))["fields"]
    assert (fields["trace_id"], fields["tag_trace_id"]) == (TRACE, "mine")


def test_a_metric_has_none_because_each_would_be_a_series_of_its_own() -> None:
    points = {"points": [{"name": "lambda.duration", "value": 1.5, "unit": "ms", "kind": "distribution"}]}
    record = make_record(points, METRICS, fields=points, trace_id=TRACE)
    assert "trace_id" not in loads(SplunkMetrics(url="https://splunk.example").encode(record).data)["fields"]
