"""A sink of a third party, complete: records as lines of JSON to any HTTP address (NDJSON_URL)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from telemetry_forwarder.errors import ConfigError, EncodeError
from telemetry_forwarder.interfaces import (
    Batch,
    Delivered,
    Denied,
    Destination,
    Encoded,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
    Rejected,
    Retry,
    TooLarge,
    Verdict,
)
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.variables.table import Problem
from telemetry_forwarder.variables.types import Url

LIMITS = Limits(max_records=5_000, max_bytes=1_000_000, max_record_bytes=500_000, overhead_bytes=1)


@dataclass(frozen=True, slots=True)
class NdjsonSink:
    url: str
    name: str = "ndjson"
    limits: Limits = field(default=LIMITS)

    def encode(self, record: Record) -> Encoded:
        line = {"record_id": record.id, "time_ms": record.time_ms, "type": record.type, "request_id": record.request_id}
        try:
            data = orjson.dumps({**line, "record": record.body})
            if len(data) <= self.limits.max_record_bytes:
                return Encoded(record, data)
            text = record.body if isinstance(record.body, str) else orjson.dumps(record.body).decode()
            # A character takes at most six bytes of JSON, so a twelfth of the limit is always within it.
            return Encoded(
                record, orjson.dumps({**line, "cut": True, "record": text[: LIMITS.max_record_bytes // 12]}), True
            )
        except TypeError as error:
            raise EncodeError(f"a record of type {record.type} is no JSON: {error}") from error

    def request(self, batch: Batch) -> HttpRequest:
        body = b"".join(encoded.data + b"\n" for encoded in batch)
        return HttpRequest(url=self.url, body=body, headers={"Content-Type": "application/x-ndjson"})

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
