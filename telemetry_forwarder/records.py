"""What a telemetry record is here, and the one place where bytes become records."""

import json
import math
import re
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import orjson

from telemetry_forwarder.errors import DecodeError
from telemetry_forwarder.values import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What is known of the environment that a record comes from; shared by its records. Unknown members are None."""

    function_name: str
    function_version: str | None = None
    function_arn: str | None = None  # unqualified
    region: str | None = None
    account_id: str | None = None
    memory_mb: int | None = None
    instance_id: str | None = None  # also the name of the log stream
    init_type: str | None = None  # on-demand, provisioned-concurrency, snap-start, lambda-managed-instances
    service: str | None = None
    env: str | None = None
    version: str | None = None  # of the user's application
    tags: tuple[tuple[str, str], ...] = ()

    def __hash__(self) -> int:
        """Hash what tells one origin from another: sinks keep what they made of one, and look for it by each record."""
        return hash((self.function_name, self.instance_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One telemetry item with what is known about it. Immutable: every sink holds the same object.

    `body` is the item's `record` member as it came (text, or any JSON value), with one trailing newline removed
    from text. `fields` is the JSON object that `body` is, or that its text holds (a JSON log line under the text
    format arrives as text, perhaps behind the prefix of a runtime's console); None where it is neither.
    `size_bytes` is its share of the body it came in.
    """

    id: str  # the same in every retry and in every sink
    time_ms: int  # since the epoch, UTC
    type: str  # "function", "extension", "platform.report", …; "forwarder.…" is our own
    body: Any
    fields: Mapping[str, Any] | None
    origin: Origin
    request_id: str | None
    cold_start: bool | None  # None where it cannot be known
    level: str | None  # debug, info, warn, error, critical; None where the record names none
    size_bytes: int

    @property
    def is_event(self) -> bool:
        """Whether its type names what happened (`platform.report`, `forwarder.recordsLost`): no line somebody wrote."""
        return "." in self.type


class Item(NamedTuple):
    """One element of a telemetry body as it was sent: `body` is its `record` member."""

    time_ms: int
    type: str
    body: Any
    size_bytes: int


class Decoded(NamedTuple):
    """What a telemetry body holds: its `items`, in order, and how many of its elements were no such (`others`).

    `unreadable` of the items could not be read, and are text. `gaps` are the places, as indices of `items` (or their
    number), before which something stood of which nobody knows what it told.
    """

    items: list[Item]
    others: int
    unreadable: int
    gaps: tuple[int, ...] = ()


def decode(body: bytes, received_ms: int) -> Decoded:
    """Return what a telemetry body holds: the same for the same body, whenever it is decoded again.

    An item without a readable time gets `received_ms`. `size_bytes` is an even share of the body, rounded down:
    together they are the body's size, which is what bounds a buffer. An element that is no JSON costs no other: it
    becomes text (`salvage`). Raises DecodeError where the body is no JSON array, and nothing else.
    """
    steps = decode_in_steps(body, received_ms)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: Decoded = done.value
            return found


def decode_in_steps(body: bytes, received_ms: int) -> Generator[None, None, Decoded]:
    """Decode with a rest at each `yield`: of a body that is sound as a whole there is none, and it takes one step."""
    try:
        elements = parse_json(body)
    except (ValueError, RecursionError) as error:
        elements = yield from _taken_apart(body, error)
    if not isinstance(elements, list):
        raise DecodeError(f"a body of {len(body)} bytes is not a JSON array but {type(elements).__name__}")
    share = len(body) // len(elements) if elements else 0
    items = [
        Item(_epoch_ms(element.get("time"), received_ms), element["type"], element.get("record"), share)
        for element in elements
        if isinstance(element, dict) and isinstance(element.get("type"), str)
    ]
    others, unreadable = len(elements) - len(items), sum(type(element) is _Torn for element in elements)
    return Decoded(items, others, unreadable, _gaps(elements) if others or unreadable else ())


