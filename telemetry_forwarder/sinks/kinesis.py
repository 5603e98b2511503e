"""The sink for Kinesis Data Streams: each batch becomes one PutRecords, the lines of a request packed into records.

The partition key of a record is the id of the request, so that its lines stay in order in one shard while requests
spread over all shards; what belongs to no request has the environment's name.
Sources: Amazon Kinesis Data Streams API Reference, PutRecords, and its quotas; the service's model; read 2026-11-28.
"""

from collections.abc import Sequence
from typing import Any, ClassVar
from zlib import crc32

from msgspec import Struct

from telemetry_forwarder.interfaces import (
    Batch,
    Destination,
    Encoded,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
    Signing,
    Verdict,
)
from telemetry_forwarder.records.lossless_json import json_part
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.sinks.aws_services import Target, region_of
from telemetry_forwarder.sinks.line_formats import FORMATS, LineFormat, format_of
from telemetry_forwarder.sinks.streams import (
    MIB,
    MOST_BYTES,
    MOST_RECORDS,
    Group,
    Stream,
    StreamName,
    data_of,
    grouped,
    most_lines,
    read_answer,
    request_of,
    url_of,
)
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import Variable
from telemetry_forwarder.variables.types import Integer, OneOf, Region, Url

_LONGEST_KEY = 256
# The keys count for the size of a call: this is what as many of them take as there are records.
_KEYS_BYTES = MOST_RECORDS * _LONGEST_KEY
_USUAL_RECORD_BYTES = 25_600  # what is billed as one unit
# Where a call has lines of more requests than it may have records: this many keys, which never make too many records.
_FEW_KEYS, _FEW_BYTES = 128, 262_144

TOPIC = "Kinesis Data Streams"
VARIABLES = (
    Variable("KINESIS_STREAM_NAME", Stream("kinesis", "stream", 128), None, "Stream, or its ARN", "kinesis"),
    Variable("KINESIS_REGION", Region(), None, "Its region; unset: that of its ARN, or the function's", "kinesis"),
    Variable(
        "KINESIS_FORMAT", OneOf(*FORMATS), "json",
        "What a line is: as FIREHOSE_FORMAT; `hec` for a stream that a Firehose reads which ends in Splunk", "kinesis",
    ),
    Variable(
        "KINESIS_RECORD_BYTES", Integer(0, MIB - _LONGEST_KEY), _USUAL_RECORD_BYTES,
        "Bytes of lines of one request that share a record of the stream; 0: one line for each record", "kinesis",
    ),
    Variable(
        "KINESIS_MAX_RECORD_MIB", Integer(1, 10), 1,
        "Size of a record up to which a line is sent uncut, in MiB. Streams take 10 since 2025; 1 is what every "
        "consumer can read",
        "kinesis",
    ),
    Variable("AWS_ENDPOINT_URL_KINESIS", Url(), None, "Another endpoint, as for every AWS SDK", "kinesis"),
)  # fmt: skip
NEEDS = (("KINESIS_STREAM_NAME",),)

_NAMES = ("FailedRecordCount", "Records")


class Kinesis(Struct, frozen=True, kw_only=True):
    """Put lines into a data stream. `record_bytes` of the lines of a request share a record."""

    name: ClassVar[str] = "kinesis"

    url: str
    stream: StreamName
    region: str
    format: LineFormat
    record_bytes: int
    limits: Limits

    def encode(self, record: Record) -> Encoded:
        """Return the record as one line; a record that is too large becomes its text, cut. Raises EncodeError."""
        return self.format.encode(record)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return the same as `encode` for each of `records`, in a third of the time for lines. Raises EncodeError."""
        return self.format.encode_all(records)

    def request(self, batch: Batch) -> HttpRequest:
        """Return the call that puts `batch`. The lines of a request are in order."""
        records = [
            b'{"Data":"%b","PartitionKey":%b}' % (data_of(batch, members), json_part(key))
            for key, members in self._groups(batch)
        ]
        name, given = ("StreamARN", self.stream.arn) if self.stream.arn else ("StreamName", self.stream.name)
        stream = b'"%b":%b' % (name.encode(), json_part(given))
        return request_of(self.url, "Kinesis_20131202.PutRecords", stream, records)

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        """Return what a response means for `batch`: of a call that was taken, some records may have failed."""
        return read_answer(batch, response, self._target, _NAMES, lambda: self._groups(batch))

    def _groups(self, batch: Batch) -> list[Group]:
        groups = grouped(batch, key_of, self.record_bytes)
        return groups if len(groups) <= MOST_RECORDS else grouped(batch, _coarse_key, _FEW_BYTES)

    @property
    def _target(self) -> Target:
        return Target(
            service="Kinesis",
            it=f"stream {self.stream.name} in {self.region}",
            named_by="KINESIS_STREAM_NAME",
            region_by="KINESIS_REGION",
            actions="kinesis:PutRecords",
            endpoint="AWS_ENDPOINT_URL_KINESIS",
        )


def key_of(record: Record) -> str:
    """Return the partition key for a record: the id of its request, else the name of its environment."""
    context = record.context
    key = context.request_id or context.origin.instance_id or context.origin.function_name
    return key[: _LONGEST_KEY // 4] or "none"  # the limit is one of characters, or of bytes: both hold


def _coarse_key(record: Record) -> str:
    """Return the same key for all records of a request, and one of a few for all of them."""
    return f"{crc32(key_of(record).encode('utf-8', 'replace')) % _FEW_KEYS:02x}"


def create(values: Values) -> Destination[HttpRequest, HttpResponse]:
    """Make the sink from the `KINESIS_…` variables. Raises ConfigError if there is no region."""
    stream = values["KINESIS_STREAM_NAME"]
    region = region_of(values, "KINESIS_REGION", stream.region, "kinesis")
    url = url_of(values, "kinesis", region)
    largest = values["KINESIS_MAX_RECORD_MIB"]
    record_bytes = values["KINESIS_RECORD_BYTES"]
    limits = Limits(
        max_records=most_lines(record_bytes),
        max_bytes=max(MOST_BYTES, largest * MIB),  # a call may have 5 MiB, or 10
        # At least one more byte than a line has: its end.
        max_record_bytes=largest * MIB - (_LONGEST_KEY if largest < 10 else _KEYS_BYTES) - 1,
        overhead_bytes=1,  # the line end
        framing_bytes=_KEYS_BYTES,
    )
    line, problems = format_of(values["KINESIS_FORMAT"], limits.max_record_bytes, values)
    sink: Any = Kinesis(url=url, stream=stream, region=region, format=line, record_bytes=record_bytes, limits=limits)
    return Destination(
        sink=sink,
        delivery=HttpDelivery(url=url, signing=Signing("kinesis", region), gzip=False),
        problems=tuple(problems),
    )
