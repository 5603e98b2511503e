"""What runs a function's code: Python, Node.js, a `bootstrap`, or a command of the user's.

As on Lambda, a function sees its own files and those of its layers, and of this tool's virtual environment nothing but
the runtime's own packages. Source: AWS docs "Lambda runtimes", "Building a custom runtime", "Modifying the runtime
environment".
"""

import contextlib
import functools
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local_lambda.errors import FunctionNotFound, InvalidSetting
from local_lambda.rules.places import Places
from local_lambda.settings import Function

_HERE = Path(__file__).parent
_PYTHON_PACKAGES = ("awslambdaric", "simplejson", "snapshot_restore_py")
_BOTO3_PACKAGES = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "six", "urllib3")
_NODE_SUFFIXES = (".mjs", ".js", ".cjs")
_PROBE_S = 10
_WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"
# As AWS documents it for every runtime; %s: what a language adds.
_LIBRARIES = ("{lang}/lib", "/lib64", "/usr/lib64", "{runtime}", "{runtime}/lib", "{task}", "{task}/lib", "{opt}/lib")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """How to run the code of a function.

    `identifier` is that of a function's configuration, such as python3.11. `program` is a path in `lang`, the directory
    that stands for /var/lang; `words` follow it, and it has other `names` there. `files` are what /var/runtime has, by
    name. `note` says in what it is not what was asked for.
    """

    identifier: str
    program: str = ""
    words: tuple[str, ...] = ()
    lang: Path | None = None
    names: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=dict)
    note: str = ""

    @property
    def language(self) -> str:
        """The identifier without its version: python, nodejs, provided."""
        return re.match(r"[a-z]*", self.identifier)[0]  # type: ignore[index]

    @property
    def version(self) -> str:
        return self.identifier.removeprefix(self.language).removesuffix(".x").lstrip(".")

    @property
    def telemetry_version(self) -> str:
        """The `runtimeVersion` of platform.initStart, in the form of Lambda's own: python:3.11.v0."""
        return f"{self.language}:{self.version}.v0"

    @property
    def execution_env(self) -> str:
        """The value of AWS_EXECUTION_ENV."""
        return f"AWS_Lambda_{self.identifier}"

    @property
    def is_managed(self) -> bool:
        """Whether it is a language's runtime; one that is brought along is started as it is."""
        return bool(self.program)

    def argv(self, function: Function, places: Places) -> list[str]:
        """Return the command line of the runtime's process."""
        if function.command is not None:
            return [str(word) for word in function.command]
        if not self.is_managed:
            return [str(places.found(self.words[0]))]
        lang = places.lang or Path("/var/lang")
        words = [str(places.found(word)) if word.startswith("/var/") else word for word in self.words]
        argv = [str(lang / self.program), *words]  # which handler, _HANDLER says: a wrapper may name another
        wrapper = function.environment.get(_WRAPPER)
        return argv if not wrapper else [str(places.found(wrapper)), *argv]

    def variables(self, places: Places) -> dict[str, str]:
        """Return the search paths that Lambda sets for the language; the customer's own replace them."""
        opt = places.opt or Path("/opt")
        found = {"LD_LIBRARY_PATH": str(opt / "lib")} if places.opt is not None else {}
        if places.are_lambdas:
            names = {"lang": "/var/lang", "runtime": "/var/runtime", "task": "/var/task", "opt": "/opt"}
            found["LD_LIBRARY_PATH"] = ":".join(_LIBRARIES).format(**names)
        if self.language == "python":
            found["PYTHONPATH"] = str(places.runtime)
        if self.language == "nodejs":
            modules = [opt / f"nodejs/node{self.version}/node_modules", opt / "nodejs/node_modules"]
            found["NODE_PATH"] = ":".join([*map(str, modules), str(places.runtime / "node_modules")])
        return found


