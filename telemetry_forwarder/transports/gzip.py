"""Compress request bodies, as a transport around a transport."""

import asyncio
import zlib
from typing import Any
from weakref import ref

from msgspec.structs import replace

from telemetry_forwarder.interfaces import Cause, HttpRequest, HttpResponse, Transport, is_preparing, step_of, warm

# Smaller bodies fit into a packet, so compression gains nothing.
_SMALLEST_BYTES = 1024

# Measured on 1 MB of JSON log events: zlib's level 3 costs half the CPU of level 6 and gives 8 % more bytes. ISA-L's
# level 1 costs a fifth of that and gives fewer bytes, but takes 2 ms to load, so only long bodies are worth it. In a
# Lambda environment the CPU is the user's, and billed.
_ZLIB_LEVEL, _ISAL_LEVEL = 3, 1

# How much is compressed before the event loop may run other tasks: a millisecond or so.
_SLICE_BYTES = 64 * 1024

# A gzip header without a time, and a trailer; `deflate` is the zlib format. Source: `zlib`'s documentation, 16 + the
# window's size; RFC 9110, 8.4.1.2.
GZIP = 16 + zlib.MAX_WBITS
_FORMATS = {"gzip": GZIP, "deflate": zlib.MAX_WBITS}


class GzipTransport:
    """Compresses the body of each request before `inner` sends it, as `encoding`: `gzip` or `deflate`.

    The compressed form lives as long as the request object, so sending that again, even concurrently, costs nothing. A
    body under 1 KiB, one that does not shrink, and one that has a Content-Encoding are sent as they are. With `is_file`
    each body becomes a file in gzip, and no header changes.
    """

    def __init__(
        self, inner: Transport[HttpRequest, HttpResponse], encoding: str = "gzip", *, is_file: bool = False
    ) -> None:
        self._inner = inner
        self._encoding = encoding
        self._is_file = is_file
        self._compressed: dict[int, tuple[ref[HttpRequest], HttpRequest]] = {}  # by the identity of what was given

    def __repr__(self) -> str:
        return f"<GzipTransport: {len(self._compressed)} compressed>"

    async def send(self, request: HttpRequest) -> HttpResponse:
        return await self._inner.send(await self._compress(request))

    async def warm(self) -> None:
        """Prepare `inner`, if it supports that."""
        await warm(self._inner)

    def is_preparing(self) -> bool:
        """Return whether a request has not been sent yet because `inner` prepares something."""
        return is_preparing(self._inner)

    def waits_for(self) -> Cause | None:
        return step_of(self._inner)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def _compress(self, request: HttpRequest) -> HttpRequest:
        identity = id(request)
        if (known := self._compressed.get(identity)) is not None:
            return known[1]
        if self._is_file:
            compressed = replace(request, body=await _packed(request.body, GZIP))
        else:
            compressed = await compress(request, self._encoding)
        if compressed is not request:
            self._compressed[identity] = ref(request, lambda _: self._compressed.pop(identity, None)), compressed
        return compressed


async def compress(request: HttpRequest, encoding: str = "gzip") -> HttpRequest:
    """Return `request` with its body compressed, or `request` itself if that is no gain."""
    whole = request.body
    if len(whole) < _SMALLEST_BYTES or any(name.lower() == "content-encoding" for name in request.headers):
        return request
    body = await _packed(whole, _FORMATS[encoding])
    if len(body) >= len(whole):
        return request
    return replace(request, body=body, headers={**request.headers, "Content-Encoding": encoding})


async def _packed(whole: bytes, format: int) -> bytes:
    """Return `whole` compressed: equal bytes for equal bytes, since a gzip header has no time here."""
    packer, view, parts = _compressor(len(whole), format), memoryview(whole), list[bytes]()
    for at in range(0, len(whole), _SLICE_BYTES):
        if at:
            await _others()
        parts.append(packer.compress(view[at : at + _SLICE_BYTES]))
    parts.append(packer.flush())
    return b"".join(parts)


def _compressor(size_bytes: int, format: int) -> Any:
    """Return an object that compresses a body of this size into `format`, as `zlib.compressobj` does."""
    if size_bytes <= _SLICE_BYTES:
        return zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, format)
    from isal import isal_zlib  # seldom needed

    return isal_zlib.compressobj(_ISAL_LEVEL, zlib.DEFLATED, format)


async def _others() -> None:
    """Let the event loop run what is due."""
    await asyncio.sleep(0)
