"""The stores against moto, and against services that lose answers, refuse, hang or ask to come back later."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiobotocore.session import get_session

from telemetry_forwarder.clock import Deadline, SystemClock
from telemetry_forwarder.errors import ConfigError, FailoverError, TransportError
from telemetry_forwarder.failover.keeper import Failover
from telemetry_forwarder.failover.parcels import (
    Parcel,
    from_line,
    from_message,
    object_key,
    pack_messages,
    pack_objects,
    unpack,
)
from telemetry_forwarder.failover.s3_sqs import is_of_aws, loaded_session, open_store
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.transports.aws_session import QuickFiles
from telemetry_forwarder.variables.failover_target import S3Prefix, SqsQueue
from tests.builders import Lines, record, records

from .aws_service import REGION, environment, moto
from .sockets import Answer, Seen, hang, raw, says, serving

__all__ = ["environment", "moto"]

NETWORK = Network(region=REGION)
BUCKET = S3Prefix("kept", "logs")
FORBIDDEN = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
CONFLICT = b"<Error><Code>ConditionalRequestConflict</Code><Message>conflict</Message></Error>"


@pytest.fixture
def s3_at(environment: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda url: monkeypatch.setenv("AWS_ENDPOINT_URL_S3", url)


@pytest.fixture
def sqs_at(environment: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    return lambda url: monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", url)


def parcel_of(count: int, body: str = "hello") -> Parcel:
    (packed,) = pack_objects(records(count, body=body))
    assert packed.parcel is not None
    return packed.parcel


class StrictBucket:
    """Takes an object once, as S3 does with `If-None-Match: *`, and may lose the answer that says so."""

    def __init__(self, *lost: Answer) -> None:
        self.lost = list(lost)
        self.objects: dict[str, bytes] = {}
        self.refused = 0

    async def __call__(self, seen: Seen, writer: asyncio.StreamWriter) -> bool:
        method, path, _ = seen.line.split(" ")
        assert method == "PUT"
        assert seen.headers["if-none-match"] == "*"
        assert "credential=akidexample/" in seen.headers["authorization"].lower()
        if path in self.objects:
            self.refused += 1
            return await says(412, b"<Error><Code>PreconditionFailed</Code></Error>")(seen, writer)
        self.objects[path] = seen.body
        answer = self.lost.pop(0) if self.lost else says(200, b"", 'ETag: "x"')
        return await answer(seen, writer)


@asynccontextmanager
async def failover(place: Any, lines: Lines) -> AsyncIterator[Failover]:
    """The whole of it, loading included."""
    keeper = Failover(place, NETWORK, clock=SystemClock(), log=lines.log)
    async with asyncio.TaskGroup() as group:
        runner = group.create_task(keeper.run())
        try:
            yield keeper
        finally:
            runner.cancel()


def soon(seconds: float) -> Deadline:
    return Deadline(time.monotonic() + seconds)


async def test_moto_takes_an_object_once_and_a_second_time_is_no_error(moto: str, s3_at: Any) -> None:
    s3_at(moto)
    parcel = parcel_of(20)
    async with get_session().create_client("s3", region_name=REGION, endpoint_url=moto) as s3:
        await s3.create_bucket(Bucket="kept", CreateBucketConfiguration={"LocationConstraint": REGION})
        async with open_store(BUCKET, NETWORK) as store:
            await store.put("splunk", parcel)
            await store.put("splunk", parcel)
        (only,) = (await s3.list_objects_v2(Bucket="kept"))["Contents"]
        answer = await s3.get_object(Bucket="kept", Key=only["Key"])
        lines = unpack(await answer["Body"].read()).splitlines()
    assert only["Key"] == object_key("logs", "splunk", parcel)
    assert [from_line(line) for line in lines] == list(parcel.records)
    assert answer["Metadata"] == {"records": "20", "sink": "splunk"}


@pytest.mark.parametrize("lost", [raw(b""), says(500, b""), raw(b"HTTP/1.1 200 OK\r\nContent-Le")])
async def test_lost_answer_stores_nothing_twice(s3_at: Any, lost: Answer) -> None:
    bucket, lines = StrictBucket(lost), Lines()
    async with serving(bucket) as server:
        s3_at(server.url())
        async with failover(BUCKET, lines) as keeper:
            assert await keeper.store("splunk", records(5), soon(20)) == []
    assert len(bucket.objects) == 1
    assert bucket.refused == 1
    assert lines.said("5 records were not delivered and are kept", "WARN") == 1


@pytest.mark.parametrize("answer", [says(503, SLOW_DOWN), says(409, CONFLICT), says(429, b"")])
async def test_busy_bucket_is_asked_again(s3_at: Any, answer: Answer) -> None:
    script = [answer, answer]

    async def play(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        return await (script.pop(0) if script else says(200, b"", 'ETag: "x"'))(seen, writer)

    async with serving(play) as server:
        s3_at(server.url())
        async with failover(BUCKET, Lines()) as keeper:
            assert await keeper.store("splunk", records(2), soon(20)) == []
    assert len(server.requests) == 3


async def test_denied_bucket_is_one_clear_line_and_one_request(s3_at: Any) -> None:
    lines = Lines()
    async with serving(says(403, FORBIDDEN)) as server:
        s3_at(server.url())
        async with failover(BUCKET, lines) as keeper:
            some = records(2)
            assert await keeper.store("splunk", some, soon(20)) == some
    assert len(server.requests) == 1
    (line,) = lines.written
    assert line["level"] == "ERROR"
    assert (
        "s3://kept/logs: 2 records of sink splunk not stored: AccessDenied (HTTP 403); allow s3:Put" in line["message"]
    )


async def test_hanging_bucket_ends_at_the_deadline(s3_at: Any) -> None:
    lines = Lines()
    async with serving(hang) as server:
        s3_at(server.url())
        async with failover(BUCKET, lines) as keeper:
            keeper.warm()
            some = records(2)
            begun = time.monotonic()
            assert await keeper.store("splunk", some, soon(3)) == some
            assert time.monotonic() - begun < 3.5
    assert len(server.requests) >= 2, "half of the time for the first attempt"
    assert lines.said("not stored: no answer came in time", "ERROR") == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (says(404, b"<Error><Code>NoSuchBucket</Code></Error>"), "NoSuchBucket (HTTP 404); there is no such bucket"),
        (says(403, b"<Error><Code>InvalidAccessKeyId</Code></Error>"), "InvalidAccessKeyId (HTTP 403)"),
        (says(400, b"<html>proxy</html>"), "(HTTP 400)"),
    ],
)
async def test_refusals_say_what_is_wrong(s3_at: Any, answer: Answer, said: str) -> None:
    async with serving(answer) as server:
        s3_at(server.url())
        async with open_store(BUCKET, NETWORK) as store:
            with pytest.raises(FailoverError) as caught:
                await store.put("splunk", parcel_of(1))
    assert said in str(caught.value)
    assert not caught.value.may_pass


async def test_nobody_there_is_a_transport_error(s3_at: Any) -> None:
    s3_at("http://127.0.0.1:9")
    async with open_store(BUCKET, NETWORK) as store:
        with pytest.raises(TransportError, match=r"127\.0\.0\.1:9"):
            await store.put("splunk", parcel_of(1))


async def test_missing_credentials_are_said(s3_at: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    s3_at("http://127.0.0.1:9")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    async with open_store(BUCKET, NETWORK) as store:
        with pytest.raises(FailoverError, match="no AWS credentials"):
            await store.put("splunk", parcel_of(1))


@pytest.mark.parametrize(
    "place", [BUCKET, SqsQueue("https://sqs.eu-central-1.amazonaws.com/123456789012/kept", REGION)], ids=["s3", "sqs"]
)
async def test_client_is_made_on_the_loop_without_reading_a_file(
    environment: None, place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that takes long is done in a thread before: an event loop that stands still holds an invocation."""
    session = loaded_session(place)
    read: list[str] = []

    def load_file(self: QuickFiles, file_path: str) -> None:
        read.append(file_path)

    monkeypatch.setattr(QuickFiles, "load_file", load_file)
    async with open_store(place, NETWORK, lambda: session):
        assert read == []


