"""The formats of a line in a stream: our own JSON, or an event of Splunk's HEC, for a stream that ends there. Pure."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from telemetry_forwarder.interfaces import Encoded
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.sinks.json_lines import encode_line, encode_lines
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import Problem

FORMATS = ("json", "hec")


class LineFormat(Protocol):
    """Encodes records as lines, of at most the bytes that a record of the stream may have."""

    def encode(self, record: Record) -> Encoded: ...

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]: ...


class JsonLines(Struct, frozen=True):
    """Lines of JSON with the same members for every record."""

    max_bytes: int

    def encode(self, record: Record) -> Encoded:
        """Return the record as one line. Raises EncodeError."""
        return encode_line(record, self.max_bytes)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        """Return each of `records` as one line. Raises EncodeError."""
        return encode_lines(records, self.max_bytes)


def format_of(name: str, max_bytes: int, values: Values) -> tuple[LineFormat, list[Problem]]:
    """Return the format `name`, and the problems of the variables that it reads."""
    if name == "json":
        return JsonLines(max_bytes), []
    from telemetry_forwarder.sinks.splunk_hec import SplunkHec  # loaded only if wanted

    said = {name: values[f"SPLUNK_{name.upper()}"] for name in ("index", "source", "sourcetype", "host")}
    names = {f"SPLUNK_{name.upper()}" for name in said}
    return SplunkHec(url="", **said), [one for one in values.problems("splunk") if one.variable in names]
