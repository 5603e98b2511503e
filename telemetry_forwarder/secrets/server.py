"""The endpoint on loopback: as much HTTP/1.1 as asking needs, and no more. GET, a head, no body.

Written on asyncio's protocol and not on a framework: an answer that is held is given in the same turn of the loop in
which its request came, a head that does not end or is too long costs one buffer, and whatever is not expected is
refused before anything is looked up. Source of the grammar: RFC 9112, sections 2 to 5, and RFC 9110, section 7.2.
"""

import asyncio
import hmac
import socket
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeAlias, cast

from telemetry_forwarder.clock import Moment
from telemetry_forwarder.lazy_dataclass import dataclass
from telemetry_forwarder.secrets.answers import Answer, Outcome, as_json
from telemetry_forwarder.secrets.cache import Cache
from telemetry_forwarder.secrets.routes import (
    Form,
    Page,
    Question,
    Refused,
    check_allowed,
    error_json,
    question_of,
    told,
)
from telemetry_forwarder.variables.types import Secret

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

# A name has at most 2048 characters, of which an escape may make three; a session token has up to about 2 KB.
LONGEST_TARGET = 8192
LONGEST_HEAD = 16384
# A head must be there so long after its first byte. Counted in ticks of a second: while the environment is frozen,
# however long, one tick passes at most.
HEAD_TICKS = 5
TICK_S = 1.0
# What a refused caller still sends is read and forgotten for one tick: closing at once would reset the connection, and
# the reason would not arrive.
MOST_FORGOTTEN = 4 * 1024 * 1024
# Requests that wait for an answer at once, and connections. An environment has 1024 descriptors for all its processes.
MOST_WAITING = 512
MOST_CONNECTIONS = 640

LOCAL_HOSTS = {"localhost", "127.0.0.1", "[::1]"}
# What tells that a request was made on behalf of somebody else.
FORWARDED = {b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"forwarded"}
TOKEN = b"x-aws-parameters-secrets-token"

