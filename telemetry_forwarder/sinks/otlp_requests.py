"""What the three OTLP sinks have in common: the envelopes around encoded records, and what an answer means.

A request has an envelope for each resource: the environment that the records come from, or the resource that an SDK in
the function named. The field numbers of the envelopes are the same for all three signals.
Source: opentelemetry-proto, `docs/specification.md` and the .proto files; semantic conventions 1.44 for `faas.*`, read
2026-11-28.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar

import orjson
from msgspec import Struct

from telemetry_forwarder import __version__
from telemetry_forwarder.errors import DecodeError, EncodeError
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
    Rejected,
    Retry,
    TooLarge,
    Verdict,
)
from telemetry_forwarder.otlp.direct import field
from telemetry_forwarder.otlp.protobuf import decode, encode
from telemetry_forwarder.otlp.values import any_value, attributes, for_readers
from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.records.record import METRICS, SPAN, Origin, Record
from telemetry_forwarder.sinks.http_answers import (
    Advice,
    not_theirs,
    own_words,
    quoted,
    read_status,
    taken_unread,
    wait_seconds,
)
from telemetry_forwarder.sinks.truncate import present

SCOPE = {"name": "telemetry-forwarder", "version": __version__}
NS_PER_MS = 1_000_000
_LAST_NS = 2**64 - 1

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_RETRYABLE = (429, 502, 503, 504)  # and no other. Source: OTLP specification, "Retryable Response Codes"


class Wire(Struct, frozen=True):
    """How one signal is named: the members of its envelopes, its messages, and what they count."""

    signal: str
    resources: str
    scopes: str
    items: str
    item: str
    response: str
    rejected: str


class OtlpSink(Struct, frozen=True, kw_only=True, cache_hash=True):
    """Send records of one signal by OTLP/HTTP. `url` is complete.

    `attributes` are of the resource, and go before what is known of the environment. `headers` are what the receiver
    asks for, without any credential.
    """

    wire: ClassVar[Wire]

    url: str
    limits: Limits
    is_json: bool = False
    attributes: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    def written(self, item: Mapping[str, Any]) -> bytes:
        """Return an item of OTLP/JSON as it stands in its envelope: JSON, or protobuf with tag and length."""
        return to_json(item) if self.is_json else framed(encode(self.wire.item, item))

    def request(self, batch: Batch) -> HttpRequest:
        envelopes: list[tuple[tuple[bytes, bytes], list[bytes]]] = []
        origin = None  # of the record before, unless that names its resource itself
        for encoded in batch:
            record = encoded.record
            if (is_given := _is_given(record)) or record.origin is not origin:
                origin, resource = None if is_given else record.origin, self.resource_of(record)
                if not envelopes or envelopes[-1][0] != resource:
                    items: list[bytes] = []
                    envelopes.append((resource, items))
            items.append(encoded.data)
        write = self._json_envelope if self.is_json else self._envelope
        parts = [write(resource, scope, items) for (resource, scope), items in envelopes]
        body = b'{"%b":[%b]}' % (self.wire.resources.encode(), b",".join(parts)) if self.is_json else b"".join(parts)
        return HttpRequest(url=self.url, body=body, headers={**dict(self.headers), "content-type": self._content_type})

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        """Return what a response means, by the specification: of errors only 429, 502, 503 and 504 are retried."""
        status, advice = response.status, self.advice
        if 200 <= status < 300:
            return taken_unread(response) or self._taken(batch, response) or not_theirs(response, advice)
        if status in _RETRYABLE:
            return Retry(after=_wait(response.headers), detail=f"HTTP {status}{_words(response)}")
        if status == 415:
            text = f"HTTP 415: {advice.who} does not take {self._content_type}; check OTEL_EXPORTER_OTLP_PROTOCOL"
            return Denied(text, DropReason.WRONG_ADDRESS)
        if status == 400 and b"Maximum number of datapoints per request exceeded" in response.body:  # CloudWatch's
            return TooLarge(f"HTTP 400{_words(response)}")
        answer = read_status(response, advice)
        is_final = isinstance(answer, Rejected) or (isinstance(answer, Retry) and 400 <= status < 600)
        return Rejected(f"HTTP {status}{_words(response)}") if is_final else answer

    @property
    def advice(self) -> Advice:
        name = self.wire.signal.upper()
        return Advice(
            who=f"the OTLP receiver of {self.wire.signal}",
            credential=f"OTEL_EXPORTER_OTLP_HEADERS and OTEL_EXPORTER_OTLP_{name}_HEADERS",
            address=f"OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_{name}_ENDPOINT; the path is part of it",
        )

    @property
    def _content_type(self) -> str:
        return JSON if self.is_json else PROTOBUF

    def _taken(self, batch: Batch, response: HttpResponse) -> Verdict | None:
        """Return what a 2xx says of the batch; None if no OTLP receiver would say it.

        A partial success is never sent again. It counts the records that were rejected, and does not say which.
        """
        answer = _success(self.wire.response, response)
        if answer is None:
            return None
        partial = answer.get("partialSuccess") or {}
        said = quoted(partial.get("errorMessage", ""))
        rejected = min(int(partial.get(self.wire.rejected, "0")), len(batch))
        if rejected > 0:
            detail = f"HTTP {response.status}: it took the others, and rejected {partial[self.wire.rejected]}{said}"
            indices = dict.fromkeys(range(rejected), DropReason.REJECTED)
            return Partial(rejected=indices, detail=detail, is_final=True)
        return Delivered(f"{self.advice.who} took the records, and said{said}" if said else None)

    # --- envelopes --------------------------------------------------------------------------------------------------

    def resource_of(self, record: Record) -> tuple[bytes, bytes]:
        """Return resource and scope of a record, encoded."""
        given = otlp_of(record)
        if given is None:
            return _known(self, record.origin)
        resource = _completed(_checked("Resource", given.get("resource")), _resource(self, record.origin))
        scope = _checked("InstrumentationScope", given.get("scope"))
        return self._encoded("Resource", resource), self._encoded("InstrumentationScope", scope)

    def _encoded(self, name: str, message: Mapping[str, Any]) -> bytes:
        return to_json(message) if self.is_json else encode(name, message)

    def _envelope(self, resource: bytes, scope: bytes, items: list[bytes]) -> bytes:
        of_scope = field(0x0A, scope) + b"".join(items)
        return field(0x0A, field(0x0A, resource) + field(0x12, of_scope))

    def _json_envelope(self, resource: bytes, scope: bytes, items: list[bytes]) -> bytes:
        scopes, name = self.wire.scopes.encode(), self.wire.items.encode()
        values = (resource, scopes, scope, name, b",".join(items))
        return b'{"resource":%b,"%b":[{"scope":%b,"%b":[%b]}]}' % values


# The type of log records that an SDK in the function sent (`intake.otlp_records`).
OTLP_LOG = "otlp"
_GIVEN = (OTLP_LOG, METRICS, SPAN)


def _is_given(record: Record) -> bool:
    """Return whether an SDK in the function may have sent a record, and named its resource."""
    kind = record.context.type
    return kind == OTLP_LOG or (kind in _GIVEN and record.fields is not None and "otlp" in record.fields)


def otlp_of(record: Record) -> Mapping[str, Any] | None:
    """Return what an SDK in the function sent, if that is what the record is: `resource`, `scope` and `item`.

    Only types that the extension itself makes are looked at: a line of the function may hold anything.
    """
    fields, kind = record.fields, record.context.type
    if fields is None or kind not in _GIVEN:
        return None
    if kind == OTLP_LOG:
        return _log_given(fields)
    given = fields.get("otlp")
    return given if isinstance(given, Mapping) and isinstance(given.get("item"), Mapping) else None


def _log_given(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the same of a log record, which is kept as one that every sink understands."""
    otel = fields.get("otel") or {}
    known = {
        "timeUnixNano": otel.get("time_ns"),
        "severityNumber": otel.get("severity_number"),
        "severityText": otel.get("severity_text"),
        "body": any_value(fields.get("message")),
        "attributes": attributes((name, value) for name, value in fields.items() if name not in ("message", "otel")),
        "flags": otel.get("flags"),
        "spanId": otel.get("span_id"),
        "eventName": otel.get("event_name"),
    }
    return {
        "resource": {"attributes": attributes((otel.get("resource") or {}).items())},
        "scope": present({"name": otel.get("scope"), "version": otel.get("scope_version")}),
        "item": present(known),
    }


