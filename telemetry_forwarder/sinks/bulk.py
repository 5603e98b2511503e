"""Records as documents of Elasticsearch and OpenSearch, for `_bulk`, and how they answer.

A document has the fields of the Elastic Common Schema. What a function logs as JSON stands under `json` alone, so that
one entry of a template (`flattened`, `flat_object`) keeps its members from becoming thousands of fields.

Each document is created with the record's id as `_id`: one that is sent again is answered with 409, and is not there
twice. Source: Elasticsearch and OpenSearch, bulk API; ECS 9; read 2026-11-28.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson
from msgspec import Struct

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
    Verdict,
)
from telemetry_forwarder.records.lossless_json import json_part, to_json
from telemetry_forwarder.records.record import Context, Record, json_ids
from telemetry_forwarder.sinks.http_answers import Advice, not_theirs, quoted, read_status, taken_unread, wait_seconds
from telemetry_forwarder.sinks.json_objects import rfc3339
from telemetry_forwarder.sinks.platform_lines import platform_text
from telemetry_forwarder.sinks.truncate import fit, grouped, present, text_of

LIMITS = Limits(
    max_records=500,  # of more the answer may be longer than what is read of one
    max_bytes=5_000_000,  # the smallest instances of OpenSearch Service take 10 MiB, Elasticsearch 100 MB
    max_record_bytes=1_000_000,
    overhead_bytes=128,  # the line of the action, and two line ends
)
# `errors` has to be among them: without it, a success would be an empty object, which anything may answer.
_WANTED = "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason"
_LONGEST_ID_BYTES = 512
_DONE_BEFORE = 409  # on `create`: there is a document with this id
_ECS = "9.0.0"


class Bulk(Struct, frozen=True, kw_only=True, cache_hash=True):
    """Create a document for each record in `target`, a data stream, an alias or an index.

    `has_ids`: documents have ids of ours. `is_parsed`: what is logged as JSON is an object, not its text.
    `more` is added to the query.
    """

    name: str
    url: str
    target: str
    has_ids: bool = True
    is_parsed: bool = True
    more: str = ""
    advice: Advice

    @property
    def limits(self) -> Limits:
        return LIMITS

    def encode(self, record: Record) -> Encoded:
        """Return the record as a document; one that is too large becomes its text, cut. Raises EncodeError."""

        def with_text(text: str, is_cut: bool) -> bytes:
            return _document(record, {"message": text}, {"cut": True} if is_cut else {})

        message, content = self._content(record)
        more = {"record": record.body} if record.is_event else {}
        said = present({"message": message}) | ({"json": content} if content is not None else {})
        return fit(record, _document(record, said, more), LIMITS.max_record_bytes, with_text)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return the same as `encode` for each of `records`, in a third of the time for lines. Raises EncodeError."""
        found = []
        context = second = None
        for record, id in zip(records, json_ids(records), strict=True):
            if record.context is not context:
                context = record.context
                known, is_event = _behind_id(context)
            fields, body = record.fields, record.body
            if is_event:
                found.append(self.encode(record))
                continue
            if fields is not None and self.is_parsed:
                said = _message_in(fields)
                message = b'"json":' if said is None else b'"message":%b,"json":' % json_part(said)
                value = json_part(fields)
            else:
                is_plain = fields is None and body.__class__ is str
                message, value = b'"message":', json_part(body if is_plain else text_of(record))
            if (time_ms := record.time_ms) // 1000 != second:
                second = time_ms // 1000
                before = b'{"@timestamp":"' + rfc3339(time_ms)[:-4].encode()
            after = (b'%03dZ",' % (time_ms % 1000), message, value, b',"lambda":{"record_id":', id, known)
            data = b"".join((before, *after))
            found.append(Encoded(record, data) if len(data) <= LIMITS.max_record_bytes else self.encode(record))
        return found

    def request(self, batch: Batch) -> HttpRequest:
        lines: list[bytes] = []
        for encoded in batch:
            lines += (self._action(encoded.record.id), encoded.data)
        lines.append(b"")  # the last line has to end, too
        url = f"{self.url}/{self.target}/_bulk?{_WANTED}{self.more}"
        return HttpRequest(url=url, body=b"\n".join(lines), headers={"content-type": "application/x-ndjson"})

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        """Return what a response means for `batch`. A 200 may hold an error for each document."""
        if response.status == 400 and b"include_source_on_error" in response.body:
            text = "HTTP 400: Elasticsearch before 8.18 does not know it; take ELASTICSEARCH_SOURCE_ON_ERROR out"
            return Denied(text, DropReason.WRONG_ADDRESS)
        if response.status != 200:
            return read_status(response, self.advice)
        errors, items = _answer_in(response.body)
        if errors is False:
            return Delivered()
        if errors is None:
            return self._unread(response)
        return _verdict_of(batch, items, response, self.advice)

    def _unread(self, response: HttpResponse) -> Verdict:
        """Return the verdict for a 200 that does not say what became of the documents."""
        if self.has_ids and response.unreadable and response.body[:1] in (b"", b"{"):
            return Retry(detail=f"HTTP 200 with an answer that cannot be read ({response.unreadable})")
        return taken_unread(response) or not_theirs(response, self.advice)

    def _action(self, id: str) -> bytes:
        if not self.has_ids or len(id) * 3 > _LONGEST_ID_BYTES:
            return b'{"create":{}}'
        return b'{"create":{"_id":%b}}' % json_part(id)

    def _content(self, record: Record) -> tuple[str | None, Any]:
        """Return the message of a document, and its `json`, the object that was logged; None for none."""
        if record.is_event:
            return platform_text(record.type, record.body), None
        if not self.is_parsed or record.fields is None:  # an array may hold what no field can: numbers and texts
            return text_of(record), None
        return _message_in(record.fields), record.fields


