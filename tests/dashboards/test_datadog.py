"""The queries of the Datadog dashboard return the figures of a known run."""

import json
import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from telemetry_forwarder.sinks.datadog import Datadog
from tests.dashboards import datadog_queries
from tests.dashboards.expressions import Unsupported
from tests.dashboards.known_run import FUNCTION, MEMORY_MB, KnownRun
from tests.sink_records import LOSS

DASHBOARD = Path(__file__).parents[2] / "dashboards" / "datadog.json"
LOSSES = "What was lost at the end of an environment"
# What a widget may have, by its type. Source: Datadog's OpenAPI description of dashboards (v1), read 2026-11-28.
_REQUEST = {"queries", "formulas", "response_format"}
_MEMBERS = {
    "timeseries": ({"type", "title", "show_legend", "requests"}, _REQUEST | {"display_type"}, "timeseries"),
    "toplist": ({"type", "title", "requests"}, _REQUEST, "scalar"),
    "list_stream": ({"type", "title", "requests"}, {"columns", "query", "response_format"}, "event_list"),
}


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


@pytest.fixture
def ask(dashboard: dict[str, Any], run: KnownRun) -> Any:
    """Return what a widget shows: by the label of each formula, the value of each group."""

    def shown(title: str, function: str | None = FUNCTION) -> dict[str, dict[tuple[str, ...], float]]:
        prefix = dashboard["template_variables"][0]["prefix"]
        variables = {"functionname": f"{prefix}:{function}" if function else "*"}
        (definition,) = [one["definition"] for one in dashboard["widgets"] if one["definition"]["title"] == title]
        (request,) = definition["requests"]
        found = {
            one["name"]: datadog_queries.metric_query(one["query"], run.datadog_points, variables)
            for one in request["queries"]
        }
        groups = {group for values in found.values() for group in values}
        labelled: dict[str, dict[tuple[str, ...], float]] = {}
        for one in request["formulas"]:
            for group in groups:
                values = {name: found[name].get(group) for name in found}
                value = datadog_queries.formula(one["formula"], values)
                if isinstance(value, float):
                    labelled.setdefault(one.get("alias", one["formula"]), {})[group] = value
        return labelled

    return shown


def test_invocations(ask: Any, run: KnownRun) -> None:
    wanted = {
        "invocations": {(): len(run.results)},
        "errors": {(): len(run.resets)},
        "time-outs": {(): len(run.with_status("timeout"))},
        "exceptions": {(): 1},
    }
    assert ask("Invocations") == ask("Invocations", function=None) == wanted
    assert ask("Invocations", function="another") == {}


def test_durations_are_in_seconds(ask: Any, run: KnownRun) -> None:
    found = ask("Duration in s")
    durations = [round(one.duration_ms, 3) / 1000 for one in run.results]
    assert found["longest"][()] == pytest.approx(max(durations))
    assert found["average"][()] == pytest.approx(math.fsum(durations) / len(durations))


def test_overhead_is_in_ms(ask: Any, run: KnownRun) -> None:
    found = ask("Overhead: how long extensions held invocations, in ms")
    assert found["longest"][()] == max(run.overheads_ms)
    assert found["average"][()] == pytest.approx(math.fsum(run.overheads_ms) / len(run.overheads_ms))


def test_inits(ask: Any, run: KnownRun) -> None:
    (counts,) = ask("Inits by phase").values()
    assert counts == {(FUNCTION, "init"): 1, (FUNCTION, "invoke"): len(run.resets)}
    assert ask("Inits in s")["longest"][()] >= run.init_ms / 1000
    cold = ask("Cold starts in percent")["cold starts"][()]
    assert cold == 100 * (1 + len(run.resets)) / len(run.results)


def test_errors_by_type(ask: Any, run: KnownRun) -> None:
    (counts,) = ask("Errors by type").values()
    kinds = Counter("timeout" if one.status == "timeout" else str(one.error_type) for one in run.resets)
    assert counts == {(FUNCTION, kind): count for kind, count in kinds.items()}


