"""The ledger while the environment lives: as metrics, as a record, and as a line of EMF, each period once.

The ledger at the end tells what was lost when it is too late to act; these can be graphed and alarmed on. Counts are
those since the last report. A report is made at the end of an invocation, never by a timer: an idle environment is
frozen, and has nothing to tell.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from telemetry_forwarder.ledger import IntakeCounts, Statement
from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.signals.points import MetricKind, Point, metrics

LEDGER = "forwarder.ledger"
NAMESPACE = "TelemetryForwarder"
_SOURCE = "forwarder"
_COUNT, _GAUGE = MetricKind.COUNT, MetricKind.GAUGE


class _Totals(Struct):
    """What was counted up to the last report, by sink where it is of one."""

    received: int = 0
    lost_before_us: int = 0
    sinks: dict[str, dict[str, int]] = {}


class LedgerReporter:
    """Makes reports of the ledger, at most one in `period_s` seconds."""

    def __init__(self, period_s: float, *, is_record_wanted: bool) -> None:
        """Start; `is_record_wanted`: also make the record and the line. Without them there are metrics alone."""
        self.is_record_wanted = is_record_wanted
        self._period_s = period_s
        self._last_s: float | None = None
        self._before = _Totals()

    def is_due(self, time_s: float) -> bool:
        """Return whether a period has passed at `time_s` (since the epoch); the first call begins the first one."""
        if self._last_s is None:
            self._last_s = time_s
        return not 0 <= time_s - self._last_s < self._period_s

    def report(
        self, counts: IntakeCounts, statements: Mapping[str, Statement], spool_bytes: int | None, time_ms: int
    ) -> "Report":
        """Return what was counted since the last report."""
        self._last_s = time_ms / 1000
        now = _Totals(counts.received, counts.lost_before_us, {name: _counted(one) for name, one in statements.items()})
        before, self._before = self._before, now
        told = {
            "received": now.received - before.received,
            "lost_before_us": now.lost_before_us - before.lost_before_us,
        }
        sinks = {
            name: {what: count - before.sinks.get(name, {}).get(what, 0) for what, count in found.items()}
            for name, found in now.sinks.items()
        }
        held = {name: statement.held for name, statement in statements.items()}
        return Report(time_ms, told, sinks, held, spool_bytes)


def _counted(statement: Statement) -> dict[str, int]:
    dropped = {f"dropped.{reason}": count for reason, count in statement.dropped.items()}
    return {
        "delivered": statement.delivered,
        "spilled": statement.spilled,
        "attempts": statement.attempts,
        "failed_attempts": statement.failed_attempts,
        **dropped,
    }


class Report(Struct, frozen=True):
    """What was counted in a period: `told` of the environment, `sinks` by sink; `held` and `spool_bytes` are of now."""

    time_ms: int
    told: Mapping[str, int]
    sinks: Mapping[str, Mapping[str, int]]
    held: Mapping[str, int]
    spool_bytes: int | None

    def metrics(self) -> list[Derived]:
        """Return the metric records: one of the environment, and for each sink one, and one for each reason of loss."""
        points = [Point(f"forwarder.{name}", count, "1", _COUNT) for name, count in self.told.items()]
        if self.spool_bytes is not None:
            points.append(Point("forwarder.spool_bytes", self.spool_bytes, "By", _GAUGE))
        found = [metrics(points, self.time_ms, _SOURCE)]
        for sink, counted in self.sinks.items():
            points = [Point(f"forwarder.{name}", n, "1", _COUNT) for name, n in counted.items() if "." not in name]
            points.append(Point("forwarder.held", self.held[sink], "{record}", _GAUGE))
            found.append(metrics(points, self.time_ms, _SOURCE, {"sink": sink}))
            for name, count in counted.items():
                what, _, reason = name.partition(".")
                if reason and count:
                    lost = [Point(f"forwarder.{what}", count, "1", _COUNT)]
                    found.append(metrics(lost, self.time_ms, _SOURCE, {"sink": sink, "reason": reason}))
        return found

    @property
    def fields(self) -> dict[str, Any]:
        """The same as one JSON object, for a record and for the extension's own line."""
        sinks = {name: {**counted, "held": self.held[name]} for name, counted in self.sinks.items()}
        return {**self.told, "sinks": sinks, "spool_bytes": self.spool_bytes}

    def record(self) -> Derived:
        """Return the log record; its level is `error` if records were lost on our side, `warn` if before us."""
        is_lost = any(count for found in self.sinks.values() for name, count in found.items() if _is_loss(name))
        level = "error" if is_lost else "warn" if self.told["lost_before_us"] else "info"
        return Derived(type=LEDGER, time_ms=self.time_ms, fields=self.fields, level=level)

    def emf(self, function_name: str) -> dict[str, Any]:
        """Return the members that make CloudWatch take the figures of a log line as metrics, over all sinks.

        Source: CloudWatch User Guide, "Specification: Embedded metric format", read 2026-11-28.
        """
        values = {
            "Delivered": sum(found["delivered"] for found in self.sinks.values()),
            "Dropped": sum(n for found in self.sinks.values() for name, n in found.items() if _is_loss(name)),
            "Held": sum(self.held.values()),
            "LostBeforeUs": self.told["lost_before_us"],
        }
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [["function_name"]],
            "Metrics": [{"Name": name, "Unit": "Count"} for name in values],
        }
        about = {"Timestamp": self.time_ms, "CloudWatchMetrics": [directive]}
        return {"_aws": about, "function_name": function_name, **values}


_WANTED = ("dropped.filtered",)  # dropped on the user's request


def _is_loss(name: str) -> bool:
    return name.startswith("dropped.") and name not in _WANTED
