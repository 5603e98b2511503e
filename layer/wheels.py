"""Installs the packages in the lock for the layer's Python and processor, and adds our own package."""

import json
import os
import re
import shutil
import sys
import tempfile
import zipfile
from importlib.metadata import distributions
from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement

from layer import locked, service_models
from layer.commands import run
from layer.errors import Refused
from layer.interpreter import Interpreter

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements-layer.lock"

# Parts of our own package that serve development only.
NOT_IN_FUNCTION = ("local_lambda/", "local_backends/", "telemetry_forwarder/cli/", "telemetry_forwarder/testing/")
_NOT_IN_LAYER = (*NOT_IN_FUNCTION, "telemetry_forwarder/replay/")

# The services, of botocore's 400, that the extension calls, and the data that every client needs.
_BOTOCORE_DATA = {
    *service_models.OPERATIONS, "endpoints.json", "partitions.json", "sdk-default-configuration.json", "_retry.json",
}  # fmt: skip

# Sources of compiled modules, type stubs, tests; and installers' own notes.
_SUPERFLUOUS = (
    "*.c", "*.h", "*.hash", "*.pxd", "*.pxi", "*.pyi", "*.pyx", "py.typed", "tests", "__pycache__", "bin", ".lock",
    "dateutil/zoneinfo", "pytest_plugin.py", "test_utils.py", "urllib3/contrib/emscripten",
    "aiohttp/_websocket/*.so",  # never used, and there in Python, too
    "isal/igzip.py", "isal/igzip_threaded.py", "isal/isa-l/[!L]*",  # commands and notes; `isal_zlib` is what is used
    "_frozenlist.*.so",  # the only module that needs libstdc++, 2 MB; the package also has it in Python
)  # fmt: skip

# The notes of installers that are kept: importlib finds distributions by METADATA, we find the sinks by entry points.
_KEPT_NOTES = ("METADATA", "entry_points.txt")


def requirements(lock: str, python: str, arch: str) -> str:
    """Return the lines of a universal lock that apply to `python` (`3.12`) and `arch`, without their markers.

    pip evaluates markers for the Python that runs it, whatever `--python-version` says: a layer built on 3.13 for 3.12
    would lack typing-extensions.
    """
    target = target_environment(python, arch)
    kept = []
    for requirement in re.split(r"\n(?=\S)", lock.strip()):
        first, *hashes = requirement.split("\n")
        pinned, _, marker = first.removesuffix("\\").partition(" ; ")
        if not marker or Marker(marker.strip()).evaluate(target):
            kept.append("\n".join([f"{pinned.strip()} \\", *hashes]) if hashes else pinned.strip())
    return "\n".join(kept) + "\n"


def target_environment(python: str, arch: str) -> dict[str, str]:
    return {name: str(value) for name, value in default_environment().items()} | {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": arch,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }


def install(lines: str, target: Interpreter, into: Path) -> None:
    """Install the pinned and hashed requirements in `lines` as wheels for `target`, with uv if it is there.

    The wheels are made for glibc 2.17, so that one layer serves Amazon Linux 2 and 2023. Those for the newest Python
    may name a later one, that on which they were built; what they really need is checked afterwards.
    """
    python, arch = target.minor, target.arch
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch) / "requirements.txt"
        listed.write_text(lines)
        common = ["--quiet", *locked.EXACTLY, "--only-binary=:all:", f"--target={into}", f"--requirement={listed}"]
        if uv := locked.uv():
            wanted = [f"--python-version={python}", f"--python-platform={arch}-manylinux_2_{latest_glibc(target)}"]
            command = [uv, "pip", "install", f"--python={sys.executable}", "--link-mode=copy", *wanted, *common]
        else:
            command = [*pip_for(target), *common]
        remedy = f"There must be a wheel of each for Python {python}: choose another with --python, or `make lock`"
        run(command, remedy, environ=locked.environment(os.environ))


def latest_glibc(target: Interpreter) -> int:
    """Return the Y of the newest `manylinux_2_Y` that a wheel for `target` may name."""
    return 39 if target.number >= (3, 15) else 17


def pip_for(target: Interpreter) -> list[str]:
    """Return the command of pip that installs wheels for `target`."""
    tags = ("manylinux2014", *(f"manylinux_2_{minor}" for minor in range(5, latest_glibc(target) + 1)))
    platforms = [f"--platform={tag}_{target.arch}" for tag in tags]
    pip = [*locked.pip(sys.executable), "install", "--no-compile"]
    return [*pip, "--implementation=cp", f"--python-version={target.minor}", *platforms]


def complete(lib: Path, python: str, arch: str) -> None:
    """Raise Refused if a distribution in `lib` requires another that is missing or has a version out of range.

    This is pip's own `check`, but for a directory made for another Python or processor.
    """
    found = {normal(one.name): one for one in distributions(path=[str(lib)])}
    target = target_environment(python, arch)
    lacking = []
    asked: list[tuple[str, str]] = [(name, "") for name in found]
    for name, extra in asked:  # grows during the loop: a requested extra has requirements, too
        for requirement in map(Requirement, found[name].requires or ()):
            if requirement.marker and not requirement.marker.evaluate(target | {"extra": extra}):
                continue
            wanted = found.get(normal(requirement.name))
            if wanted is None or not requirement.specifier.contains(wanted.version, prereleases=True):
                lacking.append(f"{name} asks for {requirement}")
            else:
                more = ((normal(requirement.name), each) for each in sorted(requirement.extras))
                asked.extend(one for one in more if one not in asked)
    if lacking:
        raise Refused(f"{LOCK.name} is not complete: {'; '.join(sorted(set(lacking)))}", "Run `make lock`")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def install_package(into: Path, without: tuple[str, ...] = _NOT_IN_LAYER) -> str:
    """Unpack our own package, from its wheel, `into` the layer, but for the folders `without`; return its version."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", scratch]
        run(command, "Run `make install`, which installs hatchling", cwd=ROOT)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if not name.startswith(without)]
            archive.extractall(into, names)
        return wheel.name.split("-")[1]


def trim(lib: Path, operations: service_models.Operations = service_models.OPERATIONS) -> None:
    """Remove files that no run needs, and of botocore's models all but `operations`.

    Licences stay; METADATA and the entry points stay, by which sinks are found.
    """
    for entry in (lib / "botocore" / "data").iterdir():
        if entry.name not in _BOTOCORE_DATA:
            remove(entry)
    _thin_endpoints(lib / "botocore" / "data" / "endpoints.json")
    service_models.cut(lib / "botocore" / "data", operations)
    for pattern in _SUPERFLUOUS:
        for found in list(lib.rglob(pattern)):
            remove(found)


def _thin_endpoints(path: Path) -> None:
    """Keep only the services in use in botocore's list of endpoints: the whole list takes 6 MB of memory."""
    data = json.loads(path.read_text())
    for partition in data["partitions"]:
        services = partition["services"]
        partition["services"] = {name: services[name] for name in services if name in _BOTOCORE_DATA}
    path.write_text(json.dumps(data, separators=(",", ":")))


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def drop_licences(lib: Path) -> None:
    """Remove the licence texts next to the packages: `bill` has copied them all to one place. So with descriptions."""
    for info in lib.glob("*.dist-info"):
        for entry in list(info.iterdir()):
            if entry.name not in _KEPT_NOTES:
                remove(entry)
        notes = info / "METADATA"
        fields, _, _description = notes.read_text(encoding="utf-8").partition("\n\n")
        notes.write_text(f"{fields.rstrip()}\n", encoding="utf-8")
    remove(lib / "isal" / "isa-l")
