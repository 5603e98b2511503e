"""The Splunk sink for metrics: the points of a record become one HEC event of the type `metric`, for a metrics index.

Source: Splunk, "Get metrics in from other sources", HEC with the multiple-metric format, read 2026-11-28.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import Encoded
from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.signals.points import MetricKind, Point, attributes_of, points_of
from telemetry_forwarder.sinks.splunk_hec import LIMITS, SplunkHec, fields, seconds


class SplunkMetrics(SplunkHec, frozen=True, kw_only=True, cache_hash=True):
    """Send metric records to an HEC. `index` is that of the metrics, None for the token's default."""

    name: ClassVar[str] = "splunk-metrics"
    takes: ClassVar[frozenset[Signal]] = frozenset({Signal.METRIC})

    def encode(self, record: Record) -> Encoded:
        """Return the points of a record as one HEC object. Raises EncodeError if it has none, or is too large."""
        values = dict(value for point in points_of(record) for value in _values(point))
        if not values:
            raise EncodeError("a metric record without points")
        origin = record.origin
        members: dict[str, Any] = {
            "event": "metric",
            "host": self.host or origin.function_name,
            "source": self.source or f"lambda:{origin.function_name}",
            "sourcetype": self.sourcetype or "aws:lambda:metrics",
        }
        if self.index is not None:
            members["index"] = self.index
        members["fields"] = {**_dimensions(record), **values}
        data = b'{"time":%b,%b' % (seconds(record.time_ms), to_json(members)[1:])
        if len(data) > LIMITS.max_record_bytes:
            raise EncodeError(f"a metric record of {len(data)} bytes")
        return Encoded(record, data)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        return [self.encode(record) for record in records]


def _values(point: Point) -> list[tuple[str, float]]:
    """Return the metrics of a point. Several values become their count, sum, minimum and maximum."""
    name, values = f"metric_name:{point.name}", point.values
    if point.kind is not MetricKind.DISTRIBUTION or len(values) == 1:
        return [(name, sum(values))]
    return [
        (f"{name}.count", len(values)), (f"{name}.sum", sum(values)),
        (f"{name}.min", min(values)), (f"{name}.max", max(values)),
    ]  # fmt: skip


# Fields of a log record that would make a series of every request, or say nothing about a metric.
_NO_DIMENSIONS = ("type", "request_id", "level")


def _dimensions(record: Record) -> dict[str, Any]:
    """Return the dimensions: what is known of the environment, and the record's attributes, which yield to it."""
    known = {key: value for key, value in fields(record.context, False).items() if key not in _NO_DIMENSIONS}
    return {**attributes_of(record), **known}
