"""Measure invocations: fold the platform's events into metrics. Pure.

Nothing is held for another event: counts leave with `platform.runtimeDone`, what is billed leaves with
`platform.report`, which may come minutes later or never. Only Managed Instances have no `runtimeDone`; there, and where
it was lost, the report counts. Each event of a request counts once, however often it is told.

Platform events do not tell every error: an exception that the runtime reports as its response is a success for the
platform. So errors that only the function's own lines tell are counted under a name of their own, and never summed up
with the others.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.signals.events import FAILED, error_type, is_killed, spans_of
from telemetry_forwarder.signals.events import escaped_error as _escaped
from telemetry_forwarder.signals.events import metric_of as _metric
from telemetry_forwarder.signals.events import span_of as _span
from telemetry_forwarder.signals.points import MetricKind, Point, metrics
from telemetry_forwarder.signals.prices import Rates, rates
from telemetry_forwarder.variables.table import MANAGED_INSTANCES

_COUNT, _GAUGE, _DISTRIBUTION = MetricKind.COUNT, MetricKind.GAUGE, MetricKind.DISTRIBUTION
PLATFORM = "platform"
# Requests of which events were counted: more than are under way at a time, and few enough to cost nothing.
_REMEMBERED = 1024
# Of the memory that a function has, so much was in use if it was killed for it.
# Source: Lambda kills at the limit, but the sample before the kill is the one that is reported.
_NEARLY_ALL = 0.95
_INVOCATION, _SUCCESS, _ERROR, _TIMEOUT, _COLD_START = (
    Point(f"lambda.{name}", 1, "1", _COUNT)
    for name in ("invocations", "successes", "errors", "timeouts", "cold_starts")
)
_SPANS = {"responseLatency": "response_latency", "responseDuration": "response_duration",
          "runtimeOverhead": "runtime_overhead"}  # fmt: skip


class Prices(Struct, frozen=True):
    """What decides on the estimated cost beside the event: the processor, and the rates that the user gave, in USD."""

    machine: str = "x86_64"
    request: float | None = None
    gb_second: float | None = None


class Meter:
    """Makes metrics of one environment's records, which are given in order."""

    def __init__(self, prices: Prices, *, is_successor: bool = False, measured: str | None = None) -> None:
        """Start; `is_successor`: another process of ours ran in this environment before, and has counted its init.

        `measured` is the request whose end that process has measured last.
        """
        self._prices = prices
        self._seen: OrderedDict[tuple[str, str], float | None] = OrderedDict()  # events, with their duration in ms
        if measured is not None:
            self._seen["done", measured] = None
        self._killed: str | None = None  # the request whose runtime was killed, as a line told
        self._has_init = is_successor
        self._rates: tuple[Any, Rates] | None = None
        self.usage: Sequence[Point] = ()  # of the machine in the invocation that ends next

    def measure(self, record: Record) -> Derived | None:
        """Return the metrics that `record` tells, if any."""
        kind = record.context.type
        if kind == "function":
            return self._of_line(record)
        make = _MAKE.get(kind)
        return make(self, record, record.fields) if make is not None and record.fields is not None else None

    # --- events -----------------------------------------------------------------------------------------------------

    def _on_start(self, record: Record, event: Mapping[str, Any]) -> None:
        """Let a request count again if it starts again: each attempt of an asynchronous event has the same id."""
        key = ("start", record.request_id or "")
        if self._seen.get(key) != record.time_ms:
            for what in ("done", "report", "line"):
                self._seen.pop((what, key[1]), None)
            self._note(key, record.time_ms)

    def _on_runtime_done(self, record: Record, event: Mapping[str, Any]) -> Derived | None:
        duration = _metric(event, "durationMs")
        if not self._is_new("done", record, duration):
            return None
        points = _counts(event.get("status", "success"), is_cold=record.cold_start or False)
        points += _measured("runtime_duration", duration, "ms")
        points += _measured("produced_bytes", _metric(event, "producedBytes"), "By")
        points += _of_spans(event)
        points += self.usage
        self.usage = ()
        return self._metrics(record, event, points)

    def _on_report(self, record: Record, event: Mapping[str, Any]) -> Derived | None:
        if not self._is_new("report", record, None):
            return None
        is_managed = record.origin.init_type == MANAGED_INSTANCES
        done = self._seen.get(("done", record.request_id or ""), _UNSEEN)
        points: list[Point] = []
        if done is _UNSEEN:  # nothing else will count this invocation
            self._is_new("done", record, None)
            points += _counts(event.get("status", "success"), is_cold=record.cold_start or False)
            points += _of_spans(event)
        duration, memory = _metric(event, "durationMs"), _metric(event, "memorySizeMB")
        points += _measured("duration", duration, "ms")
        if isinstance(done, int | float) and duration is not None and duration >= done:
            points += _measured("post_runtime_duration", round(duration - done, 3), "ms")
        points += _measured("extension_overhead", _span(event, "extensionOverhead"), "ms")
        billed = _metric(event, "billedDurationMs")
        points += _measured("billed_duration", billed, "ms")
        points += _measured("memory_used", _metric(event, "maxMemoryUsedMB"), "MiBy")
        if memory is not None:
            points.append(Point("lambda.memory_size", memory, "MiBy", _GAUGE))
        if billed is not None and memory is not None and not is_managed:
            points += _measured("estimated_cost", self._rates_of(record).cost(billed, memory), "USD")
        if not self._has_init and record.cold_start and (init := _metric(event, "initDurationMs")) is not None:
            self._has_init = True
            points += _measured("init_duration", init, "ms")
        attributes = {}
        if (evidence := self._out_of_memory(record, event)) is not None:
            points.append(Point("lambda.out_of_memory", 1, "1", _COUNT))
            attributes["oom.evidence"] = evidence
        return self._metrics(record, event, points, attributes)

    def _on_init_report(self, record: Record, event: Mapping[str, Any]) -> Derived | None:
        if not self._is_new("init", record, None):
            return None
        self._has_init = True
        attributes = {"init.type": str(event.get("initializationType") or record.origin.init_type or "on-demand")}
        if isinstance(phase := event.get("phase"), str):
            attributes["init.phase"] = phase
        return self._metrics(record, event, _measured("init_duration", _metric(event, "durationMs"), "ms"), attributes)

    def _on_restore_report(self, record: Record, event: Mapping[str, Any]) -> Derived | None:
        if not self._is_new("restore", record, None):
            return None
        return self._metrics(record, event, _measured("restore_duration", _metric(event, "durationMs"), "ms"))

    def _of_line(self, record: Record) -> Derived | None:
        """Count an error that the function's own lines tell, once for each request."""
        if is_killed(record.body):
            self._killed = record.request_id
        if record.level not in FAILED or (kind := _escaped(record)) is None:
            return None
        if not self._is_new("line", record, None):
            return None
        points = [Point("lambda.function_errors", 1, "1", _COUNT)]
        return metrics(points, record.time_ms, PLATFORM, {"error.type": kind} if kind else {}, **_context(record))

    # --- parts ------------------------------------------------------------------------------------------------------

    def _metrics(
        self, record: Record, event: Mapping[str, Any], points: list[Point], more: Mapping[str, str] | None = None
    ) -> Derived | None:
        if not points:
            return None
        attributes = dict(more or {})
        if (error := error_type(event)) is not None:
            attributes["error.type"] = error
        return metrics(points, record.time_ms, PLATFORM, attributes, **_context(record))

    def _is_new(self, what: str, record: Record, duration: float | None) -> bool:
        """Note an event of a request, or of no request at its time; return whether it was not seen before."""
        key = (
            what,
            record.request_id if what in ("done", "report", "line") and record.request_id else str(record.time_ms),
        )
        if key in self._seen:
            return False
        self._note(key, duration)
        return True

    def _note(self, key: tuple[str, str], value: float | None) -> None:
        self._seen[key] = value
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    def _rates_of(self, record: Record) -> Rates:
        origin = record.origin
        if self._rates is None or self._rates[0] is not origin:
            given = self._prices
            found = rates(origin.region, given.machine, origin.init_type, given.request, given.gb_second)
            self._rates = (origin, found)
        return self._rates[1]

    def _out_of_memory(self, record: Record, event: Mapping[str, Any]) -> str | None:
        """Return what shows that the invocation ran out of memory; None if nothing does.

        All of the memory in use is no evidence by itself: the page cache counts as used.
        """
        size, used = _metric(event, "memorySizeMB"), _metric(event, "maxMemoryUsedMB")
        kind, status = event.get("errorType"), event.get("status", "success")
        if kind == "Runtime.OutOfMemory":
            return "error_type"
        if size is None or used is None or status == "success":
            return None
        if used >= size:
            return "memory_full"
        is_killed = kind == "Runtime.ExitError" and record.request_id is not None and self._killed == record.request_id
        return "killed" if is_killed and used >= _NEARLY_ALL * size else None


_UNSEEN = object()
_MAKE = {
    "platform.start": Meter._on_start,
    "platform.runtimeDone": Meter._on_runtime_done,
    "platform.report": Meter._on_report,
    "platform.initReport": Meter._on_init_report,
    "platform.restoreReport": Meter._on_restore_report,
}


def _context(record: Record) -> dict[str, Any]:
    return {"request_id": record.request_id, "cold_start": record.cold_start, "trace_id": record.context.trace_id}


def _counts(status: object, *, is_cold: bool) -> list[Point]:
    """Return the counts of one invocation."""
    found = [_INVOCATION, _SUCCESS if status == "success" else _ERROR]
    if status == "timeout":
        found.append(_TIMEOUT)
    if is_cold:
        found.append(_COLD_START)
    return found


def _of_spans(event: Mapping[str, Any]) -> list[Point]:
    return [point for name, value in spans_of(event, _SPANS).items() for point in _measured(name, value, "ms")]


def _measured(name: str, value: float | None, unit: str) -> list[Point]:
    return [] if value is None else [Point(f"lambda.{name}", value, unit, _DISTRIBUTION)]
