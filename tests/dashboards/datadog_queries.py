"""An engine for the part of Datadog's queries that our dashboard uses: of metrics, and of logs. It refuses the rest.

There is no other one: Datadog's own is not to be had.
Source: Datadog documentation, "Advanced Filtering", "Metrics: distributions" (count, sum, min, max and avg without
percentiles) and "Log search syntax", read 2026-11-28.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from local_backends.datadog_metrics import DatadogPoint
from tests.dashboards.expressions import Tokens, Unsupported, Value, evaluate, parse

_QUERY = re.compile(
    r"(?P<how>\w+):(?P<metric>[A-Za-z][\w.]*)\{(?P<scope>[^{}]*)\}"
    r"(?: by \{(?P<by>[\w.,]+)\})?(?P<count>\.as_count\(\))?"
)
_AGGREGATES: Mapping[str, Callable[[Sequence[float]], float]] = {
    "sum": math.fsum, "avg": lambda values: math.fsum(values) / len(values), "min": min, "max": max,
    "count": lambda values: float(len(values)),
}  # fmt: skip
_TERM = re.compile(r"(-?)(@?[\w.]+):([^\s:\"()]+)\s*")
Groups = Mapping[tuple[str, ...], float]


def metric_query(query: str, points: Sequence[DatadogPoint], variables: Mapping[str, str]) -> Groups:
    """Return the value of each group over all points: by the values of its tags, `()` without them.

    `variables` are the template variables with what stands for them: `tag:value`, or `*`. Raises Unsupported.
    """
    found = _QUERY.fullmatch(query)
    if found is None or found["how"] not in _AGGREGATES:
        raise Unsupported(f"the query {query}")
    if (found["count"] is not None) != (found["how"] in ("sum", "count")):
        raise Unsupported(f"{query}: a sum over time is one with as_count(), an average is none")
    scope = [_variable(one.strip(), variables) for one in found["scope"].split(",")]
    by = found["by"].split(",") if found["by"] else []
    groups: dict[tuple[str, ...], list[float]] = {}
    for point in points:
        if not point.is_distribution:
            raise Unsupported(f"{point.metric} is no distribution")
        if point.metric != found["metric"] or not all(_has(point.tags, wanted) for wanted in scope):
            continue
        tags = dict(tag.split(":", 1) for tag in point.tags if ":" in tag)
        groups.setdefault(tuple(tags.get(name, "N/A") for name in by), []).extend(point.values)
    return {key: _AGGREGATES[found["how"]](values) for key, values in groups.items()}


def _variable(term: str, variables: Mapping[str, str]) -> str:
    if not term.startswith("$"):
        return term
    if term[1:] not in variables:
        raise Unsupported(f"{term} is no template variable")
    return variables[term[1:]]


def _has(tags: Iterable[str], wanted: str) -> bool:
    if wanted != "*" and ":" not in wanted:
        raise Unsupported(f"the scope {wanted}")
    return any(fnmatchcase(tag, wanted) for tag in tags)


def formula(text: str, values: Mapping[str, Value]) -> Value:
    """Return the value of a formula over the values of queries, by their names."""
    tokens = Tokens(text, r"[a-z]\w*", quote="`", texts='"')
    node = parse(tokens)
    if not tokens.rest_is_empty():
        raise Unsupported(f"the formula {text}")
    return evaluate(node, values, {})


def log_query(query: str, logs: Iterable[Any]) -> list[Any]:
    """Return the logs that a search finds; each has `status` and `attributes`. Terms are joined by AND."""
    terms = []
    at = 0
    while at < len(query):
        if (found := _TERM.match(query, at)) is None:
            raise Unsupported(f"{query[at:]!r} in a search")
        terms.append(found.groups())
        at = found.end()
    return [log for log in logs if all(_is_found(log, *term) for term in terms)]


def _is_found(log: Any, minus: str, name: str, wanted: str) -> bool:
    if name == "status":
        value = log.status
    elif name.startswith("@"):
        value = log.attributes
        for part in name[1:].split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    else:
        raise Unsupported(f"the field {name}")
    return (value is not None and fnmatchcase(str(value), wanted)) != bool(minus)
