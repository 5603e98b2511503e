"""An engine for the part of Splunk's search language that our dashboard uses. What it does not know, it refuses.

There is no other one: Splunk's own is not to be had without its server.
Source: Splunk Search Reference (mstats, search, stats, timechart, eval, sort, head, table), read 2026-11-28.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from local_backends.hec_events import HecEvent
from tests.dashboards.expressions import Function, Row, Tokens, Unsupported, Value, evaluate, parse, percentile

_NAMES = r"[A-Za-z_][\w.{}]*"
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_FUNCTIONS: Mapping[str, Function] = {
    "round": lambda value, digits=0.0: None if value is None else round(value, int(digits)),
}
# One term of a search: a field, `::` for one that was indexed, and what it has to be; `*` stands for any text.
_TERM = re.compile(r'([A-Za-z_][\w.]*)(=|::)("[^"]*"|[^\s"|()\[\]]+)\s*')
_METRIC = re.compile(r"(\w+)\(([A-Za-z_][\w.]*)\)(?:\s+AS\s+(\w+))?\s+")
_TIME = "_time"


@dataclass(frozen=True, slots=True)
class Splunk:
    """What Splunk holds: events, and the points of indexes of metrics."""

    events: Sequence[HecEvent]

    def search(self, text: str) -> list[dict[str, Value]]:
        """Return the rows of a search. Raises Unsupported for what the engine does not understand."""
        commands = [one.strip() for one in re.split(r'\|(?=(?:[^"]*"[^"]*")*[^"]*$)', text)]
        first = commands.pop(0)
        if first:
            rows = self._found(first)
        elif commands and commands[0].startswith("mstats "):
            rows = self._mstats(commands.pop(0).removeprefix("mstats "))
        else:
            raise Unsupported(f"a search that begins with {commands[:1]}")
        for command in commands:
            name, _, rest = command.partition(" ")
            if name not in _COMMANDS:
                raise Unsupported(f"the command {name}")
            rows = _COMMANDS[name](rest.strip(), rows)
        return rows

    def _found(self, text: str) -> list[dict[str, Value]]:
        terms = list(_terms(text.removeprefix("search ")))
        rows = [_row(event) for event in self.events if not event.is_metric and _is_indexed(event, terms)]
        return [row for row in rows if all(_matches(row.get(name), wanted) for name, _, wanted in terms)]

    def _mstats(self, text: str) -> list[dict[str, Value]]:
        aggregates, rest = _aggregates(text)
        found = re.fullmatch(r"WHERE (?P<where>.*?)(?: BY (?P<by>[\w., ]+?))?(?: span=(?P<span>\w+))?", rest, re.DOTALL)
        if found is None:
            raise Unsupported(f"mstats … {rest}")
        terms = list(_terms(found["where"] + " "))
        by = re.split(r"[,\s]+", found["by"]) if found["by"] else []
        step = _seconds(found["span"]) if found["span"] else None
        groups: dict[tuple[Value, ...], dict[str, list[float]]] = {}
        for event in self.events:
            row = {"index": event.index, **event.fields}
            if not event.is_metric or not all(_matches(row.get(name), wanted) for name, _, wanted in terms):
                continue
            key = tuple(row.get(name) for name in by)
            if None in key:  # no row for what lacks a dimension
                continue
            start: tuple[Value, ...] = () if step is None else (event.time // step * step,)
            for name, value in event.fields.items():
                if name.startswith("metric_name:"):
                    groups.setdefault((*start, *key), {}).setdefault(name[12:], []).append(value)
        names = [*([_TIME] if step is not None else []), *by]
        rows = []
        for key, values in groups.items():
            row = {alias: _reduced(how, values.get(metric, [])) for how, metric, alias in aggregates}
            if any(value is not None for value in row.values()):
                rows.append(dict(zip(names, key, strict=True)) | row)
        return sorted(rows, key=lambda row: [str(row[name]) for name in names])


def _terms(text: str) -> Iterator[tuple[str, str, str]]:
    at = 0
    while at < len(text.strip()):
        if (found := _TERM.match(text, at)) is None:
            raise Unsupported(f"{text[at:]!r} in a search")
        at = found.end()
        name, sign, value = found.groups()
        if name in ("span", "earliest", "latest"):
            raise Unsupported(f"{name}= among the terms")
        yield name, sign, value.strip('"')


def _is_indexed(event: HecEvent, terms: Iterable[tuple[str, str, str]]) -> bool:
    """Return whether each term with `::` is one of the fields that were sent with the event."""
    return all(name in event.fields for name, sign, _ in terms if sign == "::")


def _matches(value: Value, wanted: str) -> bool:
    return value is not None and fnmatchcase(_text(value), wanted)


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _row(event: HecEvent) -> dict[str, Value]:
    """Return an event's fields: what every event has, what was sent with it, and the members of its JSON."""
    about: dict[str, Value] = {
        _TIME: event.time, "host": event.host, "source": event.source, "sourcetype": event.sourcetype,
        "index": event.index,
    }  # fmt: skip
    raw = event.event if isinstance(event.event, str) else json.dumps(event.event)
    extracted = dict(_flat("", event.event)) if isinstance(event.event, dict) else {}
    return {**about, "_raw": raw, **extracted, **event.fields}


