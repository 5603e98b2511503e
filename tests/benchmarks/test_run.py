"""What `make bench` compares with, and how a figure is shown."""

import subprocess
from pathlib import Path

import pytest

from benchmarks import subjects
from benchmarks.run import Row, cell
from benchmarks.subjects import BEFORE, IDLE_C, OURS, version_before


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two versions of the package, the first of which is a release."""
    root = tmp_path / "repository"
    (root / "telemetry_forwarder").mkdir(parents=True)
    monkeypatch.setattr(subjects, "ROOT", root)
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "nobody")
    git = ["git", "-C", str(root)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    for number in (1, 2):
        (root / "telemetry_forwarder" / "__init__.py").write_text(f"VERSION = {number}\n")
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", str(number)], check=True)
        subprocess.run([*git, "tag", f"part-{number}"], check=True)
    subprocess.run([*git, "tag", "--delete", "part-2"], check=True, capture_output=True)
    return root


def version_in(folder: Path | None) -> str:
    assert folder is not None
    return (folder / "telemetry_forwarder" / "__init__.py").read_text()


def test_the_version_before_is_the_last_release_unless_another_is_named(repository: Path, tmp_path: Path) -> None:
    before = version_before(None)
    assert version_in(before) == "VERSION = 1\n"
    assert before is not None
    assert before.parent == repository / "build" / "before"
    assert version_before("part-1") == before  # made once
    assert version_in(version_before("HEAD")) == "VERSION = 2\n"
    assert version_before(str(tmp_path)) == tmp_path


def test_without_a_release_there_is_none(repository: Path) -> None:
    subprocess.run(["git", "-C", str(repository), "tag", "--delete", "part-1"], check=True, capture_output=True)
    assert version_before(None) is None


def test_a_ref_that_does_not_exist_is_told(repository: Path) -> None:
    with pytest.raises(SystemExit, match="no-such-version"):
        version_before("no-such-version")


def test_behind_the_figure_of_another_stands_what_ours_is_as_a_multiple_of_it() -> None:
    row = Row("CPU", "ms", 2.0, {OURS: 3.0, BEFORE: 6.0, IDLE_C: 0.01})
    assert [cell(row, name) for name in (OURS, BEFORE, IDLE_C, "none")] == ["3.00 ms", "6.00 ms (0.5 x)", "0.01 ms", ""]
    assert cell(Row("held", "ms", None, {OURS: 156.0, BEFORE: 0.3}), BEFORE) == "0.30 ms (520 x)"
    assert cell(Row("added", "ms", None, {OURS: -0.2, BEFORE: 0.3}), BEFORE) == "0.30 ms"
    assert cell(Row("x the bare interpreter", "x", None, {OURS: 3.0, BEFORE: 6.0}), BEFORE) == "6.00 x"
