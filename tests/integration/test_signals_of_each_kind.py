"""Metrics and spans of every kind of invocation are as written in docs/signals, and what the local Lambda did."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.integration.endings import request_id
from tests.integration.signals import COUNTED, FOLDER, STORIES, Story, environment, expected, invoke, page, tell
from tests.integration.test_local_lambda_limits import can_have
from tests.integration.test_metrics import assert_balanced

TRACES = (FOLDER.parent / "traces.md").read_text()


def written(name: str) -> str:
    return (FOLDER / f"{name}.txt").read_text()


def check(story: Story) -> None:
    """Check counts, the ledger, the graph of the spans, and that log records are joined to it."""
    assert +Counter({name: story.count(name) for name in COUNTED}) == expected(story)
    for ledger in story.ledgers:
        assert_balanced(ledger)
    assert_graph(story)
    traces = {one["attributes"].get("faas.invocation_id"): one["trace_id"] for one in story.spans}
    logs = [one for one in story.of("log") if one["request_id"] is not None]
    assert logs
    for one in logs:
        assert one["trace_id"] == traces[one["request_id"]]
    ids = [one["record_id"] for one in story.taken]
    assert len(set(ids)) == len(ids), "each record once"


def assert_graph(story: Story) -> None:
    """Check that each parent is there, around its children, and that each attempt of a request has one root."""
    spans = {one["span_id"]: one for one in story.spans}
    assert len(spans) == len(story.spans), "no span twice"
    roots: Counter[Any] = Counter()
    for one in spans.values():
        assert one["start_ns"] <= one["end_ns"]
        if "parent_id" in one:
            parent = spans[one["parent_id"]]
            assert parent["trace_id"] == one["trace_id"]
            assert parent["start_ns"] - 1_000_000 <= one["start_ns"] <= one["end_ns"] <= parent["end_ns"] + 1_000_000
        elif one["kind"] == "server":
            roots[one["attributes"]["faas.invocation_id"]] += 1
    assert roots == Counter(request_id(letter) for letter, _ in story.results)


@pytest.mark.parametrize("name", STORIES)
async def test_each_kind_is_told_as_written(name: str, tmp_path: Path) -> None:
    if name == "out-of-memory" and not can_have("memory"):
        pytest.skip("no memory control group can be made here")
    story = await tell(name, tmp_path)
    assert page(name, story) == written(name), "python -m tests.integration.signals"
    check(story)


@pytest.mark.parametrize("name", ["warm", "timeout", "managed", "another-attempt"])
async def test_each_kind_is_the_same_behind_a_backend_that_fails_at_first(name: str, tmp_path: Path) -> None:
    story = await tell(name, tmp_path, failures=4)
    assert page(name, story) == written(name)
    check(story)


async def test_what_lambda_sends_again_is_told_once_by_this_process_and_the_next(tmp_path: Path) -> None:
    """All telemetry once more while the second request runs, in a process of its own behind a time-out."""
    story = Story(tmp_path, failures=2)
    go = tmp_path / "go"
    async with environment(story, timeout_s=6.0) as env:
        await invoke(story, env, "A", ("say", "calling the slow API"), ("sleep", 60))
        steps = ("say", "paying order 18"), ("wait for", str(go))
        async with asyncio.TaskGroup() as group:
            group.create_task(invoke(story, env, "B", *steps))
            await env.until(lambda: any(b"paying order 18" in body for body in story.bodies), timeout_s=20.0)
            await story.send_again()
            go.touch()
        await env.shutdown()
    check(story)
    assert sum(ledger["door"]["redelivered_bodies"] for ledger in story.ledgers) >= 3
    assert str(story) in written("timeout")


async def test_a_time_out_of_which_only_the_report_tells_to_the_next_process_is_one_failed_tree(tmp_path: Path) -> None:
    """As captured on Lambda: `runtimeDone` is not sent, and the report comes to the process behind the reset."""
    story = Story(tmp_path)
    story.withheld = "platform.runtimeDone"
    await STORIES["timeout"](story)
    check(story)
    root = next(one for one in story.spans if one["attributes"].get("faas.invocation_id") == request_id("A"))
    assert root["error"]
    assert (root["attributes"]["error.type"], root["attributes"]["lambda.incomplete"]) == ("timeout", True)


def test_the_page_leads_to_each_kind() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(STORIES)
    for name in STORIES:
        assert f"(signals/{name}.txt)" in TRACES
