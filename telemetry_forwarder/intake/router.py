"""Route records: decide which go on, and offer them to every sink that takes their signal."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from telemetry_forwarder.interfaces import LOGS
from telemetry_forwarder.ledger import IntakeCounts, Unrouted
from telemetry_forwarder.log import is_own
from telemetry_forwarder.records.record import Item, Record, Signal


class Taker(Protocol):
    """The receiver of records for one sink, which takes some signals (without `takes`: logs). `offer` never waits."""

    def offer(self, records: Sequence[Record]) -> None: ...


class Router:
    """Counts each record as routed or unrouted and offers the routed ones to every taker of their signal."""

    def __init__(self, types: Collection[str], takers: Iterable[Taker], counts: IntakeCounts) -> None:
        self._types = frozenset(types)
        found = tuple(takers)
        self._takers = {
            signal: tuple(taker for taker in found if signal in getattr(taker, "takes", LOGS)) for signal in Signal
        }
        self._counts = counts

    def takes(self, signal: Signal) -> bool:
        """Return whether any taker takes `signal`; what nobody takes need not be derived."""
        return bool(self._takers[signal])

    def route(self, records: Sequence[Record], keep: Callable[[Sequence[int]], None] = lambda wanted: None) -> None:
        """Count log records, pass the indices of those that go on to `keep`, and offer these to every taker of logs."""
        wanted = self._count([record.context.type for record in records], records)
        keep(wanted)
        chosen = records if len(wanted) == len(records) else [records[index] for index in wanted]
        for taker in self._takers[Signal.LOG]:
            taker.offer(chosen)

    def route_derived(self, signal: Signal, records: Sequence[Record]) -> None:
        """Count records that were derived from others, all of one `signal`, and offer them to every taker of it."""
        self._counts.derived += len(records)
        if not self._takers[signal]:
            self._counts.unrouted[Unrouted.NO_SINK] += len(records)
            return
        self._counts.routed += len(records)
        for taker in self._takers[signal]:
            taker.offer(records)

    def count(self, items: Sequence[Item]) -> Sequence[int]:
        """Count `items` as routed or unrouted, without offering them. Return the indices of those that go on."""
        return self._count([item.type for item in items], items)

    def _count(self, types: Sequence[str], items: Sequence[Item | Record]) -> Sequence[int]:
        if not self._takers[Signal.LOG]:
            self._counts.unrouted[Unrouted.NO_SINK] += len(types)
            return ()
        kinds = set(types)
        if "extension" not in kinds and all(map(self._is_wanted, kinds)):  # the usual case, made fast
            self._counts.routed += len(types)
            return range(len(types))
        last, is_wanted = None, False
        wanted = []
        for index, type in enumerate(types):
            if type != last:
                last, is_wanted = type, self._is_wanted(type)
            if type == "extension" and is_own(items[index].body):
                self._counts.unrouted[Unrouted.OWN_LINE] += 1
            elif is_wanted:
                wanted.append(index)
            else:
                self._counts.unrouted[Unrouted.TYPE_NOT_WANTED] += 1
        self._counts.routed += len(wanted)
        return wanted

    def _is_wanted(self, type: str) -> bool:
        """Return whether records of `type` are forwarded; an unknown type is, rather than lost."""
        kind = type.partition(".")[0]
        return kind not in ("platform", "function", "extension") or kind in self._types