def choose(function: Function, opt: Path | None) -> Runtime:
    """Return the runtime of `function`, from what was asked for, its handler's file and a `bootstrap`.

    `opt` is the directory that stands for /opt: a layer may bring the handler or the bootstrap.
    Raises FunctionNotFound or InvalidSetting.
    """
    if function.command is not None:
        return Runtime(identifier=function.runtime or "provided.al2023")
    asked = function.runtime or ""
    language = re.match(r"[a-z]*", asked)[0]  # type: ignore[index]
    if language not in ("", "python", "nodejs", "provided"):
        raise InvalidSetting(
            f"The runtime {asked} cannot be run here: python, nodejs and provided can. Another language needs a"
            " `bootstrap` in the code, or --command."
        )
    if function.environment.get(_WRAPPER) and language in ("python", "nodejs"):
        return _python(asked, function) if language == "python" else _node(asked)  # what it starts is its own affair
    if language == "provided":
        if found := _bootstrap(function, opt):
            return Runtime(identifier=asked, words=(found,))
        raise FunctionNotFound(f"The runtime {asked} needs a file named bootstrap in {function.code} or in a layer.")
    if language == "" and (found := _bootstrap(function, opt)) and not _has_own_module(function, found):
        return Runtime(identifier="provided.al2023", words=(found,))
    module = _module_of(function)
    if (
        language in ("", "nodejs")
        and (language or not _has_python(function, module, opt))
        and _has_node(function, module, opt)
    ):
        return _node(asked)
    if language == "nodejs":
        raise _missing(function, module, f"{module}.mjs, {module}.js or {module}.cjs")
    if not _has_python(function, module, opt):
        raise _missing(function, module, f"{module.replace('.', '/')}.py")
    return _python(asked, function)


def _module_of(function: Function) -> str:
    """Return the handler without its function's name."""
    module, dot, attribute = function.handler.rpartition(".")
    if not (module and dot and attribute):
        raise FunctionNotFound(f"The handler {function.handler!r} is not of the form module.function.")
    return module


def _missing(function: Function, module: str, file: str) -> FunctionNotFound:
    folder = (function.code / file).parent
    return FunctionNotFound(f"The handler {function.handler!r} needs {Path(file).name}, which is not in {folder}.")


def _bootstrap(function: Function, opt: Path | None) -> str:
    """Return where Lambda would find a bootstrap, "" if nowhere. Source: AWS's emulator, cmd/aws-lambda-rie."""
    if (function.code / "bootstrap").is_file():
        return "/var/task/bootstrap"
    return "/opt/bootstrap" if opt is not None and (opt / "bootstrap").is_file() else ""


def _has_own_module(function: Function, bootstrap: str) -> bool:
    """Whether the handler's module is in the code, and the bootstrap only in a layer, so meant for other functions."""
    module, dot, _ = function.handler.rpartition(".")
    if not (module and dot) or not bootstrap.startswith("/opt/"):
        return False
    return _has_python(function, module, None) or _has_node(function, module, None)


def _has_python(function: Function, module: str, opt: Path | None) -> bool:
    """Whether a Python handler is found in the code or in a layer, which may hold it in any of three directories."""
    folders = [function.code]
    if opt is not None:
        folders += [opt / "python", *opt.glob("python/lib/python3*/site-packages")]
    for folder in folders:
        path = folder.joinpath(*re.split(r"[./]", module))
        if path.with_name(path.name + ".py").is_file() or (path / "__init__.py").is_file():
            return True
    return False


def _has_node(function: Function, module: str, opt: Path | None) -> bool:
    """Whether a JavaScript handler is found in the code, or at a path such as /opt/nodejs/x.handler in a layer."""
    file = module.rpartition("/")[0] + "/" + module.rpartition("/")[2].partition(".")[0]  # what follows is in it
    path = function.code / file.lstrip("/")
    if opt is not None and module.startswith("/opt/"):
        path = opt / file.removeprefix("/opt/")
    return any(path.with_name(path.name + suffix).is_file() for suffix in _NODE_SUFFIXES)


# Python


@dataclass(frozen=True, slots=True)
class _Interpreter:
    """A Python: its version (3.11), its directory, and the program in it."""

    version: str
    prefix: Path
    program: str


