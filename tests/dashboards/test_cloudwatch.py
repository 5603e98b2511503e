"""What is saved for CloudWatch, queries, a dashboard and alarms, has the figures of a known run."""

import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards import cloudwatch_metrics, logs_insights
from tests.dashboards.expressions import Unsupported, Value
from tests.dashboards.known_run import FUNCTION, MEMORY_MB, KnownRun

load = pytest.importorskip("cfnlint.decode.cfn_yaml", reason="cfn-lint is for Python 3.14 and older").load
STACK = Path(__file__).parents[2] / "dashboards" / "cloudwatch.yaml"


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    loaded: dict[str, Any] = load(str(STACK))
    return loaded


@pytest.fixture(scope="module")
def queries(stack: dict[str, Any]) -> dict[str, str]:
    """The saved queries by the last part of their names."""
    found = [one["Properties"] for one in stack["Resources"].values() if one["Type"] == "AWS::Logs::QueryDefinition"]
    return {one["Name"].rpartition("/")[2]: one["QueryString"] for one in found}


@pytest.fixture
def ask(queries: dict[str, str], run: KnownRun) -> Any:
    asked = {}

    def rows(name: str) -> list[dict[str, Value]]:
        asked[name] = logs_insights.query(queries[name], run.log_events)
        return asked[name]

    return rows


def test_inits(ask: Any, run: KnownRun) -> None:
    """One of its own, and one within each invocation that followed on a crash or a time-out."""
    first, again = sorted(ask("inits"), key=lambda row: row["record.phase"])
    assert (first["record.phase"], first["inits"], first["record.initializationType"]) == ("init", 1, "on-demand")
    assert first["average_ms"] == first["longest_ms"] == first["p95_ms"] == run.init_ms
    assert (again["record.phase"], again["inits"]) == ("invoke", len(run.resets))
    assert {first["lambda.function_name"], again["lambda.function_name"]} == {FUNCTION}


def test_cold_starts(ask: Any, run: KnownRun) -> None:
    (row,) = ask("cold-starts")
    assert (row["invocations"], row["cold_starts"]) == (len(run.results), 1)
    assert row["cold_percent"] == 100 / len(run.results)
    assert row["average_init_ms"] == run.init_ms


def test_overhead(ask: Any, run: KnownRun) -> None:
    """Of each invocation that succeeded; of others Lambda tells none."""
    rows = ask("overhead")  # more than one if the run fell on the border of five minutes
    counts = [row["invocations"] for row in rows]
    assert sum(counts) == len(run.overheads_ms) == len(run.with_status("success"))
    total = sum(row["average_ms"] * row["invocations"] for row in rows)
    assert math.isclose(total, sum(run.overheads_ms))
    assert max(row["longest_ms"] for row in rows) == max(row["p99_ms"] for row in rows) == max(run.overheads_ms)


def test_timeouts(ask: Any, run: KnownRun) -> None:
    assert sum(row["timeouts"] for row in ask("timeouts")) == len(run.with_status("timeout")) > 0


def test_errors(ask: Any, run: KnownRun) -> None:
    found = {(row["record.status"], row["record.errorType"]): row["errors"] for row in ask("errors")}
    kinds = {"timeout": None, "error": "Runtime.ExitError"}
    assert found == Counter((one.status, kinds[one.status]) for one in run.resets)


def test_error_lines(ask: Any, run: KnownRun) -> None:
    """The exception that the handler let escape, which the platform calls a success."""
    (row,) = ask("error-lines")
    (raised,) = [one for one in run.results if one.error_type == "ValueError"]
    assert row["lambda.request_id"] == raised.request_id
    assert "asked to raise" in row["message"]


def test_memory(ask: Any, run: KnownRun) -> None:
    (row,) = ask("memory")
    most = max(one.max_memory_mb for one in run.results)
    assert (row["used_mb"], row["size_mb"]) == (most, MEMORY_MB)
    assert row["used_percent"] == most * 100 / MEMORY_MB


