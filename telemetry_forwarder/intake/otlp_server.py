"""The OTLP/HTTP receiver on localhost: what an OpenTelemetry SDK in the function sends becomes records.

aiohttp's low-level server, with the checks that a port of its own needs: only local POSTs to three paths, of bounded
length, in bounded time and number. A request is answered when its records are held, never before; errors are answered
in the request's own encoding, as OTLP asks for. A hostile sender costs nobody a record: its requests are refused, and
what it holds is bounded.
Source: OpenTelemetry, "OTLP/HTTP", read 2026-11-28.
"""

import asyncio
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from socket import socket
from typing import Any

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server

from telemetry_forwarder import http_serving
from telemetry_forwarder.clock import Clock
from telemetry_forwarder.errors import DecodeError
from telemetry_forwarder.intake.otlp_records import JSON, PATHS, PROTOBUF, Received, read_request, records_in
from telemetry_forwarder.log import Log
from telemetry_forwarder.otlp.fields import varint
from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.records.record import Signal

# The longest body as sent and inflated. An SDK's batch of 512 spans has about 200 KB.
LONGEST_BYTES, LONGEST_INFLATED = 4 * 1024 * 1024, 16 * 1024 * 1024
MOST_CONNECTIONS = 32
MOST_AT_ONCE = 4  # requests whose bodies are held at a time
# A body comes over loopback at once; a caller that stops in the middle is not waited for.
_BODY_S = 5.0
_REJECTED = {Signal.LOG: "rejectedLogRecords", Signal.METRIC: "rejectedDataPoints", Signal.SPAN: "rejectedSpans"}
_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})
_FORWARDED = ("X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Origin")

Take = Callable[[Signal, Sequence[Derived]], None]


class _Refused(Exception):
    """A request is refused: `status`, and a text for whoever looks at the SDK's own log."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Receiver:
    """Answers requests. `take` holds records; `is_taken` tells whether any sink takes a signal."""

    def __init__(self, take: Take, is_taken: Callable[[Signal], bool], clock: Clock, log: Log) -> None:
        self.connections: set[http_serving.Connection] = set()
        self._take = take
        self._is_taken = is_taken
        self._clock = clock
        self._log = log
        self._said: set[str] = set()
        self._at_once = 0

    async def answer(self, request: BaseRequest) -> StreamResponse:
        """Answer one request with a complete head."""
        content_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        encoding = content_type if content_type in (PROTOBUF, JSON) else JSON
        try:
            signal = _check(request, content_type)
            if self._at_once >= MOST_AT_ONCE:
                raise _Refused(503, "too many requests are being read; send it again")
            self._at_once += 1
            try:
                body = inflated(await _read(request), request.headers.get("Content-Encoding", ""))
                return _answer(200, self._held(signal, content_type, body), encoding)
            finally:
                self._at_once -= 1
        except _Refused as refused:
            self._say_once(f"An OTLP request is refused: {refused.text}.")
            response = _answer(refused.status, _status(refused.text, encoding), encoding)
            if refused.status == 503:
                response.headers["Retry-After"] = "1"
            if refused.status in (408, 413):
                response.force_close()
            return response

    def _held(self, signal: Signal, content_type: str, body: bytes) -> bytes:
        """Hold the records of a request; return the body of the answer. Raises _Refused."""
        try:
            request = read_request(signal, content_type, body)
        except DecodeError as error:
            raise _Refused(400, str(error)) from error
        found = records_in(signal, request, round(self._clock.time() * 1000))
        if not self._is_taken(signal):
            found.rejected, found.derived = found.rejected + len(found.derived), []
            found.reason = (
                f"no sink takes {signal.value}s: see TELEMETRY_FORWARDER_METRICS and TELEMETRY_FORWARDER_TRACES"
            )
        if found.derived:
            self._take(signal, found.derived)
        if found.rejected:
            self._say_once(f"OTLP: {found.rejected} {signal.value}s are rejected: {found.reason}.")
        return _partial(signal, found, content_type)

    def _say_once(self, text: str) -> None:
        if len(self._said) < 32 and text not in self._said:
            self._said.add(text)
            self._log.warning(text)


class _Connection(http_serving.Connection):
    """The connection of one SDK."""

    def __init__(self, http: Server, receiver: Receiver) -> None:
        super().__init__(http, read_bufsize=256 * 1024, auto_decompress=False)
        self._receiver = receiver

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self._receiver.connections) >= MOST_CONNECTIONS:
            self.drop()
        else:
            self._receiver.connections.add(self)

    def connection_lost(self, error: BaseException | None) -> None:
        self._receiver.connections.discard(self)
        super().connection_lost(error)


def serving(listeners: Sequence[socket], receiver: Receiver) -> AbstractAsyncContextManager[None]:
    """Serve on sockets that already listen; earlier connections wait in the kernel's queue."""
    return http_serving.serving(
        listeners, receiver.answer, lambda http: _Connection(http, receiver), receiver.connections,
        backlog=MOST_CONNECTIONS,
    )  # fmt: skip


