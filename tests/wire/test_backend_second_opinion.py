"""The local AWS services driven by a real AWS SDK, and the same calls made to moto: both must tell the same story.

Where moto is known to be wrong (its indices of rejected events, limits that it does not check) it is not asked.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from local_backends import CloudWatchLogs, SecretsManager, Ssm

REGION = "eu-west-1"
GROUP, STREAM = "/acme/lambda/orders-fn", "2026/10/04/[$LATEST]0f1e"
DAY = 86_400_000


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def open_client(service: str, url: str) -> AbstractAsyncContextManager[Any]:
    """Return an SDK client that tries once and waits for nobody."""
    config = AioConfig(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1}, max_pool_connections=2)
    return get_session().create_client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="x" * 40,
        aws_session_token="session",
        config=config,
    )


@asynccontextmanager
async def both(service: str, ours: str, moto: str) -> AsyncIterator[tuple[Any, Any]]:
    async with AsyncExitStack() as stack:
        yield (
            await stack.enter_async_context(open_client(service, ours)),
            await stack.enter_async_context(open_client(service, moto)),
        )


async def outcome(client: Any, operation: str, members: dict[str, Any]) -> Any:
    """Return the answer without its metadata, or the error's type and HTTP status."""
    try:
        answer = await getattr(client, operation)(**members)
    except ClientError as error:
        return error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
    answer.pop("ResponseMetadata")
    return answer


def logs_calls(now: int) -> list[tuple[str, dict[str, Any], tuple[str, ...]]]:
    """Return calls in their order, and the members of their answers that must agree (an error must always agree)."""
    stream = {"logGroupName": GROUP, "logStreamName": STREAM}
    events = [{"timestamp": now + place, "message": f"line {place} é"} for place in range(3)]
    swapped = [{"timestamp": now, "message": "b"}, {"timestamp": now - 1, "message": "a"}]
    return [
        ("put_log_events", {**stream, "logEvents": events}, ()),
        ("create_log_stream", stream, ()),
        ("create_log_group", {"logGroupName": GROUP}, ()),
        ("create_log_group", {"logGroupName": GROUP}, ()),
        ("put_log_events", {**stream, "logEvents": events}, ()),
        ("create_log_stream", stream, ()),
        ("create_log_stream", stream, ()),
        ("put_log_events", {**stream, "logEvents": events}, ("rejectedLogEventsInfo",)),
        ("put_log_events", {**stream, "logEvents": swapped}, ()),
        ("put_retention_policy", {"logGroupName": "missing", "retentionInDays": 7}, ()),
        ("put_retention_policy", {"logGroupName": GROUP, "retentionInDays": 7}, ()),
        ("describe_log_groups", {"logGroupNamePrefix": "/acme"}, ("logGroupName", "retentionInDays")),
        (
            "describe_log_streams",
            {"logGroupName": GROUP},
            ("logStreamName", "firstEventTimestamp", "lastEventTimestamp"),
        ),
        ("get_log_events", {**stream, "startFromHead": True}, ("timestamp", "message")),
        ("filter_log_events", {"logGroupName": GROUP, "startTime": now + 1}, ("timestamp", "message", "logStreamName")),
        ("describe_log_streams", {"logGroupName": "missing"}, ()),
    ]


def shown(answer: Any, names: tuple[str, ...]) -> Any:
    """Return what of an answer is compared: an error whole, of a list of things their members `names`."""
    if isinstance(answer, tuple):
        return answer
    things = next((value for value in answer.values() if isinstance(value, list) and value), [answer])
    return [{name: thing.get(name) for name in names} for thing in things]


async def test_logs_as_moto(moto_url: str) -> None:
    async with CloudWatchLogs(region=REGION) as logs, both("logs", logs.url, moto_url) as (ours, moto):
        for operation, members, names in logs_calls(int(time.time() * 1000)):
            mine, other = await outcome(ours, operation, members), await outcome(moto, operation, members)
            assert shown(mine, names) == shown(other, names), operation
        assert [event.message for event in logs.events(GROUP, STREAM)] == ["line 0 é", "line 1 é", "line 2 é"]
        assert all(seen.status in (200, 400) for seen in logs.requests)


async def test_rejected_events_reach_an_sdk() -> None:
    """Not compared: moto reports these indices otherwise than the API reference."""
    now = int(time.time() * 1000)
    async with CloudWatchLogs(region=REGION) as logs, open_client("logs", logs.url) as client:
        await client.create_log_group(logGroupName=GROUP)
        await client.create_log_stream(logGroupName=GROUP, logStreamName=STREAM)
        times = [now - 15 * DAY, now, now + DAY]
        entries = [{"timestamp": timestamp, "message": "m"} for timestamp in times]
        answer = await client.put_log_events(logGroupName=GROUP, logStreamName=STREAM, logEvents=entries)
        info = {"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 2}
        assert (answer["rejectedLogEventsInfo"], len(logs.events(GROUP))) == (info, 1)


async def test_parameters_as_moto(moto_url: str) -> None:
    names = ("Name", "Type", "Value", "Version", "ARN", "DataType")
    async with Ssm(region=REGION) as ssm, both("ssm", ssm.url, moto_url) as (ours, moto):
        for value in ("first", "second"):
            ssm.put("/prod/token", value)
            await moto.put_parameter(Name="/prod/token", Value=value, Type="SecureString", Overwrite=True)
        for wanted in ("/prod/token", "/prod/token:1", "/prod/token:3", "/prod/missing"):
            members = {"Name": wanted, "WithDecryption": True}
            mine, other = await outcome(ours, "get_parameter", members), await outcome(moto, "get_parameter", members)
            if isinstance(mine, dict):
                mine, other = ({name: each["Parameter"][name] for name in names} for each in (mine, other))
            assert mine == other, wanted
        hidden = [(await each.get_parameter(Name="/prod/token"))["Parameter"]["Value"] for each in (ours, moto)]
        assert "second" not in hidden


async def test_secrets_as_moto(moto_url: str) -> None:
    names = ("Name", "SecretString", "SecretBinary", "VersionStages")
    async with (
        SecretsManager(region=REGION, secrets={"prod/token": "first", "binary": b"\x00\xff"}) as secrets,
        both("secretsmanager", secrets.url, moto_url) as (ours, moto),
    ):
        await moto.create_secret(Name="prod/token", SecretString="first")
        await moto.create_secret(Name="binary", SecretBinary=b"\x00\xff")
        secrets.put("prod/token", "second")
        await moto.put_secret_value(SecretId="prod/token", SecretString="second")
        for members in (
            {"SecretId": "prod/token"},
            {"SecretId": "prod/token", "VersionStage": "AWSPREVIOUS"},
            {"SecretId": "prod/token", "VersionStage": "AWSPENDING"},
            {"SecretId": "binary"},
            {"SecretId": "missing"},
        ):
            mine = await outcome(ours, "get_secret_value", members)
            other = await outcome(moto, "get_secret_value", members)
            if isinstance(mine, dict):
                mine, other = ({name: each.get(name) for name in names} for each in (mine, other))
            else:
                # A missing stage is 404 in moto; the API reference has 400 for every ResourceNotFoundException.
                mine, other = mine, (other[0], 400)
            assert mine == other, members
        described = await moto.describe_secret(SecretId="binary")
        # Six characters at the end are made up by each.
        assert described["ARN"].rpartition("-")[0] == secrets.secret_arn("binary").rpartition("-")[0]
