"""Copies the part of CPython's standard library that the layer carries: the modules listed in stdlib.txt."""

import ast
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from layer.bytecode import imports_of
from layer.errors import Refused
from layer.interpreter import Interpreter

_LANDMARK = "This is no archive: it keeps the interpreter from looking for one in /opt/lib.\n"
_LIST = Path(__file__).with_name("stdlib.txt")
KEPT = frozenset(word for line in _LIST.read_text().splitlines() if not line.startswith("#") for word in line.split())

# Parts of those packages for other systems, for tools, or for formats that nobody here reads.
_NOT_KEPT = (
    "__main__.py", "asyncio/proactor_events.py", "asyncio/tools.py", "asyncio/windows_events.py",
    "asyncio/windows_utils.py", "compression/bz2.py", "compression/lzma.py", "compression/zstd",
    "concurrent/futures/interpreter.py", "concurrent/futures/process.py", "concurrent/interpreters", "ctypes",
    "email/architecture.rst", "http/cookiejar.py", "http/server.py", "importlib/simple.py", "json/tool.py",
    "logging/config.py", "re/_casefix.py.in", "urllib/robotparser.py", "xml/dom", "xml/sax", "__pycache__",
    "test", "tests",
)  # fmt: skip

# The codecs, of 120, that a header, a host name, a certificate or a log line can need.
_CODECS = {
    "__init__", "aliases", "ascii", "charmap", "cp1252", "cp437", "idna", "iso8859_1", "iso8859_15", "latin_1",
    "punycode", "raw_unicode_escape", "unicode_escape", "utf_16", "utf_16_be", "utf_16_le", "utf_32", "utf_32_be",
    "utf_32_le", "utf_8", "utf_8_sig",
}  # fmt: skip


def leaves_out(name: str) -> bool:
    """Say whether `name` is one of the modules that are left out of a package that the layer carries."""
    path = name.replace(".", "/")
    return path in _NOT_KEPT or f"{path}.py" in _NOT_KEPT


def copy(python: Interpreter, into: Path, more: Sequence[str] = ()) -> None:
    """Copy the listed modules `into` lib/python3.X, and their compiled modules into lib-dynload.

    `more` are others to copy, with what they import in turn. Raises Refused if there is no such module.
    """
    wanted = _with_imports(python, more)
    tops = KEPT | {name.partition(".")[0] for name in wanted}
    for name in sorted(tops):
        if (module := python.stdlib / f"{name}.py").is_file():
            shutil.copyfile(module, into / module.name)
        elif (package := python.stdlib / name).is_dir():
            shutil.copytree(package, into / name, ignore=_superfluous(python.stdlib, wanted))
    # The interpreter finds its home by two landmarks, searched for from here upwards. The first is a ZIP file; one in
    # the function's /opt/lib would do, so a file of that name is put here, which is no ZIP file. The second is
    # lib-dynload: if it is missing, each start prints a warning.
    (into.parent / f"python{python.minor.replace('.', '')}.zip").write_text(_LANDMARK)
    dynload = into / "lib-dynload"
    dynload.mkdir()
    (dynload / "README").write_text("Compiled modules of the standard library.\n")
    for module in sorted(python.dynload.glob("*.so")) if python.dynload else []:
        if module.name.split(".")[0] in tops:
            shutil.copyfile(module, dynload / module.name)


def _with_imports(python: Interpreter, names: Sequence[str]) -> set[str]:
    """Return `names`, and what they import in turn of the standard library, as far as it is not in the list."""
    waiting = list(names)
    found: set[str] = set()
    for name in waiting:  # grows
        if name in found:
            continue
        found.add(name)
        place = python.stdlib.joinpath(*name.split("."))
        sources = sorted(place.glob("*.py")) or [
            path for path in (place.with_name(f"{place.name}.py"),) if path.is_file()
        ]
        if name in names and not sources and not (python.dynload and [*python.dynload.glob(f"{name}.*.so")]):
            raise Refused(f"Python {python.version} has no module {name} to carry", "Correct --stdlib (LAYER_STDLIB)")
        for source in sources:
            waiting += [one for one in imports_of(ast.parse(source.read_bytes())) if one.partition(".")[0] not in KEPT]
    return found


def _superfluous(stdlib: Path, wanted: set[str]) -> Callable[[str, list[str]], set[str]]:
    def is_left_out(here: str, name: str, path: Path) -> bool:
        if f"{here}/{name}".removesuffix(".py").replace("/", ".") in wanted:
            return False
        if f"{here}/{name}" in _NOT_KEPT or name in _NOT_KEPT:
            return True
        return (here == "encodings" and name.removesuffix(".py") not in _CODECS) or not (
            name.endswith(".py") or path.is_dir()
        )

    def ignored(directory: str, names: list[str]) -> set[str]:
        here = Path(directory).relative_to(stdlib).as_posix()
        return {name for name in names if is_left_out(here, name, Path(directory) / name)}

    return ignored
