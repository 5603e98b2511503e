"""Records as lines of Loki's streams: JSON for `/loki/api/v1/push`, and how Loki answers.

A stream is what has the same labels, and each one costs Loki an index entry and chunks of its own. So labels are few
and the same in all environments of a function; what differs by request or environment is structured metadata.

Of two entries with the same time and text in a stream Loki keeps one. So each record has nanoseconds of its own inside
its millisecond, which follow from its id: equal lines survive, and a record that is sent again is stored once.
Source: Grafana Loki, HTTP API, and its source code of August 2026; read 2026-11-27.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar
from zlib import crc32

import orjson
from msgspec import Struct

from telemetry_forwarder.foreign import is_page
from telemetry_forwarder.interfaces import (
    Batch,
    Delivered,
    Denied,
    DropReason,
    Encoded,
    HttpRequest,
    HttpResponse,
    Limits,
    Partial,
    Retry,
    TooLarge,
    Verdict,
)
from telemetry_forwarder.otlp.values import flat
from telemetry_forwarder.records.lossless_json import clean, json_part
from telemetry_forwarder.records.record import Context, Record, json_ids
from telemetry_forwarder.sinks.http_answers import Advice, not_theirs, quoted, read_status, taken_unread, wait_seconds
from telemetry_forwarder.sinks.platform_lines import platform_text
from telemetry_forwarder.sinks.truncate import fit, grouped, present, text_of

PATH = "/loki/api/v1/push"
LABELS = ("service_name", "function_name", "env", "region", "source")

LIMITS = Limits(
    max_records=5_000,
    # Loki itself takes 100 MiB, but a tenant 6 MB at once and 4 MB/s, and what stands in front of it often 1 MB.
    max_bytes=1_000_000,
    max_record_bytes=262_144,  # of a line: `max_line_size`. So no line is over it, since its JSON is longer
    overhead_bytes=1,  # the comma
    framing_bytes=8_192,  # with the labels of some streams
)

# Loki takes 128 members and 64 KB of structured metadata with a line.
_MOST_MEMBERS, _LONGEST_MEMBER = 64, 1_024
_LONGEST_LABEL = 2_048
_MS_IN_NS, _FIRST_OF_BATCH = 1_000_000, 990_000  # a batch has at most 10,000 records


class Loki(Struct, frozen=True, kw_only=True, cache_hash=True):
    """Send records as lines. `url` has no path of Loki's; `labels` are added to those of every stream."""

    name: ClassVar[str] = "loki"
    limits: ClassVar[Limits] = LIMITS

    url: str
    labels: tuple[tuple[str, str], ...] = ()
    tenant: str | None = None
    advice: Advice

    def encode(self, record: Record) -> Encoded:
        """Return the record as an entry: time, line, metadata. A line that is too long is cut. Raises EncodeError."""
        text, more = _line(record)

        def with_text(text: str, is_cut: bool) -> bytes:
            return _entry(record, text, {"cut": "true"} if is_cut else {})

        return fit(record, _entry(record, text, more), LIMITS.max_record_bytes, with_text)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return the same as `encode` for each of `records`, in a third of the time for lines. Raises EncodeError."""
        found = []
        context = batch = None
        for record, id in zip(records, json_ids(records), strict=True):
            if record.context is not context:
                context = record.context
                known, is_event = _behind_id(context)
            if is_event:
                found.append(self.encode(record))
                continue
            if record.batch is not batch:
                batch = record.batch
                first = _first_ns(batch)
            body = record.body
            text = body if record.fields is None and body.__class__ is str else text_of(record)
            ns = record.time_ms * _MS_IN_NS + (first + (record.index or 0)) % _MS_IN_NS
            data = b"".join((b'["%d",' % ns, orjson.dumps(text), b',{"record_id":', id, known))
            found.append(Encoded(record, data) if len(data) <= LIMITS.max_record_bytes else self.encode(record))
        return found

    def request(self, batch: Batch) -> HttpRequest:
        streams: dict[bytes, list[bytes]] = {}
        context = None
        for encoded in batch:
            if encoded.record.context is not context:
                context = encoded.record.context
                lines = streams.setdefault(_stream(self, context), [])
            lines.append(encoded.data)
        parts = [b'{"stream":%b,"values":[%b]}' % (stream, b",".join(lines)) for stream, lines in streams.items()]
        headers = {"content-type": "application/json"}
        if self.tenant is not None:
            headers["X-Scope-OrgID"] = self.tenant
        return HttpRequest(url=f"{self.url}{PATH}", body=b'{"streams":[%b]}' % b",".join(parts), headers=headers)

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        """Return what a response means for `batch`, by its status and, where that says little, its text."""
        status = response.status
        said = "" if is_page(response.body, response.headers) else response.body[:16_384].decode("utf-8", "replace")
        if _BLOCKED in said or status == 260:  # that text may come with any status, 200 too
            return Denied(f"HTTP {status}: Loki stores nothing for this tenant{quoted(said)}; check LOKI_ORG_ID")
        if status == 204 or (status == 200 and not response.body and not response.headers.get("content-type")):
            return taken_unread(response) or Delivered()
        if 200 <= status < 300:
            return taken_unread(response) or not_theirs(response, self.advice)
        if status == 400:
            return self._refused(batch, response, said)
        if status == 429:
            return _throttled(batch, response, said)
        if status == 530:
            text = f"HTTP 530: there is no such host behind this address; check {self.advice.address}"
            return Denied(text, DropReason.WRONG_ADDRESS)
        return read_status(response, self.advice)

    def _refused(self, batch: Batch, response: HttpResponse, said: str) -> Verdict:
        """Return the verdict for a 400: some entries are invalid, and the others are stored; or the push is no push."""
        if "no org id" in said or "X-Scope-OrgID" in said:
            return Denied(f"HTTP 400: Loki wants to know the tenant{quoted(said)}; check LOKI_ORG_ID")
        reason = next((why for words, why in _INVALID.items() if words in said), None)
        if reason is None:
            return read_status(response, self.advice)
        return Partial(rejected=_which(batch, reason, said), detail=f"HTTP 400{quoted(said)}", is_final=True)


_BLOCKED = "ingestion blocked for user"
# What is said of entries that are invalid by themselves. The words are the beginnings of Loki's texts for them.
_INVALID = {
    "has timestamp too old": DropReason.TOO_OLD,
    "too far behind": DropReason.TOO_OLD,
    "has timestamp too new": DropReason.TOO_NEW,
    "max entry size": DropReason.OVERSIZE,
    "structured metadata": DropReason.REJECTED,
    "label pair is required": DropReason.REJECTED,
    "error parsing labels": DropReason.REJECTED,
    "label names; limit": DropReason.REJECTED,
    "label name too long": DropReason.REJECTED,
    "label value too long": DropReason.REJECTED,
    "duplicate label name": DropReason.REJECTED,
    "missing required labels": DropReason.REJECTED,
    "out of order": DropReason.TOO_OLD,
}
_COUNTS = re.compile(r"(\d{1,9}) errors like|total ignored: (\d{1,9}) out of")
_AMOUNT = re.compile(r"limit: (\d{1,15}) bytes/sec\).{0,80}totaling '(\d{1,15})' bytes", re.DOTALL)


def _which(batch: Batch, reason: DropReason, said: str) -> dict[int, DropReason]:
    """Return the indices of so many records as Loki counts, at least one; the likeliest ones, as it names none."""
    counted = sum(int(one or other) for one, other in _COUNTS.findall(said))
    order: Iterable[int] = range(len(batch))
    if reason is DropReason.TOO_OLD:
        order = sorted(order, key=lambda index: batch[index].record.time_ms)
    elif reason is DropReason.TOO_NEW:
        order = sorted(order, key=lambda index: -batch[index].record.time_ms)
    elif reason is DropReason.OVERSIZE:
        order = sorted(order, key=lambda index: -len(batch[index].data))
    return dict.fromkeys(list(order)[: max(1, counted)], reason)


def _throttled(batch: Batch, response: HttpResponse, said: str) -> Verdict:
    """Return the verdict for a 429: the tenant's rate refuses a push as a whole, the limits of streams a part of it.

    A part may be sent again with the rest, since Loki knows an entry by its time and text. A push that is longer than
    the rate allows in a second may be longer than what is let through at once: then halves of it may pass.
    """
    amount = _AMOUNT.search(said)
    if amount and int(amount[2]) > int(amount[1]) and len(batch) > 1:
        return TooLarge(f"HTTP 429{quoted(said)}")
    return Retry(after=wait_seconds(response.headers, "retry-after"), detail=f"HTTP 429{quoted(said)}")


# --- entries --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=16)
def _first_ns(batch: str) -> int:
    """Return the nanosecond of the first record of a batch within its millisecond; the next ones have the next.

    It differs by batch, because two environments may write the same line into a stream in the same millisecond.
    """
    return crc32(batch.encode("utf-8", "replace")) % _FIRST_OF_BATCH


def _line(record: Record) -> tuple[str, dict[str, str]]:
    """Return the line, and metadata beside what is known: the members of an event whose line is the familiar one."""
    familiar = platform_text(record.type, record.body) if record.is_event else None
    if familiar is None:
        return text_of(record), {}
    return familiar, _members(record.body, familiar) if isinstance(record.body, Mapping) else {}


def _members(body: Mapping[str, Any], line: str) -> dict[str, str]:
    """Return the members of an event as metadata, by their path, as `record_metrics_durationMs`, but its `line`."""
    found = {}
    for path, value in list(flat(body, "record_").items())[:_MOST_MEMBERS]:
        text = value if isinstance(value, str) else json_part(value).decode()
        if text != line:
            found[_name(path)] = text[:_LONGEST_MEMBER]
    return found


_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_]")


def _name(text: str) -> str:
    """Return a name of metadata for `text`: what Loki does not take becomes `_`."""
    name = _NOT_IN_NAMES.sub("_", text[:200])
    return f"_{name}" if name[:1].isdigit() else name


def _entry(record: Record, text: str, more: Mapping[str, str]) -> bytes:
    ns = record.time_ms * _MS_IN_NS + (_first_ns(record.batch) + (record.index or 0)) % _MS_IN_NS
    known, _ = _behind_id(record.context)
    if more:
        known = b"%b,%b]" % (known[:-2], json_part(more)[1:])
    return b"".join((b'["%d",' % ns, json_part(text), b',{"record_id":', json_part(record.id), known))


@lru_cache(maxsize=256)
def _behind_id(context: Context) -> tuple[bytes, bool]:
    """Return the end of an entry behind its record's id, and whether it is an event: cached, as many have it."""
    return b",%b]" % json_part(_known(context))[1:], context.is_event


