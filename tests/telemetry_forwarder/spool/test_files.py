"""The files of the spool: ours alone, one slot for each process, whole writes or none."""

import contextlib
import errno
import os
import resource
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from telemetry_forwarder.spool.files import MOST_OPEN, Kernel, SegmentFiles


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_may_look_into_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        files = SegmentFiles(str(tmp_path / "spool"))
        files.create(0, [b""])
    finally:
        os.umask(before)
    assert mode(tmp_path / "spool") == mode(tmp_path / "spool/0") == 0o700
    assert mode(tmp_path / "spool/0/0.log") == 0o600
    files.close()


def test_what_is_written_is_read_cut_and_removed(tmp_path: Path) -> None:
    files = SegmentFiles(str(tmp_path))
    files.create(7, [b"abc", b"def"])
    assert files.append(7, [b"ghi"], 6)
    assert (files.numbers(), files.read(7), files.read(7, 2, 3)) == ([7], b"abcdefghi", b"cde")
    files.cut(7, 4)
    files.append(7, [b"X"], 4)
    assert files.read(7) == b"abcdX"
    files.replace(7, [b"an", b"other"])
    files.append(7, [b"!"], 7)
    assert (files.read(7), (tmp_path / "0/7.log").read_bytes()) == (b"another!", b"another!")
    files.remove(7)
    assert files.numbers() == []
    files.close()


def test_the_next_process_finds_what_was_left_and_neighbours_have_slots_of_their_own(tmp_path: Path) -> None:
    first, second, third = (SegmentFiles(str(tmp_path)) for _ in range(3))
    for number, files in enumerate((first, second, third)):
        files.create(number, [b"x"])
    second.close()
    next_process, fourth = SegmentFiles(str(tmp_path)), SegmentFiles(str(tmp_path))
    assert (next_process.numbers(), fourth.numbers()) == ([1], [])
    assert next_process.read(1) == b"x"
    assert sorted(os.listdir(tmp_path)) == ["0", "1", "2", "3"]
    for files in (first, third, next_process, fourth):
        files.close()


def test_an_empty_slot_is_used_again(tmp_path: Path) -> None:
    for _ in range(3):
        SegmentFiles(str(tmp_path)).close()
    assert os.listdir(tmp_path) == ["0"]


def test_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from telemetry_forwarder.spool.files import SegmentFiles\n"
        "files = SegmentFiles(sys.argv[1]); files.create(3, [b'last words'])\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    files = SegmentFiles(str(tmp_path))
    assert files.read(3) == b"last words"
    files.close()


def test_a_cleared_directory_stops_nobody(tmp_path: Path) -> None:
    """A function may empty /tmp; what is open stays readable, and the next segment makes everything anew."""
    files = SegmentFiles(str(tmp_path / "spool"))
    files.create(0, [b"kept"])
    (tmp_path / "spool/0/0.log").unlink()
    assert files.read(0) == b"kept"
    files.remove(0)
    (tmp_path / "spool/0").rmdir()
    (tmp_path / "spool").rmdir()
    files.create(1, [b"new"])
    assert (tmp_path / "spool/0/1.log").read_bytes() == b"new"
    assert SegmentFiles(str(tmp_path / "spool")).numbers() == [], "it is locked anew"
    files.close()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "spool").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        SegmentFiles(str(tmp_path / "spool"))
    assert os.listdir(tmp_path / "elsewhere") == []


