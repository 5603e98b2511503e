"""HTTP in: takes telemetry bodies from Lambda and hands them on. Bounded in time and memory, whoever connects."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import h11

# A body may be twice `maxBytes` plus metadata. Source: AWS Lambda Developer Guide, Telemetry API, buffering. It does
# not say whether before JSON's escapes: the longest line (256 KB) of control characters takes six times its length.
_METADATA_BYTES = 64 * 1024
_LONGEST_LINE_BYTES = 6 * 256 * 1024

# Connections that may wait in the kernel. Lambda opens one for each function at most.
BACKLOG = 128

# Who connects to us is Lambda, with one connection, or the function by mistake. What was never used makes way first
# where there are more than this, and together they hold no more than so many bodies of the longest kind.
MOST_CONNECTIONS = 64
MOST_HELD = 4
# A batch comes over loopback in one go: where nothing more of it came for this long, something is wrong.
STALL_S = 0.2
REQUEST_S = 10.0
LATE_S = 0.25  # a timer that comes later than this was slept through

_POST = b"POST / "
REASONS = {200: b"OK", 404: b"Not Found", 405: b"Method Not Allowed"}


class Takes(Protocol):
    """Whom a connection gives what comes."""

    def take(self, body: bytes, sequence_id: str) -> asyncio.Future[None] | None:
        """Take a body; what is returned is done when it may be answered (None: now)."""
        ...

    def refuse(self, limit: int) -> None: ...

    def interrupt(self, what: str) -> None:
        """Count a body that did not come whole, and why."""
        ...

    def on_interruption(self) -> None:
        """Note that a body has not been coming on for a while."""
        ...


def body_limit(max_bytes: int) -> int:
    """Return the most bytes that a body can have, where the subscription asks for `max_bytes`."""
    return 2 * max_bytes + _LONGEST_LINE_BYTES + _METADATA_BYTES


@asynccontextmanager
async def serve(listener: socket.socket, intake: Takes, max_bytes: int) -> AsyncIterator[None]:
    """Serve telemetry at `/` on a socket that already listens; `max_bytes` is the subscription's.

    What arrived before this is called waits in the kernel's queue. Leaving the context closes the socket. A body
    that is too long is counted and answered 200 like any other that cannot be used: Lambda would send it again and
    again, with everything else waiting behind it, the end of the invocation too.
    """
    limit = body_limit(max_bytes)
    entrances: set[Entrance] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: Entrance(intake, limit, entrances), sock=listener, backlog=BACKLOG
    )
    try:
        yield
    finally:
        server.close()
        for entrance in list(entrances):
            entrance.close()
        await asyncio.sleep(0)  # the loop closes what was aborted


class Entrance(asyncio.Protocol):
    """One connection on which telemetry comes: h11 keeps the rules of HTTP.

    A body of more than `limit` bytes is read to its end, but not kept; nor is one that finds `MOST_HELD` times as much
    held for others. A request that does not come on is a sign of trouble, and in the end is given up.
    """

    def __init__(self, intake: Takes, limit: int, entrances: "set[Entrance]") -> None:
        self._intake = intake
        self._limit = limit
        self._entrances = entrances
        self._http = h11.Connection(h11.SERVER)
        self._request: h11.Request | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_over_limit = False
        self._began_at: float | None = None  # when the first bytes came of a request that is not answered yet
        self._came_at = 0.0
        self._first = b""  # of its bytes, as many as it takes to know it
        self._timer: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._is_due = False  # a request came whole, and is answered later
        self.is_used = False  # whether a request was answered
        self.used_at = 0.0  # when the last one was, or the connection was made

    def close(self) -> None:
        self._is_closing = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_server makes no other
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self.used_at = self._loop.time()
        self._entrances.add(self)
        if len(self._entrances) > MOST_CONNECTIONS:
            min(self._entrances - {self}, key=lambda one: (one.is_used, one.used_at)).close()

    def connection_lost(self, error: Exception | None) -> None:
        self._entrances.discard(self)
        self._give_up("the connection ended")

    def data_received(self, data: bytes) -> None:
        self._came_at = self._loop.time()
        if self._began_at is None:
            self._began_at, self._first = self._came_at, data[: len(_POST)]
        self._http.receive_data(data)
        self._read()
        if self._began_at is not None and self._timer is None and not self._is_due:
            self._timer = self._loop.call_at(self._came_at + STALL_S, self._on_time)

    def eof_received(self) -> None:
        self._http.receive_data(b"")
        self._read()

    def _on_time(self) -> None:
        """Look after a request that has begun to come."""
        self._timer = None
        now = self._loop.time()
        if self._began_at is None or self._is_closing:
            return
        if now - self._came_at >= STALL_S and self._is_telemetry:
            self._intake.on_interruption()
        if now >= self._began_at + REQUEST_S:
            # A frozen environment's timer comes late, with what has come meanwhile still to be read: once more, then.
            if now - max(self._came_at, self._began_at + REQUEST_S) > LATE_S:
                self._began_at = now - REQUEST_S + STALL_S
            else:
                self._give_up("it took too long")
                self._refuse(408)
                return
        self._timer = self._loop.call_at(now + STALL_S, self._on_time)

    @property
    def _is_telemetry(self) -> bool:
        if self._request is None:
            return self._first == _POST
        return self._request.method == b"POST" and _path(self._request) == b"/"

    def _give_up(self, what: str) -> None:
        """Note that the request that was coming is not going to be answered as one."""
        if self._began_at is not None and self._is_telemetry and not self._is_closing:
            self._intake.interrupt(what)
        self._rest()

    def _rest(self) -> None:
        """Hold nothing of a request any more."""
        self._request, self._pieces, self._size, self._is_over_limit = None, [], 0, False
        self._stop_timer()

    def _stop_timer(self) -> None:
        """Note that nothing more of a request has to come."""
        self._began_at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _read(self) -> None:
        """Take what has come, request by request."""
        try:
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._encourage()
                    return
                if not isinstance(event, h11.Event) or isinstance(event, h11.ConnectionClosed):
                    return  # it is over, or the answer to the request before is not sent yet
                self._take(event)
        except h11.RemoteProtocolError as error:
            self._give_up("it is no sound HTTP")
            self._refuse(error.error_status_hint)

    def _take(self, event: h11.Event) -> None:
        if isinstance(event, h11.Request):
            self._request, self._pieces, self._size, self._is_over_limit = event, [], 0, False
            self._began_at = self._began_at or self._came_at
        elif isinstance(event, h11.Data):
            self._hold(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage) and self._request is not None:
            self._stop_timer()
            status, text, due = self._handle(self._request)
            if due is None:
                self._answer(status, text)
            else:
                self._is_due = True
                due.add_done_callback(self._answer_late)

    def _answer_late(self, due: asyncio.Future[None]) -> None:
        self._is_due = False
        if not self._transport.is_closing():
            self._answer(200, "")
            self._read()

    def _hold(self, piece: bytes) -> None:
        held = sum(one._size for one in self._entrances) if self._pieces else 0
        self._is_over_limit |= self._size + len(piece) > self._limit or held > MOST_HELD * self._limit
        if self._is_over_limit:
            self._pieces.clear()
            self._size = 0
        else:
            self._size += len(piece)
            self._pieces.append(piece)

    def _handle(self, request: h11.Request) -> tuple[int, str, asyncio.Future[None] | None]:
        """Deal with a whole request; return status and text of the answer, and what is done when it is due."""
        due = None
        if _path(request) != b"/":
            return 404, "telemetry is taken at /\n", None
        if request.method != b"POST":
            return 405, "telemetry is sent with POST\n", None
        if self._is_over_limit:
            self._intake.refuse(self._limit)
        else:
            body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
            sequence_id = next((value for name, value in request.headers if name == b"sequence-id"), b"")
            self._pieces = []
            due = self._intake.take(bytes(body), sequence_id.decode("latin-1"))
        return 200, "", due

    def _answer(self, status: int, text: str) -> None:
        headers = [("Content-Length", str(len(text)))]
        if text:
            headers.append(("Content-Type", "text/plain"))
        if status == 405:
            headers.append(("Allow", "POST"))
        parts = [self._http.send(h11.Response(status_code=status, headers=headers, reason=REASONS[status]))]
        if text and self._request is not None and self._request.method != b"HEAD":
            parts.append(self._http.send(h11.Data(data=text.encode())))
        parts.append(self._http.send(h11.EndOfMessage()))
        self._transport.write(b"".join(part for part in parts if part))
        self._rest()
        self.is_used, self.used_at = True, self._came_at
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self._transport.close()

    def _encourage(self) -> None:
        """Say that the body may come, where a client waits to be told."""
        if self._http.they_are_waiting_for_100_continue:
            go_on = self._http.send(h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue"))
            self._transport.write(go_on or b"")

    def _refuse(self, status: int) -> None:
        """Answer what is no HTTP, or does not come, as far as that can be done, and hang up."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head = h11.Response(status_code=status, headers=[("Content-Length", "0"), ("Connection", "close")])
            self._transport.write((self._http.send(head) or b"") + (self._http.send(h11.EndOfMessage()) or b""))
        self._transport.close()


def _path(request: h11.Request) -> bytes:
    return request.target.partition(b"?")[0]
