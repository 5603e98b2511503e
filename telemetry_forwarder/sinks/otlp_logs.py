"""The OTLP sink for log records.

A line of text is the body. Of a JSON line `message` is the body, and the rest are attributes, flat, because that is
what backends index; a JSON line without one is a body of its own kind. A platform event has its type as `eventName`,
the familiar line as body, and its members as attributes. Times are the record's, so that a retry repeats the bytes.
Source: semantic conventions 1.44, logs and FaaS; OTLP, logs data model; read 2026-11-28.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

import orjson

from telemetry_forwarder.interfaces import Encoded
from telemetry_forwarder.otlp.fields import varint
from telemetry_forwarder.otlp.protobuf import encode
from telemetry_forwarder.otlp.values import any_value, attributes, flat
from telemetry_forwarder.records.lossless_json import clean, json_part
from telemetry_forwarder.records.record import Context, Record, json_ids
from telemetry_forwarder.sinks.otlp_requests import (
    OtlpSink,
    Wire,
    field,
    framed,
    given_item,
    nanoseconds,
    otlp_of,
)
from telemetry_forwarder.sinks.platform_lines import platform_text
from telemetry_forwarder.sinks.truncate import fit, text_of

# Source: OTLP, logs data model, "Mapping of SeverityNumber": the lowest of each range is the usual one.
SEVERITIES = {"trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17, "critical": 21}
# More attributes than backends take become a body that holds them all. Source: OpenTelemetry, attribute count limit.
MOST_ATTRIBUTES = 128
UID = "log.record.uid"
_MESSAGES = ("message", "msg")
_LINKS = ({"trace_id": "traceId", "span_id": "spanId"}, {"trace.id": "traceId", "span.id": "spanId"})
_DIGITS = {"traceId": 32, "spanId": 16}
_ROOM = 32  # a longer text takes a few bytes more for the lengths around it


class OtlpLogs(OtlpSink, frozen=True, kw_only=True, cache_hash=True):
    """Send log records as LogRecords."""

    name: ClassVar[str] = "otlp"
    wire: ClassVar[Wire] = Wire(
        "logs", "resourceLogs", "scopeLogs", "logRecords", "LogRecord", "ExportLogsServiceResponse",
        "rejectedLogRecords",
    )  # fmt: skip

    def encode(self, record: Record) -> Encoded:
        """Return the record as a LogRecord; one that is too large becomes its text, cut. Raises EncodeError."""
        if (given := otlp_of(record)) is not None:
            time = str(nanoseconds(record.time_ms))
            item = {"timeUnixNano": time, "observedTimeUnixNano": time, **_links(record), **given["item"]}
            return given_item(self, record, {**item, "attributes": [*item.get("attributes", ()), *_uid(record)]})
        most = self.limits.max_record_bytes
        data = self.written(_log_record(record))
        if len(data) <= most:
            return Encoded(record, data)

        def with_text(text: str, is_cut: bool) -> bytes:
            return self.written(_around(record, {"stringValue": text}, {"cut": True} if is_cut else {}))

        return fit(record, data, most - _ROOM, with_text)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return the same as `encode` for each of `records`, faster for lines of text. Raises EncodeError."""
        return self._all_json(records) if self.is_json else self._all_protobuf(records)

    def _all_protobuf(self, records: Sequence[Record]) -> list[Encoded]:
        found = []
        context = None
        most = self.limits.max_record_bytes
        for record in records:
            if record.context is not context:
                context = record.context
                severity, known, trace = _frame(context)
            text = record.body
            if record.fields is not None or text.__class__ is not str or context.is_event:
                found.append(self.encode(record))
                continue
            value = field(0x0A, _utf8(text))
            uid = record.id.encode()
            size = len(uid)
            time = nanoseconds(record.time_ms).to_bytes(8, "little")
            uid = b"2%c\n\x0elog.record.uid\x12%c\n%c%b" % (size + 20, size + 2, size, uid) if size < 100 else field(
                0x32, encode("KeyValue", _uid(record)[0])
            )  # fmt: skip
            when = b"\x09" + time if record.time_ms > 0 else b""
            seen = b"\x59" + time if record.time_ms > 0 else b""
            item = b"".join((when, severity, b"\x2a", varint(len(value)), value, known, uid, trace, seen))
            data = framed(item)
            found.append(Encoded(record, data) if len(data) <= most else self.encode(record))
        return found

    def _all_json(self, records: Sequence[Record]) -> list[Encoded]:
        found = []
        context = None
        most = self.limits.max_record_bytes
        for record, id in zip(records, json_ids(records), strict=True):
            if record.context is not context:
                context = record.context
                severity, known, trace = _json_frame(context)
            text = record.body
            if record.fields is not None or text.__class__ is not str or context.is_event:
                found.append(self.encode(record))
                continue
            time = b"%d" % nanoseconds(record.time_ms)
            data = b"".join((
                b'{"timeUnixNano":"', time, severity, b'"body":{"stringValue":', json_part(text), known, id, trace,
                time, b'"}',
            ))  # fmt: skip
            found.append(Encoded(record, data) if len(data) <= most else self.encode(record))
        return found


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return clean(text).encode()


