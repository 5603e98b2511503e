"""A record as one JSON object, for destinations that take any object: its time, its own members or text, and `lambda`.

    {"_time": "2026-03-02T10:15:30.100Z", "message": "paid order 17", "lambda": {"record_id": …, "request_id": …}}

A JSON line keeps its members at the root, because that is what users search for. If one of them has a name that means
something here, or to the destination, all of them stand under `record`, so that nothing is overwritten.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from msgspec import Struct

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import Encoded
from telemetry_forwarder.records.lossless_json import json_part, to_json
from telemetry_forwarder.records.record import Context, Record, json_ids
from telemetry_forwarder.sinks.platform_lines import platform_text
from telemetry_forwarder.sinks.truncate import fit, grouped, present

KNOWN = "lambda"  # the member that holds what is known about a record


class JsonObjects(Struct, frozen=True):
    """Writes records as objects of at most `max_bytes`, each with its time in the member `time`, the first one.

    `reserved` are names of members that the destination gives a meaning of its own.
    """

    time: str
    max_bytes: int
    reserved: frozenset[str] = frozenset()

    def encode(self, record: Record) -> Encoded:
        """Return a record as one object; one that is too large becomes its text, cut. Raises EncodeError."""

        def with_text(text: str, is_cut: bool) -> bytes:
            return self._written(record, {"message": text, **_kind(record), KNOWN: facts(record, is_cut)})

        return fit(record, self._written(record, self.content(record)), self.max_bytes, with_text)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return the same as `encode` for each of `records`, in a third of the time for lines. Raises EncodeError."""
        found = []
        context = None
        opening = b'{"%b":"' % self.time.encode()
        reserved, time_name, most = self.reserved, self.time, self.max_bytes
        second = None
        for record, id in zip(records, json_ids(records), strict=True):
            if record.context is not context:
                context = record.context
                known, is_event = _facts_behind_id(context)
            fields, body = record.fields, record.body
            if is_event:
                found.append(self.encode(record))
                continue
            if fields is None and body.__class__ is str:
                first = b'"message":' + json_part(body)
            elif fields and KNOWN not in fields and time_name not in fields and reserved.isdisjoint(fields):
                first = json_part(fields)[1:-1]
            else:
                found.append(self.encode(record))
                continue
            time_ms = record.time_ms
            if time_ms // 1000 != second:
                second = time_ms // 1000
                before = opening + second_text(second)
            data = b"".join((before, THOUSANDTHS[time_ms % 1000], first, b',"lambda":{"record_id":', id, known))
            found.append(Encoded(record, data) if len(data) <= most else self.encode(record))
        return found

    def content(self, record: Record) -> dict[str, Any]:
        """Return a record as a dict, without its time."""
        known = facts(record)
        if record.is_event:
            line = platform_text(record.type, record.body)
            first = {} if line is None else {"message": line}
            return {**first, **_kind(record), "record": record.body, KNOWN: known}
        fields = record.fields
        if fields is None and isinstance(record.body, str):
            return {"message": record.body, KNOWN: known}
        if fields is None or not self.reserved.isdisjoint(fields) or self.time in fields or KNOWN in fields:
            return {"record": record.body if fields is None else fields, KNOWN: known}
        return {**fields, KNOWN: known}

    def _written(self, record: Record, content: Mapping[str, Any]) -> bytes:
        return to_json({self.time: rfc3339(record.time_ms), **content})


def _kind(record: Record) -> dict[str, str]:
    return {"type": record.type} if record.is_event else {}


def facts(record: Record, is_cut: bool = False) -> dict[str, Any]:
    """Return what is known about a record, its id first."""
    return {"record_id": record.id, **facts_of(record.context, is_cut)}


def facts_of(context: Context, is_cut: bool = False) -> dict[str, Any]:
    """Return what is known about the records of a context, except their ids."""
    origin = context.origin
    return present({
        "type": context.type,
        "request_id": context.request_id,
        "trace_id": context.trace_id,
        "function_name": origin.function_name,
        "function_version": origin.function_version,
        "arn": origin.function_arn,
        "region": origin.region,
        "account_id": origin.account_id,
        "instance_id": origin.instance_id,  # a failed init has no request id to search for
        "memory_mb": origin.memory_mb,
        "cold_start": context.cold_start,
        "init_type": origin.init_type,
        "level": context.level,
        "service": origin.service,
        "env": origin.env,
        "version": origin.version,
        "tags": grouped(origin.tags),
        "cut": is_cut or None,
    })  # fmt: skip


@lru_cache(maxsize=256)
def _facts_behind_id(context: Context) -> tuple[bytes, bool]:
    """Return the end of an object behind its record's id, and whether it is an event of the platform.

    Cached, because the records of an invocation have it in common.
    """
    return b",%b}" % json_part(facts_of(context))[1:], context.is_event


def rfc3339(time_ms: int) -> str:
    """Return a time as `2026-03-02T10:15:30.100Z`. Raises EncodeError for one beyond the years 1 to 9999."""
    return f"{second_text(time_ms // 1000).decode()}{time_ms % 1000:03}Z"


@lru_cache(maxsize=16)
def second_text(second: int) -> bytes:
    """Return the beginning of a time, as `2026-03-02T10:15:30.`; the last few are kept, as nearly all are equal."""
    try:
        moment = datetime.fromtimestamp(second, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise EncodeError(f"a time that no date can express: {second} s") from error
    return f"{moment.replace(tzinfo=None).isoformat()}.".encode()


class _Thousandths(dict[int, bytes]):
    """What stands between the second of a time and the next member of an object: `100Z",`."""

    def __missing__(self, ms: int) -> bytes:
        found = self[ms] = b'%03dZ",' % ms
        return found


THOUSANDTHS = _Thousandths()
