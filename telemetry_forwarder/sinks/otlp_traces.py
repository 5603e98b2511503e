"""The OTLP sink for spans."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import Encoded
from telemetry_forwarder.otlp.values import attributes
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.sinks.otlp_requests import OtlpSink, Wire, given_item, otlp_of

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
        given = otlp_of(record)
        return given_item(self, record, span(record) if given is None else given["item"])


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


def _pairs(given: Any) -> Sequence[tuple[str, Any]]:
    return list(given.items()) if isinstance(given, Mapping) else ()