# --- one record -----------------------------------------------------------------------------------------------------


def _log_record(record: Record) -> dict[str, Any]:
    """Return a LogRecord in OTLP/JSON's form."""
    if record.is_event:
        return _event(record)
    fields = record.fields
    if fields is None:
        body = record.body if isinstance(record.body, str) else json_part(record.body).decode()
        return _around(record, {"stringValue": clean(body)}, {})
    message = next((name for name in _MESSAGES if isinstance(fields.get(name), str) and fields[name]), None)
    if message is not None:
        rest = flat({key: value for key, value in fields.items() if key != message})
        if len(rest) <= MOST_ATTRIBUTES:
            return _around(record, {"stringValue": clean(fields[message])}, rest)
    return _around(record, any_value(fields) or {"stringValue": text_of(record)}, {})


def _event(record: Record) -> dict[str, Any]:
    line = platform_text(record.type, record.body)
    prefix = record.type.partition(".")[0]
    members = flat(record.body, f"{prefix}.") if isinstance(record.body, Mapping) else {}
    text = text_of(record) if line is None else line
    return {**_around(record, {"stringValue": clean(text)}, members), "eventName": record.type}


def _around(record: Record, body: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return a LogRecord of a body and further attributes; their names yield to ours."""
    context = record.context
    time = str(nanoseconds(record.time_ms))
    known = _attributes(context)
    names = {*known, UID}
    renamed = {f"record.{key}" if key in names else key: value for key, value in more.items()}
    found: dict[str, Any] = {"timeUnixNano": time, **_severity(record), "body": body}
    found["attributes"] = [*attributes(known.items()), *attributes(renamed.items()), *_uid(record)]
    found |= _links(record)
    found["observedTimeUnixNano"] = time
    return found


def _attributes(context: Context) -> dict[str, Any]:
    """Return what is known of the record itself; what is known of its environment is in the resource."""
    return {
        "telemetry.type": context.type,
        "faas.invocation_id": context.request_id,
        "faas.coldstart": context.cold_start,
    }


def _uid(record: Record) -> list[dict[str, Any]]:
    """Return the record's id, the same in each retry, as an attribute. Source: semantic conventions, logs."""
    return attributes([(UID, record.id)])


def _severity(record: Record) -> dict[str, Any]:
    """Return number and text: the record's own word, if it has one. A failed invocation's report is an error."""
    level = record.level
    if record.type == "platform.report" and isinstance(record.body, Mapping):
        status = record.body.get("status")
        level = "error" if isinstance(status, str) and status != "success" else level
    if level is None:
        return {}
    word = record.fields.get("level") if record.fields is not None and not record.is_event else None
    text = word if isinstance(word, str) and 0 < len(word) <= 32 else level.upper()
    return {"severityNumber": SEVERITIES.get(level, 0), "severityText": clean(text)}


def _links(record: Record) -> dict[str, str]:
    """Return the trace and span of a record: those that the line names, else the trace of its request."""
    found: dict[str, str] = {}
    if record.context.trace_id:
        found["traceId"] = record.context.trace_id
    if record.fields is None or record.is_event:
        return found
    for names in _LINKS:
        told = {kind: value for name, kind in names.items() if _is_id(value := record.fields.get(name), kind)}
        if "traceId" in told:
            return {kind: str(value).lower() for kind, value in told.items()}
    return found


def _is_id(value: Any, kind: str) -> bool:
    """Return whether a value is an id of its length, and not all zeros, which means that there is none."""
    if not isinstance(value, str) or len(value) != _DIGITS[kind]:
        return False
    return all(digit in "0123456789abcdefABCDEF" for digit in value) and value.strip("0") != ""


# --- what the records of an invocation have in common ---------------------------------------------------------------


@lru_cache(maxsize=256)
def _frame(context: Context) -> tuple[bytes, bytes, bytes]:
    """Return, as protobuf, what stands before the body, between it and the record's id, and behind that."""
    severity = encode("LogRecord", _severity_of(context))
    known = b"".join(field(0x32, encode("KeyValue", one)) for one in attributes(_attributes(context).items()))
    trace = encode("LogRecord", {"traceId": context.trace_id or ""})
    return severity, known, trace


@lru_cache(maxsize=256)
def _json_frame(context: Context) -> tuple[bytes, bytes, bytes]:
    """Return the same as JSON, with the names of what stands between."""
    severity = orjson.dumps(_severity_of(context))[1:-1]
    known = orjson.dumps(attributes(_attributes(context).items()))[:-1]
    trace = b'"traceId":%b,' % orjson.dumps(context.trace_id) if context.trace_id else b""
    return (
        b'",%b,' % severity if severity else b'",',
        b'},"attributes":%b,{"key":"log.record.uid","value":{"stringValue":' % known,
        b'}}],%b"observedTimeUnixNano":"' % trace,
    )


def _severity_of(context: Context) -> dict[str, Any]:
    level = context.level
    return {} if level is None else {"severityNumber": SEVERITIES.get(level, 0), "severityText": level.upper()}
