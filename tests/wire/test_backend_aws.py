"""The local AWS services refuse what AWS refuses: raw requests with the shape of a signature, over real sockets."""

import io
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import orjson
import pytest

from telemetry_forwarder.emulator.backends import (
    Answer,
    CloudWatchLogs,
    RejectEvents,
    SecretsManager,
    Ssm,
    Throttle,
    TooLarge,
)
from telemetry_forwarder.emulator.backends.aws_json import AwsJson

NOW = 1_791_048_401.679
NOW_MS = 1_791_048_401_679
HOUR, DAY = 3_600_000, 86_400_000
GROUP, STREAM = "/acme/lambda/orders-fn", "2026/10/04/[$LATEST]0f1e2d3c4b5a69788796a5b4c3d2e1f0"


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def logs() -> AsyncIterator[CloudWatchLogs]:
    async with CloudWatchLogs(now=lambda: NOW, region="eu-west-1") as logs:
        yield logs


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


# --- the protocol ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error_type"),
    [
        ({"Authorization": "Bearer x"}, "IncompleteSignatureException"),
        ({"AWS4-HMAC-SHA256": "AWS4-HMAC-SHA1"}, "IncompleteSignatureException"),
        ({"Signature=0f": "Signature=0F"}, "IncompleteSignatureException"),
        ({"X-Amz-Date": "yesterday"}, "IncompleteSignatureException"),
        ({"/logs/": "/s3/"}, "InvalidSignatureException"),
        ({"eu-west-1": "us-east-1"}, "InvalidSignatureException"),
        ({"host;": ""}, "InvalidSignatureException"),
        ({";x-amz-target": ""}, "InvalidSignatureException"),
        ({"X-Amz-Date": "20261004T000000Z"}, "InvalidSignatureException"),
        ({"X-Amz-Date": "20261003T000000Z"}, "InvalidSignatureException"),
        ({"/20261003/": "/20260101/"}, "InvalidSignatureException"),
        ({"X-Amz-Target": "Logs_20140328.Nothing"}, "UnknownOperationException"),
        ({"X-Amz-Target": "Other.PutLogEvents"}, "UnknownOperationException"),
        ({"Content-Type": "application/json"}, "SerializationException"),
    ],
)
async def test_refused_calls(
    client: aiohttp.ClientSession, logs: CloudWatchLogs, changes: dict[str, str], error_type: str
) -> None:
    headers = signed(logs, "DescribeLogGroups", **changes)
    status, body = await call(client, logs, "DescribeLogGroups", {}, headers)
    assert (status, body["__type"]) == (400, error_type)


