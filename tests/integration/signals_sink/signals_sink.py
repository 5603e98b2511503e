"""A sink of a third party that takes all three signals: records as lines of JSON to SIGNALS_URL."""

from collections.abc import Mapping
from typing import Any

from telemetry_forwarder.plugin import (
    Batch,
    Delivered,
    Destination,
    Encoded,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
    Record,
    Retry,
    Verdict,
    to_json,
)
from telemetry_forwarder.records.record import Signal


class SignalsSink:
    name = "signals"
    takes = frozenset(Signal)
    limits = Limits(max_records=5_000, max_bytes=1_000_000, max_record_bytes=500_000, overhead_bytes=1)

    def __init__(self, url: str) -> None:
        self._url = url

    def encode(self, record: Record) -> Encoded:
        known = {
            "record_id": record.id,
            "signal": record.signal,
            "type": record.type,
            "time_ms": record.time_ms,
            "request_id": record.request_id,
            "cold_start": record.cold_start,
            "trace_id": record.context.trace_id,
            "body": record.body,
        }
        return Encoded(record, to_json(known))

    def request(self, batch: Batch) -> HttpRequest:
        return HttpRequest(url=self._url, body=b"\n".join(encoded.data for encoded in batch), headers={})

    def verdict(self, batch: Batch, response: HttpResponse) -> Verdict:
        return Delivered() if response.status == 200 else Retry(detail=f"answered {response.status}")


def create(environ: Mapping[str, str]) -> Destination[Any, Any]:
    url = environ["SIGNALS_URL"]
    return Destination(sink=SignalsSink(url), delivery=HttpDelivery(url=url, gzip=False))
