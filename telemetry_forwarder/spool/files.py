"""The files of the spool: a directory under /tmp, with one slot (a subdirectory) for each environment on the machine.

In Lambda every environment has its own /tmp. Elsewhere several may share one, so a process holds its slot by a lock
that ends with the process. The directory may belong to anyone and is used as it is. A slot and its files are ours, and
only we have access. No link that another user could have put there is followed.

The user's function shares /tmp and may fill it, clear it or replace our files. So every call may fail, and written data
may be gone. `secure` checks that, and writes again what is still open.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SUFFIX = ".log"
_UNFINISHED = ".new"  # the suffix of a file that `replace` is still writing
_MOST_SLOTS = 1000
# The most open descriptors. A spool has fewer segments, unless hundreds of processes left one each.
MOST_OPEN = 48
# No segment of ours is this large, so another process must have put it there.
_LARGEST_BYTES = 64 * 1024 * 1024
# Errors that may pass: a full disk, an exhausted limit. The call is tried again later.
PASSING = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.EAGAIN, errno.EINTR,
    errno.ENOLCK,
})  # fmt: skip
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_RDWR | os.O_APPEND
_OLD = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW


class Kernel:
    """The system calls of the spool. Tests replace them to simulate failures."""

    close = staticmethod(os.close)
    flock = staticmethod(fcntl.flock)
    fstat = staticmethod(os.fstat)
    ftruncate = staticmethod(os.ftruncate)
    mkdir = staticmethod(os.mkdir)
    open = staticmethod(os.open)
    pread = staticmethod(os.pread)
    rename = staticmethod(os.rename)
    stat = staticmethod(os.stat)
    unlink = staticmethod(os.unlink)
    writev = staticmethod(os.writev)

    @staticmethod
    def listdir(directory: int) -> list[str]:
        return os.listdir(directory)


class _File(NamedTuple):
    """An open file: `identity` is its device and inode."""

    descriptor: int
    identity: tuple[int, int]


class SegmentFiles:
    """The segments of one slot, as files `NUMBER.log`. Every method may raise OSError.

    Up to `MOST_OPEN` files stay open, so that they can be read and written again if the function clears /tmp.
    """

    def __init__(self, path: str, kernel: Kernel | None = None) -> None:
        """Take a slot under `path`, which is created if missing; prefer a slot that contains segments.

        Raises OSError if that is impossible. After an error that may pass (a full disk), later calls try again.
        """
        self._path = path
        self._kernel = kernel or Kernel()
        self._open: dict[int, int] = {}  # descriptors by segment, least recently used first
        self._known: dict[int, tuple[int, int]] = {}  # device and inode of each segment ever opened
        self._debris: set[str] = set()  # names of incomplete files that could not be removed
        self._directory: int | None = None
        self._name = ""  # the slot's
        try:
            self._enter(is_empty=False)
        except OSError as error:
            if error.errno not in PASSING:
                raise

    def numbers(self) -> list[int]:
        """Return the numbers of all segments, in ascending order."""
        if self._directory is None:
            self._enter(is_empty=False)
        return self._numbers_in(self._slot)

    def create(self, number: int, parts: Sequence[bytes]) -> None:
        """Create a segment that begins with `parts`. On failure nothing of it is left."""
        try:
            file = self._write_new(_name(number), parts)
        except FileNotFoundError:  # the user's function cleared /tmp
            self._enter(is_empty=True)
            file = self._write_new(_name(number), parts)
        self._keep_open(number, file)

    def append(self, number: int, parts: Sequence[bytes], at: int) -> bool:
        """Write `parts` after the first `at` bytes with one call. Return whether the file still has a name.

        Raises OSError, with nothing written, if the disk is full; ESTALE if another process cut the file.
        """
        file = self._file(number)
        found = self._kernel.fstat(file)
        if found.st_size < at:
            raise OSError(errno.ESTALE, "somebody else cut its file")
        if found.st_size > at:  # the rest of a partial write that could not be undone
            self._kernel.ftruncate(file, at)
        size = sum(map(len, parts))
        written = 0
        try:
            written = self._kernel.writev(file, parts)
        finally:
            if written < size:
                self._kernel.ftruncate(file, at)
        if written < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return found.st_nlink > 0

    def read(self, number: int, offset: int = 0, size: int | None = None) -> bytes:
        file = self._file(number)
        if size is None:
            size = self._kernel.fstat(file).st_size - offset
            if size > _LARGEST_BYTES:
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        return self._kernel.pread(file, size, offset)

    def cut(self, number: int, size: int) -> None:
        self._kernel.ftruncate(self._file(number), size)

    def replace(self, number: int, parts: Sequence[bytes]) -> None:
        """Replace a segment's content by `parts` atomically: a crash leaves either the old or the new content."""
        unfinished = f"{number}{_UNFINISHED}"
        file = self._write_new(unfinished, parts)
        try:
            self._kernel.rename(unfinished, _name(number), src_dir_fd=self._slot, dst_dir_fd=self._slot)
        except OSError:
            self._close(file.descriptor)
            self._throw_away(unfinished)
            raise
        self._keep_open(number, file)

    def remove(self, number: int) -> None:
        if (file := self._open.pop(number, None)) is not None:
            self._close(file)
        self._known.pop(number, None)
        self._clear_debris()
        with contextlib.suppress(FileNotFoundError):  # as in `create`
            self._kernel.unlink(_name(number), dir_fd=self._slot)

    def secure(self, number: int, size: int, *, may_write: bool = True) -> None:
        """Ensure that the next process finds the first `size` bytes of a segment; write them again if necessary.

        Raises OSError if it will not: ESTALE if the bytes are gone, ETIME if they may not be written.
        """
        if not self._is_in_place():
            self._enter(is_empty=True)
        there = self._stat(_name(number), self._slot)
        is_same = there is not None and _identity(there) == self._known.get(number)
        if is_same and there is not None and there.st_size >= size:
            return
        if is_same or number not in self._open:
            raise OSError(errno.ESTALE, "somebody else removed its file")
        if not may_write:
            raise OSError(errno.ETIME, "somebody else removed its file, and no time is left to write it again")
        data = self._kernel.pread(self._open[number], size, 0)
        if len(data) < size:
            raise OSError(errno.ESTALE, "somebody else cut its file")
        if there is not None:
            self._kernel.unlink(_name(number), dir_fd=self._slot)
        self._keep_open(number, self._write_new(_name(number), [data]))

    def close(self) -> None:
        """Release the slot for another process."""
        for file in self._open.values():
            self._close(file)
        self._open.clear()
        if self._directory is not None:
            self._close(self._directory)
            self._directory = None

    # --- files ------------------------------------------------------------------------------------------------------

    def _write_new(self, name: str, parts: Sequence[bytes]) -> _File:
        """Create a file of `parts`. On failure nothing of it is left."""
        self._clear_debris()
        file = self._kernel.open(name, _NEW, 0o600, dir_fd=self._slot)
        try:
            identity = _identity(self._kernel.fstat(file))
            if self._kernel.writev(file, parts) < sum(map(len, parts)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._close(file)
            self._throw_away(name)
            raise
        return _File(file, identity)

    def _throw_away(self, name: str) -> None:
        """Remove an incomplete file, now or before the next file is created."""
        try:
            self._kernel.unlink(name, dir_fd=self._slot)
        except FileNotFoundError:
            pass
        except OSError:
            self._debris.add(name)

    def _clear_debris(self) -> None:
        for name in list(self._debris):
            with contextlib.suppress(FileNotFoundError):
                self._kernel.unlink(name, dir_fd=self._slot)
            self._debris.discard(name)

    def _keep_open(self, number: int, file: _File) -> None:
        """Keep a segment's descriptor. Above `MOST_OPEN`, close another one instead."""
        self._known[number] = file.identity
        if (before := self._open.pop(number, None)) is not None:
            self._close(before)
        if len(self._open) >= MOST_OPEN:
            self._close(self._open.pop(self._least_needed()))
        self._open[number] = file.descriptor

    def _least_needed(self) -> int:
        """Return the least recently used segment, if possible one that can be opened again."""
        for number, file in self._open.items():
            with contextlib.suppress(OSError):
                if self._kernel.fstat(file).st_nlink:
                    return number
        return next(iter(self._open))

    def _file(self, number: int) -> int:
        """Return the descriptor of a segment. A segment of an earlier process is opened on first use."""
        if number in self._open:
            file = self._open[number] = self._open.pop(number)
            return file
        file = self._kernel.open(_name(number), _OLD, dir_fd=self._slot)
        try:
            found = self._kernel.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "it is no file of ours")
        except OSError:
            self._close(file)
            raise
        self._keep_open(number, _File(file, _identity(found)))
        return file

    def _stat(self, name: str, directory: int | None = None) -> os.stat_result | None:
        try:
            return self._kernel.stat(name, dir_fd=directory, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _close(self, file: int) -> None:
        with contextlib.suppress(OSError):  # it is closed nevertheless. Source: close(2), "Dealing with error returns"
            self._kernel.close(file)

    # --- directories ------------------------------------------------------------------------------------------------

    @property
    def _slot(self) -> int:
        """The descriptor of our slot. The slot is taken now if that failed before."""
        if self._directory is None:
            self._enter(is_empty=True)
        assert self._directory is not None  # noqa: S101 - `_enter` raises else
        return self._directory

    def _is_in_place(self) -> bool:
        """Return whether our slot is the one that the next process will find."""
        base = self._stat(self._path)
        there = self._stat(os.path.join(self._path, self._name))
        is_directory = base is not None and stat.S_ISDIR(base.st_mode)
        return is_directory and there is not None and _identity(there) == _identity(self._kernel.fstat(self._slot))

    def _enter(self, *, is_empty: bool) -> None:
        """Take a slot: an empty one if `is_empty`, else one that contains segments if there is any."""
        base = self._open_base()
        try:
            name, directory = self._take_slot(base, is_empty=is_empty)
        finally:
            self._close(base)
        if self._directory is not None:
            self._close(self._directory)
        self._name, self._directory = name, directory
        self._debris.clear()
        self._clear_unfinished(directory)

    def _clear_unfinished(self, directory: int) -> None:
        """Remove what a process that died in `replace` left. Errors are ignored: later calls will meet them again."""
        with contextlib.suppress(OSError):
            for name in self._kernel.listdir(directory):
                if name.endswith(_UNFINISHED):
                    self._kernel.unlink(name, dir_fd=directory)

    def _open_base(self) -> int:
        """Open the directory, whoever owns it. If it or a parent is missing, create it with access for us only."""
        try:
            return self._kernel.open(self._path, _DIRECTORY)
        except FileNotFoundError:
            parts = self._path.strip("/").split("/")
            for count in range(1, len(parts) + 1):
                with contextlib.suppress(FileExistsError):
                    self._kernel.mkdir("/" + "/".join(parts[:count]), 0o700)
            return self._kernel.open(self._path, _DIRECTORY)

    def _take_slot(self, base: int, *, is_empty: bool) -> tuple[str, int]:
        """Return a free slot's name and its locked descriptor. Raises OSError if all slots are taken."""
        there = sorted(_numbers(self._kernel.listdir(base)))
        for wanted in (is_empty, True):  # a slot with segments is most likely our last generation's
            for number in there:
                if (slot := self._try_slot(base, str(number), is_empty=wanted)) is not None:
                    return str(number), slot
        taken = set(there)
        for number in range(_MOST_SLOTS):
            if number not in taken and (slot := self._lock_slot(base, str(number))) is not None:
                return str(number), slot
        raise OSError(errno.EAGAIN, f"all {_MOST_SLOTS} slots are taken")

    def _try_slot(self, base: int, name: str, *, is_empty: bool) -> int | None:
        """Lock an existing slot. Return None if it is not ours to take, or does not match `is_empty`."""
        try:
            slot = self._lock_slot(base, name)
        except OSError as error:
            if error.errno in PASSING:
                raise
            return None
        if slot is None:
            return None
        try:
            is_wanted = is_empty is not bool(self._numbers_in(slot))
        except OSError:
            self._close(slot)
            raise
        if is_wanted:
            return slot
        self._close(slot)
        return None

    def _lock_slot(self, base: int, name: str) -> int | None:
        """Open a slot and lock it for as long as the descriptor is open. Return None if another process holds it."""
        with contextlib.suppress(FileExistsError):
            self._kernel.mkdir(name, 0o700, dir_fd=base)
        directory = self._kernel.open(name, _DIRECTORY, dir_fd=base)
        try:
            if self._kernel.fstat(directory).st_uid != os.geteuid():
                raise PermissionError(errno.EPERM, "it belongs to another user")
            self._kernel.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._close(directory)
            return None
        except OSError:
            self._close(directory)
            raise
        return directory

    def _numbers_in(self, directory: int) -> list[int]:
        """Return the numbers of the segments in a slot, in ascending order."""
        names = self._kernel.listdir(directory)
        return sorted(_numbers(name.removesuffix(SUFFIX) for name in names if name.endswith(SUFFIX)))


def _name(number: int) -> str:
    return f"{number}{SUFFIX}"


def _numbers(names: Iterable[str]) -> list[int]:
    """Return the numbers among `names`, in the form in which we write them; other names are not ours."""
    digits = (name for name in names if name.isascii() and name.isdecimal() and len(name) < 18)
    return [int(name) for name in digits if str(int(name)) == name]


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
