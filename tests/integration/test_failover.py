"""What no sink takes at the end: into S3 or SQS within the window, once; or counted and said, and never overrun."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiobotocore.session import get_session

from telemetry_forwarder.emulator.backends import Answer, Hang
from telemetry_forwarder.failover import from_line, sink_of, unpack
from telemetry_forwarder.records import Record

from .aws_service import REGION, moto
from .world import NUMBERED, SINKS, World, assert_balanced, world

__all__ = ["moto"]

KEYS = {"aws_access_key_id": "AKIDEXAMPLE", "aws_secret_access_key": "key"}


@asynccontextmanager
async def client(service: str, url: str) -> AsyncIterator[Any]:
    async with get_session().create_client(service, region_name=REGION, endpoint_url=url, **KEYS) as opened:
        yield opened


async def make_bucket(url: str, name: str) -> None:
    async with client("s3", url) as s3:
        await s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})


async def objects(url: str, bucket: str) -> dict[str, list[Record]]:
    """Return what is in a bucket, by key."""
    found = {}
    async with client("s3", url) as s3:
        for one in (await s3.list_objects_v2(Bucket=bucket)).get("Contents", []):
            data = await (await s3.get_object(Bucket=bucket, Key=one["Key"]))["Body"].read()
            found[one["Key"]] = [from_line(line) for line in unpack(data)]
    return found


def variables(url: str, place: str) -> dict[str, str | None]:
    return {
        "TELEMETRY_FORWARDER_FAILOVER": place,
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ENDPOINT_URL_SQS": url,
        "AWS_REGION": REGION,
    }


def numbers_in(kept: dict[str, list[Record]], sink: str) -> Counter[int]:
    texts = [str(one.body) for key, some in kept.items() if sink_of(key) == sink for one in some]
    return Counter(int(number) for text in texts for number in NUMBERED.findall(text))


def assert_ended_well(w: World[Any], end: Any) -> dict[str, Any]:
    """The process was not killed, left with 0 within the window, and its books balance."""
    extension = end.extensions["telemetry-forwarder"]
    assert not extension.killed
    assert extension.exit_code == 0
    assert end.seconds < 2.0
    (ledger,) = w.ledgers
    assert_balanced(ledger)
    sinks: dict[str, Any] = ledger["sinks"]
    return sinks


@pytest.mark.parametrize("fault", [Answer(503), Hang(None)], ids=["503", "hangs"])
async def test_records_of_a_dead_backend_are_in_s3_when_the_environment_is_gone(moto: str, fault: Any) -> None:
    bucket = f"kept-{type(fault).__name__.lower()}"
    await make_bucket(moto, bucket)
    async with world(timeout_s=6.0, environment=variables(moto, f"s3://{bucket}/logs/prod")) as w:
        w.splunk.faults.always(fault)
        for index in range(3):
            assert (await w.env.invoke({"first": index * 10, "lines": 10})).status == "success"
        end = await w.env.shutdown()
        print(end, w.said)
        sinks = assert_ended_well(w, end)
        kept = await objects(moto, bucket)
        assert sinks["splunk"]["spilled"] == sinks["splunk"]["offered"] == sum(map(len, kept.values()))
        assert sinks["splunk"]["dropped"] == {}
        assert {sink_of(key) for key in kept} == {"splunk"}
        assert all(key.startswith("logs/prod/local-function/splunk/20") for key in kept)
        assert numbers_in(kept, "splunk") == Counter(range(30))
        for other in set(SINKS) - {"splunk"}:
            assert w.numbers(other) == Counter(range(30))
            assert sinks[other]["spilled"] == 0
