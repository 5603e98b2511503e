"""Builds the directory that stands for /opt, and finds the extensions in it.

Source: AWS docs "Adding layers to functions" and AWS's emulator; docs/fidelity.md, sections 1.6 and 7.1.
"""

import shutil
import stat
import tempfile
import weakref
import zipfile
from collections.abc import Sequence
from pathlib import Path

from local_lambda.errors import ExtensionNotFound, InvalidLayer, TooManyExtensions
from local_lambda.machine.reaper import reaper
from local_lambda.rules.extensions import LIMIT

_DISABLING_FILE = "disable-extensions-jwigqn8j"
_MAX_LAYERS = 5
_MAX_UNZIPPED_BYTES = 250 * 1024 * 1024


class Opt:
    """The directory that stands for /opt: a directory as it is, or layers merged into a private directory."""

    def __init__(self, directory: Path | None, layers: Sequence[Path]) -> None:
        """Unpack `layers`, lowest first, over the contents of `directory`. Raises InvalidLayer or ExtensionNotFound."""
        if directory is not None and not directory.is_dir():
            raise ExtensionNotFound(f"The directory {directory}, which should play /opt, does not exist.")
        self.path = directory
        self._removal: weakref.finalize[..., Opt] | None = None
        if not layers:
            return
        if len(layers) > _MAX_LAYERS:
            raise InvalidLayer(f"There are {len(layers)} layers; a function may have up to {_MAX_LAYERS}.")
        self.path = own = Path(tempfile.mkdtemp(prefix="local-lambda-opt-"))
        reaper.add("tree", str(own))
        self._removal = weakref.finalize(self, _remove, own)  # also removed if the environment is never entered
        try:
            for layer in layers if directory is None else [directory, *layers]:
                _lay(layer, own)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Remove the private directory, if there is one."""
        if self._removal is not None:
            self._removal()


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    reaper.remove("tree", str(folder))


def _lay(layer: Path, into: Path) -> None:
    """Copy or unzip one layer over the earlier ones: for equal paths the last layer wins."""
    if layer.is_dir():
        for source in sorted(layer.rglob("*")):  # a directory comes before its contents
            _place(into, source.relative_to(layer))
            target = into / source.relative_to(layer)
            if source.is_dir() and not source.is_symlink():
                target.mkdir(exist_ok=True)
            else:
                target.unlink(missing_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        return
    if not layer.is_file():
        raise InvalidLayer(f"The layer {layer} is neither a directory nor a file.")
    try:
        with zipfile.ZipFile(layer) as archive:
            _unzip(archive, layer, into)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise InvalidLayer(f"The layer {layer} cannot be unzipped: {error}.") from error


def _unzip(archive: zipfile.ZipFile, layer: Path, into: Path) -> None:
    members = archive.infolist()
    if sum(member.file_size for member in members) > _MAX_UNZIPPED_BYTES:
        raise InvalidLayer(f"The layer {layer} is over 250 MB unzipped, which Lambda does not allow.")
    for member in members:
        path = Path(member.filename)
        if path.is_absolute() or ".." in path.parts:
            raise InvalidLayer(f"The layer {layer} has a member outside of /opt: {member.filename}.")
        target = into / path
        if member.is_dir():
            _place(into, path / "x")
            target.mkdir(parents=True, exist_ok=True)
            continue
        _place(into, path)
        target.unlink(missing_ok=True)
        mode = member.external_attr >> 16
        if stat.S_ISLNK(mode):
            target.symlink_to(archive.read(member).decode())
            continue
        with archive.open(member) as source, target.open("xb") as copy:
            shutil.copyfileobj(source, copy)
        # A file packed on a system without file modes becomes readable, but not executable.
        target.chmod(stat.S_IMODE(mode) & 0o777 or 0o644)


def _place(into: Path, path: Path) -> None:
    """Create the directory for `path`. A link or file of a lower layer in the way is removed, never written through."""
    for parent in reversed(path.parents[:-1]):
        folder = into / parent
        if folder.is_symlink() or folder.is_file():
            folder.unlink()
        folder.mkdir(exist_ok=True)


def executables(extensions: Sequence[Path], opt: Path | None) -> list[Path]:
    """Return the extensions to start: the given files, then every regular file in `opt`/extensions, by name.

    Raises ExtensionNotFound or TooManyExtensions. Whether a file can be executed is only known when it is started.
    """
    found = list(extensions)
    for path in found:
        if not path.is_file():
            raise ExtensionNotFound(f"The extension {path} is not a file.")
    if opt is not None:
        folder = opt / "extensions"
        found += sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    names = [path.name for path in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ExtensionNotFound(f"Two extensions have the file name {', '.join(sorted(twice))}.")
    if len(found) > LIMIT:
        raise TooManyExtensions(f"There are {len(found)} extensions; Lambda runs up to {LIMIT}.")
    return found


def disables_extensions(opt: Path | None) -> bool:
    """Whether the file exists that makes Lambda answer 404 to every extension route."""
    return opt is not None and (opt / _DISABLING_FILE).exists()
