"""The OTLP sink for spans."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from struct import Struct as Packer
from struct import error as PackingError
from typing import Any, ClassVar

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import Encoded
from telemetry_forwarder.otlp.direct import attribute, field
from telemetry_forwarder.otlp.values import attributes
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.sinks.otlp_requests import OtlpSink, Wire, framed, given_item, otlp_of

KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_ERROR = 2


class OtlpTraces(OtlpSink, frozen=True, kw_only=True, cache_hash=True):
    """Send span records as Spans."""

    name: ClassVar[str] = "otlp-traces"
    takes: ClassVar[frozenset[Signal]] = frozenset({Signal.SPAN})
    wire: ClassVar[Wire] = Wire(
        "traces", "resourceSpans", "scopeSpans", "spans", "Span", "ExportTraceServiceResponse", "rejectedSpans"
    )

    def encode(self, record: Record) -> Encoded:
        """Return the record as a Span. Raises EncodeError if it is none, or too large."""
        if (given := otlp_of(record)) is not None:
            return given_item(self, record, given["item"])
        if (
            not self.is_json
            and (data := _in_protobuf(record)) is not None
            and len(data) <= self.limits.max_record_bytes
        ):
            return Encoded(record, framed(data))
        return given_item(self, record, span(record))


def span(record: Record) -> dict[str, Any]:
    """Return the span of a record in OTLP/JSON's form. The status is left unset unless there was an error."""
    fields = record.fields or {}
    try:
        found: dict[str, Any] = {"traceId": fields["trace_id"], "spanId": fields["span_id"]}
        if (parent := fields.get("parent_id")) is not None:
            found["parentSpanId"] = parent
        if (state := fields.get("trace_state")) is not None:
            found["traceState"] = state
        found |= {
            "name": fields["name"],
            "kind": KINDS.get(fields.get("kind", ""), 1),
            "startTimeUnixNano": str(fields["start_ns"]),
            "endTimeUnixNano": str(fields["end_ns"]),
            "attributes": attributes(_pairs(fields.get("attributes"))),
        }
        links = [{"traceId": one["trace_id"], "spanId": one["span_id"]} for one in fields.get("links") or ()]
    except (KeyError, TypeError) as error:
        raise EncodeError(f"a span record without {error}") from error
    if links:
        found["links"] = links
    if fields.get("error"):
        message = fields.get("message")
        found["status"] = {"code": _ERROR} | ({"message": str(message)} if message else {})
    if (flags := fields.get("flags")) is not None:
        found["flags"] = flags
    return found


# The tags of the fields stand in opentelemetry-proto's trace.proto.
_KIND, _TIMES, _FLAGS = {name: bytes((0x30, number)) for name, number in KINDS.items()}, Packer("<cQcQ"), Packer("<2sI")


# Most attributes of a span are those of the one before. Typed, because 1, 1.0 and True are equal.
_attribute = lru_cache(maxsize=512, typed=True)(attribute)


def _in_protobuf(record: Record) -> bytes | None:
    """Return a span that was made here as protobuf, the same bytes in a third of the time; None if it is another."""
    fields = record.fields or {}
    try:
        parts = [field(0x0A, bytes.fromhex(fields["trace_id"])), field(0x12, bytes.fromhex(fields["span_id"]))]
        if (parent := fields.get("parent_id")) is not None:
            parts.append(field(0x22, bytes.fromhex(parent)))
        parts.append(field(0x2A, fields["name"].encode()))
        parts.append(_KIND[fields["kind"]])
        parts.append(_TIMES.pack(b"\x39", fields["start_ns"], b"\x41", fields["end_ns"]))
        parts += [_attribute(0x4A, key, value) for key, value in fields["attributes"].items()]
        for link in fields.get("links") or ():
            ids = bytes.fromhex(link["trace_id"]), bytes.fromhex(link["span_id"])
            parts.append(field(0x6A, field(0x0A, ids[0]) + field(0x12, ids[1])))
        if fields.get("error"):
            message = fields.get("message")
            parts.append(field(0x7A, (field(0x12, message.encode()) if message else b"") + b"\x18\x02"))
        if flags := fields.get("flags"):
            parts.append(_FLAGS.pack(b"\x85\x01", flags))
    except (KeyError, TypeError, ValueError, AttributeError, PackingError):
        return None
    # What has its default is left out, which is the slow way's work.
    is_usual = "trace_state" not in fields and fields["name"] and fields["start_ns"] and fields["end_ns"]
    return b"".join(parts) if is_usual else None


def _pairs(given: Any) -> Sequence[tuple[str, Any]]:
    return list(given.items()) if isinstance(given, Mapping) else ()