def _check(request: BaseRequest, content_type: str) -> Signal:
    """Return the signal that a request is about. Raises _Refused unless it is a local POST of OTLP."""
    host = request.headers.get("Host", "").lower()
    name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
    if name not in _HOSTS or any(header in request.headers for header in _FORWARDED):
        raise _Refused(403, "only requests of this environment itself are taken")
    signal = PATHS.get(request.path)
    if signal is None:
        raise _Refused(404, f"the path is none of {', '.join(PATHS)}")
    if request.method != "POST":
        raise _Refused(405, "only POST is answered")
    if content_type not in (PROTOBUF, JSON):
        raise _Refused(415, f"the content type is neither {PROTOBUF} nor {JSON} (gRPC is not spoken here)")
    return signal


async def _read(request: BaseRequest) -> bytes:
    """Return the body as it was sent. Raises _Refused if it is too long, or does not come."""
    if (request.content_length or 0) > LONGEST_BYTES:
        raise _too_long()
    pieces, size = [], 0
    try:
        async with asyncio.timeout(_BODY_S):
            async for piece in request.content.iter_any():
                size += len(piece)
                if size > LONGEST_BYTES:
                    raise _too_long()
                pieces.append(piece)
    except TimeoutError:
        raise _Refused(408, f"the body did not come to its end within {_BODY_S:g} s") from None
    return b"".join(pieces)


def inflated(body: bytes, encoding: str) -> bytes:
    """Return a body without its compression. Raises _Refused."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise _Refused(415, "the content encoding is neither gzip nor none")
    unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        found = unzip.decompress(body, LONGEST_INFLATED)
    except zlib.error:
        raise _Refused(400, "the body is not gzip, or damaged") from None
    if unzip.unconsumed_tail:
        raise _too_long()
    if not unzip.eof:
        raise _Refused(400, "the body is not gzip, or torn off")
    return found


def _too_long() -> _Refused:
    return _Refused(413, f"the body has more than {LONGEST_BYTES} bytes, or {LONGEST_INFLATED} inflated")


# --- answers --------------------------------------------------------------------------------------------------------


def _answer(status: int, body: bytes, encoding: str) -> Response:
    return Response(status=status, body=body, headers={"Content-Type": encoding})


def _partial(signal: Signal, found: Received, encoding: str) -> bytes:
    """Return the body of a success, which says what was rejected."""
    if not found.rejected:
        return b"" if encoding == PROTOBUF else b"{}"
    if encoding == JSON:
        told: dict[str, Any] = {_REJECTED[signal]: str(found.rejected), "errorMessage": found.reason}
        return to_json({"partialSuccess": told})
    text = found.reason.encode()
    inner = b"\x08" + varint(found.rejected) + b"\x12" + varint(len(text)) + text
    return b"\x0a" + varint(len(inner)) + inner


def _status(text: str, encoding: str) -> bytes:
    """Return a google.rpc.Status with a message."""
    if encoding == JSON:
        return to_json({"message": text})
    data = text.encode()
    return b"\x12" + varint(len(data)) + data
