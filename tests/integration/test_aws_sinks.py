"""Firehose, Kinesis and S3 on the whole road: a function on the local Lambda, the real executable, and what receives.

What receives is a strict local service, which can be told to fail, and moto, which others wrote.
"""

import gzip
import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from local_backends import (
    S3,
    Answer,
    Backend,
    FailRecords,
    Fault,
    Firehose,
    HalfAnswer,
    Kinesis,
    Reset,
    Throttle,
    TooLarge,
)
from tests.integration.world import NUMBERED, assert_balanced, world

from .aws_service import REGION, environment, moto

__all__ = ["environment", "moto"]
KINDS: dict[str, Callable[..., Any]] = {"firehose": Firehose, "kinesis": Kinesis}
each_kind = pytest.mark.parametrize("kind", KINDS)


def settings_of(kind: str, url: str, **more: str | None) -> dict[str, str | None]:
    return {
        "TELEMETRY_FORWARDER_SINKS": kind,
        f"{kind.upper()}_STREAM_NAME": "logs",
        f"AWS_ENDPOINT_URL_{kind.upper()}": url,
        "TELEMETRY_FORWARDER_FLUSH": "end",
        **more,
    }


def numbers(lines: list[dict[str, Any]]) -> Counter[int]:
    """Count how often each numbered line arrived."""
    found = Counter[int]()
    for line in lines:
        found.update(int(number) for number in NUMBERED.findall(str(line.get("message"))))
    return found


def values_in(backend: Any) -> list[dict[str, Any]]:
    return [line.value for line in backend.kept]


def assert_nothing_was_refused(backend: Backend) -> None:
    assert not [(one.operation, one.status) for one in backend.requests if one.fault is None and one.status != 200]


@each_kind
async def test_lines_events_and_what_is_known_arrive(kind: str) -> None:
    async with KINDS[kind]() as backend, world(environment=settings_of(kind, backend.url)) as w:
        first = await w.env.invoke({"lines": 30})
        second = await w.env.invoke({"first": 30, "lines": 2, "json": 1})
        await w.env.shutdown()
        assert_nothing_was_refused(backend)
        lines = values_in(backend)
        assert numbers(lines) == Counter(range(32))
        assert max(Counter(line["record_id"] for line in lines).values()) == 1
        reports = {line["request_id"]: line for line in lines if line["type"] == "platform.report"}
        assert reports.keys() == {first.request_id, second.request_id}
        assert reports[first.request_id]["message"].startswith(f"REPORT RequestId: {first.request_id}")
        assert [line["fields"]["number"] for line in lines if line.get("fields", {}).get("number") is not None] == [0]
        assert len({line["function_name"] for line in lines}) == 1
        assert len(backend.records) < len(lines) / 2  # lines share records
        (ledger,) = w.ledgers
        assert_balanced(ledger)
        if kind == "kinesis":
            of_request = [record.key for record in backend.records if first.request_id.encode() in record.data]
            assert first.request_id in of_request


@each_kind
@pytest.mark.parametrize(
    "faults",
    [
        [Answer(503, retry_after=0.1)], [Throttle(retry_after=0)], [Answer(500), Answer(500)], [Reset()], [TooLarge()],
        [Answer(400, code="ExpiredTokenException")],
    ],
    ids=str,
)  # fmt: skip
async def test_each_line_arrives_once_when_the_stream_is_unwell(kind: str, faults: list[Fault]) -> None:
    async with KINDS[kind]() as backend, world(environment=settings_of(kind, backend.url)) as w:
        backend.faults.script(*faults)
        assert (await w.env.invoke({"lines": 50})).status == "success"
        await w.env.shutdown()
        assert numbers(values_in(backend)) == Counter(range(50))
        (ledger,) = w.ledgers
        assert_balanced(ledger)
        assert ledger["sinks"][kind]["dropped"] == {}