def _python(asked: str, function: Function) -> Runtime:
    wanted = asked.removeprefix("python")
    interpreter, note = _own_interpreter(), ""
    if function.python is not None:
        interpreter = _interpreter(function.python)
    elif wanted not in ("", interpreter.version) and (found := shutil.which(f"python{wanted}")):
        with contextlib.suppress(InvalidSetting):  # a shim of a version that is not there
            interpreter = _interpreter(Path(found))
    if wanted not in ("", interpreter.version):
        how = "" if function.python else f"; there is no python{wanted} here: name one with --python"
        note = f"The function asks for {asked} and runs under Python {interpreter.version}{how}."
    return Runtime(
        identifier=f"python{interpreter.version}",
        program=interpreter.program,
        words=("-S", "/var/runtime/bootstrap.py"),
        names=("python", "python3", f"python{interpreter.version}"),
        lang=interpreter.prefix,
        files=_python_files(interpreter, with_boto3=function.boto3),
        note=note,
    )


def _python_files(interpreter: _Interpreter, *, with_boto3: bool) -> dict[str, Path]:
    """Return what /var/runtime has for a Python function: AWS's runtime interface client, and boto3 if asked for."""
    names = [*_PYTHON_PACKAGES, *(_BOTO3_PACKAGES if with_boto3 else ())]
    if interpreter == _own_interpreter():
        names.append("runtime_client")  # compiled for this version; for others there is one in Python
    files = {path.name: path for name in names if (path := _place_of(name)) is not None}
    if missing := [name for name in names if not any(file.partition(".")[0] == name for file in files)]:
        if missing == ["runtime_client"]:
            return files | _own_client()
        raise InvalidSetting(f"{', '.join(missing)} is not installed beside this tool: pip install {missing[0]}.")
    files["bootstrap.py"] = _HERE / "python" / "bootstrap.py"
    return files if "runtime_client" in names else files | _own_client()


def _own_client() -> dict[str, Path]:
    return {name: _HERE / "python" / name for name in ("bootstrap.py", "runtime_client.py")}


def _place_of(package: str) -> Path | None:
    """Return the directory or file of an installed top-level package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent if spec.submodule_search_locations else Path(spec.origin)


@functools.cache
def _own_interpreter() -> _Interpreter:
    """Return the interpreter that this tool's virtual environment was made of."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return _placed(version, Path(sys.base_prefix), Path(getattr(sys, "_base_executable", sys.executable)))


@functools.cache
def _interpreter(program: Path) -> _Interpreter:
    """Ask a Python what it is. Raises InvalidSetting."""
    question = "import sys; print(*sys.version_info[:2], sep='.'); print(sys.base_prefix); print(sys._base_executable)"
    try:
        answer = subprocess.run(
            [program, "-I", "-c", question], capture_output=True, text=True, timeout=_PROBE_S, check=True
        )
        version, prefix, base = answer.stdout.splitlines()
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise InvalidSetting(f"--python {program} is not a Python that runs: {error}.") from None
    return _placed(version, Path(prefix), Path(base))


def _placed(version: str, prefix: Path, program: Path) -> _Interpreter:
    usual = f"bin/python{version}"
    if (prefix / usual).exists():
        return _Interpreter(version, prefix, usual)
    if program.is_relative_to(prefix):
        return _Interpreter(version, prefix, str(program.relative_to(prefix)))
    raise InvalidSetting(f"The Python {program} is not in its own directory {prefix}: name another with --python.")


# Node.js


def _node(asked: str) -> Runtime:
    program = shutil.which("node")
    if program is None:
        raise InvalidSetting("A JavaScript function needs Node.js: there is no `node` on the PATH.")
    version = _node_version(program)
    wanted = asked.removeprefix("nodejs").removesuffix(".x")
    note = f"The function asks for {asked} and runs under Node.js {version}." if wanted not in ("", version) else ""
    place = Path(program).resolve()
    return Runtime(
        identifier=f"nodejs{version}.x",
        program=str(place.relative_to(place.parents[1])),
        words=("/var/runtime/index.mjs",),
        names=("node",),
        lang=place.parents[1],
        files={"index.mjs": _HERE / "nodejs" / "index.mjs"},
        note=note,
    )


@functools.cache
def _node_version(program: str) -> str:
    """Return the major version. Raises InvalidSetting."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=_PROBE_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise InvalidSetting(f"{program} is not a Node.js that runs: {error}.") from None
    return answer.stdout.strip().removeprefix("v").partition(".")[0]
