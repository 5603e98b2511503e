"""Parses what is sent to Datadog's metric APIs, and keeps it: the last value wins, but in distributions. Pure.

Sources: Datadog's API reference (`POST /api/v2/series`, `POST /api/v1/distribution_points`) and its pages on metric
types and custom metrics, read 2026-11-28. The limits of the second are not documented; those of the first count.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

MAX_BYTES = 512_000  # compressed
MAX_RAW_BYTES = 5_242_880
_OLDEST, _NEWEST = 3600.0, 600.0  # seconds before and after the API's clock
_MOST_TAGS = 100  # as Datadog's own extension sends; not documented
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.]{0,199}")
_COUNT, _RATE, _GAUGE = 1, 2, 3


class Malformed(Exception):
    """The body is refused; the text says why, without quoting it."""


@dataclass(frozen=True, slots=True)
class DatadogPoint:
    """What came for one metric, its tags and a second (since the epoch). A distribution has all its `values`."""

    metric: str
    tags: tuple[str, ...]  # sorted
    second: int
    values: tuple[float, ...]
    is_distribution: bool = True

    @property
    def series(self) -> tuple[str, tuple[str, ...], int]:
        return (self.metric, self.tags, self.second)


@dataclass(slots=True)
class DatadogMetrics:
    """The metrics of one account.

    `points` is what Datadog shows. `overwritten` are the points that a later one of the same metric, tags and second
    has replaced, which is the classic loss of several environments that count; `lost` those that were answered 202 and
    dropped for their time. `flaws` tells of what is taken but means something else than was meant.
    """

    points: list[DatadogPoint] = field(default_factory=list)
    overwritten: list[DatadogPoint] = field(default_factory=list)
    lost: list[DatadogPoint] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)

    def store(self, points: list[DatadogPoint], now: float) -> None:
        for point in points:
            if not now - _OLDEST <= point.second <= now + _NEWEST:
                self.lost.append(point)
                continue
            if not point.is_distribution:
                same = [one for one in self.points if one.series == point.series and not one.is_distribution]
                self.overwritten += same
                self.points = [one for one in self.points if one not in same]
            self.points.append(point)

    def values(self, metric: str) -> list[float]:
        """Return every value of a metric, whatever its tags, in order of arrival."""
        return [value for point in self.points if point.metric == metric for value in point.values]

    def tags(self, metric: str) -> list[dict[str, str]]:
        """Return the tags of each point of a metric; one without a value has ""."""
        pairs = ([tag.partition(":") for tag in point.tags] for point in self.points if point.metric == metric)
        return [{key: value for key, _, value in tags} for tags in pairs]


def read_distributions(body: bytes) -> list[DatadogPoint]:
    """Return the points of a body of `/api/v1/distribution_points`. Raises Malformed."""
    found = []
    for series in _series(body):
        if series.get("type", "distribution") != "distribution":
            raise Malformed("`type` is not `distribution`")
        for point in _list(series, "points"):
            if not isinstance(point, list) or len(point) != 2:
                raise Malformed("a point is no pair of a time and a list of values")
            second, values = point
            if not isinstance(values, list) or not values or not all(map(_is_number, values)):
                raise Malformed("the values of a point are no list of finite numbers, or it is empty")
            found.append(DatadogPoint(_metric(series), _tags(series), _second(second), tuple(map(float, values))))
    return found


def read_series(body: bytes) -> tuple[list[DatadogPoint], list[str]]:
    """Return the points of a body of `/api/v2/series`, and what Datadog takes though it is wrong. Raises Malformed."""
    found, flaws = [], []
    for series in _series(body):
        kind = series.get("type")
        if kind not in (0, _COUNT, _RATE, _GAUGE) or isinstance(kind, bool):
            raise Malformed("`type` is none of 0 to 3")
        if kind in (_COUNT, _RATE) and not _is_number(series.get("interval")):
            flaws.append(f"{_metric(series)}: a count or rate without `interval`")
        for point in _list(series, "points"):
            value: Any = point.get("value") if isinstance(point, dict) else None
            if not _is_number(value):
                raise Malformed("a point has no finite number as `value`")
            second = _second(point.get("timestamp"))
            found.append(DatadogPoint(_metric(series), _tags(series), second, (float(value),), is_distribution=False))
    return found, flaws


def _series(body: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Malformed("the body is no JSON") from None
    if not isinstance(given, dict) or not isinstance(given.get("series"), list):
        raise Malformed("`series` is no list")
    for series in given["series"]:
        if not isinstance(series, dict):
            raise Malformed("a series is no object")
        yield series


def _metric(series: Mapping[str, Any]) -> str:
    """Return the name. Datadog changes other characters, and drops a name that begins with another than a letter."""
    name = series.get("metric")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Malformed("`metric` is no name of a metric")
    return name


def _tags(series: Mapping[str, Any]) -> tuple[str, ...]:
    tags = series.get("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        raise Malformed("`tags` is no list of texts")
    if len(tags) > _MOST_TAGS:
        raise Malformed(f"more than {_MOST_TAGS} tags")
    return tuple(sorted(tags))


def _list(series: Mapping[str, Any], name: str) -> list[Any]:
    found = series.get(name)
    if not isinstance(found, list) or not found:
        raise Malformed(f"`{name}` is no list, or it is empty")
    return found


def _second(value: Any) -> int:
    """Return a time in whole seconds; one with 13 digits is in ms, and refused."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**11:
        raise Malformed("a time is not in whole seconds")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
