"""The replay function on many workers: each record of many objects arrives, whatever ends the workers."""

import asyncio
import gzip
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus

import pytest

from local_backends import Answer, Slow, SplunkHec, Throttle
from telemetry_forwarder.failover.parcels import pack_objects, to_line
from telemetry_forwarder.failover.s3_sqs import open_store
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.replay.batch import TAG
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.variables.failover_target import S3Prefix, SqsQueue
from tests.builders import record

from .aws_service import REGION
from .event_source import EventSource, Worker, killing
from .one_step_moto import running
from .places import KEYS, client, keys, make_bucket, place_at, put

VISIBILITY_S = 23
TIMEOUT_S = 20.0


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with running() as url:
        yield url


@dataclass
class World:
    """A bucket that tells a queue of its objects, a dead-letter queue, a bucket for the journal, and a Splunk."""

    url: str
    name: str
    queue: str
    dead: str
    splunk: SplunkHec
    s3: Any
    sqs: Any

    @property
    def environ(self) -> dict[str, str]:
        return {
            **KEYS,
            **place_at(self.url),
            "SPLUNK_HEC_URL": self.splunk.url,
            "SPLUNK_HEC_TOKEN": "hec-token",
            "TELEMETRY_FORWARDER_REPLAY_STATE": f"s3://{self.name}-state/journal",
        }

    @property
    def arrived(self) -> Counter[str]:
        return Counter(event.fields["record_id"] for event in self.splunk.events)

    async def keep(self, records: list[Record], max_bytes: int) -> int:
        """Store `records` as the failover does, in objects of `max_bytes` of lines; return how many."""
        async with open_store(S3Prefix(self.name, "kept"), Network(region=REGION)) as store:
            parcels = [packed.parcel for packed in pack_objects(records, max_bytes) if packed.parcel]
            for parcel in parcels:
                await store.put("splunk", parcel)
        return len(parcels)

    async def tags(self, key: str) -> list[dict[str, str]]:
        found: list[dict[str, str]] = (await self.s3.get_object_tagging(Bucket=self.name, Key=key))["TagSet"]
        return found

    def source(self, more: dict[str, str] | None = None, **options: Any) -> EventSource:
        environ = {**self.environ, **(more or {})}
        arn = f"arn:aws:sqs:{REGION}:123456789012:{self.name}"
        return EventSource(self.sqs, self.queue, arn, environ, timeout_s=TIMEOUT_S, **options)

    async def dead_letters(self) -> list[str]:
        answer = await self.sqs.receive_message(QueueUrl=self.dead, MaxNumberOfMessages=10)
        return [message["Body"] for message in answer.get("Messages", ())]


@asynccontextmanager
async def a_world(moto: str, name: str, monkeypatch: pytest.MonkeyPatch, receives: int = 30) -> AsyncIterator[World]:
    for variable, value in {**KEYS, **place_at(moto)}.items():
        monkeypatch.setenv(variable, value)
    async with client("s3", moto) as s3, client("sqs", moto) as sqs, SplunkHec(token="hec-token") as splunk:
        await make_bucket(moto, name)
        await make_bucket(moto, f"{name}-state")
        dead = (await sqs.create_queue(QueueName=f"{name}-dead"))["QueueUrl"]
        policy = {"deadLetterTargetArn": f"arn:aws:sqs:{REGION}:123456789012:{name}-dead", "maxReceiveCount": receives}
        attributes = {"VisibilityTimeout": str(VISIBILITY_S), "RedrivePolicy": json.dumps(policy)}
        queue = (await sqs.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]
        rule = {
            "QueueArn": f"arn:aws:sqs:{REGION}:123456789012:{name}",
            "Events": ["s3:ObjectCreated:*"],
            "Filter": {"Key": {"FilterRules": [{"Name": "prefix", "Value": "kept/"}]}},
        }
        await s3.put_bucket_notification_configuration(
            Bucket=name, NotificationConfiguration={"QueueConfigurations": [rule]}
        )
        yield World(moto, name, queue, dead, splunk, s3, sqs)


