"""Why a file cannot be executed: a sentence for people in place of the kernel's two words."""

import platform
import struct
from pathlib import Path

_FIRST_BYTES = 4096
_OPT = Path("/opt")
# Source: elf.h, e_machine. The names are those of Lambda's architectures where it has one.
_MACHINES = {
    3: "i386",
    8: "MIPS",
    20: "PowerPC",
    21: "64-bit PowerPC",
    40: "32-bit Arm",
    62: "x86_64",
    183: "arm64",
    243: "RISC-V",
}
HERE = {"aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), platform.machine())
_PROGRAM_INTERPRETER = 3  # PT_INTERP


def flaw_of(program: Path, *, opt: Path | None = None) -> str:
    """Return what keeps a file from being executed, as the rest of a sentence; "" if nothing is found.

    `opt` is the directory that stands for /opt, if an interpreter may come from a layer.
    """
    try:
        with program.open("rb") as file:
            head = file.read(_FIRST_BYTES)
        mode = program.stat().st_mode
    except OSError:
        return ""
    if not mode & 0o111:
        return "it is not marked as executable; chmod 755 (a ZIP made on Windows loses the mark)."
    if head.startswith(b"#!"):
        return _flaw_of_script(head.partition(b"\n")[0], opt)
    if head.startswith(b"\x7fELF"):
        return _flaw_of_elf(head, opt)
    return "it is neither a program for Linux nor does its first line name an interpreter (#!/bin/sh)."


def processor_of(program: Path) -> str:
    """Return the processor that an ELF program is for, by a name such as `HERE`; "" if it is no such program."""
    with program.open("rb") as file:
        head = file.read(_FIRST_BYTES)
    return _machine(head) if head.startswith(b"\x7fELF") else ""


def _flaw_of_script(first_line: bytes, opt: Path | None) -> str:
    words = first_line[2:].split()
    if not words:
        return "its first line names no interpreter; write one behind the #!, such as /bin/sh."
    if first_line.endswith(b"\r"):
        return "its first line ends in CR LF, and no interpreter's name ends in CR; save it with LF line ends."
    interpreter = words[0].decode("utf-8", "replace")
    if _is_missing(interpreter, opt):
        return f"its interpreter {interpreter} does not exist; on Lambda it must be the runtime's or come in a layer."
    return ""


def _flaw_of_elf(head: bytes, opt: Path | None) -> str:
    machine = _machine(head)
    if machine != HERE:
        return f"it is a program for {machine}, and this machine is {HERE}; build it for {HERE}."
    loader = _loader(head)
    if loader and _is_missing(loader, opt):
        return f"its loader {loader} does not exist; link it statically, or against the C library that is there."
    return ""


def _order(head: bytes) -> str:
    return ">" if head[5:6] == b"\x02" else "<"


def _machine(head: bytes) -> str:
    (number,) = struct.unpack_from(f"{_order(head)}H", head, 18) if len(head) >= 20 else (0,)
    return _MACHINES.get(number, f"an unknown processor ({number})")


def _loader(head: bytes) -> str:
    """Return the program interpreter that a 64-bit ELF file asks for; "" if there is none in its first bytes."""
    if head[4:5] != b"\x02":
        return ""
    order = _order(head)
    try:
        (table,) = struct.unpack_from(f"{order}Q", head, 32)
        size, count = struct.unpack_from(f"{order}HH", head, 54)
        for number in range(count):
            kind, _, offset, _, _, length = struct.unpack_from(f"{order}IIQQQQ", head, table + number * size)
            if kind == _PROGRAM_INTERPRETER:
                return head[offset : offset + length].rstrip(b"\0").decode("utf-8", "replace")
    except struct.error:  # cut off, or not within the first bytes
        return ""
    return ""


def _is_missing(name: str, opt: Path | None) -> bool:
    path = Path(name)
    if opt is not None and path.is_relative_to(_OPT):
        path = opt / path.relative_to(_OPT)
    return not path.is_file()
