"""The saved queries of CloudWatch Logs Insights return the figures of a known run."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards import logs_insights
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
    assert sum(row["timeouts"] for row in ask("timeouts")) == len(run.with_status("timeout")) == 1


def test_errors(ask: Any, run: KnownRun) -> None:
    found = {(row["record.status"], row["record.errorType"]): row["errors"] for row in ask("errors")}
    (crashed,) = run.with_status("error")
    assert found == {("timeout", None): 1, ("error", crashed.error_type): 1}


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
