"""What keeps a file from being executed, in words."""

import platform
import shutil
import struct
from pathlib import Path

import pytest

from local_lambda.machine.executables import flaw_of

HERE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())


def elf(machine: int, *, order: str = "<", loader: bytes = b"") -> bytes:
    """Return the head of a 64-bit program with one program header."""
    ident = b"\x7fELF\x02" + (b"\x01" if order == "<" else b"\x02") + b"\x01" + bytes(9)
    header = struct.pack(f"{order}HHIQQQIHHHHHH", 2, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    kind = 3 if loader else 1
    return ident + header + struct.pack(f"{order}IIQQQQQQ", kind, 4, 120, 0, 0, len(loader), len(loader), 1) + loader


def written(folder: Path, content: bytes, mode: int = 0o755) -> Path:
    path = folder / "mine"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"#!/bin/sh\r\nexit 0\r\n", "its first line ends in CR LF"),
        (b"#!/usr/bin/env python3\r\n", "its first line ends in CR LF"),
        (b"#!/nowhere/python3\n", "its interpreter /nowhere/python3 does not exist"),
        (b"#!\n", "its first line names no interpreter"),
        (b"exit 0\n", "it is neither a program for Linux"),
        (b"", "it is neither a program for Linux"),
        (elf(8), f"it is a program for MIPS, and this machine is {HERE}; build it for {HERE}."),
        (elf(20, order=">"), "it is a program for PowerPC"),
        (elf(183 if HERE == "x86_64" else 62), "it is a program for " + ("arm64" if HERE == "x86_64" else "x86_64")),
        (elf(0xFFFF), "it is a program for an unknown processor (65535)"),
        (b"\x7fELF", "it is a program for an unknown processor (0)"),
        (elf(62 if HERE == "x86_64" else 183, loader=b"/lib/ld-none.so.1\0"), "its loader /lib/ld-none.so.1 does not"),
    ],
)
def test_each_flaw_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    assert flaw_of(written(tmp_path, content)).startswith(words)


def test_a_file_that_is_not_marked_says_so_first(tmp_path: Path) -> None:
    assert "chmod 755" in flaw_of(written(tmp_path, b"#!/bin/sh\r\n", 0o644))


@pytest.mark.parametrize("content", [b"#!/bin/sh\n", b"#!/usr/bin/env python3\n", b"#! /bin/sh -e\n"])
def test_what_can_be_executed_has_no_flaw(tmp_path: Path, content: bytes) -> None:
    assert flaw_of(written(tmp_path, content)) == ""


def test_a_program_of_this_machine_has_no_flaw(tmp_path: Path) -> None:
    program = shutil.which("sleep")
    assert program is not None
    assert flaw_of(Path(program)) == ""


def test_an_interpreter_may_come_from_a_layer(tmp_path: Path) -> None:
    path = written(tmp_path, b"#!/opt/mine/python3\n")
    assert flaw_of(path).startswith("its interpreter /opt/mine/python3 does not exist")
    (tmp_path / "opt" / "mine").mkdir(parents=True)
    (tmp_path / "opt" / "mine" / "python3").touch()
    assert flaw_of(path, opt=tmp_path / "opt") == ""