@each_kind
@pytest.mark.parametrize("fault", [Reset(stored=True), HalfAnswer()], ids=str)
async def test_a_stored_call_without_an_answer_is_sent_again_and_the_id_tells(kind: str, fault: Fault) -> None:
    """A stream has no way to tell a repeated call; half an answer with the status is one."""
    async with KINDS[kind]() as backend, world(environment=settings_of(kind, backend.url)) as w:
        backend.faults.script(fault)
        await w.env.invoke({"lines": 20})
        await w.env.shutdown()
        lines = values_in(backend)
        assert set(numbers(lines)) == set(range(20))
        texts = {(line["record_id"], str(line)) for line in lines}
        assert len(texts) == len({line["record_id"] for line in lines})  # what came twice has one id, and is the same
        if isinstance(fault, HalfAnswer):
            assert max(Counter(line["record_id"] for line in lines).values()) == 1
        (ledger,) = w.ledgers
        assert_balanced(ledger)


@each_kind
async def test_of_a_call_that_was_taken_only_what_failed_is_sent_again(kind: str) -> None:
    """A 200 is no success of its own."""
    code = {"firehose": "ServiceUnavailableException", "kinesis": "ProvisionedThroughputExceededException"}[kind]
    given = settings_of(kind, "", **{f"{kind.upper()}_RECORD_BYTES": "0"})
    async with KINDS[kind]() as backend:
        given[f"AWS_ENDPOINT_URL_{kind.upper()}"] = backend.url
        async with world(environment=given) as w:
            backend.faults.script(FailRecords((1, 3), code), FailRecords(code=code))
            await w.env.invoke({"lines": 40})
            await w.env.shutdown()
            first, second, third = backend.calls[:3]
            failed = [first[1], first[3]]
            assert [record.data for record in second] == [record.data for record in failed]  # these alone, in order
            assert [record.data for record in third] == [record.data for record in failed]
            assert numbers(values_in(backend)) == Counter(range(40))
            (ledger,) = w.ledgers
            assert_balanced(ledger)


WRONG: list[tuple[str, dict[str, Any], list[str], str]] = [
    ("AccessDeniedException", {}, ["_STREAM_NAME", "to the function's role"], "unauthorized"),
    ("UnrecognizedClientException", {}, ["the credentials of the function's role"], "unauthorized"),
    ("", {"streams": ["other"]}, ["there is no", "_STREAM_NAME", "_REGION"], "wrong_address"),
]


@each_kind
@pytest.mark.parametrize(("refusal", "stream", "said", "reason"), WRONG)
async def test_what_is_wrong_is_told_once_with_its_variable(
    kind: str, refusal: str, stream: dict[str, Any], said: list[str], reason: str
) -> None:
    async with KINDS[kind](**stream) as backend, world(environment=settings_of(kind, backend.url)) as w:
        backend.credential_error = refusal or None
        await w.env.invoke({"lines": 3})
        await w.env.shutdown()
        warned = [line["message"] for line in w.said if line["level"] == "WARN" and line["message"] != "ledger"]
        assert len(warned) == 1
        assert all(part in warned[0] for part in said)
        (ledger,) = w.ledgers
        assert set(ledger["sinks"][kind]["dropped"]) == {reason}
        assert not backend.kept


@each_kind
async def test_something_else_that_answers_200_is_no_success(kind: str) -> None:
    """Here Firehose answers for Kinesis and the other way round."""
    other = {"firehose": Kinesis, "kinesis": Firehose}[kind]
    async with other() as backend, world(environment=settings_of(kind, backend.url)) as w:
        await w.env.invoke({"lines": 3})
        await w.env.shutdown()
        (ledger,) = w.ledgers
        assert ledger["sinks"][kind]["delivered"] == 0


