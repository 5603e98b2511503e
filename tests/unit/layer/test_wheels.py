"""How the layer is put together: what of the lock is installed, and that the zip is the same each time."""

import importlib.util
import os
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[2]
UNIVERSAL = """\
orjson==3.13.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
typing-extensions==4.16.0 ; python_full_version < '3.13' \\
    --hash=sha256:cc
pywin32==312 ; sys_platform == 'win32' \\
    --hash=sha256:dd
"""


@pytest.fixture(scope="module")
def layer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("layer_build", REPOSITORY / "layer" / "build.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("python", "has_extensions"), [("3.11", True), ("3.12", True), ("3.13", False)])
def test_markers_are_read_for_the_target(layer: ModuleType, python: str, has_extensions: bool) -> None:
    """Whichever Python builds, the target's decides what is installed."""
    lines = layer.requirements(UNIVERSAL, python, "x86_64")
    assert ("typing-extensions==4.16.0 \\\n    --hash=sha256:cc" in lines) is has_extensions
    assert lines.startswith("orjson==3.13.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n")
    assert "pywin32" not in lines
    assert ";" not in lines


def test_every_line_of_the_lock_has_hashes(layer: ModuleType) -> None:
    lines = layer.requirements(layer.LOCK.read_text(), "3.12", "aarch64").splitlines()
    pins = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    assert len(pins) > 10
    assert all(lines[number].endswith(" \\") and "--hash=sha256:" in lines[number + 1] for number in pins)


def test_layer_and_development_use_the_same_versions(layer: ModuleType) -> None:
    """What is tested is what is shipped."""
    developed = {line.split(" ")[0] for line in (REPOSITORY / "requirements.lock").read_text().splitlines()}
    shipped = {line.split(" ")[0] for line in layer.LOCK.read_text().splitlines() if not line.startswith(" ")}
    assert shipped <= developed


def test_zip_depends_on_contents_alone(layer: ModuleType, tmp_path: Path) -> None:
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
        layer.zip_tree(tree, archives[-1])
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with zipfile.ZipFile(archives[0]) as archive:
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    assert modes == {"a.b": 0o100644, "a/one": 0o100644, "run": 0o100755}


def test_interpreter_of_another_version_is_refused(layer: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(layer.BuildError, match=r"holds no Python 3\.12"):
        layer.copy_interpreter(tmp_path, "3.12", tmp_path / "lib")
