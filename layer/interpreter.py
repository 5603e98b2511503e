"""Describes the CPython that a layer carries: its parts, and how to start it on this machine."""

import json
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layer import elf, libraries
from layer.errors import Refused

OLDEST = (3, 11)

# The script that an interpreter runs to describe itself. -I and -S exclude the environment and site-packages.
_QUESTION = """
import json, sys, sysconfig
try:
    import ssl
    openssl = ssl.OPENSSL_VERSION
except ImportError:
    openssl = ""
print(json.dumps({
    "implementation": sys.implementation.name,
    "version": "%d.%d.%d" % sys.version_info[:3],
    "program": sys.executable,
    "base": sys.base_prefix,
    "stdlib": sysconfig.get_path("stdlib"),
    "dynload": [entry for entry in sys.path if entry.endswith("lib-dynload")],
    "builtin": list(sys.builtin_module_names),
    "openssl": openssl,
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """A CPython: its program, its standard library, the directory of its compiled modules, version and processor."""

    program: Path
    stdlib: Path
    dynload: Path | None
    version: str  # 3.13.1; 3.13 if it does not run on this machine
    arch: str
    origin: str  # how it was found, for the builder's output
    builtin: frozenset[str] = frozenset()
    start: tuple[str, ...] = ()  # the command that starts it on this machine; () if none does
    compiler: tuple[str, ...] = ()  # one that starts another of its version, to write byte code for it
    openssl: str = ""

    @property
    def number(self) -> tuple[int, ...]:
        return tuple(map(int, self.version.split(".")))[:2]

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2])


def describe(path: Path, origin: str) -> Interpreter:
    """Describe the interpreter `path`, a program or a directory with bin and lib. Raises Refused."""
    if path.is_dir():
        path = _program_in(path)
    if not path.exists():
        raise Refused(f"{path} does not exist", "Name a program such as /usr/bin/python3.13, or its directory")
    start, told = _start(path)
    if told is None:
        return _at_rest(path.resolve(), origin)
    if told["implementation"] != "cpython":
        raise Refused(f"{path} is {told['implementation']}, not CPython", "Name a CPython")
    if tuple(map(int, told["version"].split(".")))[:2] < OLDEST:
        raise Refused(f"{path} is Python {told['version']}", f"Name one of {elf.dotted(OLDEST)} or newer")
    program = _program_of(told)
    refuse_another_c_library(program)
    return Interpreter(
        program=program,
        stdlib=Path(told["stdlib"]),
        dynload=next((Path(entry) for entry in told["dynload"] if Path(entry).is_dir()), None),
        version=told["version"],
        arch=elf.read(program).arch,
        origin=origin,
        builtin=frozenset(told["builtin"]),
        start=(*start[:-1], str(program)),
        openssl=told["openssl"],
    )


def _program_in(home: Path) -> Path:
    found = [path for path in (home / "bin").glob("python3.*") if re.fullmatch(r"python3\.\d+", path.name)]
    if len(found) != 1:
        raise Refused(
            f"{home} holds {'no' if not found else 'more than one'} bin/python3.X",
            "Name the program itself, or a directory in which there is one",
        )
    return found[0]


def _start(program: Path) -> tuple[tuple[str, ...], dict[str, Any] | None]:
    """Return the command that starts `program` here, and what it then reports; None if nothing starts it."""
    for start in _commands(program):
        if (told := ask(start)) is not None:
            return start, told
    return (), None


def _commands(program: Path) -> Iterator[tuple[str, ...]]:
    """Yield the commands that may start `program`; in a root of its own, its loader with its libraries comes first."""
    real = program.resolve()
    if elf.is_elf(real):
        found = elf.read(real)
        root = libraries.root_of(found)
        if root != Path("/") and found.arch == platform.machine():
            places = ":".join(map(str, libraries.directories_in(root)))
            loader = str(root / found.interpreter.lstrip("/"))
            yield (loader, "--inhibit-cache", "--library-path", places, str(real))
    yield (str(program),)


def ask(start: Sequence[str]) -> dict[str, Any] | None:
    """Return what the interpreter that the command `start` starts reports about itself; None if it does not run.

    It does not run if it is for another processor, or is a shim without a version.
    """
    command = [*start, "-I", "-S", "-c", _QUESTION]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return None
    return json.loads(found.stdout) if found.returncode == 0 else None


def _program_of(told: dict[str, Any]) -> Path:
    """Return the real program; in a virtual environment it is a link to the real one, or a copy that names it."""
    program = Path(str(told["program"])).resolve()
    named = Path(str(told["base"])) / "bin" / f"python{'.'.join(str(told['version']).split('.')[:2])}"
    return named.resolve() if named.is_file() else program


def refuse_another_c_library(program: Path) -> None:
    """Refuse a program for musl (Alpine): the lock has no wheels for it, and no Lambda runtime uses it."""
    loader = elf.read(program).interpreter
    if "musl" in loader:
        raise Refused(f"{program} is made for musl ({loader})", "Name one made for glibc with --python")


def _at_rest(program: Path, origin: str) -> Interpreter:
    """Describe an interpreter that does not run on this machine, from its files alone."""
    if not elf.is_elf(program):
        raise Refused(f"{program} does not start and is no ELF program", "Name a CPython for Linux")
    refuse_another_c_library(program)
    home = program.parents[1]
    libraries = [path.parent for path in (home / "lib").glob("python3.*/os.py")]
    if len(libraries) != 1:
        raise Refused(
            f"{program} does not start here, and {home}/lib holds no single python3.X/os.py",
            "Name a whole CPython, such as `uv python install` fetches",
        )
    version = libraries[0].name.removeprefix("python")
    dynload = libraries[0] / "lib-dynload"
    return Interpreter(
        program=program,
        stdlib=libraries[0],
        dynload=dynload if dynload.is_dir() else None,
        version=version,
        arch=elf.read(program).arch,
        origin=origin,
    )


def compiler_for(python: Interpreter) -> tuple[str, ...]:
    """Return the command of one that writes byte code for `python`: itself, else another of the same minor version."""
    if python.start or python.compiler:
        return python.start or python.compiler
    for name in (sys.executable, f"python{python.minor}"):
        program = shutil.which(name)
        told = ask([program]) if program else None
        if program and told is not None and str(told["version"]).startswith(f"{python.minor}."):
            return (program,)
    raise Refused(
        f"{python.program} does not run here, and there is no other Python {python.minor} to write its byte code",
        f"Put a python{python.minor} on PATH (`uv python install {python.minor}`), or where the layer is for another "
        "processor, run `make qemu`",
    )
