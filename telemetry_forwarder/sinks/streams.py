"""What the sinks for Amazon's streams have in common: settings, lines packed into records, an answer for each record.

Both take AWS JSON 1.1: the operation is a header, and a record's data is base64. Neither parts records at line ends,
and both bill a short record as a longer one. So lines share a record, up to a size, and each ends in a line feed.
Sources: Amazon Data Firehose API Reference, PutRecordBatch, and its quotas; Amazon Kinesis Data Streams API Reference,
PutRecords; the services' models; read 2026-11-28.
"""

from binascii import b2a_base64
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from telemetry_forwarder.aws_regions import host_in
from telemetry_forwarder.interfaces import Batch, Delivered, HttpRequest, HttpResponse, Partial, Retry, Verdict
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.sinks.aws_services import Target, object_in, refused
from telemetry_forwarder.sinks.http_answers import not_theirs, taken_unread
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.wording import Value, arn_parts, only

MOST_RECORDS = 500  # in one call, of either service
# With lines packed into records of at least this size, what fits in one call never makes more records than that.
LEAST_PACKED_BYTES = 16_384
MIB = 1_048_576
# Lines in one call. Both services take more, but to put it in base64 and to sign it blocks the event loop, 5 ms for
# each MiB; ten times as long where a function has a small share of a processor.
MOST_BYTES = 2 * MIB

# The pause before what a stream has not taken is sent again, while it takes the rest.
_PAUSE_S = 0.1

# A record of a stream: its partition key, and the indices of the lines in it.
Group: TypeAlias = tuple[str, list[int]]


class StreamName(Value):
    """A stream: its name, its ARN if that was given, and the region in it."""

    def __init__(self, name: str, arn: "str | None" = None, region: "str | None" = None) -> None:
        self.name = name
        self.arn = arn
        self.region = region


class Stream:
    """The name of a stream of `service`, or its ARN, in which `kind` stands before the name."""

    label = "name"

    def __init__(self, service: str, kind: str, longest: int) -> None:
        self.service = service
        self.kind = kind
        self.longest = longest
        arn = f"arn:aws:{service}:REGION:ACCOUNT:{kind}/NAME"
        self.allowed = f"1 to {longest} of letters, digits, `_`, `-`, `.`, or the ARN `{arn}`"

    def read(self, text: str) -> StreamName:
        if not text.startswith("arn:"):
            return StreamName(self._name(text))
        parts = arn_parts(text, self.service)
        kind, _, name = parts[5].partition("/") if len(parts) == 6 else ("", "", "")
        if kind != self.kind:
            raise ValueError(self.allowed)
        return StreamName(self._name(name), text, parts[3])

    def _name(self, text: str) -> str:
        if not 1 <= len(text) <= self.longest or not only(text, "_-."):
            raise ValueError(self.allowed)
        return text


def url_of(values: Values, service: str, region: str) -> str:
    """Return the address of `service`: what its `AWS_ENDPOINT_URL_…` says, else that of the region."""
    given = values[f"AWS_ENDPOINT_URL_{service.upper()}"]
    return f"{given}/" if given else f"https://{host_in(service, region)}/"


def grouped(batch: Batch, key_of: Callable[[Record], str], most_bytes: int) -> list[Group]:
    """Return the records that carry `batch`: lines of one key share one, in order, up to `most_bytes`.

    A line longer than that has a record of its own.
    """
    groups: list[Group] = []
    filling: dict[str, tuple[list[int], int]] = {}  # the last record of each other key
    current: str | None = None
    members: list[int] | None = None
    total = 0
    for index, encoded in enumerate(batch):
        key = key_of(encoded.record)
        if key != current:
            if current is not None and members is not None:
                filling[current] = members, total
            members, total = filling.get(key, (None, 0))
            current = key
        total += len(encoded.data) + 1
        if members is None or total > most_bytes:
            members, total = [], len(encoded.data) + 1
            groups.append((key, members))
        members.append(index)
    return groups


def data_of(batch: Batch, members: Iterable[int]) -> bytes:
    """Return the lines of a record in base64."""
    return b2a_base64(b"\n".join([batch[index].data for index in members]) + b"\n", newline=False)


def request_of(url: str, target: str, stream: bytes, records: list[bytes]) -> HttpRequest:
    """Return the request that puts `records`, JSON objects, into the stream that the member `stream` names."""
    records[0] = b'{%b,"Records":[%b' % (stream, records[0])
    records[-1] += b"]}"
    return HttpRequest(
        url=url,
        body=b",".join(records),  # the only copy of it all
        headers={"content-type": "application/x-amz-json-1.1", "x-amz-target": target},
    )


def read_answer(
    batch: Batch, response: HttpResponse, target: Target, names: tuple[str, str], groups: Callable[[], list[Group]]
) -> Verdict:
    """Return what an answer means. `names` are the members with the count of failures and with the answers.

    A 200 may say that records failed; the answers come in the order of the records, so they tell which lines did.
    """
    if (taken := taken_unread(response)) is not None:
        return taken
    if response.status != 200:
        return refused(response, target)
    members = object_in(response.body) or {}
    failed, answers = (members.get(name) for name in names)
    if type(failed) is not int or not isinstance(answers, list):
        return not_theirs(response, target.advice)
    errors = [_error_in(answer) for answer in answers]
    if not failed and not any(errors):
        return Delivered()
    sent = groups()
    if len(errors) != len(sent) or not any(errors):
        return Retry(detail=f"{failed} records failed, and the answer does not tell which")
    lines = [index for error, (_, found) in zip(errors, sent, strict=True) if error for index in found]
    why = ", ".join(dict.fromkeys(filter(None, errors)))
    detail = f"{sum(map(bool, errors))} of {len(errors)} records failed: {why}"
    if len(lines) == len(batch):
        return Retry(detail=detail)
    return Partial(retry=tuple(sorted(lines)), after=_PAUSE_S, detail=detail)


def _error_in(answer: Any) -> str:
    """Return the type of the error in the answer for one record; "" if it was taken."""
    code = answer.get("ErrorCode") if isinstance(answer, dict) else "no answer"
    return "".join(letter for letter in str(code)[:80] if letter.isalnum()) or "unknown" if code else ""


def most_lines(record_bytes: int) -> int:
    """Return how many lines may go in one call, so that they never make more records than it takes."""
    return 10_000 if record_bytes >= LEAST_PACKED_BYTES else MOST_RECORDS


def one_key(record: Record) -> str:
    """Return the same key for every record."""
    return ""
