"""Derive metrics and spans from a body's records, as far as any sink takes them. Pure.

What is derived becomes a body of our own (`records.derived`), which passes the same spool, buffers, retry, failover
and ledger as what Lambda sent.
"""

from collections.abc import Collection, Iterator, Sequence

from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.signals.measuring import Meter, Prices
from telemetry_forwarder.signals.points import Point


class Signals:
    """Derives from the records of one environment, which are given in order, what sinks take of it."""

    def __init__(
        self,
        takes: Collection[Signal],
        prices: Prices,
        *,
        is_successor: bool = False,
        measured: str | None = None,
    ) -> None:
        """Start; `takes` are the signals that any sink takes. For `is_successor` and `measured` see Meter."""
        self._meter = Meter(prices, is_successor=is_successor, measured=measured) if Signal.METRIC in takes else None

    def of(self, records: Sequence[Record]) -> Iterator[tuple[Signal, list[Derived]]]:
        """Yield each signal with what `records` tell of it, if they tell anything."""
        if self._meter is not None:
            measure = self._meter.measure
            if found := [made for record in records if (made := measure(record)) is not None]:
                yield Signal.METRIC, found

    def finish(self, time_ms: int) -> Iterator[tuple[Signal, list[Derived]]]:
        """Yield what is still open when the environment ends at `time_ms`, as far as it is known."""
        return iter(())

    def note_usage(self, points: Sequence[Point]) -> None:
        """Note what the invocation that ends next used of the machine."""
        if self._meter is not None:
            self._meter.usage = points

    @property
    def has_metrics(self) -> bool:
        return self._meter is not None
