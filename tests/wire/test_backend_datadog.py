"""The local Datadog intake refuses what Datadog refuses: raw requests over real sockets."""

import gzip
import io
import time
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import orjson
import pytest

from local_backends import Datadog, Throttle, TooLarge
from local_backends.datadog_logs import status_of, timestamp_of

KEY = "0123456789abcdef0123456789abcdef"  # a made-up one
HEADERS = {"DD-API-KEY": KEY, "Content-Type": "application/json"}
NOW = 1_791_048_401.679


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def datadog() -> AsyncIterator[Datadog]:
    async with Datadog(api_key=KEY, now=lambda: NOW) as datadog:
        yield datadog


async def post(
    client: aiohttp.ClientSession,
    datadog: Datadog,
    body: Any,
    headers: dict[str, str] = HEADERS,
    extra: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    async with client.post(
        datadog.url + "/api/v2/logs", data=io.BytesIO(data), headers={**headers, **(extra or {})}
    ) as answer:
        return answer.status, await answer.json()


async def test_accepted_log(client: aiohttp.ClientSession, datadog: Datadog) -> None:
    entry = {
        "message": "paid order 17",
        "ddsource": "lambda",
        "service": "orders",
        "hostname": "host",
        "ddtags": "env:prod,functionname:orders-fn",
        "status": "Warning",
        "timestamp": 1_791_048_401_600,
        "lambda": {"request_id": "7b0c"},
    }
    assert await post(client, datadog, [entry]) == (202, {})
    (log,) = datadog.logs
    assert (log.message, log.status, log.timestamp, log.service) == (
        "paid order 17",
        "warning",
        1_791_048_401_600,
        "orders",
    )
    assert (log.hostname, log.ddsource, log.tags["functionname"]) == ("host", "lambda", "orders-fn")
    assert (log.attributes, log.sent) == ({"lambda": {"request_id": "7b0c"}}, entry)


async def test_single_object_and_missing_time(client: aiohttp.ClientSession, datadog: Datadog) -> None:
    assert (await post(client, datadog, {"message": "alone"}))[0] == 202
    assert datadog.logs[0].timestamp == round(NOW * 1000)


async def test_paths_methods_and_keys(client: aiohttp.ClientSession, datadog: Datadog) -> None:
    async with client.post(datadog.url + "/v1/input", data=b"[]", headers=HEADERS) as answer:
        assert answer.status == 404
    async with client.get(datadog.url + "/api/v2/logs", headers=HEADERS) as answer:
        assert answer.status == 405
    json_only = {"Content-Type": "application/json"}
    assert (await post(client, datadog, [], json_only))[0] == 401
    assert (await post(client, datadog, [], {**json_only, "DD-API-KEY": "wrong"}))[0] == 403
    datadog.api_key = "rotated"
    assert (await post(client, datadog, []))[0] == 403
    assert (await post(client, datadog, [], {**json_only, "DD-API-KEY": "rotated"}))[0] == 202
    assert KEY not in repr(datadog.requests)


async def test_error_body_has_string_values(client: aiohttp.ClientSession, datadog: Datadog) -> None:
    _, body = await post(client, datadog, b"{")
    (error,) = body["errors"]
    assert (error["status"], error["title"]) == ("400", "Bad Request")
    assert error["detail"].startswith("not JSON")


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
async def test_encodings(client: aiohttp.ClientSession, datadog: Datadog, encoding: str, pack: Any) -> None:
    body = orjson.dumps([{"message": "packed"}])
    assert (await post(client, datadog, pack(body), extra={"Content-Encoding": encoding}))[0] == 202
    assert (await post(client, datadog, b"\x00" + pack(body), extra={"Content-Encoding": encoding}))[0] == 400
    assert len(datadog.logs) == 1


async def test_zstd_is_taken_only_with_a_decoder(client: aiohttp.ClientSession, datadog: Datadog) -> None:
    """Another decoder stands in, for no zstd library is installed: what counts is that its work is used and checked."""
    zstd = {"Content-Encoding": "zstd"}
    assert (await post(client, datadog, b"[]", extra=zstd))[0] == 415
    assert (await post(client, datadog, b"[]", extra={"Content-Encoding": "br"}))[0] == 415
    async with Datadog(api_key=KEY, zstd=zlib.decompress) as lenient:
        assert (await post(client, lenient, zlib.compress(b'[{"message":"m"}]'), extra=zstd))[0] == 202
        assert (await post(client, lenient, b"nonsense", extra=zstd))[0] == 400
        assert (await post(client, lenient, zlib.compress(b" " * 5_000_001), extra=zstd))[0] == 413


async def test_body_limit_counts_inflated_bytes(client: aiohttp.ClientSession, datadog: Datadog) -> None:
    body = b'{"message":"m"}' + b" " * (5_000_000 - 15)
    assert (await post(client, datadog, gzip.compress(body), extra={"Content-Encoding": "gzip"}))[0] == 202
    assert (await post(client, datadog, gzip.compress(body + b" "), extra={"Content-Encoding": "gzip"}))[0] == 413
    assert (await post(client, datadog, body + b" "))[0] == 413
    assert len(datadog.logs) == 1


async def test_thousand_entries_and_no_more(client: aiohttp.ClientSession, datadog: Datadog) -> None:
    assert (await post(client, datadog, [{"message": "m"}] * 1001))[0] == 400
    assert (await post(client, datadog, [{"message": "m"}] * 1000))[0] == 202
    assert len(datadog.logs) == 1000


@pytest.mark.parametrize(
    "body", [b"", b"nonsense", b"17", b'["text"]', b'[{"message":"m"},null]', b'[{"message":NaN}]']
)
async def test_not_logs_at_all(client: aiohttp.ClientSession, datadog: Datadog, body: bytes) -> None:
    assert (await post(client, datadog, body))[0] == 400
    datadog.strict = False
    assert (await post(client, datadog, body))[0] == 400
    assert datadog.logs == []


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"message": {"a": 1}},
        {"message": "m", "ddtags": ["env:prod"]},
        {"message": "m", "service": 7},
        {"message": "m", "status": ["info"]},
        {"message": "m", "timestamp": "soon"},
        {"message": "m", "timestamp": 1791048401.679},
        {"message": "m", "@timestamp": True},
    ],
)
async def test_strict_refuses_what_the_intake_would_repair(
    client: aiohttp.ClientSession, datadog: Datadog, entry: dict[str, Any]
) -> None:
    """All or nothing: a good neighbour is not stored either. Lenient, both are."""
    assert (await post(client, datadog, [{"message": "good"}, entry]))[0] == 400
    assert datadog.logs == []
    datadog.strict = False
    assert (await post(client, datadog, [{"message": "good"}, entry]))[0] == 202
    assert len(datadog.logs) == 2