async def test_good_call_missing_signature_and_bad_bodies(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    assert await call(client, logs, "DescribeLogGroups", {}) == (200, {"logGroups": []})
    headers = signed(logs, "DescribeLogGroups")
    del headers["Authorization"]
    assert (await call(client, logs, "", {}, headers))[1]["__type"] == "MissingAuthenticationTokenException"
    for body in (b"", b"nonsense", b"[]"):
        assert (await call(client, logs, "DescribeLogGroups", body))[1]["__type"] == "SerializationException"
    async with client.post(logs.url + "/else", headers=signed(logs, "DescribeLogGroups")) as answer:
        assert answer.status == 404


async def test_clock_skew_of_five_minutes(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    headers = signed(logs, "DescribeLogGroups")
    logs.now = lambda: NOW + 299
    assert (await call(client, logs, "", {}, headers))[0] == 200
    logs.now = lambda: NOW + 301
    assert (await call(client, logs, "", {}, headers))[1]["__type"] == "InvalidSignatureException"


async def test_session_token_must_be_signed_and_stays_secret(
    client: aiohttp.ClientSession, logs: CloudWatchLogs
) -> None:
    headers = {**signed(logs, "DescribeLogGroups"), "X-Amz-Security-Token": "hush"}
    assert (await call(client, logs, "", {}, headers))[1]["__type"] == "InvalidSignatureException"
    headers["Authorization"] = headers["Authorization"].replace("x-amz-target", "x-amz-security-token;x-amz-target")
    assert (await call(client, logs, "", {}, headers))[0] == 200
    assert not {"x-amz-security-token", "authorization"} & set(logs.requests[-1].headers)


async def test_refused_credentials(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    logs.credential_error = "ExpiredTokenException"
    assert await error(client, logs, "DescribeLogGroups", {}) == "ExpiredTokenException"


async def test_scripted_errors(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    """Throttling is HTTP 400 here; the operation that a fault meets can be named."""
    await create(client, logs)
    logs.faults.script(
        Throttle(),
        Answer(500),
        Answer(503),
        TooLarge(),
        Answer(400, code="AccessDeniedException"),
        Answer(400, stored=True),
    )
    seen = [await call(client, logs, "PutLogEvents", batch((NOW_MS, "m"))) for _ in range(6)]
    assert [(status, body["__type"]) for status, body in seen] == [
        (400, "ThrottlingException"),
        (500, "InternalFailure"),
        (503, "ServiceUnavailableException"),
        (413, "RequestEntityTooLarge"),
        (400, "AccessDeniedException"),
        (400, "InvalidParameterException"),
    ]
    assert len(logs.events(GROUP)) == 1
    logs.faults.script(Throttle(2), on="CreateLogGroup")
    async with client.post(logs.url, data=b"{}", headers=signed(logs, "CreateLogGroup")) as answer:
        assert (answer.status, answer.headers["x-amz-retry-after"], answer.headers["Retry-After"]) == (400, "2000", "2")


# --- groups, streams, retention -------------------------------------------------------------------------------------


async def test_missing_and_doubled_groups_and_streams(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    names = {"logGroupName": GROUP, "logStreamName": STREAM}
    put = batch((NOW_MS, "m"))
    assert (await call(client, logs, "PutLogEvents", put))[1] == {
        "__type": "ResourceNotFoundException",
        "message": "The specified log group does not exist.",
    }
    assert await error(client, logs, "CreateLogStream", names) == "ResourceNotFoundException"
    retention = {"logGroupName": GROUP, "retentionInDays": 7}
    assert await error(client, logs, "PutRetentionPolicy", retention) == "ResourceNotFoundException"
    await call(client, logs, "CreateLogGroup", {"logGroupName": GROUP})
    assert (await call(client, logs, "PutLogEvents", put))[1] == {
        "__type": "ResourceNotFoundException",
        "message": "The specified log stream does not exist.",
    }
    await call(client, logs, "CreateLogStream", names)
    assert await error(client, logs, "CreateLogGroup", {"logGroupName": GROUP}) == "ResourceAlreadyExistsException"
    assert await error(client, logs, "CreateLogStream", names) == "ResourceAlreadyExistsException"


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"logGroupName": ""},
        {"logGroupName": "x" * 513},
        {"logGroupName": "with space"},
        {"logGroupName": "a:b"},
        {"logGroupName": "aws/lambda"},
        {"logGroupName": "g", "logGroupClass": "CHEAP"},
        {"logGroupName": "g", "tags": {str(n): "" for n in range(51)}},
    ],
)
async def test_bad_groups(client: aiohttp.ClientSession, logs: CloudWatchLogs, members: dict[str, Any]) -> None:
    assert await error(client, logs, "CreateLogGroup", members) == "InvalidParameterException"
    assert logs.groups == {}


@pytest.mark.parametrize("name", ["", "a:b", "a*b", "x" * 513, None])
async def test_bad_streams(client: aiohttp.ClientSession, logs: CloudWatchLogs, name: str | None) -> None:
    await create(client, logs)
    members = {"logGroupName": GROUP, "logStreamName": name}
    assert await error(client, logs, "CreateLogStream", members) == "InvalidParameterException"
    put = {**batch((NOW_MS, "m")), "logStreamName": name}
    assert await error(client, logs, "PutLogEvents", put) == "InvalidParameterException"


async def test_retention_is_a_closed_list(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    await create(client, logs, retention_days=3653)
    for days in (0, 2, 10, 3654, "7", None):
        members = {"logGroupName": GROUP, "retentionInDays": days}
        assert await error(client, logs, "PutRetentionPolicy", members) == "InvalidParameterException"
    (group,) = (await call(client, logs, "DescribeLogGroups", {"logGroupNamePrefix": "/acme"}))[1]["logGroups"]
    assert group["retentionInDays"] == logs.groups[GROUP].retention_days == 3653


# --- batches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "entries",
    [
        [],
        None,
        [{"timestamp": NOW_MS}],
        [{"message": "m"}],
        [{"timestamp": NOW_MS, "message": ""}],
        [{"timestamp": -1, "message": "m"}],
        [{"timestamp": NOW_MS, "message": "m"}, {"timestamp": NOW_MS - 1, "message": "m"}],
        [{"timestamp": NOW_MS - DAY - 1, "message": "m"}, {"timestamp": NOW_MS, "message": "m"}],
        [{"timestamp": NOW_MS, "message": "m"}] * 10_001,
        [{"timestamp": NOW_MS, "message": "m" * (1_048_576 - 25)}],
        [{"timestamp": NOW_MS, "message": "é" * ((1_048_576 - 52) // 2)}, {"timestamp": NOW_MS, "message": "m"}],
    ],
)
async def test_batches_refused_whole(client: aiohttp.ClientSession, logs: CloudWatchLogs, entries: Any) -> None:
    await create(client, logs)
    members = {**batch(), "logEvents": entries}
    assert await error(client, logs, "PutLogEvents", members) == "InvalidParameterException"
    assert logs.events(GROUP) == []


@pytest.mark.parametrize(
    "entry", [7, {"timestamp": 1.5, "message": "m"}, {"timestamp": "1", "message": "m"}, {"timestamp": 1, "message": 7}]
)
async def test_values_of_another_type(client: aiohttp.ClientSession, logs: CloudWatchLogs, entry: Any) -> None:
    await create(client, logs)
    assert await error(client, logs, "PutLogEvents", {**batch(), "logEvents": [entry]}) == "SerializationException"


async def test_batches_at_every_limit(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    """Equal times, exactly 24 hours, 10,000 events, 1,048,576 counted bytes in one event or in two."""
    await create(client, logs)
    for put in (
        batch((NOW_MS, "a"), (NOW_MS, "b")),
        batch((NOW_MS - DAY, "a"), (NOW_MS, "b")),
        batch(*[(NOW_MS, "m")] * 10_000),
        batch((NOW_MS, "m" * (1_048_576 - 26))),
        batch((NOW_MS, "é" * ((1_048_576 - 54) // 2)), (NOW_MS, "mm")),
    ):
        status, body = await call(client, logs, "PutLogEvents", put)
        assert (status, "rejectedLogEventsInfo" in body) == (200, False)
    assert len(logs.events(GROUP)) == 10_007


async def test_older_limit_of_one_event(client: aiohttp.ClientSession) -> None:
    async with CloudWatchLogs(max_event_bytes=262_144) as logs:
        await create(client, logs)
        now = int(time.time() * 1000)
        assert (await call(client, logs, "PutLogEvents", batch((now, "m" * 262_118))))[0] == 200
        too_large = batch((now, "m" * 262_119))
        assert await error(client, logs, "PutLogEvents", too_large) == "InvalidParameterException"


@pytest.mark.parametrize(
    ("ages", "retention", "info", "kept"),
    [
        # Older than 14 days: the end is exclusive.
        ([15 * DAY, 15 * DAY, 0], None, {"tooOldLogEventEndIndex": 2}, [2]),
        ([14 * DAY], None, {}, [0]),
        ([14 * DAY + 1], None, {"tooOldLogEventEndIndex": 1}, []),
        # More than two hours ahead: the start is inclusive.
        ([0, -3 * HOUR, -4 * HOUR], None, {"tooNewLogEventStartIndex": 1}, [0]),
        ([-2 * HOUR], None, {}, [0]),
        ([-2 * HOUR - 1], None, {"tooNewLogEventStartIndex": 0}, []),
        # Older than the retention, but not than 14 days.
        ([2 * DAY, 0], 1, {"expiredLogEventEndIndex": 1}, [1]),
        ([15 * DAY, 8 * DAY, 0], 7, {"tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 2}, [2]),
        ([20 * DAY, 0], 30, {"tooOldLogEventEndIndex": 1}, [1]),
        # All three at once; the span of 24 hours counts only what is left.
        (
            [15 * DAY, 8 * DAY, 0, -3 * HOUR],
            7,
            {"tooOldLogEventEndIndex": 1, "expiredLogEventEndIndex": 2, "tooNewLogEventStartIndex": 3},
            [2],
        ),
    ],
)
async def test_events_outside_the_window_are_rejected_in_a_200(
    client: aiohttp.ClientSession,
    logs: CloudWatchLogs,
    ages: list[int],
    retention: int | None,
    info: dict[str, int],
    kept: list[int],
) -> None:
    await create(client, logs, retention)
    put = batch(*((NOW_MS - age, str(place)) for place, age in enumerate(ages)))
    status, body = await call(client, logs, "PutLogEvents", put)
    assert (status, body.get("rejectedLogEventsInfo", {})) == (200, info)
    assert [int(event.message) for event in logs.events(GROUP, STREAM)] == kept
    assert len(logs.rejected) == len(ages) - len(kept)


async def test_expired_index_can_be_read_the_other_way(client: aiohttp.ClientSession) -> None:
    async with CloudWatchLogs(now=lambda: NOW, expired_is_inclusive=True) as logs:
        await create(client, logs, 1)
        _, body = await call(client, logs, "PutLogEvents", batch((NOW_MS - 2 * DAY, "a"), (NOW_MS, "b")))
        assert body["rejectedLogEventsInfo"] == {"expiredLogEventEndIndex": 0}


async def test_scripted_rejection(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    await create(client, logs)
    logs.faults.script(RejectEvents(too_old_end=1, too_new_start=3), RejectEvents(expired_end=4))
    put = batch(*((NOW_MS, str(place)) for place in range(4)))
    _, body = await call(client, logs, "PutLogEvents", put)
    assert body["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1, "tooNewLogEventStartIndex": 3}
    assert [event.message for event in logs.events(GROUP)] == ["1", "2"]
    assert (await call(client, logs, "PutLogEvents", put))[1]["rejectedLogEventsInfo"] == {"expiredLogEventEndIndex": 4}
    assert len(logs.events(GROUP)) == 2


async def test_rejected_entity_keeps_the_events(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    await create(client, logs)
    good = {"keyAttributes": {"Type": "Service", "Name": "orders"}, "attributes": {}}
    for entity, info in (
        (good, None),
        ({"keyAttributes": {"Type": "Service"}}, {"errorType": "InvalidKeyAttributes"}),
        ({**good, "attributes": {str(n): "" for n in range(11)}}, {"errorType": "InvalidAttributes"}),
    ):
        _, body = await call(client, logs, "PutLogEvents", {**batch((NOW_MS, "m")), "entity": entity})
        assert body.get("rejectedEntityInfo") == info
    assert len(logs.events(GROUP)) == 3


async def test_request_past_what_is_ever_read(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    logs.wire_limit = 1000
    status, body = await call(client, logs, "PutLogEvents", b" " * 1001)
    assert (status, body["__type"]) == (413, "RequestEntityTooLarge")


async def test_reading_back_in_pages(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    await create(client, logs)
    await call(client, logs, "PutLogEvents", batch(*((NOW_MS + place, str(place)) for place in range(5))))
    names = {"logGroupName": GROUP, "logStreamName": STREAM, "limit": 2}

    async def texts(operation: str, **more: Any) -> tuple[list[str], Any]:
        _, body = await call(client, logs, operation, {**names, **more})
        return [event["message"] for event in body["events"]], body

    assert (await texts("GetLogEvents"))[0] == ["3", "4"]
    first, body = await texts("GetLogEvents", startFromHead=True)
    second, body = await texts("GetLogEvents", nextToken=body["nextForwardToken"])
    assert (first, second) == (["0", "1"], ["2", "3"])
    assert (await texts("GetLogEvents", nextToken=body["nextBackwardToken"]))[0] == ["0", "1"]
    last, body = await texts("GetLogEvents", nextToken=body["nextForwardToken"])
    end, again = await texts("GetLogEvents", nextToken=body["nextForwardToken"])
    assert (last, end, again["nextForwardToken"]) == (["4"], [], body["nextForwardToken"])

    page, body = await texts("FilterLogEvents", startTime=NOW_MS + 1, endTime=NOW_MS + 4)
    assert (page, (await texts("FilterLogEvents", startTime=NOW_MS + 1, nextToken=body["nextToken"]))[0]) == (
        ["1", "2"],
        ["3", "4"],
    )
    pattern = {"logGroupName": GROUP, "filterPattern": "ERROR"}
    assert await error(client, logs, "FilterLogEvents", pattern) == "InvalidParameterException"
    bad_token = {**names, "nextToken": "x"}
    assert await error(client, logs, "GetLogEvents", bad_token) == "InvalidParameterException"
    assert await error(client, logs, "FilterLogEvents", bad_token) == "InvalidParameterException"


async def test_describing_streams(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    await create(client, logs)
    await call(client, logs, "CreateLogStream", {"logGroupName": GROUP, "logStreamName": "a"})
    await call(client, logs, "PutLogEvents", batch((NOW_MS - 5, "m"), (NOW_MS, "m")))

    async def describe(**more: Any) -> Any:
        return (await call(client, logs, "DescribeLogStreams", {"logGroupName": GROUP, **more}))[1]

    streams = (await describe())["logStreams"]
    assert [stream["logStreamName"] for stream in streams] == [STREAM, "a"]
    assert (streams[0]["firstEventTimestamp"], streams[0]["lastEventTimestamp"]) == (NOW_MS - 5, NOW_MS)
    newest = await describe(orderBy="LastEventTime", descending=True, limit=1)
    assert [stream["logStreamName"] for stream in newest["logStreams"]] == [STREAM]
    assert newest["nextToken"] == "1"
    bad: list[dict[str, Any]] = [{"orderBy": "LastEventTime", "logStreamNamePrefix": "a"}, {"limit": 51}, {"limit": 0}]
    for members in bad:
        whole = {"logGroupName": GROUP, **members}
        assert await error(client, logs, "DescribeLogStreams", whole) == "InvalidParameterException"


# --- secrets --------------------------------------------------------------------------------------------------------


async def test_parameters(client: aiohttp.ClientSession) -> None:
    async with Ssm(parameters={"/prod/token": "first"}) as ssm:

        async def get(name: str, **more: Any) -> Any:
            status, body = await call(client, ssm, "GetParameter", {"Name": name, "WithDecryption": True, **more})
            assert status == 200
            return body["Parameter"]

        assert (await get("/prod/token"))["Value"] == "first"
        hidden = await get("/prod/token", WithDecryption=False)
        assert (hidden["Type"], "first" in hidden["Value"]) == ("SecureString", False)
        assert ssm.put("/prod/token", "second") == 2
        newest = await get(hidden["ARN"])
        assert (newest["Value"], newest["Version"], newest["Name"]) == ("second", 2, "/prod/token")
        assert (await get("/prod/token:1"))["Value"] == "first"
        ssm.put("plain", "text", "String")
        assert (await get("plain", WithDecryption=False))["Value"] == "text"
        assert (await get("arn:aws:ssm:eu-west-1:123456789012:parameter/plain"))["Value"] == "text"


async def test_refused_parameters(client: aiohttp.ClientSession) -> None:
    async with Ssm(parameters={"/prod/token": "hush"}) as ssm:
        for name, error_type in (
            ("/prod/other", "ParameterNotFound"),
            ("arn:aws:ssm:eu-west-1:999999999999:parameter/prod/token", "ParameterNotFound"),
            ("/prod/token:2", "ParameterVersionNotFound"),
            ("/prod/token:label", "ParameterVersionNotFound"),
            ("prod/token", "ValidationException"),
            ("/prod/to ken", "ValidationException"),
            ("", "ValidationException"),
            (None, "ValidationException"),
            (7, "SerializationException"),
        ):
            assert await error(client, ssm, "GetParameter", {"Name": name}) == error_type
        wrong = {"Name": "/prod/token", "WithDecryption": "yes"}
        assert await error(client, ssm, "GetParameter", wrong) == "SerializationException"
        ssm.delete("/prod/token")
        assert await error(client, ssm, "GetParameter", {"Name": "/prod/token"}) == "ParameterNotFound"
        with pytest.raises(ValueError, match="no name"):
            ssm.put("with space", "x")


async def test_secrets(client: aiohttp.ClientSession) -> None:
    async with SecretsManager(secrets={"prod/token": "first", "binary": b"\x00\xff"}) as secrets:

        async def get(**members: Any) -> Any:
            status, body = await call(client, secrets, "GetSecretValue", members)
            assert status == 200
            return body

        arn = secrets.secret_arn("prod/token")
        first = await get(SecretId="prod/token")
        assert (first["SecretString"], first["ARN"], first["VersionStages"]) == ("first", arn, ["AWSCURRENT"])
        assert (await get(SecretId="binary"))["SecretBinary"] == "AP8="
        assert secrets.put("prod/token", "second") == arn
        assert (await get(SecretId=arn))["SecretString"] == "second"
        assert (await get(SecretId=arn[:-7]))["SecretString"] == "second"
        previous = await get(SecretId=arn, VersionStage="AWSPREVIOUS")
        assert (previous["SecretString"], previous["VersionId"]) == ("first", first["VersionId"])
        assert (await get(SecretId=arn, VersionId=first["VersionId"]))["SecretString"] == "first"
        secrets.put("prod/token", "third")
        assert (await get(SecretId=arn, VersionId=first["VersionId"]))["VersionStages"] == []


async def test_refused_secrets(client: aiohttp.ClientSession) -> None:
    async with SecretsManager(secrets={"token": "hush"}) as secrets:
        arn = secrets.secret_arn("token")
        for members, error_type in (
            ({"SecretId": "other"}, "ResourceNotFoundException"),
            ({"SecretId": arn.replace("123456789012", "999999999999")}, "ResourceNotFoundException"),
            ({"SecretId": arn[:-1]}, "ResourceNotFoundException"),
            ({"SecretId": "token", "VersionStage": "AWSPREVIOUS"}, "ResourceNotFoundException"),
            ({"SecretId": "token", "VersionId": "0" * 32}, "ResourceNotFoundException"),
            ({"SecretId": ""}, "InvalidParameterException"),
            ({}, "InvalidParameterException"),
        ):
            assert await error(client, secrets, "GetSecretValue", members) == error_type
        secrets.delete("token")
        assert await error(client, secrets, "GetSecretValue", {"SecretId": "token"}) == "InvalidRequestException"
        with pytest.raises(ValueError, match="no name"):
            secrets.put("with space", "x")


def test_values_are_in_no_repr() -> None:
    ssm, secrets = Ssm(parameters={"/a": "hush"}), SecretsManager(secrets={"a": "hush"})
    assert "hush" not in f"{vars(ssm)!r} {vars(secrets)!r}"