def _known(context: Context) -> dict[str, Any]:
    """Return the metadata of records beside their id. A tag that is called as one of ours is called `tag_…`."""
    origin = context.origin
    known: dict[str, Any] = {
        "level": context.level,
        "request_id": context.request_id,
        "trace_id": context.trace_id,
        "type": context.type,
        "cold_start": None if context.cold_start is None else str(context.cold_start).lower(),
        "function_version": origin.function_version,
        "function_arn": origin.function_arn,
        "account_id": origin.account_id,
        "instance_id": origin.instance_id,
        "init_type": origin.init_type,
        "memory_mb": None if origin.memory_mb is None else str(origin.memory_mb),
        "version": origin.version,
    }
    for key, value in grouped(origin.tags).items():
        name = _name(key)
        name = f"tag_{name}" if name in known or name in (*LABELS, "record_id", "cut") else name
        known[name] = value if isinstance(value, str) else ",".join(value)
    return present(known)


@lru_cache(maxsize=256)
def _stream(sink: Loki, context: Context) -> bytes:
    """Return the labels of a record's stream, as JSON."""
    origin = context.origin
    values = (
        origin.service or origin.function_name,
        origin.function_name,
        origin.env,
        origin.region,
        context.type.partition(".")[0],
    )
    labels = {name: value for name, value in zip(LABELS, values, strict=True) if value}
    labels |= dict(sink.labels)
    cut = {name: clean(value).encode()[:_LONGEST_LABEL].decode(errors="ignore") for name, value in labels.items()}
    return json_part(cut)
