"""The buffer of one telemetry subscription: the records held until they may be sent. Pure; the time is an argument.

Records are collected in an open batch. The batch is sealed when it has `max_items` or `max_bytes`, when its oldest
record has waited `timeout_s`, and at each thaw: records held during a freeze are sent first, as a batch of their own.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Dropped:
    """The records dropped since the last `take_dropped`."""

    records: int
    size_bytes: int


class Buffer:
    """An ordered queue of encoded records in batches, limited to `limit_bytes`."""

    def __init__(self, *, max_items: int, max_bytes: int, timeout_s: float, limit_bytes: int) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._limit_bytes = limit_bytes
        self._sealed: deque[Sequence[bytes]] = deque()
        self._open: list[bytes] = []
        self._open_bytes = 0
        self._opened_at = 0.0
        self._held_bytes = 0
        self._dropped = Dropped(0, 0)

    def add(self, record: bytes, now: float, *, beyond_limit: bool = False) -> bool:
        """Add `record`, or count it as dropped and return False if the buffer is full.

        With `beyond_limit` it is added anyway: the notice about lost records must not be lost itself.
        """
        if not beyond_limit and self._held_bytes + len(record) > self._limit_bytes:
            self.count_dropped([record])
            return False
        if not self._open:
            self._opened_at = now
        self._open.append(record)
        self._open_bytes += len(record)
        self._held_bytes += len(record)
        if len(self._open) >= self._max_items or self._open_bytes >= self._max_bytes:
            self.seal()
        return True

    def seal(self) -> None:
        """Close the open batch, so that `take` returns it."""
        if self._open:
            self._sealed.append(self._open)
            self._open, self._open_bytes = [], 0

    @property
    def due_at(self) -> float | None:
        """The time when the next batch may be taken; None if the buffer is empty."""
        if self._sealed:
            return float("-inf")
        return self._opened_at + self._timeout_s if self._open else None

    def take(self, now: float) -> Sequence[bytes] | None:
        """Remove and return the oldest batch that is due; None if none is due."""
        due_at = self.due_at
        if due_at is None or now < due_at:
            return None
        if not self._sealed:
            self.seal()
        batch = self._sealed.popleft()
        self._held_bytes -= sum(map(len, batch))
        return batch

    def put_back(self, batch: Sequence[bytes]) -> None:
        """Put a batch that was not acknowledged back at the front."""
        self._sealed.appendleft(batch)
        self._held_bytes += sum(map(len, batch))

    def count_dropped(self, records: Sequence[bytes]) -> None:
        """Count these records as dropped."""
        seen = self._dropped
        self._dropped = Dropped(seen.records + len(records), seen.size_bytes + sum(map(len, records)))

    def take_dropped(self) -> Dropped | None:
        """Return what was dropped since the last call, or None."""
        dropped, self._dropped = self._dropped, Dropped(0, 0)
        return dropped if dropped.records else None

    def __iter__(self) -> Iterator[bytes]:
        for batch in self._sealed:
            yield from batch
        yield from self._open

    def __len__(self) -> int:
        return sum(map(len, self._sealed)) + len(self._open)
