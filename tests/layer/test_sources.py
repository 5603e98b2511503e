"""Which interpreter is taken, and what is fetched from Debian's archive: verified, for both processors, as any user."""

import hashlib
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from layer import __main__ as command_line
from layer import bill, debian, elf, interpreter, libraries, sources
from layer.debian import Archive
from layer.errors import Refused

ARCH = platform.machine()
OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}[ARCH]
HAS_APT = all(shutil.which(name) for name in ("apt-get", "dpkg-deb")) and any(
    path.is_file() for path in debian._KEYRINGS
)
needs_apt = pytest.mark.skipif(not HAS_APT, reason="apt, dpkg or Debian's keyring is not on this machine")

pytestmark = pytest.mark.timeout(300)  # the first to come fetches 16 MB


@pytest.fixture(scope="module")
def archive() -> Archive:
    """Debian's archive as this machine reaches it, with what `make layer` has fetched from there."""
    return Archive(into=command_line.FETCHED)


@pytest.fixture(scope="module")
def fetched(archive: Archive) -> Callable[[str], interpreter.Interpreter]:
    """Fetches for a processor, or skips the test where that cannot be done."""

    def fetch(arch: str) -> interpreter.Interpreter:
        try:
            return sources.of_debian(arch, archive)
        except Refused as refusal:
            pytest.skip(refusal.problem)

    return fetch


# --- the choice -----------------------------------------------------------------------------------------------------