REASONS = {
    200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 414: "URI Too Long", 429: "Too Many Requests", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip

BEFORE = Moment(0.0, 0.0)

Stats: TypeAlias = Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Who may ask for what. `tokens` None: whoever can reach the port. `allow` None: for everything."""

    tokens: tuple[Secret, ...] | None
    allow: tuple[str, ...] | None

    def admits(self, token: bytes) -> bool:
        """Compare in constant time, with every token that is valid."""
        if self.tokens is None:
            return True
        matches = [hmac.compare_digest(token, valid.reveal().encode()) for valid in self.tokens]
        return any(matches)


class Endpoint:
    """What all connections share."""

    def __init__(self, cache: Cache, guard: Guard, *, spawn: Spawn, stats: Stats) -> None:
        self.cache = cache
        self.guard = guard
        self.spawn = spawn
        self.refused = 0
        self.waiting = 0
        self.stats = stats
        # In the order in which they were last heard of.
        self.connections: OrderedDict[Connection, None] = OrderedDict()

    def admit(self, connection: "Connection") -> bool:
        """Take a new connection in; where there are too many, the one that has been silent for longest goes."""
        if len(self.connections) >= MOST_CONNECTIONS:
            idle = next((other for other in self.connections if not other.is_waiting), None)
            if idle is None:
                return False
            idle.drop()
        self.connections[connection] = None
        return True


class Connection(asyncio.Protocol):
    """One caller. Its requests are answered one after the other."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.is_waiting = False
        self._endpoint = endpoint
        self._transport: asyncio.Transport | None = None
        self._unread = b""
        self._is_leaving = False
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_full = False  # the caller does not read what it asked for
        self._has_ended = False  # the caller sends nothing more
        self._forgotten = 0

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._endpoint.admit(self):
            self._refuse(Refused(429, "There are too many connections."))

    def data_received(self, data: bytes) -> None:
        if self._is_leaving:
            self._forgotten += len(data)
            if self._forgotten > MOST_FORGOTTEN:
                self.drop()
            return
        self._endpoint.connections.move_to_end(self)
        self._unread = self._unread + data if self._unread else data
        if not self.is_waiting and not self._is_full:
            self._read_on()
        elif len(self._unread) > LONGEST_HEAD and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Keep the way back open for an answer that is still to come."""
        self._has_ended = True
        return self.is_waiting

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        if not self.is_waiting:
            self._read_on()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._unread = b""
        self._stop_timer()
        self._endpoint.connections.pop(self, None)
        if self._task is not None:
            self._task.cancel()

    # --- reading ---

    def drop(self) -> None:
        """End the connection without a word."""
        self._endpoint.connections.pop(self, None)
        if self._transport is not None:
            self._transport.abort()

    def _read_on(self) -> None:
        """Answer every request whose head is whole, until one has to wait."""
        while self._unread and self._is_ready():
            head, end, rest = self._unread.partition(b"\r\n\r\n")
            if not end:
                self._judge_unfinished(head)
                return
            self._unread = rest
            self._stop_timer()
            if len(head) > LONGEST_HEAD:
                self._refuse(too_long(head))
            else:
                self._answer(head)
        if self._transport is not None and not self._transport.is_reading() and self._is_ready():
            self._transport.resume_reading()

    def _is_ready(self) -> bool:
        return not (self.is_waiting or self._is_full or self._is_leaving or self._transport is None)

    def _judge_unfinished(self, head: bytes) -> None:
        if len(head) > LONGEST_HEAD or (b"\r\n" not in head and len(head) > LONGEST_TARGET + 32):
            self._refuse(too_long(head))
        elif self._timer is None:
            self._ticks = 0
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        self._ticks += 1
        is_late = self._ticks >= HEAD_TICKS
        if self._is_leaving and (is_late or not (self._transport and self._transport.get_write_buffer_size())):
            self.drop()
        elif self._is_leaving:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        elif is_late:
            self._refuse(Refused(408, f"The head of the request did not come to its end within {HEAD_TICKS} s."))
        else:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- answering ---

    def _answer(self, head: bytes) -> None:
        endpoint = self._endpoint
        closes = True  # what follows a head that is not understood cannot be trusted to be a request
        try:
            request = request_in(head)
            closes = request.closes
            asked = self._admitted(request)
        except Refused as refused:
            self._refuse(refused, closes=closes, is_head=head.startswith(b"HEAD "))
            return
        if isinstance(asked, Page):
            body = b'"healthy"' if asked is Page.PING else as_json(endpoint.stats())
            self._write(200, body, closes=request.closes)
        elif not asked.is_fresh and (answer := endpoint.cache.hit(asked.key)) is not None:
            self._tell(answer, asked.form, closes=request.closes)
        elif endpoint.waiting >= MOST_WAITING:
            self._tell(busy(), asked.form, closes=request.closes)
        else:
            self.is_waiting = True
            endpoint.waiting += 1
            self._task = endpoint.spawn(self._fetch(asked, closes=request.closes))
            self._task.add_done_callback(self._done)

    def _admitted(self, request: "Request") -> Question | Page:
        """Return what is asked for by somebody who may. Raises Refused."""
        asked = question_of(request.target)
        if asked is Page.PING:
            return asked
        if not self._endpoint.guard.admits(request.token):
            word = "is wrong" if request.token else "is missing"
            raise Refused(403, f"The header X-Aws-Parameters-Secrets-Token {word}; send $AWS_SESSION_TOKEN.")
        if isinstance(asked, Question):
            check_allowed(asked, self._endpoint.guard.allow)
        return asked

    async def _fetch(self, asked: Question, *, closes: bool) -> None:
        answer = Answer(Outcome.FAILED, BEFORE, message="A bug kept this from being answered. Please report it.")
        try:
            answer = await self._endpoint.cache.get(asked.key, fresh=asked.is_fresh)
        finally:  # a bug is logged by the task's owner
            self._tell(answer, asked.form, closes=closes)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.is_waiting = False
        self._task = None
        self._endpoint.waiting -= 1
        self._read_on()

    def _tell(self, answer: Answer, form: Form, *, closes: bool) -> None:
        status, body = told(answer, form)
        extra = ""
        if answer.stale_s is not None:
            extra = f"Telemetry-Forwarder-Stale: {answer.stale_s:.0f}\r\n"
        elif answer.outcome is Outcome.BUSY:
            extra = "Retry-After: 1\r\n"
        self._write(status, body, closes=closes, extra=extra)

    def _refuse(self, refused: Refused, *, closes: bool = True, is_head: bool = False) -> None:
        """Say why."""
        self._endpoint.refused += 1
        body = error_json(refused.reason)
        extra = "Allow: GET\r\n" if refused.status == 405 else ""
        self._write(refused.status, body, closes=closes, extra=extra, leaves_body_out=is_head)

    def _write(self, status: int, body: bytes, *, closes: bool, extra: str = "", leaves_body_out: bool = False) -> None:
        if self._transport is None or self._is_leaving:
            return
        closes = closes or self._has_ended
        head = (
            f"HTTP/1.1 {status} {REASONS.get(status, 'Error')}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n{extra}"
            f"{'Connection: close' if closes else 'Connection: keep-alive'}\r\n\r\n"
        ).encode()
        self._transport.write(head if leaves_body_out else head + body)
        if closes:
            self._leave(self._transport)

    def _leave(self, transport: asyncio.Transport) -> None:
        """Close our side; the caller's when it closes, or after a tick."""
        self._is_leaving = True
        self._unread = b""
        self._stop_timer()
        if self._has_ended:
            transport.close()
        else:
            transport.write_eof()
            transport.resume_reading()
            self._ticks = 0
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)


