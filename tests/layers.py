"""A built layer for the tests: that of `make layer` where it is newer than what it is made of, else one built here."""

import fcntl
import os
import platform
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.surroundings import NETWORK

REPOSITORY = Path(__file__).parents[1]
ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
MADE = REPOSITORY / "dist" / f"telemetry-forwarder-layer-{ARCHITECTURE}.zip"
PRIVATE = "telemetry-forwarder"
CHROOT = shutil.which("chroot", path="/usr/sbin:/usr/bin:/sbin:/bin")  # not on the PATH of Lambda
EXECUTABLE = "/opt/extensions/telemetry-forwarder"


def inputs() -> Iterator[Path]:
    """Name what a layer is made of."""
    yield from (REPOSITORY / "requirements-layer.lock", REPOSITORY / "extensions" / "telemetry-forwarder")
    yield from (path for path in (REPOSITORY / "layer").iterdir() if path.suffix in (".py", ".txt"))
    for path in (REPOSITORY / "telemetry_forwarder").rglob("*.py"):
        if path.relative_to(REPOSITORY).parts[1] not in ("cli", "testing", "replay"):
            yield path


def is_fresh(built: Path) -> bool:
    """Say whether `built` is there, and newer than all that a layer is made of."""
    return built.exists() and built.stat().st_mtime >= max(path.stat().st_mtime for path in inputs())


def has_packages(built: Path) -> bool:
    """Say whether `make layer` was told to put packages of others into the ZIP file `built`."""
    with zipfile.ZipFile(built) as archive:
        return b"telemetry-forwarder:sinks" in archive.read(f"{PRIVATE}/sbom.cdx.json")


def layer_zip(folder: Path) -> Path:
    """Return a ZIP file of today's layer; where it must be built, that is done once, in `folder`."""
    if is_fresh(MADE) and not has_packages(MADE):
        return MADE
    return _once(
        folder / "layer.zip", lambda part: build(folder / "layer", "--python", sys.executable, "--zip", str(part))
    )


def with_packages(folder: Path, layer: Path, *words: str) -> Path:
    """Return the tree of `layer` with packages of others, which are added once, in `folder`."""
    options = [option for word in words for option in ("--package", word)]
    return _once(folder / "with-packages", lambda part: build(part, "--onto", str(layer), *options))


def _once(made: Path, make: Callable[[Path], None]) -> Path:
    with made.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of one run share the folder
        if not made.exists():
            make(part := made.with_suffix(".part"))
            part.rename(made)
    return made


def build(into: Path, *options: str, **environ: str) -> None:
    """Build a layer as `make layer` does."""
    command = [sys.executable, "-m", "layer", *options, str(into)]
    surroundings = {**NETWORK, **(environ or os.environ)}
    subprocess.run(command, cwd=REPOSITORY, env=surroundings, check=True, capture_output=True, timeout=300)


def unpack(archive: Path, into: Path) -> Path:
    """Unpack `archive` with its modes, as Lambda does into /opt; return `into`."""
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            target = into / member.filename
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(member) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            target.chmod(member.external_attr >> 16 & 0o777)
    return into


# --- another root ---------------------------------------------------------------------------------------------------


def namespace(*options: str) -> list[str] | None:
    """Return the command that gives a program mounts (and where needed users) of its own; None where none may have."""
    for command in (["unshare", "--mount", *options], ["unshare", "--map-root-user", "--mount", *options]):
        try:
            if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
                return command
        except OSError:
            return None
    return None


NO_NAMESPACE = "mounts of one's own need the right to make them (root, or user namespaces)"


def at_root(root: Path) -> str:
    """Return the shell line that starts the extension with `root` as its whole file system."""
    return f"exec {' '.join(namespace() or [])} {CHROOT} '{root}' {EXECUTABLE}"


def at_opt(opt: Path, *steps: str, environ: dict[str, str] | None = None, cwd: str = "/") -> str:
    """Return the shell line that starts the extension with `opt` as /opt, read-only, after further `steps`.

    `environ` is set for the extension alone, because it may be of a kind that no shell could bear.
    """
    script = [
        "unset LD_LIBRARY_PATH",  # what lies in opt/lib is for the extension, not for these steps
        f"mount --bind '{opt}' /opt",
        "mount -o remount,bind,ro /opt",
        *steps,
        f"cd '{cwd}'",
        f"exec env {' '.join(f'{name}={shlex.quote(value)}' for name, value in (environ or {}).items())} {EXECUTABLE}",
    ]
    return f"exec {' '.join(namespace() or [])} sh -euc {shlex.quote(' && '.join(script))}"


def wrapper(folder: Path, line: str) -> Path:
    """Make a directory that plays /opt for the local Lambda, and whose extension is a shell that does `line`."""
    executable = folder / "extensions" / "telemetry-forwarder"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\n{line}\n")
    executable.chmod(0o755)
    return folder
