"""What docs/durability.md promises, measured: the real executable, killed and reset on a local Lambda."""

import asyncio
import os
import shutil
import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from local_backends import Answer
from tests.integration.world import NUMBERED, SINKS, World, assert_arrived, assert_balanced, free_port, world

EXTENSION = "telemetry-forwarder"


def written(w: World[Any]) -> Counter[int]:
    """Count the numbered lines that Lambda saw."""
    lines = [event["record"] for event in w.env.telemetry if event["type"] == "function"]
    return Counter(int(number) for line in lines for number in NUMBERED.findall(str(line)))


def segments(spool: Path) -> list[Path]:
    return list(spool.rglob("*.log"))


async def kill_in_mid_stream(w: World[Any], arrived_first: int) -> None:
    """Let the function write 400 lines, 5 ms apart; kill the extension when Lambda has seen some of them."""
    invocation = asyncio.ensure_future(w.env.invoke({"lines": 400, "pause": 0.005}))
    await w.env.until(lambda: len(written(w)) >= arrived_first, timeout_s=20.0)
    os.kill(w.env.pids[EXTENSION], signal.SIGKILL)
    result = await invocation
    assert result.error_type == "Extension.Crash"


@pytest.mark.parametrize("arrived_first", [60, 173])
@pytest.mark.parametrize("durability", ["strict", "relaxed"])
async def test_kill_in_mid_stream_with_the_backends_down(durability: str, arrived_first: int) -> None:
    """Strict: nothing is lost and nothing comes twice. Relaxed: as much, but for the current batch at most."""
    async with world(environment={"TELEMETRY_FORWARDER_DURABILITY": durability}, timeout_s=20.0) as w:
        for sink in SINKS:
            w.backend(sink).faults.always(Answer(503))
        await kill_in_mid_stream(w, arrived_first)
        seen = written(w)
        for sink in SINKS:
            w.backend(sink).faults.clear()
        await w.env.invoke({"first": 1000, "lines": 5})
        await w.env.shutdown()
        (ledger,) = w.ledgers
        assert_balanced(ledger)
        for sink in SINKS:
            numbers = w.numbers(sink)
            missing = set(seen) - set(numbers)
            print(durability, sink, "seen", len(seen), "recovered", ledger["sinks"][sink]["recovered"], missing)
            assert max(numbers.values()) == 1
            assert set(range(1000, 1005)) <= set(numbers)
            assert not missing if durability == "strict" else len(missing) <= 30, "the current batch at most"
            assert ledger["sinks"][sink]["recovered"] > 0
            order = [number for one in w.arrived(sink) for number in map(int, NUMBERED.findall(one["text"]))]
            assert order.index(1000) > max(order.index(number) for number in seen if number in order), "fresh ones last"


async def test_kill_in_mid_stream_with_the_backends_well_repeats_nothing_but_what_was_under_way() -> None:
    async with world(environment={"TELEMETRY_FORWARDER_DURABILITY": "strict"}, timeout_s=20.0) as w:
        await w.env.invoke({"first": 500, "lines": 50})
        await kill_in_mid_stream(w, 100)
        seen = written(w)
        await w.env.invoke({"first": 1000, "lines": 5})
        await w.env.shutdown()
        for sink in SINKS:
            assert set(w.numbers(sink)) >= set(seen) | set(range(1000, 1005))
            twice = [one for one, count in Counter(r["record_id"] for r in w.arrived(sink)).items() if count > 1]
            assert len(twice) <= 200, "one request's worth"
            assert not [number for number in range(500, 550) if w.numbers(sink)[number] > 1], "settled long before"


async def test_what_a_timeout_leaves_while_the_backend_is_down_comes_from_the_next_generation(tmp_path: Path) -> None:
    """Its lines and its report; and nothing stays on disk."""
    async with world(environment={"TELEMETRY_FORWARDER_SPOOL_DIR": str(tmp_path)}, timeout_s=4.0) as w:
        w.splunk.faults.always(Answer(503))
        result = await w.env.invoke({"lines": 20, "sleep": 8})
        assert result.status == "timeout"
        report = await w.env.report(result.request_id)
        assert report["record"]["status"] == "timeout"
        w.splunk.faults.clear()
        again = await w.env.invoke({"first": 20, "lines": 5})
        assert again.status == "success"
        await w.env.shutdown()
        for sink in SINKS:
            assert w.numbers(sink) == Counter(range(25)), sink
            assert w.reports(sink) == Counter([result.request_id, again.request_id])
        first, second = w.ledgers
        assert_balanced(first)
        assert_balanced(second)
        assert first["sinks"]["splunk"]["spilled"] == second["sinks"]["splunk"]["recovered"] > 20
        assert first["sinks"]["datadog"]["spilled"] == second["sinks"]["datadog"]["recovered"] == 0
        assert not segments(tmp_path)


