"""Which records go on, and to whom. Every sink is offered every record that the user wants."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol

from telemetry_forwarder.ledger import IntakeCounts, Unrouted
from telemetry_forwarder.log import is_own
from telemetry_forwarder.records.record import Record


class Taker(Protocol):
    """What stands before a sink. `offer` never waits."""

    def offer(self, records: Sequence[Record]) -> None: ...


class Kind(Protocol):
    """What is looked at: a record, or an item of which none was made."""

    @property
    def type(self) -> str: ...

    @property
    def body(self) -> Any: ...


class Router:
    """Counts each record as routed or unrouted and offers the routed ones to every taker."""

    def __init__(self, types: Collection[str], takers: Iterable[Taker], counts: IntakeCounts) -> None:
        self._types = frozenset(types)
        self._takers = tuple(takers)
        self._counts = counts

    def route(self, records: Sequence[Record], keep: Callable[[Sequence[int]], None] = lambda wanted: None) -> None:
        """Count `records`, have the indices of those that go on kept, and offer these to every taker."""
        wanted = self.count(records)
        keep(wanted)
        chosen = records if len(wanted) == len(records) else [records[index] for index in wanted]
        for taker in self._takers:
            taker.offer(chosen)

    def count(self, items: Sequence[Kind]) -> list[int]:
        """Count `items` as routed or unrouted; return the indices of those that go on, which nobody is offered here."""
        wanted = [index for index, item in enumerate(items) if self._is_wanted(item)]
        self._counts.routed += len(wanted)
        return wanted

    def _is_wanted(self, record: Kind) -> bool:
        if record.type == "extension" and is_own(record.body):
            self._counts.unrouted[Unrouted.OWN_LINE] += 1
            return False
        kind = record.type.partition(".")[0]
        if kind in ("platform", "function", "extension") and kind not in self._types:
            self._counts.unrouted[Unrouted.TYPE_NOT_WANTED] += 1
            return False
        return True  # a type that is not known yet is forwarded rather than lost
