"""The local Loki refuses what Loki refuses, and stores what Loki stores beside a refusal: over real sockets."""

import gzip
import io
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from local_backends import Answer, Blocked, Fault, Loki, Page, RejectEntries, StreamLimit, Throttle, TooLarge

NOW_S = 1_791_048_401
NOW_NS = NOW_S * 1_000_000_000
LABELS = {"service_name": "orders"}


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(skip_auto_headers=["Content-Type"]) as session:
        yield session


@pytest.fixture
async def loki() -> AsyncIterator[Loki]:
    async with Loki(now=lambda: NOW_S) as loki:
        yield loki


def push(*values: list[Any], labels: Any = LABELS) -> bytes:
    return orjson.dumps({"streams": [{"stream": labels, "values": list(values)}]})


async def send(client: aiohttp.ClientSession, loki: Loki, body: bytes, **headers: Any) -> tuple[int, str]:
    given = {"Content-Type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    given = {name: text for name, text in given.items() if text is not None}
    async with client.post(loki.url + "/loki/api/v1/push", data=io.BytesIO(body), headers=given) as answer:
        return answer.status, await answer.text()


async def test_an_entry_is_stored_and_the_same_again_is_not(client: aiohttp.ClientSession, loki: Loki) -> None:
    body = push([str(NOW_NS), "hello", {"a": "b"}], [str(NOW_NS + 1), "hello"])
    for _ in range(2):
        assert await send(client, loki, body) == (204, "")
    assert [(one.labels, one.time_ns, one.line, one.metadata) for one in loki.entries] == [
        (LABELS, NOW_NS, "hello", {"a": "b"}), (LABELS, NOW_NS + 1, "hello", {})
    ]  # fmt: skip
    assert loki.repeats == 2


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"Content-Type": None}, 400), ({"Content-Type": "text/plain"}, 400), ({"Content-Encoding": "br"}, 400),
        ({"Content-Encoding": "gzip"}, 400), ({"Content-Type": "application/json; charset=utf-8"}, 204),
    ],
)  # fmt: skip
async def test_types_and_encodings(client: aiohttp.ClientSession, loki: Loki, change: Any, status: int) -> None:
    assert (await send(client, loki, push([str(NOW_NS), "x"]), **change))[0] == status
    assert len(loki.entries) == (status == 204)


async def test_deflate_is_without_the_header_of_zlib(client: aiohttp.ClientSession, loki: Loki) -> None:
    body = push([str(NOW_NS), "x"])
    assert (await send(client, loki, zlib.compress(body), Content_Encoding="deflate"))[0] == 400
    assert (await send(client, loki, zlib.compress(body)[2:-4], Content_Encoding="deflate"))[0] == 204
    assert (await send(client, loki, gzip.compress(body), Content_Encoding="gzip"))[0] == 204


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", push([NOW_NS, "x"]), push([str(NOW_NS), 1]), push([str(NOW_NS), "x", {"a": 1}]), push(["soon", "x"]),
     push([str(NOW_NS), "x"], labels={"a": 1}), push([str(NOW_NS)])],
)  # fmt: skip
async def test_a_push_that_is_none_is_lost_as_a_whole(client: aiohttp.ClientSession, loki: Loki, body: bytes) -> None:
    status, text = await send(client, loki, body)
    assert (status, text.startswith("loghttp.PushRequest")) == (400, True)
    assert loki.entries == []


DAY_NS = 86_400_000_000_000


@pytest.mark.parametrize(
    ("wrong", "labels", "said"),
    [
        ([str(NOW_NS - 8 * DAY_NS), "x"], LABELS, "1 errors like: entry for stream '{service_name="),
        ([str(NOW_NS - 8 * DAY_NS), "x"], LABELS, "has timestamp too old"),
        ([str(NOW_NS + 700_000_000_000), "x"], LABELS, "has timestamp too new"),
        ([str(NOW_NS - 2 * 3_600_000_000_000), "x"], LABELS, "entry too far behind"),
        ([str(NOW_NS), "x" * 262_145], LABELS, "max entry size '262144' bytes exceeded"),
        ([str(NOW_NS), "x", {"a": "x" * 65_536}], LABELS, "structured metadata too large"),
        ([str(NOW_NS), "x", {f"a{number}": "" for number in range(129)}], LABELS, "too many structured"),
    ],
)  # fmt: skip
async def test_the_valid_rest_of_a_push_is_stored(
    client: aiohttp.ClientSession, loki: Loki, wrong: list[Any], labels: Any, said: str
) -> None:
    status, text = await send(client, loki, push([str(NOW_NS), "fine"], wrong))
    assert status == 400
    assert said in text
    assert [entry.line for entry in loki.entries] == ["fine"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({}, "at least one label pair"), ({"a-b": "c"}, "error parsing labels"), ({"1a": "c"}, "error parsing labels"),
        ({f"a{number}": "b" for number in range(16)}, "has 16 label names; limit 15"),
        ({"a" * 1_025: "b"}, "label name too long"), ({"a": "b" * 2_049}, "label value too long"),
    ],
)  # fmt: skip
async def test_labels(client: aiohttp.ClientSession, loki: Loki, labels: Any, said: str) -> None:
    status, text = await send(client, loki, push([str(NOW_NS), "x"], labels=labels))
    assert status == 400
    assert said in text


async def test_sizes(client: aiohttp.ClientSession, loki: Loki) -> None:
    assert (await send(client, loki, b'{"streams":[]}'))[0] == 422
    lines = [[str(NOW_NS + number), "x" * 250_000] for number in range(26)]
    status, text = await send(client, loki, push(*lines))
    assert (status, "ingestion rate limit exceeded" in text) == (429, True)
    loki.max_bytes = 100
    assert (await send(client, loki, push([str(NOW_NS), "x" * 100])))[0] == 413
    assert loki.entries == []


async def test_who_may_send(client: aiohttp.ClientSession) -> None:
    body = push([str(NOW_NS), "x"])
    async with Loki(login=("me", "p"), tenants=["a"], now=lambda: NOW_S) as loki:
        assert (await send(client, loki, body))[0] == 401
        assert (await send(client, loki, body, Authorization="Basic bWU6cA=="))[1].strip() == "no org id"
        assert (await send(client, loki, body, Authorization="Basic bWU6cA==", X_Scope_OrgID="a"))[0] == 204
        assert "bWU6cA==" not in repr(loki.requests)
    async with Loki(token="t", now=lambda: NOW_S) as loki:
        assert (await send(client, loki, body, Authorization="Bearer u"))[0] == 401
        assert (await send(client, loki, body, Authorization="Bearer t"))[0] == 204


@pytest.mark.parametrize(
    ("fault", "status", "stored"),
    [
        (Blocked(), 260, 0), (Blocked(200), 200, 0), (StreamLimit(1), 429, 1), (RejectEntries(1), 400, 1),
        (Throttle(), 429, 0), (TooLarge(), 413, 0), (Answer(500, stored=True), 500, 2), (Page(200), 200, 0),
    ],
)  # fmt: skip
async def test_faults(client: aiohttp.ClientSession, loki: Loki, fault: Fault, status: int, stored: int) -> None:
    loki.faults.script(fault)
    assert (await send(client, loki, push([str(NOW_NS), "a"], [str(NOW_NS), "b"])))[0] == status
    assert len(loki.entries) == stored
