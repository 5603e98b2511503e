"""The Splunk sink for metrics: the points of a record become one HEC event of the type `metric`, for a metrics index.

An index of metrics is paid by volume, and not by series. So one event holds all metrics of a record, and what is known
of the environment is in it as dimensions; what is new in every invocation or environment is not.
Source: Splunk, "Get metrics in from other sources", HEC with the multiple-metric format, read 2026-11-28.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import Encoded
from telemetry_forwarder.records.lossless_json import json_part, to_json
from telemetry_forwarder.records.record import METRICS, Context, Origin, Record, Signal
from telemetry_forwarder.signals.points import MetricKind, attributes_of, points_of
from telemetry_forwarder.sinks.splunk_hec import LIMITS, METADATA, SplunkHec, fields, seconds

_PREFIX = "metric_name:"
# Source: Splunk, "Overview of metrics", read 2026-11-28: letters, digits, `_`, `.` and `:`.
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_.:]")


class SplunkMetrics(SplunkHec, frozen=True, kw_only=True, cache_hash=True):
    """Send metric records to an HEC. `index` is that of the metrics, None for the token's default."""

    name: ClassVar[str] = "splunk-metrics"
    takes: ClassVar[frozenset[Signal]] = frozenset({Signal.METRIC})
    index_named_by: ClassVar[str] = "SPLUNK_METRICS_INDEX, which has to be of the type metrics"

    def encode(self, record: Record) -> Encoded:
        """Return the points of a record as one HEC object. Raises EncodeError if it has none, or is too large."""
        values = _values(record)
        if not values:
            raise EncodeError("a metric record without points")
        head, known = _frame(self, record.origin, record.cold_start)
        dimensions = {_dimension(key): value for key, value in attributes_of(record).items()}
        # The function's own words count for more: a metric of `service:payment` is not one of this environment's.
        data = to_json({**known, **dimensions, **values})
        data = b'{"time":%b%b,"fields":%b}' % (seconds(record.time_ms), head, data)
        if len(data) > LIMITS.max_record_bytes:
            raise EncodeError(f"a metric record of {len(data)} bytes")
        return Encoded(record, data)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        return [self.encode(record) for record in records]


def _values(record: Record) -> dict[str, float]:
    """Return the metrics of a record by their fields. What was measured several times has four: of its count, sum,
    minimum and maximum.
    """
    kinds: dict[str, MetricKind] = {}
    measured: dict[str, list[float]] = {}
    for point in points_of(record):
        name = _PREFIX + _NOT_IN_A_NAME.sub("_", point.name)
        kinds[name] = point.kind
        measured.setdefault(name, []).extend(point.values)
    return dict(field for name, values in measured.items() for field in _fields(name, kinds[name], values))


def _fields(name: str, kind: MetricKind, values: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Yield the fields of one metric. HEC takes only numbers that a double holds."""
    values = [float(value) if isinstance(value, int) and abs(value) >= _EXACT else value for value in values]
    if kind is MetricKind.GAUGE:
        yield name, values[-1]
    elif len(values) == 1:
        yield name, values[0]
    elif math.isfinite(total := sum(values)):
        if kind is MetricKind.COUNT:
            yield name, total
        else:
            yield from ((f"{name}.count", len(values)), (f"{name}.sum", total))
            yield from ((f"{name}.min", min(values)), (f"{name}.max", max(values)))


_EXACT = 2**53  # from here on a double does not hold every integer
# Fields of a log record that would make a series of every request or environment, or say nothing about a metric.
_NO_DIMENSIONS = ("type", "request_id", "level", "instance_id", "trace_id")


@lru_cache(maxsize=64)
def _frame(sink: SplunkMetrics, origin: Origin, cold_start: bool | None) -> tuple[bytes, Mapping[str, Any]]:
    """Return what stands between the time and the fields of an event, and what is known of the environment."""
    members = {
        "event": "metric",
        "host": sink.host or origin.function_name,
        "source": sink.source or f"lambda:{origin.function_name}",
        "sourcetype": sink.sourcetype or "aws:lambda:metrics",
    }
    if sink.index is not None:
        members["index"] = sink.index
    known = {
        key: value if isinstance(value, str) else ",".join(value)  # a dimension has one value
        for key, value in fields(Context(origin, METRICS, cold_start=cold_start), False).items()
        if key not in _NO_DIMENSIONS
    }
    return b",%b" % json_part(members)[1:-1], known


_RESERVED = (*METADATA, "metric_name", "_value")


def _dimension(name: str) -> str:
    """Return the name of a dimension; one that means something else to Splunk, with `tag_` before it."""
    return f"tag_{name}" if name in _RESERVED or name.startswith(_PREFIX) else name
