"""The local HTTP source refuses what Sumo Logic refuses: raw requests over real sockets."""

import gzip
import io
import zlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from local_backends import Answer, Budget, SumoLogic, Throttle, TooLarge

HEADERS = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
async def sumo() -> AsyncIterator[SumoLogic]:
    async with SumoLogic(token="right", now=lambda: 1_791_048_401.679) as sumo:
        yield sumo


async def post(
    sumo: SumoLogic, body: bytes, path: str = "/receiver/v1/http/right", method: str = "POST", **headers: str
) -> tuple[int, bytes]:
    given = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as client,
        client.request(method, sumo.url + path, data=io.BytesIO(body), headers=given) as answer,
    ):
        return answer.status, await answer.read()


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
async def test_it_stores_what_is_sound(sumo: SumoLogic, encoding: str, pack: Any) -> None:
    body = b'{"@timestamp":"2026-03-02T10:15:30.100Z","message":"a"}\nplain\n'
    assert await post(sumo, pack(body), Content_Encoding=encoding, X_Sumo_Category="c", X_Sumo_Name="n") == (200, b"")
    first, second = sumo.messages
    assert (first.time_ms, first.members["message"], first.metadata) == (
        1_772_446_530_100, "a", {"name": "n", "category": "c"},
    )  # fmt: skip
    assert (second.time_ms, second.text, second.members) == (1_791_048_401_679, "plain", {})
    assert "right" not in repr(sumo.requests)


@pytest.mark.parametrize(
    ("status", "given"),
    [
        (401, {"path": "/receiver/v1/http/wrong"}),
        (401, {"path": "/receiver/v1/http/"}),
        (404, {"path": "/receiver/v2/right"}),
        (405, {"method": "PUT"}),
        (415, {"Content_Type": "application/vnd.sumologic.prometheus"}),
        (415, {"Content_Encoding": "br"}),
        (400, {"Content_Encoding": "gzip"}),
        (400, {"body": b"\xff"}),
        (413, {"body": b" " * 8_000_001}),
    ],
)
async def test_it_refuses(sumo: SumoLogic, status: int, given: dict[str, Any]) -> None:
    assert (await post(sumo, **{"body": b"{}", **given}))[0] == status
    assert not sumo.messages


async def test_a_long_message_is_sliced(sumo: SumoLogic) -> None:
    await post(sumo, b"x" * 70_000)
    assert [len(one.text) for one in sumo.messages] == [65_536, 70_000 - 65_536]


async def test_faults(sumo: SumoLogic) -> None:
    sumo.faults.script(Budget(), Throttle(), Answer(408, stored=True), TooLarge())
    assert await post(sumo, b"a\nb") == (200, b"")
    assert (sumo.messages, sumo.thrown_away) == ([], 2)
    status, said = await post(sumo, b"c")
    assert (status, b"temporarily exceeded your Sumo Logic quota" in said) == (429, True)
    assert [(await post(sumo, b"d"))[0] for _ in range(2)] == [408, 413]
    assert [one.text for one in sumo.messages] == ["d"]
