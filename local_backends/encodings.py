"""Decodes a request's `Content-Encoding`, and never inflates more bytes than allowed."""

import zlib
from collections.abc import Callable

GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS


class Corrupt(Exception):
    """The bytes are not in the encoding that the header names."""


class TooLong(Exception):
    """The body is longer than the limit."""


class Unsupported(Exception):
    """This service does not accept the encoding."""


def decoded(
    body: bytes, encoding: str, limit: int, *, accepted: frozenset[str], zstd: Callable[[bytes], bytes] | None = None
) -> bytes:
    """Return `body`, decoded from `encoding`. Raises Unsupported, Corrupt, or TooLong above `limit` bytes."""
    encoding = encoding.strip().lower() or "identity"
    if encoding not in accepted:
        raise Unsupported(encoding)
    match encoding:
        case "gzip":
            body = _inflated(body, GZIP, limit)
        case "deflate":
            body = _inflated(body, _ZLIB, limit)  # RFC 9110: the zlib format, not a bare deflate stream
        case "zstd" if zstd is not None:
            body = _unpacked(body, zstd)
    if len(body) > limit:
        raise TooLong(len(body))
    return body


def _inflated(body: bytes, wbits: int, limit: int) -> bytes:
    """Inflate one or more concatenated members, up to `limit` + 1 bytes."""
    out = bytearray()
    while body and len(out) <= limit:
        stream = zlib.decompressobj(wbits)
        try:
            out += stream.decompress(body, limit + 1 - len(out))
        except zlib.error as error:
            raise Corrupt(str(error)) from error
        if len(out) <= limit and not stream.eof:
            raise Corrupt("the stream ends too early")
        body = stream.unused_data
    return bytes(out)


def _unpacked(body: bytes, zstd: Callable[[bytes], bytes]) -> bytes:
    try:
        return zstd(body)
    except Exception as error:  # the caller's decoder may raise anything
        raise Corrupt(str(error)) from error
