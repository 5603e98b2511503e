"""Raw calls to a local AWS service, with headers that have the shape of a signature."""

import io
import time
from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from local_backends import CloudWatchLogs
from local_backends.aws_json import AwsJson

NOW = 1_791_048_401.679
NOW_MS = 1_791_048_401_679
HOUR, DAY = 3_600_000, 86_400_000
GROUP, STREAM = "/acme/lambda/orders-fn", "2026/10/04/[$LATEST]0f1e2d3c4b5a69788796a5b4c3d2e1f0"


def signed(service: AwsJson, operation: str, **changes: str) -> dict[str, str]:
    """Return headers that look signed; `changes` replace words in `Authorization` or, by its name, a header."""
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(service.now()))
    scope = f"AKIAIOSFODNN7EXAMPLE/{date[:8]}/eu-west-1/{service.service}/aws4_request"
    names = "content-type;host;x-amz-date;x-amz-target"
    headers = {
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": f"{service.target}.{operation}",
        "X-Amz-Date": date,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={names}, Signature={'0f' * 32}",
    }
    for old, new in changes.items():
        name = old.replace("_", "-")
        if name in headers:
            headers[name] = new
        else:
            headers["Authorization"] = headers["Authorization"].replace(name, new)
    return headers


async def call(
    client: aiohttp.ClientSession,
    service: AwsJson,
    operation: str,
    members: Mapping[str, Any] | bytes,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, Any]:
    data = members if isinstance(members, bytes) else orjson.dumps(members)
    async with client.post(
        service.url + "/", data=io.BytesIO(data), headers=headers or signed(service, operation)
    ) as answer:
        assert answer.headers["x-amzn-RequestId"]
        assert answer.content_type == "application/x-amz-json-1.1"
        return answer.status, orjson.loads(await answer.read())


async def error(client: aiohttp.ClientSession, service: AwsJson, operation: str, members: Mapping[str, Any]) -> str:
    """Return the error type, which must come with status 400."""
    status, body = await call(client, service, operation, members)
    assert (status, set(body)) == (400, {"__type", "message"})
    return str(body["__type"])


async def create(client: aiohttp.ClientSession, logs: CloudWatchLogs, retention_days: int | None = None) -> None:
    assert await call(client, logs, "CreateLogGroup", {"logGroupName": GROUP}) == (200, {})
    names = {"logGroupName": GROUP, "logStreamName": STREAM}
    assert await call(client, logs, "CreateLogStream", names) == (200, {})
    if retention_days is not None:
        members = {"logGroupName": GROUP, "retentionInDays": retention_days}
        assert await call(client, logs, "PutRetentionPolicy", members) == (200, {})


def batch(*events: tuple[int, str]) -> dict[str, Any]:
    entries = [{"timestamp": timestamp, "message": message} for timestamp, message in events]
    return {"logGroupName": GROUP, "logStreamName": STREAM, "logEvents": entries}
