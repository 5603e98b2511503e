"""An engine for the part of CloudWatch Logs Insights that our queries use. What it does not know, it refuses.

moto's StartQuery cannot judge them: of a query it carries out `fields`, `sort` and `limit`, and leaves out the rest
without a word.
Source: CloudWatch Logs User Guide, "Logs Insights query language", and "Supported logs and discovered fields": members
of JSON are fields named with dots, elements of arrays by their index; read 2026-11-28.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from tests.dashboards.expressions import (
    Call,
    Constant,
    Field,
    Function,
    Node,
    Row,
    Tokens,
    Unsupported,
    Value,
    evaluate,
    is_true,
    parse,
    percentile,
)

_MOST_FIELDS = 200  # that are discovered in one event
_NAMES = r"@?[A-Za-z_][\w.@]*"
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_FUNCTIONS: Mapping[str, Function] = {"ispresent": lambda value: float(value is not None)}
_AGGREGATES = ("count", "sum", "avg", "min", "max", "pct")


def query(text: str, events: Iterable[tuple[int, str]]) -> list[dict[str, Value]]:
    """Return the rows that `text` yields of log events: their times in ms, and their messages.

    Raises Unsupported for what the engine does not understand.
    """
    lines = (line.partition("#")[0] if line.lstrip().startswith("#") else line for line in text.splitlines())
    tokens = Tokens("\n".join(lines), _NAMES, quote="`", texts="\"'")
    rows: list[dict[str, Value]] = [_discovered(*event) for event in events]
    while not tokens.rest_is_empty():
        rows = _COMMANDS[tokens.expect(*_COMMANDS)](tokens, rows)
        if not tokens.rest_is_empty():
            tokens.expect("|")
    return rows


def _discovered(time_ms: int, message: str) -> dict[str, Value]:
    first: dict[str, Value] = {"@timestamp": float(time_ms), "@message": message}
    try:
        found = json.loads(message)
    except ValueError:
        return first
    return first | dict(islice(_flat("", found), _MOST_FIELDS))


def _flat(name: str, value: Any) -> Iterator[tuple[str, Value]]:
    if isinstance(value, dict | list):
        members = value.items() if isinstance(value, dict) else ((str(at), one) for at, one in enumerate(value))
        for key, one in members:
            yield from _flat(f"{name}.{key}" if name else key, one)
    elif isinstance(value, str):
        yield name, value
    elif value is not None and not isinstance(value, bool):  # how it shows a truth value is not documented
        yield name, float(value)


def _filter(tokens: Tokens, rows: Sequence[dict[str, Value]]) -> list[dict[str, Value]]:
    condition = parse(tokens)
    return [row for row in rows if is_true(evaluate(condition, row, _FUNCTIONS))]


def _fields(tokens: Tokens, rows: Sequence[dict[str, Value]]) -> list[dict[str, Value]]:
    """Add fields. What is shown at the end is not judged."""
    named = _named(tokens)
    return [row | {name: evaluate(node, row, _FUNCTIONS) for name, node in named} for row in rows]


def _stats(tokens: Tokens, rows: Sequence[Row]) -> list[dict[str, Value]]:
    wanted = _named(tokens)
    by = _named(tokens) if tokens.takes("by") else []
    groups: dict[tuple[Value, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(_group(node, row) for _, node in by), []).append(row)
    made = []
    for key, found in groups.items():
        of_group = dict(zip((name for name, _ in by), key, strict=True))
        for name, node in wanted:
            of_group[name] = _aggregate(node, found, of_group)
        made.append(of_group)
    return made


def _group(node: Node, row: Row) -> Value:
    if not isinstance(node, Call):
        return evaluate(node, row, _FUNCTIONS)
    match node:
        case Call("bin", (Constant(str(length)),)):
            step = _UNITS_MS[length.lstrip("0123456789")] * int(length.rstrip("smhd"))
            return float(row["@timestamp"]) // step * step  # type: ignore[arg-type]
    raise Unsupported(f"by {node.name}")


def _aggregate(node: Node, rows: Sequence[Row], before: Row) -> Value:
    """Return what `node` is over `rows`: an aggregate, or what is calculated of those named `before` it."""
    match node:
        case Constant(value):
            return value
        case Field(name) if name in before:
            return before[name]
        case Call(name, arguments) if name in _AGGREGATES:
            return _reduced(name, arguments, rows)
        case Call("+" | "-" | "*" | "/" as sign, (left, right)):
            parts = {"left": _aggregate(left, rows, before), "right": _aggregate(right, rows, before)}
            return evaluate(Call(sign, (Field("left"), Field("right"))), parts, _FUNCTIONS)
    raise Unsupported(f"{node} in stats")


def _reduced(name: str, arguments: Sequence[Node], rows: Sequence[Row]) -> Value:
    if name == "count" and tuple(arguments) in ((Field("*"),), ()):
        return float(len(rows))
    values = [value for row in rows if (value := evaluate(arguments[0], row, _FUNCTIONS)) is not None]
    if name == "count":
        return float(len(values))
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) < len(values):
        raise Unsupported(f"{name} of texts")
    if not numbers:
        return None
    if name == "pct":
        match arguments[1]:
            case Constant(float(percent)):
                return percentile(numbers, percent)
        raise Unsupported("pct without a number")
    if len(arguments) != 1:
        raise Unsupported(f"{name} of {len(arguments)} arguments")
    reduce: Mapping[str, Callable[[Sequence[float]], float]] = {
        "sum": sum, "avg": lambda found: sum(found) / len(found), "min": min, "max": max,
    }  # fmt: skip
    return reduce[name](numbers)


def _sort(tokens: Tokens, rows: Sequence[dict[str, Value]]) -> list[dict[str, Value]]:
    name = tokens.take()
    if name.kind != "name":
        raise Unsupported(f"sort {name.text}")
    is_falling = tokens.takes("asc", "desc") == "desc"

    def key(row: Row) -> tuple[int, Any]:
        value = row.get(name.text)
        return (0, 0.0) if value is None else (1, value)

    return sorted(rows, key=key, reverse=is_falling)


def _limit(tokens: Tokens, rows: Sequence[dict[str, Value]]) -> list[dict[str, Value]]:
    return list(rows[: int(tokens.take().text)])


def _named(tokens: Tokens) -> list[tuple[str, Node]]:
    """Read expressions with commas between them. One that is not a field needs a name, but for `bin(…)`."""
    found: list[tuple[str, Node]] = []
    while True:
        node = _bin(tokens) or parse(tokens)
        if tokens.takes("as"):
            name = tokens.take().text
        elif isinstance(node, Field):
            name = node.name
        elif isinstance(node, Call) and node.name == "bin":
            name = "bin"
        else:
            raise Unsupported(f"{node} without a name")
        found.append((name, node))
        if not tokens.takes(","):
            return found


def _bin(tokens: Tokens) -> Node | None:
    """Read `bin(5m)`, whose argument is no expression."""
    if not tokens.takes("bin"):
        return None
    tokens.expect("(")
    count, unit = tokens.take(), tokens.take()
    tokens.expect(")")
    if count.kind != "number" or unit.text not in _UNITS_MS:
        raise Unsupported(f"bin({count.text}{unit.text})")
    return Call("bin", (Constant(count.text + unit.text),))


_COMMANDS: Mapping[str, Callable[[Tokens, Any], list[dict[str, Value]]]] = {
    "fields": _fields, "filter": _filter, "limit": _limit, "sort": _sort, "stats": _stats,
}  # fmt: skip
