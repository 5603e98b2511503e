"""What of the lock is installed for a target, and what of that stays."""

from pathlib import Path

import pytest

from layer import wheels

REPOSITORY = Path(__file__).parents[2]
UNIVERSAL = """\
orjson==3.13.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
typing-extensions==4.16.0 ; python_full_version < '3.13' \\
    --hash=sha256:cc
pywin32==312 ; sys_platform == 'win32' \\
    --hash=sha256:dd
"""


@pytest.mark.parametrize(("python", "has_extensions"), [("3.11", True), ("3.12", True), ("3.13", False)])
def test_markers_are_read_for_the_target(python: str, has_extensions: bool) -> None:
    """Whichever Python builds, the target's decides what is installed."""
    lines = wheels.requirements(UNIVERSAL, python, "x86_64")
    assert ("typing-extensions==4.16.0 \\\n    --hash=sha256:cc" in lines) is has_extensions
    assert lines.startswith("orjson==3.13.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n")
    assert "pywin32" not in lines
    assert ";" not in lines


def test_every_line_of_the_lock_has_hashes() -> None:
    lines = wheels.requirements(wheels.LOCK.read_text(), "3.12", "aarch64").splitlines()
    pins = [number for number, line in enumerate(lines) if not line.startswith(" ")]
    assert len(pins) > 10
    assert all(lines[number].endswith(" \\") and "--hash=sha256:" in lines[number + 1] for number in pins)


def test_layer_and_development_use_the_same_versions() -> None:
    """What is tested is what is shipped."""
    developed = {line.split(" ")[0] for line in (REPOSITORY / "requirements.lock").read_text().splitlines()}
    shipped = {line.split(" ")[0] for line in wheels.LOCK.read_text().splitlines() if not line.startswith(" ")}
    assert shipped <= developed
