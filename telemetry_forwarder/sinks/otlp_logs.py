"""The OTLP sink for log records.

A line of text is the body. Of a JSON line `message` is the body, and the rest are attributes, flat, because that is
what backends index; a JSON line without one is a body of its own kind. A platform event has its type as `eventName`,
the familiar line as body, and its members as attributes. Times are the record's, so that a retry repeats the bytes.
Source: semantic conventions 1.44, logs and FaaS; OTLP, logs data model; read 2026-11-28.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple

import orjson

from telemetry_forwarder.interfaces import Encoded
from telemetry_forwarder.otlp.direct import SCALARS, attribute, attribute_json, field, utf8
from telemetry_forwarder.otlp.direct import any_value as any_value_bytes
from telemetry_forwarder.otlp.protobuf import encode
from telemetry_forwarder.otlp.values import any_value, attributes, flat
from telemetry_forwarder.records.lossless_json import clean, json_part
from telemetry_forwarder.records.record import Context, Record, json_ids
from telemetry_forwarder.records.tracing import NAMES_OF_TRACES, span_in, trace_in
from telemetry_forwarder.sinks.otlp_requests import (
    OTLP_LOG,
    OtlpSink,
    Wire,
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
_OURS = frozenset({"telemetry.type", "faas.invocation_id", "faas.coldstart", UID, "cut"})
_MESSAGES = ("message", "msg")
_LONGEST_WORD = 32
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
        """Return the same as `encode` for each of `records`, in a tenth of the time for lines. Raises EncodeError."""
        frame, write, most = (_json_frame, _json_line, self.limits.max_record_bytes) if self.is_json else (
            _frame, _line, self.limits.max_record_bytes
        )  # fmt: skip
        found = []
        context = None
        for record, id in zip(records, json_ids(records), strict=True):
            if record.context is not context:
                context = record.context
                is_line = not context.is_event and context.type != OTLP_LOG
                around = frame(context) if is_line else _NO_FRAME
            if is_line and (record.fields is not None or record.body.__class__ is str):
                data = write(record, id, around)
                if len(data) <= most:
                    found.append(Encoded(record, data))
                    continue
            found.append(self.encode(record))
        return found


# --- one record -----------------------------------------------------------------------------------------------------


def _log_record(record: Record) -> dict[str, Any]:
    """Return a LogRecord in OTLP/JSON's form."""
    if record.is_event:
        return _event(record)
    fields = record.fields
    if fields is None:
        body = record.body if isinstance(record.body, str) else json_part(record.body).decode()
        return _around(record, {"stringValue": clean(body)}, {})
    message, rest = _parts(fields)
    if message is not None:
        return _around(record, {"stringValue": clean(message)}, rest)
    return _around(record, any_value(fields) or {"stringValue": text_of(record)}, {})


def _parts(fields: Mapping[str, Any]) -> tuple[str | None, Mapping[str, Any]]:
    """Return the message of a JSON line, and its other members as attributes; None if it has to be a body as it is."""
    name = next((one for one in _MESSAGES if fields.get(one).__class__ is str and fields[one]), None)
    if name is None:
        return None, {}
    rest = {key: value for key, value in fields.items() if key != name and value is not None}
    if not {value.__class__ for value in rest.values()} <= SCALARS:
        rest = flat(rest)
    if len(rest) > MOST_ATTRIBUTES:
        return None, {}
    return fields[name], rest if _OURS.isdisjoint(rest) else _renamed(rest)


def _renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes whose names yield to ours."""
    found: dict[str, Any] = {}
    for key, value in given.items():
        name = f"record.{key}" if key in _OURS else key
        while name in found or (name != key and name in given):
            name += "_"
        found[name] = value
    return found


def _event(record: Record) -> dict[str, Any]:
    line = platform_text(record.type, record.body)
    prefix = record.type.partition(".")[0]
    members = flat(record.body, f"{prefix}.") if isinstance(record.body, Mapping) else {}
    text = text_of(record) if line is None else line
    return {**_around(record, {"stringValue": clean(text)}, members), "eventName": record.type}


def _around(record: Record, body: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return a LogRecord of a body and further attributes."""
    time = str(nanoseconds(record.time_ms))
    found: dict[str, Any] = {"timeUnixNano": time, **_severity(record), "body": body}
    known = _attributes(record.context)
    found["attributes"] = [*attributes(known.items()), *attributes(more.items()), *_uid(record)]
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
    word = record.fields.get("level") if record.fields is not None and not record.is_event else None
    return _severity_of(level, word if isinstance(word, str) else None)


def _severity_of(level: str | None, word: str | None) -> dict[str, Any]:
    if level is None:
        return {}
    text = clean(word) if word and len(word) <= _LONGEST_WORD else level.upper()
    return {"severityNumber": SEVERITIES.get(level, 0), "severityText": text}


