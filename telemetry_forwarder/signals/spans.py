"""Trace invocations: fold the platform's events into a tree of spans for each request. Pure.

    <function name>         server      start of the request … its report
    ├─ init                 internal    only of the first request, if it waited for it: then the root begins here
    ├─ restore              internal    the same, from a snapshot
    ├─ invocation           internal    start … runtimeDone
    └─ extension overhead   internal    from runtimeDone on, as long as the report tells

A tree is made when the report comes, because only then everything is known, and whether it is wanted can be decided
with the outcome in sight. What is still open when the environment ends is marked `lambda.incomplete`. Requests may
interleave, as on Managed Instances. Where the function sends a span for its request itself, ours becomes its platform
part: of the same trace, internal, and below that span. Ids are made of the request and its start, so that whoever makes
a tree again, in this process or in another, makes the same ids.

Sources: AWS, "Converting Lambda Telemetry API Event objects to OpenTelemetry Spans"; OpenTelemetry semantic conventions
1.44, FaaS and AWS Lambda; both read 2026-11-28.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Any

from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.handover import Handover
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.signals.events import FAILED, error_type, escaped_error, metric_of
from telemetry_forwarder.signals.tree import INIT_TYPE, Invocation, Phase, error_of, invocation_of, phase_of, tree_of
from telemetry_forwarder.variables.table import MANAGED_INSTANCES

# An init that ended longer before the first request was none that the request waited for.
# Source: DataDog/datadog-lambda-extension, its rule for proactive initialisation, read 2026-11-28.
_MOST_GAP_MS = 10_000
_ON_DEMAND = "on-demand"
# Where requests do not interleave, a report comes before the start after the next one, or never.
_MOST_OPEN, _MOST_OPEN_MANAGED = 2, 1024
_MOST_PHASES = 8
_REMEMBERED = 1024  # requests whose tree was made
_ALL_SAMPLED = 1 << 56


class Spans:
    """Makes spans of one environment's records, which are given in order."""

    def __init__(self, sampling: str | float, *, is_xray: bool = False, before: Handover | None = None) -> None:
        """Start; `sampling` is that of TELEMETRY_FORWARDER_TRACES: `on`, `follow_xray` or a share of the requests.

        `is_xray`: spans go to X-Ray, where the spans that Lambda itself made are to be found. `before` is what an
        earlier process of ours left in this environment.
        """
        self._sampling = sampling
        self._is_xray = is_xray
        self._before = before or Handover()
        self._open: OrderedDict[str, Invocation] = OrderedDict()
        self._made: OrderedDict[str, float | None] = OrderedDict()  # requests whose tree was made, with their start
        self._phases: list[Phase] = []  # that belong to the next request
        self._told: deque[tuple[str, float]] = deque(maxlen=8 * _MOST_PHASES)  # phases and their events, with times
        self._running: dict[str, Phase] = {}  # those that have not ended, by name
        self._links: list[dict[str, str]] = []  # to the phases that the next request did not wait for
        # The trace and the span that an SDK in the function has sent for a request.
        self._servers: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self.unfinished: str | None = None  # the last request whose tree was made without its report
        if (traced := self._before.traced) is not None:
            self._made[traced] = self._inherited_start(traced)

    def trace(self, record: Record) -> Iterable[Derived]:
        """Return the spans that end with `record`."""
        context = record.context
        if context.type == "function":
            if context.level in FAILED:
                self._note_line(record)
            return ()
        make = _MAKE.get(context.type)
        return make(self, record, record.fields) if make is not None and isinstance(record.fields, Mapping) else ()

    def adopt(self, request_id: str, trace_id: str, span_id: str) -> None:
        """Note the span that an SDK in the function has sent for a request: the tree of the platform goes below it."""
        self._servers[request_id] = (trace_id, span_id)
        if len(self._servers) > _MOST_OPEN_MANAGED:
            self._servers.popitem(last=False)

    def finish(self, time_ms: float, reason: str | None = None) -> list[Derived]:
        """Return the spans of all that is open when the environment ends at `time_ms`.

        `reason` is that of the SHUTDOWN event; `timeout` and `failure` are the error of a request that did not end.
        """
        found = [one for phase in self._take_phases() for one in self._alone(phase)]
        while self._open:
            found += self._unfinished(time_ms, reason)
        return found

    # --- events -----------------------------------------------------------------------------------------------------

    def _on_phase_start(self, record: Record, event: Mapping[str, Any]) -> Iterable[Derived]:
        name = _PHASES[record.type]
        if not self._is_new(name, record.time_ms):
            return ()
        self._running[name] = phase = phase_of(name, record.time_ms, record, event)
        return self._place(record, phase)

    def _on_phase_report(self, record: Record, event: Mapping[str, Any]) -> Iterable[Derived]:
        name = _PHASES[record.type]
        if not self._is_new(record.type, record.time_ms):
            return ()
        phase = self._running.pop(name, None)
        found: list[Derived] = []
        if phase is None:  # its start was lost
            start_ms = record.time_ms - (metric_of(event, "durationMs") or 0)
            if not self._is_new(name, start_ms):
                return ()
            phase = phase_of(name, start_ms, record, event)
            found += self._place(record, phase)
        phase.end_ms, phase.error = record.time_ms, error_type(event)
        init_type = event.get("initializationType") or record.origin.init_type or _ON_DEMAND
        if name == "init" and init_type != _ON_DEMAND and phase in self._phases:  # nobody waited for it
            self._phases.remove(phase)
            found += self._alone(phase)
        return found

    def _on_start(self, record: Record, event: Mapping[str, Any]) -> Iterable[Derived]:
        request_id, start_ms = record.request_id, record.time_ms
        if request_id is None or self._is_told_again(request_id, start_ms):
            return ()
        found: list[Derived] = []
        if request_id in self._open:  # another attempt of an asynchronous event
            self._open.move_to_end(request_id, last=False)
            found += self._unfinished(start_ms)
        self._made.pop(request_id, None)
        self._open[request_id] = made = invocation_of(start_ms, record, event)
        for phase in self._take_phases():
            if _is_waited_for(phase, start_ms):
                made.phases.append(phase)
            else:
                found += self._alone(phase)
        made.links, self._links = self._links, []
        is_managed = record.origin.init_type == MANAGED_INSTANCES
        if len(self._open) > (_MOST_OPEN_MANAGED if is_managed else _MOST_OPEN):
            found += self._unfinished(start_ms)
        return found

    def _on_runtime_done(self, record: Record, event: Mapping[str, Any]) -> Iterable[Derived]:
        made = self._of(record, event)
        if made is not None and made.done is None:
            made.done, made.done_ms = event, record.time_ms
        return ()

    def _on_report(self, record: Record, event: Mapping[str, Any]) -> Iterable[Derived]:
        made = self._of(record, event)
        if made is None:
            return ()
        del self._open[made.request_id]
        return self._tree(made, record.time_ms, event)

    def _note_line(self, record: Record) -> None:
        made = self._open.get(record.request_id or "")
        if made is not None and made.escaped is None and (kind := escaped_error(record)) is not None:
            made.escaped = kind or "_OTHER"

    # --- requests and phases ----------------------------------------------------------------------------------------

    def _of(self, record: Record, event: Mapping[str, Any]) -> Invocation | None:
        """Return the request of an event of its end; None if its tree was made. One that is not known is rebuilt."""
        request_id = record.request_id
        if request_id is None or request_id in self._made:
            return None
        found = self._open.get(request_id)
        if found is None:
            start_ms = self._inherited_start(request_id)
            if start_ms is None:
                start_ms = record.time_ms - (metric_of(event, "durationMs") or 0)
            found = self._open[request_id] = invocation_of(start_ms, record, event)
        return found

    def _inherited_start(self, request_id: str) -> float | None:
        """Return when a request started that an earlier process left; None if that is not known."""
        started = self._before.started or ""
        return int(started) if self._before.request_id == request_id and started.isdecimal() else None

    def _is_told_again(self, request_id: str, start_ms: float) -> bool:
        found = self._open.get(request_id)
        return (found is not None and found.start_ms == start_ms) or self._made.get(request_id) == start_ms

    def _is_new(self, what: str, time_ms: float) -> bool:
        """Note that a phase began, or an event of one; return whether it was not told before."""
        is_new = (what, time_ms) not in self._told
        self._told.append((what, time_ms))
        return is_new

    def _place(self, record: Record, phase: Phase) -> Iterable[Derived]:
        """Give a phase to the request within which it began, or else to the next one."""
        within = self._open.get(record.request_id or "")
        if within is not None:
            within.phases.append(phase)
            return ()
        self._phases.append(phase)
        return self._alone(self._phases.pop(0)) if len(self._phases) > _MOST_PHASES else ()

    def _take_phases(self) -> list[Phase]:
        found, self._phases = self._phases, []
        return found

    # --- spans ------------------------------------------------------------------------------------------------------

    def _alone(self, phase: Phase) -> list[Derived]:
        """Make a phase a trace of its own, to which the next request links."""
        span = phase.alone()
        self._links = [*self._links, {"trace_id": span.trace_id, "span_id": span.span_id}][-_MOST_PHASES:]
        return [span.derived()]

    def _unfinished(self, end_ms: float, reason: str | None = None) -> list[Derived]:
        """Make the tree of the request that has been open longest, without its report."""
        request_id, made = self._open.popitem(last=False)
        self.unfinished = request_id
        return self._tree(made, end_ms if made.done_ms is None else made.done_ms, None, reason)

    def _tree(
        self, made: Invocation, end_ms: float, report: Mapping[str, Any] | None, reason: str | None = None
    ) -> list[Derived]:
        self._made[made.request_id] = made.start_ms
        if len(self._made) > _REMEMBERED:
            self._made.popitem(last=False)
        error = error_of(made, report, reason)
        if (server := self._servers.pop(made.request_id, None)) is not None:
            made.trace_id, made.server_id = server
        if not self._is_wanted(made, is_failed=error is not None):
            return []
        spans = tree_of(made, end_ms, report, error, is_xray=self._is_xray)
        return [one.derived(request_id=made.request_id, cold_start=made.is_cold) for one in spans]

    def _is_wanted(self, made: Invocation, *, is_failed: bool) -> bool:
        """Return whether a request becomes a trace: failures, cold starts, and what the function traces always do."""
        if is_failed or made.is_cold or made.phases or made.server_id is not None or self._sampling == "on":
            return True
        if isinstance(self._sampling, str):  # follow_xray
            return made.header.sampled is True
        # As OpenTelemetry samples by the random part of a trace id, so that others decide alike.
        return int(made.trace_id[-14:], 16) >= (1 - self._sampling) * _ALL_SAMPLED


def _is_waited_for(phase: Phase, start_ms: float) -> bool:
    """Return whether a request that starts at `start_ms` had to wait for `phase`."""
    gap_ms = start_ms - (phase.start_ms if phase.end_ms is None else phase.end_ms)
    return phase.attributes.get(INIT_TYPE, _ON_DEMAND) == _ON_DEMAND and gap_ms <= _MOST_GAP_MS


_PHASES = {
    "platform.initStart": "init", "platform.initReport": "init",
    "platform.restoreStart": "restore", "platform.restoreReport": "restore",
}  # fmt: skip
_MAKE = {
    "platform.initStart": Spans._on_phase_start,
    "platform.initReport": Spans._on_phase_report,
    "platform.restoreStart": Spans._on_phase_start,
    "platform.restoreReport": Spans._on_phase_report,
    "platform.start": Spans._on_start,
    "platform.runtimeDone": Spans._on_runtime_done,
    "platform.report": Spans._on_report,
}
