"""Chooses the CPython that a layer carries: a given one, one of this machine, or one that is fetched."""

import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from layer import elf
from layer.debian import Archive
from layer.errors import Refused
from layer.interpreter import OLDEST, Interpreter, describe

NEWEST = (3, 15)  # with it the extension imports lazily (telemetry_forwarder/bootstrap.py)
OLDER_COSTS = "3.15, which imports lazily, would start with 20 to 35 % less processor time"
CONTAINER = Path("/var/lang/bin")  # the place of Python in the runtimes and in the build images of AWS SAM


def choose(given: str | None, arch: str, archive: Archive, *, is_carried: bool = True) -> Interpreter:
    """Return the interpreter for `arch`: the `given` one, else the best that can be had.

    `given` is a program, the directory that holds bin/python3.X, `debian` or `uv`. Otherwise it is the first of NEWEST
    on this machine, then one that is fetched, then an older one of this machine. If it is not carried, nothing is
    fetched, because Lambda has to have the same. Raises Refused if there is none for `arch`.
    """
    if given == "debian":
        return of_debian(arch, archive)
    if given == "uv":
        return of_uv(arch, archive.into)
    if given is not None:
        return _at(given, arch)
    older = None
    for found in _on_this_machine():
        if found.arch == arch and found.number >= OLDEST:
            if found.number >= NEWEST or not is_carried:
                return found
            older = older or found
    refused = []
    try:
        return of_debian(arch, archive)
    except Refused as refusal:
        refused.append(refusal.problem)
    try:
        return of_uv(arch, archive.into)
    except Refused as refusal:
        refused.append(refusal.problem)
    if older is not None:
        return replace(older, origin=f"{older.origin}, as no newer could be had ({'; '.join(refused)})")
    raise Refused(
        f"There is no Python for {arch} on this machine ({'; '.join(refused)})",
        "Name one with --python, which may be a directory for another processor: "
        f"`uv python install {_uv_name(arch)} --install-dir DIR` fetches it",
    )


def _at(given: str, arch: str) -> Interpreter:
    found = describe(Path(given), "--python")
    if found.arch != arch:
        raise Refused(
            f"{given} is made for {found.arch}, and the layer is to be for {arch}",
            f"Name one for {arch} (`uv python install` fetches it), or build with --arch {found.arch}",
        )
    return found


# --- on this machine ------------------------------------------------------------------------------------------------


def _on_this_machine() -> Iterator[Interpreter]:
    """Yield the interpreters to try if none is given, best first."""
    if program := _managed_by_uv():
        yield describe(program, "managed by uv")
    for program in sorted(CONTAINER.glob("python3.[0-9]*"), reverse=True):
        if re.fullmatch(r"python3\.\d+", program.name):
            yield describe(program, "of the build container")
    yield describe(Path(sys.executable), "the current one")


def _managed_by_uv() -> Path | None:
    """Return a Python that uv has installed, or None; uv must not download one."""
    uv = shutil.which("uv")
    if uv is None:
        return None
    command = [uv, "python", "find", "--no-project", "--no-python-downloads", "--python-preference=only-managed"]
    found = subprocess.run(  # noqa: S603 - uv of PATH
        [*command, f">={elf.dotted(OLDEST)}"], env=_for_uv(), cwd="/", capture_output=True, text=True, check=False
    )
    return Path(found.stdout.strip()) if found.returncode == 0 and found.stdout.strip() else None


# --- fetched --------------------------------------------------------------------------------------------------------


def of_debian(arch: str, archive: Archive) -> Interpreter:
    """Return the CPython in Debian's archive for `arch`. Raises Refused."""
    return _with_compiler(arch, f"of Debian {archive.suite}", archive.fetch)


def of_uv(arch: str, into: Path) -> Interpreter:
    """Return the newest CPython that uv fetches for `arch`, into a directory in `into`. Raises Refused."""
    uv = shutil.which("uv")
    if uv is None:
        raise Refused("uv, which fetches interpreters, is not installed", "Install it, or name another with --python")

    def fetch(processor: str) -> Path:
        home = into / f"uv-{processor}"
        command = [uv, "python", "install", "--no-progress", "--install-dir", str(home), _uv_name(processor)]
        done = subprocess.run(command, env=_for_uv(), capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            told = "; ".join(line.strip() for line in done.stderr.splitlines()[:2]) or f"exit code {done.returncode}"
            raise Refused(f"uv fetches no Python {elf.dotted(NEWEST)} ({told})", "Name an interpreter with --python")
        found = {re.search(r"^cpython-\d+\.\d+\.(\d+)-", path.name): path for path in home.iterdir()}
        return max((int(match[1]), path) for match, path in found.items() if match)[1]

    return _with_compiler(arch, "fetched by uv", fetch)


def _with_compiler(arch: str, origin: str, fetch: Callable[[str], Path]) -> Interpreter:
    """Describe what is fetched for `arch`. If it does not start here, fetch the same to write byte code for it, too."""
    found = describe(fetch(arch), origin)
    if found.start:
        return found
    return replace(found, compiler=describe(fetch(platform.machine()), origin).start)


def _uv_name(arch: str) -> str:
    return f"cpython-{elf.dotted(NEWEST)}-linux-{arch}-gnu"


def _for_uv() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
