"""The sink for objects in S3: each batch becomes one object of JSON lines, compressed, in partitions in Hive's form.

The key of an object follows from what is in it. So a batch that is sent again makes no second object: S3 is asked to
create the object only if there is none (If-None-Match), and answers 412 where an earlier attempt did.
Sources, read 2026-11-28: Amazon S3 API Reference, PutObject and "Error responses"; User Guide, "How to prevent object
overwrites with conditional writes" and "Creating object key names"; Amazon Athena User Guide, "Partition your data".
"""

import re
from _blake2 import blake2b  # not from `hashlib`, which loads OpenSSL's library
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import quote

from msgspec import Struct

from telemetry_forwarder.aws_regions import host_in
from telemetry_forwarder.interfaces import (
    Batch,
    Delivered,
    Denied,
    Destination,
    DropReason,
    Encoded,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
    Retry,
    Signing,
    Verdict,
)
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.sinks.aws_services import Target, refusal_in, refused, region_of, wait_asked_for
from telemetry_forwarder.sinks.http_answers import not_theirs, taken_unread
from telemetry_forwarder.sinks.json_lines import encode_line, encode_lines
from telemetry_forwarder.variables.failover_target import FailoverTarget, S3Prefix
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import Variable
from telemetry_forwarder.variables.types import OneOf, Region, Url

# S3 takes 5 GB; this is what is held in memory, and lost if it does not get through before the environment ends.
LIMITS = Limits(max_records=50_000, max_bytes=8 * 1024 * 1024, max_record_bytes=1_000_000, overhead_bytes=1)


class Bucket:
    """A bucket and the prefix of the keys in it."""

    label = "address"
    allowed = "`s3://BUCKET[/PREFIX]`"

    def read(self, text: str) -> S3Prefix:
        found = FailoverTarget().read(text)
        if not isinstance(found, S3Prefix):
            raise ValueError(self.allowed)
        return found


TOPIC = "Objects in S3"
VARIABLES = (
    Variable("S3_LOGS_URI", Bucket(), None, "Bucket that gets the objects, and the beginning of their keys", "s3"),
    Variable("S3_LOGS_REGION", Region(), None, "Region of the bucket; unset: the function's", "s3"),
    Variable(
        "S3_LOGS_CONTENT_ENCODING", OneOf("none", "gzip"), "none",
        "What an object says of itself. `none`: it is a file in gzip, as Athena and most tools expect. `gzip`: it is "
        "JSON lines with that Content-Encoding, so that browsers and HTTP clients unpack it without being asked",
        "s3",
    ),
    Variable(
        "AWS_ENDPOINT_URL_S3", Url(), None, "Another endpoint, as for every AWS SDK; there the bucket is in the path",
        "s3",
    ),
)  # fmt: skip
NEEDS = (("S3_LOGS_URI",),)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")
_REGION = re.compile(rb"<Region>([a-z0-9-]{1,40})</Region>")
_ALREADY_THERE = "PreconditionFailed"
_ELSEWHERE = ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint")


