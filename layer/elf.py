"""Reads what an ELF file (a program or shared object) needs from the system, and strips what only a debugger needs."""

import re
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from layer.errors import Refused

_MAGIC = b"\x7fELF"
_MACHINES = {"EM_X86_64": "x86_64", "EM_AARCH64": "aarch64"}
Version = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Elf:
    """The relevant parts of one file: its processor, the libraries it `needs`, where it looks for them, its symbols."""

    path: Path
    arch: str
    soname: str
    needs: tuple[str, ...]
    interpreter: str
    rpath: str
    runpath: str
    symbols: tuple[tuple[str, Version], ...]  # each versioned symbol of the C library, with its version
    defines: tuple[Version, ...]  # the C library versions that this file itself defines

    @property
    def glibc(self) -> Version:
        """The oldest C library with which this file loads; (0,) if any will do."""
        return max((version for _, version in self.symbols), default=(0,))

    def newer_than(self, glibc: Version) -> list[str]:
        """Return the symbols that a C library of version `glibc` lacks."""
        return [f"{name}@GLIBC_{dotted(version)}" for name, version in self.symbols if version > glibc]


def dotted(version: Version) -> str:
    return ".".join(map(str, version))


def is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == _MAGIC


def read(path: Path) -> Elf:
    """Read the ELF file `path`. Raises Refused if it is not one, or is for a processor that Lambda does not have."""
    state = path.stat()
    return _read_once(path, state.st_mtime_ns, state.st_size)


@cache
def _read_once(path: Path, mtime_ns: int, size: int) -> Elf:
    """Read `path` once per modification: each file is read several times while a layer is built."""
    try:
        with path.open("rb") as file:
            return _read(path, ELFFile(file))
    except (ELFError, OSError, struct.error) as error:
        raise Refused(f"{path} is not a whole ELF file ({error})", "Install what it belongs to again") from error


def _read(path: Path, elf: Any) -> Elf:
    arch = _MACHINES.get(elf["e_machine"])
    if arch is None or elf.elfclass != 64 or not elf.little_endian:
        raise Refused(
            f"{path} is made for {elf.get_machine_arch()}, and Lambda has x86_64 and arm64 alone",
            "Take it from a package for one of those",
        )
    dynamic: dict[str, list[str]] = {"DT_NEEDED": [], "DT_SONAME": [], "DT_RPATH": [], "DT_RUNPATH": []}
    interpreter = ""
    for segment in elf.iter_segments():
        if segment["p_type"] == "PT_INTERP":
            interpreter = segment.get_interp_name()
        elif segment["p_type"] == "PT_DYNAMIC":
            for tag in segment.iter_tags():
                if tag.entry.d_tag in dynamic:
                    dynamic[tag.entry.d_tag].append(getattr(tag, tag.entry.d_tag.removeprefix("DT_").lower()))
    return Elf(
        path=path,
        arch=arch,
        soname="".join(dynamic["DT_SONAME"]) or path.name,
        needs=tuple(dynamic["DT_NEEDED"]),
        interpreter=interpreter,
        rpath=":".join(dynamic["DT_RPATH"]),
        runpath=":".join(dynamic["DT_RUNPATH"]),
        symbols=tuple(_symbols(elf)),
        defines=tuple(_definitions(elf)),
    )


def _definitions(elf: Any) -> list[Version]:
    section = elf.get_section_by_name(".gnu.version_d")
    names = (
        [auxiliary.name for _, auxiliaries in section.iter_versions() for auxiliary in auxiliaries] if section else []
    )
    return sorted({version for name in names if (version := _version(name))})


def _version(name: str) -> Version:
    match = re.fullmatch(r"GLIBC_(\d+(?:\.\d+)+)", name)
    return tuple(map(int, match[1].split("."))) if match else ()


