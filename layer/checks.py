"""Checks a finished tree for what would fail on Lambda, and refuses it."""

import platform
import re
from pathlib import Path

from layer import elf, libraries
from layer.archive import files
from layer.commands import run
from layer.errors import Refused
from layer.interpreter import Interpreter
from layer.qemu import emulator

_SMOKE = Path(__file__).with_name("smoke.py")
MEGABYTE = 1_000_000
# The most that a layer may have zipped and unzipped: of this project alone; and with packages of others, half of what
# Lambda allows for code and layers together, and what it takes in one request (layer/publish.py).
_MOST_MB = (15, 45)
_MOST_WITH_PACKAGES_MB = (50, 125)


def made_for(tree: Path, python: Interpreter) -> None:
    """Refuse a file for another processor, or a compiled module for another Python, than `python`."""
    tag = f"cpython-{python.minor.replace('.', '')}-{python.arch}-"
    for found in elves(tree):
        name = found.path.relative_to(tree)
        if found.arch != python.arch:
            raise Refused(
                f"{name} is made for {found.arch}, and the layer is for {python.arch}",
                f"Take the wheel for {python.arch}: remove what is cached, or renew the lock with `make lock`",
            )
        match = re.search(r"\.(cpython-[^.]+)\.so$", found.path.name)
        if match and not match[1].startswith(tag):
            raise Refused(
                f"{name} is made for {match[1]}, and the interpreter loads {tag}linux-gnu alone",
                f"Take the wheel for Python {python.minor}, or name the interpreter that it fits with --python",
            )


def complete(tree: Path, *, carries_c_library: bool) -> None:
    """Refuse a tree in which a program or library needs a library that is missing."""
    present = {path.name for path in tree.joinpath("lib").glob("*.so*")}
    if not carries_c_library:
        present |= libraries.OF_C_LIBRARY
    for found in elves(tree):
        for name in sorted(set(found.needs) - present):
            raise Refused(
                f"{found.path.relative_to(tree)} needs {name}, which the layer has not",
                "Install the package that holds it and build again, with the interpreter carried along",
            )


def new_enough(tree: Path, glibc: elf.Version, whose: str) -> None:
    """Refuse a tree that needs a symbol missing in the C library of version `glibc`; `whose` names its owner."""
    for found in elves(tree):
        if newer := found.newer_than(glibc):
            raise Refused(
                f"{found.path.relative_to(tree)} needs {', '.join(newer[:3])}{' and more' * (len(newer) > 3)}, and the "
                f"C library of {whose} is {elf.dotted(glibc)}",
                "Name an interpreter made for an older one with --python (`uv python install` fetches such), or carry "
                "the interpreter along, which takes its own C library with it",
            )


def importable(imports: dict[str, list[str]], modules: Path, stdlib: Path) -> None:
    """Refuse if a module in the layer imports a standard library module that the layer does not carry.

    `imports` is the output of bytecode.py. A name found in neither place is compiled into the interpreter, and not
    checked.
    """
    for path, names in imports.items():
        for name in names:
            if _is_in(stdlib, name) and not _is_in(modules, name):
                raise Refused(
                    f"{path} imports {name}, which is not among the modules that the layer carries",
                    "Name it with --stdlib (LAYER_STDLIB), or add it to layer/stdlib.txt",
                )


def _is_in(directory: Path, name: str) -> bool:
    place = directory.joinpath(*name.split("."))
    return (
        place.is_dir()
        or any(place.with_name(f"{place.name}{ending}").is_file() for ending in (".py", ".pyc"))
        or any(place.parent.glob(f"{place.name}.*.so"))
        or any((directory / "lib-dynload").glob(f"{name}.*.so"))
    )


def loads(tree: Path, python: Interpreter, *, carries_c_library: bool) -> bool:
    """Start the layer and load every module; return whether this machine can do that. Raises Refused if it fails."""
    command = start(tree, python, carries_c_library=carries_c_library)
    if command is None:
        return False
    modules = tree / "lib" / f"python{python.minor}"
    run([*command, "-IS", str(_SMOKE), str(modules)], "Choose another interpreter with --python", environ={})
    return True


def start(tree: Path, python: Interpreter, *, carries_c_library: bool) -> list[str] | None:
    """Return the command that starts the interpreter in `tree`, or the one it was built for; None if nothing does here.

    A carried loader is called by its path in the tree, because the tree is not at /opt yet. A layer for another
    processor is started if QEMU is here (`make qemu`).
    """
    is_foreign = python.arch != platform.machine()
    runner = emulator(python.arch) if is_foreign and carries_c_library else None
    if runner is None and (is_foreign or not python.start):
        return None
    program = tree / "bin" / f"python{python.minor}"
    command = [str(program)] if program.is_file() else list(python.start)
    if carries_c_library:
        loader = tree / "lib" / libraries.LOADERS[python.arch]
        command = [str(loader), "--inhibit-cache", "--library-path", str(tree / "lib"), *command]
    return [runner, *command] if runner is not None else command


def small_enough(tree: Path, archive: Path | None, *, has_packages: bool = False) -> None:
    """Refuse a layer over this project's own limits; Lambda's limit is 250 MB for all layers together."""
    zipped, unzipped = _MOST_WITH_PACKAGES_MB if has_packages else _MOST_MB
    sizes = [("unzipped", sum(path.stat().st_size for path in files(tree)), unzipped)]
    if archive is not None:
        sizes.append(("zipped", archive.stat().st_size, zipped))
    for words, size, most in sizes:
        if size > most * MEGABYTE:
            largest = max(files(tree), key=lambda path: path.stat().st_size)
            raise Refused(
                f"The layer has {size / MEGABYTE:.1f} MB {words}, and the limit is {most} MB; the largest file is "
                f"{largest.relative_to(tree)} with {largest.stat().st_size / MEGABYTE:.1f} MB",
                "Choose a smaller interpreter with --python, or leave out what is not needed (layer/stdlib.txt)",
            )


def elves(tree: Path) -> list[elf.Elf]:
    return [elf.read(path) for path in files(tree) if elf.is_elf(path)]
