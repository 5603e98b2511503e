"""The extensions of layers, to be judged one at a time."""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from local_lambda.errors import ExtensionNotFound
from local_lambda.machine.layers import Opt


class Layers:
    """Layers, lowest first, merged in a private directory (`opt`) that is removed at the end of the `with` block.

    Raises InvalidLayer.
    """

    def __init__(self, layers: Sequence[Path]) -> None:
        self._opt = Opt(None, layers)

    def __enter__(self) -> "Layers":
        return self

    def __exit__(self, *_: object) -> None:
        self._opt.remove()

    @property
    def _extensions(self) -> Path:
        if self._opt.path is None:
            raise ExtensionNotFound("No layer was given.")
        return self._opt.path / "extensions"

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
        """Leave one extension, or one from elsewhere, without the others; yield its executable and the `opt`."""
        folder = self._extensions
        stays = folder / extension if isinstance(extension, str) else None
        others = [folder / name for name in self.names if folder / name != stays]
        with tempfile.TemporaryDirectory() as aside:
            moved = [(path, Path(shutil.move(path, aside))) for path in others]
            try:
                yield (folder / extension if isinstance(extension, str) else extension), folder.parent
            finally:
                for path, away in moved:
                    shutil.move(away, path)