def test_memory_and_cost(ask: Any, run: KnownRun) -> None:
    found = ask("Memory in MB")
    assert found == {"used": {(): max(one.max_memory_mb for one in run.results)}, "size": {(): MEMORY_MB}}
    (cost,) = ask("Estimated cost in USD").values()
    billed = sum(one.billed_ms or 0 for one in run.results) / 1000 * MEMORY_MB / 1024 * run.gb_second
    assert cost[(FUNCTION,)] == pytest.approx(billed + len(run.results) * 0.20e-6, abs=1e-11)


def test_deliveries(ask: Any, run: KnownRun) -> None:
    found = ask("Records delivered, by sink")["delivered"]
    assert 0 < found[("cloudwatch",)] <= len(run.log_events)
    assert ask("Records dropped, by sink and reason") == {}  # the key was revoked at the end: see the log widget


def _log_search(dashboard: dict[str, Any], title: str) -> str:
    (definition,) = [one["definition"] for one in dashboard["widgets"] if one["definition"]["title"] == title]
    search: str = definition["requests"][0]["query"]["query_string"]
    return search


def test_errors_that_functions_wrote(dashboard: dict[str, Any], run: KnownRun) -> None:
    search = _log_search(dashboard, "Errors that functions wrote")
    (found,) = datadog_queries.log_query(search, run.datadog_logs)
    assert "asked to raise" in found.message


def test_losses(dashboard: dict[str, Any], run: KnownRun) -> None:
    """In the run it is Datadog that gets nothing any more. So the record is one that another sink's losses make."""
    assert datadog_queries.log_query(_log_search(dashboard, LOSSES), run.datadog_logs) == []
    assert LOSS is not None
    sent = json.loads(Datadog(url="http://here", tags=()).encode(LOSS).data)
    log = SimpleNamespace(status=sent["status"], attributes=sent)
    assert datadog_queries.log_query(_log_search(dashboard, LOSSES), [log]) == [log]


def test_the_dashboard_has_members_that_datadog_knows(dashboard: dict[str, Any]) -> None:
    assert set(dashboard) == {"title", "description", "layout_type", "reflow_type", "template_variables", "widgets"}
    assert (dashboard["layout_type"], dashboard["reflow_type"]) == ("ordered", "fixed")
    for widget in dashboard["widgets"]:
        definition = widget["definition"]
        members, of_request, form = _MEMBERS[definition["type"]]
        assert set(definition) == members
        for request in definition["requests"]:
            assert set(request) == of_request
            assert request["response_format"] == form


def test_widgets_do_not_overlap(dashboard: dict[str, Any]) -> None:
    places = [
        (x, y)
        for layout in (one["layout"] for one in dashboard["widgets"])
        for x in range(layout["x"], layout["x"] + layout["width"])
        for y in range(layout["y"], layout["y"] + layout["height"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) == 11  # 12 columns


@pytest.mark.parametrize(
    "query",
    [
        "p95:aws.lambda.enhanced.duration{*}",
        "avg:aws.lambda.enhanced.duration{*}.rollup(max)",
        "sum:aws.lambda.enhanced.errors{*}",
        "avg:aws.lambda.enhanced.duration{$unknown}",
        "avg:aws.lambda.enhanced.duration{prod}",
        "top(avg:aws.lambda.enhanced.duration{*}, 5)",
    ],
)
def test_what_the_engine_does_not_know_it_refuses(query: str, run: KnownRun) -> None:
    with pytest.raises(Unsupported):
        datadog_queries.metric_query(query, run.datadog_points, {})


def test_a_log_search_that_it_does_not_know_is_refused(run: KnownRun) -> None:
    for search in ("status:error OR status:warn", "lost", "env:prod"):
        with pytest.raises(Unsupported):
            datadog_queries.log_query(search, run.datadog_logs)