def _gaps(elements: Sequence[Any]) -> tuple[int, ...]:
    """Return where the elements that are no items stood, and where an item begins of which not even the type is known.

    The latter is a gap before itself; behind one that stands last there may have been more.
    """
    found = []
    items = 0
    for element in elements:
        is_item = isinstance(element, dict) and isinstance(element.get("type"), str)
        if not is_item or (type(element) is _Torn and element["time"] is None):
            found.append(items)
        items += is_item
    if type(elements[-1]) is _Torn:
        found.append(items)
    return tuple(dict.fromkeys(found))


class _Torn(dict[str, Any]):
    """The element that stands for one that could not be read."""


def _taken_apart(body: bytes, error: Exception) -> Generator[None, None, list[Any]]:
    """Return the elements of a body that is no JSON as a whole. Raises DecodeError where there are none."""
    from telemetry_forwarder.salvage import PAUSE, Torn, take_apart  # seldom needed

    found: list[Any] = []
    yield
    try:
        for one in take_apart(body, parse_json):
            if one is not PAUSE:
                found.append(_Torn(time=one.time, type=one.type, record=one.text) if isinstance(one, Torn) else one)
            yield
    except ValueError:
        found = []
    if not found:
        raise DecodeError(f"a body of {len(body)} bytes is not JSON: {error}") from error
    return found


# What orjson may change: a number of more digits than a float or 64 bits hold, and one smaller than any float. With
# every digit and point made a zero, sixteen digits and a point and nineteen digits are found at once, in a tenth of the
# time that a regular expression takes. Most of what is found is sound all the same: `1 / 7` has 17 digits.
_AS_ZEROS = bytes.maketrans(b"123456789.E", b"0" * 10 + b"e")
_LONG = b"0" * 17
_SMALL = b"0e-000"
_NUMBER = re.compile(rb"[0-9.]+(?:[eE][+-]?[0-9]+)?")
_SMALL_NUMBER = rb"(?<![^-:,\[\s])[0-9][0-9.]*[eE]-[0-9]{3}"  # seldom needed: compiled by `re`, once
_COMMA, _MINUS = b",-"
_BEFORE_NUMBER = frozenset(b":,[- \t\r\n")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")


class ExactDecimal(float):
    """A number that a float does not hold with all its digits: a float to whoever counts; `digits` as written."""

    __slots__ = ("digits",)
    digits: str

    def __new__(cls, digits: str) -> "ExactDecimal":
        number = super().__new__(cls, digits)
        number.digits = digits
        return number

    def __reduce__(self) -> tuple[type["ExactDecimal"], tuple[str]]:
        return ExactDecimal, (self.digits,)

    def __repr__(self) -> str:
        return self.digits


class Restated(dict[str, Any]):
    """A JSON object whose line will not do as its text: who needs that writes it anew.

    There is more in the line than the object, or what not every reader takes: NaN, or a number of too many digits.
    """


def parse_json(data: bytes) -> Any:
    """Parse JSON without losing anything: what orjson refuses or would round is read by the standard library.

    NaN and infinities, which are no JSON, become None; a number beyond a float's range its text, one beyond its digits
    an ExactDecimal. Lone surrogates and broken UTF-8 become U+FFFD. Of a member given twice the last one counts.
    Raises ValueError or RecursionError.
    """
    if _is_exact(data):
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    return _parse_carefully(data)


def object_in(body: Any) -> Mapping[str, Any] | None:
    """Return the JSON object that a line of text is, or None; a Restated one where the text would not do for it."""
    if not (isinstance(body, str) and body[:1] == "{" and (body[-1:] == "}" or body.rstrip()[-1:] == "}")):
        return None
    if body[1:2] != '"' and body[1:100].lstrip()[:1] not in '"}':  # what Node.js prints of an object: `{ a: 1 }`
        return None
    data = body.encode("utf-8", "replace")
    try:
        if _is_exact(data):
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


def _is_exact(data: bytes) -> bool:
    """Say whether orjson reads every number of `data` with its value."""
    zeros = data.translate(_AS_ZEROS)
    at = zeros.find(_LONG)
    return (at < 0 or _keeps_long(data, zeros, at)) and not (_SMALL in zeros and _has_small(data, zeros))


