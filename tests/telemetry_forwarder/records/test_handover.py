"""What a generation leaves in a file for the next one in the same environment."""

import os
from pathlib import Path

import pytest

from telemetry_forwarder.records.handover import SIZE, Handover, HandoverFile

API = "169.254.100.1:9001"
LEFT = Handover(instance_id="2026/03/02/[$LATEST]ab", request_id="r", first="f")


def test_what_was_written_last_is_read_by_the_next(tmp_path: Path) -> None:
    folder = str(tmp_path / "made")
    first = HandoverFile(API, folder)
    assert first.read() == Handover()
    first.write(Handover(instance_id="a much longer name of an instance than the next", request_id="a", first="b"))
    first.write(LEFT)
    assert HandoverFile(API, folder).read() == LEFT
    (only,) = Path(folder).iterdir()
    assert only.stat().st_size == SIZE
    assert only.stat().st_mode & 0o077 == 0


def test_environments_that_share_a_directory_do_not_share_the_file(tmp_path: Path) -> None:
    HandoverFile("127.0.0.1:1", str(tmp_path)).write(LEFT)
    assert HandoverFile("127.0.0.1:2", str(tmp_path)).read() == Handover()
    assert HandoverFile("../../etc/x:1", str(tmp_path)).read() == Handover()
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"instance_id":5,"request_id":null}', b"\xff" * 2000])
def test_what_is_not_sound_is_nothing(content: bytes, tmp_path: Path) -> None:
    file = HandoverFile(API, str(tmp_path))
    next(tmp_path.iterdir()).write_bytes(content)
    assert file.read() == Handover()
    file.write(LEFT)
    assert HandoverFile(API, str(tmp_path)).read() == LEFT


def test_what_is_too_long_is_not_written(tmp_path: Path) -> None:
    file = HandoverFile(API, str(tmp_path))
    file.write(LEFT)
    file.write(Handover(instance_id="x" * SIZE))
    assert file.read() == LEFT


def test_without_a_directory_nothing_is_left_and_nothing_is_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    file = HandoverFile(API, str(tmp_path / "file" / "folder"))
    file.write(LEFT)
    assert file.read() == Handover()


def test_a_link_that_somebody_put_there_is_not_followed(tmp_path: Path) -> None:
    HandoverFile(API, str(tmp_path)).write(LEFT)
    path = next(tmp_path.iterdir())
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.unlink()
    path.symlink_to(victim)
    HandoverFile(API, str(tmp_path)).write(LEFT)
    assert victim.read_text() == "precious"
    assert os.path.islink(path)
