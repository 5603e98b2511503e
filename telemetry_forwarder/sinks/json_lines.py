"""A record as one line of JSON: what goes to streams and into objects, where any program may read it.

Every line has the same members, whatever a function prints, so that a table over the lines has a schema: `time` and
`record_id`; `message` (a text), `fields` (the object that a function logged) or `record` (what an event of the platform
tells, or another JSON value); `type` and what is known about the environment. What is unknown is left out. Pure.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import Encoded
from telemetry_forwarder.records.lossless_json import json_part
from telemetry_forwarder.records.record import Context, Record, json_ids
from telemetry_forwarder.sinks.platform_lines import platform_text
from telemetry_forwarder.sinks.truncate import fit, grouped, present

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER_MS = -(2**62)


def encode_line(record: Record, max_bytes: int) -> Encoded:
    """Return the record as one line, without line end; one that is too long holds its text, cut. Raises EncodeError."""

    def with_text(text: str, is_cut: bool) -> bytes:
        return _line(record, {"message": text}, is_cut)

    return fit(record, _line(record, _content(record)), max_bytes, with_text)


def encode_lines(records: Sequence[Record], max_bytes: int) -> list[Encoded]:
    """Return the same as `encode_line` for each of `records`, in a third of the time for lines. Raises EncodeError."""
    found = []
    context = None
    head, second_ms = b"", _NEVER_MS  # of the record before
    for record, id in zip(records, json_ids(records), strict=True):
        if record.context is not context:
            context = record.context
            known, is_event = _known(context), context.is_event
        if is_event:
            found.append(encode_line(record, max_bytes))
            continue
        body, fields = record.body, record.fields
        if fields is not None:
            name, value = b'Z","fields":', json_part(fields)
        elif body.__class__ is str:
            name, value = b'Z","message":', json_part(body)
        else:
            name, value = b'Z","record":', json_part(body)
        ms = record.time_ms - second_ms
        if not 0 <= ms < 1000:
            second, ms = divmod(record.time_ms, 1000)
            head, second_ms = b'{"time":"%b.' % _second(second), record.time_ms - ms
        data = b"".join((head, b"%03d" % ms, name, value, b',"record_id":', id, known))
        found.append(Encoded(record, data) if len(data) <= max_bytes else encode_line(record, max_bytes))
    return found


def _content(record: Record) -> dict[str, Any]:
    if record.is_event:
        return {**present({"message": platform_text(record.type, record.body)}), "record": record.body}
    if record.fields is not None:
        return {"fields": record.fields}
    return {"message" if isinstance(record.body, str) else "record": record.body}


def _line(record: Record, content: dict[str, Any], is_cut: bool = False) -> bytes:
    second, ms = divmod(record.time_ms, 1000)
    known = _known(record.context)
    if is_cut:
        known = b',"cut":true' + known
    middle = b',"record_id":' + json_part(record.id)
    return b"".join((b'{"time":"', _second(second), b'.%03dZ",' % ms, json_part(content)[1:-1], middle, known))


@lru_cache(maxsize=256)
def _second(second: int) -> bytes:
    """Return a time in seconds since the epoch as `2026-03-02T10:15:30`. Raises EncodeError beyond the year 9999."""
    try:
        return (_EPOCH + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S").encode().rjust(19, b"0")
    except OverflowError:
        raise EncodeError("the record's time has no year of four digits") from None


@lru_cache(maxsize=256)
def _known(context: Context) -> bytes:
    """Return the end of a line: what is known about a record apart from its content, which many have in common."""
    origin = context.origin
    return b"," + json_part(present({
        "type": context.type,
        "level": context.level,
        "request_id": context.request_id,
        "trace_id": context.trace_id,
        "cold_start": context.cold_start,
        "function_name": origin.function_name,
        "function_version": origin.function_version,
        "function_arn": origin.function_arn,
        "region": origin.region,
        "account_id": origin.account_id,
        "memory_mb": origin.memory_mb,
        "instance_id": origin.instance_id,
        "init_type": origin.init_type,
        "service": origin.service,
        "env": origin.env,
        "version": origin.version,
        "tags": grouped(origin.tags),
    }))[1:]  # fmt: skip
