"""The trailers of a streamed response: aiohttp discards them, so a protocol in front of it keeps the last bytes.

A runtime that fails in the middle of a stream reports the error in trailers, after the last chunk. Source: AWS docs
"Using the Lambda runtime API for custom runtimes"; docs/fidelity.md, section 4.
"""

import asyncio
import base64
import binascii
from collections.abc import Callable
from weakref import WeakKeyDictionary

ERROR_TYPE = "lambda-runtime-function-error-type"
_ERROR_BODY = "lambda-runtime-function-error-body"

_KEPT_BYTES = 64 * 1024  # trailers are far smaller
_tails: "WeakKeyDictionary[asyncio.BaseTransport, Tail]" = WeakKeyDictionary()


class Tail(asyncio.Protocol):
    """A protocol that passes everything on to `inner` and keeps the last bytes received."""

    def __init__(self, inner: asyncio.Protocol) -> None:
        self._inner = inner
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        _tails[transport] = self
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self.data = (self.data + data)[-_KEPT_BYTES:] if len(data) < _KEPT_BYTES else data[-_KEPT_BYTES:]
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


def with_tail(factory: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
    """Return a protocol factory whose connections keep the last bytes they received."""
    return lambda: Tail(factory())


def trailers_of(transport: asyncio.BaseTransport | None) -> dict[str, str]:
    """Return the trailers of the chunked request just read from this connection, with lower-case names."""
    tail = _tails.get(transport) if transport is not None else None
    return parse(tail.data) if tail is not None else {}


def parse(data: bytes) -> dict[str, str]:
    """Return the trailers at the end of a chunked message."""
    # Trailer values hold no line ends, so the last empty chunk in the data is the one that ends the body.
    _, ends, rest = data.rpartition(b"\r\n0\r\n")
    rows = rest.split(b"\r\n\r\n")[0].split(b"\r\n") if ends else []
    pairs = (row.decode("latin-1").partition(":") for row in rows if row)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def error_body(trailers: dict[str, str]) -> bytes:
    """Return the error in the trailers, decoded from base64; if it is not base64, return it unchanged."""
    given = trailers.get(_ERROR_BODY, "")
    try:
        return base64.b64decode(given, validate=True)
    except binascii.Error:
        return given.encode()