def _links(record: Record) -> dict[str, str]:
    """Return the trace and span of a record: those that the line names, else the trace of its request."""
    found: dict[str, str] = {}
    if record.context.trace_id:
        found["traceId"] = record.context.trace_id
    if record.fields is None or record.is_event:
        return found
    if (trace_id := trace_in(record.fields)) is not None:
        found["traceId"] = trace_id
        if (span_id := span_in(record.fields)) is not None:
            found["spanId"] = span_id
    return found


# --- lines, fast ----------------------------------------------------------------------------------------------------


class _Frame(NamedTuple):
    """What the lines of a context have in common, as bytes: severity, attributes, and the trace of the request."""

    level: str | None
    severity: bytes
    known: bytes
    trace: bytes


_NO_FRAME = _Frame(None, b"", b"", b"")


@lru_cache(maxsize=256)
def _frame(context: Context) -> _Frame:
    known = b"".join([attribute(0x32, key, value) for key, value in _attributes(context).items()])
    severity = _severity_bytes(context.level, None)
    return _Frame(context.level, severity, known, _trace(context.trace_id))


def _trace(trace_id: str | None) -> bytes:
    return field(0x4A, bytes.fromhex(trace_id)) if trace_id else b""


def _line(record: Record, id: bytes, around: _Frame) -> bytes:
    """Return a line as a LogRecord in protobuf. The tags of the fields stand in opentelemetry-proto's logs.proto."""
    fields = record.fields
    severity, links, more = around.severity, around.trace, b""
    if fields is None:
        body = field(0x0A, utf8(record.body))
    else:
        if around.level is not None and (word := fields.get("level")).__class__ is str:
            severity = _severity_bytes(around.level, word)
        if not NAMES_OF_TRACES.isdisjoint(fields):
            links = encode("LogRecord", _links(record))
        message, rest = _parts(fields)
        if message is None:
            body = any_value_bytes(fields) or b""
        else:
            body = field(0x0A, utf8(message))
            more = b"".join([attribute(0x32, key, value) for key, value in rest.items()])
    time = _time(record.time_ms)
    known = id[1:-1] if b"\\" not in id else utf8(record.id)
    uid = _uid_opening(len(known)) + known
    when = (b"\x09" + time, b"\x59" + time) if time else (b"", b"")
    return framed(b"".join((when[0], severity, field(0x2A, body), around.known, more, uid, links, when[1])))


@lru_cache(maxsize=16)
def _time(time_ms: int) -> bytes:
    return nanoseconds(time_ms).to_bytes(8, "little") if time_ms > 0 else b""


@lru_cache(maxsize=64)
def _uid_opening(size: int) -> bytes:
    """Return what stands before an id of so many bytes in its attribute."""
    return attribute(0x32, UID, "x" * size)[: -size or None]


@lru_cache(maxsize=256)
def _severity_bytes(level: str | None, word: str | None) -> bytes:
    return encode("LogRecord", _severity_of(level, word))


@lru_cache(maxsize=256)
def _json_frame(context: Context) -> _Frame:
    known = orjson.dumps(attributes(_attributes(context).items()))[:-1]
    trace = b'"traceId":%b,' % orjson.dumps(context.trace_id) if context.trace_id else b""
    return _Frame(context.level, _severity_json(context.level, None), known, trace)


def _json_line(record: Record, id: bytes, around: _Frame) -> bytes:
    """Return a line as a LogRecord in JSON."""
    fields = record.fields
    severity, links, more = around.severity, around.trace, b""
    if fields is None:
        body = b'{"stringValue":%b}' % json_part(record.body)
    else:
        if around.level is not None and (word := fields.get("level")).__class__ is str:
            severity = _severity_json(around.level, word)
        if not NAMES_OF_TRACES.isdisjoint(fields):
            found = _links(record)
            links = json_part(found)[1:-1] + b"," if found else b""
        message, rest = _parts(fields)
        if message is None:
            body = json_part(any_value(fields))
        else:
            body = b'{"stringValue":%b}' % json_part(message)
            more = b"".join([b"," + attribute_json(key, value) for key, value in rest.items()])
    time = b"%d" % nanoseconds(record.time_ms)
    return b"".join((
        b'{"timeUnixNano":"', time, severity, b'"body":', body, b',"attributes":', around.known, more,
        b',{"key":"log.record.uid","value":{"stringValue":', id, b"}}],", links, b'"observedTimeUnixNano":"', time,
        b'"}',
    ))  # fmt: skip


@lru_cache(maxsize=256)
def _severity_json(level: str | None, word: str | None) -> bytes:
    found = orjson.dumps(_severity_of(level, word))[1:-1]
    return b'",%b,' % found if found else b'",'
