"""The local CloudWatch makes metrics of log events as CloudWatch does, from every group, and of nothing else."""

import json
from typing import Any

import pytest

from local_backends.embedded_metrics import EmbeddedMetrics

NOW_MS = 1_791_048_401_679
MINUTE = NOW_MS // 60_000


def document(**changes: Any) -> dict[str, Any]:
    """Return a valid document; `changes` are of its directive, but those of its root in capitals."""
    directive = {
        "Namespace": "acme/lambda",
        "Dimensions": [["FunctionName"], ["FunctionName", "Version"]],
        "Metrics": [{"Name": "DurationMs", "Unit": "Milliseconds", "StorageResolution": 60}],
    }
    root = {"FunctionName": "orders-fn", "Version": "$LATEST", "DurationMs": 182.4, "requestId": "7b0c"}
    about = {"Timestamp": NOW_MS, "CloudWatchMetrics": [directive]}
    for name, value in changes.items():
        (about if name in about else root if name in root else directive)[name] = value
    return {"_aws": about, **root}


def taken(*messages: str, group: str = "g") -> EmbeddedMetrics:
    metrics = EmbeddedMetrics()
    for message in messages:
        metrics.take(group, message, NOW_MS)
    return metrics


def test_each_set_of_dimensions_is_a_metric_of_its_own() -> None:
    metrics = taken(json.dumps(document()))
    assert metrics.sums() == {
        ("acme/lambda", (("FunctionName", "orders-fn"),), "DurationMs", MINUTE): 182.4,
        ("acme/lambda", (("FunctionName", "orders-fn"), ("Version", "$LATEST")), "DurationMs", MINUTE): 182.4,
    }
    assert not metrics.errors


def test_the_same_line_in_two_groups_counts_twice() -> None:
    metrics = taken(json.dumps(document()))
    metrics.take("another group", json.dumps(document()), NOW_MS)
    assert metrics.total("DurationMs", FunctionName="orders-fn") == 2 * 182.4


def test_values_of_an_array_all_count_and_a_set_may_be_empty() -> None:
    metrics = taken(json.dumps(document(DurationMs=[1, 2.5], Dimensions=[[]])))
    assert metrics.sums() == {("acme/lambda", (), "DurationMs", MINUTE): 3.5}


@pytest.mark.parametrize(
    "message",
    [
        "INFO " + json.dumps(document()), json.dumps(document()) + " x", json.dumps([document()]), '{"_aws":1}', "_aws",
        json.dumps({"message": document()}), json.dumps({"aws_emf": document()["_aws"], "DurationMs": 1}),
    ],
)  # fmt: skip
def test_what_is_no_emf_is_left_alone(message: str) -> None:
    metrics = taken(message)
    assert (metrics.found, metrics.errors) == ([], [])


@pytest.mark.parametrize(
    "changes",
    [
        {"Timestamp": "now"}, {"Timestamp": NOW_MS - 15 * 86_400_000}, {"Timestamp": NOW_MS + 3 * 3_600_000},
        {"CloudWatchMetrics": {}}, {"Namespace": ""}, {"Namespace": "AWS/Lambda"}, {"Namespace": "n" * 257},
        {"Dimensions": []}, {"Dimensions": ["FunctionName"]}, {"Dimensions": [["absent"]]},
        {"Dimensions": [[f"d{n}" for n in range(31)]]}, {"FunctionName": 1}, {"FunctionName": " "},
        {"FunctionName": "ü"}, {"FunctionName": "x" * 1025}, {"Metrics": []}, {"Metrics": [{"Unit": "Count"}]},
        {"Metrics": [{"Name": "DurationMs"}] * 101}, {"Metrics": [{"Name": "absent"}]},
        {"Metrics": [{"Name": "DurationMs", "Unit": "ms"}]},
        {"Metrics": [{"Name": "DurationMs", "StorageResolution": 30}]},
        {"DurationMs": "1"}, {"DurationMs": True}, {"DurationMs": []}, {"DurationMs": [1] * 101},
        {"DurationMs": [1, "x"]}, {"DurationMs": 2.0**361}, {"DurationMs": float("nan")},
    ],
)  # fmt: skip
def test_emf_with_a_flaw_is_an_error_and_no_metric(changes: dict[str, Any]) -> None:
    metrics = taken(json.dumps(document(**changes)))
    assert not metrics.found
    assert len(metrics.errors) == 1


@pytest.mark.parametrize(
    "unit", ["Seconds", "Bytes", "Megabytes/Second", "Gigabits", "Count/Second", "Percent", "None"]
)
def test_units_of_cloudwatch_are_known(unit: str) -> None:
    metrics = taken(json.dumps(document(Metrics=[{"Name": "DurationMs", "Unit": unit}])))
    assert {one.unit for one in metrics.found} == {unit}
