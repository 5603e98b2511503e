"""The Honeycomb sink: each batch becomes an array of events, sent to the batch endpoint of one dataset.

An event's data is flat, because Honeycomb makes columns of nothing else unless a dataset is told to: `order.id`,
`lambda.request_id`. Arrays are their JSON text.
Sources: Honeycomb's API reference (Events, Errors, Rate limits) and its Lambda extension, read 2026-11-28.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar
from urllib.parse import quote

import orjson
from msgspec import Struct

from telemetry_forwarder.errors import ConfigError, EncodeError
from telemetry_forwarder.interfaces import (
    Batch,
    Credential,
    Delivered,
    Denied,
    Destination,
    DropReason,
    Encoded,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
    Partial,
    Rejected,
    Retry,
    Verdict,
)
from telemetry_forwarder.otlp.values import flat
from telemetry_forwarder.records.lossless_json import clean, json_part
from telemetry_forwarder.records.record import Context, Record, json_ids
from telemetry_forwarder.sinks.credential import choose
from telemetry_forwarder.sinks.http_answers import (
    UNAVAILABLE,
    Advice,
    own_words,
    quoted,
    read_status,
    taken_unread,
    wait_seconds,
)
from telemetry_forwarder.sinks.json_objects import THOUSANDTHS, facts_of, rfc3339, second_text
from telemetry_forwarder.sinks.platform_lines import platform_text
from telemetry_forwarder.sinks.truncate import cut, text_of
from telemetry_forwarder.variables.reading import Values, missing
from telemetry_forwarder.variables.types import SecretArn, SecretText, SsmParameter, Url
from telemetry_forwarder.variables.variable import Variable
from telemetry_forwarder.variables.wording import Problem

TOPIC = "Honeycomb"


class _Dataset:
    """The name of a dataset. Source: Honeycomb's API reference, Events: anything but a slash."""

    label = "name"
    allowed = "1 to 255 printable characters without `/`"

    def read(self, text: str) -> str:
        if len(text) > 255 or not text.isprintable() or "/" in text or text in (".", ".."):
            raise ValueError(self.allowed)
        return text


_LIBHONEY = "As Honeycomb's own Lambda extension has it; used if {} is not set"
VARIABLES = (
    Variable("HONEYCOMB_API_KEY", SecretText(), None, "A key that may send events, best an ingest key", "honeycomb"),
    Variable("HONEYCOMB_API_KEY_SECRET_ARN", SecretArn(), None, "The key in Secrets Manager", "honeycomb"),
    Variable("HONEYCOMB_API_KEY_SSM_PARAMETER", SsmParameter(), None, "The key in SSM Parameter Store", "honeycomb"),
    Variable("LIBHONEY_API_KEY", SecretText(), None, _LIBHONEY.format("HONEYCOMB_API_KEY"), "honeycomb"),
    Variable("HONEYCOMB_DATASET", _Dataset(), None, "The dataset", "honeycomb"),
    Variable("LIBHONEY_DATASET", _Dataset(), None, _LIBHONEY.format("HONEYCOMB_DATASET"), "honeycomb"),
    Variable(
        "HONEYCOMB_API_ENDPOINT", Url(), None,
        "The API's address: `https://api.honeycomb.io` if unset, `https://api.eu1.honeycomb.io` in the EU", "honeycomb",
    ),
    Variable("LIBHONEY_API_HOST", Url(), None, _LIBHONEY.format("HONEYCOMB_API_ENDPOINT"), "honeycomb"),
)  # fmt: skip
_KEY = "HONEYCOMB_API_KEY"
NEEDS = (
    (_KEY, f"{_KEY}_SECRET_ARN", f"{_KEY}_SSM_PARAMETER", "LIBHONEY_API_KEY"),
    ("HONEYCOMB_DATASET", "LIBHONEY_DATASET"),
)

# A text of more than 64 KB is refused or cut; it is cut here, with a mark. All texts of a smaller event are shorter.
LONGEST_TEXT = 65_536
_MOST_BYTES_OF_A_LETTER = 6  # in JSON
_MOST_MEMBERS = 1_900  # of 2,000 that an event may have: the others are ours
LIMITS = Limits(
    max_records=10_000,  # ours: none is documented
    max_bytes=4_800_000,  # the limit is 5,000,000, before compression
    max_record_bytes=990_000,  # the limit of an event is 1 MB
    overhead_bytes=1,  # the comma
    framing_bytes=2,  # the brackets
)

