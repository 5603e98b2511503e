"""The secrets endpoint on loopback: aiohttp's low-level server, with the checks that a port for secrets needs.

Only GET without a body is answered; any other request is refused with a reason before anything is looked up. aiohttp
parses heads and writes answers. `_Connection`, a subclass of its protocol, gives it one complete head at a time. So a
head that never ends or is too long costs one buffer, and a caller that does not read its answers gets no new ones.
Sources: RFC 9112, sections 2 to 5, and RFC 9110, section 7.2.
"""

import asyncio
import hmac
import socket
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, TypeAlias

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import HttpVersion10, HttpVersion11
from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server
from msgspec import Struct

from telemetry_forwarder import http_serving
from telemetry_forwarder.clock import Moment
from telemetry_forwarder.secrets.answers import Answer, Outcome, as_json
from telemetry_forwarder.secrets.cache import Cache
from telemetry_forwarder.secrets.routes import (
    Page,
    Question,
    Refused,
    check_allowed,
    error_json,
    question_of,
    render,
)
from telemetry_forwarder.variables.types import Secret

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

# A name has at most 2048 characters, each up to three when escaped; a session token has up to about 2 KB.
_LONGEST_TARGET = 8192
_LONGEST_HEAD = 16384
# A head must be complete this many ticks after its first byte. It is counted in ticks of a second because at most one
# tick passes during a freeze, however long.
_HEAD_TICKS = 5
TICK_S = 1.0
# The most bytes that are still read from a refused caller, and ignored. Closing at once would reset the connection, and
# the reason would not arrive.
_MOST_FORGOTTEN = 4 * 1024 * 1024
# The most requests that wait for an answer, and the most connections. An environment has 1024 file descriptors for all
# its processes.
MOST_WAITING = 512
MOST_CONNECTIONS = 640

_LOCAL_HOSTS = {"localhost", "127.0.0.1", "[::1]"}
# Headers of a request that was made on behalf of somebody else.
_FORWARDED = ("X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded")
TOKEN = "X-Aws-Parameters-Secrets-Token"  # noqa: S105 - the name of a header

# Given to aiohttp instead of a head that is refused before it is parsed.
_NO_HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
_REASONS = {414: "URI Too Long"}  # the phrase of RFC 9110; the standard library has it from Python 3.13 on

BEFORE = Moment(0.0, 0.0)

_Stats: TypeAlias = Callable[[], dict[str, Any]]


class Guard(Struct, frozen=True, kw_only=True):
    """Who may read what. `tokens` None: anybody who can reach the port. `allow` None: all keys."""

    tokens: tuple[Secret, ...] | None
    allow: tuple[str, ...] | None

    def admits(self, token: bytes) -> bool:
        """Return whether `token` is a valid one. It is compared with each of them in constant time."""
        if self.tokens is None:
            return True
        matches = [hmac.compare_digest(token, valid.reveal().encode()) for valid in self.tokens]
        return any(matches)


class Endpoint:
    """Answers requests. Holds what all connections share: the cache, the guard and the counts."""

    def __init__(self, cache: Cache, guard: Guard, *, spawn: Spawn, stats: _Stats) -> None:
        self.refused = 0
        self.waiting = 0
        # The one that was silent for longest comes first.
        self.connections: OrderedDict[_Connection, None] = OrderedDict()
        self._cache = cache
        self._guard = guard
        self._spawn = spawn
        self._stats = stats

    def admit(self, connection: "_Connection") -> bool:
        """Accept a new connection; return whether it was accepted.

        If there are too many, drop the idle one that has been silent for longest. If none is idle, refuse the new one.
        """
        if len(self.connections) >= MOST_CONNECTIONS:
            idle = next((other for other in self.connections if not other.is_waiting), None)
            if idle is None:
                return False
            idle.drop()
        self.connections[connection] = None
        return True

    async def answer(self, request: BaseRequest) -> StreamResponse:
        """Answer one request with a complete head."""
        connection = request.protocol
        assert isinstance(connection, _Connection)  # noqa: S101 - `serving` makes only these
        closes = True  # after an invalid head, the next bytes may not be a request
        try:
            if connection.refused is not None:
                raise connection.refused
            _check_head(request)
            closes = not request.keep_alive
            asked = self._admitted(request)
        except Refused as refused:
            return self.refusal(connection, refused, closes=closes)
        if isinstance(asked, Page):
            body = b'"healthy"' if asked is Page.PING else as_json(self._stats())
            return _Response(connection, 200, body, closes=closes)
        answer = None if asked.is_fresh else self._cache.hit(asked.key)
        if answer is None:
            answer = await self._fetch(asked)
        status, body = render(answer, asked.form)
        extra = {}
        if answer.stale_s is not None:
            extra["Telemetry-Forwarder-Stale"] = f"{answer.stale_s:.0f}"
        elif answer.outcome is Outcome.BUSY:
            extra["Retry-After"] = "1"
        return _Response(connection, status, body, closes=closes, extra=extra)

    def refusal(self, connection: "_Connection", refused: Refused, *, closes: bool = True) -> StreamResponse:
        """Return the response to a refused request, which says why."""
        self.refused += 1
        extra = {"Allow": "GET"} if refused.status == 405 else {}
        return _Response(connection, refused.status, error_json(refused.reason), closes=closes, extra=extra)

    def _admitted(self, request: BaseRequest) -> Question | Page:
        """Return what the request asks for. Raises Refused if it is invalid or not allowed."""
        asked = question_of(request.raw_path)
        if asked is Page.PING:
            return asked
        token = request.headers.getall(TOKEN, [""])[-1].encode("utf-8", "surrogateescape")
        if not self._guard.admits(token):
            word = "is wrong" if token else "is missing"
            raise Refused(403, f"The header {TOKEN} {word}; send $AWS_SESSION_TOKEN.")
        if isinstance(asked, Question):
            check_allowed(asked, self._guard.allow)
        return asked

    async def _fetch(self, asked: Question) -> Answer:
        if self.waiting >= MOST_WAITING:
            return busy()
        found = [Answer(Outcome.FAILED, BEFORE, message="A bug kept this from being answered. Please report it.")]

        async def fetch() -> None:
            found.append(await self._cache.get(asked.key, fresh=asked.is_fresh))

        self.waiting += 1
        try:
            await self._spawn(fetch())  # a bug is logged by the task's owner
        finally:
            self.waiting -= 1
        return found[-1]


