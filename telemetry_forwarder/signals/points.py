"""A metric record: points that were measured at one time, with the attributes that they have in common.

Its fields are plain JSON, so that a spool and a failover can keep them:

    {"points": [{"name": "lambda.duration", "value": 12.3, "unit": "ms", "kind": "distribution"}, …],
     "attributes": {"error.type": "timeout"}, "source": "platform"}

`value` is a number or, in a distribution, perhaps a list of numbers. `kind` is

    count         how often something happened since the last point; sums up
    gauge         what something was at that time
    distribution  one or more measurements, of which sums, averages and percentiles are of use

`attributes` never hold a request id, or anything else that is new in every invocation: each combination of attributes
is a series of its own, which backends bill.
"""

import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeGuard

from msgspec import Struct, ValidationError, convert

from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.record import METRICS, Record


class MetricKind(StrEnum):
    """How the values of a metric are combined."""

    COUNT = "count"
    GAUGE = "gauge"
    DISTRIBUTION = "distribution"


class Point(Struct, frozen=True):
    """One metric with its value or values. `unit` is that of UCUM (`ms`, `By`, `1`), or "" if it is not known."""

    name: str
    value: float | Sequence[float]
    unit: str
    kind: MetricKind

    @property
    def values(self) -> Sequence[float]:
        return self.value if isinstance(self.value, list | tuple) else (self.value,)


def metrics(
    points: Sequence[Point], time_ms: int, source: str, attributes: Mapping[str, str] | None = None, **context: Any
) -> Derived:
    """Return the record of `points`; `context` as in Derived. `source` tells from where they come."""
    fields = {
        "points": [{"name": one.name, "value": one.value, "unit": one.unit, "kind": str(one.kind)} for one in points],
        "attributes": attributes or {},
        "source": source,
    }
    return Derived(type=METRICS, time_ms=time_ms, fields=fields, **context)


def points_of(record: Record) -> list[Point]:
    """Return the points of a metric record. What is no point, or has no finite value, is left out."""
    found = record.fields.get("points") if record.fields else None
    try:
        points = convert(found, list[_Plain])  # nearly always: our own, with a number each
    except ValidationError:
        pass
    else:
        if all(one.name and is_number(one.value) for one in points):
            return [Point(one.name, one.value, one.unit, one.kind) for one in points]
    return [point for one in found or () if (point := _point(one)) is not None] if isinstance(found, list) else []


def attributes_of(record: Record) -> dict[str, str]:
    """Return the attributes that the points of a metric record have in common."""
    found = record.fields.get("attributes") if record.fields else None
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


class _Plain(Struct):
    """A point with one value, as it is written."""

    name: str
    value: float | int
    unit: str
    kind: MetricKind


_KINDS = {str(kind): kind for kind in MetricKind}


def _point(one: Any) -> Point | None:
    if not isinstance(one, Mapping) or not isinstance(name := one.get("name"), str) or not name:
        return None
    value: Any = one.get("value")
    kind, unit = _KINDS.get(one.get("kind", "")), one.get("unit")
    values = value if isinstance(value, list) else [value]
    if kind is None or not values or not all(map(is_number, values)):
        return None
    return Point(name, value, unit if isinstance(unit, str) else "", kind)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether `value` can be measured: a number that a double can hold, finite, and no truth value."""
    return isinstance(value, (int, float)) and value.__class__ is not bool and -_MOST <= value <= _MOST


_MOST = sys.float_info.max
