"""`--watch`: which files are watched, and what must not be used again after one changed."""

import contextlib
import importlib.util
import os
import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from pathlib import Path

from watchfiles import Change, DefaultFilter, awatch

_CACHE = Path(importlib.util.cache_from_source("module.py")).parent.name


def changes(
    folders: Iterable[Path], files: Iterable[Path], written: Iterable[Path]
) -> Sequence[AsyncIterator[list[str]]]:
    """Yield the paths that changed, in whole directories and of single files.

    What this process prints is no change, nor are the files that it has `written`.
    """
    single = {path.absolute() for path in files}
    own = _identities(written)
    everywhere = DefaultFilter()
    found = [_changes(sorted(set(folders)), lambda kind, path: everywhere(kind, path) and not _is(path, own), True)]
    if single:
        # Editors replace a file by a new one of the same name, so its directory must be watched.
        parents = sorted({path.parent for path in single})
        found.append(_changes(parents, lambda _, path: Path(path) in single, False))
    return found


async def _changes(
    folders: Sequence[Path], wanted: Callable[[Change, str], bool], recursive: bool
) -> AsyncIterator[list[str]]:
    async for found in awatch(*folders, watch_filter=wanted, recursive=recursive):
        yield sorted(path for _, path in found)


def _identities(written: Iterable[Path]) -> set[tuple[int, int]]:
    """Return which files our own lines go to: one of them in a watched directory would make us start again for ever."""
    numbers = set()
    for one in (sys.stdout, sys.stderr, *written):
        with contextlib.suppress(OSError, ValueError):  # it is closed, no file, or not there yet
            state = os.stat(one) if isinstance(one, Path) else os.fstat(one.fileno())
            numbers.add((state.st_dev, state.st_ino))
    return numbers


def _is(path: str, files: Collection[tuple[int, int]]) -> bool:
    try:
        state = os.stat(path)
    except OSError:
        return False
    return (state.st_dev, state.st_ino) in files


def forget_bytecode(paths: Iterable[str]) -> None:
    """Remove the bytecode that Python keeps of changed source files.

    Python takes it for current as long as size and modification time in whole seconds are the same, so of two edits of
    one size within a second the first would stay in force. Source: PEP 552, and `importlib`'s documentation.
    """
    for path in map(Path, paths):
        if path.suffix == ".py":
            for cached in (path.parent / _CACHE).glob(f"{_literal(path.stem)}.*.pyc"):
                with contextlib.suppress(OSError):  # another process was faster, or the directory is read-only
                    cached.unlink()


def _literal(name: str) -> str:
    """Return a pattern that matches `name` alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
