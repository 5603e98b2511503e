"""The local New Relic refuses what New Relic refuses: raw requests over real sockets."""

import gzip
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from local_backends import Answer, NewRelic, Throttle, TooLarge

HEADERS = {"Api-Key": "k", "Content-Type": "application/json"}
NOW_MS = 1_791_048_401_679


@pytest.fixture
async def newrelic() -> AsyncIterator[NewRelic]:
    async with NewRelic(key="k", now=lambda: NOW_MS / 1000) as newrelic:
        yield newrelic


async def post(
    newrelic: NewRelic, body: Any, path: str = "/log/v1", method: str = "POST", **headers: str
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    given = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as client,
        client.request(
            method, newrelic.url + path, data=io.BytesIO(data), headers={k: v for k, v in given.items() if v}
        ) as answer,
    ):
        return answer.status, orjson.loads(await answer.read())


async def test_it_takes_blocks(newrelic: NewRelic) -> None:
    body = [
        {
            "common": {"timestamp": NOW_MS, "attributes": {"a": 1, "b": 1}},
            "logs": [{"message": "x", "attributes": {"b": 2}}],
        },
        {"logs": [{"message": "y", "timestamp": NOW_MS - 5}]},
    ]
    status, answer = await post(newrelic, gzip.compress(orjson.dumps(body)), Content_Encoding="gzip")
    assert (status, len(answer["requestId"])) == (202, 36)
    assert [(one.message, one.timestamp, one.attributes) for one in newrelic.logs] == [
        ("x", NOW_MS, {"a": 1, "b": 2}), ("y", NOW_MS - 5, {}),
    ]  # fmt: skip
    assert (await post(newrelic, {"message": "alone"}))[0] == 202
    assert newrelic.issues == []
    assert "api-key" not in newrelic.requests[0].headers


@pytest.mark.parametrize(
    ("status", "given"),
    [
        (403, {"Api_Key": ""}),
        (403, {"Api_Key": "x"}),
        (404, {"path": "/log/v2"}),
        (405, {"method": "PUT"}),
        (415, {"Content_Type": "text/plain"}),
        (400, {"body": b"{"}),
        (400, {"body": []}),
        (400, {"body": [{"log": []}]}),
        (400, {"body": [{"logs": [1]}]}),
        (400, {"body": [{"logs": [{"message": 1}]}]}),
        (400, {"body": [{"logs": [{"message": "x", "timestamp": "now"}]}]}),
        (400, {"body": [{"logs": [{"message": "x", "attributes": []}]}]}),
        (413, {"body": b" " * 1_000_001}),
    ],
)
async def test_it_refuses(newrelic: NewRelic, status: int, given: dict[str, Any]) -> None:
    assert (await post(newrelic, **{"body": [{"logs": [{"message": "x"}]}], **given}))[0] == status
    assert not newrelic.logs


@pytest.mark.parametrize(
    ("log", "issue"),
    [
        ({"attributes": {"a": [1]}}, "a is an array"),
        ({"attributes": {"a": {"b": 1}}}, "a is an object"),
        ({"attributes": {"x" * 256: 1}}, "an attribute's name is too long"),
        ({"attributes": {"a": "x" * 131_073}}, "a has more than 128 KB"),
        ({"attributes": {"eventType": "x"}}, "eventType is reserved"),
        ({"attributes": {f"a{n}": n for n in range(256)}}, "256 attributes"),
        ({"timestamp": NOW_MS - 48 * 3_600_000 - 1}, "older than 48 h"),
    ],
)
async def test_it_takes_and_tells_later(newrelic: NewRelic, log: dict[str, Any], issue: str) -> None:
    assert (await post(newrelic, [{"logs": [{"message": "m", **log}]}]))[0] == 202
    assert newrelic.issues == [issue]


GAUGE = {"name": "n", "type": "gauge", "value": 1, "timestamp": NOW_MS}


@pytest.mark.parametrize(
    ("status", "more"),
    [
        (202, {}),
        (202, {"type": "count", "interval.ms": 1}),
        (202, {"type": "summary", "interval.ms": 1, "value": {"count": 1, "sum": 1, "min": 1, "max": 1}}),
        (400, {"type": "count"}),
        (400, {"type": "summary", "interval.ms": 1}),
        (400, {"type": "summary", "interval.ms": 1, "value": {"count": 1}}),
        (400, {"type": "histogram"}),
        (400, {"name": ""}),
        (400, {"name": "x" * 256}),
        (400, {"value": "1"}),
        (400, {"value": None}),
        (400, {"value": True}),
    ],
)
async def test_metrics(newrelic: NewRelic, status: int, more: dict[str, Any]) -> None:
    assert (await post(newrelic, [{"metrics": [{**GAUGE, **more}]}], "/metric/v1"))[0] == status
    assert len(newrelic.metrics) == (status == 202)


async def test_faults(newrelic: NewRelic) -> None:
    newrelic.faults.script(Answer(408), Throttle(retry_after=60), TooLarge())
    assert [(await post(newrelic, [{"logs": [{"message": "x"}]}]))[0] for _ in range(3)] == [408, 429, 413]
    assert not newrelic.logs
