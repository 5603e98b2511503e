"""Bodies of our own: records that Lambda did not send, in the form of a telemetry body, so that a spool can keep them.

Metrics and spans are derived from platform events (`signals`), others come from the function itself. Like a body of
Lambda's such a body is a JSON array of items; an item's `record` also has the `context`, which nobody can derive again:

    [{"type": "forwarder.metrics", "time": "2026-11-28T10:00:00.123Z", "record": {"context": {"request_id": …}, …}}]
"""

from _blake2 import blake2b  # not from `hashlib`, which loads OpenSSL's library
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from msgspec import Struct

from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.records.record import Context, Item, Origin, Record

# The most items of one body, so that a position fits into a record's id.
MOST_ITEMS = 10_000


class Derived(Struct, frozen=True, kw_only=True):
    """A record to be: what an item holds. `fields` are its content, a JSON object."""

    type: str
    time_ms: int
    fields: Mapping[str, Any]
    request_id: str | None = None
    cold_start: bool | None = None
    level: str | None = None
    trace_id: str | None = None


def body_of(derived: Sequence[Derived]) -> bytes:
    """Return `derived` as a body: the same bytes for the same records."""
    return to_json([
        {"type": one.type, "time": _iso(one.time_ms), "record": {"context": _told(one), **one.fields}}
        for one in derived
    ])  # fmt: skip


_CONTEXT = ("request_id", "cold_start", "level", "trace_id")


def _told(one: Derived) -> dict[str, Any]:
    """Return what is known of the context of a record, without what is not."""
    found: dict[str, Any] = {}
    if one.request_id is not None:
        found["request_id"] = one.request_id
    if one.cold_start is not None:
        found["cold_start"] = one.cold_start
    if one.level is not None:
        found["level"] = one.level
    if one.trace_id is not None:
        found["trace_id"] = one.trace_id
    return found


def identity_of(parent: str, what: str) -> str:
    """Return the identity of a body that was derived from the body `parent`: 24 hexadecimal digits, always the same."""
    return blake2b(f"{parent} {what}".encode("utf-8", "replace"), digest_size=12).hexdigest()


def records_from(origin: Origin, derived: Sequence[Derived], batch: str, size_bytes: int) -> list[Record]:
    """Return the records that `records_of` would make of the body of `derived`, which has `size_bytes`, without it.

    Only for what is made here, of plain JSON values: what was received is to be read back, so that it is the same.
    """
    share = size_bytes // len(derived) if derived else 0
    found = []
    for index, one in enumerate(derived):
        context = _context(origin, one.type, one.request_id, one.cold_start, one.level, one.trace_id)
        found.append(Record(batch, index, one.time_ms, one.fields, one.fields, context, share))
    return found


def records_of(origin: Origin, items: Sequence[Item], batch: str) -> list[Record]:
    """Return the records of a decoded body of our own, in order."""
    return [_record(origin, item, batch, index) for index, item in enumerate(items)]


def _record(origin: Origin, item: Item, batch: str, index: int) -> Record:
    fields = dict(item.body) if isinstance(item.body, Mapping) else {}
    told = fields.pop("context", None) or {}
    context = _context(origin, item.type, *[told.get(name) for name in _CONTEXT])
    return Record(batch, index, item.time_ms, fields, fields, context, item.size_bytes)


# Equal contexts are one object, as those of other records are.
_context = lru_cache(maxsize=256)(Context)


def _iso(time_ms: int) -> str:
    """Return a time in the platform's own form, which is decoded fast. A time outside of the calendar becomes 1970."""
    second, thousandths = divmod(time_ms, 1000)
    try:
        return f"{_second(second)}.{thousandths:03d}Z"
    except (ValueError, OverflowError, OSError):
        return "1970-01-01T00:00:00.000Z"


@lru_cache(maxsize=64)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).replace(tzinfo=None).isoformat()
