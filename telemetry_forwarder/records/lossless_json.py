"""Parse and write JSON without losing anything that a function may have written.

orjson is fast but strict: it refuses lone surrogates, integers beyond 64 bits and deep nesting. It handles almost every
record at once. Only the few records that it refuses, or would round, take the slower way here.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from telemetry_forwarder.errors import EncodeError

# orjson writes at most 254 levels, and a sink adds a few around the record's own; deeper values become text.
DEEPEST = 200

SMALLEST_INTEGER, LARGEST_INTEGER = -(2**63), 2**64 - 1  # the range that orjson writes


def to_json(value: Any) -> bytes:
    """Return `value` as compact JSON in UTF-8. NaN and infinities become null; an ExactDecimal keeps its digits.

    Lone surrogates become U+FFFD, integers beyond 64 bits become text of the same digits, and values nested deeper than
    `DEEPEST` levels become their JSON text. Raises EncodeError if `value` is no JSON value.
    """
    return trimmed(json_part(value))


def json_part(value: Any, stand_in: Callable[[str], Any] = str) -> bytes:
    """Return the same as `to_json`, but with spare memory: faster, for what is copied and not kept.

    `stand_in` makes what replaces a value that orjson refuses, of that value's JSON.
    """
    try:
        return orjson.dumps(value, _as_written)
    except orjson.JSONEncodeError:
        pass
    try:
        return orjson.dumps(_accepted(value, stand_in), _as_written)
    except (orjson.JSONEncodeError, ValueError) as error:  # ValueError: an integer of thousands of digits
        raise EncodeError(f"not expressible as JSON: {type(error).__name__}") from error


def trimmed(data: bytes) -> bytes:
    """Return a copy of what orjson wrote, to be kept: it takes no more memory than its bytes.

    orjson reserves at least 4 KiB for its output (1 KiB before 3.12) and several times the length of a longer one, and
    keeps what it did not need.
    """
    return b"".join((data, b""))


def exact_json(value: Any) -> bytes:
    """Return `value` as JSON that `records.parse_json` reads back as an equal value.

    It keeps numbers of any size and the deepest nesting that a record can have. NaN and infinities, which `parse_json`
    never returns, become null. Raises EncodeError if `value` is no JSON value.
    """
    return json_part(value, orjson.Fragment)


def _as_written(value: Any) -> orjson.Fragment:
    if isinstance(value, _ExactDecimal):
        return orjson.Fragment(value.digits)
    raise TypeError


def _accepted(value: Any, stand_in: Callable[[str], Any], depth: int = 0) -> Any:
    """Return `value` with everything that orjson refuses replaced, in text by U+FFFD."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, int) and not SMALLEST_INTEGER <= value <= LARGEST_INTEGER:
        return stand_in(str(value))
    if not isinstance(value, Mapping | list | tuple):
        return value
    if depth >= DEEPEST:
        return stand_in(_json_text(value))
    if isinstance(value, Mapping):
        return {clean(str(key)): _accepted(member, stand_in, depth + 1) for key, member in value.items()}
    return [_accepted(member, stand_in, depth + 1) for member in value]


def _json_text(value: Any) -> str:
    """Return the JSON text of `value` as `exact_json` does, at any depth of nesting and of the call stack.

    It does not recurse: orjson reads 1,000 levels but writes only a quarter of them, and Python's recursion limit
    leaves fewer levels the deeper the caller is.
    """
    parts: list[str] = []
    rest: list[tuple[str, Any]] = [("", value)]  # a stack of what is still to write: pairs of a text and a value
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
    """Yield `members` in reverse order, each with the text that comes before it."""
    for number in range(len(members) - 1, -1, -1):
        before, member = members[number]
        yield ("," if number else opening) + before, member
    if not members:
        yield opening, _NOTHING


