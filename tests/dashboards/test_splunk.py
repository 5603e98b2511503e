"""The searches of the Splunk dashboard return the figures of a known run."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.expressions import Unsupported, Value
from tests.dashboards.known_run import FUNCTION, MEMORY_MB, METRICS_INDEX, KnownRun
from tests.dashboards.spl import Splunk

DASHBOARD = Path(__file__).parents[2] / "dashboards" / "splunk.json"
_TOKEN = re.compile(r"\$([\w.]+)\$")


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


@pytest.fixture(scope="module")
def tokens(dashboard: dict[str, Any]) -> dict[str, str]:
    """What the inputs are set to at first."""
    options = [one["options"] for one in dashboard["inputs"].values()]
    return {one["token"]: one["defaultValue"] for one in options}


@pytest.fixture
def ask(dashboard: dict[str, Any], tokens: dict[str, str], run: KnownRun) -> Any:
    splunk = Splunk(run.hec_events)

    def rows(name: str, **given: str) -> list[dict[str, Value]]:
        query = dashboard["dataSources"][f"ds_{name}"]["options"]["query"]
        return splunk.search(_TOKEN.sub(lambda found: {**tokens, **given}[found[1]], query))

    return rows


def _total(rows: list[dict[str, Any]], name: str) -> float:
    return math.fsum(row[name] for row in rows if row[name] is not None)


def test_totals(ask: Any, run: KnownRun) -> None:
    (row,) = ask("totals")
    assert (row["function_name"], row["invocations"]) == (FUNCTION, len(run.results))
    assert (row["errors"], row["timeouts"]) == (len(run.resets), len(run.with_status("timeout")))
    assert row["exceptions"] == sum(one.error_type == "ValueError" for one in run.results) == 1
    assert row["cold_starts"] == 1 + len(run.resets)  # an init within an invocation is one for whoever waits
    assert row["out_of_memory"] is None


def test_another_function_has_none(ask: Any) -> None:
    for name in ("totals", "overhead", "inits", "losses", "lines"):
        assert ask(name, function="another") == []
    assert len(ask("totals", function="orders-*")) == 1


def test_load(ask: Any, run: KnownRun) -> None:
    rows = ask("load")
    found = [_total(rows, name) for name in ("invocations", "errors", "timeouts")]
    assert found == [len(run.results), len(run.resets), len(run.with_status("timeout"))]
    assert all(row["_time"] % 300 == 0 for row in rows)


def test_duration(ask: Any, run: KnownRun) -> None:
    assert max(row["longest"] for row in ask("duration")) == max(round(one.duration_ms, 3) for one in run.results)


def test_overhead(ask: Any, run: KnownRun) -> None:
    rows = ask("overhead")
    assert max(row["longest"] for row in rows) == max(row["p95"] for row in rows) == max(run.overheads_ms)
    if len(rows) == 1:  # else the run fell on the border of five minutes
        assert math.isclose(rows[0]["average"], math.fsum(run.overheads_ms) / len(run.overheads_ms))


def test_inits(ask: Any, run: KnownRun) -> None:
    found = {row["init.phase"]: row for row in ask("inits")}
    assert {phase: row["inits"] for phase, row in found.items()} == {"init": 1, "invoke": len(run.resets)}
    assert found["init"]["longest_ms"] == run.init_ms


def test_errors(ask: Any, run: KnownRun) -> None:
    """Lambda has no type for a time-out; the extension calls it `timeout`."""
    kinds = Counter("timeout" if one.status == "timeout" else one.error_type for one in run.resets)
    assert {row["error.type"]: row["errors"] for row in ask("errors")} == kinds


def test_memory(ask: Any, run: KnownRun) -> None:
    (row,) = ask("memory")
    most = max(one.max_memory_mb for one in run.results)
    assert (row["used_mb"], row["size_mb"]) == (most, MEMORY_MB)
    assert row["used_percent"] == round(most * 100 / MEMORY_MB, 1)


def test_cost(ask: Any, run: KnownRun) -> None:
    (row,) = ask("cost")
    assert row["billed_ms"] == sum(one.billed_ms or 0 for one in run.results)
    assert math.isclose(row["held_ms"], math.fsum(run.overheads_ms))
    gb_s = row["billed_ms"] / 1000 * MEMORY_MB / 1024
    assert row["usd"] == pytest.approx(gb_s * run.gb_second + len(run.results) * 0.20e-6, abs=1e-11)


def test_delivered(ask: Any, run: KnownRun) -> None:
    """What the ledger had counted at its last report, which is a part of what arrived."""
    rows = ask("delivered")
    arrived = {"cloudwatch": len(run.log_events), "datadog": len(run.datadog_ids)}
    for sink, count in arrived.items():
        assert 0 < math.fsum(row.get(sink, 0) for row in rows) <= count


def test_dropped(ask: Any) -> None:
    """What is dropped at the very end is told by an event, not by a metric: see the next one."""
    assert ask("dropped") == []


def test_losses(ask: Any, run: KnownRun) -> None:
    (row,) = ask("losses")
    assert f"lost {run.lost['datadog']} records for datadog" in row["record.message"]


def test_lines(ask: Any, run: KnownRun) -> None:
    (row,) = ask("lines")
    assert row["request_id"] == next(one.request_id for one in run.results if one.error_type == "ValueError")
    assert "asked to raise" in row["_raw"]


def test_each_search_is_shown_and_tested(dashboard: dict[str, Any]) -> None:
    """Each source is what one panel shows, each panel has a place, and each input a name that is used."""
    panels = dashboard["visualizations"]
    shown = [panel["dataSources"]["primary"] for panel in panels.values()]
    assert sorted(shown) == sorted(dashboard["dataSources"])
    tested = {f"ds_{name[5:]}" for name in globals() if name.startswith("test_")}
    assert set(shown) <= tested
    layout = dashboard["layout"]
    assert sorted(block["item"] for block in layout["structure"]) == sorted(panels)
    assert layout["globalInputs"] == list(dashboard["inputs"])
    text = json.dumps([dashboard["dataSources"], dashboard["defaults"]])
    names = {name.partition(".")[0] for name in _TOKEN.findall(text)}
    assert names == {one["options"]["token"] for one in dashboard["inputs"].values()}


def test_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    places = [block["position"] for block in dashboard["layout"]["structure"]]
    for one in places:
        assert one["x"] + one["w"] <= dashboard["layout"]["options"]["width"]
        assert one["y"] + one["h"] <= dashboard["layout"]["options"]["height"]
        for other in places:
            apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert one is other or apart_x or apart_y


def test_the_index_of_metrics_is_named_as_in_the_run(tokens: dict[str, str]) -> None:
    assert tokens["metrics"] == METRICS_INDEX


@pytest.mark.parametrize(
    "search",
    [
        "| tstats count WHERE index=main",
        "| mstats stdev(lambda.duration) AS x WHERE index=*",
        "| mstats sum(lambda.duration) AS x WHERE index=* OR index=b",
        "| mstats sum(lambda.duration) AS x",
        "index=main (type::function)",
        "index=main | dedup type",
        "index=main | eval x=mvcount(type)",
        "index=main | stats sum(type) AS x",
        "index=main | timechart count",
    ],
)
def test_what_the_engine_does_not_know_it_refuses(search: str, run: KnownRun) -> None:
    with pytest.raises(Unsupported):
        Splunk(run.hec_events).search(search)
