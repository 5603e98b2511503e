"""Records as JSON objects for any receiver of JSON by HTTP: each batch is one request, as NDJSON or as an array."""

from collections.abc import Sequence
from hashlib import sha256
from typing import ClassVar

from msgspec import Struct

from telemetry_forwarder.foreign import is_page
from telemetry_forwarder.interfaces import (
    Batch,
    Delivered,
    Encoded,
    HttpRequest,
    HttpResponse,
    Limits,
    Retry,
    Verdict,
)
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.sinks.http_answers import Advice, not_theirs, read_status, taken_unread, wait_seconds
from telemetry_forwarder.sinks.json_objects import JsonObjects

# Loki's 260 is among the successes of HTTP, but stores nothing.
SUCCESS = ((200, 259), (261, 299))


class JsonRequests(Struct, frozen=True, kw_only=True):
    """Send records as JSON objects to `url`.

    A body is the objects as lines, or where `opening` is not empty between that and `closing`, with commas.
    """

    name: ClassVar[str] = "http"

    url: str
    method: str = "POST"
    opening: bytes = b""
    closing: bytes = b""
    content_type: str = "application/x-ndjson"
    id_header: str = ""
    success: tuple[tuple[int, int], ...] = SUCCESS
    retry: tuple[tuple[int, int], ...] = ()
    is_code_enough: bool = False  # the user has said which codes are a success
    limits: Limits
    objects: JsonObjects
    advice: Advice

    def encode(self, record: Record) -> Encoded:
        return self.objects.encode(record)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        return self.objects.encode_all(records)

    def request(self, batch: Batch) -> HttpRequest:
        objects = [encoded.data for encoded in batch]
        if self.opening:
            body = b"".join((self.opening, b",".join(objects), self.closing))
        else:
            body = b"".join((b"\n".join(objects), b"\n"))
        headers = {"content-type": self.content_type}
        if self.id_header:
            headers[self.id_header] = sha256(body).hexdigest()[:32]
        return HttpRequest(url=self.url, body=body, headers=headers, method=self.method)

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        """Return what a response means for `batch`, by its status; of a success a page is none."""
        if _is_in(response.status, self.success):
            if not self.is_code_enough and is_page(response.body, response.headers):
                return not_theirs(response, self.advice)
            return taken_unread(response) or Delivered()
        if _is_in(response.status, self.retry):
            return Retry(after=wait_seconds(response.headers, "retry-after"), detail=f"HTTP {response.status}")
        return read_status(response, self.advice)


def _is_in(status: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(low <= status <= high for low, high in ranges)
