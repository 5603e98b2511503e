"""Build the Lambda layer: `python layer/build.py --python 3.12 --arch x86_64 DIRECTORY` (see `make layer`).

    extensions/telemetry-forwarder    what Lambda executes
    telemetry-forwarder-lib/          the package and what it imports, for one Python version and processor
        start.py, python-version      what the executable reads
        bin/, lib/                    an interpreter, where one is given

The wheels are made for glibc 2.17, so that one layer serves Amazon Linux 2 and 2023. The same sources give the same
bytes, whichever of uv and pip installs them: nothing is kept that names a time, a path or a tool.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from packaging.markers import Marker, default_environment

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements-layer.lock"
LIB = "telemetry-forwarder-lib"
ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "aarch64"}

# Parts of our own package that serve development only.
NOT_IN_LAYER = ("telemetry_forwarder/emulator/", "telemetry_forwarder/cli/", "telemetry_forwarder/testing/")

# Of botocore's 400 services those that the extension calls, and what every client is made from.
BOTOCORE_DATA = {
    "logs", "s3", "secretsmanager", "sqs", "ssm", "sts",
    "endpoints.json", "partitions.json", "sdk-default-configuration.json", "_retry.json",
}  # fmt: skip

# Sources of compiled modules, type stubs, tests; and what installers note about themselves.
SUPERFLUOUS = ("*.c", "*.h", "*.pxd", "*.pyi", "*.pyx", "py.typed", "tests", "__pycache__", "bin", ".lock")
NOTES = ("RECORD", "INSTALLER", "REQUESTED", "WHEEL", "direct_url.json", "uv_cache.json", "uv_build.json", "sboms")

# Of an interpreter's standard library: tests, windows, and what installs further packages.
NOT_OF_STDLIB = ("test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "site-packages", "__pycache__")

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip file can name


class BuildError(Exception):
    """The layer cannot be built as asked."""


# --- dependencies ---------------------------------------------------------------------------------------------------


def requirements(lock: str, python: str, arch: str) -> str:
    """Reduce a universal lock to the lines that hold on `python` (`3.12`) and `arch`; their markers are removed.

    pip reads markers for the Python that runs it, whatever `--python-version` says: built on 3.13 for 3.12, the
    layer would lack typing-extensions.
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


def install(lines: str, python: str, arch: str, into: Path) -> None:
    """Install pinned and hashed requirement `lines` as wheels for `python` and `arch`; uv does it where it is there."""
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch) / "requirements.txt"
        listed.write_text(lines)
        common = [
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--target",
            str(into),
            "-r",
            str(listed),
        ]
        if uv := shutil.which("uv"):
            target = [f"--python-version={python}", f"--python-platform={arch}-manylinux2014"]
            run([uv, "pip", "install", f"--python={sys.executable}", "--link-mode=copy", *target, *common])
            return
        platforms = [f"--platform={tag}_{arch}" for tag in ("manylinux2014", "manylinux_2_17")]
        pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-compile"]
        run([*pip, "--implementation=cp", f"--python-version={python}", *platforms, *common])


def install_package(into: Path) -> None:
    """Lay our own package, as its wheel has it, `into` the layer, without the parts in `NOT_IN_LAYER`."""
    with tempfile.TemporaryDirectory() as scratch:
        run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", scratch], cwd=ROOT)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if not name.startswith(NOT_IN_LAYER)]
            archive.extractall(into, names)
    shutil.copyfile(ROOT / "layer" / "start.py", into / "start.py")


def trim(lib: Path) -> None:
    """Remove what no run needs. Licences stay, as do METADATA and entry points, by which sinks are found."""
    for entry in (lib / "botocore" / "data").iterdir():
        if entry.name not in BOTOCORE_DATA:
            remove(entry)
    for pattern in SUPERFLUOUS:
        for found in list(lib.rglob(pattern)):
            remove(found)
    for found in [note for info in lib.glob("*.dist-info") for name in NOTES for note in info.glob(name)]:
        remove(found)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# --- interpreter ----------------------------------------------------------------------------------------------------


def copy_interpreter(home: Path, python: str, lib: Path) -> None:
    """Copy the relocatable CPython in `home` (its bin and lib) into `lib`, as real files: a zip holds no links."""
    program = home / "bin" / f"python{python}"
    stdlib = home / "lib" / f"python{python}"
    if not (program.is_file() and (stdlib / "os.py").is_file()):
        raise BuildError(f"{home} holds no Python {python}: bin/python{python} and lib/python{python}/os.py are needed")
    (lib / "bin").mkdir()
    shutil.copy2(program, lib / "bin" / "python3")
    shutil.copytree(
        stdlib, lib / "lib" / stdlib.name, ignore=shutil.ignore_patterns(*NOT_OF_STDLIB, "config-*", "_test*.so", "*.a")
    )
    for shared in (home / "lib").glob(f"libpython{python}.so*"):
        shutil.copy2(shared, lib / "lib" / shared.name)