@pytest.mark.timeout(300)
async def test_each_of_100_000_records_arrives_while_a_worker_is_killed_every_second(
    moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """20 workers, a sink that throttles and answers late; a quarter of the objects is notified twice.

    A worker that is killed has had one request at most whose answer was not noted: that many records come again, with
    the id that they had.
    """
    wanted = {f"r{number:06}" for number in range(100_000)}
    async with a_world(moto, "many", monkeypatch) as w:
        await w.keep([record(f"line {one}", id=one) for one in sorted(wanted)], 100_000)
        objects = await keys(w.url, "many")
        for key in objects[::4]:
            await w.sqs.send_message(QueueUrl=w.queue, MessageBody=json.dumps(event_of("many", key)))
        w.splunk.faults.always(Slow(0.3))
        source = w.source(concurrency=20, batch_size=2)
        async with killing(source, 1.0), throttling(w.splunk):
            await source.run()
        assert source.killed > 0, "else the test shows nothing"
        assert not source.errors
        assert set(w.arrived) == wanted
        repeated = sum(times - 1 for times in w.arrived.values())
        assert repeated <= source.killed * max(len(seen.stored) for seen in w.splunk.requests)
        assert await source.left() == (0, 0)
        assert await w.dead_letters() == []
        assert all([await w.tags(key) == [TAG] for key in objects])


async def test_each_message_has_the_outcome_that_is_right_for_it(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be sent is in the dead-letter queue, and still in the bucket; all else is done."""
    async with a_world(moto, "mixed", monkeypatch, receives=2) as w:
        await w.keep([record(id=f"good{number}") for number in range(10)], 100_000)
        (good,) = await keys(w.url, "mixed")
        await w.keep([record(id="lost")], 100_000)
        (gone,) = set(await keys(w.url, "mixed")) - {good}
        await w.s3.delete_object(Bucket="mixed", Key=gone)
        folder = "kept/f/splunk/2026/11/28/"
        torn, alien = f"{folder}i-{'0' * 32}.ndjson.gz", f"{folder}i-{'1' * 32}.ndjson.gz"
        other = f"kept/f/datadog/2026/11/28/i-{'2' * 32}.ndjson.gz"
        lines = b"".join(map(to_line, [record(id="sound1"), record(id="sound2")]))
        objects = {
            torn: gzip.compress(lines)[:-9],
            alien: gzip.compress(lines + b"not ours\n"),
            other: gzip.compress(lines),
            "kept/read me+it.txt": b"hello",
        }
        await put(w.url, "mixed", objects)
        async with open_store(SqsQueue(w.queue), Network(region=REGION)) as store:
            (packed,) = pack_objects([record(id=f"direct{number}") for number in range(5)])
            assert packed.parcel is not None
            await store.put("splunk", packed.parcel)
        for body in ("{}", "no JSON"):
            await w.sqs.send_message(QueueUrl=w.queue, MessageBody=body)
        await w.source(concurrency=2).run()
        assert w.arrived == Counter(
            [*(f"good{n}" for n in range(10)), *(f"direct{n}" for n in range(5)), "sound1", "sound2"]
        )
        dead = await w.dead_letters()
        for key in (torn, alien, other):
            assert sum(quote_plus(key) in body for body in dead) == 1, key
        assert {body for body in dead if "Records" not in body} == {"{}", "no JSON"}
        assert len(dead) == 5
        assert set(await keys(w.url, "mixed")) == {good, *objects}
        assert await w.tags(good) == [TAG]
        assert [await w.tags(key) for key in objects] == [[]] * 4


@pytest.mark.parametrize("when_done", ["delete", "keep"])
async def test_finished_objects_are_as_the_user_wants(
    moto: str, monkeypatch: pytest.MonkeyPatch, when_done: str
) -> None:
    async with a_world(moto, f"end-{when_done}", monkeypatch) as w:
        await w.keep([record(id="r1")], 100_000)
        found = await keys(w.url, w.name)
        await w.source(concurrency=1, more={"TELEMETRY_FORWARDER_REPLAY_WHEN_DONE": when_done}).run()
        assert w.arrived == {"r1": 1}
        assert await keys(w.url, w.name) == ([] if when_done == "delete" else found)
        assert await w.tags(found[0]) == [] if when_done == "keep" else True


async def test_sink_that_is_down_loses_nothing_and_is_delivered_to_when_it_is_back(
    moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_world(moto, "down", monkeypatch) as w:
        await w.keep([record(id=f"r{number}") for number in range(10)], 100_000)
        (key,) = await keys(w.url, "down")
        event = {"Records": [message_of(event_of("down", key))]}
        w.splunk.faults.always(Answer(503))
        with one_worker(w.environ) as worker:
            answer = await asyncio.to_thread(worker.invoke, event, 6.0, "first")
            assert answer == {"result": {"batchItemFailures": [{"itemIdentifier": "m1"}]}}
            assert await w.tags(key) == []
            w.splunk.faults.clear()
            answer = await asyncio.to_thread(worker.invoke, event, 6.0, "second")
            assert answer == {"result": {"batchItemFailures": []}}
        assert w.arrived == Counter(f"r{number}" for number in range(10))
        assert await w.tags(key) == [TAG]


async def test_batch_of_step_functions_raises_until_all_is_done(moto: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error's name is what the state machine retries, or does not; what was sent is not sent again."""
    async with a_world(moto, "batches", monkeypatch) as w:
        await w.keep([record("x" * 50, id=f"r{number}") for number in range(100)], 5_000)
        found = await keys(w.url, "batches")
        batch = {"BatchInput": {"Bucket": "batches"}, "Items": [{"Key": key, "Size": 1} for key in found]}
        with one_worker(w.environ) as worker:
            w.splunk.faults.always(Answer(503))
            answer = await asyncio.to_thread(worker.invoke, batch, 6.0, "first")
            assert answer["error"].startswith(
                f"ReplayUnfinished: {len(found)} of {len(found)} objects; the first is s3://"
            )
            w.splunk.faults.clear()
            for request_id in ("second", "third"):
                answer = await asyncio.to_thread(worker.invoke, batch, 20.0, request_id)
                assert answer == {"result": {"Objects": len(found), "Done": len(found)}}
            await put(w.url, "batches", {found[0].replace("/splunk/", "/datadog/"): b""})
            batch["Items"].append({"Key": found[0].replace("/splunk/", "/datadog/")})
            answer = await asyncio.to_thread(worker.invoke, batch, 20.0, "fourth")
            assert answer["error"].startswith(f"ReplayImpossible: 1 of {len(found) + 1} objects")
            answer = await asyncio.to_thread(worker.invoke, {"hello": 1}, 20.0, "fifth")
            assert answer["error"].startswith("NotUnderstood: The event is an object with the members hello.")
        assert w.arrived == Counter(f"r{number}" for number in range(100))


async def test_credential_that_is_a_reference_is_read_once_for_many_invocations(
    moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template gives no others."""
    async with a_world(moto, "referred", monkeypatch) as w, client("secretsmanager", moto) as secrets:
        arn = (await secrets.create_secret(Name="hec", SecretString="hec-token"))["ARN"]
        environ = {name: value for name, value in w.environ.items() if name != "SPLUNK_HEC_TOKEN"}
        environ |= {"SPLUNK_HEC_TOKEN_SECRET_ARN": arn, "AWS_ENDPOINT_URL_SECRETS_MANAGER": moto}
        with one_worker(environ) as worker:
            for number in range(2):
                await w.keep([record(id=f"r{number}")], 100_000)
                (key,) = [key for key in await keys(moto, "referred") if not await w.tags(key)]
                event = {"Records": [message_of(event_of("referred", key))]}
                answer = await asyncio.to_thread(worker.invoke, event, 20.0, f"{number}")
                assert answer == {"result": {"batchItemFailures": []}}
                await secrets.update_secret(SecretId="hec", SecretString="not asked for again")
        assert w.arrived == {"r0": 1, "r1": 1}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            {"TELEMETRY_FORWARDER_REPLAY_STATE": ""},
            "TELEMETRY_FORWARDER_REPLAY_STATE is not set; allowed: `s3://BUCKET",
        ),
        ({"TELEMETRY_FORWARDER_REPLAY_STATE": "s3//x"}, "TELEMETRY_FORWARDER_REPLAY_STATE is 's3//x'; allowed: `s3://"),
        ({"TELEMETRY_FORWARDER_REPLAY_WHEN_DONE": "burn"}, "WHEN_DONE is 'burn'; allowed: `tag`, `delete`, `keep`."),
        ({"TELEMETRY_FORWARDER_REPLAY_STATE": "s3://no-such-bucket"}, None),
    ],
)
async def test_wrong_setting_is_named_and_no_message_is_lost(
    moto: str, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], said: str | None
) -> None:
    name = f"wrong-{abs(hash(str(wrong))) % 10**8}"
    async with a_world(moto, name, monkeypatch) as w:
        event = {"Records": [message_of(event_of(name, f"kept/f/splunk/2026/11/28/i-{'0' * 32}.ndjson.gz"))]}
        with one_worker({**w.environ, **wrong}) as worker:
            answer = await asyncio.to_thread(worker.invoke, event, 20.0, "first")
        if said is None:
            assert answer == {"result": {"batchItemFailures": [{"itemIdentifier": "m1"}]}}
        else:
            assert answer["error"].startswith("ConfigError: ")
            assert said in answer["error"]


def event_of(bucket: str, key: str) -> dict[str, Any]:
    s3 = {"bucket": {"name": bucket}, "object": {"key": quote_plus(key), "size": 1, "versionId": "v1"}}
    return {"Records": [{"eventSource": "aws:s3", "eventVersion": "2.5", "eventName": "ObjectCreated:Put", "s3": s3}]}


def message_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return a message of SQS as a function gets it; its receipt is known to nobody."""
    arn = f"arn:aws:sqs:{REGION}:123456789012:nowhere"
    return {
        "messageId": "m1",
        "receiptHandle": "r",
        "body": json.dumps(body),
        "attributes": {"ApproximateReceiveCount": "1"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
    }


@contextmanager
def one_worker(environ: dict[str, str]) -> Iterator[Worker]:
    worker = Worker(environ)
    try:
        yield worker
    finally:
        worker.end()


@asynccontextmanager
async def throttling(splunk: SplunkHec) -> AsyncIterator[None]:
    """In this block, one request in four is throttled."""

    async def throttle() -> None:
        while True:
            if not splunk.faults.pending:
                splunk.faults.script(Slow(0.3, times=3), Throttle(retry_after=0.5))
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(throttle())
        try:
            yield
        finally:
            task.cancel()
