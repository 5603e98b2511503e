"""What no sink takes at the end: into S3 or SQS within the window, once; or counted and said, and never overrun."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import get_session

from telemetry_forwarder.emulator.backends import Answer, Hang
from telemetry_forwarder.failover import from_line, sink_and_digest, unpack
from telemetry_forwarder.records import Record

from .aws_service import REGION, moto
from .world import GROUP, NUMBERED, SINKS, World, assert_balanced, world

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
            found[one["Key"]] = [from_line(line) for line in unpack(data).splitlines()]
    return found


def variables(url: str, place: str) -> dict[str, str | None]:
    return {
        "TELEMETRY_FORWARDER_FAILOVER": place,
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ENDPOINT_URL_SQS": url,
        "AWS_REGION": REGION,
    }


def sink_of(key: str) -> str:
    told = sink_and_digest(key)
    assert told is not None, key
    return told[0]


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


async def replay(url: str, place: str, w: World[Any], tmp_path: Path, *options: str, to: str = "splunk") -> Any:
    """Run the command in a process of its own; return its exit code, its report and what it said."""
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "SPLUNK_HEC_URL": w.splunk.url,
        "SPLUNK_HEC_TOKEN": "hec-token",
        "DD_API_KEY": "dd-key",
        "DD_LOGS_CONFIG_LOGS_DD_URL": w.datadog.url,
        "CLOUDWATCH_LOG_GROUP": GROUP,
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": w.cloudwatch.url,
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ENDPOINT_URL_SQS": url,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "key",
    }
    command = [
        str(Path(sys.executable).with_name("telemetry-forwarder")),
        "replay",
        place,
        "--to",
        to,
        "--json",
        *options,
    ]
    process = await asyncio.create_subprocess_exec(
        *command, env=environ, cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, said = await process.communicate()
    return process.returncode, json.loads(out) if out else None, said.decode()


@pytest.mark.parametrize("fault", [Answer(503), Hang(None)], ids=["503", "hangs"])
async def test_records_of_a_dead_backend_are_in_s3_when_the_environment_is_gone(
    moto: str, fault: Any, tmp_path: Path
) -> None:
    bucket = f"kept-{type(fault).__name__.lower()}"
    await make_bucket(moto, bucket)
    async with world(timeout_s=6.0, environment=variables(moto, f"s3://{bucket}/logs/prod")) as w:
        w.splunk.faults.always(fault)
        for index in range(3):
            assert (await w.env.invoke({"first": index * 10, "lines": 10})).status == "success"
        end = await w.env.shutdown()
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
        w.splunk.faults.clear()
        place = f"s3://{bucket}/logs"
        code, report, said = await replay(moto, place, w, tmp_path)
        assert (code, said) == (0, "")
        assert report["ledger"]["delivered"] == report["ledger"]["offered"] == sinks["splunk"]["spilled"]
        assert w.numbers("splunk") == Counter(range(30))
        ids = [sorted(one["record_id"] for one in w.arrived(sink)) for sink in ("splunk", "datadog")]
        assert ids[0] == ids[1], "each once, under the id that it has elsewhere"
        code, report, _ = await replay(moto, place, w, tmp_path)
        assert (code, report["ledger"]["offered"]) == (0, 0), "a second replay sends nothing"
        assert w.numbers("splunk") == Counter(range(30))
