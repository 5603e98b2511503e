"""What a telemetry record is here, and the one place where bytes become records."""

import contextlib
import json
import math
import re
from collections.abc import Mapping, Sequence
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
    format arrives as text); None where it is neither. `size_bytes` is its share of the body it came in.
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


def decode(body: bytes, received_ms: int) -> tuple[list[Item], int]:
    """Return the items of a telemetry body, in order, and how many of its elements were no telemetry items.

    An item without a readable time gets `received_ms`. `size_bytes` is an even share of the body, rounded down:
    together they are the body's size, which is what bounds a buffer. Raises DecodeError where the body is no JSON
    array, and nothing else.
    """
    try:
        elements = parse_json(body)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"a body of {len(body)} bytes is not JSON: {error}") from error
    if not isinstance(elements, list):
        raise DecodeError(f"a body of {len(body)} bytes is not a JSON array but {type(elements).__name__}")
    share = len(body) // len(elements) if elements else 0
    items = [
        Item(_epoch_ms(element.get("time"), received_ms), element["type"], element.get("record"), share)
        for element in elements
        if isinstance(element, dict) and isinstance(element.get("type"), str)
    ]
    return items, len(elements) - len(items)


# Nineteen digits in a row may be an integer beyond 64 bits, which orjson would turn into a float and so change.
_AS_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER = b"0" * 19
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")


def parse_json(data: bytes) -> Any:
    """Parse JSON without losing anything: what orjson refuses or would round is read by the standard library.

    Lone surrogates and broken UTF-8 become U+FFFD, NaN and infinities their names as text.
    Raises ValueError or RecursionError.
    """
    if _LONG_NUMBER not in data.translate(_AS_ZEROS):  # a tenth of the time that a regular expression takes
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(data)
    text = data.decode("utf-8", "replace")
    return _clean(json.loads(text, parse_constant=str, parse_float=_finite, parse_int=_exact))


def object_in(body: Any) -> Mapping[str, Any] | None:
    """Return the JSON object that a line of text is, or None."""
    if not (isinstance(body, str) and body.startswith("{") and body.rstrip().endswith("}")):
        return None
    try:
        value = parse_json(body.encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _finite(digits: str) -> float | str:
    """Keep a number that a float cannot hold (1e400) as its text."""
    number = float(digits)
    return number if math.isfinite(number) else digits


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