def test_what_is_no_slot_of_ours_is_passed_over(tmp_path: Path) -> None:
    """A link, a file, another user's directory, a number as nobody writes it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "0").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "1").write_bytes(b"")
    (tmp_path / "2").mkdir()
    if os.geteuid() == 0:
        os.chown(tmp_path / "2", 12345, 12345)
    (tmp_path / "007").mkdir()
    files = SegmentFiles(str(tmp_path))
    files.create(0, [b"x"])
    assert (tmp_path / ("3" if os.geteuid() == 0 else "2") / "0.log").read_bytes() == b"x"
    assert os.listdir(tmp_path / "elsewhere") == []
    files.close()


def test_a_segment_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "spool/0").mkdir(parents=True)
    (tmp_path / "spool/0/5.log").symlink_to(tmp_path / "secret")
    files = SegmentFiles(str(tmp_path / "spool"))
    with pytest.raises(OSError, match="symbolic links"):
        files.read(5)
    files.close()


@pytest.mark.parametrize("rights", [0o755, 0o777, 0o1777, 0o700])
def test_a_directory_that_is_there_is_used_as_it_is(tmp_path: Path, rights: int) -> None:
    """Whoever can enter it finds a slot that is ours alone."""
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(rights)
    if os.geteuid() == 0:
        os.chown(tmp_path / "spool", 12345, 12345)
    files = SegmentFiles(str(tmp_path / "spool"))
    files.create(0, [b"x"])
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == rights
    assert (mode(tmp_path / "spool/0"), mode(tmp_path / "spool/0/0.log")) == (0o700, 0o600)
    files.close()


def test_directories_above_it_are_made_for_us_alone(tmp_path: Path) -> None:
    files = SegmentFiles(str(tmp_path / "x/y/z"))
    files.create(0, [b"x"])
    assert (tmp_path / "x/y/z/0/0.log").read_bytes() == b"x"
    assert mode(tmp_path / "x") == mode(tmp_path / "x/y") == mode(tmp_path / "x/y/z") == 0o700
    files.close()


def test_a_file_where_the_directory_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        SegmentFiles(str(tmp_path / "spool"))


def test_a_disk_that_fills_up_in_the_middle_of_a_write_keeps_nothing_of_it(tmp_path: Path) -> None:
    """A limit on the size of files plays the full disk: the kernel writes what fits, then nothing."""
    program = (
        "import errno, resource, sys; from telemetry_forwarder.spool.files import SegmentFiles\n"
        "files = SegmentFiles(sys.argv[1]); files.create(0, [b'whole'])\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, (8, {resource.RLIM_INFINITY}))\n"
        "try: files.append(0, [b'to', b'rn'], 5)\n"
        "except OSError as error: print(error.errno, files.read(0))"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, capture_output=True, text=True)
    assert ran.stdout == f"{errno.ENOSPC} b'whole'\n"


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Broken(Kernel):
    """A kernel of which calls fail: those named in `failing`, with the error that stands there."""

    def __init__(self) -> None:
        self.failing: dict[str, int] = {}

    def __getattribute__(self, name: str) -> Any:
        if name != "failing" and (code := self.failing.get(name)):
            return lambda *_, **__: _raise(OSError(code, os.strerror(code)))
        return object.__getattribute__(self, name)


def _raise(error: OSError) -> None:
    raise error


@pytest.mark.parametrize("call", ["writev", "ftruncate", "fstat"])
def test_a_segment_that_cannot_be_begun_leaves_no_file_and_no_descriptor(tmp_path: Path, call: str) -> None:
    """A full /tmp: one try every half a minute, for hours."""
    kernel = Broken()
    files = SegmentFiles(str(tmp_path), kernel)
    before = descriptors()
    kernel.failing = {call: errno.ENOSPC}
    for number in range(5):
        with contextlib.suppress(OSError):
            files.create(number, [b"x"])
            assert call == "ftruncate"
            files.remove(number)
    assert (descriptors(), files.numbers()) == (before, [])
    files.close()


def test_what_could_not_be_removed_is_removed_before_anything_new_is_begun(tmp_path: Path) -> None:
    kernel = Broken()
    files = SegmentFiles(str(tmp_path), kernel)
    before = descriptors()
    kernel.failing = {"writev": errno.ENOSPC, "unlink": errno.EIO}
    for number in range(5):
        with pytest.raises(OSError, match=r"space|error"):
            files.create(number, [b"x"])
    assert (len(files.numbers()), descriptors()) == (1, before)
    kernel.failing = {}
    files.create(9, [b"x"])
    assert files.numbers() == [9]
    files.close()


def test_a_tail_that_could_not_be_taken_back_is_cut_before_the_next_write(tmp_path: Path) -> None:
    files = SegmentFiles(str(tmp_path))
    files.create(0, [b"whole"])
    with (tmp_path / "0/0.log").open("ab") as file:
        file.write(b"torn")
    files.append(0, [b"next"], 5)
    assert files.read(0) == b"wholenext"
    files.close()


def test_a_file_that_somebody_else_cut_is_not_written_to(tmp_path: Path) -> None:
    files = SegmentFiles(str(tmp_path))
    files.create(0, [b"whole"])
    os.truncate(tmp_path / "0/0.log", 2)
    with pytest.raises(OSError, match="cut") as caught:
        files.append(0, [b"next"], 5)
    assert caught.value.errno == errno.ESTALE
    with pytest.raises(OSError, match="removed"):
        files.secure(0, 5)
    files.close()


def empty(folder: Path) -> None:
    shutil.rmtree(folder / "spool")


def remove_one(folder: Path) -> None:
    (folder / "spool/0/0.log").unlink()


def remove_slot(folder: Path) -> None:
    shutil.rmtree(folder / "spool/0")


def move_away(folder: Path) -> None:
    (folder / "spool").rename(folder / "moved")


def put_another_file(folder: Path) -> None:
    (folder / "spool/0/0.log").unlink()
    (folder / "spool/0/0.log").write_bytes(b"mine, and longer than it")


def put_a_link(folder: Path) -> None:
    (folder / "victim").write_bytes(b"victim")
    (folder / "spool/0/0.log").unlink()
    (folder / "spool/0/0.log").symlink_to(folder / "victim")


def make_anew(folder: Path) -> None:
    shutil.rmtree(folder / "spool")
    (folder / "spool").mkdir()


@pytest.mark.parametrize(
    "harm", [empty, remove_one, remove_slot, move_away, put_another_file, put_a_link, make_anew, lambda folder: None]
)
def test_what_somebody_removed_is_written_again_as_long_as_it_is_open(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    before = descriptors()
    files = SegmentFiles(str(tmp_path / "spool"))
    for number in range(3):
        files.create(number, [b"what is kept ", b"%d" % number])
    harm(tmp_path)
    for number in range(3):
        files.secure(number, 14)
        files.append(number, [b"!"], 14)
    files.close()
    next_process = SegmentFiles(str(tmp_path / "spool"))
    assert [next_process.read(number) for number in next_process.numbers()] == [
        b"what is kept %d!" % number for number in range(3)
    ]
    next_process.close()
    assert descriptors() == before


@pytest.mark.parametrize("instead", ["file", "link", "nothing writable"])
def test_what_cannot_be_written_again_is_said_to_be_lost(tmp_path: Path, instead: str) -> None:
    kernel = Broken()
    files = SegmentFiles(str(tmp_path / "spool"), kernel)
    files.create(0, [b"x"])
    shutil.rmtree(tmp_path / "spool")
    if instead == "file":
        (tmp_path / "spool").write_bytes(b"")
    elif instead == "link":
        (tmp_path / "spool").symlink_to(tmp_path / "nowhere")
    else:
        kernel.failing = {"mkdir": errno.EROFS}
    with pytest.raises(OSError, match=r"Not a directory|symbolic|Read-only"):
        files.secure(0, 1)
    assert files.read(0) == b"x", "it is still open"
    files.close()


def test_descriptors_are_bounded_however_many_segments_there_are(tmp_path: Path) -> None:
    before = descriptors()
    files = SegmentFiles(str(tmp_path))
    for number in range(5 * MOST_OPEN):
        files.create(number, [b"%d" % number])
    assert descriptors() <= before + MOST_OPEN + 1
    assert [files.read(number) for number in range(5 * MOST_OPEN)] == [b"%d" % n for n in range(5 * MOST_OPEN)]
    for number in range(5 * MOST_OPEN):
        files.secure(number, 1)
    files.close()
    assert descriptors() == before


def test_a_thousand_free_slots_do_not_take_a_thousand_descriptors(tmp_path: Path) -> None:
    for number in range(900):
        (tmp_path / str(number)).mkdir()
    before = descriptors()
    files = SegmentFiles(str(tmp_path))
    assert descriptors() == before + 1
    files.close()


def test_a_disk_that_is_full_at_the_start_is_used_when_there_is_room(tmp_path: Path) -> None:
    """Then in a slot of its own: nobody has read what may be in the others."""
    (tmp_path / "spool/0").mkdir(parents=True)
    (tmp_path / "spool/0/0.log").write_bytes(b"of the generation before")
    kernel = Broken()
    kernel.failing = {"open": errno.EMFILE, "mkdir": errno.ENOSPC}
    files = SegmentFiles(str(tmp_path / "spool"), kernel)
    with pytest.raises(OSError, match="open files"):
        files.numbers()
    with pytest.raises(OSError, match="open files"):
        files.create(0, [b"x"])
    kernel.failing = {}
    files.create(0, [b"x"])
    assert (tmp_path / "spool/1/0.log").read_bytes() == b"x"
    files.close()


def test_files_that_are_not_ours_are_left_alone(tmp_path: Path) -> None:
    files = SegmentFiles(str(tmp_path))
    for name in ("notes.txt", "007.log", "\u0663.log", "9" * 30 + ".log", ".log", "x.log"):
        (tmp_path / "0" / name).write_bytes(b"")
    (tmp_path / "0/5.log").mkdir()
    os.mkfifo(tmp_path / "0/6.log")
    assert files.numbers() == [5, 6]
    for number in (5, 6):
        with pytest.raises(OSError, match=r"directory|no file of ours"):
            files.read(number)
    files.close()


def test_a_file_of_any_size_is_not_read_into_memory(tmp_path: Path) -> None:
    files = SegmentFiles(str(tmp_path))
    (tmp_path / "0/3.log").touch()
    os.truncate(tmp_path / "0/3.log", 1 << 40)
    with pytest.raises(OSError, match="too large"):
        files.read(3)
    files.close()
