"""From an answer as it came on the wire to an `HttpResponse`, and what is to be said where it cannot be read."""

import re
import zlib

from telemetry_forwarder.interfaces import HttpResponse

# What is read of a body, and what is unpacked of it.
LONGEST_ANSWER_BYTES = 64 * 1024

_BODILESS = (204, 304)

# A whole status line, with whatever for a reason: its three digits are what the other end decided.
_STATUS_LINE = re.compile(rb"\s*HTTP/\d(?:\.\d)?[ \t]+(\d{3})(?:[ \t][^\n]*|\r?)\n")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
# A line of a head that can be read whatever stands around it. Source: RFC 9110, section 5.6.2 (token).
_HEADER = re.compile(rb"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*\r?$", re.MULTILINE)


class Answer:
    """One answer: `headers` with lower-case names, `body` as far as it was read."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.body = bytearray()


def begun_answer(received: bytes) -> Answer | None:
    """Return what the first bytes of an answer say without its rest; None without a whole status line.

    A server says with its status what it did, and what is wrong behind that changes nothing of it. Interim answers
    (1xx) are passed over; of the head the lines that are whole and sound are read.
    """
    at = 0
    while line := _STATUS_LINE.match(received, at):
        end = _END_OF_HEAD.search(received, line.end() - 1)
        if not 100 <= int(line[1]) < 200:
            head = received[line.end() : end.start() + 1 if end else received.rfind(b"\n") + 1]
            headers = {name.decode().lower(): value.decode("latin-1") for name, value in _HEADER.findall(head)}
            return Answer(int(line[1]), headers)
        if end is None:
            return None
        at = end.end()
    return None


def read_answer(answer: Answer) -> HttpResponse:
    """Return an answer with its body unpacked, where a server compressed it although nobody asked."""
    if not (
        answer.body or {"content-length", "transfer-encoding"} & answer.headers.keys() or answer.status in _BODILESS
    ):
        return unread(answer, "the connection ended where its body should have begun")
    if answer.headers.get("transfer-encoding", "chunked").strip().lower() != "chunked":
        return unread(answer, "its body is transferred in a way that was not asked for")
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