async def test_endpoint_that_is_no_url_is_a_config_error(s3_at: Any) -> None:
    s3_at("nowhere")
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL_S3 is not what"):
        async with open_store(BUCKET, NETWORK):
            raise AssertionError


async def test_other_services_are_asked_by_path_whatever_their_hosts_name(s3_at: Any) -> None:
    """A name in place of an address, as of MinIO or LocalStack, has no host for each bucket."""
    bucket = StrictBucket()
    async with serving(bucket) as server:
        s3_at(f"http://localhost:{server.port}")
        async with open_store(BUCKET, NETWORK) as store:
            await store.put("splunk", parcel_of(1))
    (path,) = bucket.objects
    assert path.startswith("/kept/logs/orders-worker/splunk/")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://s3.eu-central-1.amazonaws.com", True),
        ("https://kept.s3.cn-north-1.amazonaws.com.cn", True),
        ("http://localhost:9000", False),
        ("https://amazonaws.com.example", False),
    ],
)
def test_own_hosts_of_aws_are_known(url: str, expected: bool) -> None:
    assert is_of_aws(url) is expected


async def make_queue(url: str, name: str, **attributes: str) -> str:
    async with get_session().create_client("sqs", region_name=REGION, endpoint_url=url) as sqs:
        made: str = (await sqs.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]
        return made


