"""The bounded queue of one sink's records in memory. Pure: it enters nothing in the books and waits for nothing."""

from collections import deque
from collections.abc import Iterator, Sequence
from enum import StrEnum

from telemetry_forwarder.records.record import Record


class WhenFull(StrEnum):
    """What happens to records when the buffer is full."""

    SPILL = "spill"  # new records wait on disk; without a spool as `DROP_OLDEST`
    DROP_OLDEST = "drop_oldest"  # keeps the newest lines, which explain a crash
    DROP_NEWEST = "drop_newest"  # keeps the first lines, which explain a start


class Buffer:
    """A queue of at most `max_records` records with together at most `max_bytes` bytes, oldest first."""

    def __init__(self, *, max_records: int, max_bytes: int, when_full: WhenFull = WhenFull.DROP_OLDEST) -> None:
        self.max_records = max_records
        self.max_bytes = max_bytes
        self._when_full = when_full
        self._records: deque[Record] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def take(self, records: Sequence[Record]) -> int:
        """Add the first of `records` that fit; return how many. An empty buffer takes one record of any size."""
        size = sum([record.size_bytes for record in records])
        if len(self._records) + len(records) <= self.max_records and self._bytes + size <= self.max_bytes:
            self._records.extend(records)  # the usual case, made fast
            self._bytes += size
            return len(records)
        for number, record in enumerate(records):
            if self._records and not self._has_room(record):
                return number
            self._append(record)
        return len(records)

    def offer(self, records: Sequence[Record]) -> list[Record]:
        """Add `records`, making room as `when_full` says; return the records, old or new, that had no room."""
        if self._when_full is WhenFull.DROP_NEWEST:
            return self._offer_to_the_brim(records)
        gone = []
        for record in records:
            if record.size_bytes > self.max_bytes:  # it would push out all others and still not fit
                gone.append(record)
                continue
            while self._records and not self._has_room(record):
                gone.append(self.pop())
            self._append(record)
        return gone

    def _offer_to_the_brim(self, records: Sequence[Record]) -> list[Record]:
        gone = []
        for record in records:
            if self._has_room(record):
                self._append(record)
            else:
                gone.append(record)
        return gone

    def _has_room(self, record: Record) -> bool:
        return len(self._records) < self.max_records and self._bytes + record.size_bytes <= self.max_bytes

    def _append(self, record: Record) -> None:
        self._records.append(record)
        self._bytes += record.size_bytes

    def pop_some(self, count: int) -> list[Record]:
        """Remove and return the oldest `count` records, or all if there are fewer."""
        records = self._records
        some = [records.popleft() for _ in range(min(count, len(records)))]
        self._bytes -= sum([record.size_bytes for record in some])
        return some

    def pop(self) -> Record:
        """Remove and return the oldest record. Raises IndexError if the buffer is empty."""
        record = self._records.popleft()
        self._bytes -= record.size_bytes
        return record