def _keeps_long(data: bytes, zeros: bytes, at: int) -> bool:
    """Say whether the long numbers of `data`, of which the first is `at`, are written again as they stand there."""
    numbers = []
    while at >= 0:
        found = _NUMBER.match(data, at)
        end = found.end() if found else len(data)
        before = data[at - 1] if at else _COMMA
        if before in _BEFORE_NUMBER:  # else it stands in a text
            numbers.append(data[at - 1 if before == _MINUS else at : end])
        at = zeros.find(_LONG, end)
    joined = numbers[0] if len(numbers) == 1 else b"[%b]" % b",".join(numbers)
    try:
        return orjson.dumps(orjson.loads(joined)) == joined
    except orjson.JSONDecodeError:
        return False


def _has_small(data: bytes, zeros: bytes) -> bool:
    """Say whether there is a number with a negative exponent of three digits: what looks like it is in many a UUID."""
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
    """Read `NaN`, `Infinity` and `-Infinity`, which many loggers write though JSON does not know them."""


def _decimal(digits: str) -> float | str:
    """Keep a number that a float cannot hold (1e400) as its text, and one that it would round with its digits."""
    number = float(digits)
    if not math.isfinite(number):
        return digits
    return number if _significant(digits) == _significant(repr(number)) else ExactDecimal(digits)


def _significant(number: str) -> tuple[str, int | str]:
    """Return the digits of a decimal number without zeros at either end, and the power of ten of the last one."""
    mantissa, _, exponent = number.lower().partition("e")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    stripped = digits.rstrip("0")
    if not stripped:
        return "", 0
    if len(exponent) > 18:  # of no number that a float can hold; and Python refuses to count so far
        return stripped, exponent
    return stripped, int(exponent or 0) - len(fraction) + len(digits) - len(stripped)


def _exact(digits: str) -> int | str:
    """Keep an integer that Python itself refuses to convert (over 4300 digits) as its text."""
    try:
        return int(digits)
    except ValueError:
        return digits


def _clean(value: Any) -> Any:
    """Replace lone surrogates, which no wire form of ours can carry, at any depth."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_clean(element) for element in value]
        case dict():
            return {_clean(key): _clean(element) for key, element in value.items()}
    return value


@lru_cache(maxsize=64)
def _second_ms(text: str) -> int | None:
    """Read `2026-03-02T10:15:30` as UTC; None where it is anything else."""
    if not _SECOND.fullmatch(text):
        return None
    try:
        return (datetime.fromisoformat(text).replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)
    except ValueError:
        return None


def _epoch_ms(text: object, otherwise: int) -> int:
    """Read an ISO 8601 time; the platform writes milliseconds and `Z`, but any fraction or offset will do."""
    if not isinstance(text, str):
        return otherwise
    if len(text) == 24 and text[19] == "." and text[23] == "Z" and text[20:23].isdecimal() and text.isascii():
        second_ms = _second_ms(text[:19])  # as the platform writes it, and nearly always the second of the one before
        if second_ms is not None:
            return second_ms + int(text[20:23])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return otherwise
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


class Told(Protocol):
    """What is asked of a record, or of an `Event`, by who follows the course of invocations."""

    @property
    def time_ms(self) -> int: ...

    @property
    def type(self) -> str: ...

    @property
    def request_id(self) -> str | None: ...


class Event(NamedTuple):
    """What a platform event tells of the course of invocations, before a record is made of it."""

    time_ms: int
    type: str
    request_id: str | None


def events_in(items: Sequence[Item]) -> list[Event]:
    """Return the platform's events among `items`, in order."""
    found = []
    for time_ms, kind, body, _ in items:
        if kind.startswith("platform."):
            request_id = body.get("requestId") if isinstance(body, dict) else None
            found.append(Event(time_ms, kind, request_id if isinstance(request_id, str) else None))
    return found
