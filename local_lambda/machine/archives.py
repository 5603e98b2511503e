"""What is deployed, as a directory or a ZIP file: unpacked, measured and listed.

Source: AWS docs "Lambda quotas" and "Working with .zip file archives".
"""

import os
import shutil
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from local_lambda.errors import EmulatorError

MAX_UNZIPPED_BYTES = 250 * 1024 * 1024
# What a checkout has beside the code and nobody deploys.
_NOT_DEPLOYED = frozenset(
    {".git", ".hg", ".venv", "venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache"}
)
_UNREADABLE = (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError)


def unzip(archive: Path, into: Path, what: str, error: Callable[[str], EmulatorError]) -> None:
    """Unpack a ZIP file over what is in a directory. `what` is called so in an `error`, such as "The layer x.zip"."""
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            if sum(member.file_size for member in members) > MAX_UNZIPPED_BYTES:
                raise error(f"{what} is over 250 MB unzipped, which Lambda does not allow.")
            for member in members:
                path = Path(member.filename)
                if path.is_absolute() or ".." in path.parts:
                    raise error(f"{what} has a member outside of its own directory: {member.filename}.")
                _unzip_member(opened, member, into)
    except _UNREADABLE as failed:
        raise error(f"{what} cannot be unzipped: {failed}.") from failed


def _unzip_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, into: Path) -> None:
    path = Path(member.filename)
    target = into / path
    if member.is_dir():
        make_room(into, path / "x")
        target.mkdir(parents=True, exist_ok=True)
        return
    make_room(into, path)
    target.unlink(missing_ok=True)
    mode = member.external_attr >> 16
    if stat.S_ISLNK(mode):
        target.symlink_to(archive.read(member).decode())
        return
    with archive.open(member) as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy)
    # A file packed on a system without file modes becomes readable, but not executable.
    target.chmod(stat.S_IMODE(mode) & 0o777 or 0o644)


def make_room(into: Path, path: Path) -> None:
    """Create the directory for `path`. A link or file in the way is removed, never written through."""
    for parent in reversed(path.parents[:-1]):
        folder = into / parent
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        folder.mkdir(exist_ok=True)


def files_of(package: Path) -> Iterator[tuple[Path, int]]:
    """Yield the path and size in bytes of each file in a directory or ZIP file; nothing for what is neither."""
    if package.is_dir():
        for folder, folders, names in os.walk(package):
            folders[:] = [name for name in folders if name not in _NOT_DEPLOYED]
            for name in names:
                path = Path(folder, name)
                yield path.relative_to(package), path.lstat().st_size
        return
    try:
        with zipfile.ZipFile(package) as opened:
            members = [
                (Path(member.filename), member.file_size)
                for member in opened.infolist()
                if not member.is_dir() and member.filename.strip("/")
            ]
    except (OSError, *_UNREADABLE):
        return  # whoever unpacks it says why
    yield from members
