"""The function's code: a directory as it is, or a ZIP file unpacked for as long as it is used."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from local_lambda.errors import InvalidCode
from local_lambda.machine.archives import MAX_UNZIPPED_BYTES, files_of, unzip
from local_lambda.machine.reaper import reaper

_MB = 1024 * 1024


@contextlib.contextmanager
def unpacked(code: Path) -> Iterator[Path]:
    """Yield the directory with the code; that of a ZIP file is private and removed at the end. Raises InvalidCode."""
    if not code.is_file():
        yield code
        return
    folder = Path(tempfile.mkdtemp(prefix="local-lambda-code-"))
    reaper.add("tree", str(folder))
    try:
        unzip(code, folder, f"The function's code {code}", InvalidCode)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        reaper.remove("tree", str(folder))


def check_size(code: Path, layers: Sequence[Path]) -> None:
    """Raise InvalidCode if code and layers are together larger than Lambda allows."""
    sizes = {package: sum(size for _, size in files_of(package)) for package in (code, *layers)}
    total = sum(sizes.values())
    if total > MAX_UNZIPPED_BYTES:
        largest = max(sizes, key=lambda package: sizes[package])
        raise InvalidCode(
            f"Code and layers are {total / _MB:.0f} MB unzipped; Lambda allows 250. The largest is {largest} with"
            f" {sizes[largest] / _MB:.0f} MB: name the directory that is deployed, without what is only built from."
        )