def clean(text: str) -> str:
    """Return `text` so that UTF-8 can encode it: a surrogate pair becomes its character, a lone surrogate U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


# orjson may change numbers with more digits than a float or 64 bits hold, and numbers smaller than any float. To find
# them, every digit and point becomes a zero. Then a search for 17 zeros finds sixteen digits and a point, or more, in a
# tenth of the time of a regular expression. Most of these numbers are safe: `1 / 7` has 17 digits.
_AS_ZEROS = bytes.maketrans(b"123456789.E", b"0" * 10 + b"e")
_LONG = b"0" * 17
_SMALL = b"0e-000"
_NUMBER = re.compile(rb"[0-9.]+(?:[eE][+-]?[0-9]+)?")
_SMALL_NUMBER = rb"(?<![^-:,\[\s])[0-9][0-9.]*[eE]-[0-9]{3}"  # seldom needed, so `re` compiles and caches it
_COMMA, _MINUS = b",-"
_BEFORE_NUMBER = frozenset(b":,[- \t\r\n")


class _ExactDecimal(float):
    """A float that also keeps `digits`, the number as written, because a float does not hold all of them."""

    __slots__ = ("digits",)
    digits: str

    def __new__(cls, digits: str) -> "_ExactDecimal":
        number = super().__new__(cls, digits)
        number.digits = digits
        return number

    def __reduce__(self) -> tuple[type["_ExactDecimal"], tuple[str]]:
        return _ExactDecimal, (self.digits,)

    def __repr__(self) -> str:
        return self.digits


class Restated(dict[str, Any]):
    """A JSON object whose line cannot be sent as its text. A sink has to write the object again.

    The line holds more than the object, or something that not every reader accepts: NaN, or a number of too many
    digits.
    """


def parse_json(data: bytes) -> Any:
    """Parse JSON without losing anything: the standard library parses what orjson refuses or would round.

    NaN and infinities, which are no JSON, become None. A number beyond a float's range becomes its text, one with more
    digits than a float an ExactDecimal. Lone surrogates and broken UTF-8 become U+FFFD. Of repeated members the last
    one counts. Raises ValueError or RecursionError.
    """
    if is_exact(data):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    return _parse_carefully(data)


def object_in(body: Any) -> Mapping[str, Any] | None:
    """Return the JSON object that a line of text is, or None; a Restated if the text cannot be sent as it is."""
    if not (isinstance(body, str) and body[:1] == "{" and (body[-1:] == "}" or body.rstrip()[-1:] == "}")):
        return None
    if body[1:2] != '"' and body[1:100].lstrip()[:1] not in '"}':  # Node.js prints an object as `{ a: 1 }`
        return None
    data = body.encode("utf-8", "replace")
    try:
        if is_exact(data):
            try:
                value = orjson.loads(data)
            except orjson.JSONDecodeError:
                pass
            else:
                return value if value.__class__ is dict else None
        value = _parse_carefully(data)
    except (ValueError, RecursionError):
        return None
    return Restated(value) if isinstance(value, dict) else None


def is_exact(data: bytes) -> bool:
    """Return whether orjson reads every number of `data` with its exact value."""
    zeros = data.translate(_AS_ZEROS)
    at = zeros.find(_LONG)
    return (at < 0 or _keeps_long(data, zeros, at)) and not (_SMALL in zeros and _has_small(data, zeros))


def _keeps_long(data: bytes, zeros: bytes, at: int) -> bool:
    """Return whether orjson writes the long numbers of `data` as they were; the first one is at `at`."""
    numbers = []
    while at >= 0:
        found = _NUMBER.match(data, at)
        end = found.end() if found else len(data)
        before = data[at - 1] if at else _COMMA
        if before in _BEFORE_NUMBER:  # else it is part of a string
            numbers.append(data[at - 1 if before == _MINUS else at : end])
        at = zeros.find(_LONG, end)
    joined = numbers[0] if len(numbers) == 1 else b"[%b]" % b",".join(numbers)
    try:
        return orjson.dumps(orjson.loads(joined)) == joined
    except orjson.JSONDecodeError:
        return False


def _has_small(data: bytes, zeros: bytes) -> bool:
    """Return whether `data` has a number with a negative exponent of three digits. Many a UUID looks similar."""
    at = zeros.find(_SMALL)
    while at >= 0:
        if re.search(_SMALL_NUMBER, data[max(0, at - len(_LONG)) : at + len(_SMALL)]):
            return True
        at = zeros.find(_SMALL, at + 1)
    return False


def _parse_carefully(data: bytes) -> Any:
    text = data.decode("utf-8", "replace")
    return _clean(json.loads(text, parse_constant=_no_number, parse_float=_decimal, parse_int=_exact))


def _no_number(name: str) -> None:
    """Read `NaN`, `Infinity` and `-Infinity` as None: many loggers write them, although they are no JSON."""


def _decimal(digits: str) -> float | str:
    """Return a number as a float, as text beyond a float's range (1e400), as an ExactDecimal if a float rounds it."""
    number = float(digits)
    if not math.isfinite(number):
        return digits
    return number if _significant(digits) == _significant(repr(number)) else _ExactDecimal(digits)


def _significant(number: str) -> tuple[str, int | str]:
    """Return the digits of a decimal number without zeros at either end, and the power of ten of the last digit."""
    mantissa, _, exponent = number.lower().partition("e")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    stripped = digits.rstrip("0")
    if not stripped:
        return "", 0
    if len(exponent) > 18:  # no float has such an exponent, and Python refuses to convert a very long one
        return stripped, exponent
    return stripped, int(exponent or 0) - len(fraction) + len(digits) - len(stripped)


def _exact(digits: str) -> int | str:
    """Return an integer, or its text if Python refuses to convert it (over 4300 digits)."""
    try:
        return int(digits)
    except ValueError:
        return digits


def _clean(value: Any) -> Any:
    """Replace lone surrogates at any depth; none of our wire formats can carry them."""
    match value:
        case str():
            return clean(value)
        case list():
            return [_clean(element) for element in value]
        case dict():
            return {_clean(key): _clean(element) for key, element in value.items()}
    return value
