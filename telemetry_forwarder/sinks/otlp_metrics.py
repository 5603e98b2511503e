"""The OTLP sink for metrics: each point of a record is a Metric with one data point.

Counts and distributions are deltas: what happened since the point before. Each covers a moment of its own within the
record's millisecond, so that no two intervals of a series meet, whichever records come together, again or late.

Cumulative points are not made, whatever is preferred. A sum over an environment's life would have to survive a reset,
and each point of it a spool, a failover and a replay in their order; it would end with the environment, which is one of
many. Where a backend wants sums, `deltatocumulative` of OpenTelemetry's Collector adds up what never stops running.

Names and units are those of the semantic conventions 1.44 for `faas.*`, where they have any. Source: that, and OTLP,
metrics data model, "Temporality"; read 2026-11-28.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from operator import itemgetter
from struct import Struct as Packer
from typing import Any, ClassVar, TypeAlias
from zlib import crc32

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import Encoded
from telemetry_forwarder.otlp.direct import OPENINGS, attribute, field
from telemetry_forwarder.otlp.protobuf import encode
from telemetry_forwarder.otlp.values import attributes
from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.signals.points import MetricKind, Point, attributes_of, points_of
from telemetry_forwarder.sinks.otlp_requests import (
    NS_PER_MS,
    OtlpSink,
    Wire,
    framed,
    given_item,
    nanoseconds,
    otlp_of,
)

_DELTA, _CUMULATIVE = 1, 2
# Our names that the semantic conventions have, too. Every other `lambda.…` becomes `aws.lambda.…`.
# `faas.invocations` counts those that succeeded; `aws.lambda.invocations` counts all.
NAMES = {
    "lambda.successes": ("faas.invocations", "{invocation}"),
    "lambda.invocations": ("aws.lambda.invocations", "{invocation}"),
    "lambda.errors": ("faas.errors", "{error}"),
    "lambda.timeouts": ("faas.timeouts", "{timeout}"),
    "lambda.cold_starts": ("faas.coldstarts", "{coldstart}"),
    "lambda.runtime_duration": ("faas.invoke_duration", "ms"),
    "lambda.init_duration": ("faas.init_duration", "ms"),
    "lambda.memory_used": ("faas.mem_usage", "MiBy"),
    "lambda.memory_size": ("aws.lambda.memory_limit", "MiBy"),
    "lambda.function_errors": ("aws.lambda.function_errors", "{error}"),
    "lambda.out_of_memory": ("aws.lambda.out_of_memory", "{invocation}"),
}
# Units that our own metrics are converted from, and by what their values are divided.
# Source: semantic conventions, metrics: durations in seconds.
_UNITS = {"ms": ("s", 1000.0), "MiBy": ("By", 2.0**-20), "USD": ("{USD}", 1.0)}

# The bounds of histograms. Those of durations: semantic conventions, HTTP metrics, and further ones up to 900 s.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0, 120.0, 300.0,
            600.0, 900.0)  # fmt: skip
BOUNDS: Mapping[str, tuple[float, ...]] = {
    "s": _SECONDS,
    "ms": tuple(bound * 1000 for bound in _SECONDS),
    "By": tuple(float(2**power) for power in range(10, 35, 2)),
    "{USD}": tuple(10.0**power for power in range(-8, 0)),
}
# Source: OpenTelemetry specification, metrics SDK, the default of explicit buckets.
_USUAL_BOUNDS = (0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0, 10000.0)


class OtlpMetrics(OtlpSink, frozen=True, kw_only=True, cache_hash=True):
    """Send metric records as Metrics.

    `has_counts` is False for a backend that keeps one count of a second alone: it gets counts as distributions.
    `is_delta_only`: it refuses a request with any sum since the start, which an SDK may have sent.
    """

    name: ClassVar[str] = "otlp-metrics"
    takes: ClassVar[frozenset[Signal]] = frozenset({Signal.METRIC})
    wire: ClassVar[Wire] = Wire(
        "metrics", "resourceMetrics", "scopeMetrics", "metrics", "Metric", "ExportMetricsServiceResponse",
        "rejectedDataPoints",
    )  # fmt: skip

    has_counts: bool = True
    is_delta_only: bool = False

    def encode(self, record: Record) -> Encoded:
        """Return the record's points as Metrics, one behind the other. Raises EncodeError if it has none."""
        if (given := otlp_of(record)) is not None:
            if self.is_delta_only and _is_cumulative(given["item"]):
                raise EncodeError(
                    "a cumulative metric of an SDK, which its backend does not take; for the SDK set "
                    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE to `delta`"
                )
            return given_item(self, record, given["item"])
        if not self.is_json and (quick := _quickly(record, self.has_counts)) is not None:
            return self._encoded_as(record, quick)
        series = [_Series(point) for point in _merged(points_of(record))]
        series = [one for one in series if isfinite(one.total)]  # no receiver takes others
        if not series:
            raise EncodeError("a metric record without points")
        start, end = _interval(record)
        pairs = tuple(attributes_of(record).items())
        if self.is_json:
            known = attributes(pairs)
            data = to_json([one.in_json(start, end, known, self.has_counts) for one in series])[1:-1]
        else:
            data = b"".join([framed(one.in_protobuf(start, end, pairs, self.has_counts)) for one in series])
        return self._encoded_as(record, data)

    def _encoded_as(self, record: Record, data: bytes) -> Encoded:
        if len(data) > self.limits.max_record_bytes:
            raise EncodeError(f"a metric record of {len(data)} bytes")
        return Encoded(record, data)


