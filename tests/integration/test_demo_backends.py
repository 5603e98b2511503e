"""The demo's backends as the page sees them: what arrived is recognized, and what waits in the spool is found."""

import asyncio
import json
import re
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from local_lambda import Function, LocalLambda
from local_lambda.page import Show
from telemetry_forwarder.cli.demo_backends import destinations_of, read_ledger
from tests.integration.world import EXTENSION, FUNCTIONS, open_backends
from tests.sharing import sharing


def data_of(report: Path) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', report.read_text(), re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


async def test_every_record_of_the_demo_is_found_in_all_three_backends(tmp_path: Path) -> None:
    report = tmp_path / "demo.html"
    run = "from telemetry_forwarder.cli import main; main()"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", run, "demo", "--report", str(report),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    rows = data_of(report)["rows"]
    wanted = [one for one in rows["records"] if not one["type"].startswith("extension")]
    assert len(wanted) > 500
    assert [one for one in wanted if set(one["arrived"]) != {"splunk", "datadog", "cloudwatch"}] == []
    for one in rows["destinations"]:
        assert (one["arrived"], one["own"], one["open"], one["fault"]) == (len(wanted), 0, 0, None)
    (ledger,) = rows["ledgers"]
    assert [(book["name"], book["counts"]["delivered"], book["balances"]) for book in ledger["books"]] == [
        ("splunk", len(wanted), True),
        ("datadog", len(wanted), True),
        ("cloudwatch", len(wanted), True),
    ]
    assert len(rows["invocations"]) == 12
    assert {one["status"] for one in rows["invocations"]} == {"success"}
    assert [one["function_error"] for one in rows["invocations"]].count("Unhandled") == 1


async def test_what_a_backend_that_hangs_did_not_take_is_found_in_the_spool_until_it_is_well_again(
    tmp_path: Path,
) -> None:
    report, spool = tmp_path / "run.html", tmp_path / "spool"
    async with AsyncExitStack() as stack:
        more = {"TELEMETRY_FORWARDER_SPOOL_DIR": str(spool), "TELEMETRY_FORWARDER_LOG_LEVEL": "info"}
        splunk, datadog, cloudwatch, environment = await open_backends(stack, more)
        function = Function(code=FUNCTIONS, handler="lines.handler", environment=environment)
        first, *others = destinations = destinations_of(function, spool, splunk, datadog, cloudwatch)
        assert (first.name, list(first.faults)) == ("splunk", ["503", "hang", "slow"])
        env = LocalLambda(function, extensions=[EXTENSION], platform=sharing())
        async with Show(file=report, destinations=destinations, read_ledger=read_ledger) as show:
            show.follow(1, env)
            async with env:
                await env.invoke({"first": 0, "lines": 3})
                first.set_fault("hang")
                await env.invoke({"first": 3, "lines": 3})
                waiting = first.waiting()
                assert waiting is not None
                lines = [one for one in waiting if one.type == "function"]
                assert len(lines) == 3
                known = {record["record_id"] for record in [log.attributes for log in datadog.logs]}
                assert {one.id for one in lines} <= known
                assert [[one.type for one in place.waiting() or ()].count("function") for place in others] == [0, 0]
                first.set_fault(None)
                await env.invoke({"first": 6, "lines": 3})
                await splunk.wait_until(
                    lambda: {one.id for one in lines} <= {e.fields["record_id"] for e in splunk.events}
                )
    rows = data_of(report)["rows"]
    lines = [one for one in rows["records"] if one["type"] == "function"]
    assert [set(one["arrived"]) for one in lines] == [{"splunk", "datadog", "cloudwatch"}] * 9
    hung = [span for span in rows["spans"] if span["lane"] == "splunk" and "fault: hang" in span["detail"]]
    assert hung


@pytest.mark.parametrize("line", ["", "a line", '{"telemetry_forwarder":"1","message":"ready"}', '{"door": 1}'])
def test_other_lines_are_no_ledger(line: str) -> None:
    assert read_ledger(line) is None


def test_a_ledger_that_does_not_balance_is_told_as_such() -> None:
    account = {"offered": 5, "delivered": 2, "dropped": {"deadline": 1}, "spilled": 1, "held": 0, "attempts": 9}
    line = json.dumps({"telemetry_forwarder": "1", "door": {}, "sinks": {"splunk": account}}, separators=(",", ":"))
    ledger = read_ledger(line)
    assert ledger is not None
    (book,) = ledger.books
    assert (book.name, book.balances) == ("splunk", False)
    assert book.counts == {"offered": 5, "delivered": 2, "dropped": 1, "spilled": 1, "held": 0, "requests": 9}