@each_kind
async def test_what_ends_in_splunk_is_what_its_event_endpoint_takes(kind: str) -> None:
    """Firehose sends the records one behind the other; here that is done for it, to a strict collector."""
    more = {f"{kind.upper()}_FORMAT": "hec", "SPLUNK_INDEX": "main"}
    async with KINDS[kind]() as backend, world(environment=settings_of(kind, backend.url, **more)) as w:
        await w.env.invoke({"lines": 30})
        await w.env.invoke({"first": 30, "lines": 2, "json": 1})
        await w.env.shutdown()
        body = b"".join(record.data for record in backend.records)
        headers = {"Authorization": "Splunk hec-token"}
        async with (
            aiohttp.ClientSession() as client,
            client.post(f"{w.splunk.url}/services/collector/event", data=body, headers=headers) as answer,
        ):
            assert (answer.status, await answer.json()) == (200, {"text": "Success", "code": 0})
        assert w.numbers("splunk") == Counter(range(32))
        assert len(w.splunk.events) == len(backend.lines)
        assert {event.index for event in w.splunk.events} == {"main"}


async def test_moto_takes_what_firehose_is_sent_into_an_object(moto: str, environment: None) -> None:
    async with get_session().create_client("s3", region_name=REGION, endpoint_url=moto) as s3:
        await s3.create_bucket(Bucket="kept-lines", CreateBucketConfiguration={"LocationConstraint": REGION})
        async with get_session().create_client("firehose", region_name=REGION, endpoint_url=moto) as firehose:
            place = {"RoleARN": "arn:aws:iam::123456789012:role/r", "BucketARN": "arn:aws:s3:::kept-lines"}
            await firehose.create_delivery_stream(DeliveryStreamName="logs", ExtendedS3DestinationConfiguration=place)
        await _invoke(settings_of("firehose", moto))
        listed = await s3.list_objects_v2(Bucket="kept-lines")
        bodies = []
        for one in listed["Contents"]:
            got = await s3.get_object(Bucket="kept-lines", Key=one["Key"])
            bodies.append(await got["Body"].read())
    lines = [json.loads(line) for body in bodies for line in body.splitlines()]
    assert numbers(lines) == Counter(range(40))


async def test_moto_takes_what_kinesis_is_sent_and_spreads_it(moto: str, environment: None) -> None:
    async with get_session().create_client("kinesis", region_name=REGION, endpoint_url=moto) as kinesis:
        await kinesis.create_stream(StreamName="logs", ShardCount=4)
        await _invoke(settings_of("kinesis", moto))
        lines, shards = [], 0
        for shard in (await kinesis.list_shards(StreamName="logs"))["Shards"]:
            start = await kinesis.get_shard_iterator(
                StreamName="logs", ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )
            found = (await kinesis.get_records(ShardIterator=start["ShardIterator"], Limit=1000))["Records"]
            shards += bool(found)
            lines += [json.loads(line) for record in found for line in record["Data"].splitlines()]
    assert numbers(lines) == Counter(range(40))
    assert shards > 1


async def _invoke(environment: dict[str, str | None]) -> None:
    """Write forty lines in eight invocations; all of them are delivered."""
    async with world(environment=environment, region=REGION) as w:
        for first in range(0, 40, 5):
            assert (await w.env.invoke({"first": first, "lines": 5})).status == "success"
        await w.env.shutdown()
        (ledger,) = w.ledgers
        assert_balanced(ledger)
        assert all(book["dropped"] == {} for book in ledger["sinks"].values())


# --- S3 -------------------------------------------------------------------------------------------------------------


def settings_of_s3(url: str, **more: str | None) -> dict[str, str | None]:
    return {
        "TELEMETRY_FORWARDER_SINKS": "s3",
        "S3_LOGS_URI": "s3://logs/all",
        "AWS_ENDPOINT_URL_S3": url,
        "TELEMETRY_FORWARDER_FLUSH": "end",
        **more,
    }


@pytest.mark.parametrize("encoding", ["none", "gzip"])
async def test_an_object_for_each_flush_in_its_partition(encoding: str) -> None:
    """The local S3 verifies the signature, of a body that was compressed before, and of keys with `=` in them."""
    async with S3() as s3, world(environment=settings_of_s3(s3.url, S3_LOGS_CONTENT_ENCODING=encoding)) as w:
        await w.env.invoke({"lines": 30})
        await w.env.invoke({"first": 30, "lines": 2})
        await w.env.shutdown()
        assert_nothing_was_refused(s3)
        assert numbers(values_in(s3)) == Counter(range(32))
        assert 2 <= len(s3.objects) <= 4
        for key, stored in s3.objects.items():
            assert PARTITION.fullmatch(key), key
            assert stored.headers["if-none-match"] == "*"
        assert [stored.headers.get("content-encoding") for stored in s3.objects.values()] == [
            {"none": None, "gzip": "gzip"}[encoding]
        ] * len(s3.objects)
        (ledger,) = w.ledgers
        assert_balanced(ledger)