async def messages(url: str, queue: str) -> list[dict[str, Any]]:
    async with get_session().create_client("sqs", region_name=REGION, endpoint_url=url) as sqs:
        found: list[dict[str, Any]] = []
        options = {"MaxNumberOfMessages": 10, "MessageAttributeNames": ["All"], "AttributeNames": ["All"]}
        while some := (await sqs.receive_message(QueueUrl=queue, **options)).get("Messages"):
            found += some
        return found


async def test_queue_gets_messages_within_its_limit_that_hold_every_record(moto: str, sqs_at: Any) -> None:
    sqs_at(moto)
    url = await make_queue(moto, "kept")
    some = [
        record(f"{number} " + "".join(map(chr, range(0x4E00, 0x4E00 + 20_000))), id=f"r{number}")
        for number in range(40)
    ]
    async with failover(SqsQueue(url), Lines()) as keeper:
        assert await keeper.store("splunk", some, soon(30)) == []
    found = await messages(moto, url)
    assert all(len(one["Body"]) <= 262_144 - 4096 for one in found)
    read = [from_line(line) for one in found for line in unpack(from_message(one["Body"])).splitlines()]
    assert sorted(one.id for one in read) == sorted(one.id for one in some)
    attributes = found[0]["MessageAttributes"]
    assert {name: value["StringValue"] for name, value in attributes.items()} == {
        "sink": "splunk",
        "function": "orders-worker",
        "digest": attributes["digest"]["StringValue"],
        "encoding": "base64-gzip-ndjson",
        "records": attributes["records"]["StringValue"],
    }


async def test_fifo_queue_takes_the_same_message_once_for_each_sink(moto: str, sqs_at: Any) -> None:
    sqs_at(moto)
    url = await make_queue(moto, "kept.fifo", FifoQueue="true")
    (packed,) = pack_messages(records(3))
    assert packed.parcel is not None
    async with open_store(SqsQueue(url), NETWORK) as store:
        for sink in ("splunk", "splunk", "datadog", "datadog"):
            await store.put(sink, packed.parcel)
    found = await messages(moto, url)
    assert sorted(one["MessageAttributes"]["sink"]["StringValue"] for one in found) == ["datadog", "splunk"]
    ids = {one["Attributes"]["MessageDeduplicationId"] for one in found}
    assert ids == {f"{packed.parcel.digest}-splunk", f"{packed.parcel.digest}-datadog"}


async def test_missing_queue_is_said(moto: str, sqs_at: Any) -> None:
    sqs_at(moto)
    async with open_store(SqsQueue(f"{moto}/123456789012/nowhere"), NETWORK) as store:
        with pytest.raises(FailoverError, match="there is no such queue"):
            await store.put("splunk", parcel_of(1))
