"""Adds packages with sinks to the tree of a layer, and refuses if the result would fail later.

What is in the layer stays as it is, byte for byte, but for the file of byte code, which has more modules then, and the
bill of materials. So a layer that was built long ago, or elsewhere, takes packages as well as one that was just built.
"""

import json
import platform
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import Distribution, distributions
from pathlib import Path

from layer import bill, build, bundle, checks, elf, libraries, packages, stdlib, wheels
from layer.archive import files
from layer.commands import run, say
from layer.errors import Refused
from layer.interpreter import Interpreter, compiler_for
from layer.packages import Package
from telemetry_forwarder.variables.table import BUILT_IN_SINKS

HERE = Path(__file__).resolve().parent
# What goes into no layer: notes for tools, and what pip compiled.
_SUPERFLUOUS = ("__pycache__", "*.pyi", "py.typed")
# Runs a script on the layer's own interpreter, which finds its modules by the opening alone.
_RUN = (
    "import sys; path = sys.argv[1]; del sys.argv[0]\n"
    "with open(path, 'rb') as file: code = compile(file.read(), path, 'exec')\n"
    "exec(code, {'__name__': '__main__', '__file__': path})"
)


def copied(layer: Path, into: Path, arch: str) -> build.Built:
    """Copy a built `layer`, a ZIP file or a directory, `into` an empty or missing directory. Raises Refused."""
    build.must_be_empty(into)
    try:
        if layer.is_dir():
            shutil.copytree(layer, into, dirs_exist_ok=True)
        else:
            with zipfile.ZipFile(layer) as archive:
                for member in archive.infolist():
                    path = Path(archive.extract(member, into))
                    path.chmod(member.external_attr >> 16 & 0o777)
        private = into / build.PRIVATE
        told = json.loads((private / bill.BILL).read_text())["metadata"]["component"]["properties"]
        found = {one["name"].removeprefix(bill.PREFIX): one["value"] for one in told}
        (modules,) = private.glob("lib/python3.*/")
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise Refused(
            f"{layer} is no layer of this project's ({error or type(error).__name__})",
            "Name what `make layer` made: the ZIP file, or the directory",
        ) from error
    if found["architecture"] != arch:
        raise Refused(f"{layer} is for {found['architecture']}, and {arch} was asked for", "Say --arch as it is")
    program = private / "bin" / modules.name
    python = Interpreter(
        program=program,
        stdlib=modules,
        dynload=None,
        version=found["python"],
        arch=arch,
        origin=f"of {layer}",
        start=(str(program),) if program.is_file() and arch == platform.machine() else (),
    )
    return build.Built(
        tree=into,
        python=python,
        runtimes=tuple(found["runtimes"].split(",")),
        carries_interpreter=program.is_file(),
        carries_c_library=(private / "lib" / "libc.so.6").is_file(),
    )


def add(layer: build.Built, words: Sequence[str]) -> list[Package]:
    """Put the packages that `words` name into `layer`, and what they need beside it; return all. Raises Refused."""
    present = {wheels.normal(one.name): one for one in distributions(path=[str(layer.modules)])}
    with tempfile.TemporaryDirectory() as folder:
        found = packages.fetch(words, layer.python, present, Path(folder))
        names = json.loads(on_its_python(layer, HERE / "names.py", str(layer.modules)))
        _trim(found)
        _have_names_of_their_own(found, present)
        _have_places_of_their_own(found, names)
        for package in found:
            _made_for(package, layer.python)
            _compile(package, layer, names, found)
        before = set(files(layer.private))
        for package in found:
            shutil.copytree(package.folder, layer.modules, dirs_exist_ok=True)
        brought = _bring_libraries(layer, before)
        on_its_python(layer, HERE / "bundle.py", str(layer.modules))
        build.drop_empty(layer.modules)
        _check(layer)
        sinks = {name for one in present.values() for name in packages.sinks_of(one)}
        sinks |= {name for package in found for name in package.sinks}
        told = {"runtimes": ",".join(layer.runtimes), "sinks": ",".join(sorted(sinks))}
        parts = [*map(_component, found), *brought]
        bill.add(layer.private, parts, told)
        layer.components += parts
    wheels.drop_licences(layer.modules)
    say("loading its sinks once")
    layer.was_started = _loads(layer)
    return found