def test_cost(ask: Any, run: KnownRun) -> None:
    (row,) = ask("cost")
    gb_s = sum(one.billed_ms or 0 for one in run.results) / 1000 * MEMORY_MB / 1024
    assert row["invocations"] == len(run.results)
    assert math.isclose(row["gb_seconds"], gb_s)
    assert math.isclose(row["usd"], gb_s * 0.0000166667 + len(run.results) * 0.0000002)
    held = sum(run.overheads_ms) / 1000 * MEMORY_MB / 1024
    assert math.isclose(row["overhead_usd"], held * 0.0000166667)


def test_losses(ask: Any, run: KnownRun) -> None:
    (row,) = ask("losses")
    assert run.lost["datadog"] > 0
    assert f"lost {run.lost['datadog']} records for datadog" in row["message"]
    assert row["lambda.function_name"] == FUNCTION


def test_ledger(ask: Any, run: KnownRun) -> None:
    """What was delivered up to the last report of the ledger, which is part of what arrived."""
    (row,) = ask("ledger")
    assert row["lost_before_us"] == 0
    assert 0 < row["cloudwatch"] <= len(run.log_events)
    assert 0 < row["datadog"] <= len(run.datadog_ids) < row["received"]
    assert {json.loads(text)["lambda"]["record_id"] for _, text in run.log_events} >= run.datadog_ids


VALUES = {"FunctionName": FUNCTION, "LogGroupName": "/forwarded", "AWS::Region": "eu-west-1"}


@pytest.fixture(scope="module")
def parameters(stack: dict[str, Any]) -> dict[str, str]:
    """The stack's parameters, the rest of them as by default."""
    given = {name: str(one["Default"]) for name, one in stack["Parameters"].items() if "Default" in one}
    return given | VALUES


