"""The extensions of layers, to be judged one at a time."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from local_lambda.errors import ExtensionNotFound
from local_lambda.machine.layers import Opt


class Layers:
    """Layers, lowest first, merged in a private directory that is removed at the end of the `with` block.

    Raises InvalidLayer, or ExtensionNotFound if there are none.
    """

    def __init__(self, layers: Sequence[Path]) -> None:
        self._opt = Opt(None, layers)
        if self._opt.path is None:
            raise ExtensionNotFound("No layer was given.")
        self._path = self._opt.path
        self._extensions = self._path / "extensions"

    def __enter__(self) -> "Layers":
        return self

    def __exit__(self, *_: object) -> None:
        self._opt.remove()

    @property
    def names(self) -> list[str]:
        """The file names of the extensions in the layers. Raises ExtensionNotFound if there are none."""
        folder = self._extensions
        names = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
        if not names:
            raise ExtensionNotFound("The layers have no extension: there is no file in extensions/ at their root.")
        return names

    @contextmanager
    def alone(self, extension: str | Path) -> Iterator[tuple[Path, Path]]:
        """Leave one extension, by its file name, or one that is a file elsewhere, without the others.

        Yield its executable, and the directory that stands for /opt.
        """
        executable = self._extensions / extension if isinstance(extension, str) else extension
        others = [path for name in self.names if (path := self._extensions / name) != executable]
        with tempfile.TemporaryDirectory() as aside:
            for path in others:
                shutil.move(path, aside)
            try:
                yield executable, self._path
            finally:
                for path in others:
                    shutil.move(Path(aside, path.name), path)
