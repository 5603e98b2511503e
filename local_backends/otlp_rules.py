"""What is wrong with an OTLP request that is well-formed: the semantics that receivers rely on, or lose data by.

Each check raises Refused with the reason. Source: opentelemetry-proto 1.11 (.proto files); OpenTelemetry, logs and
metrics data models; semantic conventions 1.44; AWS's and Datadog's pages on their OTLP endpoints; read 2026-11-28.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from local_backends.otlp_messages import attributes_of

DELTA, CUMULATIVE = 1, 2
_SMALLEST_MEMORY = 134_217_728  # 128 MB; smaller: it is in MB
_ENVELOPES = {
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    "traces": ("resourceSpans", "scopeSpans", "spans"),
}
SHAPES = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")


class Refused(Exception):
    """The request is refused; with it, the status."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.status = status


def items_in(
    signal: str, request: Mapping[str, Any]
) -> Iterator[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """Yield (resource, scope, item) of a request; an envelope without any item is refused."""
    resources, scopes, items = _ENVELOPES[signal]
    for outer in request.get(resources, ()):
        if not outer.get(scopes):
            raise Refused(f"an empty envelope in {resources}")
        resource = outer.get("resource", {})
        check_attributes(resource, "the resource")
        memory = attributes_of(resource).get("faas.max_memory")
        if memory is not None and not (isinstance(memory, int) and memory >= _SMALLEST_MEMORY):
            raise Refused(f"faas.max_memory is {memory!r}, not a number of bytes")
        for inner in outer[scopes]:
            if not inner.get(items):
                raise Refused(f"an empty envelope in {scopes}")
            for item in inner[items]:
                yield resource, inner.get("scope", {}), item


def check_attributes(holder: Mapping[str, Any], where: str) -> None:
    """Refuse a list with a key that is empty or there twice, and empty values, which receivers stumble over."""
    keys = [one.get("key", "") for one in holder.get("attributes", ())]
    if len(set(keys)) != len(keys):
        raise Refused(f"attribute {next(key for key in keys if keys.count(key) > 1)!r} of {where} is there twice")
    if "" in keys:
        raise Refused(f"an attribute of {where} has no key")
    for one in holder.get("attributes", ()):
        if not one.get("value"):
            raise Refused(f"attribute {one['key']!r} of {where} has no value")


# --- log records and spans ------------------------------------------------------------------------------------------


def check_log(item: Mapping[str, Any]) -> None:
    check_attributes(item, "a log record")
    if not item.get("observedTimeUnixNano"):
        raise Refused("a log record without observedTimeUnixNano")
    if not 0 <= item.get("severityNumber", 0) <= 24:
        raise Refused("a log record with an unknown severityNumber")
    if "body" in item and not item["body"]:
        raise Refused("a log record with an empty body")
    _check_ids(item, ("traceId", "spanId"))


def check_span(item: Mapping[str, Any]) -> None:
    check_attributes(item, "a span")
    if not item.get("name"):
        raise Refused("a span without a name")
    if "traceId" not in item or "spanId" not in item:
        raise Refused("a span without its ids")
    _check_ids(item, ("traceId", "spanId", "parentSpanId"))
    if item.get("parentSpanId") == item["spanId"]:
        raise Refused("a span is its own parent")
    if not 1 <= item.get("kind", 0) <= 5:
        raise Refused("a span of no kind")
    start, end = item.get("startTimeUnixNano", 0), item.get("endTimeUnixNano", 0)
    if not 0 < start <= end:
        raise Refused("a span that ends before it starts, or has no time")
    status = item.get("status", {})
    if not 0 <= status.get("code", 0) <= 2:
        raise Refused("a span with an unknown status")
    if status.get("message") and status.get("code", 0) != 2:
        raise Refused("a span with a status message, but no error")
    for link in item.get("links", ()):
        _check_ids(link, ("traceId", "spanId"))


def _check_ids(item: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        if not item.get(name, "1").strip("0"):
            raise Refused(f"{name} is zero")


# --- metrics --------------------------------------------------------------------------------------------------------


def points_in(item: Mapping[str, Any]) -> tuple[str, Mapping[str, Any], list[dict[str, Any]]]:
    """Return the shape of a metric, its data and its points."""
    shape = next((name for name in SHAPES if name in item), None)
    if shape is None or not item[shape].get("dataPoints"):
        raise Refused(f"metric {item.get('name')!r} without data points")
    return shape, item[shape], item[shape]["dataPoints"]


def check_metric(item: Mapping[str, Any]) -> None:
    name = item.get("name", "")
    if not name:
        raise Refused("a metric without a name")
    if name.endswith("duration") and not item.get("unit"):
        raise Refused(f"metric {name!r} is a duration without a unit")
    shape, data, points = points_in(item)
    temporality = data.get("aggregationTemporality", 0)
    if shape in ("sum", "histogram", "exponentialHistogram") and temporality not in (DELTA, CUMULATIVE):
        raise Refused(f"metric {name!r} without a temporality")
    for point in points:
        check_attributes(point, f"metric {name!r}")
        if not point.get("timeUnixNano"):
            raise Refused(f"a point of {name!r} without a time")
        if shape != "gauge" and not point.get("startTimeUnixNano", 0) < point["timeUnixNano"]:
            raise Refused(f"a point of {name!r} whose interval is empty")
        if shape in ("gauge", "sum"):
            _check_number(name, point, data)
        elif shape == "histogram":
            _check_histogram(name, point)


def _check_number(name: str, point: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    value = point.get("asInt", point.get("asDouble"))
    if value is None or not math.isfinite(value):
        raise Refused(f"a point of {name!r} without a finite value")
    if data.get("isMonotonic") and value < 0:
        raise Refused(f"a point of {name!r} falls, but is monotonic")


def _check_histogram(name: str, point: Mapping[str, Any]) -> None:
    counts, bounds = point.get("bucketCounts", []), point.get("explicitBounds", [])
    if counts and len(counts) != len(bounds) + 1:
        raise Refused(f"{name!r} has {len(counts)} buckets for {len(bounds)} bounds")
    if any(low >= high for low, high in pairwise(bounds)):
        raise Refused(f"the bounds of {name!r} do not rise")
    if counts and sum(counts) != point.get("count", 0):
        raise Refused(f"the count of {name!r} is not the sum of its buckets")
    total = point.get("sum", 0.0)
    if not all(math.isfinite(value) for value in (total, point.get("min", 0.0), point.get("max", 0.0))):
        raise Refused(f"a point of {name!r} with a sum that is not finite")


Identity = tuple[Any, ...]


class Series:
    """What is known of each series: intervals of deltas must not meet, and a cumulative start must not move.

    A point that is the same once more came with a retry.
    """

    def __init__(self) -> None:
        self._deltas: dict[Identity, dict[tuple[int, int], Any]] = {}
        self._starts: dict[Identity, int] = {}
        self.repeated = 0

    def check(self, resource: Mapping[str, Any], item: Mapping[str, Any]) -> Callable[[], None]:
        """Refuse what does not fit to what came before; return what keeps the points."""
        shape, data, points = points_in(item)
        new: list[tuple[Identity, tuple[int, int], Any]] = []
        repeated = 0
        for point in points if shape != "gauge" else ():
            identity = identity_of(resource, item, point)
            span = (point.get("startTimeUnixNano", 0), point["timeUnixNano"])
            if data.get("aggregationTemporality") == CUMULATIVE:
                if self._starts.setdefault(identity, span[0]) != span[0]:
                    raise Refused(f"the start of the cumulative {item['name']!r} moved")
                continue
            known = self._deltas.get(identity, {}) | {other: its for one, other, its in new if one == identity}
            if known.get(span) == point:
                repeated += 1
                continue
            for start, end in known:
                if span[0] < end and start < span[1]:
                    raise Refused(f"two intervals of {item['name']!r} meet")
            new.append((identity, span, point))

        def keep() -> None:
            self.repeated += repeated
            for identity, span, point in new:
                self._deltas.setdefault(identity, {})[span] = point

        return keep


def identity_of(resource: Mapping[str, Any], item: Mapping[str, Any], point: Mapping[str, Any]) -> Identity:
    """Return what tells one series from another."""
    return (item["name"], _frozen(attributes_of(resource)), _frozen(attributes_of(point)))


def _frozen(attributes: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, repr(value)) for key, value in attributes.items()))


CHECKS: Mapping[str, Callable[[Mapping[str, Any]], None]] = {
    "logs": check_log, "metrics": check_metric, "traces": check_span,
}  # fmt: skip
