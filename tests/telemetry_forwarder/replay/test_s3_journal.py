"""Of any number of workers one has a parcel at a time, and the next one knows what was sent."""

import asyncio
import io
import random
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from telemetry_forwarder.failover.parcels import NotReadable
from telemetry_forwarder.replay.journal import InUse, JournalError
from telemetry_forwarder.replay.s3_journal import S3Journal
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from telemetry_forwarder.variables.failover_target import S3Prefix
from tests.builders import ManualClock

TO = "splunk https://splunk.example:8088"
PLACE = S3Prefix("state", "journal")


class Body(io.BytesIO):
    async def __aenter__(self) -> "Body":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def read(self) -> bytes:  # type: ignore[override]
        return super().read()


class Bucket:
    """S3's conditional writes, in memory: each call takes some time, and is one step."""

    meta = SimpleNamespace(endpoint_url="https://s3.example")

    def __init__(self, **script: list[Any]) -> None:
        self.objects: dict[str, tuple[str, bytes]] = {}
        self.puts = 0
        self.script = script  # for each operation: an exception before it, or "lost" for an answer that is lost

    async def put_object(self, Key: str, Body: bytes, **more: Any) -> Any:
        what = await self._begin("put_object")
        there = self.objects.get(Key)
        if ("IfNoneMatch" in more and there) or ("IfMatch" in more and there and there[0] != more["IfMatch"]):
            raise refused("PreconditionFailed", 412)
        if "IfMatch" in more and not there:
            raise refused("NoSuchKey", 404)
        self.puts += 1
        self.objects[Key] = (f'"{self.puts}"', Body)
        if what == "lost":  # the SDK sends it again, and the condition fails
            raise refused("PreconditionFailed", 412)
        return {"ETag": self.objects[Key][0], "ResponseMetadata": {"HTTPStatusCode": 200}}

    async def get_object(self, Key: str, **_: Any) -> Any:
        await self._begin("get_object")
        etag, data = self.objects[Key]
        return {"ETag": etag, "Body": Body(data), "ResponseMetadata": {"HTTPStatusCode": 200}}

    async def _begin(self, operation: str) -> Any:
        await asyncio.sleep(random.random())
        what = self.script[operation].pop(0) if self.script.get(operation) else None
        if isinstance(what, Exception):
            raise what
        return what


def refused(code: str, status: int) -> ClientError:
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutObject")


def journal(bucket: Bucket, by: str, clock: ManualClock, *, to: str = TO, time_s: float = 60.0) -> S3Journal:
    return S3Journal(bucket, PLACE, to, by=by, ends_at=clock.time() + time_s, clock=clock)


@in_virtual_time
async def test_of_twenty_workers_one_has_a_parcel() -> None:
    bucket, clock = Bucket(), ManualClock()

    async def claim(number: int) -> bool:
        try:
            await journal(bucket, f"w{number}", clock).open("d")
        except InUse as error:
            return not 0 < error.seconds <= 62
        return True

    for _ in range(5):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(claim(number)) for number in range(20)]
        assert sum(task.result() for task in tasks) == 1
        clock.pass_by(63)  # the claim of the last worker is over, since it did not give it back


@in_virtual_time
async def test_what_a_killed_worker_had_noted_is_known_to_the_next() -> None:
    bucket, clock = Bucket(), ManualClock()
    first = journal(bucket, "first", clock)
    await first.open("d")
    first.note_sent("d", [0, 1, 2, 7])
    await first.save()
    first.note_sent("d", [8])  # and it is killed before it is saved
    second = journal(bucket, "second", clock)
    with pytest.raises(InUse):
        await second.open("d")
    clock.pass_by(62.5)
    await second.open("d")
    assert second.sent("d") == {0, 1, 2, 7}
    assert not second.is_done("d")


@in_virtual_time
async def test_end_in_order_gives_the_parcel_back_at_once() -> None:
    bucket, clock = Bucket(), ManualClock()
    first = journal(bucket, "first", clock)
    await first.open("d")
    first.note_sent("d", [3])
    await first.release()
    second = journal(bucket, "second", clock)
    await second.open("d")
    assert second.sent("d") == {3}


@in_virtual_time
async def test_done_is_known_for_ever_and_needs_no_claim() -> None:
    bucket, clock = Bucket(), ManualClock()
    first = journal(bucket, "first", clock)
    await first.open("d")
    first.note_done("d")
    await first.save()
    puts = bucket.puts
    for number in range(3):
        again = journal(bucket, f"w{number}", clock)
        await again.open("d")
        assert again.is_done("d")
        await again.release()
    assert bucket.puts == puts


@in_virtual_time
async def test_each_destination_has_its_own() -> None:
    bucket, clock = Bucket(), ManualClock()
    await journal(bucket, "first", clock).open("d")
    await journal(bucket, "second", clock, to="splunk https://elsewhere.example").open("d")
    assert len(bucket.objects) == 2
    assert all(key.startswith("journal/splunk-") and key.endswith("/d.json") for key in bucket.objects)


@in_virtual_time
async def test_answer_that_is_lost_is_no_other_worker() -> None:
    bucket, clock = Bucket(put_object=["lost", None, "lost"]), ManualClock()
    one = journal(bucket, "one", clock)
    await one.open("d")
    one.note_sent("d", [1])
    await one.save()
    one.note_done("d")
    await one.save()
    other = journal(bucket, "other", clock)
    await other.open("d")
    assert other.is_done("d")


@in_virtual_time
async def test_worker_whose_claim_was_taken_is_told_and_overwrites_nothing() -> None:
    """Its clock is slow, or the environment was frozen over its end."""
    bucket, clock = Bucket(), ManualClock()
    first, second = journal(bucket, "first", clock), journal(bucket, "second", clock, time_s=600)
    await first.open("d")
    clock.pass_by(70)
    await second.open("d")
    second.note_sent("d", [5])
    await second.save()
    first.note_done("d")
    with pytest.raises(JournalError, match="was taken by another worker"):
        await first.save()
    clock.pass_by(600)
    third = journal(bucket, "third", clock)
    await third.open("d")
    assert (third.is_done("d"), third.sent("d")) == (False, {5})


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"v":2}', b'{"v":1,"to":"x","by":"y","until":0}', b'{"v":1,"sent":3}']
)
@in_virtual_time
async def test_object_that_is_no_journal_is_named_and_costs_its_parcel_alone(content: bytes) -> None:
    bucket, clock = Bucket(), ManualClock()
    one = journal(bucket, "one", clock)
    await one.open("d")
    (key,) = bucket.objects
    bucket.objects[key] = ('"x"', content)
    with pytest.raises(NotReadable, match="if it is deleted, the parcel is sent anew"):
        await journal(bucket, "two", clock).open("d")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (refused("AccessDenied", 403), "cannot be written: AccessDenied"),
        (refused("NoSuchBucket", 404), "cannot be written: NoSuchBucket"),
        (EndpointConnectionError(endpoint_url="https://s3.example"), "cannot be written: s3.example:443"),
    ],
)
@in_virtual_time
async def test_bucket_that_cannot_be_used_is_named(error: Exception, said: str) -> None:
    one = journal(Bucket(put_object=[error]), "one", ManualClock())
    with pytest.raises(JournalError, match=said) as raised:
        await one.open("d")
    assert str(raised.value).startswith("s3://state/journal/splunk-")