def _checked(name: str, message: Any) -> dict[str, Any]:
    """Return a message that an SDK sent as JSON in its proper form. Raises EncodeError."""
    found: dict[str, Any] = for_readers(decode(name, encode(name, message or {})))
    return found


@lru_cache(maxsize=64)
def _known(sink: OtlpSink, origin: Origin) -> tuple[bytes, bytes]:
    return sink._encoded("Resource", _resource(sink, origin)), sink._encoded("InstrumentationScope", SCOPE)


def _resource(sink: OtlpSink, origin: Origin) -> dict[str, Any]:
    """Return the resource of an environment: what is the same for all of its records."""
    memory = origin.memory_mb
    known: dict[str, Any] = {
        "service.name": origin.service or origin.function_name or "unknown_service",
        "service.version": origin.version,
        "deployment.environment.name": origin.env,
        "cloud.provider": "aws",
        "cloud.platform": "aws_lambda",
        "cloud.region": origin.region,
        "cloud.account.id": origin.account_id,
        "cloud.resource_id": origin.function_arn,
        "faas.name": origin.function_name or None,
        "faas.version": origin.function_version,
        "faas.instance": origin.instance_id,
        "faas.max_memory": memory * 1_048_576 if memory is not None else None,  # in bytes
        "aws.lambda.init_type": origin.init_type,
    }
    tags: dict[str, Any] = {}
    for key, value in origin.tags:
        tags[key] = f"{tags[key]},{value}" if key in tags else value
    return {"attributes": attributes({**tags, **known, **dict(sink.attributes)}.items())}