def _is_cumulative(item: Mapping[str, Any]) -> bool:
    """Return whether a Metric of an SDK has sums since its start."""
    shapes = (item.get(name) for name in ("sum", "histogram", "exponentialHistogram"))
    return any(isinstance(one, Mapping) and one.get("aggregationTemporality") == _CUMULATIVE for one in shapes)


def _merged(points: Sequence[Point]) -> list[Point]:
    """Return one point for each name, because two of a record would be two values of one series at one time."""
    found: dict[str, Point] = {}
    for point in points:
        before = found.get(point.name)
        if before is None or before.kind is not point.kind or point.kind is MetricKind.GAUGE:
            found[point.name] = point
        elif point.kind is MetricKind.COUNT:
            found[point.name] = Point(point.name, sum(before.values) + sum(point.values), point.unit, point.kind)
        else:
            found[point.name] = Point(point.name, [*before.values, *point.values], point.unit, point.kind)
    return list(found.values())


# A millisecond has room for so many intervals of one nanosecond that do not meet.
_SLOTS = NS_PER_MS // 2


def _interval(record: Record) -> tuple[int, int]:
    """Return start and end of the record's interval in ns: always the same ones, and no other record's.

    Records of one body have different ones; those of two bodies that tell of the same millisecond nearly always.
    """
    slot = (crc32(record.batch.encode("utf-8", "replace")) + (record.index or 0)) % _SLOTS
    start = min(nanoseconds(record.time_ms), 2**63) + 2 * slot
    return start, start + 1


# --- one metric -----------------------------------------------------------------------------------------------------

_IS_DELTA, _ADDS_UP = b"\x10\x01", b"\x10\x01\x18\x01"  # the end of a Histogram or Sum: delta, and monotonic
_NUMBER = Packer("<cQcQcd")
_WHOLE = Packer("<cQcQcq")
_GAUGE_NUMBER = Packer("<cQcd")
_HISTOGRAM = Packer("<cQcQcQcd")
_EXTREMES = Packer("<cdcd")


