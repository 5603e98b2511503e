"""The files of the spool: ours alone, one slot for each process, whole writes or none."""

import errno
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from telemetry_forwarder.disk import SegmentFiles, open_directory


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_may_look_into_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files = SegmentFiles(str(tmp_path / "spool"))
        files.create(0)
    finally:
        os.umask(before)
    assert mode(tmp_path / "spool") == mode(tmp_path / "spool/0") == 0o700
    assert mode(tmp_path / "spool/0/0.log") == 0o600
    files.close()


def test_what_is_written_is_read_cut_and_removed(tmp_path: Path) -> None:
    files = SegmentFiles(str(tmp_path))
    files.create(7)
    files.append(7, [b"abc", b"def"])
    files.append(7, [b"ghi"])
    assert (files.numbers(), files.read(7), files.read(7, 2, 3)) == ([7], b"abcdefghi", b"cde")
    files.cut(7, 4)
    files.append(7, [b"X"])
    assert files.read(7) == b"abcdX"
    files.remove(7)
    assert files.numbers() == []
    files.close()


def test_the_next_process_finds_what_was_left_and_neighbours_have_slots_of_their_own(tmp_path: Path) -> None:
    first, second, third = (SegmentFiles(str(tmp_path)) for _ in range(3))
    for number, files in enumerate((first, second, third)):
        files.create(number)
        files.append(number, [b"x"])
    second.close()
    heir, fourth = SegmentFiles(str(tmp_path)), SegmentFiles(str(tmp_path))
    assert (heir.numbers(), fourth.numbers()) == ([1], [])
    assert heir.read(1) == b"x"
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2", "3"]
    for files in (first, third, heir, fourth):
        files.close()


def test_an_empty_slot_is_used_again(tmp_path: Path) -> None:
    for _ in range(3):
        SegmentFiles(str(tmp_path)).close()
    assert os.listdir(tmp_path) == ["0"]


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from telemetry_forwarder.disk import SegmentFiles\n"
        "files = SegmentFiles(sys.argv[1]); files.create(3); files.append(3, [b'last words'])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    files = SegmentFiles(str(tmp_path))
    assert files.read(3) == b"last words"
    files.close()


def test_a_cleared_directory_stops_nobody(tmp_path: Path) -> None:
    """A function may empty /tmp; what is open stays readable, and the next segment makes everything anew."""
    files = SegmentFiles(str(tmp_path / "spool"))
    files.create(0)
    files.append(0, [b"kept"])
    (tmp_path / "spool/0/0.log").unlink()
    assert files.read(0) == b"kept"
    files.remove(0)
    (tmp_path / "spool/0").rmdir()
    (tmp_path / "spool").rmdir()
    files.create(1)
    files.append(1, [b"new"])
    assert (tmp_path / "spool/0/1.log").read_bytes() == b"new"
    assert SegmentFiles(str(tmp_path / "spool")).numbers() == [], "it is locked anew"
    files.close()


@pytest.mark.parametrize("place", ["spool", "spool/0"])
def test_a_link_is_not_followed(tmp_path: Path, place: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        SegmentFiles(str(tmp_path / "spool"))
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_segment_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "spool/0").mkdir(parents=True)
    (tmp_path / "spool/0/5.log").symlink_to(tmp_path / "secret")
    files = SegmentFiles(str(tmp_path / "spool"))
    with pytest.raises(OSError, match="symbolic links"):
        files.read(5)
    files.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    os.chown(tmp_path / "spool", 12345, 12345)
    with pytest.raises(PermissionError, match="another user"):
        SegmentFiles(str(tmp_path / "spool"))


def test_a_directory_of_ours_that_others_could_enter_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o777)
    os.close(open_directory(str(tmp_path / "spool")))
    assert mode(tmp_path / "spool") == 0o700


def test_a_file_where_the_directory_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        SegmentFiles(str(tmp_path / "spool"))


def test_a_disk_that_fills_up_in_the_middle_of_a_write_keeps_nothing_of_it(tmp_path: Path) -> None:
    """A limit on the size of files plays the full disk: the kernel writes what fits, then nothing."""
    program = (
        "import errno, resource, sys; from telemetry_forwarder.disk import SegmentFiles\n"
        "files = SegmentFiles(sys.argv[1]); files.create(0); files.append(0, [b'whole'])\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (8, {resource.RLIM_INFINITY}))\n"
        "try: files.append(0, [b'to', b'rn'])\n"
        "except OSError as error: print(error.errno, files.read(0))"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, text=True)
    assert ran.stdout == f"{errno.ENOSPC} b'whole'\n"