def _completed(theirs: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Return the resource that an SDK named, with what it does not say and is known of the environment.

    SDKs call a service that nobody named `unknown_service`; then it is known better.
    """
    kept = [one for one in theirs.get("attributes", ()) if not _is_unknown(one)]
    named = {one.get("key") for one in kept}
    return {**theirs, "attributes": kept + [one for one in known["attributes"] if one["key"] not in named]}


def _is_unknown(attribute: Mapping[str, Any]) -> bool:
    value = (attribute.get("value") or {}).get("stringValue", "")
    return attribute.get("key") == "service.name" and str(value).startswith("unknown_service")


def nanoseconds(time_ms: int) -> int:
    """Return a time in ns, as far as 64 bits without a sign hold it."""
    return min(max(time_ms, 0) * NS_PER_MS, _LAST_NS)


def framed(item: bytes) -> bytes:
    """Return a LogRecord, Metric or Span as it stands in the envelope of its scope."""
    return field(0x12, item)


def given_item(sink: OtlpSink, record: Record, item: Mapping[str, Any]) -> Encoded:
    """Return what an SDK sent, unharmed. Raises EncodeError if it is malformed, or too large."""
    data = sink.written(_checked(sink.wire.item, item) if sink.is_json else item)
    sink.resource_of(record)  # raises what it would raise in a request
    if len(data) > sink.limits.max_record_bytes:
        raise EncodeError(f"an item of {len(data)} bytes")
    return Encoded(record, data)


# --- answers --------------------------------------------------------------------------------------------------------


def _success(name: str, response: HttpResponse) -> dict[str, Any] | None:
    """Return the message in a 2xx; {} for an empty body, None if it is none. Receivers differ in the encoding."""
    body, kind = response.body, response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if is_page(body, response.headers):
        return None
    if not body.strip():
        return {}
    try:
        if kind == PROTOBUF or (kind != JSON and not body.lstrip().startswith(b"{")):
            return decode(name, body)
        answer = orjson.loads(body)
        return decode(name, encode(name, answer)) if isinstance(answer, dict) else None
    except (DecodeError, EncodeError, ValueError):
        return None


def _words(response: HttpResponse) -> str:
    """Return the message of an error as ` ("message")`, from a `Status` in either encoding, or any text; "" if none."""
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() == PROTOBUF:
        try:
            return quoted(decode("Error", response.body).get("message", ""))
        except DecodeError:
            return ""
    return own_words(response.body)


def _wait(headers: Mapping[str, str]) -> float:
    """Return the seconds that Retry-After asks for, as a number or as a date, which is compared with the answer's own.

    So no clock is needed, nor one that is right.
    """
    at, now = _date(headers.get("retry-after", "")), _date(headers.get("date", ""))
    if at is not None and now is not None:
        return max(0.0, (at - now).total_seconds())
    return wait_seconds(headers, "retry-after")


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _date(text: str) -> datetime | None:
    """Return a date of HTTP, `Wed, 21 Oct 2026 07:28:00 GMT`; None if it is none."""
    try:
        _, day, month, year, time, zone = text.split()
        hour, minute, second = time.split(":")
        month_number = _MONTHS.index(month) + 1
        found = datetime(int(year), month_number, int(day), int(hour), int(minute), int(second))
    except ValueError:
        return None
    return found if zone == "GMT" else None
