"""Route records: decide which go on, and offer them to every sink."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Protocol

from telemetry_forwarder.ledger import IntakeCounts, Unrouted
from telemetry_forwarder.log import is_own
from telemetry_forwarder.records.record import Item, Record


class Taker(Protocol):
    """The receiver of records for one sink. `offer` never waits."""

    def offer(self, records: Sequence[Record]) -> None: ...


class Router:
    """Counts each record as routed or unrouted and offers the routed ones to every taker."""

    def __init__(self, types: Collection[str], takers: Iterable[Taker], counts: IntakeCounts) -> None:
        self._types = frozenset(types)
        self._takers = tuple(takers)
        self._counts = counts

    def route(self, records: Sequence[Record], keep: Callable[[Sequence[int]], None] = lambda wanted: None) -> None:
        """Count `records`, pass the indices of those that go on to `keep`, and offer these records to every taker."""
        wanted = self._count([record.context.type for record in records], records)
        keep(wanted)
        chosen = records if len(wanted) == len(records) else [records[index] for index in wanted]
        for taker in self._takers:
            taker.offer(chosen)

    def count(self, items: Sequence[Item]) -> Sequence[int]:
        """Count `items` as routed or unrouted, without offering them. Return the indices of those that go on."""
        return self._count([item.type for item in items], items)

    def _count(self, types: Sequence[str], items: Sequence[Item | Record]) -> Sequence[int]:
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
