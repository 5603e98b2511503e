"""The interfaces between the packages: the protocols Sink and Transport, and the values that they exchange."""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from msgspec import Struct, field

from telemetry_forwarder.clock import Deadline
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.variables.table import Problem
from telemetry_forwarder.variables.types import Secret, SecretReference


class DropReason(StrEnum):
    """The reason why a record was dropped undelivered. Every way to lose a record has its own word here."""

    BUFFER_FULL = "buffer_full"
    SPOOL_FULL = "spool_full"  # the buffer and the spool were full, and this was one of the oldest records
    SPOOL_DAMAGED = "spool_damaged"  # could not be read back from the spool
    SPOOL_LOST = "spool_lost"  # somebody else, most likely the function, removed or cut the spool's files
    OVERSIZE = "oversize"  # over the destination's limit even when cut, or refused as too large by itself
    UNENCODABLE = "unencodable"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    REJECTED = "rejected"  # the destination will never accept it
    # The reasons why records were not delivered before the environment ended:
    UNAUTHORIZED = "unauthorized"  # the destination refused the credential, or its permissions
    WRONG_ADDRESS = "wrong_address"  # the address accepts no records: 404, 405, redirect, page; or no such log group
    SECRET_UNREADABLE = "secret_unreadable"  # noqa: S105 - Secrets Manager or SSM did not return the credential
    UNREACHABLE = "unreachable"  # no connection: name, route, refusal, TLS, proxy
    DEADLINE = "deadline"  # time ran out: the destination was unwell or too slow
    SINK_FAILED = "sink_failed"  # a bug in the sink
    FILTERED = "filtered"  # dropped on the user's request

    @property
    def is_intentional(self) -> bool:
        return self is DropReason.FILTERED


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of one request, in wire bytes before compression. Each sink's module names its sources."""

    max_records: int
    max_bytes: int  # for all encoded records, their overhead and the framing
    max_record_bytes: int  # for one encoded record, without overhead
    overhead_bytes: int = 0  # per record
    framing_bytes: int = 0  # per request
    max_span_ms: int | None = None  # between the oldest and the newest record of a request
    max_age_ms: int | None = None  # the destination accepts older records and then drops them
    redated_ms: int | None = None  # a record older than that, but not older than this, is given the time of now
    is_sorted: bool = False  # True: records must be in ascending order of time


class Encoded(Struct, frozen=True, gc=False):
    """A record with its wire form, as bytes. `is_cut`: it was over the limit, and the end of its text was cut off."""

    record: Record
    data: bytes
    is_cut: bool = False


Batch: TypeAlias = Sequence[Encoded]


# --- verdicts: what a destination's answer means for a batch --------------------------------------------------------


class Delivered(Struct, frozen=True):
    """Every record was accepted. `warning` is a text to log nevertheless."""

    warning: str | None = None


class Retry(Struct, frozen=True):
    """The destination is throttling or unwell: retry after `after` seconds, the wait that it asked for.

    `reason` is the drop reason if the environment ends before a retry succeeds.
    """

    after: float = 0.0
    detail: str = ""
    reason: DropReason = DropReason.DEADLINE


class Rejected(Struct, frozen=True):
    """The batch would always fail: drop its records."""

    detail: str


class TooLarge(Struct, frozen=True):
    """The batch is over the destination's limit: halve it. A single record is dropped as `oversize`."""

    detail: str = ""


class Denied(Struct, frozen=True):
    """The credential or the address is at fault, not the batch: keep the records, pause, and log it once.

    `reason` is the drop reason if that is not fixed before the environment ends.
    """

    detail: str
    reason: DropReason = DropReason.UNAUTHORIZED


class Partial(Struct, frozen=True):
    """A partial success: `retry` and `rejected` hold indices into the batch; the others were accepted.

    `after` as in Retry. `is_final`: what is rejected must not be sent again, even if that is the whole batch. Otherwise
    a batch of which nothing was accepted may be, because a wrong setting may be the cause.
    """

    retry: tuple[int, ...] = ()
    rejected: Mapping[int, DropReason] = field(default_factory=dict)
    after: float = 0.0
    detail: str = ""
    is_final: bool = False


Verdict: TypeAlias = Delivered | Retry | Rejected | TooLarge | Denied | Partial


