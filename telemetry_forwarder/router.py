"""Which records go on, and to whom. Every sink is offered every record that the user wants."""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from telemetry_forwarder.ledger import Door, Unrouted
from telemetry_forwarder.log import is_own
from telemetry_forwarder.records import Record


class Taker(Protocol):
    """What stands before a sink. `offer` never waits."""

    def offer(self, records: Sequence[Record]) -> None: ...


class Router:
    """Counts each record as routed or unrouted and offers the routed ones to every taker."""

    def __init__(self, types: Collection[str], takers: Iterable[Taker], door: Door) -> None:
        self._types = frozenset(types)
        self._takers = tuple(takers)
        self._door = door

    def route(self, records: Sequence[Record]) -> None:
        self.offer(self.wanted(records))

    def wanted(self, records: Sequence[Record]) -> list[Record]:
        """Return the records that go on, and count all of them; what is returned has to be offered next."""
        wanted = [record for record in records if self._is_wanted(record)]
        self._door.routed += len(wanted)
        return wanted

    def offer(self, wanted: Sequence[Record]) -> None:
        for taker in self._takers:
            taker.offer(wanted)

    def _is_wanted(self, record: Record) -> bool:
        if record.type == "extension" and is_own(record.body):
            self._door.unrouted[Unrouted.OWN_LINE] += 1
            return False
        kind = record.type.partition(".")[0]
        if kind in ("platform", "function", "extension") and kind not in self._types:
            self._door.unrouted[Unrouted.TYPE_NOT_WANTED] += 1
            return False
        return True  # a type that is not known yet is forwarded rather than lost
