"""From an answer as it came on the wire to an `HttpResponse`, and what is to be said where it cannot be read."""

import zlib

from telemetry_forwarder.interfaces import HttpResponse
from telemetry_forwarder.transports.http11 import Answer

# What is read of a body, and what is unpacked of it.
LONGEST_ANSWER_BYTES = 64 * 1024

BODILESS = (204, 304)


def read_answer(answer: Answer) -> HttpResponse:
    """Return an answer with its body unpacked, where a server compressed it although nobody asked."""
    if not (
        answer.body or {"content-length", "transfer-encoding"} & answer.headers.keys() or answer.status in BODILESS
    ):
        return unread(answer, "the connection ended where its body should have begun")
    packing = answer.headers.get("content-encoding", "").strip().lower()
    if packing in ("", "identity") or not answer.body:
        return HttpResponse(status=answer.status, body=bytes(answer.body), headers=answer.headers)
    if packing not in ("gzip", "x-gzip", "deflate"):
        return unread(answer, "its body is packed in a way that was not asked for")
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 32)
    try:
        body = unpacker.decompress(answer.body, LONGEST_ANSWER_BYTES)
    except zlib.error:
        return unread(answer, f"its body is no {packing}")
    is_whole = unpacker.eof or LONGEST_ANSWER_BYTES in (len(answer.body), len(body))
    reason = "" if is_whole else "its packed body is cut short"
    return HttpResponse(status=answer.status, body=body, headers=answer.headers, unreadable=reason)


def unread(answer: Answer, reason: str) -> HttpResponse:
    """Return an answer of which no more came than this, or could be read; a packed body is left out."""
    body = b"" if "content-encoding" in answer.headers else bytes(answer.body)
    return HttpResponse(status=answer.status, body=body, headers=answer.headers, unreadable=reason)
