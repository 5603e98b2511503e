"""What a replay remembers, as a protocol: which records of which parcel a destination has taken.

There are two: a file on the machine of the command (`file_journal`), and objects in S3 that many workers share
(`s3_journal`).
"""

from collections.abc import Iterable
from typing import Protocol


class JournalError(Exception):
    """The journal cannot be used; the text names its place and says why."""


class InUse(Exception):
    """Another worker has this parcel now, for `seconds` at most."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"another worker sends it, for {seconds:.0f} s at most")
        self.seconds = seconds


class Journal(Protocol):
    """What was sent to one destination, by the digest of a parcel and the numbers of its lines, from 0.

    A parcel is opened before anything else is asked or noted about it. What was noted is safe when `save` has returned.
    """

    async def open(self, digest: str) -> None:
        """Read what is known of a parcel, and claim it where others may want it. Raises InUse, JournalError."""
        ...

    def is_done(self, digest: str) -> bool:
        """Return whether the parcel `digest` has nothing left to send."""
        ...

    def sent(self, digest: str) -> frozenset[int]:
        """Return the numbers of the lines that were sent of a parcel that is not done."""
        ...

    def note_sent(self, digest: str, numbers: Iterable[int]) -> None:
        """Note that lines of a parcel were sent. Raises JournalError."""
        ...

    def note_done(self, digest: str) -> None:
        """Note that a parcel has nothing left to send. Raises JournalError."""
        ...

    async def save(self) -> None:
        """Make sure of what was noted. Raises JournalError."""
        ...


def runs(numbers: Iterable[int]) -> list[list[int]]:
    """Return the runs of consecutive numbers in ascending `numbers`, each as [first, last]."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
