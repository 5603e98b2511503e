"""The local CloudWatch Logs refuses what the service refuses: raw requests over real sockets."""

import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from local_backends import (
    CloudWatchLogs,
    RejectEvents,
)
from tests.wire.aws_calls import DAY, GROUP, HOUR, NOW, NOW_MS, STREAM, batch, call, create, error


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def logs() -> AsyncIterator[CloudWatchLogs]:
    async with CloudWatchLogs(now=lambda: NOW, region="eu-west-1") as logs:
        yield logs


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