PARTITION = re.compile(
    r"all/function=[\w-]+/year=\d{4}/month=\d\d/day=\d\d/hour=\d\d/\d{13}-[\w-]+-[0-9a-f]{24}\.ndjson\.gz"
)


@pytest.mark.parametrize(
    "faults",
    [
        [Throttle(retry_after=0)], [Answer(409)], [Answer(500)], [Reset()], [Reset(stored=True)],
        [Answer(500, stored=True)], [HalfAnswer()], [Answer(400, code="RequestTimeout")], [TooLarge()],
        [Answer(307, code="TemporaryRedirect")],
    ],
    ids=str,
)  # fmt: skip
async def test_each_line_is_in_one_object_whatever_happens(faults: list[Fault]) -> None:
    """Also when an object was stored and the answer was lost: the key of the next attempt is the same."""
    async with S3() as s3, world(environment=settings_of_s3(s3.url)) as w:
        s3.faults.script(*faults)
        await w.env.invoke({"lines": 50})
        await w.env.shutdown()
        assert numbers(values_in(s3)) == Counter(range(50))
        assert max(Counter(line["record_id"] for line in values_in(s3)).values()) == 1
        (ledger,) = w.ledgers
        assert_balanced(ledger)
        assert ledger["sinks"]["s3"]["dropped"] == {}


@pytest.mark.parametrize(
    ("given", "refusal", "said", "reason"),
    [
        ({"region": "eu-north-1"}, None, "is in eu-north-1, not in us-east-1; set S3_LOGS_REGION", "wrong_address"),
        ({"buckets": ["other"]}, None, "there is no bucket logs in us-east-1; check S3_LOGS_URI", "wrong_address"),
        ({}, "AccessDenied", "allow s3:PutObject on bucket logs", "unauthorized"),
        ({"secret": "another"}, None, "does not accept the credentials of the function's role", "unauthorized"),
    ],
)
async def test_what_is_wrong_with_a_bucket_is_told_once(
    given: dict[str, Any], refusal: str | None, said: str, reason: str
) -> None:
    async with S3(**given) as s3, world(environment=settings_of_s3(s3.url)) as w:
        s3.credential_error = refusal
        await w.env.invoke({"lines": 3})
        await w.env.shutdown()
        (warned,) = [line["message"] for line in w.said if line["level"] == "WARN" and line["message"] != "ledger"]
        assert said in warned
        (ledger,) = w.ledgers
        assert set(ledger["sinks"]["s3"]["dropped"]) == {reason}
        assert not s3.kept
        assert "local-secret-access-key" not in str(w.said)


async def test_moto_keeps_the_objects_and_refuses_a_second_one_of_a_key(moto: str, environment: None) -> None:
    async with get_session().create_client("s3", region_name=REGION, endpoint_url=moto) as s3:
        await s3.create_bucket(Bucket="logs", CreateBucketConfiguration={"LocationConstraint": REGION})
        await _invoke(settings_of_s3(moto))
        bodies = []
        for one in (await s3.list_objects_v2(Bucket="logs"))["Contents"]:
            got = await s3.get_object(Bucket="logs", Key=one["Key"])
            assert got["ContentType"] == "application/gzip"
            bodies.append(gzip.decompress(await got["Body"].read()))
        with pytest.raises(ClientError, match="PreconditionFailed"):
            await s3.put_object(Bucket="logs", Key=one["Key"], Body=b"x", IfNoneMatch="*")
    lines = [json.loads(line) for body in bodies for line in body.splitlines()]
    assert numbers(lines) == Counter(range(40))
