"""What passes between the rooms: the sink and the transport as protocols, and the values they exchange."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from telemetry_forwarder.clock import Deadline
from telemetry_forwarder.lazy_dataclass import dataclass, field
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.variables.table import Problem
from telemetry_forwarder.variables.types import Secret, SecretReference


class DropReason(StrEnum):
    """Why a record left the pipeline undelivered. Closed: a new way to lose one is a new word here."""

    BUFFER_FULL = "buffer_full"
    SPOOL_FULL = "spool_full"  # both the buffer and the spool were full, and these the oldest
    SPOOL_DAMAGED = "spool_damaged"  # could not be read back from the spool
    SPOOL_LOST = "spool_lost"  # the files of the spool were removed or cut by somebody else: the function, most likely
    OVERSIZE = "oversize"  # over the destination's limit even when cut, or refused as too large by itself
    UNENCODABLE = "unencodable"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    REJECTED = "rejected"  # the destination will never take it
    # What kept the records from going when the environment ended:
    UNAUTHORIZED = "unauthorized"  # the destination refused the credential, or what it may do
    WRONG_ADDRESS = "wrong_address"  # who answers takes no records: 404, 405, a redirect, a page; a missing log group
    SECRET_UNREADABLE = "secret_unreadable"  # noqa: S105 - the credential could not be read where it is kept
    UNREACHABLE = "unreachable"  # no connection: name, route, refusal, TLS, proxy
    DEADLINE = "deadline"  # only the time: the destination was unwell, or slower than that
    SINK_FAILED = "sink_failed"  # a bug in the sink
    FILTERED = "filtered"  # the user asked for it

    @property
    def is_intentional(self) -> bool:
        return self is DropReason.FILTERED


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request of a destination can hold, in wire bytes before compression (sources: the sink's file)."""

    max_records: int
    max_bytes: int  # of all encoded records, their overhead and the framing
    max_record_bytes: int  # of one encoded record, without overhead
    overhead_bytes: int = 0  # per record
    framing_bytes: int = 0  # per request
    max_span_ms: int | None = None  # between the oldest and the newest record of a request
    max_age_ms: int | None = None  # older records are taken and then thrown away by the destination
    is_sorted: bool = False  # records must be in ascending order of time


@dataclass(frozen=True, slots=True)
class Encoded:
    """A record in a destination's wire form. `is_cut` says that it was over the limit and lost its end."""

    record: Record
    data: bytes
    is_cut: bool = False


Batch: TypeAlias = Sequence[Encoded]


# --- verdicts: a destination's answer, read -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delivered:
    """Every record was accepted. `warning` is what the destination wants known all the same."""

    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """The destination is throttling or unwell; `after` is the wait that it asked for, in seconds.

    `reason` is what its records are dropped for where the environment ends before another attempt succeeds.
    """

    after: float = 0.0
    detail: str = ""
    reason: DropReason = DropReason.DEADLINE


