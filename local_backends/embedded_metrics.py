"""Extracts metrics in the embedded format (EMF) from log events, as CloudWatch does from every group. Pure.

Nothing is de-duplicated: what two groups got counts twice. What is no valid EMF is no error of PutLogEvents; it only
shows in metrics of `AWS/Logs`, here in `errors`.
Source: CloudWatch User Guide, "Specification: Embedded metric format", read 2026-11-28.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

_MOST_METRICS, _MOST_DIMENSIONS, _MOST_VALUES = 100, 30, 100
_LONGEST_NAME, _LONGEST_NAMESPACE, _LONGEST_VALUE = 1024, 256, 1024
_LARGEST = 2.0**360  # Source: PutMetricData, MetricDatum
_MAX_AGE_MS, _MAX_AHEAD_MS = 14 * 24 * 3_600_000, 2 * 3_600_000
_SIZES = [f"{prefix}{unit}" for unit in ("bytes", "bits") for prefix in ("", "Kilo", "Mega", "Giga", "Tera")]
_PER_SECOND = [size.capitalize() for size in _SIZES] + ["Count"]
UNITS = frozenset(
    {"Seconds", "Milliseconds", "Microseconds", "Percent", "None", *_PER_SECOND, *(f"{u}/Second" for u in _PER_SECOND)}
)
MINUTE_MS = 60_000

# Namespace, dimensions by name, metric, and the minute since the epoch.
Key = tuple[str, tuple[tuple[str, str], ...], str, int]


class _Invalid(Exception):
    """The text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one log event holds for one metric with one set of dimensions."""

    group: str
    namespace: str
    dimensions: Mapping[str, str]
    name: str
    unit: str
    time_ms: int
    values: tuple[float, ...]

    @property
    def key(self) -> Key:
        return (self.namespace, tuple(sorted(self.dimensions.items())), self.name, self.time_ms // MINUTE_MS)


@dataclass(slots=True)
class EmbeddedMetrics:
    """What was extracted: `found` in order of arrival, `errors` for what looked like EMF and is none."""

    found: list[Measurement] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def take(self, group: str, message: str, now_ms: int) -> None:
        """Extract the metrics of one log event."""
        if '"_aws"' not in message:
            return
        try:
            document = json.loads(message)
        except (ValueError, RecursionError):
            return  # nothing before or after the object is allowed: it is a text
        if not isinstance(document, dict) or not isinstance(document.get("_aws"), dict):
            return
        try:
            self.found += _measurements(group, document, now_ms)
        except _Invalid as error:
            self.errors.append(f"{group}: {error}")

    def sums(self) -> dict[Key, float]:
        """Return the sum of each metric with each set of dimensions, by minute."""
        sums: dict[Key, float] = defaultdict(float)
        for one in self.found:
            sums[one.key] += sum(one.values)
        return dict(sums)

    def total(self, name: str, **dimensions: str) -> float:
        """Return the sum of a metric over all time, in the set of just these dimensions."""
        return sum(sum(one.values) for one in self.found if one.name == name and one.dimensions == dimensions)


def _measurements(group: str, document: Mapping[str, Any], now_ms: int) -> list[Measurement]:
    about = document["_aws"]
    time_ms = about.get("Timestamp")
    if not isinstance(time_ms, int) or isinstance(time_ms, bool):
        _refuse("`Timestamp` is no integer")
    if not now_ms - _MAX_AGE_MS <= time_ms <= now_ms + _MAX_AHEAD_MS:
        _refuse("`Timestamp` is more than 14 days old or 2 hours ahead")
    directives = about.get("CloudWatchMetrics")
    if not isinstance(directives, list):
        _refuse("`CloudWatchMetrics` is no list")
    return [
        Measurement(group, namespace, dimensions, name, unit, time_ms, values)
        for directive in directives
        for namespace, sets, metrics in [_directive(directive)]
        for dimensions in [{name: _dimension(document, name) for name in names} for names in sets]
        for name, unit in metrics
        for values in [_values(document, name)]
    ]


def _directive(given: Any) -> tuple[str, list[list[str]], list[tuple[str, str]]]:
    if not isinstance(given, dict):
        _refuse("a directive is no object")
    namespace, sets, metrics = given.get("Namespace"), given.get("Dimensions"), given.get("Metrics")
    if not _is_name(namespace, _LONGEST_NAMESPACE) or str(namespace).startswith(("AWS/", ":")):
        _refuse("`Namespace` is none that one may use")
    if not isinstance(sets, list) or not sets or not all(isinstance(one, list) for one in sets):
        _refuse("`Dimensions` is no list of lists, or it is empty")
    if any(len(one) > _MOST_DIMENSIONS or not all(_is_name(name, 250) for name in one) for one in sets):
        _refuse("a set of dimensions has more than 30, or one without a name")
    if not isinstance(metrics, list) or not 0 < len(metrics) <= _MOST_METRICS:
        _refuse("`Metrics` is no list of 1 to 100")
    return str(namespace), sets, [_metric(metric) for metric in metrics]


def _metric(given: Any) -> tuple[str, str]:
    if not isinstance(given, dict) or not _is_name(given.get("Name"), _LONGEST_NAME):
        _refuse("a metric has no `Name`")
    if given.get("Unit", "None") not in UNITS:
        _refuse("`Unit` is none of CloudWatch's")
    if given.get("StorageResolution", 60) not in (1, 60):
        _refuse("`StorageResolution` is neither 1 nor 60")
    return given["Name"], given.get("Unit", "None")


def _dimension(document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value.strip() or not value.isascii() or len(value) > _LONGEST_VALUE:
        _refuse("a dimension has no text of 1 to 1024 ASCII characters at the root")
    return value


def _values(document: Mapping[str, Any], name: str) -> tuple[float, ...]:
    value = document.get(name)
    values = value if isinstance(value, list) else [value]
    if not 0 < len(values) <= _MOST_VALUES or not all(map(_is_number, values)):
        _refuse("a metric has no number, or 1 to 100 of them, at the root")
    return tuple(map(float, values))


def _is_number(value: Any) -> bool:
    is_one = isinstance(value, int | float) and not isinstance(value, bool)
    return is_one and math.isfinite(value) and abs(value) <= _LARGEST


def _is_name(value: Any, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest and bool(value.strip())


def _refuse(what: str) -> NoReturn:
    raise _Invalid(what)
