"""Builds the layer's tree, and refuses if the result would fail later.

    extensions/telemetry-forwarder        the executable: a few lines of Python; its first line names the interpreter
    telemetry-forwarder/bin/python3.X     the interpreter
    telemetry-forwarder/lib/python3.X/    its standard library, the package and its dependencies: all byte code in
                                          modules.bin, and beside it compiled modules and data
    telemetry-forwarder/lib/*.so*         shared libraries; the C library and its loader if the system's may be too old
    telemetry-forwarder/sbom.cdx.json     the bill of materials (CycloneDX); the licence texts are in licenses/

The same input gives the same bytes: nothing is kept that names a time, a path of this machine or a tool.
"""

import ast
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from layer import bill, checks, elf, libraries, stdlib, wheels
from layer.commands import run, say
from layer.errors import Refused
from layer.interpreter import Interpreter, compiler_for

HERE = Path(__file__).resolve().parent
PRIVATE = "telemetry-forwarder"
_SYSTEM = (2, 34)  # the C library of Amazon Linux 2023


@dataclass(slots=True, kw_only=True)
class Built:
    """A layer's tree: what it carries, the runtimes it supports, and whether it was started on this machine."""

    tree: Path
    python: Interpreter
    runtimes: tuple[str, ...] = ()
    carries_interpreter: bool = True
    carries_c_library: bool = False
    was_started: bool = False
    components: list[bill.Component] = field(default_factory=list)

    @property
    def private(self) -> Path:
        return self.tree / PRIVATE

    @property
    def modules(self) -> Path:
        return self.private / "lib" / f"python{self.python.minor}"

    @property
    def program(self) -> Path:
        return self.private / "bin" / f"python{self.python.minor}"


def build(
    into: Path,
    python: Interpreter,
    *,
    carry: bool = True,
    oldest: elf.Version = _SYSTEM,
    more: Sequence[str] = (),
) -> Built:
    """Build the layer's tree in `into`, an empty or missing directory, around `python`. Raises Refused.

    Without `carry` the layer has no interpreter and supports only the runtime with that Python. `oldest` is the oldest
    C library that the layer must run with; if the interpreter needs a newer one, that is carried too. `more` are
    modules of the standard library to carry beside those of stdlib.txt.
    """
    must_be_empty(into)
    layer = Built(tree=into, python=python, carries_interpreter=carry)
    layer.modules.mkdir(parents=True)
    wanted = wheels.requirements(wheels.LOCK.read_text(), python.minor, python.arch)
    say(f"fetching {wanted.count('==')} packages for Python {python.minor}")
    wheels.install(wanted, python, layer.modules)
    version = wheels.install_package(layer.modules)
    wheels.complete(layer.modules, python.minor, python.arch)
    layer.components += bill.of_wheels(layer.modules)
    wheels.trim(layer.modules)
    if carry:
        say(f"laying {python.program} and its libraries beside them")
        carry_interpreter(layer, oldest, more)
    else:
        shutil.copyfile(HERE / "start.py", layer.private / "start.py")
        (layer.private / "python-version").write_text(f"{python.minor}\n")
    check(layer, oldest)
    bill.write(
        layer.private,
        version,
        layer.components,
        {"architecture": python.arch, "python": python.version, "runtimes": ",".join(layer.runtimes)},
    )
    wheels.drop_licences(layer.modules)
    say("compiling all to byte code, into one file")
    _compile_all(layer)
    launcher(layer)
    say("starting it once")
    layer.was_started = checks.loads(layer.private, python, carries_c_library=layer.carries_c_library)
    checks.small_enough(into, None)
    return layer


def must_be_empty(into: Path) -> None:
    if into.exists() and any(into.iterdir()):
        raise Refused(f"{into} is not empty", "Remove it, or name another directory")