def _symbols(elf: Any) -> list[tuple[str, Version]]:
    """Return each imported symbol with its GLIBC_ version. A version without a symbol gets the name "the loader".

    The loader checks the list of versions before any symbol, so every version counts.
    """
    needed, numbers, table = (elf.get_section_by_name(name) for name in (".gnu.version_r", ".gnu.version", ".dynsym"))
    if needed is None:
        return []
    versions = {}
    for _, auxiliaries in needed.iter_versions():
        for auxiliary in auxiliaries:
            if version := _version(auxiliary.name):
                versions[auxiliary["vna_other"]] = version
            elif auxiliary.name == "GLIBC_ABI_DT_RELR":  # only loaders from 2.36 on know such relocations
                versions[auxiliary["vna_other"]] = (2, 36)
    found, seen = [], set()
    if numbers is not None and table is not None:
        # There is one 16-bit number per symbol; of thousands, only few belong to imported symbols.
        for index, (number,) in enumerate(struct.iter_unpack("<H", numbers.data())):
            if number in versions:
                found.append((table.get_symbol(index).name, versions[number]))
                seen.add(number)
    found.extend(("the loader", version) for number, version in versions.items() if number not in seen)
    return sorted(found)


# --- stripping ------------------------------------------------------------------------------------------------------

# The offsets changed in the header of a 64-bit file, and the layout of one entry in the section table: name, type,
# flags, addr, offset, size, link, info, addralign, entsize. Source: the ELF specification, chapter 4.
E_SHOFF, E_SHENTSIZE = 0x28, 0x3A
_SECTION = struct.Struct("<IIQQQQIIQQ")
SHF_ALLOC, SHF_INFO_LINK, SHT_REL, SHT_RELA = 0x2, 0x40, 9, 4


def strip(path: Path) -> None:
    """Remove the sections that are never loaded: debug symbols, line tables, compiler notes.

    This does what binutils' `strip` does, which is not installed everywhere. Those sections lie behind everything that
    is loaded; a file with another layout is left unchanged.
    """
    content = path.read_bytes()
    (shoff,) = struct.unpack_from("<Q", content, E_SHOFF)
    size, count, names_at = struct.unpack_from("<HHH", content, E_SHENTSIZE)
    if not shoff or size != _SECTION.size or not count:
        return
    sections = [_SECTION.unpack_from(content, shoff + number * size) for number in range(count)]
    end = _end_of_loaded(content)
    kept = [0, *(number for number, section in enumerate(sections) if section[2] & SHF_ALLOC)]
    if any(sections[number][4] > end for number in kept):
        return
    path.write_bytes(_without(content[:end], sections, kept, names_at, content))


def _end_of_loaded(content: bytes) -> int:
    """Return the file offset at which the last segment ends."""
    (phoff,) = struct.unpack_from("<Q", content, 0x20)
    size, count = struct.unpack_from("<HH", content, 0x36)
    ends: list[int] = [phoff + size * count]
    for number in range(count):
        offset, _, _, length = struct.unpack_from("<QQQQ", content, phoff + number * size + 8)
        ends.append(offset + length)
    return max(ends)


def _without(loaded: bytes, sections: list[tuple[int, ...]], kept: list[int], names_at: int, content: bytes) -> bytes:
    """Return `loaded`, followed by the section names and a section table with only the `kept` sections."""
    out = bytearray(loaded)
    names = sections[names_at]
    out += content[names[4] : names[4] + names[5]]
    places = {old: new for new, old in enumerate(kept)}
    out += bytes(-len(out) % 8)
    table_at = len(out)
    for number in kept:
        out += _SECTION.pack(*_moved(sections[number], places))
    out += _SECTION.pack(names[0], names[1], names[2], 0, len(loaded), *names[5:])
    struct.pack_into("<Q", out, E_SHOFF, table_at)
    struct.pack_into("<HHH", out, E_SHENTSIZE, _SECTION.size, len(kept) + 1, len(kept))
    return bytes(out)


def _moved(section: tuple[int, ...], places: dict[int, int]) -> tuple[int, ...]:
    """Return `section` with the new numbers of the sections that it refers to; 0 for a removed one."""
    *front, link, info, align, entsize = section
    names_a_section = section[2] & SHF_INFO_LINK or section[1] in (SHT_REL, SHT_RELA)
    return (*front, places.get(link, 0), places.get(info, 0) if names_a_section else info, align, entsize)
