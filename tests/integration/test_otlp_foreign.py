"""A receiver of OTLP that we did not write takes all three signals, in both encodings, and passes them on.

It is rotel, a collector with a binary of its own (`make foreign`). What it passes on is read by our strict receiver, so
what arrives there was understood by both.
"""

import asyncio
import contextlib
import importlib.util
import os
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from local_backends import OtlpReceiver, assert_trees
from local_backends.otlp_rules import points_in
from tests.integration.test_otlp import EVERYTHING, counts, each_encoding, invoke_thrice
from tests.integration.world import free_port, world

_FOUND = importlib.util.find_spec("rotel")
AGENT = Path(_FOUND.origin).parent / "rotel-agent" if _FOUND is not None and _FOUND.origin is not None else None
pytestmark = pytest.mark.skipif(AGENT is None, reason="rotel is not installed (make foreign), or has no wheel here")
_READY_S = 20


@contextlib.asynccontextmanager
async def rotel(exporter: str, tmp_path: Path) -> AsyncIterator[str]:
    """Run it, with its output to `exporter`; yield its address."""
    port, grpc = free_port(), free_port()
    arguments = [
        "start", "--otlp-http-endpoint", f"127.0.0.1:{port}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
        "--exporter", "otlp", "--otlp-exporter-endpoint", exporter, "--otlp-exporter-protocol", "http",
        "--pid-file", str(tmp_path / "rotel.pid"), "--log-file", str(tmp_path / "rotel.log"),
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if "OTEL" not in name}
    process = await asyncio.create_subprocess_exec(str(AGENT), *arguments, env=environment)
    try:
        await _answers(f"http://127.0.0.1:{port}/v1/logs", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_READY_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


async def _answers(url: str, process: asyncio.subprocess.Process) -> None:
    """Wait until it listens. Raises AssertionError if it has ended, TimeoutError if that takes too long."""
    headers = {"Content-Type": "application/x-protobuf"}
    async with asyncio.timeout(_READY_S), aiohttp.ClientSession() as session:
        while True:
            assert process.returncode is None, "rotel ended"
            try:
                async with session.post(url, data=b"", headers=headers) as answer:
                    assert answer.status == 200
                    return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)


@each_encoding
async def test_a_foreign_receiver_takes_logs_metrics_and_traces(encoding: str, tmp_path: Path) -> None:
    async with OtlpReceiver() as behind, rotel(behind.url, tmp_path) as url:
        environment = {
            **EVERYTHING,
            "OTEL_EXPORTER_OTLP_ENDPOINT": url,
            "OTEL_EXPORTER_OTLP_PROTOCOL": encoding,
        }
        async with world(environment=environment) as w:
            ids = await invoke_thrice(w)
            ledgers = [ledger["sinks"] for ledger in w.ledgers]
        delivered = Counter[str]()
        for books in ledgers:
            for sink, book in books.items():
                assert book["dropped"] == {}, sink
                delivered[sink] += book["delivered"]
        assert delivered.keys() == {"otlp", "otlp-metrics", "otlp-traces"}
        expected = delivered["otlp"], delivered["otlp-traces"]
        await behind.wait_until(
            lambda: (len(behind.logs), len(behind.spans)) == expected and counts(behind)["aws.lambda.invocations"] == 3,
            within=20,
        )
        assert not [one.status for one in behind.requests if one.status != 200]
        lines = [str(one.item["body"].get("stringValue")) for one in behind.logs]
        assert sum(line.startswith("line ") for line in lines) == 5
        assert len({one.attributes["log.record.uid"] for one in behind.logs}) == delivered["otlp"]
        assert {one.resource["service.name"] for one in behind.items} == {"till"}
        assert_trees([one.item for one in behind.spans])
        assert {one.attributes["faas.invocation_id"] for one in behind.spans if one.item["kind"] == 2} == set(ids)
        shapes = {points_in(one.item)[0] for one in behind.metrics}
        assert shapes == {"sum", "histogram", "gauge"}