ADVICE = Advice(
    who="Honeycomb",
    credential=f"that {_KEY} (or LIBHONEY_API_KEY) is a valid key of the region of HONEYCOMB_API_ENDPOINT",
    address="HONEYCOMB_API_ENDPOINT",
)
_RESET = re.compile(r"(?:^|[,;\s])reset=(\d{1,6})(?![\d.])", re.ASCII)
_SCALARS = frozenset({str, int, float, bool})
_TRACE = "trace.trace_id"  # by which Honeycomb joins events to traces


class Honeycomb(Struct, frozen=True, kw_only=True):
    """Send records as events of one dataset. `url` is complete."""

    name: ClassVar[str] = "honeycomb"
    limits: ClassVar[Limits] = LIMITS

    url: str
    dataset: str

    def encode(self, record: Record) -> Encoded:
        """Return the record as one event; texts that are too long are cut. Raises EncodeError.

        An event that is too large for all that becomes its text.
        """
        members, is_cut = _shortened(_members(record))
        data = _event(record, members, is_cut)
        if len(data) > LIMITS.max_record_bytes:
            members, is_cut = _shortened({"message": text_of(record)})
            data = _event(record, members, is_cut)
        if len(data) > LIMITS.max_record_bytes:
            raise EncodeError("no room for the record's text beside what is known about it")
        return Encoded(record, data, is_cut)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return the same as `encode` for each of `records`, faster for lines without nesting. Raises EncodeError."""
        found = []
        context = second = None
        for record, id in zip(records, json_ids(records), strict=True):
            if record.context is not context:
                context = record.context
                is_event = context.is_event
                known, ours = _known_behind_id(context)
            fields, body = record.fields, record.body
            if is_event or (fields is None and body.__class__ is not str) or fields == {}:
                found.append(self.encode(record))
                continue
            if fields is None:
                members = b'{"message":' + json_part(body)
            else:
                flat_ones = fields if {value.__class__ for value in fields.values()} <= _SCALARS else flat(fields)
                if not flat_ones or len(flat_ones) > _MOST_MEMBERS or not ours.isdisjoint(flat_ones):
                    found.append(self.encode(record))
                    continue
                members = json_part(flat_ones)[:-1]
            time_ms = record.time_ms
            if time_ms // 1000 != second:
                second = time_ms // 1000
                before = b'{"time":"' + second_text(second)
            data = b"".join((before, THOUSANDTHS[time_ms % 1000], b'"data":', members, _ID, id, known, b"}}"))
            found.append(Encoded(record, data) if len(data) <= LONGEST_TEXT else self.encode(record))
        return found

    def request(self, batch: Batch) -> HttpRequest:
        return HttpRequest(
            url=self.url,
            body=b"[" + b",".join(encoded.data for encoded in batch) + b"]",
            headers={"content-type": "application/json"},
        )

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        """Return what a response means for `batch`. A 200 has a status for each event, by position."""
        if (unread := taken_unread(response)) is not None:
            return unread
        status = response.status
        if status == 200 and (statuses := _statuses(response.body)) is not None:
            return _taken(len(batch), statuses)
        if status == 400:
            return Rejected("HTTP 400" + own_words(response.body))
        if status == 403:
            denied = (
                f"HTTP 403{own_words(response.body)}: the key may not send events, or the team is throttled; check "
            )
            return Denied(denied + ADVICE.credential)
        if status == 404:
            text = (
                f"HTTP 404{own_words(response.body)}: check HONEYCOMB_DATASET (LIBHONEY_DATASET) and {ADVICE.address}"
            )
            return Denied(text, DropReason.WRONG_ADDRESS)
        answer = read_status(response, ADVICE)
        if isinstance(answer, Retry):
            return Retry(after=_wait(response.headers), detail=answer.detail)
        return answer


# --- one event ------------------------------------------------------------------------------------------------------


def _members(record: Record) -> dict[str, Any]:
    """Return the members of a record, flat, without what is known about it."""
    if record.is_event:
        members = flat(record.body, "record.") if isinstance(record.body, Mapping) else {}
        if len(members) > _MOST_MEMBERS:
            members = {}
        line = platform_text(record.type, record.body)
        if line is None and not members:
            line = text_of(record)
        return members if line is None else {"message": line, **members}
    members = {} if record.fields is None else flat(record.fields)
    if not members or len(members) > _MOST_MEMBERS:
        return {"message": text_of(record)}
    ours = _known_behind_id(record.context)[1] - {_TRACE}
    return members if ours.isdisjoint(members) else _renamed(members, ours)


def _renamed(members: Mapping[str, Any], ours: frozenset[str]) -> dict[str, Any]:
    """Return members whose names yield to ours: `record.lambda.type`."""
    found: dict[str, Any] = {}
    for key, value in members.items():
        name = f"record.{key}" if key in ours else key
        while name in found or (name != key and name in members):
            name += "_"
        found[name] = value
    return found


def _shortened(members: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the members with texts that are no longer than Honeycomb takes, and whether one was cut."""
    found, is_cut = dict(members), False
    for key, value in members.items():
        if isinstance(value, str) and len(value) * _MOST_BYTES_OF_A_LETTER > LONGEST_TEXT:
            whole = clean(value)
            found[key] = cut(whole, LONGEST_TEXT)
            is_cut |= found[key] != whole
    return found, is_cut


