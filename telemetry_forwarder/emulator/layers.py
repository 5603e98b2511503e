"""Find the executables of the extensions. Source: AWS's emulator; platform reference, section 1.6."""

from collections.abc import Sequence
from pathlib import Path

from telemetry_forwarder.emulator.agents import LIMIT
from telemetry_forwarder.emulator.errors import ExtensionNotFound, TooManyExtensions

_DISABLING_FILE = "disable-extensions-jwigqn8j"


def executables(extensions: Sequence[Path], opt: Path | None) -> list[Path]:
    """Return what is started: the files named, then every regular file in `opt`/extensions, by name.

    Raises ExtensionNotFound or TooManyExtensions. Whether a file can be executed shows when it is.
    """
    found = list(extensions)
    for path in found:
        if not path.is_file():
            raise ExtensionNotFound(f"The extension {path} is not a file.")
    if opt is not None:
        if not opt.is_dir():
            raise ExtensionNotFound(f"The directory {opt}, which should play /opt, does not exist.")
        folder = opt / "extensions"
        found += sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    names = [path.name for path in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ExtensionNotFound(f"Two extensions have the file name {', '.join(sorted(twice))}.")
    if len(found) > LIMIT:
        raise TooManyExtensions(f"There are {len(found)} extensions; Lambda runs up to {LIMIT}.")
    return found


def disables_extensions(opt: Path | None) -> bool:
    """Whether the file is there that makes Lambda answer 404 to every extension route."""
    return opt is not None and (opt / _DISABLING_FILE).exists()
