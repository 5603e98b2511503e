"""Make the spans of one invocation. Pure.

A span record has plain JSON fields, so that a spool and a failover can keep them; what is not needed is left out:

    {"trace_id": 32 hexadecimal digits, "span_id": 16, "parent_id": 16 (absent: a root), "name": "init",
     "kind": "server" | "internal", "start_ns": …, "end_ns": … (integers since the epoch), "attributes": {…},
     "error": true (absent: unset), "message": "…" (only of an error), "links": [{"trace_id": …, "span_id": …}],
     "flags": 1 (it is sampled: by us, whatever X-Ray does)}

All other times here are in ms since the epoch.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

from msgspec import Struct, field

from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.record import SPAN, Origin, Record
from telemetry_forwarder.records.tracing import TraceHeader, digest, header_of, trace_of
from telemetry_forwarder.signals.events import error_type, metric_of, metrics_of, span_of, spans_of

_Event: TypeAlias = Mapping[str, Any]
_NS = 1_000_000  # in a millisecond
_LATEST_MS = (2**63 - 1) // _NS
_METRICS = {
    "durationMs": "aws.lambda.duration_ms", "billedDurationMs": "aws.lambda.billed_duration_ms",
    "memorySizeMB": "aws.lambda.memory_size_mb", "maxMemoryUsedMB": "aws.lambda.max_memory_used_mb",
    "initDurationMs": "aws.lambda.init_duration_ms", "restoreDurationMs": "aws.lambda.restore_duration_ms",
    "billedRestoreDurationMs": "aws.lambda.billed_restore_duration_ms",
}  # fmt: skip
_TIMES = {
    "responseLatency": "aws.lambda.response_latency_ms", "responseDuration": "aws.lambda.response_duration_ms",
    "runtimeOverhead": "aws.lambda.runtime_overhead_ms",
}  # fmt: skip
_SIZES = {"producedBytes": "aws.lambda.produced_bytes"}
_ENDED_BY = ("timeout", "failure")  # of the reasons of a SHUTDOWN, those that end a request
INCOMPLETE, INIT_TYPE = "lambda.incomplete", "aws.lambda.init_type"
# The platform's part of a request that the function traces: it begins before the function's span, and ends after it.
PLATFORM = "lambda.platform"


class Span(Struct):
    """A span while it is made."""

    trace_id: str
    span_id: str
    name: str
    start_ms: float
    end_ms: float
    kind: str = "internal"
    parent_id: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    links: list[dict[str, str]] = field(default_factory=list)
    is_failed: bool = False
    message: str | None = None

    def fail(self, error: str, message: str | None = None) -> None:
        """Note that it failed, with the class of the error."""
        self.attributes["error.type"] = error
        self.is_failed, self.message = True, message

    def derived(self, **context: Any) -> Derived:
        """Return the record to be; `context` as in Derived."""
        fields: dict[str, Any] = {
            "trace_id": self.trace_id,
            "span_id": self.span_id,
            "name": self.name,
            "kind": self.kind,
            "start_ns": _ns(self.start_ms),
            "end_ns": _ns(self.end_ms),
            "attributes": self.attributes,
            "flags": 1,
        }
        if self.parent_id is not None:
            fields["parent_id"] = self.parent_id
        if self.is_failed:
            fields["error"] = True
        if self.message is not None:
            fields["message"] = self.message
        if self.links:
            fields["links"] = self.links
        return Derived(type=SPAN, time_ms=fields["start_ns"] // _NS, fields=fields, trace_id=self.trace_id, **context)


def _ns(time_ms: float) -> int:
    """Return a time in ns, from 1970 until the year 2262: what 64 bits hold."""
    if time_ms.__class__ is int and 0 <= time_ms <= _LATEST_MS:
        return int(time_ms) * _NS
    bounded = min(max(time_ms, 0), _LATEST_MS)
    whole = int(bounded)
    return whole * _NS + round((bounded - whole) * _NS)


class Phase(Struct):
    """An init or a restore. Without `end_ms` its end was not told."""

    name: str
    start_ms: float
    header: TraceHeader = TraceHeader()
    end_ms: float | None = None
    error: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    instance: str = ""  # the environment's name

    def span(self, trace_id: str, span_id: str, parent_id: str | None, otherwise_ms: float) -> Span:
        """Return its span; without its end it ends at `otherwise_ms`."""
        end_ms = max(self.start_ms, otherwise_ms if self.end_ms is None else self.end_ms)
        more = {INCOMPLETE: True} if self.end_ms is None else {}
        attributes = {**self.attributes, **more}
        found = Span(trace_id, span_id, self.name, self.start_ms, end_ms, parent_id=parent_id, attributes=attributes)
        if self.error is not None:
            found.fail(self.error)
        return found

    def alone(self) -> Span:
        """Return its span as a trace of its own."""
        trace_id = self.header.trace_id or digest(self.instance, self.name, self.start_ms, digits=32)
        return self.span(trace_id, digest(self.instance, self.name, self.start_ms), None, self.start_ms)


class Invocation(Struct):
    """A request that is under way, or whose report is still to come."""

    request_id: str
    start_ms: float
    trace_id: str
    origin: Origin
    is_cold: bool | None
    header: TraceHeader
    segment_id: str | None  # of X-Ray's own segment of the function
    attributes: dict[str, Any]
    phases: list[Phase] = field(default_factory=list)
    links: list[dict[str, str]] = field(default_factory=list)
    done: _Event | None = None  # its `runtimeDone`, and the time of that
    done_ms: float | None = None
    escaped: str | None = None  # the class of an exception that only the function's lines tell
    server_id: str | None = None  # the span that an SDK in the function has sent for it

    def id_of(self, role: str, *more: object) -> str:
        """Return the id of its span in a role: the same whoever makes it, another for another attempt of an event."""
        return digest(self.request_id, self.start_ms, role, *more)


def phase_of(name: str, start_ms: float, record: Record, event: _Event) -> Phase:
    """Return the phase of which `event` tells."""
    names = (("initializationType", INIT_TYPE), ("phase", "aws.lambda.init_phase"))
    attributes = {ours: value for theirs, ours in names if isinstance(value := event.get(theirs), str)}
    instance = record.origin.instance_id or record.origin.function_name
    return Phase(name, start_ms, header_of(event)[0], attributes=attributes, instance=instance)


def invocation_of(start_ms: float, record: Record, event: _Event) -> Invocation:
    """Return the invocation of which `event` tells: its start or, if that was lost, its end."""
    request_id = record.request_id or ""
    header, segment_id = header_of(event)
    attributes = {"faas.invocation_id": request_id, "faas.trigger": "other", **_arns(record.origin, event)}
    if record.cold_start is not None:
        attributes["faas.coldstart"] = record.cold_start
    if isinstance(tenant := event.get("tenantId"), str):
        attributes["aws.lambda.tenant_id"] = tenant
    trace_id = record.context.trace_id or header.trace_id or trace_of(request_id)
    return Invocation(request_id, start_ms, trace_id, record.origin, record.cold_start, header, segment_id, attributes)


def _arns(origin: Origin, event: _Event) -> dict[str, Any]:
    """Return the ARN with the version in the place of an alias, and the one that was invoked if that is another."""
    invoked = event.get("functionArn") or origin.function_arn
    if not isinstance(invoked, str):
        return {}
    version = event.get("version") or origin.function_version
    parts = invoked.split(":")
    is_qualified = len(parts) == 8 and isinstance(version, str)
    resource = ":".join([*parts[:7], str(version)]) if is_qualified else invoked
    return {"cloud.resource_id": resource} | ({"aws.lambda.invoked_arn": invoked} if resource != invoked else {})


def error_of(made: Invocation, report: _Event | None, reason: str | None) -> str | None:
    """Return the class of the error with which a request ended; None if none is known.

    Without an end, the `reason` for which the environment ends may tell it.
    """
    for event in (report, made.done):
        if event is not None and (found := error_type(event)) is not None:
            return found
    if made.escaped is not None:
        return made.escaped
    return reason if reason in _ENDED_BY and made.done is None else None


def tree_of(made: Invocation, end_ms: float, report: _Event | None, error: str | None, *, is_xray: bool) -> list[Span]:
    """Return the spans of an invocation, the root first. Without its `report` it ends at `end_ms` at the earliest.

    `is_xray`: they go to X-Ray.
    """
    root = _root(made, end_ms, report, is_xray=is_xray)
    spans = [root, *_phases(made, root, report), *_steps(made, root, report)]
    root.start_ms = min(one.start_ms for one in spans)
    root.end_ms = max(one.end_ms for one in spans)
    if error is not None:
        message = _message(error, report or made.done)
        for one in spans:
            if one is root or one.name == "invocation":
                one.fail(error, message)
    return spans


def _root(made: Invocation, end_ms: float, report: _Event | None, *, is_xray: bool) -> Span:
    attributes, links, parent = dict(made.attributes), list(made.links), made.header.parent_id
    if made.server_id is not None:
        attributes[PLATFORM] = True
    if report is not None:
        attributes |= metrics_of(report, _METRICS)
    else:
        attributes[INCOMPLETE] = True
    # Lambda's own spans are in X-Ray alone, and only if it records the trace; elsewhere the parent would be missing.
    is_below = is_xray and made.header.sampled is True and made.server_id is None
    if parent is not None and not is_below:
        links.append({"trace_id": made.header.trace_id or made.trace_id, "span_id": parent})
    return Span(
        made.trace_id,
        (made.segment_id if is_below else None) or made.id_of("root"),
        made.origin.function_name,
        made.start_ms,
        max(end_ms, made.start_ms),
        kind="server" if made.server_id is None else "internal",  # else it is the platform's part of the function's own
        parent_id=parent if is_below else made.server_id,
        attributes=attributes,
        links=links,
    )


def _phases(made: Invocation, root: Span, report: _Event | None) -> list[Span]:
    phases = made.phases
    if not phases and made.is_cold and (duration := _metric(report, "initDurationMs")) is not None:
        phases = [Phase("init", made.start_ms - duration, end_ms=made.start_ms)]  # both of its events were lost
    # A phase that did not end before the request ended within it, or with it.
    return [
        one.span(
            made.trace_id,
            made.id_of(one.name, one.start_ms),
            root.span_id,
            made.start_ms if one.start_ms < made.start_ms else root.end_ms,
        )
        for one in phases
    ]


def _steps(made: Invocation, root: Span, report: _Event | None) -> list[Span]:
    overhead, duration = span_of(report or {}, "extensionOverhead"), _metric(report, "durationMs")
    done_ms = made.done_ms
    if done_ms is None:  # it was lost; on Managed Instances there is none
        done_ms = root.end_ms if duration is None else made.start_ms + max(0.0, duration - (overhead or 0.0))

    def step(name: str, start_ms: float, end_ms: float, attributes: dict[str, Any]) -> Span:
        span_id, end_ms = made.id_of(name), max(start_ms, end_ms)
        return Span(made.trace_id, span_id, name, start_ms, end_ms, parent_id=root.span_id, attributes=attributes)

    found = [step("invocation", made.start_ms, done_ms, _times(made, report))]
    if overhead is not None:
        found.append(step("extension overhead", done_ms, done_ms + overhead, {}))
    return found


def _times(made: Invocation, report: _Event | None) -> dict[str, Any]:
    """Return what the events tell of the response. On Managed Instances the report tells it."""
    found: dict[str, Any] = {}
    for event in (report, made.done):
        if event is not None:
            found |= spans_of(event, _TIMES)
            found |= metrics_of(event, _SIZES)
    return found


def _message(error: str, end: _Event | None) -> str | None:
    duration = _metric(end, "durationMs")
    return f"Task timed out after {duration / 1000:.2f} seconds" if error == "timeout" and duration else None


def _metric(event: _Event | None, name: str) -> float | None:
    return None if event is None else metric_of(event, name)
