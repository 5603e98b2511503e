"""The local Honeycomb refuses what Honeycomb refuses: raw requests over real sockets."""

import gzip
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from local_backends import Answer, Honeycomb, RefuseEvents, Throttle, TooLarge

HEADERS = {"X-Honeycomb-Team": "k", "Content-Type": "application/json"}


@pytest.fixture
async def honeycomb() -> AsyncIterator[Honeycomb]:
    async with Honeycomb(key="k", dataset="My logs", now=lambda: 1_791_048_401.679) as honeycomb:
        yield honeycomb


async def post(
    honeycomb: Honeycomb, body: Any, path: str = "/1/batch/my%20logs", method: str = "POST", **headers: str
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    given = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as client,
        client.request(
            method, honeycomb.url + path, data=io.BytesIO(data), headers={k: v for k, v in given.items() if v}
        ) as answer,
    ):
        return answer.status, orjson.loads(await answer.read())


async def test_it_stores_what_is_sound(honeycomb: Honeycomb) -> None:
    events = [
        {"time": "2026-03-02T10:15:30.100Z", "data": {"a": 1}},
        {"time": 2.5, "data": {"a": 2}},
        {"data": {"a": 3}},
    ]
    status, answer = await post(honeycomb, gzip.compress(orjson.dumps(events)), Content_Encoding="gzip")
    assert (status, answer) == (200, [{"status": 202}] * 3)
    assert [(one.time_ms, one.data["a"]) for one in honeycomb.events] == [
        (1_772_446_530_100, 1), (2_500, 2), (1_791_048_401_679, 3),
    ]  # fmt: skip
    assert "x-honeycomb-team" not in honeycomb.requests[0].headers


@pytest.mark.parametrize(
    ("status", "given"),
    [
        (401, {"X_Honeycomb_Team": ""}),
        (401, {"X_Honeycomb_Team": "x"}),
        (404, {"path": "/1/batch/other"}),
        (404, {"path": "/1/events/my%20logs"}),
        (405, {"method": "PUT"}),
        (415, {"Content_Type": "text/plain"}),
        (400, {"body": b"{"}),
        (400, {"body": {"data": {"a": 1}}}),
        (400, {"body": []}),
        (413, {"body": b" " * 5_000_001}),
    ],
)
async def test_it_refuses(honeycomb: Honeycomb, status: int, given: dict[str, Any]) -> None:
    answer = await post(honeycomb, **{"body": [{"data": {"a": 1}}], **given})
    assert answer[0] == status
    assert answer[1]["error"]
    assert not honeycomb.events


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (1, "empty"),
        ({}, "empty"),
        ({"data": {}}, "empty"),
        ({"data": [1]}, "empty"),
        ({"data": {"a": ["x" * 60_000] * 20}}, "size limit"),
        ({"data": {str(number): 1 for number in range(2_001)}}, "too many columns"),
        ({"data": {"a": "x" * 65_537}}, "string exceeds"),
        ({"data": {"a": {"b": 1}}}, "flat"),
        ({"data": {"a": [1]}}, "flat"),
        ({"data": {"a": 1}, "time": "yesterday"}, "time"),
        ({"data": {"a": 1}, "time": "2026-03-02T10:15:30"}, "time"),
        ({"data": {"a": 1}, "samplerate": 0}, "samplerate"),
    ],
)
async def test_events_are_refused_inside_a_200(honeycomb: Honeycomb, event: Any, error: str) -> None:
    status, answer = await post(honeycomb, [event, {"data": {"a": 1}}])
    assert (status, answer[0]["status"], answer[1]) == (200, 400, {"status": 202})
    assert error in answer[0]["error"]
    assert len(honeycomb.events) == 1


async def test_faults(honeycomb: Honeycomb) -> None:
    honeycomb.faults.script(RefuseEvents(429, "slow down", every=2), Answer(403), Throttle(), TooLarge())
    events = [{"data": {"a": number}} for number in range(3)]
    assert [one["status"] for one in (await post(honeycomb, events))[1]] == [429, 202, 429]
    assert [(await post(honeycomb, events))[0] for _ in range(3)] == [403, 429, 413]
    assert [one.data["a"] for one in honeycomb.events] == [1]
