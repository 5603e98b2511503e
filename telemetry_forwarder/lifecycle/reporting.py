"""Report what telemetry alone does not tell: the use of the machine, the ledger once a period, and the end."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.delivery.ledger_event import LedgerReporter, Report
from telemetry_forwarder.delivery.worker import Worker
from telemetry_forwarder.intake.intake import Intake
from telemetry_forwarder.ledger import IntakeCounts
from telemetry_forwarder.log import Log
from telemetry_forwarder.records.record import Event, Origin, Signal
from telemetry_forwarder.spool.spool import Spool
from telemetry_forwarder.usage import Usage

if TYPE_CHECKING:
    from telemetry_forwarder.intake.datagrams import Datagrams
    from telemetry_forwarder.intake.deriving import Deriving

# The end of an invocation; on Managed Instances, where there are only reports, its report.
_ENDS = frozenset({"platform.runtimeDone", "platform.report"})


class Reporting:
    """Makes records of our own at the begin and the end of invocations, and hands them to the intake.

    Nothing here waits or sets a timer. Without `ledger` the ledger is written at the end alone; without `deriving` no
    sink takes metrics or spans.
    """

    def __init__(
        self,
        intake: Intake,
        origin: Origin,
        deriving: "Deriving | None",
        datagrams: "Datagrams | None",
        ledger: LedgerReporter | None,
        *,
        counts: IntakeCounts,
        workers: Sequence[Worker],
        spool: Spool | None,
        clock: Clock,
        log: Log,
    ) -> None:
        self._intake = intake
        self._origin = origin
        self._deriving = deriving
        self._has_metrics = deriving is not None and deriving.has_metrics
        self._usage = Usage(log.info, clock) if self._has_metrics else None
        self._datagrams = datagrams
        self._ledger = ledger
        self._counts = counts
        self._workers = workers
        self._spool = spool
        self._clock = clock
        self._log = log

    def on_invoke(self) -> None:
        """Note the begin of an invocation."""
        if self._usage is not None:
            self._usage.begin()

    def on_events(self, events: Sequence[Event]) -> None:
        """Note the platform's events before the records of their body are made."""
        if not any(event.type in _ENDS for event in events):
            return
        if self._usage is not None and self._deriving is not None and (points := self._usage.end()):
            self._deriving.note_usage(points)
        self._collect()
        if self._ledger is not None and self._ledger.is_due(self._clock.time()):
            self.report_ledger(self._ledger)

    def report_ledger(self, ledger: LedgerReporter) -> None:
        """Report what was counted since the last report, to all who want to know."""
        report = self._report(ledger)
        if self._has_metrics:
            self._intake.take_unsent(Signal.METRIC, report.metrics())
        if ledger.is_record_wanted:
            self._intake.take_unsent(Signal.LOG, [report.record()])
            self._write(report)

    def finish(self, reason: str | None) -> None:
        """Hand on what is still open, as the environment ends for `reason` (None: without SHUTDOWN)."""
        self._collect()
        if self._deriving is not None:
            self._deriving.finish(self._now_ms, reason)
        if self._ledger is not None:
            self.report_ledger(self._ledger)

    def close(self) -> None:
        """Write what was counted since `finish`: what the drain lost, no sink can be told any more."""
        if self._ledger is not None and self._ledger.is_record_wanted:
            self._write(self._report(self._ledger))

    def _report(self, ledger: LedgerReporter) -> Report:
        statements = {worker.name: worker.statement() for worker in self._workers}
        spool_bytes = self._spool.size_bytes if self._spool is not None else None
        return ledger.report(self._counts, statements, spool_bytes, self._now_ms)

    def _write(self, report: Report) -> None:
        self._log.note("ledger of a period", **report.fields, **report.emf(self._origin.function_name))

    def _collect(self) -> None:
        """Hand on what the function sent by DogStatsD."""
        if self._datagrams is not None and (found := self._datagrams.collect(self._now_ms)):
            self._intake.take_unsent(Signal.METRIC, found)

    @property
    def _now_ms(self) -> int:
        return round(self._clock.time() * 1000)
