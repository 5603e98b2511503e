"""The CloudWatch sink with metrics: a metric record becomes one log event in the embedded format (EMF).

CloudWatch makes metrics of it, whatever the group. It bills each name with each set of dimensions, so there is one set
with one dimension, the function's name. What else is known is in the event, where Logs Insights finds it.
Source: CloudWatch User Guide, "Specification: Embedded metric format" and the limits of PutMetricData, read 2026-11-28.
"""

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import Encoded
from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.signals.points import attributes_of, points_of
from telemetry_forwarder.sinks.cloudwatch_logs import LIMITS, CloudWatchLogs, facts

_DIMENSION = "function_name"
_RESERVED = ("_aws", _DIMENSION, "attributes", "lambda")
_MOST_METRICS, _MOST_VALUES = 100, 100  # in a directive, and in an array
_LONGEST_NAME = 255
_LARGEST = 2.0**360
_NOT_IN_A_NAME = re.compile(r"[^ -~]")
# CloudWatch's names of units, by those of UCUM. Any other is none.
_UNITS = {
    "s": "Seconds", "ms": "Milliseconds", "us": "Microseconds", "%": "Percent", "1": "Count",
    "By": "Bytes", "kBy": "Kilobytes", "KiBy": "Kilobytes", "MBy": "Megabytes", "MiBy": "Megabytes",
    "GBy": "Gigabytes", "GiBy": "Gigabytes", "TBy": "Terabytes", "TiBy": "Terabytes",
    "bit": "Bits", "kbit": "Kilobits", "Mbit": "Megabits", "Gbit": "Gigabits", "Tbit": "Terabits",
}  # fmt: skip


class CloudWatchMetrics(CloudWatchLogs, frozen=True, kw_only=True):
    """Write log records as CloudWatchLogs does, and metric records for `namespace`, into the same group."""

    takes: ClassVar[frozenset[Signal]] = frozenset({Signal.LOG, Signal.METRIC})

    namespace: str

    def encode(self, record: Record) -> Encoded:
        """Return a log record as CloudWatchLogs does, a metric record in EMF. Raises EncodeError."""
        if record.signal is not Signal.METRIC:
            return CloudWatchLogs.encode(self, record)
        if record.time_ms < 0:
            raise EncodeError("CloudWatch takes no time before 1970")
        data = to_json(self._document(record))
        if len(data) > LIMITS.max_record_bytes:
            raise EncodeError(f"a metric record of {len(data)} bytes")
        return Encoded(record, data)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        if any(record.signal is Signal.METRIC for record in records):
            return [self.encode(record) for record in records]
        return CloudWatchLogs.encode_all(self, records)

    def _document(self, record: Record) -> dict[str, Any]:
        measured: dict[str, list[float]] = {}
        units: dict[str, str] = {}
        for point in points_of(record):
            name = _name(point.name)
            measured.setdefault(name, []).extend(map(float, point.values))
            if (unit := unit_of(point.unit)) is not None:
                units[name] = unit
        for name, values in measured.items():
            if len(values) > _MOST_VALUES or not all(abs(value) <= _LARGEST for value in values):
                raise EncodeError(f"the metric {name[:100]!r} has too many values, or one that is too large")
        if not measured:
            raise EncodeError("a metric record without points")
        metrics = [{"Name": name, "Unit": units[name]} if name in units else {"Name": name} for name in measured]
        function = record.origin.function_name
        directives = [
            {
                "Namespace": self.namespace,
                "Dimensions": [[_DIMENSION] if function else []],
                "Metrics": metrics[start : start + _MOST_METRICS],
            }
            for start in range(0, len(metrics), _MOST_METRICS)
        ]
        return {
            "_aws": {"Timestamp": record.time_ms, "CloudWatchMetrics": directives},
            _DIMENSION: function,
            **{name: values[0] if len(values) == 1 else values for name, values in measured.items()},
            **({"attributes": attributes} if (attributes := attributes_of(record)) else {}),
            "lambda": facts(record),
        }


def _name(name: str) -> str:
    """Return the name of a metric as CloudWatch takes it, other than a member that the event has anyway."""
    name = _NOT_IN_A_NAME.sub("_", name)[:_LONGEST_NAME].strip() or "_"
    return f"metric.{name}" if name in _RESERVED else name


def unit_of(unit: str) -> str | None:
    """Return CloudWatch's name of a UCUM unit; None if it has none."""
    base, slash, second = unit.partition("/")
    found = _UNITS.get(base) or ("Count" if base.startswith("{") else None)
    if found is None or not slash:
        return found
    return (
        f"{found}/Second"
        if second == "s" and found not in ("Seconds", "Milliseconds", "Microseconds", "Percent")
        else None
    )