async def test_content_type(client: aiohttp.ClientSession, datadog: Datadog) -> None:
    plain = {**HEADERS, "Content-Type": "text/plain"}
    assert (await post(client, datadog, [{"message": "m"}], plain))[0] == 415
    assert (await post(client, datadog, [], {**HEADERS, "Content-Type": "application/json; charset=utf-8"}))[0] == 202


async def test_log_over_a_megabyte_is_cut(client: aiohttp.ClientSession, datadog: Datadog) -> None:
    """Accepted with 202 and cut on a character boundary, so that the whole log is within 1,000,000 bytes."""
    room = 1_000_000 - len(orjson.dumps({"message": ""}))
    fits, split = "x" * room, "x" * (room - 1) + "é"
    assert (await post(client, datadog, [{"message": text} for text in (fits, fits + "x", split)]))[0] == 202
    assert [(log.message, log.is_cut) for log in datadog.logs] == [(fits, False), (fits, True), (fits[:-1], True)]


@pytest.mark.parametrize(
    ("age", "is_kept"),
    [(18 * 3600 - 1, True), (18 * 3600 + 1, False), (-7199, True), (-7201, False), (NOW * 0.999, False)],
)
async def test_window_of_18_and_2_hours(
    client: aiohttp.ClientSession, datadog: Datadog, age: float, is_kept: bool
) -> None:
    """The answer is 202 either way; the last case is a time in seconds where ms are meant."""
    assert (await post(client, datadog, [{"message": "m", "timestamp": int((NOW - age) * 1000)}]))[0] == 202
    assert (len(datadog.logs), len(datadog.outside)) == ((1, 0) if is_kept else (0, 1))


async def test_window_can_be_switched_off(client: aiohttp.ClientSession) -> None:
    async with Datadog(api_key=KEY, keeps_outside=True) as datadog:
        await post(client, datadog, [{"message": "m", "timestamp": 0}])
        assert (datadog.logs[0].is_outside, datadog.outside) == (True, [])


async def test_scripted_throttle(client: aiohttp.ClientSession, datadog: Datadog) -> None:
    datadog.faults.script(Throttle(), Throttle(2.5), Throttle(3, header="X-RateLimit-Reset"), TooLarge())
    seen = []
    for _ in range(5):
        async with client.post(datadog.url + "/api/v2/logs", data=b"[]", headers=HEADERS) as answer:
            seen.append((answer.status, answer.headers.get("Retry-After"), answer.headers.get("X-RateLimit-Reset")))
    assert seen == [(429, None, None), (429, "2.5", None), (429, None, "3"), (413, None, None), (202, None, None)]


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (0, "emerg"),
        (3, "error"),
        ("4", "warning"),
        (99, "info"),
        ("FATAL", "emerg"),
        ("Alert", "alert"),
        ("crit", "critical"),
        ("ERR", "error"),
        ("warn", "warning"),
        ("NOTICE", "notice"),
        ("trace", "debug"),
        ("verbose", "debug"),
        ("ok", "ok"),
        ("success", "ok"),
        ("else", "info"),
        ("", "info"),
    ],
)
def test_status_is_judged_by_its_first_letters(given: Any, status: str) -> None:
    assert status_of(given) == status


def test_timestamps_in_all_three_forms() -> None:
    assert timestamp_of(1_791_048_401_679) == 1_791_048_401_679
    assert timestamp_of("2026-10-04T03:26:41.679+02:00") == timestamp_of("2026-10-04T01:26:41.679Z")
    year = time.gmtime().tm_year
    assert timestamp_of("Oct  4 01:26:41") == timestamp_of(f"{year}-10-04T01:26:41Z")