class _Series:
    """One metric with its values, in the unit in which they are sent."""

    __slots__ = ("bounds", "kind", "name", "total", "unit", "values")

    def __init__(self, point: Point) -> None:
        self.name, self.unit, divisor = _named(point.name, point.unit)
        self.kind = point.kind
        self.values = [value / divisor for value in point.values]
        self.total = sum(self.values)
        self.bounds = BOUNDS.get(self.unit, _USUAL_BOUNDS)

    def in_json(self, start: int, end: int, known: list[dict[str, Any]], has_counts: bool) -> dict[str, Any]:
        """Return the Metric in OTLP/JSON's form, with the attributes `known`, as `values.for_readers` would."""
        interval: dict[str, Any] = {"startTimeUnixNano": str(start), "timeUnixNano": str(end)}
        tags = {"attributes": known}
        head: dict[str, Any] = {"name": self.name} | ({"unit": self.unit} if self.unit else {})
        total = self.total
        if self.kind is MetricKind.GAUGE:
            return {**head, "gauge": {"dataPoints": [{"timeUnixNano": str(end), "asDouble": self.values[-1], **tags}]}}
        if self.kind is MetricKind.COUNT and has_counts:
            value: dict[str, float] = {"asInt": int(total)} if _is_whole(total) else {"asDouble": total}
            sums = {"dataPoints": [{**interval, **value, **tags}], "aggregationTemporality": _DELTA}
            return {**head, "sum": sums | ({"isMonotonic": True} if total >= 0 else {})}
        counts = self._buckets()
        point = {
            **interval, "count": len(self.values), "sum": total, "bucketCounts": counts,
            "explicitBounds": list(self.bounds), **tags, "min": min(self.values), "max": max(self.values),
        }  # fmt: skip
        return {**head, "histogram": {"dataPoints": [point], "aggregationTemporality": _DELTA}}

    def in_protobuf(self, start: int, end: int, pairs: tuple[tuple[str, str], ...], has_counts: bool) -> bytes:
        """Return the same as protobuf. The tags of the fields stand in opentelemetry-proto's metrics.proto."""
        head = _head(self.name, self.unit)
        values = self.values
        if self.kind is MetricKind.GAUGE:
            point = _GAUGE_NUMBER.pack(b"\x19", end, b"\x21", values[-1]) + _tags(0x3A, pairs)
            return head + field(0x2A, field(0x0A, point))
        total = self.total
        if self.kind is MetricKind.COUNT and has_counts:
            if _is_whole(total):
                number = _WHOLE.pack(b"\x11", start, b"\x19", end, b"\x31", int(total))
            else:
                number = _NUMBER.pack(b"\x11", start, b"\x19", end, b"\x21", total)
            end_of_sum = _ADDS_UP if total >= 0 else _IS_DELTA
            return head + field(0x3A, field(0x0A, number + _tags(0x3A, pairs)) + end_of_sum)
        first = _HISTOGRAM.pack(b"\x11", start, b"\x19", end, b"\x21", len(values), b"\x29", total)
        last = _EXTREMES.pack(b"\x59", min(values), b"\x61", max(values))
        buckets = _one_bucket(bisect_left(self.bounds, values[0]), self.bounds) if len(values) == 1 else _packed(
            tuple(self._buckets()), self.bounds
        )  # fmt: skip
        point = first + buckets + _tags(0x4A, pairs) + last
        return head + field(0x4A, field(0x0A, point) + _IS_DELTA)

    def _buckets(self) -> list[int]:
        """Return how many values each bucket has: those up to its bound, which belongs to it."""
        counts = [0] * (len(self.bounds) + 1)
        for value in self.values:
            counts[bisect_left(self.bounds, value)] += 1
        return counts


@lru_cache(maxsize=256)
def _named(name: str, unit: str) -> tuple[str, str, float]:
    """Return the name and the unit under which a metric is sent, and by what its values are divided."""
    if not name.startswith("lambda."):
        return name, unit, 1.0
    found, its_unit = NAMES.get(name, (f"aws.{name}", unit))
    known, divisor = _UNITS.get(its_unit, (its_unit, 1.0))
    return found, known, divisor


def _is_whole(value: float) -> bool:
    return value.is_integer() and abs(value) < 2**53


@lru_cache(maxsize=256)
def _head(name: str, unit: str) -> bytes:
    return encode("Metric", {"name": name, "unit": unit})


@lru_cache(maxsize=256)
def _tags(tag: int, pairs: tuple[tuple[str, str], ...]) -> bytes:
    return b"".join([attribute(tag, key, value) for key, value in pairs])


@lru_cache(maxsize=256)
def _one_bucket(index: int, bounds: tuple[float, ...]) -> bytes:
    """Return buckets and bounds of a histogram with one value."""
    return _packed(tuple(int(number == index) for number in range(len(bounds) + 1)), bounds)


def _packed(counts: tuple[int, ...], bounds: tuple[float, ...]) -> bytes:
    """Return the buckets of a histogram, and their bounds."""
    return encode("HistogramDataPoint", {"bucketCounts": counts, "explicitBounds": bounds})


# --- the usual record, fast -----------------------------------------------------------------------------------------

# A function writes one point with one value, whose interval and value alone differ from those before it.
_Write: TypeAlias = Callable[[int, int, float], bytes]
_SHAPE, _VALUE = itemgetter("name", "unit", "kind"), itemgetter("value")
_PLAIN = frozenset({int, float})
_LARGE = 1e290  # what is more, or no number, may be one that no receiver takes