@dataclass(frozen=True, slots=True)
class Request:
    """What matters of a head."""

    target: str
    token: bytes
    closes: bool


def request_in(head: bytes) -> Request:
    """Read the head of a request, without the empty line that ends it. Raises Refused for whatever is not expected."""
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or not words[1] or not words[2].startswith(b"HTTP/"):
        raise Refused(400, "The first line is no request.")
    method, target, version = words
    host, token, connection = None, b"", b""
    for line in lines:
        name, colon, value = line.partition(b":")
        field = name.lower()
        if not colon or not name or name[:1] in b" \t" or name[-1:] in b" \t":
            raise Refused(400, "A header is malformed.")
        if field == b"host":
            if host is not None:
                raise Refused(400, "There are two Host headers.")
            host = value.strip()
        elif field == TOKEN:
            token = value.strip()
        elif field == b"connection":
            connection = value.strip().lower()
        elif field in FORWARDED:
            raise Refused(403, f"Forwarded requests ({name.decode('latin-1')}) are not answered.")
        elif field == b"transfer-encoding" or (field == b"content-length" and value.strip() != b"0"):
            raise Refused(405 if method != b"GET" else 400, "Only GET without a body is answered.")
    if len(target) > LONGEST_TARGET:
        raise too_long(first)
    if method != b"GET":
        raise Refused(405, "Only GET is answered.")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Refused(505, "HTTP/1.1 is spoken here.")
    if not is_local(host):
        raise Refused(403, "The Host is not local; ask localhost or 127.0.0.1.")
    if not target.startswith(b"/") or not target.isascii():
        raise Refused(400, "The target of the request must be a path, with other characters than ASCII escaped.")
    closes = b"close" in connection or (version == b"HTTP/1.0" and b"keep-alive" not in connection)
    return Request(target.decode(), token, closes)


def is_local(host: bytes | None) -> bool:
    """Say whether a Host header names this machine, with any port or none; one that is missing does not."""
    name, colon, port = (host or b"").decode("latin-1").lower().rpartition(":")
    if not colon or "]" in port:
        name, port = f"{name}{colon}{port}", ""
    return name in LOCAL_HOSTS and (port == "" or (port.isascii() and port.isdigit() and len(port) < 6))


def too_long(head: bytes) -> Refused:
    first = head.partition(b"\r\n")[0]
    if len(first) > LONGEST_TARGET:
        return Refused(414, f"The target of the request is longer than {LONGEST_TARGET} bytes.")
    return Refused(431, f"The head of the request is longer than {LONGEST_HEAD} bytes.")


def busy() -> Answer:
    return Answer(Outcome.BUSY, BEFORE, message="Too many requests are waiting; ask again in a second.")


@asynccontextmanager
async def serving(listeners: Sequence[socket.socket], endpoint: Endpoint) -> AsyncIterator[None]:
    """Serve on sockets that already listen; what came before this waits in the kernel's queue."""
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        for listener in listeners:
            listener.setblocking(False)
            server = await loop.create_server(lambda: Connection(endpoint), sock=listener, backlog=MOST_CONNECTIONS)
            stack.callback(server.close)
        yield
        for connection in list(endpoint.connections):
            connection.drop()
