"""Which QEMU starts a layer for the other processor, and how it is fetched."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from layer import debian, elf, qemu, sources
from layer.__main__ import FETCHED
from layer.debian import Archive
from layer.errors import Refused
from tests.layer.test_sources import OTHER, needs_apt


@pytest.fixture
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without QEMU, on which nothing was fetched; yields the directory for what is."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(qemu, "FETCHED", tmp_path / "fetched")
    (tmp_path / "fetched").mkdir()
    return tmp_path / "fetched"


def test_one_that_is_installed_comes_before_one_that_was_fetched(nothing_installed: Path) -> None:
    assert qemu.emulator("aarch64") is None
    fetched = nothing_installed / "qemu-aarch64"
    fetched.touch()
    assert qemu.emulator("aarch64") == str(fetched)
    installed = nothing_installed.parent / "qemu-aarch64-static"
    installed.touch(0o755)
    assert qemu.emulator("aarch64") == str(installed)
    assert qemu.emulator("x86_64") is None


def archive_with(program: Path, into: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An archive whose package holds `program`."""
    asked: list[str] = []

    def fetch_program(_: Archive, package: str, name: str, target: Path) -> None:
        assert (package, name) == ("qemu-user", "usr/bin/qemu-aarch64")
        assert not asked, "fetched twice"
        asked.append(package)
        shutil.copyfile(program, target)

    monkeypatch.setattr(Archive, "fetch_program", fetch_program)
    return Archive(into=into)


def test_what_was_fetched_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    static = tmp_path / "static"
    static.write_bytes(b"")
    monkeypatch.setattr(elf, "read", lambda path: Needs())
    archive = archive_with(static, tmp_path, monkeypatch)
    assert qemu.fetch("aarch64", archive) == qemu.fetch("aarch64", archive) == tmp_path / "qemu-aarch64"


class Needs:
    needs: tuple[str, ...] = ()


def test_one_that_needs_libraries_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is put alone into a root that holds the layer; and what is refused is not there the next time."""
    archive = archive_with(Path(sys.executable).resolve(), tmp_path, monkeypatch)
    with pytest.raises(Refused, match=r"qemu-aarch64 of Debian unstable needs lib\S+, and is to run where"):
        qemu.fetch("aarch64", archive)
    assert not (tmp_path / "qemu-aarch64").exists()


@needs_apt
def test_an_archive_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    nowhere = Archive(mirror=f"file:{tmp_path}/no-archive", suite=qemu.SUITE, into=tmp_path / "fetched")
    with pytest.raises(Refused, match=r"^qemu-user cannot be fetched from file:.*, or install qemu-user\.$"):
        qemu.fetch("aarch64", nowhere)
    assert not (tmp_path / "fetched" / "qemu-aarch64").exists()


def test_a_machine_without_apt_is_told(
    nothing_installed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["layer.qemu"])
    assert qemu.main() == 1
    assert "refused: Debian's packages cannot be fetched here: apt-get, " in capsys.readouterr().err


@pytest.mark.skipif(qemu.emulator(OTHER) is None, reason=f"no qemu-{OTHER} here: make qemu")
def test_it_runs_a_program_of_the_other_processor() -> None:
    """The fetched CPython for that processor, by its own loader."""
    home = FETCHED / f"debian-{debian._ARCHITECTURES[OTHER]}" / "root"
    programs = list(home.glob("usr/bin/python3.*"))
    if not programs:
        pytest.skip("no Python for the other processor was fetched: make layer LAYER_ARCH=…")
    program = elf.read(programs[0])
    loader = home / program.interpreter.lstrip("/")
    libraries = f"{next(home.glob('usr/lib/*-linux-gnu'))}"
    command = [str(qemu.emulator(OTHER)), str(loader), "--library-path", libraries, str(programs[0])]
    script = "import os, sys; print(os.uname().machine, *sys.version_info[:2])"
    ended = subprocess.run([*command, "-IS", "-c", script], capture_output=True, text=True, check=True, env={})
    assert ended.stdout.split() == [OTHER, *map(str, sources.NEWEST)]
