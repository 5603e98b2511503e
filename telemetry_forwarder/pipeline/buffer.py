"""A bounded queue of records in front of one sink. Pure: it counts nothing and waits for nothing."""

from collections import deque
from collections.abc import Iterator, Sequence

from telemetry_forwarder.records import Record
from telemetry_forwarder.values import dataclass


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a buffer holds, and the most it ever held."""

    records: int
    size_bytes: int
    peak_records: int
    peak_bytes: int


class Buffer:
    """At most `max_records` records and `max_bytes` bytes of them, oldest first.

    When it is full the oldest go: the newest lines are those that explain a crash.
    """

    def __init__(self, *, max_records: int, max_bytes: int) -> None:
        self.max_records = max_records
        self.max_bytes = max_bytes
        self._records: deque[Record] = deque()
        self._bytes = 0
        self._peak_records = 0
        self._peak_bytes = 0

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    def statistics(self) -> Statistics:
        return Statistics(len(self._records), self._bytes, self._peak_records, self._peak_bytes)

    @property
    def size_bytes(self) -> int:
        return self._bytes

    def offer(self, records: Sequence[Record]) -> int:
        """Take `records`; return how many records, old ones or new ones, had to go for it."""
        evicted = 0
        for record in records:
            if record.size_bytes > self.max_bytes:  # would push out everything and then itself
                evicted += 1
                continue
            self._records.append(record)
            self._bytes += record.size_bytes
            while self._bytes > self.max_bytes or len(self._records) > self.max_records:
                self.pop()
                evicted += 1
            self._peak_records = max(self._peak_records, len(self._records))
            self._peak_bytes = max(self._peak_bytes, self._bytes)
        return evicted

    def pop(self) -> Record:
        """Remove and return the oldest record. Raises IndexError where there is none."""
        record = self._records.popleft()
        self._bytes -= record.size_bytes
        return record
