"""Trace ids: X-Ray's header and ids, those of W3C and Datadog, and those that are derived from a request. Pure.

Inside, a trace id is W3C's form: 32 hexadecimal digits in lower case, of which not all are zero; a span id has 16.

    X-Ray     1-68c4a1f0-3b2a90d1c7e845f6a0b1c2d3        the same digits, with the version and two dashes
    Datadog   14404840333704807123                       the last 16 digits as a decimal number
"""

from _blake2 import blake2b  # not from `hashlib`, which loads OpenSSL's library
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from msgspec import Struct

_HEX = "0123456789abcdef"
_TRACE, _SPAN = 32, 16  # digits
_MASK = (1 << 64) - 1
_LONGEST_HEADER = 2048
_SAMPLED = {"1": True, "0": False}


class TraceHeader(Struct, frozen=True):
    """What an X-Ray header tells. Each member is None if it is missing or invalid; without a root all of them are.

    `sampled` is whether X-Ray records the trace: False also where tracing is merely off.
    """

    trace_id: str | None = None
    parent_id: str | None = None
    sampled: bool | None = None


def read_header(text: object) -> TraceHeader:
    """Return what the header `Root=…;Parent=…;Sampled=…` tells.

    Its members may come in any order, and others (`Lineage`, `Self`) among them. Of members with the same name the
    first counts. A member that is invalid does not make the others so.
    """
    return _read_header(text) if isinstance(text, str) and len(text) <= _LONGEST_HEADER else TraceHeader()


@lru_cache(maxsize=64)  # every event of a request has the same
def _read_header(text: str) -> TraceHeader:
    members: dict[str, str] = {}
    for part in text.split(";"):
        name, is_member, value = part.partition("=")
        if is_member:
            members.setdefault(name.strip(), value.strip())
    trace_id = from_xray(members.get("Root"))
    if trace_id is None:
        return TraceHeader()
    return TraceHeader(trace_id, span_id(members.get("Parent")), _SAMPLED.get(members.get("Sampled", "")))


def header_of(event: Mapping[str, Any]) -> tuple[TraceHeader, str | None]:
    """Return what a platform event's `tracing` tells, and the id of X-Ray's segment of the function if it is there."""
    tracing = event.get("tracing")
    if not isinstance(tracing, Mapping):
        return TraceHeader(), None
    return read_header(tracing.get("value")), span_id(tracing.get("spanId"))


# --- forms ----------------------------------------------------------------------------------------------------------


def trace_id(value: object) -> str | None:
    """Return a W3C trace id in lower case; None if `value` is none."""
    return _digits(value, _TRACE)


def span_id(value: object) -> str | None:
    """Return a span id in lower case; None if `value` is none."""
    return _digits(value, _SPAN)


def from_xray(value: object) -> str | None:
    """Return the trace id that X-Ray writes as `1-68c4a1f0-3b2a90d1c7e845f6a0b1c2d3`; None if `value` is none."""
    if not isinstance(value, str) or len(value) != 35 or value[:2] != "1-" or value[10] != "-":
        return None
    return _digits(value[2:10] + value[11:], _TRACE)


def to_xray(trace_id: str) -> str:
    """Return a trace id as X-Ray writes it. Its first part was a time once, and may be any digits today.

    Source: AWS X-Ray API reference, PutTraceSegments: ids of W3C are accepted in this form.
    """
    return f"1-{trace_id[:8]}-{trace_id[8:]}"


def from_datadog(value: object) -> str | None:
    """Return the trace id that a Datadog tracer writes: a decimal number of 64 bits, or 32 digits of 128 bits."""
    number = _decimal(value)
    return trace_id(value) if number is None else f"{number:032x}"


def span_from_datadog(value: object) -> str | None:
    """Return the span id that a Datadog tracer writes: a decimal number of 64 bits."""
    number = _decimal(value)
    return None if number is None else f"{number:016x}"


