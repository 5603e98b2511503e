"""A server with OpenSearch's API that we did not write takes the documents, each once.

It is osmem-server, which holds its documents in memory (`make foreign`).
"""

import asyncio
import importlib.util
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from telemetry_forwarder.interfaces import Delivered, HttpResponse
from telemetry_forwarder.sinks import load
from telemetry_forwarder.variables.reading import read_all
from tests.integration.world import NUMBERED, free_port, world
from tests.sink_records import encode_all

_FOUND = importlib.util.find_spec("osmem_server")
PROGRAM = Path(_FOUND.origin).parent / "bin" / "osmem-server" if _FOUND is not None and _FOUND.origin else None
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="osmem-server is not installed (make foreign), or has no wheel")
_READY_S = 20


@asynccontextmanager
async def osmem() -> AsyncIterator[str]:
    """Run it, and yield its address."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        str(PROGRAM), "-addr", f"127.0.0.1:{port}", "-no-ja", "-no-stdin-watch", stdout=asyncio.subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with asyncio.timeout(_READY_S), aiohttp.ClientSession() as session:
            while True:
                assert process.returncode is None, "it ended"
                try:
                    async with session.get(url) as answer:
                        assert answer.status == 200
                        break
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.05)
        yield url
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def documents(url: str) -> list[dict[str, Any]]:
    body = {"size": 10_000, "query": {"match_all": {}}}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/logs-lambda/_refresh"),
        session.post(f"{url}/logs-lambda/_search", json=body) as answer,
    ):
        hits: list[dict[str, Any]] = (await answer.json())["hits"]["hits"]
        return hits


async def test_a_foreign_opensearch_has_every_record_once() -> None:
    async with osmem() as url:
        environment: dict[str, str | None] = {"TELEMETRY_FORWARDER_SINKS": "opensearch", "OPENSEARCH_URL": url}
        async with world(environment=environment) as w:
            results = [await w.env.invoke({"first": number * 100, "lines": 100, "json": 1}) for number in range(3)]
            await w.env.shutdown()
            (ledger,) = w.ledgers
            book = ledger["sinks"]["opensearch"]
        found = await documents(url)
        assert book["dropped"] == {}
        assert len(found) == book["delivered"]
        assert all(one["_id"] == one["_source"]["lambda"]["record_id"] for one in found)
        texts = [str(one["_source"].get("message", "")) for one in found]
        assert Counter(int(number) for text in texts for number in NUMBERED.findall(text)) == Counter(range(300))
        reports = [one["_source"] for one in found if one["_source"]["lambda"]["type"] == "platform.report"]
        assert Counter(one["faas"]["execution"] for one in reports) == Counter(one.request_id for one in results)


async def test_a_request_that_comes_again_adds_nothing() -> None:
    """Every document is answered 409 then, which is a delivery."""
    async with osmem() as url, aiohttp.ClientSession() as session:
        sink: Any = load("opensearch")(read_all({"OPENSEARCH_URL": url})).sink  # type: ignore[union-attr]
        batch = encode_all(sink)
        request = sink.request(batch)
        for status in (201, 409):
            async with session.post(request.url, data=request.body, headers=request.headers) as answer:
                body = await answer.read()
                assert [item["create"]["status"] for item in (await answer.json())["items"]] == [status] * len(batch)
                assert sink.verdict(batch, HttpResponse(status=answer.status, body=body)) == Delivered()
        assert len(await documents(url)) == len(batch)
