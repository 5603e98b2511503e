"""Builds the directory that stands for /opt, and finds the extensions in it.

Source: AWS docs "Adding layers to functions" and AWS's emulator; docs/fidelity.md, sections 1.6 and 7.1.
"""

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from local_lambda.errors import ExtensionNotFound, InvalidLayer, TooManyExtensions
from local_lambda.machine.archives import files_of, make_room, unzip
from local_lambda.machine.reaper import reaper
from local_lambda.rules.extensions import LIMIT

_DISABLING_FILE = "disable-extensions-jwigqn8j"
_MAX_LAYERS = 5
# Directories that Lambda itself looks for at a layer's root; what lies in them may be called anything.
_ROOTS = frozenset({"bin", "extensions", "java", "lib", "nodejs", "python", "ruby", "dotnet"})


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
    _check_root(layer)
    if layer.is_dir():
        for source in sorted(layer.rglob("*")):  # a directory comes before its contents
            make_room(into, source.relative_to(layer))
            target = into / source.relative_to(layer)
            if source.is_dir() and not source.is_symlink():
                target.mkdir(exist_ok=True)
            else:
                target.unlink(missing_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        return
    if not layer.is_file():
        raise InvalidLayer(f"The layer {layer} is neither a directory nor a file.")
    unzip(layer, into, f"The layer {layer}", InvalidLayer)


def _check_root(layer: Path) -> None:
    """Raise InvalidLayer if a layer's extensions lie one folder too deep, where Lambda would not look for them."""
    paths = [path for path, _ in files_of(layer) if path.parts[0] != "__MACOSX"]
    top = {path.parts[0] for path in paths}
    if len(top) != 1 or top & _ROOTS:
        return
    deeper = [path for path in paths if len(path.parts) == 3 and path.parts[1] == "extensions"]
    if deeper:
        folder = deeper[0].parts[0]
        raise InvalidLayer(
            f"The layer {layer} has no extensions/ at its root, so Lambda would start none; {deeper[0]} lies too deep:"
            f" pack what is in {folder}/, not {folder}/ itself."
        )


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
