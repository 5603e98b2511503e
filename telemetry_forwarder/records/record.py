"""Define records and decode telemetry bodies into items, the only place where bytes become items."""

import re
from _blake2 import blake2b  # not from `hashlib`, which loads OpenSSL's library
from collections.abc import Generator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

import orjson
from msgspec import Struct
from msgspec.json import Decoder
from msgspec.structs import replace

from telemetry_forwarder.errors import DecodeError
from telemetry_forwarder.records.lossless_json import is_exact, json_part, parse_json


class Origin(Struct, frozen=True, kw_only=True):
    """The environment that a record comes from, shared by its records. Unknown members are None."""

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
        """Hash only what tells origins apart: sinks cache by Origin and look it up for each record."""
        return hash((self.function_name, self.instance_id))


class Signal(StrEnum):
    """The kinds of records, named as in OpenTelemetry. A sink declares which of them it takes."""

    LOG = "log"
    METRIC = "metric"
    SPAN = "span"


# The types of metrics and spans, which Lambda does not send (`signals`); every other record is a log record.
METRICS, SPAN = "forwarder.metrics", "forwarder.span"
_SIGNALS = {METRICS: Signal.METRIC, SPAN: Signal.SPAN}


class Context(Struct, frozen=True, cache_hash=True):
    """What is known about a record apart from its content. The records of an invocation share a few of these objects.

    So what a sink writes of it is written once, and looked up for each record.
    """

    origin: Origin
    type: str  # "function", "extension", "platform.report", …; "forwarder.…" is our own
    request_id: str | None = None
    cold_start: bool | None = None  # None if it cannot be known
    level: str | None = None  # debug, info, warn, error, critical; None if the record names none
    trace_id: str | None = None  # of the request: 32 hexadecimal digits in lower case; None if it is not known

    @property
    def is_event(self) -> bool:
        """Whether it is an event, such as `platform.report` or `forwarder.recordsLost`, and not a log line."""
        return "." in self.type

    @property
    def signal(self) -> Signal:
        return _SIGNALS.get(self.type, Signal.LOG)


class Record(Struct, frozen=True, gc=False):
    """One telemetry item with what is known about it. Immutable, because all sinks share the object.

    `body` is the item's `record` member as it came (text, or any JSON value), with one trailing newline removed from
    text. `fields` is the JSON object that `body` is, or that its text holds (a JSON log line under the text format
    arrives as text, perhaps after the prefix of a runtime's console); None if there is none. `batch` is the id of the
    body in which Lambda sent the item, `index` the position in it. A record that Lambda did not send has an id of its
    own as `batch` and no index. `size_bytes` is the record's share of that body.
    """

    batch: str
    index: int | None
    time_ms: int  # since the epoch, UTC
    body: Any
    fields: Mapping[str, Any] | None
    context: Context
    size_bytes: int

    @property
    def id(self) -> str:
        """The id that backends show: the same in every retry, in every sink, and when the batch is sent again."""
        return self.batch if self.index is None else f"{self.batch}{self.index:04x}"

    @property
    def type(self) -> str:
        return self.context.type

    @property
    def is_event(self) -> bool:
        return self.context.is_event

    @property
    def signal(self) -> Signal:
        return self.context.signal

    @property
    def origin(self) -> Origin:
        return self.context.origin

    @property
    def request_id(self) -> str | None:
        return self.context.request_id

    @property
    def cold_start(self) -> bool | None:
        return self.context.cold_start

    @property
    def level(self) -> str | None:
        return self.context.level


def json_ids(records: Sequence[Record]) -> list[bytes]:
    """Return the ids of `records` as JSON: what `record.id` is, in a third of the time for those of one batch."""
    found = []
    batch: str | None = None
    opening = b""
    for record in records:
        if record.batch is not batch:
            batch = record.batch
            opening = json_part(batch)[:-1]
        found.append(opening + (b'"' if (index := record.index) is None else _ENDS[index]))
    return found


class _Ends(dict[int, bytes]):
    """The ends of ids as JSON, by index: `01f3"`."""

    def __missing__(self, index: int) -> bytes:
        if len(self) >= _MOST_ENDS:
            self.clear()
        found = self[index] = b'%04x"' % index
        return found


_MOST_ENDS = 1024
_ENDS = _Ends()


class Item(Struct, gc=False, rename={"time_ms": "time", "body": "record"}):
    """One element of a telemetry body as it was sent. `time_ms` is what the element has as `time` until it is decoded.

    `size_bytes` is not sent: an even share of the body.
    """

    type: str
    body: Any = None
    time_ms: Any = None
    size_bytes: int = 0


class Decoded(NamedTuple):
    """The content of a telemetry body: its `items`, in order, and the number of elements that are no items (`others`).

    `unreadable` counts the items that could not be parsed and became text. `gaps` are the indices of `items` before
    which unknown content stood; an index equal to the number of items means a gap at the end.
    """

    items: list[Item]
    others: int
    unreadable: int
    gaps: tuple[int, ...] = ()


def decode(body: bytes, received_ms: int) -> Decoded:
    """Return the content of a telemetry body; the same for the same body, however often it is decoded.

    An item without a valid time gets `received_ms`. `size_bytes` is an even share of the body, rounded down, so that
    the sum does not exceed the body's size; buffers are bounded by it. An element that is no JSON becomes text and the
    others are kept (`salvage`). Raises DecodeError if the body is no JSON array; it raises nothing else.
    """
    steps = decode_in_steps(body, received_ms)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: Decoded = done.value
            return found


