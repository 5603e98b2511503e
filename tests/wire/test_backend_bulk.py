"""The local `_bulk` refuses what Elasticsearch and OpenSearch refuse: raw requests over real sockets."""

import gzip
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from local_backends import Answer, Bulk, FailDocuments, Page, Throttle, TooLarge

DOCUMENT = b'{"@timestamp":"2026-10-04T11:26:41.679Z","message":"paid"}\n'
ONE = b'{"create":{"_id":"a"}}\n' + DOCUMENT
NDJSON = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def send(
    client: aiohttp.ClientSession, server: Bulk, body: bytes = ONE, path: str = "/logs-a-b/_bulk", **headers: str
) -> tuple[int, Any]:
    given = NDJSON | {name.replace("_", "-"): text for name, text in headers.items()}
    async with client.post(server.url + path, data=io.BytesIO(body), headers=given) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_a_document_is_stored_and_created_once(client: aiohttp.ClientSession) -> None:
    async with Bulk() as server:
        status, body = await send(client, server)
        assert (status, body["errors"], body["items"][0]["create"]["status"]) == (200, False, 201)
        status, body = await send(client, server, gzip.compress(ONE), Content_Encoding="gzip")
        assert (body["errors"], body["items"][0]["create"]["status"]) == (True, 409)
        assert [(one.target, one.id, one.source["message"]) for one in server.documents] == [("logs-a-b", "a", "paid")]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (ONE[:-1], {}, 400), (b"", {}, 400), (b'{"create":{}}\n', {}, 400), (b'{"make":{}}\n{}\n', {}, 400),
        (b'{"create":1}\n{}\n', {}, 400), (b'{"create":{}}\n[]\n', {}, 400), (b"x\n{}\n", {}, 400),
        (ONE, {"Content_Type": "text/plain"}, 406), (ONE, {"Content_Encoding": "gzip"}, 400),
        (ONE * 200, {}, 413),
    ],
)  # fmt: skip
async def test_a_body_that_is_none_is_refused_as_a_whole(
    client: aiohttp.ClientSession, body: bytes, headers: dict[str, str], status: int
) -> None:
    async with Bulk(max_bytes=10_000) as server:
        assert (await send(client, server, body, **headers))[0] == status
        assert server.documents == []


@pytest.mark.parametrize(
    ("body", "path", "status"),
    [
        (b'{"index":{"_id":"a"}}\n' + DOCUMENT, "/logs-a-b/_bulk", 400),
        (b'{"index":{"_id":"a"}}\n' + DOCUMENT, "/plain/_bulk", 201),
        (b'{"create":{}}\n{"message":"x"}\n', "/logs-a-b/_bulk", 400),
        (b'{"create":{}}\n{"@timestamp":"soon"}\n', "/logs-a-b/_bulk", 400),
        (b'{"create":{"_index":"logs-c-d"}}\n' + DOCUMENT, "/_bulk", 404),
        (b'{"create":{"_id":"%b"}}\n' % (b"x" * 513) + DOCUMENT, "/plain/_bulk", 400),
        (b'{"create":{"_id":7}}\n' + DOCUMENT, "/plain/_bulk", 400),
    ],
)
async def test_items(client: aiohttp.ClientSession, body: bytes, path: str, status: int) -> None:
    async with Bulk(targets=["logs-a-b", "plain"]) as server:
        code, found = await send(client, server, body, path)
        assert (code, found["errors"]) == (200, status >= 400)
        (item,) = found["items"]
        assert next(iter(item.values()))["status"] == status
        assert len(server.documents) == (status == 201)


async def test_the_answer_is_filtered(client: aiohttp.ClientSession) -> None:
    async with Bulk() as server:
        assert (await send(client, server, path="/a/_bulk?filter_path=items.*.error"))[1] == {}, "the trap"
        wanted = "/a/_bulk?filter_path=errors,items.*.error.type,items.*.status"
        error = {"type": "version_conflict_engine_exception"}
        assert (await send(client, server, path=wanted))[1] == {
            "errors": True, "items": [{"create": {"status": 409, "error": error}}]
        }  # fmt: skip


async def test_parameters(client: aiohttp.ClientSession) -> None:
    hidden = "/logs-a-b/_bulk?include_source_on_error=false"
    async with Bulk() as server:
        assert (await send(client, server, path=hidden))[0] == 200
    async with Bulk(is_old=True) as server:
        status, body = await send(client, server, path=hidden)
        assert (status, "unrecognized parameter" in body["error"]["reason"]) == (400, True)


async def test_who_may_send(client: aiohttp.ClientSession) -> None:
    async with Bulk(authorization=Bulk.basic("me", "p")) as server:
        assert (await send(client, server))[0] == 401
        assert (await send(client, server, Authorization="ApiKey x"))[0] == 401
        assert (await send(client, server, Authorization="Basic bWU6cA=="))[0] == 200
        assert "bWU6cA==" not in repr(server.requests)
    async with Bulk(service="es") as server:
        assert (await send(client, server))[0] == 403


async def test_a_collection_for_time_series_takes_no_ids() -> None:
    server = Bulk(service="aoss")
    items = server._items([b'{"create":{"_id":"a"}}', b"{}", b'{"create":{}}', b"{}"], "x", None)
    assert [item["status"] for _, item in items] == [400, 201]
    items = Bulk(service="aoss", collection="search")._items([b'{"create":{"_id":"a"}}', b"{}"], "x", None)
    assert [item["status"] for _, item in items] == [201]


async def test_faults(client: aiohttp.ClientSession) -> None:
    async with Bulk() as server:
        server.faults.script(Answer(503), Throttle(), FailDocuments(), Answer(500, stored=True))
        found = [await send(client, server) for _ in range(5)]
        assert [status for status, _ in found] == [503, 429, 200, 500, 200]
        assert found[2][1]["items"][0]["create"]["error"]["type"] == "es_rejected_execution_exception"
        assert found[4][1]["items"][0]["create"]["status"] == 409
        server.faults.script(TooLarge(), Page(200))
        for status in (413, 200):
            async with client.post(server.url + "/a/_bulk", data=ONE, headers=NDJSON) as answer:
                assert answer.status == status
        assert len(server.documents) == 1