def _message_in(fields: Mapping[str, Any]) -> str | None:
    """Return the message of a line of JSON; None if it has none, or one that is no text."""
    said = fields["message"] if "message" in fields else fields.get("msg")
    return said if isinstance(said, str) else None


# --- answers --------------------------------------------------------------------------------------------------------

# Errors that pass, whatever their status. Source: the exceptions of both servers' code.
_PASSING = frozenset({
    "es_rejected_execution_exception", "rejected_execution_exception", "circuit_breaking_exception",
    "cluster_block_exception", "unavailable_shards_exception", "process_cluster_event_timeout_exception",
    "index_closed_exception", "no_shard_available_action_exception", "timeout_exception",
})  # fmt: skip
_SHOWN_VALUES = ("Preview of field", "[Source:", "Current token", "at [Source")


def _answer_in(body: bytes) -> tuple[bool | None, list[Any]]:
    """Return whether there are errors, and the items; (None, []) if this is no answer to a bulk request.

    An answer that was cut, because it is long, has errors: the whole items at its beginning are returned.
    """
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        if not body.startswith((b'{"errors":true', b'{"items":[')):
            return None, []
        return True, _whole_items(body)
    if not isinstance(answer, dict) or not isinstance(errors := answer.get("errors"), bool):
        return None, []
    items = answer.get("items")
    return errors, items if isinstance(items, list) else []


def _whole_items(body: bytes) -> list[Any]:
    start = body.find(b"[") + 1
    end = body.rfind(b'}},{"')
    try:
        found = orjson.loads(b"[" + body[start : end + 2] + b"]") if 0 < start < end else []
    except orjson.JSONDecodeError:
        return []
    return found if isinstance(found, list) else []


