"""The loss event: a record of our own that tells a backend, at the end, what never reached it or another one.

The ledger line is in the function's own log group alone, where people who use another backend do not look. Its type is
none of Lambda's, so the router lets it pass whatever TELEMETRY_FORWARDER_TYPES says, and nobody takes it for Lambda's.
"""

from _blake2 import blake2b  # not by `hashlib`, which loads OpenSSL's library
from collections.abc import Mapping
from typing import Any

from telemetry_forwarder.interfaces import DropReason
from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.records.record import Origin, Record

RECORDS_LOST = "forwarder.recordsLost"


def loss_record(
    origin: Origin,
    dropped: Mapping[str, Mapping[DropReason, int]],
    *,
    time_ms: int,
    lost_before_us: int = 0,
    lost_before_us_bytes: int = 0,
) -> Record | None:
    """Return the record that tells of all losses up to `time_ms` (since the epoch); None where there is none.

    `dropped` has the records that each sink lost by reason; what the user asked for (`filtered`) is left out.
    `lost_before_us` counts what Lambda itself reported in `platform.logsDropped`. The id depends on the arguments
    alone, so the same record may be given to every sink, and made again for a retry.
    """
    lost = {name: found for name, reasons in dropped.items() if (found := _unintentional(reasons))}
    if not lost and not lost_before_us:
        return None
    body: dict[str, Any] = {"message": _text(lost, lost_before_us, lost_before_us_bytes), "lost": lost}
    if lost_before_us:  # named as in platform.logsDropped
        body |= {"droppedRecords": lost_before_us, "droppedBytes": lost_before_us_bytes}
    data = to_json(body)
    return Record(
        batch=_id(origin, time_ms, data),
        time_ms=time_ms,
        type=RECORDS_LOST,
        body=body,
        fields=body,
        origin=origin,
        request_id=None,
        cold_start=None,
        level="error" if lost else "warn",  # of what Lambda dropped its own event, a warning, tells first
        size_bytes=len(data),
    )


def _unintentional(reasons: Mapping[DropReason, int]) -> dict[str, int]:
    return {str(reason): count for reason, count in reasons.items() if count and not reason.is_intentional}


def _text(lost: Mapping[str, Mapping[str, int]], before_us: int, before_us_bytes: int) -> str:
    parts = []
    if lost:
        parts.append("telemetry-forwarder lost " + ", ".join(_of_sink(*entry) for entry in lost.items()))
    if before_us:
        parts.append(f"Lambda dropped {_records(before_us)} ({before_us_bytes} bytes) before telemetry-forwarder")
    return "; ".join(parts)


def _of_sink(name: str, reasons: Mapping[str, int]) -> str:
    counted = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return f"{_records(sum(reasons.values()))} for {name} ({counted if len(reasons) > 1 else next(iter(reasons))})"


def _records(count: int) -> str:
    return f"{count} record" if count == 1 else f"{count} records"


def _id(origin: Origin, time_ms: int, data: bytes) -> str:
    """Return as many hexadecimal digits as the id of any other record has."""
    environment = (origin.instance_id or origin.function_name).encode("utf-8", "replace")
    return blake2b(b"%d %b %b" % (time_ms, environment, data), digest_size=14).hexdigest()
