"""Groups, streams and events of the local CloudWatch Logs, and the rules for one PutLogEvents batch. Pure.

Source: CloudWatch Logs API Reference (PutLogEvents, CreateLogGroup, PutRetentionPolicy) and the service's model in
botocore.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

MAX_EVENTS = 10_000
MAX_BATCH_BYTES = 1_048_576
_OVERHEAD_BYTES = 26  # per event, on top of the UTF-8 message
_MAX_SPAN_MS = 24 * 3_600_000
_MAX_AGE_MS = 14 * 24 * 3_600_000
_MAX_AHEAD_MS = 2 * 3_600_000
DAY_MS = 24 * 3_600_000
RETENTION_DAYS = frozenset(
    {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731} | {1096, 1827, 2192, 2557, 2922, 3288, 3653}
)


class BatchRefused(Exception):
    """A whole batch is refused (InvalidParameterException); the text is the service's message."""


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One stored event; times in ms since the epoch."""

    timestamp: int
    message: str
    ingestion_time: int = 0
    stream: str = ""


@dataclass(slots=True)
class LogStream:
    """A stream and its events, in order of arrival."""

    name: str
    created_ms: int
    events: list[LogEvent] = field(default_factory=list)

    @property
    def times(self) -> tuple[int, ...]:
        """The timestamps of its events, in ascending order."""
        return tuple(sorted(event.timestamp for event in self.events))


@dataclass(slots=True)
class LogGroup:
    """A group, its streams by name, and its retention (None: for ever)."""

    name: str
    created_ms: int
    retention_days: int | None = None
    log_class: str = "STANDARD"
    tags: Mapping[str, str] = field(default_factory=dict)
    streams: dict[str, LogStream] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Window:
    """The accepted part of a batch, events `first` up to, not including, `last`; and the indices to report.

    `too_old_end` and `expired_end` are exclusive, `too_new_start` is inclusive; None if nothing is rejected for that
    reason.
    """

    first: int
    last: int
    too_old_end: int | None = None
    too_new_start: int | None = None
    expired_end: int | None = None

    def members(self, *, expired_is_inclusive: bool = False) -> dict[str, int]:
        """Return `rejectedLogEventsInfo`; empty if every event is accepted."""
        expired = self.expired_end
        if expired is not None and expired_is_inclusive:
            expired -= 1
        info = {
            "tooOldLogEventEndIndex": self.too_old_end,
            "tooNewLogEventStartIndex": self.too_new_start,
            "expiredLogEventEndIndex": expired,
        }
        return {name: index for name, index in info.items() if index is not None}


def window(times: Sequence[int], now_ms: int, retention_days: int | None) -> Window:
    """Find which of the ascending `times` are too old (14 days), expired (by the retention) or more than 2 h ahead."""
    too_old = sum(time < now_ms - _MAX_AGE_MS for time in times)
    too_new = sum(time <= now_ms + _MAX_AHEAD_MS for time in times)
    expired = too_old
    if retention_days is not None:
        expired = max(too_old, sum(time < now_ms - retention_days * DAY_MS for time in times))
    return Window(
        expired,
        max(expired, too_new),
        too_old_end=too_old or None,
        too_new_start=too_new if too_new < len(times) else None,
        expired_end=expired if expired > too_old else None,
    )


def check_sizes(messages: Sequence[str], max_event_bytes: int) -> None:
    """Raise BatchRefused if an event or the batch is too large, counting UTF-8 bytes plus 26 for each event."""
    total = 0
    for message in messages:
        size = len(message.encode("utf-8", "surrogatepass")) + _OVERHEAD_BYTES
        if size > max_event_bytes:
            raise BatchRefused(f"Log event too large: {size} bytes exceeds limit of {max_event_bytes}")
        total += size
    if total > MAX_BATCH_BYTES:
        raise BatchRefused(f"Upload too large: {total} bytes exceeds limit of {MAX_BATCH_BYTES}")


def check_order(times: Sequence[int]) -> None:
    """Raise BatchRefused unless `times` are ascending; equal times are allowed."""
    if any(later < earlier for earlier, later in pairwise(times)):
        raise BatchRefused("Log events in a single PutLogEvents request must be in chronological order.")


def check_span(times: Sequence[int]) -> None:
    """Raise BatchRefused if the ascending `times` span more than 24 hours."""
    if times and times[-1] - times[0] > _MAX_SPAN_MS:
        raise BatchRefused("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")


def rejected_entity(entity: Mapping[str, Any]) -> str | None:
    """Return why an entity is rejected, or None. The events are stored either way."""
    keys, attributes = entity.get("keyAttributes", {}), entity.get("attributes", {})
    if not isinstance(keys, dict) or not 2 <= len(keys) <= 4:
        return "InvalidKeyAttributes"
    if not isinstance(attributes, dict) or len(attributes) > 10:
        return "InvalidAttributes"
    return None
