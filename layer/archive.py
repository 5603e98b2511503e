"""Writes the tree of a layer as a ZIP file: the same tree always gives the same bytes."""

import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a ZIP file can hold


def files(tree: Path) -> Iterator[Path]:
    """Return the files under `tree`, in the same order on every system."""
    return iter(sorted((path for path in tree.rglob("*") if path.is_file()), key=lambda path: path.as_posix()))


def zip_tree(tree: Path, archive: Path) -> None:
    """Write `tree` as a ZIP. Its bytes depend on names, contents and the executable bits only."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for path in files(tree):
            entry = zipfile.ZipInfo(path.relative_to(tree).as_posix(), _EPOCH)
            entry.create_system = 3  # Unix; the file mode follows
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            out.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)
