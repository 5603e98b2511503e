"""Route records: decide which go on, and offer them to every sink."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Protocol

from telemetry_forwarder.ledger import IntakeCounts, Unrouted
from telemetry_forwarder.log import is_own
from telemetry_forwarder.records.record import Record


class Taker(Protocol):
    """The receiver of records for one sink. `offer` never waits."""

    def offer(self, records: Sequence[Record]) -> None: ...


class Kind(Protocol):
    """What the router reads: a record, or an item that was not made a record."""

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
        """Count `records`, pass the indices of those that go on to `keep`, and offer these records to every taker."""
        wanted = self.count(records)
        keep(wanted)
        chosen = records if len(wanted) == len(records) else [records[index] for index in wanted]
        for taker in self._takers:
            taker.offer(chosen)

    def count(self, items: Sequence[Kind]) -> list[int]:
        """Count `items` as routed or unrouted, without offering them. Return the indices of those that go on."""
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
        return True  # an unknown type is forwarded rather than lost
