"""Which lines are metrics, and which metrics they are."""

import json
from typing import Any

import pytest
from msgspec.structs import replace

from telemetry_forwarder.records.derived import Derived, body_of, records_of
from telemetry_forwarder.records.record import Record, Signal, decode
from telemetry_forwarder.signals.measuring import Prices
from telemetry_forwarder.signals.metric_lines import DATADOG, EMF, form_of, metrics_in
from telemetry_forwarder.signals.points import points_of
from telemetry_forwarder.signals.signals import Signals
from tests.builders import WholeBatches
from tests.sink_records import FULL, NOW_MS, REQUEST_ID, make_record

LINE: dict[str, Any] = {
    "_aws": {
        "Timestamp": NOW_MS,
        "CloudWatchMetrics": [
            {
                "Namespace": "shop",
                "Dimensions": [["service"], ["service", "stage"]],
                "Metrics": [{"Name": "paid", "Unit": "Count"}, {"Name": "took", "Unit": "Milliseconds"}],
            }
        ],
    },
    "service": "orders",
    "stage": "prod",
    "paid": 3,
    "took": [1.5, 2],
    "order_id": "17",
}
OF_DATADOG = {"m": "orders.paid", "v": 3, "e": NOW_MS // 1000, "t": ["env:prod", "url:http://x", "bare"]}


def line(fields: Any, text: str | None = None, **more: Any) -> Record:
    """Return the record of a line: an object, or the `text` in which it was found."""
    return make_record(fields if text is None else text, fields=fields, **more)


def with_directive(**changes: Any) -> dict[str, Any]:
    (directive,) = LINE["_aws"]["CloudWatchMetrics"]
    return {**LINE, "_aws": {**LINE["_aws"], "CloudWatchMetrics": [{**directive, **changes}]}}


def points(derived: Derived) -> dict[str, Any]:
    return {one["name"]: (one["value"], one["unit"], one["kind"]) for one in derived.fields["points"]}


@pytest.mark.parametrize("fields", [LINE, OF_DATADOG])
def test_a_metric_line_is_an_object_or_the_text_of_one_and_nothing_else(fields: dict[str, Any]) -> None:
    text, form = json.dumps(fields), EMF if "_aws" in fields else DATADOG
    assert [form_of(line(fields)), form_of(line(fields, text)), form_of(line(fields, f" {text}\n"))] == [form] * 3
    assert form_of(line(fields, f"2026-03-02T10:15:30.100Z\tid\tINFO\t{text}")) is None
    assert form_of(line(fields, type="platform.report")) is None
    assert form_of(line(fields, type="extension")) is None
    assert form_of(line({"message": text})) is None
    assert form_of(make_record(f"about {text}")) is None


@pytest.mark.parametrize(
    "about",
    [None, 1, {}, {"Timestamp": NOW_MS}, {"CloudWatchMetrics": []}, {"Timestamp": "now", "CloudWatchMetrics": []},
     {"Timestamp": NOW_MS, "CloudWatchMetrics": {}}, [LINE["_aws"]]],
)  # fmt: skip
def test_what_merely_has_the_member_is_no_metric_line(about: Any) -> None:
    record = line({**LINE, "_aws": about})
    assert form_of(record) is None
    assert metrics_in(record) == []


@pytest.mark.parametrize(
    "change", [{"m": ""}, {"m": 1}, {"v": "3"}, {"v": True}, {"e": None}, {"t": "env:prod"}, {"v": 10**400}]
)
def test_a_line_of_datadogs_has_all_four_members_in_their_types(change: dict[str, Any]) -> None:
    assert form_of(line({**OF_DATADOG, **change})) is None
    assert form_of(line({name: value for name, value in OF_DATADOG.items() if name not in change})) is None


def test_emf_becomes_points_with_the_dimensions_of_all_sets() -> None:
    """A point for each set would count twice in a sum."""
    (derived,) = metrics_in(line(LINE))
    assert points(derived) == {
        "shop.paid": (3, "1", "distribution"),
        "shop.took": ([1.5, 2], "ms", "distribution"),
    }
    assert derived.fields["attributes"] == {"service": "orders", "stage": "prod"}
    assert derived.fields["source"] == "emf"
    assert (derived.time_ms, derived.request_id, derived.cold_start) == (NOW_MS, REQUEST_ID, True)


def test_metrics_of_other_dimensions_are_another_record_and_the_same_metric_is_one_point() -> None:
    (directive,) = LINE["_aws"]["CloudWatchMetrics"]
    directives = [
        {**directive, "Dimensions": [["service"]], "Metrics": [{"Name": "paid"}]},
        {**directive, "Dimensions": [["stage"]], "Metrics": [{"Name": "took"}]},
        {**directive, "Dimensions": [["stage"]], "Metrics": [{"Name": "paid"}]},
    ]
    found = metrics_in(line({**LINE, "_aws": {"Timestamp": NOW_MS, "CloudWatchMetrics": directives}}))
    assert [(list(points(one)), one.fields["attributes"]) for one in found] == [
        (["shop.paid"], {"service": "orders", "stage": "prod"}), (["shop.took"], {"stage": "prod"})
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "ucum"),
    [("Seconds", "s"), ("Microseconds", "us"), ("Bytes", "By"), ("Kilobytes", "kBy"), ("Percent", "%"), ("Count", "1"),
     ("Bytes/Second", "By/s"), ("Count/Second", "1/s"), ("None", ""), (None, ""), (7, ""), ("Bytes/Minute", "")],
)  # fmt: skip
def test_units(unit: Any, ucum: str) -> None:
    (derived,) = metrics_in(line(with_directive(Metrics=[{"Name": "paid", "Unit": unit}])))
    assert points(derived)["shop.paid"][1] == ucum