@dataclass(frozen=True, slots=True)
class Rejected:
    """The same batch would always fail."""

    detail: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """The batch is over the destination's limit: halve it; a single record that is too large is dropped `oversize`."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class Denied:
    """The credential or the address is at fault, not the batch: keep the records, pause, and say so once.

    `reason` is what the records are dropped for where that is not mended before the environment ends.
    """

    detail: str
    reason: DropReason = DropReason.UNAUTHORIZED


@dataclass(frozen=True, slots=True)
class Partial:
    """Indices into the batch; what is in neither was accepted. `after` as in `Retry`."""

    retry: tuple[int, ...] = ()
    rejected: Mapping[int, DropReason] = field(default_factory=dict)
    after: float = 0.0
    detail: str = ""


Verdict: TypeAlias = Delivered | Retry | Rejected | TooLarge | Denied | Partial


@dataclass(frozen=True, slots=True)
class Cause:
    """Why nothing gets through at the moment: `text` is said of it, and `kind` says whether that was said before.

    `reason` is what the records are dropped for that are still held when the environment ends. `is_normal` says that
    it only takes its time, as a start does: nobody need be told.
    """

    kind: str
    text: str
    reason: DropReason = DropReason.DEADLINE
    is_normal: bool = False


# --- requests and responses -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """One HTTP request. `url` is complete; `headers` hold no credential (a transport adds it)."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    method: str = "POST"


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpResponse:
    """One HTTP answer: `headers` with lower-case names, `body` cut at 64 KiB.

    `unreadable` says why no more could be read of an answer than its status line and what is here; "" where all was.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    unreadable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutLogEvents:
    """The parameters of one PutLogEvents call; an event is (time in ms since the epoch, message)."""

    group: str
    stream: str
    events: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsResponse:
    """An AWS answer: `error` is the type without its namespace (None on success), `status` the HTTP status.

    One that `is_unsent` is the SDK's own: it refused the request on our side. A body may hold a secret.
    """

    status: int
    error: str | None = None
    message: str = ""
    retry_after: float = 0.0
    body: Mapping[str, Any] = field(default_factory=dict, repr=False)
    is_unsent: bool = False


Request = TypeVar("Request")
Response = TypeVar("Response")
RequestOut = TypeVar("RequestOut", covariant=True)
RequestIn = TypeVar("RequestIn", contravariant=True)
ResponseOut = TypeVar("ResponseOut", covariant=True)
ResponseIn = TypeVar("ResponseIn", contravariant=True)


class Sink(Protocol[RequestOut, ResponseIn]):
    """One destination. Pure: the same arguments give the same result; no I/O, no clock, no counting."""

    @property
    def name(self) -> str:
        """The word of TELEMETRY_FORWARDER_SINKS."""
        ...

    @property
    def limits(self) -> Limits: ...

    def encode(self, record: Record) -> Encoded:
        """Return `record` in wire form, cut to `limits.max_record_bytes`. Raises EncodeError."""
        ...

    def request(self, batch: Batch) -> RequestOut:
        """Return the request that carries `batch`, which is not empty and within `limits`."""
        ...

    def verdict(self, batch: Batch, response: ResponseIn) -> "Verdict":
        """Read the answer to `request(batch)`. Never raises, whatever the bytes."""
        ...


class Transport(Protocol[RequestIn, ResponseOut]):
    """The only door to the network. Raises TransportError, and nothing else, when no answer came back."""

    async def send(self, request: RequestIn) -> ResponseOut: ...

    async def aclose(self) -> None: ...


class TellsStep(Protocol):
    """What a transport may also be: one that knows what it is waiting for, where that is not the answer itself."""

    def waits_for(self) -> Cause | None:
        """Return what keeps the oldest request that is under way from being sent; None where it is on its way."""
        ...


class Fallback(Protocol):
    """Where records go that a sink does not take before the environment ends."""

    def warm(self) -> None:
        """Get ready: a sink is in trouble. Returns at once."""
        ...

    async def store(self, sink: str, records: Sequence[Record], deadline: Deadline) -> list[Record]:
        """Store `records` for `sink` by `deadline`; return those that are not surely stored. Never raises."""
        ...


# --- a destination: a sink, and what is needed to reach it ----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """An HTTP header that authorises: its name, what stands before the secret (`Splunk `), and the secret."""

    header: str
    secret: Secret | SecretReference
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpDelivery:
    """Reach the destination with HTTP. `url` chooses the proxy; `health` is asked once after start."""

    url: str
    credential: Credential | None = None
    gzip: bool = True
    health: HttpRequest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogsDelivery:
    """Reach the destination with PutLogEvents; a group that had to be created gets `retention_days`."""

    retention_days: int | None = None


OpenTransport: TypeAlias = Callable[[], AbstractAsyncContextManager[Transport[Any, Any]]]
Delivery: TypeAlias = HttpDelivery | LogsDelivery | OpenTransport


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination(Generic[Request, Response]):
    """What a sink's `create(environ)` returns: the sink, how to reach it, and what was wrong but could be left out.

    `create` raises ConfigError where the sink cannot run. Third parties publish theirs as an entry point of the
    group `telemetry_forwarder.sinks`, named as in TELEMETRY_FORWARDER_SINKS; their `delivery` may be a callable that
    opens any Transport.
    """

    sink: Sink[Request, Response]
    delivery: Delivery
    problems: tuple[Problem, ...] = ()


LONGEST_TEXT = 1000


# What may differ between two answers of the same meaning: a request id, a time, a count, a port. Whatever word holds a
# digit is left out of the comparison, unless it is the status or the code that the answer is known by.
_VARYING = re.compile(r"(?<![\w-])(?<!HTTP )(?<!code )(?<!status )[\w-]*\d[\w-]*")


def cause(text: str, reason: DropReason = DropReason.DEADLINE) -> Cause:
    """Return the cause that `text` tells of."""
    text = text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + "…"
    return Cause(_VARYING.sub("#", text), text, reason)


def step_of(transport: "TellsStep | Any") -> Cause | None:
    """Return what `transport` waits for before it can send; None where it cannot tell, or the answer is awaited."""
    waits_for: Callable[[], Cause | None] | None = getattr(transport, "waits_for", None)
    return waits_for() if waits_for is not None else None


def is_preparing(transport: "Any") -> bool:
    """Say whether a request waits in `transport` for what every other would wait for; False where it cannot tell."""
    tells: Callable[[], bool] | None = getattr(transport, "is_preparing", None)
    return tells is not None and tells()


async def warm(transport: "Any") -> None:
    """Let `transport` get ready before the first request, where it can."""
    get_ready: Callable[[], Awaitable[None]] | None = getattr(transport, "warm", None)
    if get_ready is not None:
        await get_ready()
