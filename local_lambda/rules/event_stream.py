"""The encoding `application/vnd.amazon.eventstream`, in which the Lambda API streams a response. Pure.

Source: AWS docs "Amazon event stream encoding", Lambda API Reference, InvokeWithResponseStream.
"""

import struct
import zlib
from collections.abc import Mapping

_TEXT = 7  # the type of a header's value
_FRAME = 16  # the two lengths, their checksum, and that of the whole


def payload_chunk(data: bytes) -> bytes:
    """Return a piece of the function's response as an event."""
    return _event("PayloadChunk", "application/octet-stream", data)


def invoke_complete(details: bytes) -> bytes:
    """Return the last event; `details` is a JSON object that may have ErrorCode, ErrorDetails and LogResult."""
    return _event("InvokeComplete", "application/json", details)


def _event(kind: str, content_type: str, payload: bytes) -> bytes:
    headers = _headers({":event-type": kind, ":content-type": content_type, ":message-type": "event"})
    prelude = struct.pack(">II", _FRAME + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


def _headers(headers: Mapping[str, str]) -> bytes:
    return b"".join(
        bytes([len(name)]) + name.encode() + struct.pack(">BH", _TEXT, len(value)) + value.encode()
        for name, value in headers.items()
    )
