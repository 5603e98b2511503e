"""What is sent, and what an answer means. Pure."""

from telemetry_forwarder.plugin import Batch, Delivered, Encoded, Limits, Record, Retry, Verdict, fit, to_json


class TcpSink:
    name = "tcp"
    limits = Limits(max_records=1_000, max_bytes=1_000_000, max_record_bytes=200_000, overhead_bytes=1)

    def encode(self, record: Record) -> Encoded:
        def with_text(text: str, is_cut: bool) -> bytes:
            return to_json({"id": record.id, "time_ms": record.time_ms, "record": text, "is_cut": is_cut})

        whole = to_json({"id": record.id, "time_ms": record.time_ms, "record": record.body})
        return fit(record, whole, self.limits.max_record_bytes, with_text)

    def request(self, batch: Batch) -> bytes:
        return b"".join(encoded.data + b"\n" for encoded in batch) + b"\n"

    def verdict(self, batch: Batch, answer: bytes) -> Verdict:
        return Delivered() if answer == b"ok\n" else Retry(detail=f"answered {answer[:100]!r}")
