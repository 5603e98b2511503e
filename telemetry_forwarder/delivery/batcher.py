"""Batches of encoded records that fit into one request. Pure."""

from telemetry_forwarder.interfaces import Encoded, Limits


class OpenBatch:
    """A batch that grows while it fits `limits`.

    Sizes are in wire bytes before compression and include overhead and framing. Records come out in the order in which
    they were added, or sorted by time (stable) if the limits ask for it.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.records: list[Encoded] = []
        self._bytes = limits.framing_bytes
        self._oldest_ms = 0
        self._newest_ms = 0

    def __len__(self) -> int:
        return len(self.records)

    def add(self, encoded: Encoded) -> bool:
        """Add `encoded` if it fits; return whether it did. The first always fits: `encode` keeps it within bounds."""
        limits = self._limits
        size = self._bytes + len(encoded.data) + limits.overhead_bytes
        if self.records and (size > limits.max_bytes or len(self.records) >= limits.max_records):
            return False
        if limits.max_span_ms is not None and not self._spans(encoded.record.time_ms, limits.max_span_ms):
            return False
        self.records.append(encoded)
        self._bytes = size
        return True

    def extend(self, some: list[Encoded]) -> int:
        """Add the first of `some` that fit; return how many. It is the same as to `add` one by one, but faster."""
        limits = self._limits
        if limits.max_span_ms is None:
            size = self._bytes + sum([len(encoded.data) for encoded in some]) + len(some) * limits.overhead_bytes
            if size <= limits.max_bytes and len(self.records) + len(some) <= limits.max_records:
                self.records += some
                self._bytes = size
                return len(some)
        for number, encoded in enumerate(some):
            if not self.add(encoded):
                return number
        return len(some)

    def _spans(self, time_ms: int, max_span_ms: int) -> bool:
        """Note a record's time if the batch's span allows it; return whether it does."""
        oldest = min(self._oldest_ms, time_ms) if self.records else time_ms
        newest = max(self._newest_ms, time_ms) if self.records else time_ms
        if newest - oldest > max_span_ms:
            return False
        self._oldest_ms, self._newest_ms = oldest, newest
        return True

    def close(self) -> list[Encoded]:
        """Return the records in the order in which they are sent."""
        if self._limits.is_sorted:
            return sorted(self.records, key=lambda encoded: encoded.record.time_ms)
        return self.records


def halve(batch: list[Encoded]) -> tuple[list[Encoded], list[Encoded]]:
    """Split a batch of two or more records that a destination found too large."""
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]