def _component(package: Package) -> bill.Component:
    (found,) = bill.of_wheels(package.folder)
    # What is not of an index must not be looked for there: somebody else may have put something under that name.
    purl = f"pkg:generic/{found.name}@{found.version}" if package.is_local else found.purl
    return replace(found, sha256=package.sha256, purl=purl)


# --- what is refused ------------------------------------------------------------------------------------------------


def _have_names_of_their_own(found: list[Package], present: dict[str, Distribution]) -> None:
    """Refuse a sink whose name is taken, or cannot be written in TELEMETRY_FORWARDER_SINKS."""
    whose = {
        name.lower(): f"{one.name} {one.version}, which the layer has"
        for one in present.values() for name in packages.sinks_of(one)
    }  # fmt: skip
    for package in found:
        for name in package.sinks:
            if not re.fullmatch(r"[\w.-]+", name):
                raise Refused(
                    f"{package} has a sink called {name!r}, which TELEMETRY_FORWARDER_SINKS cannot name",
                    "Call it by letters, digits, `-`, `_` and `.` alone",
                )
            if name.lower() in BUILT_IN_SINKS:
                raise Refused(
                    f"{package} has a sink called {name}, and that is the name of a built-in one",
                    f"Call it something else in its entry points; taken are {', '.join(BUILT_IN_SINKS)}",
                )
            if other := whose.get(name.lower()):
                raise Refused(f"{package} has a sink called {name}, and so has {other}", "Leave one of them out")
            whose[name.lower()] = str(package)


def _have_places_of_their_own(found: list[Package], names: dict[str, list[str]]) -> None:
    """Refuse a package that has a module or a file where the layer, Python or another package has one."""
    modules = {name.partition(".")[0] for name in (*names["packages"], *names["modules"])} - set(names["stdlib"])
    whose: dict[str, Package] = {}
    for package in found:
        for path in files(package.folder):
            place = path.relative_to(package.folder).as_posix()
            name = place.split("/")[0].split(".")[0]
            if name in modules or name in names["stdlib"]:
                owner = "of the layer" if name in modules else "of Python's standard library"
                raise Refused(
                    f"{package} has {place}, and {name} is a module {owner}",
                    "Give its modules another name: nothing in the layer is replaced",
                )
            if other := whose.get(place):
                raise Refused(f"{package} and {other} both have {place}", "Leave one of them out")
            whose[place] = package


def _made_for(package: Package, python: Interpreter) -> None:
    """Refuse a compiled part for another processor or another Python, whatever the wheel's name says."""
    tag = f"cpython-{python.minor.replace('.', '')}"
    for found in checks.elves(package.folder):
        named = re.search(r"\.(cpython-\d+)", found.path.name)
        for made_for, wanted in ((found.arch, python.arch), (named[1] if named else tag, tag)):
            if made_for != wanted:
                raise Refused(
                    f"{package} has {found.path.relative_to(package.folder)}, which is made for {made_for}, and the "
                    f"layer is for {wanted}",
                    f"Name a wheel of it for Python {python.minor} on {python.arch}",
                )


def _carries(names: dict[str, list[str]], name: str) -> bool:
    """Say whether the layer has the module `name`, if that is one of the standard library."""
    top = name.partition(".")[0]
    if top not in names["stdlib"] or top in names["builtin"] or name in names["packages"] or name in names["modules"]:
        return True
    # Not every name is a file: os.path, collections.abc. Of a package that it has, the layer leaves out what is listed.
    is_there = top in names["packages"] or top in names["modules"]
    return is_there and not stdlib.leaves_out(name)


# --- what is done ---------------------------------------------------------------------------------------------------