class Cause(Struct, frozen=True):
    """The reason why nothing gets through at the moment: `text` is for the log; causes of one `kind` are logged once.

    `reason` is the drop reason for records that are still held when the environment ends. `is_normal`: it is a normal
    wait, e.g. during the start, and need not be logged.
    """

    kind: str
    text: str
    reason: DropReason = DropReason.DEADLINE
    is_normal: bool = False


# --- requests and responses -----------------------------------------------------------------------------------------


class HttpRequest(Struct, frozen=True, kw_only=True, weakref=True):
    """One HTTP request. `url` is complete; `headers` hold no credential (a transport adds it)."""

    url: str
    body: bytes
    headers: Mapping[str, str]
    method: str = "POST"


class HttpResponse(Struct, frozen=True, kw_only=True):
    """One HTTP response: `headers` with lower-case names, `body` cut at 64 KiB, AWS's at 16 MiB.

    If the response could not be read to its end, `unreadable` says why, and `headers` and `body` may be incomplete;
    else it is "".
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    unreadable: str = ""


class PutLogEvents(Struct, frozen=True, kw_only=True):
    """The parameters of one PutLogEvents call. An event is (time in ms since the epoch, message)."""

    group: str
    stream: str
    events: tuple[tuple[int, str], ...]


class AwsResponse(Struct, frozen=True, kw_only=True):
    """An AWS response: `error` is the type without its namespace (None on success), `status` the HTTP status.

    `is_unsent`: it was refused on our side, so nothing was sent. The body may hold a secret.
    """

    status: int
    error: str | None = None
    message: str = ""
    retry_after: float = 0.0
    body: Mapping[str, Any] = field(default_factory=dict)
    is_unsent: bool = False

    def __repr__(self) -> str:
        shown = f"status={self.status}, error={self.error!r}, message={self.message!r}"
        return f"AwsResponse({shown}, retry_after={self.retry_after}, is_unsent={self.is_unsent})"


Request = TypeVar("Request")
Response = TypeVar("Response")
_RequestOut = TypeVar("_RequestOut", covariant=True)
_RequestIn = TypeVar("_RequestIn", contravariant=True)
_ResponseOut = TypeVar("_ResponseOut", covariant=True)
_ResponseIn = TypeVar("_ResponseIn", contravariant=True)


class Sink(Protocol[_RequestOut, _ResponseIn]):
    """A destination's format: encode records, make requests, read responses. Pure: no I/O, no clock, no counting.

    A sink may also have `encode_all(records) -> list[Encoded]`, which does the same as `encode` for each record, only
    faster. If that raises, each record is given to `encode`.

    A sink may have `takes`, a frozenset of the signals that it takes; without it, it takes log records alone.
    """

    @property
    def name(self) -> str:
        """The name in TELEMETRY_FORWARDER_SINKS."""
        ...

    @property
    def limits(self) -> Limits: ...

    def encode(self, record: Record) -> Encoded:
        """Return `record` in wire form, cut to `limits.max_record_bytes`. Raises EncodeError if that is impossible."""
        ...

    def request(self, batch: Batch) -> _RequestOut:
        """Return the request that carries `batch`. The batch is not empty and within `limits`."""
        ...

    def verdict(self, batch: Batch, response: _ResponseIn) -> "Verdict":
        """Return what `response`, the answer to `request(batch)`, means. Never raises, whatever the bytes."""
        ...


LOGS = frozenset({Signal.LOG})


def taken_by(sink: Any) -> frozenset[Signal]:
    """Return the signals that `sink` takes."""
    return getattr(sink, "takes", LOGS)


class Transport(Protocol[_RequestIn, _ResponseOut]):
    """The only way to the network: send a request, return the response. Raises only TransportError, if none came."""

    async def send(self, request: _RequestIn) -> _ResponseOut: ...

    async def aclose(self) -> None: ...


class Fallback(Protocol):
    """A store for records that a sink does not accept before the environment ends."""

    def warm(self) -> None:
        """Start to get ready, because a sink is in trouble. Returns at once."""
        ...

    async def store(self, sink: str, records: Sequence[Record], deadline: Deadline) -> list[Record]:
        """Store `records` for `sink` by `deadline`; return those not known to be stored. Never raises."""
        ...


# --- a destination: a sink, and how to reach it ---------------------------------------------------------------------


class Credential(Struct, frozen=True, kw_only=True):
    """An HTTP header that authorises: its name, a prefix of its value (e.g. `Splunk `), and the secret.

    With a `user` the secret is a password: the value is `user:secret` in base64, as for `Basic `.
    """

    header: str
    secret: Secret | SecretReference
    prefix: str = ""
    user: str | None = None


class CredentialUrl(Struct, frozen=True):
    """The whole URL of requests as a secret, where its path authorises. It replaces that of each request."""

    secret: Secret | SecretReference


class HeaderList(Struct, frozen=True):
    """HTTP headers in OpenTelemetry's form, `name=value,name=value`, as a secret: nearly always one is a credential."""

    secret: Secret | SecretReference


