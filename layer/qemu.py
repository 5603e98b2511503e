"""Fetches QEMU's user-mode emulation, by which a layer for the other processor is started on this machine.

    python -m layer.qemu [--mirror URL]                 `make qemu`

Debian's `qemu-user` is for all processors, linked statically, and 60 MB; one program of it is kept in build/qemu, until
`make clean`. It is fetched as CPython is (layer/debian.py): verified, by any user, and nothing is installed.
"""

import argparse
import platform
import shutil
import sys
from pathlib import Path

from layer import elf
from layer.commands import say
from layer.debian import Archive
from layer.errors import Refused

FETCHED = Path(__file__).resolve().parents[1] / "build" / "qemu"
SUITE = "stable"  # for years one version
_PACKAGE = "qemu-user"
_OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}


def emulator(arch: str) -> str | None:
    """Return the program that runs programs for `arch` here: one installed, else what was fetched; None without."""
    installed = shutil.which(f"qemu-{arch}-static") or shutil.which(f"qemu-{arch}")
    fetched = FETCHED / f"qemu-{arch}"
    return installed or (str(fetched) if fetched.is_file() else None)


def fetch(arch: str, archive: Archive) -> Path:
    """Return the program that runs programs for `arch`, fetched from `archive` if it is not there. Raises Refused."""
    program = archive.into / f"qemu-{arch}"
    if not program.is_file():
        part = archive.into / f"{program.name}.new"
        archive.fetch_program(_PACKAGE, f"usr/bin/{program.name}", part)
        if needs := elf.read(part).needs:
            raise Refused(
                f"{program.name} of Debian {archive.suite} needs {needs[0]}, and is to run where nothing else is",
                "Name a newer archive with --mirror, or install qemu-user-static",
            )
        part.rename(program)
    return program


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m layer.qemu", description="Fetch QEMU's user-mode emulation.")
    parser.add_argument("--mirror", metavar="URL", help="an archive of Debian's (http://deb.debian.org/debian)")
    options = parser.parse_args()
    arch = _OTHER.get(platform.machine(), "aarch64")
    try:
        program = emulator(arch) or str(fetch(arch, Archive(mirror=options.mirror, suite=SUITE, into=FETCHED)))
    except Refused as refusal:
        say(f"refused: {refusal}")
        return 1
    say(f"programs for {arch} are run by {program}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
