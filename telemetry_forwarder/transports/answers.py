"""Convert an answer as received to an `HttpResponse`, with the reason if its body cannot be read."""

import re
import zlib

from telemetry_forwarder.interfaces import HttpResponse

# The most bytes that are read of a body, and that are unpacked from it, unless a transport is told otherwise.
LONGEST_ANSWER_BYTES = 64 * 1024

_BODILESS = (204, 304)

# A whole status line with any reason phrase: the three digits are what the server decided.
_STATUS_LINE = re.compile(rb"\s*HTTP/\d(?:\.\d)?[ \t]+(\d{3})(?:[ \t][^\n]*|\r?)\n")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
# A valid header line, whatever the lines around it. Source: RFC 9110, section 5.6.2 (token).
_HEADER = re.compile(rb"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*\r?$", re.MULTILINE)


class Answer:
    """One answer: `headers` with lower-case names, `body` as far as it was read."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.body = bytearray()


def begun_answer(received: bytes) -> Answer | None:
    """Return what the first bytes of an incomplete answer tell; None without a whole status line.

    The status tells what the server did, and damage after it does not change that. Interim answers (1xx) are skipped.
    Of the head, the lines that are whole and valid are read.
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


def read_answer(answer: Answer, most: int = LONGEST_ANSWER_BYTES) -> HttpResponse:
    """Return an answer with at most `most` bytes of its body, unpacked, because some servers compress it unasked."""
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
        body = unpacker.decompress(answer.body, most)
    except zlib.error:
        return unread(answer, f"its body is no {packing}")
    is_whole = unpacker.eof or most in (len(answer.body), len(body))
    reason = "" if is_whole else "its packed body is cut short"
    return HttpResponse(status=answer.status, body=body, headers=answer.headers, unreadable=reason)


def unread(answer: Answer, reason: str) -> HttpResponse:
    """Return an answer that is incomplete or cannot be read further; a packed body is omitted."""
    body = b"" if "content-encoding" in answer.headers else bytes(answer.body)
    return HttpResponse(status=answer.status, body=body, headers=answer.headers, unreadable=reason)
