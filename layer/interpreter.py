"""Finds the CPython that a layer carries, and says where its parts lie."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layer import elf
from layer.errors import Refused

OLDEST = (3, 11)
CONTAINER = Path("/var/lang/bin")  # where the build images of AWS SAM, and the runtimes, keep their Python

# What a program is asked about itself. -I and -S: neither the environment nor a site-packages may answer for it.
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
    """A CPython: its program, its standard library, the directory of its compiled modules, and for what it is made."""

    program: Path
    stdlib: Path
    dynload: Path | None
    version: str  # 3.13.1; 3.13 where it does not run here
    arch: str
    origin: str  # how it was found, for the reader of the builder's output
    builtin: frozenset[str] = frozenset()
    runs: bool = True
    openssl: str = ""

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2])


def find(given: str | None, arch: str) -> Interpreter:
    """Return the interpreter to carry: the one that is `given`, uv's, the build container's, or the one that runs this.

    `given` is a program or the directory that holds bin/python3.X. Raises Refused where there is none for `arch`.
    """
    if given is not None:
        found = describe(Path(given), "--python")
        if found.arch != arch:
            raise Refused(
                f"{given} is made for {found.arch}, and the layer is to be for {arch}",
                f"Name one for {arch} (`uv python install` fetches it), or build with --arch {found.arch}",
            )
        return found
    for program, origin in _candidates():
        found = describe(program, origin)
        if found.arch == arch and tuple(map(int, found.minor.split("."))) >= OLDEST:
            return found
    raise Refused(
        f"There is no Python for {arch} on this machine",
        f"Name one with --python, which may be a directory for another processor: "
        f"`uv python install cpython-3.13-linux-{arch}-gnu --install-dir DIR` fetches it",
    )


def _candidates() -> Iterator[tuple[Path, str]]:
    """Name the programs that are taken without being asked for, best first, each with the words for its origin."""
    if program := _managed_by_uv():
        yield program, "managed by uv"
    for program in sorted(CONTAINER.glob("python3.[0-9]*"), reverse=True):
        if re.fullmatch(r"python3\.\d+", program.name):
            yield program, "of the build container"
    yield Path(sys.executable), "the current one"


def _managed_by_uv() -> Path | None:
    """Ask uv for a Python that it has installed; it is not told to fetch one."""
    uv = shutil.which("uv")
    if uv is None:
        return None
    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    command = [uv, "python", "find", "--no-project", "--no-python-downloads", "--python-preference=only-managed"]
    found = subprocess.run(  # noqa: S603 - uv of PATH
        [*command, f">={elf.dotted(OLDEST)}"], env=environ, cwd="/", capture_output=True, text=True, check=False
    )
    return Path(found.stdout.strip()) if found.returncode == 0 and found.stdout.strip() else None


def describe(path: Path, origin: str) -> Interpreter:
    """Describe the interpreter `path`: a program, or a directory with bin and lib. Raises Refused."""
    if path.is_dir():
        path = _program_in(path)
    if not path.exists():
        raise Refused(f"{path} does not exist", "Name a program such as /usr/bin/python3.13, or its directory")
    told = ask(path)
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


def ask(program: Path) -> dict[str, Any] | None:
    """Let `program` tell about itself; None where it does not run (another processor's, a shim without a version)."""
    command = [str(program), "-I", "-S", "-c", _QUESTION]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return None
    return json.loads(found.stdout) if found.returncode == 0 else None


def _program_of(told: dict[str, Any]) -> Path:
    """Return the real program: that of a virtual environment is a link to it, or a copy that names its origin."""
    program = Path(str(told["program"])).resolve()
    named = Path(str(told["base"])) / "bin" / f"python{'.'.join(str(told['version']).split('.')[:2])}"
    return named.resolve() if named.is_file() else program


def refuse_another_c_library(program: Path) -> None:
    """Refuse a program for musl (Alpine): no wheel in the lock, and no runtime of Lambda's, is."""
    loader = elf.read(program).interpreter
    if "musl" in loader:
        raise Refused(f"{program} is made for musl ({loader})", "Name one made for glibc with --python")


def _at_rest(program: Path, origin: str) -> Interpreter:
    """Describe an interpreter that does not run here, by its files alone."""
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
        runs=False,
    )


def compiler_for(python: Interpreter) -> Path:
    """Return a program that writes the byte code `python` reads: itself, else one of the same minor version."""
    if python.runs:
        return python.program
    for name in (sys.executable, f"python{python.minor}"):
        program = shutil.which(name)
        told = ask(Path(program)) if program else None
        if told is not None and str(told["version"]).startswith(f"{python.minor}."):
            return Path(str(program))
    raise Refused(
        f"{python.program} does not run here, and there is no other Python {python.minor} to write its byte code",
        f"Put a python{python.minor} on PATH (`uv python install {python.minor}`)",
    )
