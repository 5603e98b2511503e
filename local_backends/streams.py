"""Strict local Amazon Data Firehose and Kinesis Data Streams, as far as records are put into them.

Sources: the API references of PutRecordBatch and PutRecords, and the services' models in botocore; read 2026-11-28.
"""

import base64
import binascii
import hashlib
import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from local_backends.aws_json import AwsError, AwsJson, Members, Operation
from local_backends.faults import Fault, ServiceFault
from local_backends.server import Call

_STREAM_NAME = re.compile(r"[a-zA-Z0-9_.-]+")
_MOST_RECORDS = 500
_MIB = 1_048_576


@dataclass(frozen=True, slots=True)
class FailRecords(ServiceFault):
    """Take the call, but not its records at `indices` (None: none of them), which get the error `code`."""

    indices: tuple[int, ...] | None = None
    code: str = "InternalFailure"
    times: int | None = 1

    def hits(self, index: int) -> bool:
        return self.indices is None or index in self.indices


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One record of a stream, as it was put there."""

    data: bytes
    key: str = ""
    shard: int = 0


@dataclass(frozen=True, slots=True)
class StreamLine:
    """One line within a record: the JSON object in it, and the index of its record in `records`."""

    value: Mapping[str, Any]
    raw: bytes
    record: int


class _Streams(AwsJson):
    """What both have in common: streams by name, calls with up to 500 records, and an answer for each record.

    `strict` also refuses data that is not one JSON object on each line, each line with its end. `records` are what
    the streams took, in order, and `lines` what is in them.
    """

    own_faults: ClassVar[tuple[type, ...]] = (FailRecords,)
    wire_limit = 32 * _MIB

    def __init__(self, *, streams: Sequence[str] = ("logs",), strict: bool = True, **listen: Any) -> None:
        super().__init__(**listen)
        self.streams = set(streams)
        self.strict = strict
        self.records: list[StreamRecord] = []
        self.lines: list[StreamLine] = []
        self.calls: list[list[StreamRecord]] = []  # what each call brought, in order, taken or not

    @property
    def kept(self) -> Sequence[StreamLine]:
        return self.lines

    @abstractmethod
    def _record(self, given: Any) -> StreamRecord:
        """Return a record of a call. Raises AwsError if it is none."""

    def _records_in(self, given: Members) -> list[StreamRecord]:
        entries = given.get("Records")
        if not isinstance(entries, list):
            raise AwsError("SerializationException", "Records is not a list")
        if not 1 <= len(entries) <= _MOST_RECORDS:
            self.constraint("records", f"Member must have length between 1 and {_MOST_RECORDS}")
        found = [self._record(entry) for entry in entries]
        if self.strict:
            for record in found:
                self._lines_in(record)
        self.calls.append(found)
        return found

    def _data_of(self, given: Any) -> bytes:
        text = given.get("Data") if isinstance(given, dict) else None
        if not isinstance(text, str):
            raise AwsError("SerializationException", "Data is not a blob")
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            raise AwsError("SerializationException", "Data is not in base64") from None

    def _lines_in(self, record: StreamRecord) -> list[tuple[Mapping[str, Any], bytes]]:
        whole, end, rest = record.data.rpartition(b"\n")
        if not end or rest:
            self.invalid("(local) the data does not end in a line feed")
        found: list[tuple[Mapping[str, Any], bytes]] = []
        for line in whole.split(b"\n"):
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError:
                self.invalid("(local) a line is no JSON")
            if not isinstance(value, dict):
                self.invalid("(local) a line is no object")
            found.append((value, line))
        return found

    def _store(self, records: list[StreamRecord], fault: Fault | None) -> list[bool]:
        """Store what `fault` does not hit; return for each record whether it was."""
        taken = [not (isinstance(fault, FailRecords) and fault.hits(index)) for index in range(len(records))]
        for record, is_taken in zip(records, taken, strict=True):
            if is_taken:
                if self.strict:
                    self.lines += [StreamLine(*line, len(self.records)) for line in self._lines_in(record)]
                self.records.append(record)
        return taken

    def _missing(self, name: str) -> AwsError:
        return AwsError("ResourceNotFoundException", f"{name} under account {self.account} not found.")


class Firehose(_Streams):
    """Amazon Data Firehose: PutRecordBatch into `streams`. `sourced` are those that read from a Kinesis stream.

    Whether the 4 MiB of a call count the data before or after base64 is not documented; here they count it after.
    """

    target: ClassVar[str] = "Firehose_20150804"
    service: ClassVar[str] = "firehose"
    validation_error: ClassVar[str] = "InvalidArgumentException"
    deliveries: ClassVar[frozenset[str]] = frozenset({"PutRecordBatch"})

    def __init__(self, *, sourced: Sequence[str] = (), **more: Any) -> None:
        super().__init__(**more)
        self.sourced = set(sourced)

    def operations(self) -> Mapping[str, Operation]:
        return {"PutRecordBatch": self._put}

    def _record(self, given: Any) -> StreamRecord:
        data = self._data_of(given)
        if len(data) > 1_024_000:
            self.constraint("data", "Member must have length less than or equal to 1024000")
        return StreamRecord(data)

    def _put(self, given: Members, call: Call, fault: Fault | None) -> Members:
        name = self.text(given, "DeliveryStreamName", _STREAM_NAME, 64)
        records = self._records_in(given)
        if sum(4 * ((len(record.data) + 2) // 3) for record in records) > 4 * _MIB:
            self.invalid("Records size exceeds 4 MB limit")
        if name in self.sourced:
            raise AwsError("InvalidSourceException", "Only public PutRecord and PutRecordBatch from KinesisStream")
        if name not in self.streams:
            raise self._missing(f"Firehose {name}")
        taken = self._store(records, fault)
        code = fault.code if isinstance(fault, FailRecords) else ""
        failed = {"ErrorCode": code, "ErrorMessage": "as scripted"}
        answers = [{"RecordId": f"r{index}"} if one else failed for index, one in enumerate(taken)]
        return {"FailedPutCount": taken.count(False), "Encrypted": False, "RequestResponses": answers}


class Kinesis(_Streams):
    """Kinesis Data Streams: PutRecords into `streams`, each of `shards` shards.

    `is_large`: a record and a call may have 10 MiB, as since 2025; else 1 MiB and 5 MiB, as before.
    """

    target: ClassVar[str] = "Kinesis_20131202"
    service: ClassVar[str] = "kinesis"
    validation_error: ClassVar[str] = "InvalidArgumentException"
    deliveries: ClassVar[frozenset[str]] = frozenset({"PutRecords"})

    def __init__(self, *, shards: int = 4, is_large: bool = False, **more: Any) -> None:
        super().__init__(**more)
        self.shards = shards
        self._most_record, self._most_call = (10 * _MIB, 10 * _MIB) if is_large else (_MIB, 5 * _MIB)

    def operations(self) -> Mapping[str, Operation]:
        return {"PutRecords": self._put}

    def _record(self, given: Any) -> StreamRecord:
        data = self._data_of(given)
        key = given.get("PartitionKey")
        if not isinstance(key, str):
            self.constraint("partitionKey", "Member must not be null")
        if not 1 <= len(key) <= 256:
            self.constraint("partitionKey", "Member must have length between 1 and 256")
        if len(data) + len(key.encode()) > self._most_record:
            self.constraint("data", f"Member must have length less than or equal to {self._most_record}")
        place = int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest())
        return StreamRecord(data, key, place * self.shards >> 128)

    def _put(self, given: Members, call: Call, fault: Fault | None) -> Members:
        records = self._records_in(given)
        if sum(len(record.data) + len(record.key.encode()) for record in records) > self._most_call:
            self.invalid(f"Records size exceeds {self._most_call} bytes")
        name = self._stream_in(given)
        if name not in self.streams:
            raise self._missing(f"Stream {name}")
        taken = self._store(records, fault)
        code = fault.code if isinstance(fault, FailRecords) else ""
        answers: list[Members] = [
            {"SequenceNumber": f"{index}", "ShardId": f"shardId-{record.shard:012}"}
            if is_taken
            else {"ErrorCode": code, "ErrorMessage": "as scripted"}
            for index, (record, is_taken) in enumerate(zip(records, taken, strict=True))
        ]
        return {"FailedRecordCount": taken.count(False), "Records": answers}

    def _stream_in(self, given: Members) -> str:
        """Return the name of the stream, which is given itself or as an ARN. Raises AwsError without one."""
        arn = given.get("StreamARN")
        if arn is None:
            return self.text(given, "StreamName", _STREAM_NAME, 128)
        found = self.resource(arn) if isinstance(arn, str) else None
        if found is None or not found.startswith("stream/"):
            raise self._missing("Stream")
        return found.removeprefix("stream/")
