"""Installs exactly what a lock names: `python -I layer/locked.py VENV LOCK`, which the Makefile calls.

A lock (requirements*.lock) names every package with its version and hashes. So nothing is resolved, and a newer release
in an index changes nothing. Afterwards it is checked against the metadata of the installed packages that the lock is
complete.

uv is used if it is there, else pip. This runs before anything is installed, so it needs the standard library only.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

EXACTLY = ("--no-deps", "--require-hashes")

# The user's settings that are kept: they say where packages come from and how they are fetched. Others (PIP_USER,
# PIP_TARGET, PIP_CONSTRAINT, UV_EXCLUDE_NEWER, …) change what is installed, or where; this program decides that.
_SOURCES = (
    "PIP_CACHE_DIR", "PIP_CERT", "PIP_CLIENT_CERT", "PIP_CONFIG_FILE", "PIP_DEFAULT_TIMEOUT", "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_KEYRING_PROVIDER", "PIP_NO_CACHE_DIR", "PIP_NO_COLOR", "PIP_NO_INDEX",
    "PIP_PROGRESS_BAR", "PIP_PROXY", "PIP_QUIET", "PIP_RETRIES", "PIP_TIMEOUT", "PIP_TRUSTED_HOST", "PIP_VERBOSE",
    "UV_CACHE_DIR", "UV_CONCURRENT_*", "UV_CONFIG_FILE", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS",
    "UV_HTTP_*", "UV_INDEX*", "UV_INSECURE_HOST", "UV_KEYRING_PROVIDER", "UV_LINK_MODE", "UV_NATIVE_TLS",
    "UV_NO_CACHE", "UV_NO_INDEX", "UV_OFFLINE", "UV_PYTHON_*", "UV_REQUEST_TIMEOUT", "UV_SYSTEM_CERTS",
)  # fmt: skip
_SOURCE = re.compile("|".join(name.replace("*", ".*") for name in _SOURCES))


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return `given` without the settings that would make pip or uv install something else, or elsewhere."""
    kept = {
        name: value for name, value in given.items() if not name.startswith(("PIP_", "UV_")) or _SOURCE.fullmatch(name)
    }
    kept.pop("VIRTUAL_ENV", None)
    return kept | {"PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def pip(python: Path | str) -> list[str]:
    """Return the command of `python`'s pip. With -I, packages on PYTHONPATH or of the user do not count as present."""
    return [str(python), "-I", "-m", "pip"]


def uv() -> str | None:
    return shutil.which("uv")


def pinned(lock: str, name: str) -> str | None:
    """Return the requirement `name` of a lock with its hashes, unchanged; None if the lock does not name it."""
    found = re.search(rf"^{re.escape(name)}==.*(?:\n .*)*", lock, re.MULTILINE)
    return found[0] + "\n" if found else None


class _Failed(Exception):
    """A step failed; the text names it, and its own output is printed above."""


def install(venv: Path, lock: Path, editable: Path | None = None) -> None:
    """Create `venv` anew with the current Python and the packages in `lock`. `editable` is a project to add to it.

    The project's build backend must be in the lock. Raises _Failed.
    """
    python = venv / "bin" / "python"
    count = len(re.findall(r"^\S+==", lock.read_text(), re.MULTILINE))
    own = ["--no-deps", "--no-build-isolation", "--no-index", "--editable", str(editable)]
    program = uv()
    _say(f"{venv}: {count} packages of {lock.name}, with {'uv' if program else 'pip; a minute or two'}")
    if program:
        _run([program, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)])
        there = [f"--python={python}"]
        # As pip does; otherwise the first start would have to compile.
        _run([program, "pip", "install", *there, "--compile-bytecode", *EXACTLY, "--requirement", str(lock)])
        if editable:
            _run([program, "pip", "install", *there, *own])
        _run([program, "pip", "check", *there])
        return
    _run([sys.executable, "-I", "-m", "venv", "--clear", str(venv)])
    if newer := pinned(lock.read_text(), "pip"):
        # The pip that comes with a Python may be years old, and then takes a minute longer to read an index.
        _run([*pip(python), "install", "--quiet", *EXACTLY, "--requirement", "/dev/stdin"], stdin=newer)
    _run([*pip(python), "install", *EXACTLY, "--requirement", str(lock)])
    if editable:
        _run([*pip(python), "install", *own])
    _run([*pip(python), "check"])


def _run(command: Iterable[str], stdin: str = "") -> None:
    words = list(command)
    try:
        subprocess.run(words, check=True, env=environment(os.environ), input=stdin, text=True)  # noqa: S603
    except subprocess.CalledProcessError as error:
        raise _Failed(f"exit code {error.returncode} of: {shlex.join(words)}") from None


def _say(line: str) -> None:
    sys.stderr.write(f"install: {line}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="layer/locked.py", description="Install what a lock names.")
    parser.add_argument("venv", type=Path, help="the virtual environment; what is there is removed")
    parser.add_argument("lock", type=Path)
    parser.add_argument("--editable", type=Path, metavar="PROJECT", help="a project to install beside it")
    options = parser.parse_args()
    try:
        install(options.venv, options.lock, options.editable)
    except _Failed as failure:
        _say(str(failure))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
