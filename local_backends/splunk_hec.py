"""A strict local Splunk HTTP Event Collector.

Sources: Splunk's HEC REST endpoint reference, its page of possible error codes, inputs.conf and limits.conf; where they
say nothing, measurements on Splunk Enterprise 9.3.3 to 10.4.3 and a Splunk Cloud trial 10.5 by open-source projects
(2026). Where the sources disagree, the constructor has an argument.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import orjson
from aiohttp import web

from local_backends.encodings import Corrupt, TooLong, Unsupported, decoded
from local_backends.faults import Answer, Fault, ServiceFault, Throttle, TooLarge
from local_backends.hec_acks import GUID, Acks, ChannelFull
from local_backends.hec_events import Defaults, Flaw, ForcedFlaw, HecEvent, Rules, read_events
from local_backends.server import Backend, Call, Reply

CODES: Mapping[int, tuple[int, str]] = {
    0: (200, "Success"),
    1: (403, "Token disabled"),
    2: (401, "Token is required"),
    3: (401, "Invalid authorization"),
    4: (403, "Invalid token"),
    5: (400, "No data"),
    6: (400, "Invalid data format"),
    7: (400, "Incorrect index"),
    8: (500, "Internal server error"),
    9: (503, "Server is busy"),
    10: (400, "Data channel is missing"),
    11: (400, "Invalid data channel"),
    12: (400, "Event field is required"),
    13: (400, "Event field cannot be blank"),
    14: (400, "ACK is disabled"),
    15: (400, "Error in handling indexed fields"),
    16: (400, "Query string authorization is not enabled"),
    17: (200, "HEC is healthy"),
    18: (503, "HEC is unhealthy, queues are full"),
    19: (503, "HEC is unhealthy, ack service unavailable"),
    20: (503, "HEC is unhealthy, queues are full, ack service unavailable"),
    21: (400, "Invalid token"),
    22: (400, "Token disabled"),
    23: (503, "Server is shutting down"),
    24: (200, "Queue approaching capacity"),
    25: (200, "Ack channel approaching capacity"),
    26: (429, "Queue at capacity"),
    27: (429, "Ack channel at capacity"),
    28: (400, "Data channel is missing"),
}
# The code of `Answer(status)` without a `code`.
_USUAL_CODE: Mapping[int, int] = {400: 6, 401: 3, 403: 4, 429: 26, 500: 8, 503: 9}

_PATHS: Mapping[str, str] = {
    "/services/collector": "event",
    "/services/collector/event": "event",
    "/services/collector/raw": "raw",
    "/services/collector/ack": "ack",
    "/services/collector/health": "health",
}  # each also with `/1.0` behind it
NOT_FOUND = orjson.dumps({"text": "The requested URL was not found on this server.", "code": 404})
_ENCODINGS = frozenset({"identity", "gzip"})
_BODY_LIMITS: Mapping[str, int] = {
    "enterprise": 838_860_800,  # limits.conf [http_input] max_content_length of 10.4; 1,000,000 before about 7
    "cloud": 1_000_000,  # as documented; a trial stack took 5,242,881 and refused 6,000,000
}


@dataclass(frozen=True, slots=True)
class BadEvent(ServiceFault):
    """Treat object `at` (0-based) as bad with `code`: the objects before it are stored, and the answer says so."""

    at: int
    code: int = 6
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class NearCapacity(ServiceFault):
    """Store everything and answer 200 with code 24 (queue) or 25 (acknowledgements): a warning, not an error."""

    code: int = 24
    times: int | None = 1


class _Refused(Exception):
    """A request is refused with one HEC code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class SplunkHec(Backend):
    """A HTTP Event Collector with one token.

    `indexes` are the indexes the token may write to (None: all); `metric_indexes` are those that hold metrics. In
    `mode` "cloud" a body over the limit is answered with 400, code 6 and number 0; in "enterprise" with 413.
    `max_content_length` (bytes) replaces the mode's usual limit; it counts the inflated body unless `counts_wire_bytes`
    (it is not known which one Splunk counts). `acks` enables indexer acknowledgement (true after `ack_delay` seconds).
    `query_token` allows `?token=`. `raw_needs_channel` is the documented rule for `/raw`; as measured, tokens without
    acknowledgement do not need a channel. `rules` holds the choices about single events.

    `token`, `is_disabled` and `health` (17 healthy; 18, 19, 20 unhealthy) may be changed while it runs. `events` are
    the accepted events in order, including metrics (`is_metric`); `lines` are those of `/raw`.
    """

    deliveries: ClassVar[frozenset[str]] = frozenset({"event", "raw"})
    own_faults: ClassVar[tuple[type, ...]] = (BadEvent, NearCapacity)

    def __init__(
        self,
        *,
        token: str = "00000000-0000-0000-0000-000000000000",  # noqa: S107 - a local stand-in opens nothing
        indexes: Iterable[str] | None = None,
        metric_indexes: Iterable[str] = (),
        mode: Literal["enterprise", "cloud"] = "enterprise",
        max_content_length: int | None = None,
        counts_wire_bytes: bool = False,
        acks: bool = False,
        ack_delay: float = 1.0,
        query_token: bool = False,
        raw_needs_channel: bool = True,
        default_index: str = "main",
        rules: Rules | None = None,
        **listen: Any,
    ) -> None:
        super().__init__(**listen)
        self.token = token
        self.is_disabled = False
        self.health = 17
        self.acks = Acks(delay=ack_delay) if acks else None
        self.events: list[HecEvent] = []
        self.lines: list[HecEvent] = []
        self.mode = mode
        self.max_content_length = max_content_length or _BODY_LIMITS[mode]
        self.wire_limit = self.max_content_length
        self._counts_wire_bytes = counts_wire_bytes
        self._query_token = query_token
        self._raw_needs_channel = raw_needs_channel
        self._default_index = default_index
        self._rules = rules or Rules(
            indexes=None if indexes is None else frozenset({*indexes, default_index}),
            metric_indexes=frozenset(metric_indexes),
        )

    @property
    def kept(self) -> Sequence[HecEvent]:
        return self.events

    def operation(self, request: web.BaseRequest) -> str:
        return _PATHS.get(request.path.removesuffix("/1.0"), "unknown")

    def respond(self, call: Call, fault: Fault | None = None) -> Reply:
        allowed = ("GET", "HEAD") if call.operation == "health" else ("POST",)
        if call.operation == "unknown":
            return Reply(404, NOT_FOUND)
        if call.method == "OPTIONS":
            return Reply(200, headers={"Allow": ",".join((*allowed, "OPTIONS"))})
        if call.method not in allowed:
            return Reply(405, NOT_FOUND)
        try:
            return self._serve(call, fault)
        except _Refused as refused:
            return _reply(refused.code)
        except ChannelFull:
            return _reply(27)

    def refuse(self, fault: Answer | Throttle | TooLarge, call: Call) -> Reply:
        match fault:
            case Answer(status=status, code=code, retry_after=wait):
                number = code if isinstance(code, int) else _USUAL_CODE.get(status)
                reply = Reply(status, b"", "text/html") if number is None else _reply(number, status=status)
                return reply if wait is None else _with_header(reply, "Retry-After", wait)
            case Throttle(retry_after=wait, header=header):
                return _reply(26) if wait is None else _with_header(_reply(26), header, wait)
            case TooLarge():
                return self._too_large()

    def _serve(self, call: Call, fault: Fault | None) -> Reply:
        if call.operation == "health":
            return self._answer_health(call)
        self._authorize(call)
        channel = self._channel(call)
        if call.operation == "ack":
            return self._answer_acks(call, channel)
        if self.acks is not None:
            self.acks.check(channel, call.time)
        try:
            body = self._body(call)
        except Unsupported:
            return Reply(415, b"<!doctype html><html><body>Unsupported Media Type</body></html>", "text/html")
        except TooLong:
            return self._too_large()
        if call.operation == "raw":
            return self._store_lines(call, channel, body)
        return self._store_events(call, channel, body, fault)

    # --- authorization ------------------------------------------------------------------------------------------------

    def _authorize(self, call: Call) -> None:
        """Raise _Refused unless the request has the token; a query token is refused even next to a valid header."""
        if "token" in call.query and not self._query_token:
            raise _Refused(16)
        self._check_token(_token_given(call))

    def _check_token(self, given: str | None) -> None:
        if given is None:
            raise _Refused(2)
        if given != self.token:
            raise _Refused(4)
        if self.is_disabled:
            raise _Refused(1)

    def _channel(self, call: Call) -> str:
        """Return the request's channel; "" if none is needed or given."""
        if call.operation == "ack" and self.acks is None:
            raise _Refused(14)
        channel = call.headers.get("X-Splunk-Request-Channel") or call.query.get("channel", "")
        is_needed = self.acks is not None or (call.operation == "raw" and self._raw_needs_channel)
        if is_needed and not channel:
            raise _Refused(10)
        if is_needed and not GUID.fullmatch(channel):
            raise _Refused(11)
        return channel

    # --- storing ------------------------------------------------------------------------------------------------------

    def _body(self, call: Call) -> bytes:
        encoding = call.headers.get("Content-Encoding", "identity")
        limit = _BODY_LIMITS["enterprise"] if self._counts_wire_bytes else self.max_content_length
        try:
            body = decoded(call.body, encoding, limit, accepted=_ENCODINGS)
        except Corrupt as error:
            raise _Refused(6) from error
        if not body.strip():
            raise _Refused(5)
        return body

    def _store_events(self, call: Call, channel: str, body: bytes, fault: Fault | None) -> Reply:
        forced = ForcedFlaw(fault.at, fault.code) if isinstance(fault, BadEvent) else None
        events, flaw = read_events(body, self._defaults(call), self._rules, forced)
        self.events += events
        extra: dict[str, Any] = {}
        if self.acks is not None and (flaw is None or events):
            extra["ackId"] = self.acks.issue(channel, call.time)
        if flaw is None:
            return _reply(fault.code if isinstance(fault, NearCapacity) else 0, **extra)
        return _flaw_reply(flaw, bool(events), extra)

    def _store_lines(self, call: Call, channel: str, body: bytes) -> Reply:
        given = self._defaults(call)
        if self._rules.indexes is not None and given.index not in self._rules.indexes:
            raise _Refused(7)
        text = body.decode("utf-8", "replace")
        self.lines += [
            HecEvent(given.time, given.host, given.source, given.sourcetype, given.index, line)
            for line in text.splitlines()
            if line.strip()
        ]
        return _reply(0) if self.acks is None else _reply(0, ackId=self.acks.issue(channel, call.time))

    def _defaults(self, call: Call) -> Defaults:
        try:
            moment = float(call.query["time"]) if "time" in call.query else call.time
        except ValueError as error:
            raise _Refused(15) from error
        return Defaults(
            time=moment,
            host=call.query.get("host", call.peer),  # as with connection_host = ip
            source=call.query.get("source", "http:local"),
            sourcetype=call.query.get("sourcetype", "httpevent"),
            index=call.query.get("index", self._default_index),
        )

    # --- answers ----------------------------------------------------------------------------------------------------

    def _answer_acks(self, call: Call, channel: str) -> Reply:
        try:
            ids = orjson.loads(call.body)["acks"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise _Refused(6) from error
        if not isinstance(ids, list) or not all(type(number) is int for number in ids):
            raise _Refused(6)
        read = self.acks.read(channel, ids, call.time) if self.acks else {}
        return Reply(200, orjson.dumps({"acks": read}))

    def _answer_health(self, call: Call) -> Reply:
        """Answer a health request: it needs no token, but a wrong token gets its own code."""
        given = _token_given(call) if "Authorization" in call.headers else self.token
        if given != self.token:
            return _reply(21)
        return _reply(22 if self.is_disabled else self.health)

    def _too_large(self) -> Reply:
        if self.mode == "cloud":
            return _reply(6, **{"invalid-event-number": 0})
        return Reply(413, b"<!doctype html><html><body>Content-Length too large</body></html>", "text/html")


def _token_given(call: Call) -> str | None:
    """Return the token from the header or the query; None without either. Raises _Refused(3) for another scheme."""
    header = call.headers.get("Authorization")
    if header is None:
        return call.query.get("token")
    scheme, _, value = header.strip().partition(" ")
    value = value.strip()
    if scheme.lower() == "basic":
        return _password(value)
    if scheme.lower() != "splunk" or not value:
        raise _Refused(3)
    return value


def _password(value: str) -> str:
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _Refused(3) from error


def _reply(code: int, *, status: int | None = None, **extra: Any) -> Reply:
    usual, text = CODES.get(code, (400, "Unknown"))
    return Reply(status or usual, orjson.dumps({"text": text, "code": code, **extra}))


def _flaw_reply(flaw: Flaw, has_stored: bool, extra: Mapping[str, Any]) -> Reply:
    if flaw.is_silent and has_stored:
        return _reply(0, **extra)  # as measured: a success, although the rest of the batch is lost
    if flaw.number is None:
        return _reply(flaw.code, **extra)
    return _reply(flaw.code, **{"invalid-event-number": flaw.number}, **extra)


def _with_header(reply: Reply, name: str, seconds: float) -> Reply:
    return Reply(reply.status, reply.body, reply.content_type, {name: f"{seconds:g}"})
