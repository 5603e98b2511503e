"""Fitting encoded records into requests. Pure."""

from telemetry_forwarder.interfaces import Encoded, Limits


class OpenBatch:
    """A batch that grows while it fits `limits`.

    Sizes are in wire bytes before compression and include overhead and framing. Records come out in the order they
    went in, or in ascending order of time (equal times keep their order) where the limits say so.
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
        """Take `encoded` if it fits; say whether it did. The first one always does (`encode` keeps it in bounds)."""
        limits = self._limits
        size = self._bytes + len(encoded.data) + limits.overhead_bytes
        if self.records and (size > limits.max_bytes or len(self.records) >= limits.max_records):
            return False
        if limits.max_span_ms is not None and not self._spans(encoded.record.time_ms, limits.max_span_ms):
            return False
        self.records.append(encoded)
        self._bytes = size
        return True

    def _spans(self, time_ms: int, max_span_ms: int) -> bool:
        """Take note of a record's time; say whether it is within the span of the batch."""
        oldest = min(self._oldest_ms, time_ms) if self.records else time_ms
        newest = max(self._newest_ms, time_ms) if self.records else time_ms
        if newest - oldest > max_span_ms:
            return False
        self._oldest_ms, self._newest_ms = oldest, newest
        return True

    def close(self) -> list[Encoded]:
        """Return the batch as it is to be sent."""
        if self._limits.is_sorted:
            return sorted(self.records, key=lambda encoded: encoded.record.time_ms)
        return self.records


def halve(batch: list[Encoded]) -> tuple[list[Encoded], list[Encoded]]:
    """Split a batch of two or more where a destination found it too large."""
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]