@pytest.mark.parametrize("value", ["3", None, True, [], [1] * 101, [1, "x"], 2**361, {"Max": 1}])
def test_a_value_that_cloudwatch_refuses_is_no_point_and_the_others_are(value: Any) -> None:
    (derived,) = metrics_in(line({**LINE, "paid": value}))
    assert list(points(derived)) == ["shop.took"]


@pytest.mark.parametrize("value", [2**70, [1, -(2**200)]])
def test_a_huge_number_passes_the_spool(value: Any) -> None:
    derived = metrics_in(line({**LINE, "paid": value})) + metrics_in(line({**OF_DATADOG, "v": 2**70}))
    kept = records_of(FULL, decode(body_of(derived), 0).items, "b" * 24)
    expected = [float(2**70)] if value == 2**70 else [1, -float(2**200)]
    assert [list(points_of(record)[0].values) for record in kept] == [expected, [float(2**70)]]


@pytest.mark.parametrize(
    "changes",
    [{"Metrics": None}, {"Metrics": [1, {}, {"Name": 1}, {"Name": ""}, {"Name": "absent"}]}, {"Metrics": {}}],
)
def test_a_line_without_a_measurement_is_none(changes: dict[str, Any]) -> None:
    assert metrics_in(line(with_directive(**changes))) == []
    assert metrics_in(line({**LINE, "_aws": {"Timestamp": NOW_MS, "CloudWatchMetrics": [1, None]}})) == []


@pytest.mark.parametrize("dimensions", [None, 1, [], [[]], [1], [["absent"]], [[1]]])
def test_odd_dimensions_cost_the_metric_nothing(dimensions: Any) -> None:
    (derived,) = metrics_in(line(with_directive(Dimensions=dimensions)))
    assert derived.fields["attributes"] == {}
    assert len(points(derived)) == 2


def test_without_a_namespace_the_name_stands_alone() -> None:
    (derived,) = metrics_in(line(with_directive(Namespace=None)))
    assert list(points(derived)) == ["paid", "took"]


def test_a_line_of_datadogs_becomes_a_point_with_its_tags() -> None:
    (derived,) = metrics_in(line(OF_DATADOG))
    assert points(derived) == {"orders.paid": (3, "", "distribution")}
    assert derived.fields["attributes"] == {"env": "prod", "url": "http://x", "bare": ""}
    assert (derived.time_ms, derived.fields["source"]) == (NOW_MS // 1000 * 1000, "datadog")


@pytest.mark.parametrize("time_ms", [0, NOW_MS * 1000, NOW_MS // 1000, -1, 1e300])
def test_a_time_in_another_unit_is_that_of_the_line(time_ms: float) -> None:
    (derived,) = metrics_in(line({**LINE, "_aws": {**LINE["_aws"], "Timestamp": time_ms}}))
    assert derived.time_ms == NOW_MS


# --- among the other signals ----------------------------------------------------------------------------------------


def test_lines_are_converted_only_where_it_is_wanted_and_once() -> None:
    body = json.dumps(
        [{"time": "2026-03-02T10:15:30.123Z", "type": "function", "record": json.dumps(LINE) + "\n"},
         {"time": "2026-03-02T10:15:30.124Z", "type": "function", "record": LINE},
         {"time": "2026-03-02T10:15:30.124Z", "type": "function", "record": "a line about _aws and CloudWatchMetrics"}]
    ).encode()  # fmt: skip
    records = WholeBatches(FULL).enrich_all(decode(body, 0).items, "b")
    metric = frozenset({Signal.METRIC})
    ((signal, derived),) = Signals(metric, Prices(), converts_lines=True).of(records)
    assert (signal, [list(points(one)) for one in derived]) == (Signal.METRIC, [["shop.paid", "shop.took"]] * 2)
    assert list(Signals(metric, Prices()).of(records)) == []
    assert list(Signals(frozenset({Signal.LOG}), Prices(), converts_lines=True).of(records)) == []


def test_what_is_derived_is_of_the_request_that_printed_it() -> None:
    context = replace(line(LINE).context, request_id="r", trace_id="1" * 32, cold_start=False)
    (derived,) = metrics_in(replace(line(LINE), context=context))
    assert (derived.request_id, derived.trace_id, derived.cold_start) == ("r", "1" * 32, False)