class Signing(Struct, frozen=True):
    """Sign each request for a service of AWS with the environment's credentials."""

    service: str
    region: str


class Tls(Struct, frozen=True, kw_only=True):
    """Files for TLS: authorities instead of the usual ones, and the certificate that is shown, with its key.

    `variables` name the settings that they come from, in this order.
    """

    ca_file: str | None = None
    certificate: str | None = None
    key: str | None = None
    variables: tuple[str, str, str] = ("", "", "")


class HttpDelivery(Struct, frozen=True, kw_only=True):
    """Reach the destination by HTTP. `url` decides which proxy is used. `health` is requested once after the start.

    A body is compressed, unless `gzip` is False; `encoding` is its Content-Encoding then, `gzip` or `deflate`. With
    `is_file` what is sent is a file in gzip, which is kept as it comes: every body is compressed, however short it is,
    and the request's own headers say what it is.
    """

    url: str
    credential: Credential | CredentialUrl | None = None
    headers: tuple[HeaderList, ...] = ()
    signing: Signing | None = None
    tls: Tls | None = None
    gzip: bool = True
    encoding: str = "gzip"
    is_file: bool = False
    health: HttpRequest | None = None


class LogsDelivery(Struct, frozen=True, kw_only=True):
    """Reach the destination by PutLogEvents. `retention_days` is set on a log group that had to be created."""

    retention_days: int | None = None


OpenTransport: TypeAlias = Callable[[], AbstractAsyncContextManager[Transport[Any, Any]]]
Delivery: TypeAlias = HttpDelivery | LogsDelivery | OpenTransport


class Destination(Struct, Generic[Request, Response], frozen=True, kw_only=True):
    """The result of a sink's `create(environ)`: the sink, how to reach it, and problems with which it can still run.

    `create` raises ConfigError if the sink cannot run. Third parties publish their `create` as an entry point of the
    group `telemetry_forwarder.sinks`, with the name that TELEMETRY_FORWARDER_SINKS uses. Their `delivery` may be a
    callable that opens any Transport.
    """

    sink: Sink[Request, Response]
    delivery: Delivery
    problems: tuple[Problem, ...] = ()


_LONGEST_TEXT = 1000


# Words that may differ between two answers of the same meaning: a request id, a time, a count, a port. Every word with
# a digit is ignored in the comparison, unless it is the answer's status or code.
_VARYING = re.compile(r"(?<![\w-])(?<!HTTP )(?<!code )(?<!status )[\w-]*\d[\w-]*")


def cause(text: str, reason: DropReason = DropReason.DEADLINE) -> Cause:
    """Return a Cause with `text`, cut; its kind is the text without words that vary."""
    text = text if len(text) <= _LONGEST_TEXT else text[:_LONGEST_TEXT] + "…"
    return Cause(_VARYING.sub("#", text), text, reason)


def step_of(transport: "Any") -> Cause | None:
    """Return what `transport` waits for before it can send; None if it waits for an answer, or cannot tell."""
    waits_for: Callable[[], Cause | None] | None = getattr(transport, "waits_for", None)
    return waits_for() if waits_for is not None else None


def is_preparing(transport: "Any") -> bool:
    """Return whether `transport` still prepares something that every request needs; False if it cannot tell."""
    tells: Callable[[], bool] | None = getattr(transport, "is_preparing", None)
    return tells is not None and tells()


async def warm(transport: "Any") -> None:
    """Let `transport` get ready before the first request, if it has a `warm` method."""
    get_ready: Callable[[], Awaitable[None]] | None = getattr(transport, "warm", None)
    if get_ready is not None:
        await get_ready()
