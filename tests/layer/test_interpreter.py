"""Where the interpreter comes from, and how it stands in the layer: as it is, or with its own C library."""

import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from layer import build, elf, interpreter, libraries, sources
from layer.build import Built
from layer.debian import Archive
from layer.interpreter import Interpreter

ARCH = platform.machine()
LOADED = """
import re, ssl, sys, zlib
with open("/proc/self/maps") as maps:
    print("\\n".join(sorted(set(re.findall(r"(/\\S+\\.so\\S*)$", maps.read(), re.MULTILINE)))))
print(sys.prefix)
"""


@pytest.fixture(scope="module")
def python() -> Interpreter:
    return interpreter.describe(Path(sys.executable), "the one of the tests")


def test_a_virtual_environment_stands_for_its_interpreter(python: Interpreter) -> None:
    """What is carried is the program itself, never the link or the copy in a virtual environment."""
    assert python.program.is_file()
    assert not python.program.is_symlink()
    assert elf.is_elf(python.program)
    assert (python.stdlib / "os.py").is_file()
    assert python.version == ".".join(map(str, sys.version_info[:3]))


def test_a_directory_for_another_processor_is_read_without_being_started(tmp_path: Path, python: Interpreter) -> None:
    """Such as `uv python install` fetches: version and processor are seen from its files."""
    program = tmp_path / "bin" / "python3.13"
    program.parent.mkdir()
    content = bytearray(python.program.read_bytes()[:4096])
    content[18] = {"x86_64": 0xB7, "aarch64": 0x3E}[ARCH]
    program.write_bytes(python.program.read_bytes().replace(python.program.read_bytes()[:4096], bytes(content), 1))
    program.chmod(0o755)
    (tmp_path / "lib" / "python3.13").mkdir(parents=True)
    (tmp_path / "lib" / "python3.13" / "os.py").touch()
    other = {"x86_64": "aarch64", "aarch64": "x86_64"}[ARCH]
    found = sources.choose(str(tmp_path), other, Archive(into=tmp_path / "fetched"))
    assert (found.minor, found.arch, found.start) == ("3.13", other, ())


def test_an_unpacked_root_is_as_good_as_a_machine_of_its_own(tmp_path: Path, python: Interpreter) -> None:
    """The C library is taken from where the interpreter would find it in its own root, never from this machine's."""
    here = libraries.bring_c_library(empty(tmp_path / "here"), elf.read(python.program), [])
    root = tmp_path / "root"
    program = root / "usr" / "bin" / "python3.13"
    loader = root / elf.read(python.program).interpreter.lstrip("/")
    libraries_of_root = root / "usr" / "lib" / f"{ARCH}-linux-gnu"
    for folder in (program.parent, loader.parent, libraries_of_root):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(python.program, program)
    for name, path in here.items():
        shutil.copy(path, loader if name == libraries.LOADERS[ARCH] else libraries_of_root / name)
    assert libraries.root_of(elf.read(program)) == root
    (root / "usr" / "lib64").symlink_to(loader.parent)
    assert libraries.root_of(elf.read(program)) == root
    found = libraries.bring_c_library(empty(tmp_path / "there"), elf.read(program), [])
    assert found.keys() == here.keys()
    assert all(path.is_relative_to(root) for path in found.values())
    assert libraries.root_of(elf.read(python.program)) == Path("/")


def empty(tree: Path) -> Path:
    (tree / "lib").mkdir(parents=True)
    return tree


@pytest.mark.parametrize("oldest", [(2, 17), (9, 9)], ids=["with-its-own-c-library", "as-it-is"])
def test_the_carried_interpreter_loads_its_own_libraries(
    python: Interpreter, tmp_path: Path, oldest: elf.Version
) -> None:
    """Whatever LD_LIBRARY_PATH names: what the layer carries is found first."""
    tree = Built(tree=tmp_path / "layer", python=python)
    tree.modules.mkdir(parents=True)
    build.carry_interpreter(tree, oldest)
    assert tree.carries_c_library is (oldest == (2, 17))
    traps = tmp_path / "traps"
    traps.mkdir()
    for library in (tree.private / "lib").glob("*.so*"):
        (traps / library.name).write_text("not a library\n")
    command = [str(tree.program)]
    if tree.carries_c_library:  # its place is /opt, where it is not; so the loader is called by its path
        found = elf.read(tree.program)
        assert found.interpreter == f"/opt/telemetry-forwarder/lib/{libraries.LOADERS[ARCH]}"
        assert found.rpath == "/opt/telemetry-forwarder/lib"
        own = str(tree.private / "lib")
        command = [f"{own}/{libraries.LOADERS[ARCH]}", "--inhibit-cache", "--library-path", own, *command]
    told = subprocess.run(
        [*command, "-IS", "-c", LOADED], capture_output=True, text=True, env={"LD_LIBRARY_PATH": str(traps)}, check=True
    )
    *loaded, prefix = told.stdout.splitlines()
    assert prefix == str(tree.private)
    assert any("libssl" in path for path in loaded) or re.search("static", python.openssl)
    foreign = [path for path in loaded if not path.startswith(str(tree.private))]
    if tree.carries_c_library:
        assert foreign == []
    assert {Path(path).name for path in foreign} <= libraries.OF_C_LIBRARY
