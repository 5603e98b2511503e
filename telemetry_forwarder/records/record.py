"""What a telemetry record is here, and the one place where bytes become records."""

import re
from _blake2 import blake2b  # not by `hashlib`, which loads OpenSSL's library
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import orjson

from telemetry_forwarder.errors import DecodeError
from telemetry_forwarder.lazy_dataclass import dataclass, replace
from telemetry_forwarder.records.lossless_json import parse_json


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
    `batch` and `index` are its place: in which body of Lambda's it came, and where in it (a record that came in none
    has an id of its own as `batch`). `size_bytes` is its share of that body.
    """

    batch: str
    index: int | None = None
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
    def id(self) -> str:
        """The name that backends show: the same in every retry, in every sink, and when the batch is sent again."""
        return self.batch if self.index is None else f"{self.batch}{self.index:04x}"

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
    from telemetry_forwarder.records.salvage import PAUSE, Torn, take_apart  # seldom needed

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


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")


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


def batch_id(body: bytes, environment: str | None = None) -> str:
    """Return 24 hexadecimal digits that are the same whenever Lambda sends the same batch again.

    Of the bytes alone: nobody documents whether a batch that is sent again keeps its `sequence-id`. Two batches do not
    have the same bytes by chance. Each record carries its time in ms, and platform records a request id; a batch ends
    by its size or after 25 ms at least (AWS Lambda Developer Guide, Telemetry API, buffering: `maxItems` is 1,000 or
    more, `maxBytes` 256 KiB or more), so that the same lines would have to fill two of them within one millisecond. Of
    the two mistakes, a line that was written a thousand times within it counted once and every line of a batch
    forwarded twice, the first is the smaller one; the ledger shows it as `redelivered_bodies`.

    That holds within one environment. Copies of one snapshot may write the same at the same time, so what they send is
    told apart by the `environment`, too: its name since its restore.
    """
    key = blake2b(environment.encode("utf-8", "replace"), digest_size=32).digest() if environment else b""
    return blake2b(body, digest_size=12, key=key).hexdigest()


def complete(origin: Origin, registered: bytes) -> Origin:
    """Add what the answer to `/register` tells: the account, and with it the function's ARN."""
    try:
        told = orjson.loads(registered[registered.find(b"{") : registered.rfind(b"}") + 1])
    except orjson.JSONDecodeError:
        told = {}
    account, region = told.get("accountId"), origin.region
    name = origin.function_name or str(told.get("functionName", ""))
    arn = None
    if account and region and name:
        arn = f"arn:{partition(region)}:lambda:{region}:{account}:function:{name}"
    version = origin.function_version or told.get("functionVersion")
    return replace(origin, function_name=name, function_version=version, account_id=account, function_arn=arn)


def partition(region: str) -> str:
    """Return the ARN partition of a region. Source: AWS General Reference, ARN format."""
    for prefix, name in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region.startswith(prefix):
            return name
    return "aws"
