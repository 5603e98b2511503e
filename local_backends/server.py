"""The base of all local backends: a listening socket, the list of requests, and the handling of faults.

A backend decides in one synchronous function (`respond`), so nothing is half stored when a client disconnects. Closing
never waits for a client: connections are aborted first, which cancels handlers that hang.
"""

import asyncio
import socket
import ssl
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, ClassVar, Self

from aiohttp import web

from local_backends.faults import (
    Answer,
    Fault,
    Faults,
    HalfAnswer,
    Hang,
    Page,
    Reset,
    Slow,
    Throttle,
    TooLarge,
    Withhold,
)

_SECRET_HEADERS = frozenset(
    {"authorization", "dd-api-key", "x-amz-security-token", "cookie", "x-honeycomb-team", "api-key", "x-license-key"}
)
_RESET_NOW = struct.pack("ii", 1, 0)  # SO_LINGER: on, zero seconds; close() then sends RST, not FIN


@dataclass(frozen=True, slots=True)
class Call:
    """One complete request: `body` as sent over the wire, `peer` the client's address."""

    method: str
    path: str
    operation: str
    query: Mapping[str, str] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    peer: str
    time: float


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a call; with `is_half` the body is cut off in the middle."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    is_half: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as a test sees it. `headers` (names in lower case) leaves out credentials.

    `size` is the body's bytes on the wire; `time` is the arrival in seconds since the epoch. `status` is None if there
    is no answer, or not yet; `answered` is when the answer was sent. `fault` is the fault that was applied.
    `is_broken_off`: the connection ended before the answer. `stored` are the indices in the backend's `kept` of what
    the request brought.
    """

    method: str
    path: str
    operation: str
    time: float
    headers: Mapping[str, str] = field(repr=False)
    size: int = 0
    status: int | None = None
    fault: Fault | None = None
    is_broken_off: bool = False
    stored: range = range(0)
    answered: float | None = None


class _OverWireLimit(Exception):
    """The body is longer than this backend reads."""


class Backend(ABC):
    """A local service on `host` and `port` (0: any free one), running within `async with`.

    `tls` is the context for https. `now` is the service's clock (seconds since the epoch), by which it judges ages.
    """

    deliveries: ClassVar[frozenset[str]]
    own_faults: ClassVar[tuple[type, ...]] = ()
    wire_limit: int = 16 * 1024 * 1024

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.faults = Faults(self.deliveries, self.own_faults)
        self.requests: list[Seen] = []
        self.now = now
        self._host = host
        self._port = port
        self._tls = tls
        self._server: web.Server | None = None
        self._listener: asyncio.Server | None = None
        self._reserved: socket.socket | None = None  # keeps the port while not listening
        self._changed = asyncio.Event()
        self._observers: list[Callable[[], None]] = []

    # --- implemented by each service ----------------------------------------------------------------------------------

    @abstractmethod
    def operation(self, request: web.BaseRequest) -> str:
        """Return the operation of a request, by its path and headers alone; it selects the fault."""

    @abstractmethod
    def respond(self, call: Call, fault: Fault | None = None) -> Reply:
        """Carry out `call` and return the answer. `fault` is one of `own_faults`, or None."""

    @abstractmethod
    def refuse(self, fault: Answer | Throttle | TooLarge, call: Call) -> Reply:
        """Return the error that `fault` asks for, in the service's own format; the request is not carried out."""

    def shown(self, path: str) -> str:
        """Return a path as the list of requests shows it: without a credential that is part of it."""
        return path

    @property
    def kept(self) -> Sequence[Any]:
        """What deliveries have stored, in order of storing; empty for a service without deliveries."""
        return ()

    # --- running ----------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port it listens on, or will listen on again. Raises RuntimeError if it is not running."""
        if self._reserved is not None:
            return int(self._reserved.getsockname()[1])
        if self._listener is None:
            raise RuntimeError(f"{type(self).__name__} is not running")
        return int(self._listener.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash. Raises RuntimeError if it is not running."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    async def start(self) -> None:
        """Start to listen. Raises OSError if the port is in use."""
        self._server = server = self._new_server()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(server, self._host, self._port, ssl=self._tls)

    async def stop_listening(self) -> None:
        """Cut every connection and refuse new ones until `listen_again`; the port remains reserved."""
        address = (self._host, self.port)
        await self._stop()
        self._reserved = reserved = socket.socket()  # bound but not listening: connections are refused
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(address)

    async def listen_again(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen on the same port after `stop_listening`; `tls` replaces the usual context.

        Raises RuntimeError if `stop_listening` was not called.
        """
        if self._reserved is None:
            raise RuntimeError(f"{type(self).__name__} has not stopped listening")
        reserved, self._reserved = self._reserved, None
        self._server = server = self._new_server()
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(server, sock=reserved, ssl=tls or self._tls)

    async def close(self) -> None:
        """Stop at once, even if requests hang. What was recorded can still be read. Closing twice is harmless."""
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        await self._stop()

    def _new_server(self) -> web.Server:
        return web.Server(self._handle, handler_cancellation=True, access_log=None, auto_decompress=False)

    async def _stop(self) -> None:
        listener, server = self._listener, self._server
        self._listener = self._server = None
        if listener is None or server is None:
            return
        listener.close()
        _abort_all(server)
        await asyncio.sleep(0)  # lets `connection_lost` cancel the handlers; else shutdown waits
        await server.shutdown(1.0)
        await listener.wait_closed()

    def drop_connections(self) -> None:
        """Cut every open connection, including idle ones, as a load balancer does; new ones are accepted."""
        if self._server is not None:
            _abort_all(self._server)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def wait_until(self, predicate: Callable[[], bool], within: float = 5.0) -> None:
        """Wait until `predicate` holds; it is evaluated after each request and each answer.

        Raises TimeoutError after `within` seconds.
        """
        async with asyncio.timeout(within):
            while not predicate():
                await self._changed.wait()

    def observe(self, observer: Callable[[], None]) -> None:
        """Call `observer` after each request and each answer. It must be quick and must not raise."""
        self._observers.append(observer)

    # --- one request ------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        operation = self.operation(request)
        fault = self.faults.take(operation)
        # Recorded before the body is read: a test also sees requests that hang or break off.
        place = self._note(request, operation, fault)
        try:
            reply = await self._answer(request, operation, fault, place)
        except asyncio.CancelledError:
            self._update(place, is_broken_off=True)
            raise
        if reply is None:
            return self._reset(request)
        if reply.is_half:
            self._update(place, is_broken_off=True)
            return await _half(request, reply)
        if request.transport is None or request.transport.is_closing():  # cut in the meantime: no answer can be sent
            self._update(place, is_broken_off=True)
            return web.Response()
        self._update(place, status=reply.status, answered=self.now())
        response = web.Response(status=reply.status, body=reply.body, headers=dict(reply.headers))
        response.headers["Content-Type"] = reply.content_type
        return response

    async def _answer(self, request: web.BaseRequest, operation: str, fault: Fault | None, place: int) -> Reply | None:
        """Read the request and answer it under `fault`; None means that the connection is reset."""
        try:
            call = await self._read(request, operation)
        except _OverWireLimit:
            return self.refuse(TooLarge(), self._call(request, operation, b""))
        self._update(place, size=len(call.body))
        return await self._play(fault, call, place)

    async def _play(self, fault: Fault | None, call: Call, place: int) -> Reply | None:
        match fault:
            case Answer() | Throttle() | TooLarge():
                if isinstance(fault, Answer) and fault.stored:
                    self._carry_out(call, place)
                return self.refuse(fault, call)
            case Hang():
                await self.faults.hang(fault.seconds)
                return self._carry_out(call, place)
            case Slow():
                reply = self._carry_out(call, place)
                await asyncio.sleep(fault.seconds)
                return reply
            case Reset():
                if fault.stored:
                    self._carry_out(call, place)
                return None
            case HalfAnswer():
                return replace(self._carry_out(call, place), is_half=True)
            case Page():
                return Reply(fault.status, b"<html><title>Gateway</title>" + b" " * fault.size, "text/html")
            case Withhold():
                outcome = await self._play(fault.then, call, place)
                await self.faults.hang(None)
                return outcome
            case _:
                return self._carry_out(call, place, fault)

    def _carry_out(self, call: Call, place: int, fault: Fault | None = None) -> Reply:
        before = len(self.kept)
        reply = self.respond(call, fault)
        self._update(place, stored=range(before, len(self.kept)))
        return reply

    def _reset(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            connection = request.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_NOW)
            request.transport.abort()
        self._notify()
        return web.Response()  # never sent: the transport is closed

    async def _read(self, request: web.BaseRequest, operation: str) -> Call:
        body = bytearray()
        async for chunk in request.content.iter_any():
            body += chunk
            if len(body) > self.wire_limit:
                raise _OverWireLimit
        return self._call(request, operation, bytes(body))

    def _call(self, request: web.BaseRequest, operation: str, body: bytes) -> Call:
        peer = request.remote or ""
        return Call(request.method, request.path, operation, request.query, request.headers, body, peer, self.now())

    # --- the list of requests -----------------------------------------------------------------------------------------

    def _note(self, request: web.BaseRequest, operation: str, fault: Fault | None) -> int:
        headers = {k.lower(): v for k, v in request.headers.items() if k.lower() not in _SECRET_HEADERS}
        path = self.shown(request.path)
        self.requests.append(Seen(request.method, path, operation, self.now(), headers, fault=fault))
        self._notify()
        return len(self.requests) - 1

    def _update(self, place: int, **changes: Any) -> None:
        self.requests[place] = replace(self.requests[place], **changes)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
        for observer in self._observers:
            observer()


async def _half(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    """Send the head of `reply`, with the full Content-Length, and half of the body; then close the connection."""
    response = web.StreamResponse(status=reply.status, headers={**reply.headers, "Content-Type": reply.content_type})
    response.content_length = len(reply.body)
    await response.prepare(request)
    await response.write(reply.body[: len(reply.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response


def _abort_all(server: web.Server) -> None:
    for connection in server.connections:
        if connection.transport is not None:
            connection.transport.abort()