def carry_interpreter(layer: Built, oldest: elf.Version, more: Sequence[str] = ()) -> None:
    """Copy the interpreter and its libraries into the tree, and its C library if it needs a newer one than `oldest`."""
    python, private = layer.python, layer.private
    stdlib.copy(python, layer.modules, more)
    layer.program.parent.mkdir()
    shutil.copyfile(python.program, layer.program)
    layer.program.chmod(0o755)
    origins = {layer.program: python.program}
    if python.dynload:
        origins |= {copy: python.dynload / copy.name for copy in (layer.modules / "lib-dynload").glob("*.so")}
    root = libraries.root_of(elf.read(python.program))
    brought = libraries.bring(private, [python.stdlib.parent, *libraries.directories_in(root)], origins)
    newer = [symbol for found in checks.elves(private) for symbol in found.newer_than(oldest)]
    layer.carries_c_library = bool(newer)
    if newer:
        brought |= libraries.bring_c_library(private, elf.read(python.program), newer[:3])
    for path in sorted(private.rglob("*")):
        if elf.is_elf(path):
            elf.strip(path)
    libraries.point(private, layer.program, carries_c_library=layer.carries_c_library)
    places = {private / "lib" / name: origin for name, origin in brought.items()}
    own = [path for path in places if path.name.startswith("libpython")]
    layer.components.append(bill.of_interpreter(root, python, [layer.program, *own]))
    layer.components += bill.of_libraries(root, {path: places[path] for path in places if path not in own})


def check(layer: Built, oldest: elf.Version) -> None:
    """Refuse a layer that would not load, and record the runtimes that it supports."""
    checks.made_for(layer.private, layer.python)
    checks.complete(layer.private, carries_c_library=layer.carries_c_library)
    needed = max(found.glibc for found in checks.elves(layer.private))
    if layer.carries_c_library:
        own = layer.private / "lib" / "libc.so.6"
        checks.new_enough(layer.private, libraries.version_of(own), "the layer's own")
        needed = (0,)
    elif layer.carries_interpreter:
        checks.new_enough(layer.private, oldest, "the oldest runtime to serve (--oldest)")
    else:
        checks.new_enough(layer.private, libraries.glibc_of_runtime(layer.python.minor), f"python{layer.python.minor}")
        layer.runtimes = (f"python{layer.python.minor}",)
        return
    layer.runtimes = tuple(name for served in libraries.served(needed) for name in served.identifiers)


def _compile_all(layer: Built) -> None:
    """Replace every source by byte code, in one file. Raises Refused if a module imports one that is not carried."""
    options = ("-I", "-S", "-B", "-X", "no_debug_ranges")
    command = [*compiler_for(layer.python), *options, str(HERE / "bytecode.py")]
    carried = ["carried"] if layer.carries_interpreter else []
    printed = run([*command, str(layer.private), libraries.ROOT, *carried], "Please report it, with this output")
    if layer.carries_interpreter:
        checks.importable(json.loads(printed), layer.modules, layer.python.stdlib)
    command = [*compiler_for(layer.python), "-I", "-S", "-B", str(HERE / "bundle.py"), str(layer.modules)]
    run(command, "Please report it, with this output")
    drop_empty(layer.modules)


def drop_empty(modules: Path) -> None:
    """Remove the directories in which nothing is left."""
    for directory in sorted(modules.rglob("*"), reverse=True):
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()


def launcher(layer: Built) -> None:
    """Write the executable that Lambda starts."""
    executable = layer.tree / "extensions" / "telemetry-forwarder"
    executable.parent.mkdir()
    if layer.carries_interpreter:
        home = libraries.ROOT
        program = ast.parse((HERE / "launcher.py").read_text())
        del program.body[0]  # its docstring
        modules = f"{home}/lib/python{layer.python.minor}"
        filled = f"CA_FILE, MODULES = ({modules + '/botocore/cacert.pem'!r}, {modules!r})"
        text = ast.unparse(program).replace("CA_FILE = MODULES = ''", filled)
        executable.write_text(f"#!{home}/bin/python{layer.python.minor} -IS\n{text}\n")
    else:
        shutil.copyfile(wheels.ROOT / "extensions" / "telemetry-forwarder", executable)
    executable.chmod(0o755)