class _Connection(http_serving.Connection):
    """The connection of one caller. aiohttp answers its requests one after the other; limits are enforced here."""

    def __init__(self, endpoint: Endpoint, http: Server) -> None:
        super().__init__(http, max_line_size=_LONGEST_HEAD, max_field_size=_LONGEST_HEAD, max_headers=_LONGEST_HEAD)
        self.is_waiting = False  # a request was given to aiohttp, and its answer is not written yet
        self.refused: Refused | None = None  # the refusal to answer with, of a head that was not parsed
        self._endpoint = endpoint
        self._unread = b""
        self._is_leaving = False
        self._ended = asyncio.Event()  # set when the caller will send nothing more
        self._timer: asyncio.TimerHandle | None = None
        self._forgotten = 0

    def __repr__(self) -> str:
        state = "leaving" if self._is_leaving else "waiting" if self.is_waiting else "idle"
        return f"<connection: {state}, {len(self._unread)} bytes unread>"

    # --- callbacks of asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._endpoint.admit(self):
            self._refuse(Refused(429, "There are too many connections."))

    def data_received(self, data: bytes) -> None:
        if not data:  # aiohttp calls this itself to go on with the data that it has
            super().data_received(data)
        elif self._is_leaving:
            self._forgotten += len(data)
            if self._forgotten > _MOST_FORGOTTEN:
                self.drop()
        else:
            if self in self._endpoint.connections:
                self._endpoint.connections.move_to_end(self)
            self._unread += data
            self._read_on()
            # A caller that sends ahead is not read from any more until its answer is written (`go_on`).
            if len(self._unread) > _LONGEST_HEAD and self.is_waiting and self.transport is not None:
                self.transport.pause_reading()

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp's says None
        """Return whether to keep the connection open for an answer that is still to come."""
        self._ended.set()
        return self.is_waiting

    def connection_lost(self, error: BaseException | None) -> None:
        self._unread = b""
        self._ended.set()
        self._stop_timer()
        self._endpoint.connections.pop(self, None)
        super().connection_lost(error)

    def drop(self) -> None:
        """End the connection without an answer."""
        self._endpoint.connections.pop(self, None)
        super().drop()

    # --- reading ---

    def _read_on(self) -> None:
        """Give aiohttp the next head, if it is complete and the request before it is answered."""
        if not self._unread or self.is_waiting or self._is_leaving:
            return
        head, end, rest = self._unread.partition(b"\r\n\r\n")
        first = head.partition(b"\r\n")[0]
        if len(head) > _LONGEST_HEAD or len(first) > _LONGEST_TARGET + 32:
            self._refuse(_too_long(head))
        elif not end and self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._tick, 1)
        elif end and first.count(b" ") != 2:  # aiohttp also accepts more spaces, and none
            self._refuse(Refused(400, "The first line is no request."))
        elif end:
            self._unread = rest
            self._stop_timer()
            self.is_waiting = True
            super().data_received(head + end)

    def _refuse(self, refused: Refused) -> None:
        """Answer with a refusal instead of parsing what was sent."""
        self.refused = refused
        self._unread = b""
        self._stop_timer()
        self.is_waiting = True
        super().data_received(_NO_HEAD)

    def _tick(self, ticks: int) -> None:
        self._timer = None
        if ticks >= _HEAD_TICKS:
            self._refuse(Refused(408, f"The head of the request did not come to its end within {_HEAD_TICKS} s."))
        else:
            self._timer = self._loop.call_later(TICK_S, self._tick, ticks + 1)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- answering ---

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> StreamResponse:
        """Answer a head that aiohttp found invalid. aiohttp's own text would repeat what was sent."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        return self._endpoint.refusal(self, Refused(400, "This is no request, or a header is missing or malformed."))

    def go_on(self) -> None:
        """Read the next request, after one was answered."""
        self.is_waiting = False
        self._read_on()
        if self._ended.is_set() and not self.is_waiting:
            self.close()  # aiohttp closes after this answer
        elif self.transport is not None and not self.is_waiting:
            self.transport.resume_reading()

    async def close_gracefully(self) -> None:
        """Close our side; wait until the caller closes, or until a tick has passed and the answer is sent."""
        self.is_waiting, self._is_leaving = False, True
        if self.transport is None or self._ended.is_set():
            return
        self.transport.write_eof()
        self.transport.resume_reading()
        for _ in range(_HEAD_TICKS):
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._ended.wait()
            if self._ended.is_set() or self.transport is None or not self.transport.get_write_buffer_size():
                return
        self.drop()


class _Response(Response):
    """A response that notifies its connection when it is written."""

    def __init__(
        self, connection: _Connection, status: int, body: bytes, *, closes: bool, extra: dict[str, str] | None = None
    ) -> None:
        headers = {
            "Content-Type": "application/json", "Content-Length": str(len(body)), "Cache-Control": "no-store",
            **(extra or {}), "Connection": "close" if closes else "keep-alive",
        }  # fmt: skip
        super().__init__(status=status, reason=_REASONS.get(status), body=body, headers=headers)
        self._connection = connection
        self._closes = closes
        if closes:
            self.force_close()

    async def write_eof(self, data: bytes = b"") -> None:
        await super().write_eof(data)
        if self._closes:
            await self._connection.close_gracefully()
        else:
            self._connection.go_on()


def _check_head(request: BaseRequest) -> None:
    """Raise Refused unless the head is that of a local GET request without a body."""
    headers = request.headers
    for name in _FORWARDED:
        if name in headers:
            raise Refused(403, f"Forwarded requests ({name}) are not answered.")
    if len(request.raw_path) > _LONGEST_TARGET:
        raise _too_long(request.raw_path.encode("utf-8", "surrogateescape"))
    if request.method != "GET":
        raise Refused(405, "Only GET is answered.")
    if "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0":
        raise Refused(400, "Only GET without a body is answered.")
    if request.version not in (HttpVersion10, HttpVersion11):
        raise Refused(505, "HTTP/1.1 is spoken here.")
    if not is_local(headers.get("Host", "").encode("utf-8", "surrogateescape")):
        raise Refused(403, "The Host is not local; ask localhost or 127.0.0.1.")
    if not request.raw_path.startswith("/") or not request.raw_path.isascii():
        raise Refused(400, "The target of the request must be a path, with other characters than ASCII escaped.")


def is_local(host: bytes) -> bool:
    """Return whether a Host header names this machine, with any port or none; an empty one does not."""
    name, colon, port = host.decode("latin-1").lower().rpartition(":")
    if not colon or "]" in port:
        name, port = f"{name}{colon}{port}", ""
    return name in _LOCAL_HOSTS and (port == "" or (port.isascii() and port.isdigit() and len(port) < 6))


def _too_long(head: bytes) -> Refused:
    first = head.partition(b"\r\n")[0]
    if len(first) > _LONGEST_TARGET:
        return Refused(414, f"The target of the request is longer than {_LONGEST_TARGET} bytes.")
    return Refused(431, f"The head of the request is longer than {_LONGEST_HEAD} bytes.")


def busy() -> Answer:
    return Answer(Outcome.BUSY, BEFORE, message="Too many requests are waiting; ask again in a second.")


def serving(listeners: Sequence[socket.socket], endpoint: Endpoint) -> AbstractAsyncContextManager[None]:
    """Serve on sockets that already listen; earlier connections wait in the kernel's queue."""
    return http_serving.serving(
        listeners, endpoint.answer, lambda http: _Connection(endpoint, http), endpoint.connections,
        backlog=MOST_CONNECTIONS,
    )  # fmt: skip
