"""The New Relic sink for metrics: the points of a record, sent to the Metric API.

A measurement is a summary of its values. Each point covers a moment of its own, so no two of a series meet.
Source: New Relic, "Report metrics via the Metric API" and its limits, read 2026-11-28.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import (
    Credential,
    Destination,
    Encoded,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
)
from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.signals.points import MetricKind, Point, attributes_of, points_of
from telemetry_forwarder.sinks.http_answers import Advice
from telemetry_forwarder.sinks.newrelic import ADVICE, LONGEST_NAME, NewRelic

LIMITS = Limits(
    max_records=1_000,  # ours: there is none
    max_bytes=1_000_000,
    max_record_bytes=250_000,
    overhead_bytes=1,
    framing_bytes=8_192,
    max_age_ms=48 * 3_600_000 - 300_000,  # what is older is dropped after a 202
)
_MOST_ATTRIBUTES = 100  # of 150 that a metric may have: the others are those in common
_LONGEST_VALUE = 4_096
_INTERVAL_MS = 1  # counts and summaries want the time that they cover


class NewRelicMetrics(NewRelic, frozen=True, kw_only=True, cache_hash=True):
    """Send metric records. `url` is complete."""

    name: ClassVar[str] = "newrelic-metrics"
    limits: ClassVar[Limits] = LIMITS
    takes: ClassVar[frozenset[Signal]] = frozenset({Signal.METRIC})
    advice: ClassVar[Advice] = Advice(
        who=ADVICE.who, credential=ADVICE.credential, address="NEW_RELIC_REGION or NEW_RELIC_METRIC_ENDPOINT"
    )
    items: ClassVar[bytes] = b"metrics"
    tells_instance: ClassVar[bool] = False  # it would make a series of every environment

    def encode(self, record: Record) -> Encoded:
        """Return a record as metrics, parted by commas. Raises EncodeError if it has none, or is too large."""
        attributes = _attributes(record)
        found = [_metric(point, record.time_ms, attributes) for point in points_of(record)]
        data = b",".join(one for one in found if one is not None)
        if not data:
            raise EncodeError("a metric record without points that New Relic takes")
        if len(data) > LIMITS.max_record_bytes:
            raise EncodeError(f"a metric record of {len(data)} bytes")
        return Encoded(record, data)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        return [self.encode(record) for record in records]


def _attributes(record: Record) -> Mapping[str, Any]:
    """Return the attributes of a record's points. None is new in every invocation: each set makes a series."""
    known: dict[str, Any] = {} if record.cold_start is None else {"faas.coldstart": record.cold_start}
    given = [(name, value) for name, value in attributes_of(record).items() if name and len(name) <= LONGEST_NAME]
    return {**known, **{name: value[:_LONGEST_VALUE] for name, value in given[:_MOST_ATTRIBUTES]}}


def _metric(point: Point, time_ms: int, attributes: Mapping[str, Any]) -> bytes | None:
    """Return a point as JSON; None if a double does not hold its sum. The unit is an attribute."""
    values = [float(value) for value in point.values]
    if not math.isfinite(total := sum(values)):
        return None
    metric: dict[str, Any] = {"name": point.name[:LONGEST_NAME], "timestamp": time_ms}
    if point.kind is MetricKind.GAUGE:
        metric |= {"type": "gauge", "value": _short(values[-1])}
    elif point.kind is MetricKind.COUNT:
        metric |= {"type": "count", "value": _short(total), "interval.ms": _INTERVAL_MS}
    else:
        summary = {"count": len(values), "sum": _short(total), "min": _short(min(values)), "max": _short(max(values))}
        metric |= {"type": "summary", "value": summary, "interval.ms": _INTERVAL_MS}
    unit = {"unit": point.unit} if point.unit and "unit" not in attributes else {}
    return to_json({**metric, "attributes": {**attributes, **unit}})


def _short(value: float) -> int | float:
    """Return a whole number as one, without its `.0`, as far as every double is exact."""
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def metrics_to(
    url: str, tags: tuple[tuple[str, str], ...], credential: Credential
) -> Destination[HttpRequest, HttpResponse]:
    """Return the destination of metrics."""
    sink = NewRelicMetrics(url=url, tags=tags)
    return Destination(sink=sink, delivery=HttpDelivery(url=url, credential=credential))