@pytest.fixture(scope="module")
def widgets(stack: dict[str, Any], parameters: dict[str, str]) -> list[dict[str, Any]]:
    def value(found: re.Match[str]) -> str:
        resource, is_of_resource, _ = found[1].partition(".")
        if is_of_resource:
            assert resource in stack["Resources"]
            return f"arn:aws:cloudwatch:eu-west-1:123456789012:alarm:{resource}"
        return parameters[found[1]]

    body = stack["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    found: list[dict[str, Any]] = json.loads(re.sub(r"\$\{([\w:.]+)\}", value, body))["widgets"]
    return found


def _shown(widgets: list[dict[str, Any]], title: str, run: KnownRun) -> dict[str, cloudwatch_metrics.Periods]:
    (found,) = [one["properties"] for one in widgets if one["properties"]["title"] == title]
    return cloudwatch_metrics.widget(run.measurements, found)


def _totals(shown: dict[str, cloudwatch_metrics.Periods]) -> dict[str, float]:
    return {label: math.fsum(values.values()) for label, values in shown.items()}


def test_the_dashboard_counts(widgets: list[dict[str, Any]], run: KnownRun) -> None:
    assert _totals(_shown(widgets, "Invocations and errors", run)) == {
        "invocations": len(run.results),
        "errors": len(run.resets),
        "time-outs": len(run.with_status("timeout")),
        "exceptions": 1,
    }
    billed = sum(one.billed_ms or 0 for one in run.results) / 1000 * MEMORY_MB / 1024 * run.gb_second
    cost = _totals(_shown(widgets, "Estimated cost in USD", run))["USD"]
    assert cost == pytest.approx(billed + len(run.results) * 0.20e-6, abs=1e-11)


def test_the_dashboard_measures(widgets: list[dict[str, Any]], run: KnownRun) -> None:
    overhead = _shown(widgets, "Overhead: how long extensions held invocations", run)
    assert max(overhead["longest"].values()) == max(overhead["p99"].values()) == max(run.overheads_ms)
    assert min(run.overheads_ms) <= min(overhead["average"].values())
    inits = _shown(widgets, "Inits", run)
    assert _totals(inits)["inits"] == 1 + len(run.resets)
    assert max(inits["longest"].values()) >= run.init_ms
    duration = _shown(widgets, "Duration", run)
    assert max(duration["longest"].values()) == max(round(one.duration_ms, 3) for one in run.results)
    memory = _shown(widgets, "Memory", run)
    assert max(memory["used"].values()) == max(one.max_memory_mb for one in run.results)
    assert set(memory["size"].values()) == {MEMORY_MB}


def test_the_dashboard_shows_the_ledger_up_to_the_end(widgets: list[dict[str, Any]], run: KnownRun) -> None:
    """What the last drain lost is in it, though no sink could be told of it as a metric."""
    found = _totals(_shown(widgets, "Records of telemetry", run))
    assert found["dropped"] == run.lost["datadog"] > 0
    assert found["dropped by Lambda"] == 0
    assert found["delivered, over all sinks"] == run.delivered


def test_the_dashboard_s_log_queries_are_the_saved_ones(widgets: list[dict[str, Any]], queries: dict[str, str]) -> None:
    asked = [one["properties"]["query"] for one in widgets if one["type"] == "log"]
    assert len(asked) == 3
    saved = {" ".join(query.split()) for query in queries.values()}
    assert {query.removeprefix("SOURCE '/forwarded' | ") for query in asked} <= saved


def test_the_dashboard_s_widgets_do_not_overlap(widgets: list[dict[str, Any]]) -> None:
    places = [
        (x, y)
        for one in widgets
        for x in range(one["x"], one["x"] + one["width"])
        for y in range(one["y"], one["y"] + one["height"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) == 23  # 24 columns; source: "Dashboard body structure and syntax"


@pytest.fixture
def is_raised(stack: dict[str, Any], parameters: dict[str, str], run: KnownRun) -> Any:
    def resolved(node: Any, given: dict[str, str]) -> Any:
        if isinstance(node, dict):
            if set(node) == {"Ref"}:
                return given.get(node["Ref"])
            return {key: resolved(one, given) for key, one in node.items()}
        return [resolved(one, given) for one in node] if isinstance(node, list) else node

    def raised(name: str, measurements: Any = None, **more: str) -> bool:
        alarm = resolved(stack["Resources"][name]["Properties"], parameters | more)
        found = run.measurements if measurements is None else measurements
        return cloudwatch_metrics.is_alarm(found, alarm)

    return raised


def test_losses_and_timeouts_raise_an_alarm(is_raised: Any, run: KnownRun) -> None:
    assert is_raised("LossesAlarm")
    assert not is_raised("LossesAlarm", [one for one in run.measurements if not sum(one.values)])
    assert not is_raised("LossesAlarm", FunctionName="another")
    assert is_raised("TimeoutsAlarm")
    assert not is_raised("TimeoutsAlarm", Timeouts=str(len(run.with_status("timeout")) + 1))
    assert not is_raised("TimeoutsAlarm", [])


def test_overhead_raises_an_alarm_after_a_quarter_of_an_hour(is_raised: Any, run: KnownRun) -> None:
    found = [one for one in run.measurements if one.name == "lambda.extension_overhead"]
    later = [replace(one, time_ms=one.time_ms + periods * 300_000) for one in found for periods in range(3)]
    least = str(min(run.overheads_ms) / 2)
    assert not is_raised("OverheadAlarm", later, OverheadMs=str(max(run.overheads_ms)))
    assert is_raised("OverheadAlarm", later, OverheadMs=least)
    short = [one for one in later if one.time_ms < min(one.time_ms for one in later) + 300_000]
    assert not is_raised("OverheadAlarm", short, OverheadMs=least)


def test_the_queries_are_all_tested(queries: dict[str, str]) -> None:
    tested = {name[5:].replace("_", "-") for name in globals() if name.startswith("test_")}
    assert set(queries) <= tested


@pytest.mark.parametrize(
    "query",
    [
        "filter a = 1 | dedup a",
        "stats percentile(a, 5) as x",
        "stats sum(a)",
        "filter a =~ 1",
        "filter type = 3",
        "fields strcontains(a, 'b') as x",
        "stats count(*) as n by bin(5 minutes)",
        'filter message like "a" and',
        "sort 5",
    ],
)
def test_what_the_engine_does_not_know_it_refuses(query: str) -> None:
    with pytest.raises(Unsupported):
        logs_insights.query(query, [(1000, '{"a": 5, "type": "x", "message": "a"}')])