def link(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(sys.executable)
    return folder / name


def stand_in_for_uv(folder: Path, answer: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a `uv` first on PATH that notes what it is asked, and then does `answer`."""
    folder.mkdir()
    (folder / "uv").write_text(f'#!/bin/sh\nprintf \'%s\\n\' "$*" >>"{folder}/asked"\n{answer}\n')
    (folder / "uv").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    return folder / "asked"


def test_the_order_in_which_interpreters_of_this_machine_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--python; uv's; the build container's; the current one. An older one only where no newer can be fetched."""
    nowhere = Archive(mirror=f"file:{tmp_path}/no-archive", into=tmp_path / "fetched")
    given = link(tmp_path / "given", "python3")
    managed = link(tmp_path / "managed", "python3")
    container = link(tmp_path / "lang", f"python3.{sys.version_info.minor}")
    monkeypatch.setattr(sources, "CONTAINER", container.parent)
    asked = stand_in_for_uv(tmp_path / "bin", f'[ "$2" = find ] && echo {managed}', monkeypatch)
    assert sources.choose(str(given), ARCH, nowhere).origin == "--python"
    assert sources.choose(None, ARCH, nowhere).origin.startswith("managed by uv")
    assert "--python-preference=only-managed" in asked.read_text()
    assert "--no-python-downloads" in asked.read_text()
    (tmp_path / "bin" / "uv").write_text("#!/bin/sh\nexit 2\n")
    assert sources.choose(None, ARCH, nowhere).origin.startswith("of the build container")
    container.unlink()
    found = sources.choose(None, ARCH, nowhere)
    assert found.origin.startswith("the current one")
    if found.number < sources.NEWEST:
        assert re.search(
            r", as no newer could be had \(.+; uv fetches no Python 3\.15 \(exit code 2\)\)$", found.origin
        )


def test_an_interpreter_that_is_not_carried_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--without-interpreter` makes a layer for a Python that Lambda has, and this machine must have the same."""
    monkeypatch.setattr(sources, "CONTAINER", tmp_path)
    monkeypatch.setattr(Archive, "fetch", lambda *_: pytest.fail("fetched"))
    asked = stand_in_for_uv(tmp_path / "bin", "exit 2", monkeypatch)
    assert sources.choose(None, ARCH, Archive(into=tmp_path), is_carried=False).origin == "the current one"
    assert "install" not in asked.read_text()


@pytest.mark.parametrize("arch", [ARCH, OTHER])
def test_uv_fetches_it_into_a_directory_of_ours(arch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`uv python install` leaves a directory named by version and processor; the newest there is taken.

    For another processor, this one's is fetched too, to write byte code.
    """
    program = bytearray(Path(sys.executable).resolve().read_bytes())
    for processor in (ARCH, OTHER):
        program[18] = {"x86_64": 0x3E, "aarch64": 0xB7}[processor]
        (tmp_path / processor).write_bytes(program)
        (tmp_path / processor).chmod(0o755)
    make = (
        'for patch in 9 10; do home=$5/$(echo "$6" | sed "s/-3.15-/-3.15.$patch-/"); arch=${6#*linux-}\n'
        f'mkdir -p "$home/bin" "$home/lib"; ln -s "{Path(os.__file__).parent}" "$home/lib/python3.15"\n'
        f'cp "{tmp_path}/${{arch%-gnu}}" "$home/bin/python3.15"; done'
    )
    asked = stand_in_for_uv(tmp_path / "bin", make, monkeypatch)
    found = sources.choose("uv", arch, Archive(into=tmp_path / "fetched"))
    assert (found.origin, found.arch) == ("fetched by uv", arch)
    processors = re.findall(r"cpython-3\.15-linux-(\w+)-gnu$", asked.read_text(), re.MULTILINE)
    assert processors == ([ARCH] if arch == ARCH else [OTHER, ARCH])
    assert interpreter.compiler_for(found) == (found.start or found.compiler)
    if arch == OTHER:
        assert "/cpython-3.15.10-" in str(found.program)
        assert interpreter.ask(found.compiler) is not None


def test_uv_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="uv, which fetches interpreters, is not installed"):
        sources.choose("uv", ARCH, Archive(into=tmp_path))


# --- Debian's archive -----------------------------------------------------------------------------------------------


@needs_apt
def test_an_archive_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"Python 3\.15 cannot be fetched from file:.*\. Name another archive") as refusal:
        Archive(mirror=f"file:{tmp_path}/no-archive", into=tmp_path / "fetched").fetch(ARCH)
    assert "\n" not in str(refusal.value)


@needs_apt
def test_an_archive_that_debian_did_not_sign_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the machine's own settings allow it; and none of its packages is looked at."""
    settings = tmp_path / "system.conf"
    settings.write_text('Acquire::AllowInsecureRepositories "true";\nAPT::Get::AllowUnauthenticated "true";\n')
    monkeypatch.setenv("APT_CONFIG", str(settings))
    packages = f"dists/{debian.SUITE}/main/binary-{debian._ARCHITECTURES[ARCH]}/Packages"
    listed = tmp_path / "archive" / packages
    listed.parent.mkdir(parents=True)
    listed.write_text("")
    release = tmp_path / "archive" / "dists" / debian.SUITE / "Release"
    release.write_text(
        f"Origin: Debian\nSuite: {debian.SUITE}\nCodename: sid\nComponents: main\n"
        f"Architectures: {debian._ARCHITECTURES[ARCH]}\nSHA256:\n"
        f" {hashlib.sha256(b'').hexdigest()} 0 {packages.partition(debian.SUITE + '/')[2]}\n"
    )
    with pytest.raises(Refused, match="is not signed"):
        Archive(mirror=f"file:{tmp_path}/archive", into=tmp_path / "fetched").fetch(ARCH)
    assert not (tmp_path / "fetched" / f"debian-{debian._ARCHITECTURES[ARCH]}" / "root").exists()


def test_a_machine_without_apt_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match=r"apt-get, .* is not on this machine\. Install apt, dpkg and debian-archive-key"):
        Archive(into=tmp_path).fetch(ARCH)


def test_the_interpreter_of_this_processor_starts_with_its_own_c_library(
    fetched: Callable[[str], interpreter.Interpreter],
) -> None:
    """Whichever one the machine has: it is started by the loader in its own root."""
    found = fetched(ARCH)
    assert found.number >= sources.NEWEST
    root = libraries.root_of(elf.read(found.program))
    assert root != Path("/")
    script = (
        "import re, ssl, zlib; print(*set(re.findall(r'/\\S+[.]so\\S*', open('/proc/self/maps').read())), sep='\\n')"
    )
    loaded = subprocess.run([*found.start, "-IS", "-c", script], capture_output=True, text=True, check=True, env={})
    assert "libc.so.6" in loaded.stdout
    assert all(Path(path).is_relative_to(root.resolve()) for path in loaded.stdout.split())


def test_one_for_the_other_processor_comes_with_one_that_writes_its_byte_code(
    fetched: Callable[[str], interpreter.Interpreter],
) -> None:
    other = fetched(OTHER)
    assert (other.arch, other.start) == (OTHER, ())
    told = interpreter.ask(interpreter.compiler_for(other))
    assert told is not None
    assert told["version"].startswith(f"{other.minor}.")


@pytest.mark.parametrize("arch", [ARCH, OTHER])
def test_the_bill_knows_each_package_by_its_hash(
    arch: str, archive: Archive, fetched: Callable[[str], interpreter.Interpreter]
) -> None:
    """apt verified the file by the archive's signature; its SHA-256 is written down with name and version."""
    found = fetched(arch)
    root = libraries.root_of(elf.read(found.program))
    libc = libraries.find("libc.so.6", elf.read(found.program), libraries.directories_in(root))
    brought = bill.of_libraries(root, {Path("libc.so.6"): libc})
    for component in (*brought, bill.of_interpreter(root, found, [])):
        package = re.fullmatch(r"pkg:deb/debian/([\w.-]+)@(.+)", component.purl)
        assert package is not None
        names = (root.parent / "contents").read_text().split()
        (name,) = [one for one in names if one.startswith(f"{package[1]}_{package[2].replace(':', '%3a')}_")]
        kept = root.parent / "cache" / "archives" / name
        assert component.sha256 == hashlib.sha256(kept.read_bytes()).hexdigest()
        assert component.texts


def test_what_was_fetched_is_taken_again(
    archive: Archive, fetched: Callable[[str], interpreter.Interpreter], capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is unpacked anew as long as the archive has the same."""
    program = fetched(ARCH).program
    before = program.stat().st_ctime_ns
    assert archive.fetch(ARCH) == program.parents[1]
    assert program.stat().st_ctime_ns == before
    assert "fetching" not in capfd.readouterr().err


def test_a_build_says_which_packages_are_not_those_that_were_tested() -> None:
    """Debian's archive moves on, and the layer takes what it has. What has no code for a processor is not carried."""
    tested = ["libc6_2.43-7_amd64.deb", "libc6_2.43-7_arm64.deb", "zlib1g_1%3a1.3-4_amd64.deb", "libold_1_amd64.deb"]
    found = ["libc6_2.43-8_amd64.deb", "libnew_1_amd64.deb", "tzdata_2026g-1_all.deb", "zlib1g_1%3a1.3-4_amd64.deb"]
    assert debian.changes(tested, found) == ["libc6 2.43-8 (was 2.43-7)", "libnew 1 (new)"]
    assert debian.changes(tested, tested) == []


def test_the_tested_packages_hold_the_interpreter_for_both_processors() -> None:
    names = debian.LOCK.read_text().split()
    for arch in debian._ARCHITECTURES.values():
        assert any(re.fullmatch(rf"python3\.15-minimal_.+_{arch}\.deb", name) for name in names)
        assert any(re.fullmatch(rf"libc6_.+_{arch}\.deb", name) for name in names)