def _trim(found: list[Package]) -> None:
    for package in found:
        for pattern in _SUPERFLUOUS:
            for path in list(package.folder.rglob(pattern)):
                wheels.remove(path)


def _compile(package: Package, layer: build.Built, names: dict[str, list[str]], found: list[Package]) -> None:
    """Replace the sources of `package` by byte code. Raises Refused if a sink imports what the layer lacks of Python.

    What a sink needs beside it may have modules that nobody loads (its tests, its commands): of those it is only said.
    """
    shown = f"{libraries.ROOT}/lib/{layer.modules.name}"
    mode = "sink" if package.is_wanted else "others"
    imports = json.loads(on_its_python(layer, HERE / "bytecode.py", str(package.folder), shown, mode))
    own = {path.relative_to(one.folder).parts[0].partition(".")[0] for one in found for path in files(one.folder)}
    lacking = {
        name: path for path, wanted in imports.items()
        for name in wanted if name.partition(".")[0] not in own and not _carries(names, name)
    }  # fmt: skip
    for name, path in sorted(lacking.items()):
        if package.is_wanted:
            raise Refused(
                f"{path} of {package} imports {name}, which the layer leaves out of Python's standard library",
                f"Build the layer with it: make layer LAYER_STDLIB={name}, or --stdlib {name}",
            )
    if lacking:
        named = " ".join(sorted(lacking))
        say(f"{package} has modules that import {named}, which the layer leaves out: LAYER_STDLIB='{named}' adds them")


def _bring_libraries(layer: build.Built, before: set[Path]) -> list[bill.Component]:
    """Bring the shared libraries that compiled parts need, and let them look for those in the layer alone."""
    if not any(elf.is_elf(path) for path in set(files(layer.private)) - before):
        return []
    brought = libraries.bring(layer.private, [], {}) if layer.carries_interpreter else {}
    for path in sorted(set(files(layer.private)) - before):
        if elf.is_elf(path):
            elf.strip(path)
            if (found := elf.read(path)).rpath or found.runpath:
                libraries.patch(path, "--remove-rpath")
    return bill.of_libraries(Path("/"), {layer.private / "lib" / name: origin for name, origin in brought.items()})


def _check(layer: build.Built) -> None:
    checks.complete(layer.private, carries_c_library=layer.carries_c_library)
    if layer.carries_c_library:
        checks.new_enough(layer.private, libraries.version_of(layer.private / "lib" / "libc.so.6"), "the layer's own")
        return
    needed = max(found.glibc for found in checks.elves(layer.private))
    kept = {name for one in libraries.served(needed) for name in one.identifiers} & set(layer.runtimes)
    if not kept:
        checks.new_enough(layer.private, libraries.glibc_of_runtime(layer.runtimes[0]), layer.runtimes[0])
    layer.runtimes = tuple(name for name in layer.runtimes if name in kept)


def _loads(layer: build.Built) -> bool:
    """Load every sink of other packages from the layer; return whether this machine can do that."""
    if checks.start(layer.private, layer.python, carries_c_library=layer.carries_c_library) is None:
        return False
    remedy = "Mend the package, or let it name what it needs"
    on_its_python(layer, HERE / "load_sinks.py", str(layer.modules), called="Loading its sinks", remedy=remedy)
    return True


def on_its_python(
    layer: build.Built,
    script: Path,
    *words: str,
    called: str = "",
    remedy: str = "Please report it, with this output",
) -> str:
    """Run a script on the layer's own interpreter, or another of its version; return its output."""
    command = checks.start(layer.private, layer.python, carries_c_library=layer.carries_c_library)
    options = ("-I", "-S", "-B", "-X", "no_debug_ranges")
    if command is None:
        command = [*compiler_for(layer.python), *options]
    else:
        command = [*command, *options, "-c", bundle.OPENING.format(root=layer.modules) + _RUN]
    return run([*command, str(script), *words], remedy, environ={}, called=called)
