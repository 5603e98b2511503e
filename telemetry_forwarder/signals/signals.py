"""Derive metrics and spans from a body's records, as far as any sink takes them. Pure.

What is derived becomes a body of our own (`records.derived`), which passes the same spool, buffers, retry, failover
and ledger as what Lambda sent.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.handover import Handover
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.signals.events import FAILED, TELLING, is_killed
from telemetry_forwarder.signals.measuring import Meter, Prices
from telemetry_forwarder.signals.points import Point

if TYPE_CHECKING:
    from telemetry_forwarder.signals.spans import Spans


class Signals:
    """Derives from the records of one environment, which are given in order, what sinks take of it."""

    def __init__(
        self,
        takes: Collection[Signal],
        prices: Prices,
        *,
        traces: str | float = "off",
        is_xray: bool = False,
        before: Handover | None = None,
        converts_lines: bool = False,
    ) -> None:
        """Start; `takes` are the signals that any sink takes, `traces` is TELEMETRY_FORWARDER_TRACES.

        `converts_lines`: make metrics of the metric lines that functions print, too. For `is_xray` see Spans. `before`
        is what an earlier process of ours left in this environment.
        """
        before = before or Handover()
        is_measured, is_traced = Signal.METRIC in takes, Signal.SPAN in takes and traces != "off"
        is_successor = before.request_id is not None
        self._meter = Meter(prices, is_successor=is_successor, measured=before.measured) if is_measured else None
        self._in_line = _metrics_in_lines() if converts_lines and is_measured else None
        self._spans = _spans(traces, is_xray=is_xray, before=before) if is_traced else None

    def telling(self, records: Sequence[Record]) -> list[Record]:
        """Return those of `records` that may tell something: `of` makes the same of them as of all."""
        return [
            record
            for record in records
            if (context := record.context).type in TELLING
            or (context.type == "function" and (context.level in FAILED or is_killed(record.body)))
            or (self._in_line is not None and record.fields)
        ]

    def of(self, records: Sequence[Record]) -> Iterator[tuple[Signal, list[Derived]]]:
        """Yield each signal with what `records` tell of it, if they tell anything."""
        if self._meter is not None:
            measure = self._meter.measure
            found = [made for record in records if (made := measure(record)) is not None]
            if (in_line := self._in_line) is not None:
                found += [made for record in records if record.fields for made in in_line(record)]
            if found:
                yield Signal.METRIC, found
        if self._spans is not None:
            trace = self._spans.trace
            if spans := [made for record in records for made in trace(record)]:
                yield Signal.SPAN, spans

    def note_received(self, derived: Sequence[Derived]) -> None:
        """Note spans that the function has sent: one of them may be its own for a request."""
        if self._spans is None:
            return
        for one in derived:
            if one.request_id is not None and one.fields["kind"] == "server":
                self._spans.adopt(one.request_id, one.fields["trace_id"], one.fields["span_id"])

    def finish(self, time_ms: int, reason: str | None = None) -> Iterator[tuple[Signal, list[Derived]]]:
        """Yield what is still open when the environment ends at `time_ms`, as far as it is known.

        `reason` is that of the SHUTDOWN event.
        """
        if self._spans is not None and (spans := self._spans.finish(time_ms, reason)):
            yield Signal.SPAN, spans

    @property
    def unfinished(self) -> str | None:
        """The last request whose trace was made without its report, which the next process may get."""
        return self._spans.unfinished if self._spans is not None else None

    def note_usage(self, points: Sequence[Point]) -> None:
        """Note what the invocation that ends next used of the machine."""
        if self._meter is not None:
            self._meter.usage = points

    @property
    def has_metrics(self) -> bool:
        return self._meter is not None


def _metrics_in_lines() -> Callable[[Record], list[Derived]]:
    from telemetry_forwarder.signals.metric_lines import metrics_in  # loaded only if wanted

    return metrics_in


def _spans(traces: str | float, *, is_xray: bool, before: Handover | None) -> "Spans":
    from telemetry_forwarder.signals.spans import Spans  # loaded only if wanted

    return Spans(traces, is_xray=is_xray, before=before)
