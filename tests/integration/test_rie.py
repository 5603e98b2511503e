"""The real executable under AWS's own emulator, both of its cores: a second opinion that we did not write."""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.integration.local_lambda_probe import eventually
from tests.integration.rie import emulator_is_here, rie_world
from tests.integration.world import EXTENSION, SINKS, assert_balanced

__all__ = ["emulator_is_here"]

OK = (200, b'{"ok": true}')
NOT_SUPPORTED = "does not support the Telemetry API"
NO_SINK: dict[str, str | None] = {"SPLUNK_HEC_URL": None, "DD_API_KEY": None, "CLOUDWATCH_LOG_GROUP": None}


def said(output: list[str], text: str) -> int:
    return sum(text in line for line in output)


async def test_classic_core_is_told_once_that_there_is_no_telemetry_and_no_invocation_waits(tmp_path: Path) -> None:
    """It answers the subscription with 202: the extension goes on without, and ends with 0 at SHUTDOWN."""
    async with rie_world(tmp_path) as w:
        assert await w.env.invoke({"lines": 1}) == OK
        for number in range(5):
            began = time.monotonic()
            assert await w.env.invoke({"first": number, "lines": 1}) == OK
            assert time.monotonic() - began < 0.5
        assert await w.env.terminate() == 0
        output = w.env.output
    assert said(output, f"External agent {EXTENSION.name} (") == 1
    assert said(output, "registered, subscribed to [INVOKE SHUTDOWN]") == 1
    assert said(output, NOT_SUPPORTED) == 1
    assert said(output, "Reset initiated: SandboxTerminated") == 1
    assert w.env.exit_codes() == [0]
    (ledger,) = w.ledgers
    assert_balanced(ledger)
    assert ledger["door"]["received"] == 0


async def test_classic_core_restarts_it_after_a_timeout_and_after_a_crash(tmp_path: Path) -> None:
    async with rie_world(tmp_path, timeout_s=2) as w:
        assert await w.env.invoke({}) == OK
        assert await w.env.invoke({"sleep": 10}) == (200, b"Task timed out after 2.00 seconds")
        assert await w.env.invoke({}) == OK
        _, crashed = await w.env.invoke({"exit": True})
        assert b"Runtime exited with error" in crashed
        assert await w.env.invoke({}) == OK
        assert await w.env.terminate() == 0
    output = w.env.output
    assert [said(output, f"Reset initiated: {why}") for why in ("Timeout", "ReleaseFail", "SandboxTerminated")] == [
        1
    ] * 3
    assert w.env.exit_codes() == [0, 0, 0], "each generation ended by itself, within its time"
    assert said(output, NOT_SUPPORTED) == 3, "once in each generation"


@pytest.mark.parametrize(
    ("wrong", "read", "events"),
    [
        ({"TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS": "soon"}, "FLUSH_TIMEOUT_MS is 'soon'", "INVOKE SHUTDOWN"),
        ({"SPLUNK_HEC_URL": "nowhere"}, "SPLUNK_HEC_URL is 'nowhere'", "INVOKE SHUTDOWN"),
        ({**NO_SINK, "SPLUNK_HEC_URL": "nowhere"}, "No sink can run", "SHUTDOWN"),
    ],
)
async def test_classic_core_serves_the_function_whatever_is_wrong_with_the_settings(
    tmp_path: Path, wrong: dict[str, str | None], read: str, events: str
) -> None:
    async with rie_world(tmp_path, environment=wrong) as w:
        assert await w.env.invoke({"lines": 1}) == OK
        assert await w.env.invoke({"lines": 1}) == OK
        assert await w.env.terminate() == 0
    assert any(read in line["message"] for line in w.said), w.said
    assert said(w.env.output, f"registered, subscribed to [{events}]") == 1
    assert w.env.exit_codes() == [0]


async def test_classic_core_fails_the_start_in_strict_mode(tmp_path: Path) -> None:
    wrong = {"TELEMETRY_FORWARDER_STRICT": "true", "TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS": "soon"}
    async with rie_world(tmp_path, environment=wrong) as w:
        status, body = await w.env.invoke({"lines": 1})
        assert (status, body) == (502, b"")
        assert await w.env.terminate() == 0
    assert said(w.env.output, "First fatal error stored in appctx: Extension.InitError") == 1
    assert set(w.env.exit_codes()) == {1}


async def test_managed_instances_core_delivers_and_every_line_arrives_once(tmp_path: Path) -> None:
    """Real telemetry that we did not make: to 127.0.0.1, the path dropped, `sequence-id` in a form of its own."""
    async with rie_world(tmp_path, managed=True) as w:
        for first in (0, 10, 20):
            assert await w.env.invoke_when_ready({"first": first, "lines": 10}) == OK
        both = (w.env.invoke_when_ready({"first": first, "lines": 10, "json": 1}) for first in (30, 40))
        assert await asyncio.gather(*both) == [OK, OK]
        await w.splunk.wait_until(lambda: len(w.numbers("splunk")) == 50, within=8.0)  # while it lives: no freeze here
        assert await w.env.invoke_when_ready({"first": 50, "lines": 10}) == OK
        assert await w.env.terminate() == 0
    assert w.env.exit_codes() == [0]
    assert not said(w.env.output, NOT_SUPPORTED)
    for sink in SINKS:
        assert w.numbers(sink) == Counter(range(60)), sink
        assert sum(w.reports(sink).values()) == 6, sink
        assert set(w.reports(sink).values()) == {1}, sink
        assert sum("json 000000" in json.dumps(one["raw"], default=str) for one in w.arrived(sink)) == 2, sink
    (ledger,) = w.ledgers
    assert_balanced(ledger)
    assert ledger["door"]["lost_before_us"] == 0
    assert ledger["door"]["undecodable_bodies"] == ledger["door"]["redelivered_bodies"] == 0
    assert all(book["delivered"] == ledger["door"]["received"] for book in ledger["sinks"].values())


async def test_managed_instances_core_lives_on_after_a_timeout(tmp_path: Path) -> None:
    """The code runs on there: what it writes afterwards arrives too, and so does the report of the timeout."""
    async with rie_world(tmp_path, managed=True, timeout_s=2) as w:
        assert await w.env.invoke_when_ready({"lines": 1}) == OK
        _, late = await w.env.invoke({"first": 1, "lines": 1, "sleep": 3})
        assert b"Sandbox.Timedout" in late
        assert await w.env.invoke_when_ready({"first": 2, "lines": 1}) == OK
        told = "Http response code: 410"
        await eventually(lambda: said(w.env.output, told) == 1)
        assert await w.env.terminate() == 0
    assert w.env.exit_codes() == [0]
    for sink in SINKS:
        assert w.numbers(sink) == Counter(range(3)), sink
        assert len(w.reports(sink)) == 3, sink
        assert any(told in one["text"] for one in w.arrived(sink)), sink


async def test_managed_instances_core_serves_the_function_without_a_sink(tmp_path: Path) -> None:
    async with rie_world(tmp_path, managed=True, environment=NO_SINK) as w:
        assert await w.env.invoke_when_ready({"lines": 1}) == OK
        assert await w.env.terminate() == 0
    assert w.env.exit_codes() == [0]
    assert any("No sink can run" in line["message"] for line in w.said)