def _decimal(value: object) -> int | None:
    """Return the number above 0 that is written in decimal, if it has 64 bits at most."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    is_number = isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit()
    return number if is_number and 0 < (number := int(str(value))) <= _MASK else None


@lru_cache(maxsize=64)
def to_datadog(trace_id: str) -> str:
    """Return a trace id as Datadog joins logs to traces by it: its lower 64 bits as a decimal number.

    Source: Datadog, "Correlating OpenTelemetry traces and logs", read 2026-11-28.
    """
    return str(int(trace_id[-_SPAN:], 16))


def _digits(value: object, count: int) -> str | None:
    if not isinstance(value, str) or len(value) != count:
        return None
    text = value.lower()
    return text if not text.strip(_HEX) and text.strip("0") else None


# --- requests -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def trace_of(request_id: str) -> str:
    """Return the trace id of a request of which Lambda tells none: its own digits if it is a UUID, else a digest.

    So one can find the trace of a request, and the attempts of an asynchronous event, which have one request id, are
    in one trace.
    """
    return trace_id(request_id.replace("-", "")) or digest(request_id, digits=_TRACE)


def digest(*parts: object, digits: int = _SPAN) -> str:
    """Return an id that is made of `parts`: the same for the same parts, in every process."""
    text = "\n".join(map(str, parts))
    return blake2b(text.encode("utf-8", "replace"), digest_size=digits // 2).hexdigest()


# Where loggers write the ids of a line: names, each with the names of members within it. What begins with `dd` is
# written as Datadog writes it.
# Sources: OpenTelemetry, trace context in non-OTLP log formats (`trace_id`); its bridges for Python (`otelTraceID`)
# and .NET, and Spring (`traceId`); Datadog's tracers (`dd.trace_id`); New Relic and Elastic (`trace.id`); Powertools
# (`xray_trace_id`). All read 2026-11-28.
_TRACE_NAMES = {
    "trace_id": (), "traceId": (), "TraceId": (), "otelTraceID": (), "trace.id": (), "dd.trace_id": (),
    "xray_trace_id": (), "trace": ("id",), "dd": ("trace_id",),
}  # fmt: skip
_SPAN_NAMES = {
    "span_id": (), "spanId": (), "SpanId": (), "otelSpanID": (), "span.id": (), "dd.span_id": (), "span": ("id",),
    "dd": ("span_id",),
}  # fmt: skip
NAMES_OF_TRACES = frozenset(_TRACE_NAMES)


def trace_in(fields: Mapping[str, Any]) -> str | None:
    """Return the trace id that a JSON line tells of itself; None if it tells none that is valid."""
    if NAMES_OF_TRACES.isdisjoint(fields):
        return None
    if (found := _in_any_form(fields.get("trace_id"))) is not None:  # the usual case, kept fast
        return found
    return _first(fields, _TRACE_NAMES, _in_any_form, from_datadog)


def span_in(fields: Mapping[str, Any]) -> str | None:
    """Return the id of the span in which a JSON line says that it was written; None if it tells none that is valid."""
    return _first(fields, _SPAN_NAMES, span_id, span_from_datadog)


def _first(
    fields: Mapping[str, Any],
    names: Mapping[str, tuple[str, ...]],
    read: Callable[[object], str | None],
    read_datadog: Callable[[object], str | None],
) -> str | None:
    for name, inside in names.items():
        value = fields.get(name)
        for inner in inside:
            value = value.get(inner) if isinstance(value, Mapping) else None
        if (found := (read_datadog if name.startswith("dd") else read)(value)) is not None:
            return found
    return None


def _in_any_form(value: object) -> str | None:
    """Return a trace id that is written as W3C's or as X-Ray's, whatever its name says."""
    return _read(value) if value.__class__ is str else None


@lru_cache(maxsize=64)
def _read(value: object) -> str | None:
    return trace_id(value) or from_xray(value)


class Traces:
    """The trace ids of the requests that are known; those that Lambda told are remembered, as (request, trace id)."""

    def __init__(self, told: Iterable[tuple[str, str]]) -> None:
        self._told = dict(told)

    @property
    def told(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._told.items())

    def start(self, request_id: str, event: Mapping[str, Any], most: int) -> None:
        """Note what the start of a request tells, and forget those that started first of more than `most`."""
        self.forget(request_id)
        told = header_of(event)[0].trace_id
        if told is not None:
            self._told[request_id] = told
            while len(self._told) > most:
                del self._told[next(iter(self._told))]

    def forget(self, request_id: str) -> None:
        self._told.pop(request_id, None)

    def of(self, request_id: str | None) -> str | None:
        """Return the trace id of a request; None if there is no request."""
        return None if request_id is None else self._told.get(request_id) or trace_of(request_id)

    # The trace id that a JSON line tells of itself wins over that of its request.
    told_by = staticmethod(trace_in)