class S3(Struct, frozen=True, kw_only=True):
    """Put each batch into an object of its own. `url` leads to the bucket."""

    name: ClassVar[str] = "s3"
    limits: ClassVar[Limits] = LIMITS

    url: str
    bucket: S3Prefix
    region: str
    headers: tuple[tuple[str, str], ...]

    def encode(self, record: Record) -> Encoded:
        """Return the record as one line; a record that is too large becomes its text, cut. Raises EncodeError."""
        return encode_line(record, LIMITS.max_record_bytes)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return the same as `encode` for each of `records`, in a third of the time for lines. Raises EncodeError."""
        return encode_lines(records, LIMITS.max_record_bytes)

    def request(self, batch: Batch) -> HttpRequest:
        """Return the request that creates the object for `batch`; a transport compresses its body."""
        body = b"\n".join([encoded.data for encoded in batch]) + b"\n"
        key = object_key(self.bucket.prefix, batch, body)
        return HttpRequest(
            method="PUT", url=f"{self.url}/{quote(key, safe='/~')}", body=body, headers=dict(self.headers)
        )

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        """Return what a response means: S3 takes an object as a whole."""
        if (taken := taken_unread(response)) is not None:
            return taken
        if response.status == 200:
            return Delivered() if response.headers.get("etag") else not_theirs(response, self._target.advice)
        refusal = refusal_in(response)
        if refusal is None:
            return refused(response, self._target)
        if refusal.error == _ALREADY_THERE:
            return Delivered()
        if response.status in (307, 409):  # a new bucket that is not known everywhere yet; another attempt under way
            return Retry(after=wait_asked_for(response.headers), detail=refusal.given)
        if refusal.error in _ELSEWHERE:
            return Denied(f"{refusal.given}: {self._elsewhere(response)}", DropReason.WRONG_ADDRESS)
        return refused(response, self._target)

    def _elsewhere(self, response: HttpResponse) -> str:
        found = _REGION.search(response.body[:4096])
        region = response.headers.get("x-amz-bucket-region", "")[:40] or (found[1].decode() if found else "")
        where = f"in {region}" if region else "in another region"
        return f"bucket {self.bucket.name} is {where}, not in {self.region}; set S3_LOGS_REGION to its region"

    @property
    def _target(self) -> Target:
        return Target(
            service="S3",
            it=f"bucket {self.bucket.name} in {self.region}",
            named_by="S3_LOGS_URI",
            region_by="S3_LOGS_REGION",
            actions="s3:PutObject",
            endpoint="AWS_ENDPOINT_URL_S3",
        )


def object_key(prefix: str, batch: Batch, body: bytes) -> str:
    """Return `PREFIX/function=…/year=…/month=…/day=…/hour=…/TIME-ENVIRONMENT-DIGEST.ndjson.gz`.

    The hour (UTC) and TIME (in ms) are those of the first record. The environment's name is that of the last one,
    because the first may not know it yet. The digest is that of `body`, so equal batches have equal keys.
    """
    first, origin = batch[0].record, batch[-1].record.origin
    hour = _EPOCH + timedelta(milliseconds=first.time_ms)
    environment = _part(re.split(r"[/\]]", origin.instance_id or "")[-1])
    digest = blake2b(body, digest_size=12).hexdigest()
    parts = (
        prefix,
        f"function={_part(origin.function_name)}",
        f"year={hour.year:04}",
        f"month={hour.month:02}",
        f"day={hour.day:02}",
        f"hour={hour.hour:02}",
        f"{first.time_ms}-{environment}-{digest}.ndjson.gz",
    )
    return "/".join(part for part in parts if part)


def _part(name: str) -> str:
    """Return `name` as a valid part of a key: unusual characters become `-`."""
    return _UNUSUAL.sub("-", name)[:100].strip(".") or "unknown"


def create(values: Values) -> Destination[HttpRequest, HttpResponse]:
    """Make the sink from the `S3_LOGS_…` variables. Raises ConfigError if there is no region."""
    bucket = values["S3_LOGS_URI"]
    region = region_of(values, "S3_LOGS_REGION", None, "s3")
    endpoint, host = values["AWS_ENDPOINT_URL_S3"], host_in("s3", region)
    if endpoint:
        url = f"{endpoint}/{bucket.name}"
    elif "." in bucket.name:  # no certificate is for such a name below S3's
        url = f"https://{host}/{bucket.name}"
    else:
        url = f"https://{bucket.name}.{host}"
    is_encoding = values["S3_LOGS_CONTENT_ENCODING"] == "gzip"
    kind = {"content-type": "application/x-ndjson", "content-encoding": "gzip"}
    headers = {**(kind if is_encoding else {"content-type": "application/gzip"}), "if-none-match": "*"}
    sink: Any = S3(url=url, bucket=bucket, region=region, headers=tuple(headers.items()))
    return Destination(sink=sink, delivery=HttpDelivery(url=url, signing=Signing("s3", region), is_file=True))