# --- byte code ------------------------------------------------------------------------------------------------------


def interpreter_of(python: str, lib: Path) -> str | None:
    """Find an interpreter of the minor version `python` that runs here: the layer's own, ours, or one of PATH."""
    for candidate in (str(lib / "bin" / "python3"), sys.executable, shutil.which(f"python{python}")):
        if candidate and version_of(candidate) == python:
            return candidate
    return None


def version_of(interpreter: str) -> str:
    """Ask `interpreter` for its minor version; empty where it does not run (another processor's, a broken shim)."""
    command = [interpreter, "-I", "-S", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603
    except OSError:
        return ""


def compile_all(lib: Path, interpreter: str) -> None:
    """Write byte code that is never checked against its source: times do not survive a zip, and nothing changes there.

    The layer is read-only, so what is not compiled here is compiled in each environment's cold start.
    """
    paths = ["-s", str(lib), "-p", f"/opt/{LIB}", str(lib)]
    run([interpreter, "-I", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", *paths])


# --- the whole ------------------------------------------------------------------------------------------------------


def build(into: Path, python: str, arch: str, home: Path | None) -> None:
    """Build the layer's tree `into` an empty or missing directory."""
    lib = into / LIB
    lib.mkdir(parents=True)
    install(requirements(LOCK.read_text(), python, arch), python, arch, lib)
    install_package(lib)
    trim(lib)
    (lib / "python-version").write_text(f"{python}\n")
    if home:
        copy_interpreter(home, python, lib)
    if interpreter := interpreter_of(python, lib):
        compile_all(lib, interpreter)
        if arch == platform.machine():
            run([interpreter, "-I", "-S", "-B", str(ROOT / "layer" / "check.py"), str(lib)])
            say(f"checked with {interpreter}")
    else:
        say(f"There is no Python {python} on this machine: the layer is not checked and holds no byte code.")
    (into / "extensions").mkdir()
    executable = into / "extensions" / "telemetry-forwarder"
    shutil.copyfile(ROOT / "extensions" / "telemetry-forwarder", executable)
    executable.chmod(0o755)


def files(tree: Path) -> Iterator[Path]:
    """Name the files under `tree`, in an order that is the same everywhere."""
    return iter(sorted((path for path in tree.rglob("*") if path.is_file()), key=lambda path: path.as_posix()))


def zip_tree(tree: Path, archive: Path) -> None:
    """Write `tree` as a zip whose bytes depend on names, contents and the right to execute, and on nothing else."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for path in files(tree):
            entry = zipfile.ZipInfo(path.relative_to(tree).as_posix(), EPOCH)
            entry.create_system = 3  # Unix, whose mode follows
            mode = 0o755 if os.access(path, os.X_OK) or ".so" in path.suffixes else 0o644
            entry.external_attr = (0o100000 | mode) << 16
            out.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED)


def run(command: list[str], cwd: Path | None = None) -> None:
    found = subprocess.run(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)  # noqa: S603
    if found.returncode:
        raise BuildError(f"{' '.join(command)}\n{found.stdout}")


def say(line: str) -> None:
    sys.stderr.write(f"layer: {line}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the Lambda layer into an empty directory.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--python", default="3.12", help="minor version of the function's runtime, or of --interpreter")
    parser.add_argument("--arch", default="x86_64", choices=sorted(ARCHITECTURES))
    parser.add_argument("--interpreter", type=Path, help="a relocatable CPython to carry, such as uv installs")
    parser.add_argument("--zip", type=Path, help="write the layer as this file too")
    options = parser.parse_args()
    try:
        build(options.directory, options.python, ARCHITECTURES[options.arch], options.interpreter)
        if options.zip:
            options.zip.parent.mkdir(parents=True, exist_ok=True)
            zip_tree(options.directory, options.zip)
    except BuildError as error:
        say(str(error))
        return 1
    size = sum(path.stat().st_size for path in files(options.directory))
    say(f"Python {options.python}, {options.arch}: {size / 1e6:.1f} MB in {options.directory}")
    if options.zip:
        say(f"{options.zip}: {options.zip.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
