"""The files of the spool: a directory of our own under /tmp, with one slot for each environment on the machine.

In Lambda every environment has a /tmp to itself; elsewhere several may share one, so a slot is held by a lock that
dies with the process. Nothing is followed that another user could have put there.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Sequence

SUFFIX = ".log"
MOST_SLOTS = 1000
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class SegmentFiles:
    """The segments of one slot, as files `NUMBER.log`. Each stays open while it is there, even if the user's function
    clears /tmp. Every method may raise OSError.
    """

    def __init__(self, path: str) -> None:
        """Take a slot under `path`, which is made if it is missing; one with something in it is preferred."""
        self._open: dict[int, int] = {}
        self._path = path
        base = open_directory(path)
        try:
            self._slot, self._directory = take_slot(base)
        finally:
            os.close(base)

    def numbers(self) -> list[int]:
        return numbers_in(self._directory)

    def create(self, number: int) -> None:
        try:
            self._open[number] = self._create(number)
        except FileNotFoundError:  # the user's function cleared /tmp
            self._make_again()
            self._open[number] = self._create(number)

    def _create(self, number: int) -> int:
        flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_APPEND
        return os.open(f"{number}{SUFFIX}", flags, 0o600, dir_fd=self._directory)

    def _make_again(self) -> None:
        base = open_directory(self._path)
        try:
            directory = lock_slot(base, self._slot)
        finally:
            os.close(base)
        if directory is None:
            raise OSError(errno.EAGAIN, "its slot was removed and is taken by another process")
        os.close(self._directory)
        self._directory = directory

    def append(self, number: int, parts: Sequence[bytes]) -> None:
        """Write `parts` at the end with one call. Raises OSError, with nothing written, where the disk is full."""
        file = self._file(number)
        size = sum(map(len, parts))
        before = os.fstat(file).st_size
        written = 0
        try:
            written = os.writev(file, parts)
        finally:
            if written < size:
                os.ftruncate(file, before)
        if written < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def read(self, number: int, offset: int = 0, size: int | None = None) -> bytes:
        file = self._file(number)
        return os.pread(file, os.fstat(file).st_size - offset if size is None else size, offset)

    def cut(self, number: int, size: int) -> None:
        os.ftruncate(self._file(number), size)

    def remove(self, number: int) -> None:
        if (file := self._open.pop(number, None)) is not None:
            os.close(file)
        with contextlib.suppress(FileNotFoundError):  # as above
            os.unlink(f"{number}{SUFFIX}", dir_fd=self._directory)

    def close(self) -> None:
        """Let another process have the slot."""
        for file in (*self._open.values(), self._directory):
            os.close(file)
        self._open.clear()

    def _file(self, number: int) -> int:
        """Return the descriptor of a segment; one that an earlier process left is opened when it is needed."""
        if number not in self._open:
            flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW
            self._open[number] = os.open(f"{number}{SUFFIX}", flags, dir_fd=self._directory)
        return self._open[number]


def open_directory(path: str, *, within: int | None = None) -> int:
    """Open the directory `path`, made for us alone if it is missing. Raises OSError where it is not ours alone."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700, dir_fd=within)
    directory = os.open(path, _DIRECTORY, dir_fd=within)
    try:
        found = os.fstat(directory)
        if found.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it belongs to another user")
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.fchmod(directory, 0o700)
    except OSError:
        os.close(directory)
        raise
    return directory


def take_slot(base: int) -> tuple[int, int]:
    """Return the number of a free slot and its descriptor, locked. Raises OSError where there is none."""
    there = sorted(int(name) for name in os.listdir(base) if name.isdecimal())
    spare: list[tuple[int, int]] = []
    try:
        for number in there:
            slot = lock_slot(base, number)
            if slot is not None and numbers_in(slot):
                return number, slot  # what an environment left that has ended, most likely our own last generation
            if slot is not None:
                spare.append((number, slot))
        if spare:
            return spare.pop(0)
        for number in sorted({*range(MOST_SLOTS)} - {*there}):
            if (slot := lock_slot(base, number)) is not None:
                return number, slot
        raise OSError(errno.EAGAIN, f"all {MOST_SLOTS} slots are taken")
    finally:
        for _, other in spare:
            os.close(other)


def lock_slot(base: int, number: int) -> int | None:
    """Open a slot and lock it for as long as the descriptor is open; return None where another process has it."""
    directory = open_directory(str(number), within=base)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(directory)
        return None
    return directory


def numbers_in(directory: int) -> list[int]:
    """Return the numbers of the segments in a slot, in ascending order."""
    names = (name.removesuffix(SUFFIX) for name in os.listdir(directory) if name.endswith(SUFFIX))
    return sorted(int(name) for name in names if name.isdecimal())