def decode_in_steps(body: bytes, received_ms: int) -> Generator[None, None, Decoded]:
    """Decode, and pause at each `yield`. A body that is valid as a whole is decoded in one step, without a pause."""
    if (items := _plain_items(body)) is not None:
        return Decoded(_complete(items, _share(body, items), received_ms), 0, 0)
    try:
        elements = parse_json(body)
    except (ValueError, RecursionError) as error:
        elements = yield from _taken_apart(body, error)
    if not isinstance(elements, list):
        raise DecodeError(f"a body of {len(body)} bytes is not a JSON array but {type(elements).__name__}")
    items = [
        Item(element["type"], element.get("record"), element.get("time"))
        for element in elements
        if isinstance(element, dict) and isinstance(element.get("type"), str)
    ]
    others, unreadable = len(elements) - len(items), sum(type(element) is _Torn for element in elements)
    items = _complete(items, _share(body, elements), received_ms)
    return Decoded(items, others, unreadable, _gaps(elements) if others or unreadable else ())


def _share(body: bytes, elements: Sequence[Any]) -> int:
    return len(body) // len(elements) if elements else 0


_ITEMS = Decoder(list[Item])


def _plain_items(body: bytes) -> list[Item] | None:
    """Return the elements of a body as items if each is one, and nothing in them needs care; None otherwise.

    msgspec makes the objects itself, which takes a fifth of the time. It reads JSON as orjson does, except that it
    keeps large integers. Only numbers may lose something (`lossless_json`), and text has none.
    """
    try:
        items = _ITEMS.decode(body)
    except (ValueError, RecursionError):
        return None
    is_text = {item.body.__class__ for item in items} <= {str}
    return items if is_text or is_exact(body) else None


def _complete(items: list[Item], share: int, received_ms: int) -> list[Item]:
    """Set the time of each item, and its share of the body's bytes."""
    second, second_ms = "", 0  # the last one
    for item in items:
        text = item.time_ms
        try:
            if text[:20] != second:
                second, second_ms = text[:20], _SECONDS[text[:20]]
            item.time_ms = second_ms + _THOUSANDTHS[text[20:]]
        except (KeyError, TypeError):
            item.time_ms = _epoch_ms(text, received_ms)
        item.size_bytes = share
    return items


def _gaps(elements: Sequence[Any]) -> tuple[int, ...]:
    """Return the gaps: where elements that are no items stood, and the items of unknown type.

    An item of unknown type is a gap before itself. After an unreadable last element there may have been more, so there
    is a gap at the end.
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
    """The element that replaces one that could not be parsed."""


def _taken_apart(body: bytes, error: Exception) -> Generator[None, None, list[Any]]:
    """Return the elements of a body that is no JSON as a whole. Raises DecodeError if there are none."""
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
_SECOND = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.")


class _Seconds(dict[str, int]):
    """The time in ms of texts such as `2026-03-02T10:15:30.`, in UTC; the last few, as nearly all are equal."""

    def __missing__(self, text: str) -> int:
        if not _SECOND.fullmatch(text):
            raise KeyError(text)
        try:
            moment = datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
        except ValueError:
            raise KeyError(text) from None
        if len(self) >= _MOST_SECONDS:
            self.clear()
        found = self[text] = (moment - _EPOCH) // timedelta(milliseconds=1)
        return found


class _Thousandths(dict[str, int]):
    """The ms of what is left of a time in the platform's form: `123Z`. At most a thousand texts are."""

    def __missing__(self, text: str) -> int:
        if not (len(text) == 4 and text[3] == "Z" and text[:3].isdecimal() and text.isascii()):
            raise KeyError(text)
        found = self[text] = int(text[:3])
        return found


_MOST_SECONDS = 256
_SECONDS, _THOUSANDTHS = _Seconds(), _Thousandths()


def _epoch_ms(text: object, otherwise: int) -> int:
    """Parse an ISO 8601 time in any form. The platform writes milliseconds and `Z`, which `_complete` does faster."""
    if not isinstance(text, str):
        return otherwise
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return otherwise
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


class Event(NamedTuple):
    """What a platform event tells about the course of invocations, before it is made a record."""

    time_ms: int
    type: str
    request_id: str | None


def events_in(items: Sequence[Item]) -> list[Event]:
    """Return the platform's events among `items`, in order."""
    found = []
    for item in items:
        if item.type.startswith("platform."):
            request_id = item.body.get("requestId") if isinstance(item.body, dict) else None
            found.append(Event(item.time_ms, item.type, request_id if isinstance(request_id, str) else None))
    return found


def batch_id(body: bytes, environment: str | None = None) -> str:
    """Return 24 hexadecimal digits that identify a batch: the same whenever Lambda sends it again.

    Only the bytes count, because no documentation says that a repeated batch keeps its `sequence-id`. Two batches do
    not have the same bytes by chance: each record carries its time in ms, and platform records a request id. A batch
    ends by its size or after 25 ms at least (AWS Lambda Developer Guide, Telemetry API, buffering: `maxItems` is 1,000
    or more, `maxBytes` 256 KiB or more), so the same lines would have to fill two batches within one millisecond. Then
    a line that was written a thousand times would be counted once. That is a smaller error than forwarding every line
    of a repeated batch twice, and the ledger shows it as `redelivered_bodies`.

    This holds within one environment. Copies of one snapshot may write the same at the same time, so the digest also
    covers `environment`, the environment's name since its restore.
    """
    key = blake2b(environment.encode("utf-8", "replace"), digest_size=32).digest() if environment else b""
    return blake2b(body, digest_size=12, key=key).hexdigest()


def complete(origin: Origin, registered: bytes) -> Origin:
    """Return `origin` with what the answer to `/register` tells: the account, and with it the function's ARN."""
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
