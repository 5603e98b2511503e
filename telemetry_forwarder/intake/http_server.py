"""Receive telemetry bodies from Lambda over HTTP and hand them to the intake. Bounded in time and memory.

It is aiohttp's low-level server, without application and router, on a socket that has listened since before
registration. `_Connection` extends aiohttp's protocol with what it lacks: it bounds the number of connections, notices
a stalled request and gives it up after a timeout, and counts a request that breaks off.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from aiohttp.http import RawRequestMessage
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import StreamReader
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

from telemetry_forwarder import http_serving
from telemetry_forwarder.intake.inbox import Inbox

# A body may be twice `maxBytes` plus metadata. Source: AWS Lambda Developer Guide, Telemetry API, buffering. It does
# not say whether before JSON escaping, which makes the longest line (256 KB) six times as long if it is control
# characters.
_METADATA_BYTES = 64 * 1024
_LONGEST_LINE_BYTES = 6 * 256 * 1024

# The most connections that wait in the kernel. Lambda opens at most one for each function.
BACKLOG = 128

# Only Lambda connects, with one connection, or the function by mistake. Above MOST_CONNECTIONS one is dropped, first
# one that was never used. All together hold at most about MOST_HELD bodies of the longest kind.
MOST_CONNECTIONS = 64
_MOST_HELD = 4
# A batch arrives over loopback at once, so if no bytes come for STALL_S something is wrong.
STALL_S = 0.2
REQUEST_S = 10.0
LATE_S = 0.25  # a timer that fires later than this was delayed by a freeze

# aiohttp stops reading when twice this many bytes are unread; the rest waits in the kernel.
_READ_BYTES = 256 * 1024

_POST = b"POST / "
_TAKEN = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def body_limit(max_bytes: int) -> int:
    """Return the most bytes that a body can have if the subscription asks for `max_bytes`."""
    return 2 * max_bytes + _LONGEST_LINE_BYTES + _METADATA_BYTES


def serve(
    listener: socket.socket, inbox: Inbox, max_bytes: int, *, on_data: Callable[[], object] = lambda: None
) -> AbstractAsyncContextManager[None]:
    """Serve telemetry at `/` on a socket that already listens; `max_bytes` is the subscription's.

    `on_data` is called whenever bytes have arrived, before they are read.

    Requests that arrived before this call wait in the kernel's queue. Leaving the context closes the socket. A body
    that is too long is counted and answered 200, like any other unusable body. Otherwise Lambda would send it again and
    again, with everything else waiting behind it, even the end of the invocation.
    """
    limit = body_limit(max_bytes)
    connections: set[_Connection] = set()
    return http_serving.serving(
        [listener],
        _answer,
        lambda http: _Connection(http, inbox, limit, connections, on_data),
        connections,
        backlog=BACKLOG,
    )


async def _answer(request: BaseRequest) -> StreamResponse:
    connection = request.protocol
    assert isinstance(connection, _Connection)  # noqa: S101 - `serve` makes no other
    return await connection.answer(request)


class _GivenUp(Exception):
    """The rest of a body will not be read; the answer has the status `status`."""

    def __init__(self, status: int) -> None:
        self.status = status


class _Connection(http_serving.Connection):
    """One connection that delivers telemetry. aiohttp implements HTTP.

    A body of more than `limit` bytes is read to its end but not kept. The same goes for a body that arrives while the
    connections hold more than `_MOST_HELD` times `limit`. A stalled request is reported and given up after `REQUEST_S`.

    aiohttp parses heads and hands them on one by one, perhaps before their bodies are complete. `_request_count` counts
    the heads that it has parsed or rejected, `_taken` those of them that were handed on.
    """

    def __init__(
        self,
        http: Server,
        inbox: Inbox,
        limit: int,
        connections: "set[_Connection]",
        on_data: Callable[[], object],
    ) -> None:
        super().__init__(http, read_bufsize=_READ_BYTES, auto_decompress=False)
        self._on_data = on_data
        self._inbox = inbox
        self._limit = limit
        self._connections = connections
        self._taken = 0
        self._request: BaseRequest | None = None  # the one that is being read or answered
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_over_limit = False
        self._began_at: float | None = None  # when an incomplete request began to arrive
        self._came_at = 0.0
        self._first = b""  # the first bytes of that request, enough to recognize it
        self._timer: asyncio.TimerHandle | None = None
        self._is_dropped = False
        self._has_ended = False  # the sender has closed its side
        self._refused_with: int | None = None
        self.is_used = False  # whether a request was answered
        self.used_at = 0.0  # when the last answer was, or when the connection was made

    def __repr__(self) -> str:
        return f"<connection: {self._taken} of {self._request_count} requests, {self._size} bytes held>"

    def drop(self) -> None:
        """Close the connection at once. A request that is dropped with it does not count as interrupted."""
        self._is_dropped = True
        super().drop()

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.used_at = self._loop.time()
        super().connection_made(transport)
        self._connections.add(self)
        if len(self._connections) > MOST_CONNECTIONS:
            min(self._connections - {self}, key=lambda one: (one.is_used, one.used_at)).drop()

    def connection_lost(self, error: BaseException | None) -> None:
        self._connections.discard(self)
        self._give_up("the connection ended")
        super().connection_lost(error)

    def data_received(self, data: bytes) -> None:
        if data:  # aiohttp passes no data when it resumes with what it has
            self._on_data()
            self._came_at = self._loop.time()
            if self._began_at is None and (self._request is None or self._request.content.is_eof()):
                self._began_at, self._first = self._came_at, data[: len(_POST)]
        if (waiter := self._waiter) is None or waiter.done():
            super().data_received(data)
        else:  # aiohttp's task waits for a request
            self._waiter = None  # lest it is woken
            super().data_received(data)
            self._waiter = waiter
            if self._messages and not self._answer_at_once():
                waiter.set_result(None)
        if self._request is not None and self._is_broken(self._request.content):
            self._request.content.set_exception(_GivenUp(400))
        self._watch()

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's says None
        """Return whether to keep our side open, because answers are still to be sent."""
        self._has_ended = True
        if self._request is not None:
            if self._is_broken(self._request.content):
                self._request.content.set_exception(_GivenUp(400))
        elif self._began_at is not None and self._taken == self._request_count:
            self._break_off(400)
        return self._request is not None or self._taken < self._request_count

    def _answer_at_once(self) -> bool:
        """Answer the usual request: telemetry that came whole, with nothing before or behind it. Return whether it was.

        That takes a tenth of what aiohttp's way through a request, a task and a response does. Any other request goes
        that way.
        """
        if len(self._messages) != 1 or self._parser is None or self.transport is None:
            return False
        message, body = self._messages[0]
        if not (
            isinstance(message, RawRequestMessage)
            and body.is_eof()
            and (message.method, message.path, message.version) == ("POST", "/", HttpVersion11)
            and not message.should_close
            and not message.upgrade
            and body.total_bytes <= self._limit
            and self._inbox.answers_at_once(body.total_bytes)
        ):
            return False
        self._messages.clear()
        self._parser.message_consumed()
        self._taken += 1
        self._stop_timer()
        self.is_used, self.used_at = True, self._came_at
        try:
            self._inbox.take(body.read_nowait(-1), message.headers.get("sequence-id", ""))
        except Exception as error:  # noqa: BLE001 - a bug; aiohttp does the same
            self.log_exception("Error handling request", exc_info=error)
            self.transport.write(_FAILED)
            self.force_close()
        else:
            self.transport.write(_TAKEN)
        return True

    # --- a request that stalls or breaks off ---

    def _is_broken(self, content: StreamReader) -> bool:
        """Return whether the rest of a body will not come: the sender has closed its side, or another head follows."""
        return not content.is_eof() and (self._has_ended or self._taken < self._request_count)

    def _watch(self) -> None:
        if self._is_coming and self._timer is None:
            self._timer = self._loop.call_at(self._came_at + STALL_S, self._on_time)

    @property
    def _is_coming(self) -> bool:
        """Whether a request has begun to arrive and the sender still has to send the rest."""
        if self._began_at is None or self._is_dropped:
            return False
        return not self._request.content.is_eof() if self._request else self._taken == self._request_count

    def _on_time(self) -> None:
        """Check a request that has begun to arrive: report a stall, or give it up after `REQUEST_S`."""
        self._timer = None
        now = self._loop.time()
        if self._began_at is None or not self._is_coming:
            return
        if now - self._came_at >= STALL_S and self._is_telemetry:
            self._inbox.on_interruption()
        if now >= self._began_at + REQUEST_S:
            # After a freeze the timer fires late, and bytes that came meanwhile are still unread. So wait once more.
            if now - max(self._came_at, self._began_at + REQUEST_S) > LATE_S:
                self._began_at = now - REQUEST_S + STALL_S
            else:
                request = self._request
                self._give_up("it took too long")
                if request is None:
                    self._break_off(408)
                else:
                    request.content.set_exception(_GivenUp(408))
                return
        self._timer = self._loop.call_at(now + STALL_S, self._on_time)

    @property
    def _is_telemetry(self) -> bool:
        if self._request is None:
            return self._first == _POST
        return self._request.method == "POST" and _path(self._request) == "/"

    def _give_up(self, what: str) -> None:
        """Give up the current request and count it as interrupted if it was telemetry."""
        if self._began_at is not None and self._is_telemetry and not self._is_dropped:
            self._inbox.interrupt(what)
        self._stop_timer()
        self._rest()

    def _rest(self) -> None:
        """Free what is held of a request."""
        self._request, self._pieces, self._size, self._is_over_limit = None, [], 0, False

    def _stop_timer(self) -> None:
        """Note that the request is complete or given up, and stop its timer."""
        self._began_at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _break_off(self, status: int) -> None:
        """Refuse a head that does not end. aiohttp answers only a broken head, and a NUL byte breaks any head."""
        self._refused_with = status
        super().data_received(b"\0")

    # --- what aiohttp calls ---

    async def answer(self, request: BaseRequest) -> Response:
        """Read the body of a request whose head has arrived, handle the request and return the response."""
        self._taken += 1
        self._request = request
        self._began_at = self._began_at or self._came_at
        self._watch()
        try:
            if self._is_broken(request.content):
                raise _GivenUp(400)
            await self._read(request)
        except _GivenUp as error:
            self._give_up("it is no sound HTTP")
            return _refusal(error.status)
        self._stop_timer()
        status, text, due = self._handle(request)
        if due is not None:
            await due
        self._rest()
        self.is_used, self.used_at = True, self._came_at
        response = Response(status=status, text=text, headers={"Allow": "POST"} if status == 405 else None)
        if self._has_ended and self._taken == self._request_count:
            response.force_close()
        return response

    async def _read(self, request: BaseRequest) -> None:
        """Read the body to its end, and hold as much as the limits allow. Raises _GivenUp."""
        content = request.content
        is_expecting = request.headers.get("Expect", "").lower() == "100-continue" and request.version == HttpVersion11
        if is_expecting and not content.is_eof() and not content.total_bytes and self.transport is not None:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while piece := await content.readany():
            self._hold(piece)

    def _hold(self, piece: bytes) -> None:
        held = sum(one._size for one in self._connections) if self._pieces else 0
        self._is_over_limit |= self._size + len(piece) > self._limit or held > _MOST_HELD * self._limit
        if self._is_over_limit:
            self._pieces.clear()
            self._size = 0
        else:
            self._size += len(piece)
            self._pieces.append(piece)

    def _handle(self, request: BaseRequest) -> tuple[int, str | None, asyncio.Future[None] | None]:
        """Handle a complete request. Return the response's status and text, and a future to await before it is sent."""
        due = None
        if _path(request) != "/":
            return 404, "telemetry is taken at /\n", None
        if request.method != "POST":
            return 405, "telemetry is sent with POST\n", None
        if self._is_over_limit:
            self._inbox.refuse(self._limit)
        else:
            body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            self._pieces = []
            due = self._inbox.take(body, request.headers.get("sequence-id", ""))
        return 200, None, due

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> StreamResponse:
        """Answer bytes that are not HTTP, or a head that does not end, if possible; then close the connection."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        self._taken += 1
        self._give_up("it is no sound HTTP")
        return _refusal(self._refused_with or (431 if isinstance(exc, LineTooLong) else 400))


def _refusal(status: int) -> Response:
    response = Response(status=status)
    response.force_close()
    return response


def _path(request: BaseRequest) -> str:
    return request.raw_path.partition("?")[0]
