"""The queries of the Grafana dashboard return the figures of a known run, over what a store of PromQL has of it."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards import prometheus
from tests.dashboards.expressions import Unsupported
from tests.dashboards.known_run import FUNCTION, MEMORY_MB, KnownRun

DASHBOARD = Path(__file__).parents[2] / "dashboards" / "grafana.json"
_VARIABLE = re.compile(r"\$(\w+)")
judged = pytest.mark.skipif(prometheus.promtool() is None, reason="promtool is not there: make promtool")


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


@pytest.fixture(scope="module")
def over(dashboard: dict[str, Any]) -> list[str]:
    """The functions to choose from: for a store of deltas, and for one of sums."""
    (variable,) = [one for one in dashboard["templating"]["list"] if one["name"] == "over"]
    return [one["value"] for one in variable["options"]]


def _answers(dashboard: dict[str, Any], run: KnownRun, over: str, job: str = ".*") -> dict[tuple[str, str], Any]:
    """Return what each target of each panel shows, by the panel's title and the target's legend."""
    values = {"over": over, "job": job, "__range": "2h", "__interval": "2h"}
    targets = [(panel["title"], target) for panel in dashboard["panels"] for target in panel["targets"]]
    asked = [_VARIABLE.sub(lambda found: values[found[1]], target["expr"]) for _, target in targets]
    series = prometheus.series_of(run.otlp_metrics, is_summed=over == "increase")
    answers = prometheus.query(asked, series)
    return {(title, target["legendFormat"]): answer for (title, target), answer in zip(targets, answers, strict=True)}


@pytest.fixture(scope="module")
def shown(dashboard: dict[str, Any], run: KnownRun, over: list[str]) -> dict[tuple[str, str], Any]:
    return _answers(dashboard, run, over[0])


JOB = ("job", FUNCTION)


@judged
def test_counts(shown: Any, run: KnownRun) -> None:
    found = {legend: answer.get((), 0) for (title, legend), answer in shown.items() if title == "In this time"}
    assert found == {
        "invocations": len(run.results),
        "errors": len(run.resets),
        "time-outs": len(run.with_status("timeout")),
        "exceptions": 1,
        "cold starts": 1 + len(run.resets),
        "records dropped": 0,  # at the very end they were: which no metric tells, but the ledger's line and an event
        "records dropped by Lambda": 0,
    }
    for legend in ("invocations", "errors", "time-outs"):
        assert shown["Invocations and errors", legend][()] == found[legend]


@judged
def test_durations_and_overhead(shown: Any, run: KnownRun) -> None:
    seconds = [round(one.duration_ms, 3) / 1000 for one in run.results]
    overheads = [value / 1000 for value in run.overheads_ms]
    for title, values in (("Duration", seconds), ("Overhead: how long extensions held invocations", overheads)):
        assert shown[title, "average"][()] == pytest.approx(math.fsum(values) / len(values))
        assert max(values) <= shown[title, "longest, at most"][()] <= 2.5 * max(values)  # the bound of a bucket
        assert min(values) < shown[title, "p95"][()] <= shown[title, "longest, at most"][()]
    held = math.fsum(overheads) / sum(one.billed_ms or 0 for one in run.results) * 1000
    assert shown["Share of the billed time that extensions took", ""] == {(JOB,): pytest.approx(held)}


@judged
def test_inits_and_errors_by_kind(shown: Any, run: KnownRun) -> None:
    phases = {dict(labels)["init_phase"]: value for labels, value in shown["Inits by phase", ""].items()}
    assert phases == {"init": 1, "invoke": len(run.resets)}
    kinds = {dict(labels)["error_type"]: value for labels, value in shown["Errors by type", ""].items()}
    assert kinds == Counter("timeout" if one.status == "timeout" else one.error_type for one in run.resets)
    assert shown["Inits", "average"][()] > 0


@judged
def test_memory_and_cost(shown: Any, run: KnownRun) -> None:
    used = [one.max_memory_mb * 1_048_576 for one in run.results]
    assert shown["Memory", "used, on average"][()] == pytest.approx(sum(used) / len(used))
    assert shown["Memory", "limit"] == {(): MEMORY_MB * 1_048_576}
    billed = sum(one.billed_ms or 0 for one in run.results) / 1000 * MEMORY_MB / 1024 * run.gb_second
    cost = billed + len(run.results) * 0.20e-6
    assert shown["Estimated cost in USD", ""] == {(JOB,): pytest.approx(cost, abs=1e-8)}


@judged
def test_deliveries(shown: Any, run: KnownRun) -> None:
    found = {dict(labels)["sink"]: value for labels, value in shown["Records delivered, by sink", "{{sink}}"].items()}
    assert 0 < found["cloudwatch"] <= len(run.log_events)
    assert shown["Records dropped, by sink and reason", ""] == {}


@judged
def test_a_store_of_sums_estimates_the_same(
    dashboard: dict[str, Any], run: KnownRun, over: list[str], shown: dict[tuple[str, str], Any]
) -> None:
    """Of series that were there before: `increase` guesses at most half an interval more at the ends of the range."""
    found = _answers(dashboard, run, over[1])
    for target, answer in shown.items():
        if target[0] in ("In this time", "Inits by phase", "Errors by type", "Estimated cost in USD"):
            assert set(found[target]) == set(answer)
            for labels, exact in answer.items():
                assert exact * 0.999 <= found[target][labels] <= exact * 1.5


@judged
def test_another_service_has_none(dashboard: dict[str, Any], run: KnownRun, over: list[str]) -> None:
    assert not any(_answers(dashboard, run, over[0], job="another").values())


@judged
def test_what_prometheus_does_not_take_is_refused(run: KnownRun) -> None:
    series = prometheus.series_of(run.otlp_metrics, is_summed=False)
    with pytest.raises(Unsupported):
        prometheus.query(["histogram_quantle(0.5, a)"], series)


def test_the_dashboard_is_one_that_grafana_loads(dashboard: dict[str, Any]) -> None:
    """Each panel has its own id and place, and a store that a variable names; each variable that is used is there."""
    assert dashboard["schemaVersion"] == 39  # Grafana 10.4; newer ones migrate it
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(places) == len(set(places))
    assert max(x for x, _ in places) == 23
    variables = {one["name"] for one in dashboard["templating"]["list"]}
    for panel in panels:
        assert panel["type"] in ("stat", "timeseries", "table")
        assert [target["refId"] for target in panel["targets"]] == [chr(65 + at) for at in range(len(panel["targets"]))]
        for target in panel["targets"]:
            assert panel["datasource"] == target["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            used = set(_VARIABLE.findall(target["expr"])) - {"__range", "__interval"}
            assert used <= variables