def _verdict_of(batch: Batch, items: Sequence[Any], response: HttpResponse, advice: Advice) -> Verdict:
    """Return the verdict for documents that were answered one by one. What is not answered is sent again."""
    retry, denied, rejected = [], [], dict[int, DropReason]()
    said = ""
    for index in range(len(batch)):
        status, kind, reason = _read(items[index]) if index < len(items) else (0, "", "")
        if 200 <= status < 300 or status == _DONE_BEFORE:
            continue
        said = said or f"{kind or f'status {status}'}{quoted(_without_values(reason))}"
        if kind in _PASSING or status in (0, 429) or status >= 500:
            retry.append(index)
        elif status in (401, 403, 404):
            denied.append(index)
        else:
            rejected[index] = DropReason.REJECTED
    detail = f"HTTP 200, {len(retry) + len(denied) + len(rejected)} of {len(batch)} documents: {said}"
    if len(denied) == len(batch):
        what = advice.credential if "security" in said or "authorization" in said else advice.address
        reason = DropReason.UNAUTHORIZED if what is advice.credential else DropReason.WRONG_ADDRESS
        return Denied(f"{detail}; check {what}", reason)
    retry = sorted(retry + denied)
    after = wait_seconds(response.headers, "retry-after")
    if len(retry) == len(batch):
        return Retry(after=after, detail=detail)
    if not retry and not rejected:
        return Delivered()
    return Partial(retry=tuple(retry), rejected=rejected, after=after, detail=detail)


def _read(item: Any) -> tuple[int, str, str]:
    """Return status, type of error and its reason of an item; zero for a status that is none."""
    found = next(iter(item.values()), None) if isinstance(item, dict) else None
    if not isinstance(found, dict) or type(status := found.get("status")) is not int:
        return 0, "", ""
    error = found.get("error")
    if not isinstance(error, dict):
        return status, "", ""
    kind, reason = error.get("type"), error.get("reason")
    return status, kind if isinstance(kind, str) else "", reason if isinstance(reason, str) else ""


def _without_values(reason: str) -> str:
    """Return a reason without the values of the document that it shows."""
    ends = [at for words in _SHOWN_VALUES if (at := reason.find(words)) >= 0]
    return reason[: min(ends, default=len(reason))].rstrip(" .;:")


# --- documents ------------------------------------------------------------------------------------------------------


def _document(record: Record, said: Mapping[str, Any], more: Mapping[str, Any]) -> bytes:
    """Return a document with `said` at its root and `more` in `lambda`, behind what is known there."""
    ours, others = _known(record.context)
    return to_json({
        "@timestamp": rfc3339(record.time_ms),
        **said,
        "lambda": {"record_id": record.id, **ours, **more},
        **others,
    })  # fmt: skip


@lru_cache(maxsize=256)
def _behind_id(context: Context) -> tuple[bytes, bool]:
    """Return the end of a document behind its record's id, and whether it is an event: cached, as many have it."""
    ours, others = _known(context)
    return b",%b,%b" % (json_part(ours)[1:], json_part(others)[1:]), context.is_event


def _known(context: Context) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what is known of a record beside its id: members of `lambda`, and those of ECS, at the root."""
    origin = context.origin
    ours = {
        "type": context.type,
        "instance_id": origin.instance_id,
        "init_type": origin.init_type,
        "memory_mb": origin.memory_mb,
    }
    others = {
        "log": present({"level": context.level}),
        "faas": present({
            "name": origin.function_name,
            "id": origin.function_arn,
            "version": origin.function_version,
            "execution": context.request_id,
            "coldstart": context.cold_start,
        }),
        "cloud": present({
            "provider": "aws",
            "region": origin.region,
            "account": present({"id": origin.account_id}),
            "service": {"name": "lambda"},
        }),
        "service": present({
            "name": origin.service or origin.function_name,
            "environment": origin.env,
            "version": origin.version,
        }),
        "trace": present({"id": context.trace_id}),
        "labels": grouped(origin.tags),
        "ecs": {"version": _ECS},
    }  # fmt: skip
    return present(ours), present(others)