def _flat(name: str, value: Any) -> Iterator[tuple[str, Value]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _flat(f"{name}.{key}" if name else key, one)
    elif isinstance(value, str):
        yield name, value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)


def _aggregates(text: str) -> tuple[list[tuple[str, str, str]], str]:
    """Read `sum(x) AS y …` and return each as (how, of what, name), and what follows."""
    found, text = [], text.strip() + " "
    while (one := _METRIC.match(text)) is not None:
        how, of, alias = one.groups()
        found.append((how, of, alias or f"{how}({of})"))
        text = text[one.end() :]
    if not found:
        raise Unsupported(f"{text!r} where an aggregate is expected")
    return found, text.strip()


def _reduced(how: str, values: Sequence[float]) -> Value:
    if how == "count":
        return float(len(values))
    if found := re.fullmatch(r"(?:perc|p)(\d+)", how):
        return percentile(values, float(found[1])) if values else None
    reduce: Mapping[str, Callable[[Sequence[float]], float]] = {
        "sum": math.fsum, "avg": lambda found: math.fsum(found) / len(found), "min": min, "max": max,
        "latest": lambda found: found[-1],
    }  # fmt: skip
    if how not in reduce:
        raise Unsupported(f"the aggregate {how}")
    return reduce[how](values) if values else None


def _seconds(span: str) -> int:
    if (found := re.fullmatch(r"(\d+)([smhd])", span)) is None:
        raise Unsupported(f"span={span}")
    return int(found[1]) * _UNITS_S[found[2]]


def _stats(text: str, rows: Sequence[Row]) -> list[dict[str, Value]]:
    aggregates, rest = _aggregates(text)
    if rest and not rest.startswith("BY "):
        raise Unsupported(f"stats … {rest}")
    by = re.split(r"[,\s]+", rest[3:]) if rest else []
    groups: dict[tuple[Value, ...], list[Row]] = {}
    for row in rows:
        if None not in (key := tuple(row.get(name) for name in by)):
            groups.setdefault(key, []).append(row)
    return [
        dict(zip(by, key, strict=True)) | {alias: _reduced(how, _numbers(of, found)) for how, of, alias in aggregates}
        for key, found in groups.items()
    ]


def _numbers(name: str, rows: Iterable[Row]) -> list[float]:
    values = [value for row in rows if (value := row.get(name)) is not None]
    if any(isinstance(value, str) for value in values):
        raise Unsupported(f"numbers of {name}, which is text")
    return [value for value in values if not isinstance(value, str)]


def _timechart(text: str, rows: Sequence[Row]) -> list[dict[str, Value]]:
    """Make one row of each span of time, with a column for each value of the field after BY."""
    found = re.fullmatch(r"span=(\w+) (\w+)\((\w+)\)(?: AS (\w+))? BY (\w+)", text)
    if found is None:
        raise Unsupported(f"timechart {text}")
    span, how, of, _, by = found.groups()
    step = _seconds(span)
    made: dict[float, dict[str, list[Row]]] = {}
    for row in rows:
        time = row[_TIME]
        if isinstance(time, float | int) and (column := row.get(by)) is not None:
            made.setdefault(time // step * step, {}).setdefault(str(column), []).append(row)
    return [
        {_TIME: time, **{name: _reduced(how, _numbers(of, found)) for name, found in columns.items()}}
        for time, columns in sorted(made.items())
    ]


def _eval(text: str, rows: Sequence[Row]) -> list[dict[str, Value]]:
    name, _, expression = text.partition("=")
    tokens = Tokens(expression, _NAMES, quote="'", texts='"')
    node = parse(tokens)
    if not tokens.rest_is_empty() or not re.fullmatch(r"\w+", name.strip()):
        raise Unsupported(f"eval {text}")
    return [{**row, name.strip(): evaluate(node, row, _FUNCTIONS)} for row in rows]


def _sort(text: str, rows: Sequence[dict[str, Value]]) -> list[dict[str, Value]]:
    if (found := re.fullmatch(r"([-+]?) ?(\w+)", text)) is None:
        raise Unsupported(f"sort {text}")
    sign, name = found.groups()
    there = [row for row in rows if row.get(name) is not None]
    return sorted(there, key=lambda row: row[name], reverse=sign == "-")


def _table(text: str, rows: Sequence[Row]) -> list[dict[str, Value]]:
    names = re.split(r"[,\s]+", text)
    return [{name: row.get(name) for name in names} for row in rows]


def _head(text: str, rows: Sequence[dict[str, Value]]) -> list[dict[str, Value]]:
    return list(rows[: int(text)])


_COMMANDS: Mapping[str, Callable[[str, Any], list[dict[str, Value]]]] = {
    "eval": _eval, "head": _head, "sort": _sort, "stats": _stats, "table": _table, "timechart": _timechart,
}  # fmt: skip
