"""The local receiver of JSON refuses what is not as it was told: raw requests over real sockets."""

import gzip
import io
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from local_backends import Answer, JsonReceiver, Page, Throttle, TooLarge

LINE = b'{"message":"hello"}\n'
HEADERS = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "1"}


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def send(
    client: aiohttp.ClientSession, receiver: JsonReceiver, body: bytes = LINE, path: str = "/in", **more: Any
) -> int:
    method, headers = more.pop("method", "POST"), {**HEADERS, **more}
    headers = {name: value for name, value in headers.items() if value is not None}
    async with client.request(method, receiver.url + path, data=io.BytesIO(body), headers=headers) as answer:
        await answer.read()
        return answer.status


async def test_what_is_sound_is_stored_once_for_each_id(client: aiohttp.ClientSession) -> None:
    async with JsonReceiver(answer=201) as receiver:
        assert await send(client, receiver) == 201
        assert await send(client, receiver) == 200
        assert (receiver.objects, receiver.repeats) == ([{"message": "hello"}], 1)
        packed = {"Content-Encoding": "gzip", "Idempotency-Key": "2"}
        assert await send(client, receiver, gzip.compress(LINE * 2), **packed) == 201
        assert len(receiver.kept) == 3


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"path": "/out"}, 404), ({"path": "/in?a=b"}, 400), ({"method": "PUT"}, 405), ({"body": b'{"a":1}'}, 400),
        ({"body": b"{}\n\n"}, 400), ({"body": b"[1]\n"}, 400), ({"body": b""}, 400), ({"body": LINE * 60_000}, 413),
        ({"Content-Type": "application/json"}, 415), ({"Content-Type": "text/plain"}, 415),
        ({"Idempotency-Key": None}, 400), ({"Content-Encoding": "zstd"}, 415), ({"Content-Encoding": "gzip"}, 400),
    ],
)  # fmt: skip
async def test_what_is_not_is_refused(client: aiohttp.ClientSession, change: dict[str, Any], status: int) -> None:
    async with JsonReceiver() as receiver:
        assert await send(client, receiver, **change) == status
        assert receiver.objects == []


@pytest.mark.parametrize(
    ("member", "body", "status"),
    [
        ("", b'[{"a":1},{"a":2}]', 200), ("", LINE, 400), ("", b"[]", 400), ("", b"[1]", 400),
        ("logs", b'{"logs":[{"a":1}]}', 200), ("logs", b'[{"a":1}]', 400), ("logs", b'{"other":[{"a":1}]}', 400),
    ],
)  # fmt: skip
async def test_arrays(client: aiohttp.ClientSession, member: str, body: bytes, status: int) -> None:
    async with JsonReceiver(form="json_array", member=member) as receiver:
        kind = {"Content-Type": "application/json"}
        assert await send(client, receiver, body, **kind) == status


@pytest.mark.parametrize(
    ("own", "good", "bad"),
    [
        ({"token": "t"}, "Bearer t", "Bearer u"),
        ({"login": ("me", "p")}, "Basic bWU6cA==", "Basic bWU6cQ=="),
    ],
)
async def test_only_the_right_sender_may(
    client: aiohttp.ClientSession, own: dict[str, Any], good: str, bad: str
) -> None:
    async with JsonReceiver(**own) as receiver:
        assert await send(client, receiver) == 401
        assert await send(client, receiver, Authorization=bad) == 401
        assert await send(client, receiver, Authorization=good) == 200
        assert good not in repr(receiver.requests)


async def test_a_signature_is_wanted_where_it_is_told(client: aiohttp.ClientSession) -> None:
    async with JsonReceiver(service="execute-api") as receiver:
        assert await send(client, receiver) == 403
        assert receiver.objects == []


async def test_faults(client: aiohttp.ClientSession) -> None:
    async with JsonReceiver() as receiver:
        receiver.faults.script(Answer(503), Throttle(), TooLarge(), Page(200), Answer(500, stored=True))
        assert [await send(client, receiver) for _ in range(6)] == [503, 429, 413, 200, 500, 200]
        assert (len(receiver.objects), receiver.repeats) == (1, 1)
