"""The sink for Amazon Data Firehose: each batch becomes one PutRecordBatch, lines packed into its records.

Sources: Amazon Data Firehose API Reference, PutRecordBatch, and its quotas; the service's model; read 2026-11-28.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from msgspec import Struct

from telemetry_forwarder.interfaces import (
    Batch,
    Denied,
    Destination,
    DropReason,
    Encoded,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
    Signing,
    Verdict,
)
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.sinks.aws_services import Target, refusal_in, region_of
from telemetry_forwarder.sinks.line_formats import FORMATS, LineFormat, format_of
from telemetry_forwarder.sinks.streams import (
    MOST_BYTES,
    MOST_RECORDS,
    Group,
    Stream,
    data_of,
    grouped,
    most_lines,
    one_key,
    read_answer,
    request_of,
    url_of,
)
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import Variable
from telemetry_forwarder.variables.types import Integer, OneOf, Region, Url

_MOST_RECORD_BYTES = 1_024_000
_USUAL_RECORD_BYTES = 65_536

TOPIC = "Amazon Data Firehose"
VARIABLES = (
    Variable(
        "FIREHOSE_STREAM_NAME", Stream("firehose", "deliverystream", 64), None,
        "Delivery stream that takes records directly, or its ARN", "firehose",
    ),
    Variable("FIREHOSE_REGION", Region(), None, "Its region; unset: that of its ARN, or the function's", "firehose"),
    Variable(
        "FIREHOSE_FORMAT", OneOf(*FORMATS), "json",
        "What a line is: `json`, the same members for every line; `hec`, an event for Splunk's HEC with index, source "
        "and so on as SPLUNK_INDEX and its like say, for a stream that ends in Splunk",
        "firehose",
    ),
    Variable(
        "FIREHOSE_RECORD_BYTES", Integer(0, _MOST_RECORD_BYTES), _USUAL_RECORD_BYTES,
        "Bytes of lines that share a record of the stream, which bills 5 KB at least; 0: one line for each record, as "
        "a stream that ends in OpenSearch needs",
        "firehose",
    ),
    Variable("AWS_ENDPOINT_URL_FIREHOSE", Url(), None, "Another endpoint, as for every AWS SDK", "firehose"),
)  # fmt: skip
NEEDS = (("FIREHOSE_STREAM_NAME",),)

_NAMES = ("FailedPutCount", "RequestResponses")


class Firehose(Struct, frozen=True, kw_only=True):
    """Put lines into a delivery stream. `record_bytes` of them share a record."""

    name: ClassVar[str] = "firehose"

    url: str
    stream: str
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
        """Return the call that puts `batch`, in order."""
        records = [b'{"Data":"%b"}' % data_of(batch, members) for _, members in self._groups(batch)]
        stream = b'"DeliveryStreamName":"%b"' % self.stream.encode()
        return request_of(self.url, "Firehose_20150804.PutRecordBatch", stream, records)

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        """Return what a response means for `batch`: of a call that was taken, some records may have failed."""
        refusal = refusal_in(response)
        if refusal is not None and refusal.error == "InvalidSource":
            text = f"{refusal.given}: {self._target.it} reads from a Kinesis stream and takes nothing else; "
            return Denied(text + "use the sink kinesis, or check FIREHOSE_STREAM_NAME", DropReason.WRONG_ADDRESS)
        return read_answer(batch, response, self._target, _NAMES, lambda: self._groups(batch))

    def _groups(self, batch: Batch) -> list[Group]:
        return grouped(batch, one_key, self.record_bytes)

    @property
    def _target(self) -> Target:
        return Target(
            service="Amazon Data Firehose",
            it=f"delivery stream {self.stream} in {self.region}",
            named_by="FIREHOSE_STREAM_NAME",
            region_by="FIREHOSE_REGION",
            actions="firehose:PutRecordBatch",
            endpoint="AWS_ENDPOINT_URL_FIREHOSE",
        )


def create(values: Values) -> Destination[HttpRequest, HttpResponse]:
    """Make the sink from the `FIREHOSE_…` variables. Raises ConfigError if there is no region."""
    stream = values["FIREHOSE_STREAM_NAME"]
    region = region_of(values, "FIREHOSE_REGION", stream.region, "firehose")
    url = url_of(values, "firehose", region)
    record_bytes = values["FIREHOSE_RECORD_BYTES"]
    limits = Limits(
        max_records=most_lines(record_bytes),
        max_bytes=MOST_BYTES,  # a call may have 4 MiB, before or after base64: that is not said
        max_record_bytes=_MOST_RECORD_BYTES - 1,
        overhead_bytes=1,  # the line end
        framing_bytes=2 * MOST_RECORDS,  # base64 fills each record up to a multiple of three
    )
    line, problems = format_of(values["FIREHOSE_FORMAT"], limits.max_record_bytes, values)
    sink: Any = Firehose(
        url=url, stream=stream.name, region=region, format=line, record_bytes=record_bytes, limits=limits
    )
    return Destination(
        sink=sink,
        delivery=HttpDelivery(url=url, signing=Signing("firehose", region), gzip=False),
        problems=tuple(problems),
    )
