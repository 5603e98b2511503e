"""Metric lines: what a function prints so that somebody makes metrics of it. Pure.

Two forms are known, each one JSON object alone in its line (Lambda's JSON format has it as an object):

- the embedded metric format (EMF), of which CloudWatch makes metrics: a member `_aws` with the directives, the rest are
  their dimensions and values. Source: CloudWatch User Guide, "Specification: Embedded metric format".
- `{"m": name, "v": value, "e": seconds, "t": [tags]}`, which Datadog's libraries print and its forwarder reads. Source:
  DataDog/datadog-serverless-functions, aws/logs_monitoring.

Both read 2026-11-28. Neither tells what kind a metric is, so each becomes a distribution.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.signals.points import MetricKind, Point, is_number, metrics

# The `source` of the metric records that are made of lines.
EMF, DATADOG = "emf", "datadog"
SOURCES = frozenset({EMF, DATADOG})
ABOUT = "_aws"  # the member that makes an object EMF

_MOST_VALUES = 100
_LARGEST = 2.0**360  # what CloudWatch takes. Source: CloudWatch API Reference, PutMetricData
_LARGEST_DIFFERENCE_MS = 14 * 86_400_000  # between the line and its own time; CloudWatch takes none that is older
_EXACT = 2**53
_KIND = MetricKind.DISTRIBUTION
_FOUR = ("m", "v", "e", "t")

_UNITS = {
    "Seconds": "s", "Milliseconds": "ms", "Microseconds": "us", "Percent": "%", "Count": "1",
    "Bytes": "By", "Kilobytes": "kBy", "Megabytes": "MBy", "Gigabytes": "GBy", "Terabytes": "TBy",
    "Bits": "bit", "Kilobits": "kbit", "Megabits": "Mbit", "Gigabits": "Gbit", "Terabits": "Tbit",
}  # fmt: skip


def form_of(record: Record) -> str | None:
    """Return EMF or DATADOG if a record is such a line; None for all others, also those that merely mention one."""
    fields = record.fields
    if not fields or record.type != "function":
        return None
    if ABOUT in fields:
        about = fields[ABOUT]
        if isinstance(about, Mapping) and is_number(about.get("Timestamp")) and _is_alone(record):
            return EMF if isinstance(about.get("CloudWatchMetrics"), list) else None
        return None
    if "m" in fields and all(name in fields for name in _FOUR):
        name, value, second, tags = (fields[name] for name in _FOUR)
        is_one = isinstance(name, str) and name and is_number(value) and is_number(second) and isinstance(tags, list)
        return DATADOG if is_one and _is_alone(record) else None
    return None


def _is_alone(record: Record) -> bool:
    """Return whether nothing stands before the object: behind a prefix it is no metric for CloudWatch either."""
    return not isinstance(record.body, str) or record.body.lstrip()[:1] == "{"


def metrics_in(record: Record) -> list[Derived]:
    """Return the metric records that a line means; [] if it is no metric line, or has no measurement."""
    form = form_of(record)
    if form is None or record.fields is None:
        return []
    found = _of_emf(record.fields) if form == EMF else _of_datadog(record.fields)
    context = {"request_id": record.request_id, "cold_start": record.cold_start, "trace_id": record.context.trace_id}
    return [
        metrics(points, _plausible(time_ms, record.time_ms), form, attributes, **context)
        for time_ms, points, attributes in found
        if points
    ]


_Found = Iterator[tuple[float, list[Point], dict[str, str]]]


def _of_emf(fields: Mapping[str, Any]) -> _Found:
    """Yield the points that have the same dimensions.

    CloudWatch makes a metric of each set of dimensions. Elsewhere one with the dimensions of all sets is enough, and
    more would be counted more than once in a sum. The same holds for a metric that several directives name.
    """
    dimensions: dict[str, dict[str, str]] = {}  # by metric
    points: dict[str, Point] = {}
    for directive in fields[ABOUT]["CloudWatchMetrics"]:
        if not isinstance(directive, Mapping):
            continue
        namespace, sets, listed = (directive.get(name) for name in ("Namespace", "Dimensions", "Metrics"))
        names = [name for one in _list(sets) for name in _list(one) if isinstance(name, str)]
        known = {name: str(fields[name]) for name in names if isinstance(fields.get(name), str | int | float)}
        for metric in _list(listed):
            point = _emf_point(fields, metric, namespace)
            if point is not None:
                points[point.name] = point
                dimensions.setdefault(point.name, {}).update(known)
    together: dict[tuple[tuple[str, str], ...], list[Point]] = {}
    for name, point in points.items():
        together.setdefault(tuple(dimensions[name].items()), []).append(point)
    for attributes, some in together.items():
        yield fields[ABOUT]["Timestamp"], some, dict(attributes)


def _emf_point(fields: Mapping[str, Any], metric: Any, namespace: Any) -> Point | None:
    """Return the point of one metric of a directive. Its name is that of Datadog's: the namespace, `.`, the name."""
    name = metric.get("Name") if isinstance(metric, Mapping) else None
    if not isinstance(name, str) or not name:
        return None
    value: Any = fields.get(name)
    values = value if isinstance(value, list) else [value]
    if not 0 < len(values) <= _MOST_VALUES or not all(is_number(one) and abs(one) <= _LARGEST for one in values):
        return None
    full = f"{namespace}.{name}" if isinstance(namespace, str) and namespace else name
    numbers = [_number(one) for one in values]
    return Point(full, numbers if isinstance(value, list) else numbers[0], _unit(metric.get("Unit")), _KIND)


def _unit(unit: Any) -> str:
    base, slash, second = unit.partition("/") if isinstance(unit, str) else ("", "", "")
    found = _UNITS.get(base, "")
    return f"{found}/s" if found and slash and second == "Second" else found if not slash else ""


def _of_datadog(fields: Mapping[str, Any]) -> _Found:
    name, value, second, tags = (fields[name] for name in _FOUR)
    pairs = (tag.partition(":") for tag in tags if isinstance(tag, str) and tag)
    yield second * 1000, [Point(name, _number(value), "", _KIND)], {key: text for key, _, text in pairs}


def _number(value: float) -> float:
    """Return a number that JSON readers keep: an integer beyond what a double holds exactly becomes the nearest one."""
    return float(value) if abs(value) >= _EXACT else value


def _plausible(time_ms: float, line_ms: int) -> int:
    """Return the time that a line names, or that of the line if it is far from it, e.g. in another unit."""
    return round(time_ms) if abs(time_ms - line_ms) <= _LARGEST_DIFFERENCE_MS else line_ms


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
