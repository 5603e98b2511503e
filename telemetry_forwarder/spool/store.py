"""The interfaces of the spool: the disk that it needs, and the readers that it notifies."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct, field

from telemetry_forwarder.interfaces import DropReason
from telemetry_forwarder.spool.segments import Segment


class Store(Protocol):
    """Stores segments by number. Every method may raise OSError."""

    def numbers(self) -> list[int]:
        """Return the numbers of all segments, in ascending order."""
        ...

    def create(self, number: int, parts: Sequence[bytes]) -> None:
        """Create a segment that begins with `parts`; on failure leave nothing."""
        ...

    def append(self, number: int, parts: Sequence[bytes], at: int) -> bool:
        """Write all of `parts` after the first `at` bytes with one call, or nothing.

        Return False if no other process will find the file. Raises OSError with ESTALE if the earlier bytes are gone.
        """
        ...

    def read(self, number: int, offset: int = 0, size: int | None = None) -> bytes: ...

    def cut(self, number: int, size: int) -> None: ...

    def replace(self, number: int, parts: Sequence[bytes]) -> None:
        """Replace the content of a segment by `parts`; on failure change nothing."""
        ...

    def remove(self, number: int) -> None: ...

    def secure(self, number: int, size: int, *, may_write: bool = True) -> None:
        """Ensure that the next process finds the first `size` bytes of a segment. Raises OSError if it will not.

        If the segment has changed it is written again, unless `may_write` is False.
        """
        ...


class Reader(Protocol):
    """Waits for the content of segments."""

    def holds(self, segment: Segment) -> bool:
        """Return whether records of `segment` are in memory and not settled."""
        ...

    def forget(self, segment: Segment, reason: DropReason) -> None:
        """Give up the records that wait in `segment`, which was removed for `reason`."""
        ...


class Counts(Struct):
    """The spool's counts in the ledger line."""

    bodies: int = 0  # written
    peak_bytes: int = 0
    failures: int = 0  # disk errors
    lost_segments: int = 0  # removed or cut by another process
    torn_bytes: int = 0  # cut off the ends of segments of earlier generations
    unclaimed: dict[str, int] = field(default_factory=dict)  # records by sink that is no longer configured
