"""AnyValue and attributes of OTLP: what JSON values become, in OTLP/JSON's form."""

from collections.abc import Iterable, Mapping
from typing import Any

from telemetry_forwarder.records.lossless_json import clean, json_part

# Values that are nested deeper become their JSON text: each level is three messages of the hundred that parsers take.
DEEPEST_VALUE = 24
_LEAST, _MOST = -(2**63), 2**63 - 1


def any_value(value: Any, depth: int = 0) -> dict[str, Any] | None:
    """Return a JSON value as AnyValue; None for null, because receivers refuse an empty one."""
    if isinstance(value, str):
        return {"stringValue": clean(value)}
    if value is None:
        return None
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int) and _LEAST <= value <= _MOST:
        return {"intValue": str(value)}
    if type(value) is float:
        return {"doubleValue": value} if value - value == 0 else {"stringValue": str(value)}
    if isinstance(value, Mapping) and depth < DEEPEST_VALUE:
        return {"kvlistValue": {"values": attributes(value.items(), depth + 1)}}
    if isinstance(value, list | tuple) and depth < DEEPEST_VALUE:
        found = [any_value(one, depth + 1) or {"stringValue": "null"} for one in value]
        return {"arrayValue": {"values": found}}
    return {"stringValue": json_part(value).decode().strip('"')}  # long integers are quoted


def attributes(pairs: Iterable[tuple[str, Any]], depth: int = 0) -> list[dict[str, Any]]:
    """Return `pairs` as KeyValues, without those that are null. The keys must differ."""
    return [
        {"key": clean(str(key)), "value": found}
        for key, value in pairs
        if (found := any_value(value, depth)) is not None
    ]


# Members that a common reader (opentelemetry-proto of Rust) takes as numbers alone: for a text it answers 200, and the
# point is gone. Every reader has to take numbers, too. Tried with rotel 0.0.1a15, 2026-11-28.
_NUMBERS = frozenset({"asInt", "count", "zeroCount", "bucketCounts"})


def for_readers(value: Any) -> Any:
    """Return an item of OTLP/JSON in the form that every known reader takes: the same, said in more words.

    The same reader refuses a list of values that is empty and therefore left out, and loses a data point that has no
    `attributes`.
    """
    if isinstance(value, list):
        return [for_readers(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {name: _number(one) if name in _NUMBERS else for_readers(one) for name, one in value.items()}
    for name in ("arrayValue", "kvlistValue"):
        if name in found:
            found[name].setdefault("values", [])
    for point in found.get("dataPoints", ()):
        point.setdefault("attributes", [])
    return found


def _number(value: Any) -> Any:
    return [int(one) for one in value] if isinstance(value, list) else int(value)


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the members of an object by their path, `a.b`; arrays become their JSON text. Null members are left out.

    Backends index scalars, and not all of them take other attributes. If two paths are equal the first keeps its name.
    """
    found: dict[str, Any] = {}
    _add_all(prefix, value, found, 0)
    return found


_SCALARS = frozenset({str, int, float, bool})


def _add_all(prefix: str, value: Mapping[str, Any], found: dict[str, Any], depth: int) -> None:
    for key, member in value.items():
        path = prefix + str(key)
        kind = member.__class__
        if kind in _SCALARS and path not in found:  # nearly always
            found[path] = member
        elif (kind is dict or isinstance(member, Mapping)) and member and depth < DEEPEST_VALUE:
            _add_all(f"{path}.", member, found, depth + 1)
        elif member is not None:
            while path in found:
                path += "_"
            found[path] = json_part(member).decode() if isinstance(member, Mapping | list | tuple) else member
