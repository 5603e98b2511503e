"""The local S3 refuses what S3 refuses."""

import gzip
import hashlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from local_backends import S3, Answer, Throttle, TooLarge
from telemetry_forwarder.transports.aws_signature import Credentials, signed

BODY = gzip.compress(b'{"a":1}\n{"a":2}\n', mtime=0)
FILE = {"content-type": "application/gzip"}
KEY = "a/function=x/it's.ndjson.gz"


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def put(client: aiohttp.ClientSession, s3: S3, key: str = KEY, body: bytes = BODY, *, bucket: str = "logs",
              secret: str = "local-secret-access-key", region: str = "eu-west-1", method: str = "PUT",
              changed: dict[str, str] | None = None, **headers: str) -> tuple[int, str]:  # fmt: skip
    """Put an object; return the status, and the code in the answer."""
    url = f"{s3.url}/{bucket}/{quote(key, safe='/~')}"
    given = {**FILE, **{name.replace("_", "-"): value for name, value in headers.items()}}
    sent = signed(Credentials("AKID", secret), "s3", region, url, given, body, s3.now(), method) | (changed or {})
    async with client.request(method, URL(url, encoded=True), data=body, headers=sent) as answer:
        text = await answer.text()
        return answer.status, text.partition("<Code>")[2].partition("</Code>")[0]


async def test_it_keeps_an_object_and_its_lines(client: aiohttp.ClientSession) -> None:
    async with S3() as s3:
        assert await put(client, s3) == (200, "")
        assert [line.value for line in s3.kept] == [{"a": 1}, {"a": 2}]
        assert s3.objects[KEY].body == BODY
        assert s3.requests[0].stored == range(2)
        assert await put(client, s3, if_none_match="*") == (412, "PreconditionFailed")
        assert len(s3.kept) == 2
        assert await put(client, s3, "b.ndjson.gz", content_encoding="gzip", content_type="application/x-ndjson") == (
            200,
            "",
        )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"bucket": "nowhere"}, (404, "NoSuchBucket")),
        ({"method": "POST"}, (405, "MethodNotAllowed")),
        ({"secret": "another"}, (403, "SignatureDoesNotMatch")),
        ({"region": "us-east-1"}, (301, "PermanentRedirect")),
        ({"changed": {"Authorization": "none"}}, (403, "AccessDenied")),
        ({"changed": {"X-Amz-Content-SHA256": hashlib.sha256(b"").hexdigest()}}, (400, "XAmzContentSHA256Mismatch")),
        ({"key": "x" * 1020 + ".ndjson.gz"}, (400, "KeyTooLongError")),
        ({"key": "x.json"}, (400, "InvalidRequest")),
        ({"body": b'{"a":1}\n'}, (400, "InvalidRequest")),
        ({"body": BODY[:-4]}, (400, "InvalidRequest")),
        ({"body": BODY + BODY}, (400, "InvalidRequest")),
        ({"body": gzip.compress(b'{"a":1}', mtime=0)}, (400, "InvalidRequest")),
        ({"body": gzip.compress(b'{"a":1}\n\n', mtime=0)}, (400, "InvalidRequest")),
        ({"content_encoding": "gzip"}, (400, "InvalidRequest")),
    ],
)
async def test_it_refuses(given: dict[str, Any], expected: tuple[int, str], client: aiohttp.ClientSession) -> None:
    async with S3(region="eu-west-1") as s3:
        assert await put(client, s3, **given) == expected
        assert not s3.objects


async def test_faults_are_answered_as_s3_does(client: aiohttp.ClientSession) -> None:
    async with S3() as s3:
        s3.faults.script(Throttle(), TooLarge(), Answer(409), Answer(500), Answer(400, code="RequestTimeout"))
        expected = [(503, "SlowDown"), (400, "EntityTooLarge"), (409, "ConditionalRequestConflict"),
                    (500, "InternalError"), (400, "RequestTimeout"), (200, "")]  # fmt: skip
        assert [await put(client, s3) for _ in expected] == expected
