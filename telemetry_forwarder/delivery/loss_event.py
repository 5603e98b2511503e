"""The loss notice: a record of our own that tells a backend at the end which records were lost, by any sink.

The ledger line says it too, but only in the function's own log group, where users of another backend do not look.
The type of the record is not one of Lambda's: nobody takes it for Lambda's, and TELEMETRY_FORWARDER_TYPES does not
filter it.
"""

from _blake2 import blake2b  # not from `hashlib`, which loads OpenSSL's library
from collections.abc import Mapping
from typing import Any

from telemetry_forwarder.interfaces import DropReason
from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.records.record import Context, Origin, Record

RECORDS_LOST = "forwarder.recordsLost"


def loss_record(
    origin: Origin,
    dropped: Mapping[str, Mapping[DropReason, int]],
    *,
    time_ms: int,
    lost_before_us: int = 0,
    lost_before_us_bytes: int = 0,
) -> Record | None:
    """Return the record that lists all losses up to `time_ms` (since the epoch); None if there are none.

    `dropped` has the number of lost records by sink and reason. Records that the user wants dropped (`filtered`) are
    left out. `lost_before_us` counts the records that Lambda itself reported in `platform.logsDropped`. The id depends
    only on the arguments, so the same record can be given to every sink, and made again for a retry.
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
        index=None,
        time_ms=time_ms,
        body=body,
        fields=body,
        # Lambda's own event about its losses is a warning, too.
        context=Context(origin, RECORDS_LOST, level="error" if lost else "warn"),
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
    """Return an id with as many hexadecimal digits as the ids of all other records."""
    environment = (origin.instance_id or origin.function_name).encode("utf-8", "replace")
    return blake2b(b"%d %b %b" % (time_ms, environment, data), digest_size=14).hexdigest()
