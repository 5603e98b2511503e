"""A sink of a third party, complete: records as lines of JSON to any HTTP address (NDJSON_URL)."""

from collections.abc import Mapping
from typing import Any

from telemetry_forwarder.plugin import (
    Batch,
    ConfigError,
    Delivered,
    Denied,
    Destination,
    Encoded,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
    Problem,
    Record,
    Rejected,
    Retry,
    TooLarge,
    Url,
    Verdict,
    fit,
    to_json,
)


class NdjsonSink:
    name = "ndjson"
    limits = Limits(max_records=5_000, max_bytes=1_000_000, max_record_bytes=500_000, overhead_bytes=1)

    def __init__(self, url: str) -> None:
        self._url = url

    def encode(self, record: Record) -> Encoded:
        line = {"record_id": record.id, "time_ms": record.time_ms, "type": record.type, "request_id": record.request_id}

        def with_text(text: str, is_cut: bool) -> bytes:
            return to_json({**line, "cut": is_cut, "record": text})

        return fit(record, to_json({**line, "record": record.body}), self.limits.max_record_bytes, with_text)

    def request(self, batch: Batch) -> HttpRequest:
        body = b"".join(encoded.data + b"\n" for encoded in batch)
        return HttpRequest(url=self._url, body=body, headers={"Content-Type": "application/x-ndjson"})

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        if 200 <= response.status < 300:
            return Delivered()
        if response.status == 413:
            return TooLarge()
        if response.status in (401, 403) or response.status < 400:
            return Denied(f"answered {response.status}")
        if response.status in (408, 429) or response.status >= 500:
            return Retry(detail=f"answered {response.status}")
        return Rejected(f"answered {response.status}")


def create(environ: Mapping[str, str]) -> Destination[Any, Any]:
    """Return the destination that `environ` describes. Raises ConfigError where NDJSON_URL is no URL."""
    kind, given = Url(), environ.get("NDJSON_URL", "")
    try:
        url = kind.read(given)
    except ValueError as error:
        problem = Problem("NDJSON_URL", repr(given), kind.allowed, "Sink ndjson does not run without it.")
        raise ConfigError([problem]) from error
    return Destination(sink=NdjsonSink(url), delivery=HttpDelivery(url=url))
