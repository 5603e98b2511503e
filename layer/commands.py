"""Runs other programs and reports their errors."""

import subprocess
import sys
from pathlib import Path

from layer.errors import Refused


def run(
    command: list[str],
    remedy: str,
    *,
    cwd: Path | None = None,
    environ: dict[str, str] | None = None,
    called: str = "",
) -> str:
    """Return the standard output of `command`. Raises Refused with its error output and `remedy` if it fails.

    The refusal calls it `called`, else by its program.
    """
    found = subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, check=False)  # noqa: S603
    if found.returncode:
        words = (found.stderr or found.stdout).strip() or f"exit code {found.returncode}"
        if "Traceback (most recent call last)" in words:
            words = words.splitlines()[-1]
        raise Refused(f"{called or Path(command[0]).name} failed: {words}", remedy)
    return found.stdout


def say(line: str) -> None:
    sys.stderr.write(f"layer: {line}\n")