async def test_a_flood_into_a_dead_backend_waits_on_disk_and_arrives_when_it_is_back(tmp_path: Path) -> None:
    """Twelve thousand lines, of which the memory may hold a thousand; each arrives once, beside copies."""
    environment: dict[str, str | None] = {
        "TELEMETRY_FORWARDER_SPOOL_DIR": str(tmp_path),
        "TELEMETRY_FORWARDER_BUFFER_RECORDS": "1000",
        "TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS": "5000",  # the other backend has all of it, however busy the machine is
    }
    async with world(environment=environment, timeout_s=30.0) as w:
        w.splunk.faults.always(Answer(503))
        for index in range(4):
            await w.env.invoke({"first": index * 3000, "lines": 3000})
        assert set(w.numbers("datadog")) == set(range(12_000))
        assert segments(tmp_path)
        w.splunk.faults.clear()
        await asyncio.sleep(2.5)  # until the breaker lets a probe through
        await w.env.invoke({"sleep": 1.0})
        await w.env.shutdown()
        (ledger,) = w.ledgers
        assert_balanced(ledger)
        for sink in ("splunk", "datadog"):
            assert_arrived(w.numbers(sink), range(12_000), ledger["sinks"][sink])
        assert not ledger["sinks"]["splunk"]["dropped"]
        assert not segments(tmp_path)


async def test_a_tmp_that_cannot_be_used_costs_one_line_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    async with world(environment={"TELEMETRY_FORWARDER_SPOOL_DIR": str(tmp_path / "file")}) as w:
        await w.env.invoke({"lines": 20})
        await w.env.shutdown()
        (said,) = [line["message"] for line in w.said if "The spool" in line["message"]]
        assert said.startswith(
            f"The spool {tmp_path}/file cannot be used: Not a directory. "
            "Records are held in memory alone; at its bound the oldest are dropped. TELEMETRY_FORWARDER_SPOOL_DIR has "
        )
        for sink in SINKS:
            assert w.numbers(sink) == Counter(range(20))
        assert w.ledgers[0]["spool"] is None


@pytest.mark.parametrize("place", ["there", "x/y"])
async def test_what_is_left_after_the_function_cleared_tmp_is_what_the_next_process_finds(
    tmp_path: Path, place: str
) -> None:
    """In a directory that was there, with rights of its own, and in one that has to be made."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there").chmod(0o755)
    folder = tmp_path / place
    async with world(environment={"TELEMETRY_FORWARDER_SPOOL_DIR": str(folder)}, timeout_s=4.0) as w:
        w.splunk.faults.always(Answer(503))
        await w.env.invoke({"lines": 200})
        assert segments(folder)
        if place == "there":
            assert folder.stat().st_mode & 0o777 == 0o755
        running = asyncio.ensure_future(w.env.invoke({"first": 200, "lines": 5, "sleep": 8}))
        await w.env.until(lambda: 204 in written(w), timeout_s=20.0)
        shutil.rmtree(tmp_path / "x" if place == "x/y" else folder)
        assert (await running).status == "timeout"
        w.splunk.faults.clear()
        await w.env.invoke({"first": 205, "lines": 5})
        await w.env.shutdown()
        assert w.numbers("splunk") == Counter(range(210))
        first, second = w.ledgers
        assert_balanced(first)
        assert_balanced(second)
        assert first["sinks"]["splunk"]["spilled"] == second["sinks"]["splunk"]["recovered"] > 200
        assert not segments(folder)


async def test_a_batch_whose_answer_was_lost_is_taken_once_by_this_process_and_the_next() -> None:
    """The bytes are the same; each time the `sequence-id` is another."""
    port = free_port()
    line = {"time": datetime.now(UTC).isoformat(), "type": "function", "record": "line 900000\n"}

    async def send(*sequence_ids: str) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10.0)) as session:
            for one in sequence_ids:
                async with session.post(
                    f"http://127.0.0.1:{port}/", json=[line], headers={"sequence-id": one}
                ) as answer:
                    assert answer.status == 200

    async with world(environment={"TELEMETRY_FORWARDER_PORT": str(port)}, timeout_s=4.0) as w:
        await w.env.invoke({"lines": 1})
        running = asyncio.ensure_future(w.env.invoke({"lines": 1, "sleep": 8}))  # between invocations it is frozen
        await send("a" * 43, "b" * 43)
        assert (await running).status == "timeout"
        running = asyncio.ensure_future(w.env.invoke({"first": 7, "lines": 1, "sleep": 2}))
        await w.env.until(lambda: 7 in written(w), timeout_s=20.0)
        await send("c" * 43)
        await running
        await w.env.shutdown()
        assert [w.numbers(sink)[900_000] for sink in ("splunk", "datadog")] == [1, 1]
        assert [ledger["door"]["redelivered_bodies"] for ledger in w.ledgers] == [1, 1]
