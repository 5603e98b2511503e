"""The ZIP file is the same each time."""

import os
import zipfile
from pathlib import Path

from layer.archive import zip_tree


def test_zip_depends_on_contents_alone(tmp_path: Path) -> None:
    """Neither the time nor the order of writing shows; the right to execute does."""
    archives = []
    for number, names in enumerate((["a/one", "a.b", "run"], ["run", "a.b", "a/one"])):
        tree = tmp_path / str(number)
        for name in names:
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
            path.chmod(0o755 if name == "run" else 0o600)
            os.utime(path, (1e9 + number * 1e6, 1e9 + number * 1e6))
        archives.append(tmp_path / f"{number}.zip")
        zip_tree(tree, archives[-1])
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with zipfile.ZipFile(archives[0]) as archive:
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    assert modes == {"a.b": 0o100644, "a/one": 0o100644, "run": 0o100755}
