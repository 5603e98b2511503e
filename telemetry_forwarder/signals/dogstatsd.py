"""DogStatsD: what a function sends by UDP while it runs is aggregated until the end of its invocation. Pure.

A datagram has one line for each metric; values of one name, type and tags are aggregated, as Datadog's Agent does:

    orders.paid:1|c|@0.5|#env:prod,region:eu          a count, of which every second one was sent
    page.views:3:5:8|d|#page:home|T1795860000         several values; the time, in seconds, of counts and gauges

A gauge has its last value, a set the number of its different values. What is malformed, or beyond a bound, is refused
and counted, so that nobody's memory grows. Events (`_e{…`) and service checks (`_sc|…`) are no metrics.
Source: Datadog, "DogStatsD datagram format", versions 1.0 to 1.3, read 2026-11-28.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from msgspec import Struct, field

from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.signals.points import MetricKind, Point, metrics

SOURCE = "dogstatsd"
# Bounds of what is aggregated until the end of an invocation: a few MB.
_MOST_SERIES = 2000
_MOST_VALUES = 50_000
_MOST_POINTS = 100  # of one record
# A sampled value stands for at most so many: a sample rate below it is no sample of anything.
_MOST_COPIES = 100
_LONGEST_NAME, _LONGEST_TAGS = 200, 4096
_KINDS = {
    "c": MetricKind.COUNT, "g": MetricKind.GAUGE, "s": MetricKind.GAUGE,
    "d": MetricKind.DISTRIBUTION, "h": MetricKind.DISTRIBUTION, "ms": MetricKind.DISTRIBUTION,
}  # fmt: skip

_Tags = tuple[tuple[str, str], ...]


class Refused(ValueError):
    """A line is not taken, for the reason that is its text."""


class _Line(Struct, frozen=True):
    """One line: `values` are numbers but in a set, `rate` is the share of events that were sent."""

    name: str
    type: str
    values: Sequence[str]
    tags: _Tags = ()
    rate: float = 1.0
    time_s: int | None = None


class _Series(Struct):
    """What was aggregated of one name, type and tags."""

    count: float = 0.0
    values: list[float] = field(default_factory=list)
    different: set[str] = field(default_factory=set)


class Aggregator:
    """Takes datagrams, and gives what was aggregated at the end of each invocation."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()  # lines that were not taken, by reason
        self._series: dict[tuple[str, str, _Tags, int | None], _Series] = {}
        self._values = 0

    def take(self, datagram: bytes) -> None:
        """Aggregate the lines of a datagram. Never raises."""
        for line in datagram.decode("utf-8", "replace").splitlines():
            if not line.strip():
                continue
            try:
                self._add(_read(line))
            except Refused as refusal:
                self.refused[str(refusal)] += 1

    def collect(self, time_ms: int) -> list[Derived]:
        """Return the records of what came since the last call; `time_ms` is the time of what has none of its own."""
        series, self._series, self._values = self._series, {}, 0
        groups: dict[tuple[_Tags, int | None], list[Point]] = {}
        for (name, type, tags, time_s), one in series.items():
            groups.setdefault((tags, time_s), []).append(_point(name, type, one))
        return [
            metrics(some, time_ms if time_s is None else time_s * 1000, SOURCE, dict(tags))
            for (tags, time_s), points in groups.items()
            for some in _pieces(points)
        ]

    def _add(self, line: _Line) -> None:
        key = (line.name, line.type, line.tags, line.time_s)
        one = self._series.get(key)
        if one is None:
            if len(self._series) >= _MOST_SERIES:
                raise Refused(f"more than {_MOST_SERIES} series in one invocation")
            one = _Series()
        if line.type == "s":
            self._grow(len(line.values))
            one.different.update(line.values)
        else:
            self._add_numbers(line, one, [_number(value) for value in line.values])
        self._series[key] = one

    def _add_numbers(self, line: _Line, one: _Series, values: list[float]) -> None:
        if line.type == "c":
            one.count += sum(values) / line.rate
        elif line.type == "g":
            one.count = values[-1]
        else:
            copies = min(_MOST_COPIES, max(1, round(1 / line.rate)))
            self._grow(len(values) * copies)
            one.values += values * copies if copies > 1 else values

    def _grow(self, values: int) -> None:
        if self._values + values > _MOST_VALUES:
            raise Refused(f"more than {_MOST_VALUES} values in one invocation")
        self._values += values


def _point(name: str, type: str, one: _Series) -> Point:
    kind = _KINDS[type]
    if kind is MetricKind.DISTRIBUTION:
        return Point(name, one.values if len(one.values) > 1 else one.values[0], "ms" if type == "ms" else "", kind)
    return Point(name, len(one.different) if type == "s" else one.count, "", kind)


def _pieces(points: list[Point]) -> Iterator[list[Point]]:
    return (points[start : start + _MOST_POINTS] for start in range(0, len(points), _MOST_POINTS))


def _read(line: str) -> _Line:
    """Return the parts of a line. Raises Refused."""
    if line.startswith(("_e{", "_sc|")):
        raise Refused("an event or a service check, which is no metric")
    head, *rest = line.split("|")
    name, colon, values = head.partition(":")
    if not (name and colon and rest) or len(name) > _LONGEST_NAME or not name.isprintable():
        raise Refused("not of the form name:value|type")
    if rest[0] not in _KINDS:
        raise Refused("of an unknown type")
    rate, tags, time_s = 1.0, _Tags(), None
    for part in rest[1:]:
        sign, value = part[:1], part[1:]
        if sign == "@":
            rate = _number(value)
            if not 0 < rate <= 1:
                raise Refused("a sample rate that is not above 0 and up to 1")
        elif sign == "#":
            tags = _tags(value)
        elif sign == "T":
            time_s = int(value) if value.isascii() and value.isdigit() and len(value) < 11 else None
    # A set's value may hold anything; of other types a colon divides values.
    found = [values] if rest[0] == "s" else values.split(":")
    return _Line(name, rest[0], found, tags, rate, time_s if rest[0] in ("c", "g") else None)


def _tags(text: str) -> _Tags:
    """Return tags in one order, so that equal ones make one series. A bare tag has the value ""."""
    if len(text) > _LONGEST_TAGS:
        raise Refused(f"with more than {_LONGEST_TAGS} characters of tags")
    pairs = (tag.partition(":") for tag in text.split(",") if tag)
    return tuple(sorted({key: value for key, _, value in pairs}.items()))


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise Refused("with a value that is no number") from None
    if not math.isfinite(value):
        raise Refused("with a value that is not finite")
    return int(value) if value.is_integer() and abs(value) < 2**53 else value
