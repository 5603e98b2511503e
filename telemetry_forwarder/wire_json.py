"""JSON for the wire: whatever a function may have written becomes valid JSON, or EncodeError.

orjson is strict where the world is not: it refuses lone surrogates, integers beyond 64 bits and deep nesting. Almost
every record passes it at once; the few others are made plain first, so only they pay for it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.records import ExactDecimal, Record, Restated

# orjson writes at most 254 levels and a sink wraps a few around the record's own; what lies deeper becomes text.
DEEPEST = 200

SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**64 - 1  # that orjson writes


def to_json(value: Any) -> bytes:
    """Return `value` as compact JSON in UTF-8. NaN and infinities become null; an ExactDecimal keeps its digits.

    Lone surrogates become U+FFFD, integers beyond 64 bits become text of the same digits, and what is nested deeper
    than `DEEPEST` levels becomes its JSON text. Raises EncodeError for what is no JSON value.
    """
    try:
        return orjson.dumps(value, _as_written)
    except orjson.JSONEncodeError:
        return _dumps_plain(value)


def exact_json(value: Any) -> bytes:
    """Return `value` as JSON that `records.parse_json` reads back as an equal value.

    Numbers of any size and nesting as deep as a record can have it are kept; NaN and infinities, which `parse_json`
    never makes, become null. Raises EncodeError for what is no JSON value.
    """
    try:
        return orjson.dumps(value, _as_written)
    except orjson.JSONEncodeError:
        pass
    try:
        return orjson.dumps(_verbatim(value), _as_written)
    except (orjson.JSONEncodeError, ValueError) as error:
        raise EncodeError(f"not expressible as JSON: {type(error).__name__}") from error


def _as_written(value: Any) -> orjson.Fragment:
    if isinstance(value, ExactDecimal):
        return orjson.Fragment(value.digits)
    raise TypeError


def _verbatim(value: Any, depth: int = 0) -> Any:
    """Return `value` with everything that orjson refuses as a fragment that holds its JSON."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int) and not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        return orjson.Fragment(str(value))
    if not isinstance(value, Mapping | list | tuple):
        return value
    if depth >= DEEPEST:
        return orjson.Fragment(_json_text(value))
    if isinstance(value, Mapping):
        return {clean(str(key)): _verbatim(member, depth + 1) for key, member in value.items()}
    return [_verbatim(member, depth + 1) for member in value]


def _dumps_plain(value: Any) -> bytes:
    try:
        return orjson.dumps(plain(value), _as_written)
    except (orjson.JSONEncodeError, ValueError) as error:  # ValueError: an integer of thousands of digits
        raise EncodeError(f"not expressible as JSON: {type(error).__name__}") from error


def plain(value: Any, depth: int = 0) -> Any:
    """Return `value` with everything that orjson refuses replaced as `to_json` says."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int) and not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        return str(value)
    if not isinstance(value, Mapping | list | tuple):
        return value
    if depth >= DEEPEST:
        return _json_text(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): plain(member, depth + 1) for key, member in value.items()}
    return [plain(member, depth + 1) for member in value]


def _json_text(value: Any) -> str:
    """Return the JSON text of `value` as `exact_json`, however deep it is nested and the stack is used.

    orjson reads a thousand levels, of which it writes a quarter, and Python follows fewer the deeper it is called.
    """
    parts: list[str] = []
    rest: list[tuple[str, Any]] = [("", value)]  # what is still to be written, last first: a text, then a value
    while rest:
        before, one = rest.pop()
        parts.append(before)
        if isinstance(one, Mapping):
            rest.append(("}", _NOTHING))
            rest += _with_commas([(_scalar(str(key)) + ":", member) for key, member in one.items()], "{")
        elif isinstance(one, list | tuple):
            rest.append(("]", _NOTHING))
            rest += _with_commas([("", member) for member in one], "[")
        elif one is not _NOTHING:
            parts.append(_scalar(one))
    return "".join(parts)


_NOTHING = object()


def _scalar(value: Any) -> str:
    if isinstance(value, int) and not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        return str(value)
    return orjson.dumps(clean(value) if isinstance(value, str) else value, _as_written).decode()


def _with_commas(members: list[tuple[str, Any]], opening: str) -> Iterator[tuple[str, Any]]:
    """Yield `members`, the last first, with what stands before each of them."""
    for number in range(len(members) - 1, -1, -1):
        before, member = members[number]
        yield ("," if number else opening) + before, member
    if not members:
        yield opening, _NOTHING


def clean(text: str) -> str:
    """Return `text` as it can be written in UTF-8: a pair of surrogates becomes its character, a lone one U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def text_of(record: Record) -> str:
    """Return the record's text as it came, or the JSON text of its value; of a line that holds JSON, that JSON's."""
    if not isinstance(record.body, str):
        return to_json(record.body).decode()
    return to_json(record.fields).decode() if isinstance(record.fields, Restated) else record.body


def present(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return `members` without those that are unknown (None) or hold nothing (an empty mapping)."""
    return {key: value for key, value in members.items() if value is not None and value != {}}


def grouped(pairs: tuple[tuple[str, str], ...]) -> dict[str, str | list[str]]:
    """Return tags by key, in order; a key that was given several values keeps them all, as a list."""
    found: dict[str, str | list[str]] = {}
    for key, value in pairs:
        before = found.get(key)
        if before is None:
            found[key] = value
        else:
            found[key] = [*([before] if isinstance(before, str) else before), value]
    return found