def _event(record: Record, members: Mapping[str, Any], is_cut: bool) -> bytes:
    known, _ = _known_behind_id(record.context, _TRACE in members)
    time = rfc3339(record.time_ms).encode()
    end = b',"lambda.cut":true}}' if is_cut else b"}}"
    parts = (b'{"time":"', time, b'","data":', json_part(members)[:-1], _ID, json_part(record.id), known, end)
    return b"".join(parts)


_ID = b',"lambda.record_id":'


@lru_cache(maxsize=256)
def _known_behind_id(context: Context, has_trace: bool = False) -> tuple[bytes, frozenset[str]]:
    """Return what is known of a record as members behind its id, as JSON, and the names that are ours.

    A tag with several values has them as one text. `has_trace`: the record names a trace itself. Cached, because the
    records of an invocation have it in common.
    """
    found = {f"lambda.{key}": value for key, value in facts_of(context).items() if key != "tags"}
    for key, value in context.origin.tags:
        name = f"lambda.tags.{key}"
        found[name] = f"{found[name]},{value}" if name in found else value
    trace_id = found.pop("lambda.trace_id", None)
    if trace_id is not None and not has_trace:
        found[_TRACE] = trace_id
    return b"," + json_part(found)[1:-1], frozenset({"lambda.record_id", "lambda.cut", *found})


# --- answers --------------------------------------------------------------------------------------------------------


def _statuses(body: bytes) -> list[Mapping[str, Any]] | None:
    """Return the answers to the events of a batch; None if the body is none."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(answer, list) or not answer:
        return None
    return answer if all(isinstance(one, dict) and type(one.get("status")) is int for one in answer) else None


def _taken(count: int, statuses: list[Mapping[str, Any]]) -> Verdict:
    """Return the verdict for a 200: which events were refused for good, and which are to be sent again."""
    refused = [(index, one) for index, one in enumerate(statuses[:count]) if not 200 <= one["status"] < 300]
    if not refused:
        return Delivered()
    retry = tuple(index for index, one in refused if one["status"] in UNAVAILABLE or one["status"] >= 500)
    rejected = {index: DropReason.REJECTED for index, _ in refused if index not in set(retry)}
    first = refused[0][1]
    why = quoted(error) if isinstance(error := first.get("error"), str) else ""
    detail = f"HTTP 200: {len(refused)} of {count} events were refused, the first with {first['status']}{why}"
    if len(retry) == count:
        return Retry(detail=detail)
    return Partial(retry=retry, rejected=rejected, detail=detail)


def _wait(headers: Mapping[str, str]) -> float:
    """Return the wait that the answer asks for, in seconds: Retry-After, else the `reset` of RateLimit."""
    found = _RESET.search(headers.get("ratelimit", ""))
    return wait_seconds(headers, "retry-after") or (float(found[1]) if found else 0.0)


def create(values: Values) -> Destination[HttpRequest, HttpResponse]:
    """Make the sink from the `HONEYCOMB_…` and `LIBHONEY_…` variables. Raises ConfigError without a key or dataset."""
    problems: list[Problem] = []
    key = choose(_KEY, values, problems) or values["LIBHONEY_API_KEY"]
    dataset = values["HONEYCOMB_DATASET"] or values["LIBHONEY_DATASET"]
    if key is None:
        raise ConfigError(missing("honeycomb", values))
    base = values["HONEYCOMB_API_ENDPOINT"] or values["LIBHONEY_API_HOST"] or "https://api.honeycomb.io"
    sink = Honeycomb(url=f"{base}/1/batch/{quote(dataset, safe='')}", dataset=dataset)
    delivery = HttpDelivery(url=sink.url, credential=Credential(header="X-Honeycomb-Team", secret=key))
    return Destination(sink=sink, delivery=delivery, problems=tuple(problems))
