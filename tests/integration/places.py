"""Buckets and queues of moto for the tests of the failover, and the command that reads them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiobotocore.session import get_session

from telemetry_forwarder.failover.parcels import from_line, sink_and_digest, unpack
from telemetry_forwarder.records.record import Record

from .aws_service import REGION
from .world import GROUP, World

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "key"}
COMMAND = str(Path(sys.executable).with_name("telemetry-forwarder"))


@asynccontextmanager
async def client(service: str, url: str) -> AsyncIterator[Any]:
    names = {name.lower(): value for name, value in KEYS.items()}
    async with get_session().create_client(service, region_name=REGION, endpoint_url=url, **names) as opened:
        yield opened


async def make_bucket(url: str, name: str) -> str:
    async with client("s3", url) as s3:
        await s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return name


async def make_queue(url: str, name: str) -> str:
    fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    async with client("sqs", url) as sqs:
        made: str = (await sqs.create_queue(QueueName=name, Attributes=fifo))["QueueUrl"]
        return made


async def put(url: str, bucket: str, objects: Mapping[str, bytes]) -> None:
    async with client("s3", url) as s3:
        for key, data in objects.items():
            await s3.put_object(Bucket=bucket, Key=key, Body=data)


async def keys(url: str, bucket: str) -> list[str]:
    async with client("s3", url) as s3:
        return [one["Key"] for one in (await s3.list_objects_v2(Bucket=bucket)).get("Contents", [])]


async def kept(url: str, bucket: str) -> dict[str, list[Record]]:
    """Return what is in a bucket, by key."""
    found = {}
    async with client("s3", url) as s3:
        for key in await keys(url, bucket):
            data = await (await s3.get_object(Bucket=bucket, Key=key))["Body"].read()
            found[key] = [from_line(line) for line in unpack(data).splitlines()]
    return found


def sink_of(key: str) -> str:
    told = sink_and_digest(key)
    assert told is not None, key
    return told[0]


def place_at(url: str) -> dict[str, str]:
    """Return the variables that lead the AWS SDK to `url`."""
    return {"AWS_ENDPOINT_URL_S3": url, "AWS_ENDPOINT_URL_SQS": url, "AWS_REGION": REGION}


def backends_of(w: World[Any]) -> dict[str, str]:
    """Return the variables that lead to the backends of a world."""
    return {
        "SPLUNK_HEC_URL": w.splunk.url,
        "SPLUNK_HEC_TOKEN": "hec-token",
        "DD_API_KEY": "dd-key",
        "DD_LOGS_CONFIG_LOGS_DD_URL": w.datadog.url,
        "CLOUDWATCH_LOG_GROUP": GROUP,
        "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": w.cloudwatch.url,
    }


@dataclass
class Ended:
    """What came of a replay: its exit code, its report (`--json`) and what it said on standard error."""

    code: int | None
    report: Any
    said: str

    @property
    def ledger(self) -> dict[str, Any]:
        found: dict[str, Any] = self.report["ledger"]
        return found


@asynccontextmanager
async def replaying(
    place: str, home: Path, environ: Mapping[str, str], *options: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command in a process of its own; killed at the end of the block if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(COMMAND, "replay", place, *options),
        env={"PATH": os.environ["PATH"], "HOME": str(home), **KEYS, **environ},
        cwd=home,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def ended(process: asyncio.subprocess.Process) -> Ended:
    async with asyncio.timeout(60):
        out, said = await process.communicate()
    return Ended(process.returncode, json.loads(out) if out.startswith(b"{") else out.decode(), said.decode())


async def replay(place: str, home: Path, environ: Mapping[str, str], *options: str, to: str = "splunk") -> Ended:
    """Run `telemetry-forwarder replay PLACE --to TO --json` to its end."""
    async with replaying(place, home, environ, "--to", to, "--json", *options) as process:
        return await ended(process)
