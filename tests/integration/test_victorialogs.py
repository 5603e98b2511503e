"""A store of logs that we did not write takes what the sinks `loki` and `http` send, and finds it again.

It is VictoriaLogs, which speaks Loki's API and takes JSON lines (`make victorialogs`, which needs Go).
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.world import NUMBERED, free_port, world

PROGRAM = Path(__file__).parents[2] / "build" / "victoria-logs"
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="there is no VictoriaLogs (make victorialogs)")
_READY_S = 20


@asynccontextmanager
async def victorialogs(tmp_path: Path) -> AsyncIterator[str]:
    """Run it, and yield its address."""
    url = f"http://127.0.0.1:{free_port()}"
    options = (f"-storageDataPath={tmp_path}/logs", f"-httpListenAddr={url.removeprefix('http://')}")
    process = await asyncio.create_subprocess_exec(PROGRAM, *options, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with asyncio.timeout(_READY_S):
            while b"started server at" not in await process.stderr.readline():
                assert process.returncode is None, "it ended"
        async with asyncio.TaskGroup() as group:
            reading = group.create_task(process.stderr.read())  # else it would wait for us at last
            yield url
            reading.cancel()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def stored(url: str) -> list[dict[str, Any]]:
    """Return all that is stored, after what is in memory can be found, too."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/internal/force_flush") as answer:
            assert answer.status == 200
        async with session.get(f"{url}/select/logsql/query", params={"query": "*"}) as answer:
            return [json.loads(line) for line in (await answer.text()).splitlines()]


_LINES = "_time_field=@timestamp&_msg_field=message&_stream_fields=lambda.function_name"
SETTINGS = {
    "loki": {"LOKI_ADDR": "{}/insert"},
    "http": {"TELEMETRY_FORWARDER_HTTP_URL": f"{{}}/insert/jsonline?{_LINES}"},
}
IDS = {"loki": "record_id", "http": "lambda.record_id"}
REQUESTS = {"loki": "request_id", "http": "lambda.request_id"}


@pytest.mark.parametrize("sink", SETTINGS)
async def test_a_foreign_store_has_every_record_once(sink: str, tmp_path: Path) -> None:
    async with victorialogs(tmp_path) as url:
        environment: dict[str, str | None] = {name: text.format(url) for name, text in SETTINGS[sink].items()}
        environment |= {"TELEMETRY_FORWARDER_SINKS": sink, "TELEMETRY_FORWARDER_TAGS": "team:shop"}
        async with world(environment=environment) as w:
            results = [await w.env.invoke({"first": number * 100, "lines": 100, "json": 1}) for number in range(3)]
            await w.env.shutdown()
            (ledger,) = w.ledgers
            book = ledger["sinks"][sink]
        found = await stored(url)
        assert book["dropped"] == {}
        assert len(found) == book["delivered"] == len({one[IDS[sink]] for one in found})
        numbers = Counter(int(number) for one in found for number in NUMBERED.findall(one["_msg"]))
        assert numbers == Counter(range(300))
        reports = [one for one in found if one["_msg"].startswith("REPORT RequestId: ")]
        assert Counter(one[REQUESTS[sink]] for one in reports) == Counter(one.request_id for one in results)
        (one,) = {one["_stream"] for one in reports}
        assert 'function_name="' in one
        assert any(one.get("number") == "0" for one in found), "a line of JSON is taken apart"