def _quickly(record: Record, has_counts: bool) -> bytes | None:
    """Return the points of a record that was made here as protobuf, the same bytes in a quarter of the time.

    None if it is another, or may be. Records of one origin repeat a few shapes: what all of a shape have in common is
    written once.
    """
    fields = record.fields or {}
    try:
        points = fields["points"]
        values = [*map(_VALUE, points)]
        if not _PLAIN.issuperset(map(type, values)):
            return None
        writers = _writers(tuple(map(_SHAPE, points)), tuple(fields["attributes"].items()), has_counts)
        if not writers or not sum(map(abs, values)) < _LARGE:
            return None
    except (KeyError, TypeError, AttributeError, OverflowError):
        return None
    start, end = _interval(record)
    return b"".join([write(start, end, value) for write, value in zip(writers, values, strict=True)])


@lru_cache(maxsize=128)
def _writers(
    shape: tuple[tuple[str, str, str], ...], pairs: tuple[tuple[str, str], ...], has_counts: bool
) -> list[_Write]:
    """Return what writes each point of a shape; none if it takes the slow way: two points of one name, for example."""
    names = {name for name, _, _ in shape}
    plain = all(isinstance(text, str) for one in (*shape, *pairs) for text in one)
    if not plain or len(names) < len(shape) or not all(name and kind in _KINDS for name, _, kind in shape):
        return []
    return [_writer(name, unit, _KINDS[kind], pairs, has_counts) for name, unit, kind in shape]


_KINDS = {str(kind): kind for kind in MetricKind}


def _writer(name: str, unit: str, kind: MetricKind, pairs: tuple[tuple[str, str], ...], has_counts: bool) -> _Write:
    its_name, its_unit, divisor = _named(name, unit)
    head = _head(its_name, its_unit)
    if kind is MetricKind.DISTRIBUTION or (kind is MetricKind.COUNT and not has_counts):
        return _histogram_writer(head, BOUNDS.get(its_unit, _USUAL_BOUNDS), divisor, pairs)

    def slowly(start: int, end: int, value: float) -> bytes:
        return framed(_Series(Point(name, value, unit, kind)).in_protobuf(start, end, pairs, has_counts))

    return _count_writer(head, pairs, slowly) if kind is MetricKind.COUNT and divisor == 1 else slowly


def _count_writer(head: bytes, pairs: tuple[tuple[str, str], ...], slowly: _Write) -> _Write:
    """Return what writes a count; all but a whole number that is not negative `slowly`."""
    last = _tags(0x3A, pairs)
    first = _opening(head, 0x3A, _WHOLE.size + len(last), len(_ADDS_UP)) + b"\x11"
    last += _ADDS_UP
    pack = Packer(f"<{len(first)}sQcQcq{len(last)}s").pack

    def write(start: int, end: int, value: float) -> bytes:
        if not 0 <= value < 2**53 or value % 1:
            return slowly(start, end, value)
        return pack(first, start, b"\x19", end, b"\x31", int(value), last)

    return write


def _opening(head: bytes, tag: int, point_bytes: int, more_bytes: int) -> bytes:
    """Return what stands before the data point of a Metric with `head`, `more_bytes` after the point in its `tag`."""
    opening = OPENINGS[point_bytes << 8 | 0x0A]
    opening = OPENINGS[len(opening) + point_bytes + more_bytes << 8 | tag] + opening
    return OPENINGS[len(head) + len(opening) + point_bytes + more_bytes << 8 | 0x12] + head + opening


def _histogram_writer(
    head: bytes, bounds: tuple[float, ...], divisor: float, pairs: tuple[tuple[str, str], ...]
) -> _Write:
    """Return what writes a histogram of one value: everything in it has a length that is known before."""
    buckets = [_one_bucket(index, bounds) for index in range(len(bounds) + 1)]
    tags = _tags(0x4A, pairs)
    point_bytes = _HISTOGRAM.size + len(buckets[0]) + len(tags) + _EXTREMES.size
    first = _opening(head, 0x4A, point_bytes, len(_IS_DELTA)) + b"\x11"
    count = b"\x21" + (1).to_bytes(8, "little") + b"\x29"
    last = tags + b"\x59"
    pack = Packer(f"<{len(first)}sQcQ{len(count)}sd{len(buckets[0])}s{len(last)}sdcd2s").pack

    def write(start: int, end: int, value: float) -> bytes:
        value /= divisor
        bucket = buckets[bisect_left(bounds, value)]
        return pack(first, start, b"\x19", end, count, value, bucket, last, value, b"\x61", value, _IS_DELTA)

    return write
