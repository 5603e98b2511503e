"""The content of a parcel: its records, each with its place in it. Pure."""

from msgspec import Struct
from msgspec.structs import asdict

from telemetry_forwarder.failover.parcels import NotReadable, digest_of, from_line, unpack
from telemetry_forwarder.records.record import Record


class Placed(Record, frozen=True, kw_only=True):
    """A record with its place in the store: the digest of its parcel and the number of its line in it."""

    parcel: str
    number: int


class Content(Struct, frozen=True):
    """The content of a parcel: its records, and the number and fault of each line that is no record (`aliens`)."""

    digest: str
    bytes: int  # of its lines
    records: tuple[Placed, ...]
    aliens: tuple[tuple[int, str], ...]

    @property
    def lines(self) -> int:
        return len(self.records) + len(self.aliens)


def read(data: bytes) -> Content:
    """Return the content of a parcel's bytes. Raises NotReadable if they cannot be unpacked."""
    lines = unpack(data)
    digest = digest_of(lines)
    records, aliens = [], []
    for number, line in enumerate(lines.splitlines()):
        try:
            records.append(Placed(**asdict(from_line(line)), parcel=digest, number=number))
        except NotReadable as error:
            aliens.append((number, str(error)))
    return Content(digest, len(lines), tuple(records), tuple(aliens))
