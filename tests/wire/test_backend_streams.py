"""The local Firehose and Kinesis refuse what the services refuse."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from local_backends import FailRecords, Firehose, Kinesis

from .aws_calls import call, error, signed

LINE = b'{"a":1}\n'
MIB = 1_048_576


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def line_of(size: int) -> bytes:
    return b'{"a":"%b"}\n' % (b"x" * (size - 9))


def batch(*data: bytes, stream: str = "logs", **more: Any) -> dict[str, Any]:
    records = [{"Data": base64.b64encode(one).decode(), **more} for one in data]
    return {"DeliveryStreamName": stream, "StreamName": stream, "Records": records}


OPERATIONS = {Firehose: "PutRecordBatch", Kinesis: "PutRecords"}
KEY = {"PartitionKey": "k"}
each_kind = pytest.mark.parametrize("kind", OPERATIONS, ids=lambda kind: kind.__name__)


@each_kind
async def test_it_takes_lines_and_tells_of_each_record(kind: Any, client: aiohttp.ClientSession) -> None:
    async with kind() as backend:
        status, body = await call(client, backend, OPERATIONS[kind], batch(LINE * 2, LINE, **KEY))
        assert status == 200
        count, answers = (
            ("FailedPutCount", "RequestResponses") if kind is Firehose else ("FailedRecordCount", "Records")
        )
        assert (body[count], len(body[answers])) == (0, 2)
        assert [(one.value, one.record) for one in backend.lines] == [({"a": 1}, 0), ({"a": 1}, 0), ({"a": 1}, 1)]
        assert len(backend.kept) == 3
        assert backend.requests[0].stored == range(3)


@each_kind
async def test_records_that_fail_are_not_stored(kind: Any, client: aiohttp.ClientSession) -> None:
    async with kind() as backend:
        backend.faults.script(FailRecords((1,), "ServiceUnavailableException"), FailRecords())
        one, other = line_of(20), line_of(30)
        _, body = await call(client, backend, OPERATIONS[kind], batch(one, other, **KEY))
        answers = body.get("RequestResponses") or body["Records"]
        assert [answer.get("ErrorCode") for answer in answers] == [None, "ServiceUnavailableException"]
        assert [record.data for record in backend.records] == [one]
        _, body = await call(client, backend, OPERATIONS[kind], batch(one, other, **KEY))
        assert len(backend.records) == 1
        assert len(backend.calls) == 2


@each_kind
@pytest.mark.parametrize(
    ("members", "expected"),
    [
        (batch(), "InvalidArgumentException"),
        (batch(*[LINE] * 501, **KEY), "InvalidArgumentException"),
        (batch(LINE, stream="nowhere", **KEY), "ResourceNotFoundException"),
        (batch(LINE, stream="a b", **KEY), "InvalidArgumentException"),
        (batch(line_of(MIB + 1), **KEY), "InvalidArgumentException"),
        (batch(*[line_of(999_999)] * 6, **KEY), "InvalidArgumentException"),
        (batch(LINE[:-1], **KEY), "InvalidArgumentException"),
        (batch(b"\n", **KEY), "InvalidArgumentException"),
        (batch(b"[1]\n", **KEY), "InvalidArgumentException"),
        ({**batch(LINE, **KEY), "Records": [{"Data": "?", "PartitionKey": "k"}]}, "SerializationException"),
        ({**batch(LINE, **KEY), "Records": [{"PartitionKey": "k"}]}, "SerializationException"),
        ({**batch(LINE, **KEY), "Records": {}}, "SerializationException"),
    ],
)
async def test_it_refuses(kind: Any, members: dict[str, Any], expected: str, client: aiohttp.ClientSession) -> None:
    async with kind() as backend:
        assert await error(client, backend, OPERATIONS[kind], members) == expected
        assert not backend.kept


async def test_limits_of_firehose(client: aiohttp.ClientSession) -> None:
    async with Firehose(sourced=["fed"]) as backend:
        for most in (batch(line_of(1_024_000)), batch(*[line_of(786_432)] * 4)):  # base64 of these is 4 MiB
            assert (await call(client, backend, "PutRecordBatch", most))[0] == 200
        for more in (batch(line_of(1_024_001)), batch(*[line_of(786_432)] * 4, LINE)):
            assert await error(client, backend, "PutRecordBatch", more) == "InvalidArgumentException"
        assert await error(client, backend, "PutRecordBatch", batch(LINE, stream="fed")) == "InvalidSourceException"


async def test_limits_of_kinesis(client: aiohttp.ClientSession) -> None:
    async with Kinesis() as old, Kinesis(is_large=True) as new:
        assert (await call(client, old, "PutRecords", batch(line_of(MIB - 1), **KEY)))[0] == 200
        large = batch(line_of(MIB), **KEY)  # and its key
        assert await error(client, old, "PutRecords", large) == "InvalidArgumentException"
        assert (await call(client, new, "PutRecords", large))[0] == 200
        for key in ("", "k" * 257):
            assert await error(client, old, "PutRecords", batch(LINE, PartitionKey=key)) == "InvalidArgumentException"
        assert await error(client, old, "PutRecords", batch(LINE)) == "InvalidArgumentException"


async def test_kinesis_by_arn_and_shards_by_key(client: aiohttp.ClientSession) -> None:
    async with Kinesis(shards=4) as backend:
        keys = [str(number) for number in range(64)]
        records = [{"Data": base64.b64encode(LINE).decode(), "PartitionKey": key} for key in keys]
        arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/logs"
        assert (await call(client, backend, "PutRecords", {"StreamARN": arn, "Records": records}))[0] == 200
        assert {record.shard for record in backend.records} == {0, 1, 2, 3}
        other = {"StreamARN": arn.replace("1234", "9999"), "Records": records}
        assert await error(client, backend, "PutRecords", other) == "ResourceNotFoundException"


@each_kind
async def test_it_checks_the_signature(kind: Any, client: aiohttp.ClientSession) -> None:
    async with kind() as backend:
        operation = OPERATIONS[kind]
        wrong = signed(backend, operation, **{f"/{backend.service}/": "/s3/"})
        assert (await call(client, backend, operation, batch(LINE, **KEY), wrong))[1][
            "__type"
        ] == "InvalidSignatureException"
        wrong = signed(backend, operation, X_Amz_Target=f"{backend.target}.Nothing")
        assert (await call(client, backend, operation, batch(LINE, **KEY), wrong))[1][
            "__type"
        ] == "UnknownOperationException"
