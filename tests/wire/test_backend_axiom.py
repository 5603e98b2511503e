"""The local Axiom refuses what Axiom refuses: raw requests over real sockets."""

import gzip
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from local_backends import Answer, Axiom, FailEvents, Page, Throttle, TooLarge

HEADERS = {"Authorization": "Bearer t", "Content-Type": "application/x-ndjson"}
API, EDGE = "/v1/datasets/lambda/ingest", "/v1/ingest/lambda"


@pytest.fixture
async def axiom() -> AsyncIterator[Axiom]:
    async with Axiom(token="t", now=lambda: 1_791_048_401.679) as axiom:
        yield axiom


async def post(axiom: Axiom, body: bytes, path: str = API, method: str = "POST", **headers: str) -> tuple[int, Any]:
    given = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as client,
        client.request(
            method, axiom.url + path, data=io.BytesIO(body), headers={k: v for k, v in given.items() if v}
        ) as answer,
    ):
        data = await answer.read()
        return answer.status, orjson.loads(data) if data.startswith(b"{") else data


@pytest.mark.parametrize("path", [API, EDGE])
async def test_it_stores_what_is_sound(axiom: Axiom, path: str) -> None:
    body = b'{"_time":"2026-03-02T10:15:30.100Z","message":"a","n":{"x":1}}\n{"message":"b"}\n'
    status, answer = await post(axiom, gzip.compress(body), path, Content_Encoding="gzip")
    assert (status, answer["ingested"], answer["failed"], answer["failures"]) == (200, 2, 0, [])
    assert [(one.time_ms, one.members["message"], one.has_time) for one in axiom.events] == [
        (1_772_446_530_100, "a", True),
        (1_791_048_401_679, "b", False),
    ]
    assert axiom.fields == {"_time", "message", "n.x"}
    assert "Bearer" not in repr(axiom.requests[0].headers)
    assert (await post(axiom, b'[{"message":"c"}]', path, Content_Type="application/json"))[0] == 200


@pytest.mark.parametrize(
    ("status", "given"),
    [
        (401, {"Authorization": ""}),
        (403, {"Authorization": "Bearer x"}),
        (403, {"Authorization": "t"}),
        (404, {"path": "/v1/ingest/other"}),
        (404, {"path": "/v1/datasets/other/ingest"}),
        (404, {"path": "/v2/ingest/lambda"}),
        (405, {"method": "PUT"}),
        (415, {"Content_Type": "text/plain"}),
        (415, {"Content_Encoding": "br"}),
        (400, {"Content_Encoding": "gzip"}),
        (400, {"body": b"{"}),
        (400, {"body": b"{}\n\n{}"}),
        (400, {"body": b"[1]"}),
        (400, {"body": b"{}", "Content_Type": "application/json"}),
        (400, {"body": b"\n".join([b"{}"] * 10_001)}),
        (413, {"body": b" " * (16 * 1024 * 1024 + 1)}),
    ],
)
async def test_it_refuses(axiom: Axiom, status: int, given: dict[str, Any]) -> None:
    given = {"body": b'{"a":1}', **given}
    assert (await post(axiom, **given))[0] == status
    assert not axiom.events


async def test_a_personal_token_needs_its_organisation_and_no_edge(axiom: Axiom) -> None:
    axiom.token = "xapt-t"
    mine = {"Authorization": "Bearer xapt-t"}
    assert (await post(axiom, b"{}", **mine))[0] == 403
    assert (await post(axiom, b"{}", **mine, X_Axiom_Org_Id="local-org"))[0] == 200
    assert (await post(axiom, b"{}", EDGE, **mine, X_Axiom_Org_Id="local-org"))[0] == 403


@pytest.mark.parametrize(
    ("event", "error"),
    [
        ({"_time": "yesterday"}, "unparsable timestamp"),
        ({"_time": 1}, "unparsable timestamp"),
        ({"x" * 201: 1}, "field name too long"),
        ({"x" * 100: {"y" * 100: 1}}, "field name too long"),
        ({"a": 1, "b": 2, "c": 3, "d": {"e": 4}}, "maximum number of fields (3) exceeded"),
    ],
)
async def test_events_fail_inside_a_200(axiom: Axiom, event: dict[str, Any], error: str) -> None:
    axiom.most_fields = 3
    status, answer = await post(axiom, orjson.dumps(event) + b'\n{"message":"fine"}')
    assert (status, answer["ingested"], answer["failed"]) == (200, 1, 1)
    assert answer["failures"][0]["error"] == error
    assert [one.members for one in axiom.events] == [{"message": "fine"}]


async def test_a_string_that_is_too_long_is_replaced(axiom: Axiom) -> None:
    await post(axiom, orjson.dumps({"a": ["x" * 1_000_001], "b": "x" * 1_000_000}))
    (event,) = axiom.events
    assert event.members["a"] == ["<invalid string: too long>"]
    assert len(event.members["b"]) == 1_000_000


async def test_faults(axiom: Axiom) -> None:
    axiom.faults.script(FailEvents(1), Answer(430), Throttle(retry_after=3), TooLarge(), Page(200, size=10))
    status, answer = await post(axiom, b'{"a":1}\n{"a":2}')
    assert (status, answer["failed"]) == (200, 1)
    assert [(await post(axiom, b"{}"))[0] for _ in range(3)] == [430, 429, 413]
    status, page = await post(axiom, b"{}")
    assert (status, page[:6]) == (200, b"<html>")
    assert [one.members for one in axiom.events] == [{"a": 2}]
