"""What becomes of metric lines in one sink, as TELEMETRY_FORWARDER_METRIC_LINES says: a sink around the sink.

keep     a line goes as it is; CloudWatch, which would count it a second time, changes it by itself
strip    EMF loses its directives (`_aws`), which are most of its bytes, and is an ordinary JSON line
drop     it is not sent
metrics  its metrics are sent, and it is not; CloudWatch is sent a line in EMF as it is, and makes them itself
"""

from collections.abc import Mapping
from typing import Any, TypeAlias, cast

from msgspec.structs import replace

from telemetry_forwarder.errors import FilteredOut
from telemetry_forwarder.interfaces import Destination, Encoded, taken_by
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.signals.metric_lines import ABOUT, EMF, SOURCES, form_of
from telemetry_forwarder.variables.table import Problem
from telemetry_forwarder.variables.wording import Notice


class MetricLineSink:
    """`sink` with a mode. What it has beside `encode`, it has here."""

    def __init__(self, sink: Any, mode: str) -> None:
        self._sink = sink
        self._mode = mode
        self._extracts = extracts(sink)
        if hasattr(sink, "encode_all"):
            self.encode_all = self._encode_all

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    def encode(self, record: Record) -> Encoded:
        """Return `record` as the sink does, perhaps changed. Raises FilteredOut if the user wants it not sent."""
        changed = self._changed(record)
        encoded: Encoded = self._sink.encode(changed)
        return encoded if changed is record else Encoded(record, encoded.data, encoded.is_cut)

    def _encode_all(self, records: list[Record]) -> list[Encoded]:
        changed = [self._changed(record) for record in records]
        found: list[Encoded] = self._sink.encode_all(changed)
        return [
            encoded if encoded.record is record else Encoded(record, encoded.data, encoded.is_cut)
            for encoded, record in zip(found, records, strict=True)
        ]

    def _changed(self, record: Record) -> Record:
        if record.signal is Signal.METRIC:
            return self._wanted(record)
        form = form_of(record)
        if form is None or self._mode == "keep" or (form == EMF and self._mode == "metrics" and self._extracts):
            return record
        if self._mode == "strip":
            return _stripped(record) if form == EMF else record
        raise FilteredOut(f"a metric line ({form})")

    def _wanted(self, record: Record) -> Record:
        """Return a metric record. Raises FilteredOut if it was made of a line, for another sink than this."""
        source = record.fields.get("source") if record.fields else None
        if source in SOURCES and (self._mode != "metrics" or (source == EMF and self._extracts)):
            raise FilteredOut(f"a metric of a line ({source})")
        return record


def _stripped(record: Record) -> Record:
    fields = {name: value for name, value in (record.fields or {}).items() if name != ABOUT}
    return replace(record, body=fields, fields=fields)


def extracts(sink: Any) -> bool:
    """Return whether a sink's destination makes metrics of EMF by itself."""
    return bool(getattr(sink, "extracts_emf", False))


Destinations: TypeAlias = tuple[Destination[Any, Any], ...]


def with_modes(
    found: Mapping[str, Destinations], modes: Mapping[str, str], problems: list[Problem]
) -> tuple[dict[str, Destinations], bool]:
    """Return the destinations of each sink with its mode, and whether metric records are to be made of lines.

    What cannot be done is appended to `problems`.
    """
    modes = {name: _possible(name, found[name], mode, problems) for name, mode in modes.items()}
    is_converted = any(mode == "metrics" and any(map(_takes_metrics, found[name])) for name, mode in modes.items())
    changed = {
        name: tuple(_with_mode(destination, modes[name], is_converted) for destination in destinations)
        for name, destinations in found.items()
    }
    return changed, is_converted


def _possible(name: str, destinations: Destinations, mode: str, problems: list[Problem]) -> str:
    """Return the mode, or `keep` if metrics cannot be sent: then lines that are dropped for them would be lost."""
    if mode != "metrics" or any(_takes_metrics(one) or extracts(one.sink) for one in destinations):
        return mode
    text = (
        f"wants metric lines to become metrics in {name}, which is sent none: TELEMETRY_FORWARDER_METRICS has to be "
        f"`on` or name `{name}`. Its lines are kept."
    )
    problems.append(Notice("TELEMETRY_FORWARDER_METRIC_LINES", text, is_wrong=True))
    return "keep"


def _takes_metrics(destination: Destination[Any, Any]) -> bool:
    return Signal.METRIC in taken_by(destination.sink)


def _with_mode(destination: Destination[Any, Any], mode: str, is_converted: bool) -> Destination[Any, Any]:
    """Return a destination with a mode, or itself if nothing is to be changed in it."""
    takes, it_extracts = taken_by(destination.sink), extracts(destination.sink)
    # A sink that extracts and takes no metric records has nothing to make of the other form.
    is_left_to_it = mode == "metrics" and it_extracts and Signal.METRIC not in takes
    changes_lines = Signal.LOG in takes and mode != "keep" and not is_left_to_it
    leaves_metrics_out = Signal.METRIC in takes and is_converted and (mode != "metrics" or it_extracts)
    if not changes_lines and not leaves_metrics_out:
        return destination
    return replace(destination, sink=cast("Any", MetricLineSink(destination.sink, mode)))
