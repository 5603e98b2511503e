"""What the spool needs of a disk, and what whoever reads from the spool is told."""

from collections.abc import Sequence
from typing import Protocol

from telemetry_forwarder.interfaces import DropReason
from telemetry_forwarder.lazy_dataclass import dataclass, field
from telemetry_forwarder.spool.segments import Segment


class Store(Protocol):
    """Where segments are kept, by number. Every method may raise OSError."""

    def numbers(self) -> list[int]:
        """Return the numbers of all segments, in ascending order."""
        ...

    def create(self, number: int, parts: Sequence[bytes]) -> None:
        """Make a segment that begins with `parts`, or nothing."""
        ...

    def append(self, number: int, parts: Sequence[bytes], at: int) -> bool:
        """Write all of `parts` behind the first `at` bytes with one call, or nothing of them.

        Return False where nobody else will find what is written. OSError with ESTALE: what was there before is gone.
        """
        ...

    def read(self, number: int, offset: int = 0, size: int | None = None) -> bytes: ...

    def cut(self, number: int, size: int) -> None: ...

    def replace(self, number: int, parts: Sequence[bytes]) -> None:
        """Put `parts` in the place of what a segment holds, or nothing of them."""
        ...

    def remove(self, number: int) -> None: ...

    def secure(self, number: int, size: int, *, may_write: bool = True) -> None:
        """See to it that the next process finds the first `size` bytes of a segment. OSError: it will not.

        Where it is not as it was, it is written again, if that is allowed.
        """
        ...


class Reader(Protocol):
    """Who waits for what is in a segment."""

    def holds(self, segment: Segment) -> bool:
        """Say whether something of it is in memory and not settled."""
        ...

    def forget(self, segment: Segment, reason: DropReason) -> None:
        """Give up what waits there: it is gone for `reason`."""
        ...


@dataclass(slots=True)
class Counts:
    """What the ledger's line says of the spool."""

    bodies: int = 0  # written
    peak_bytes: int = 0
    failures: int = 0  # of the disk
    lost_segments: int = 0  # removed or cut by somebody else
    torn_bytes: int = 0  # at the end of what an earlier generation left
    unclaimed: dict[str, int] = field(default_factory=dict)  # records of sinks that are not configured any more
