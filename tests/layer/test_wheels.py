"""What of the lock is installed for a target, and what of that stays."""

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from layer import bill, bytecode, wheels

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


def installed(modules: Path) -> Path:
    """Lay `modules` as pip leaves a package with sources of somebody else's in it; return its metadata."""
    for name, text in (
        ("some_package/__init__.py", ""),
        ("some_package/theirs/LICENSE", "theirs"),
        ("some_package-1.0.dist-info/licenses/LICENSE", "its own"),
        ("some_package-1.0.dist-info/METADATA", "Name: some-package\nVersion: 1.0\n\nA description\n\nof it.\n"),
        ("some_package-1.0.dist-info/RECORD", ""),
    ):
        (modules / name).parent.mkdir(parents=True, exist_ok=True)
        (modules / name).write_text(text)
    return modules / "some_package-1.0.dist-info"


def test_a_package_has_the_licences_of_what_it_is_made_of_too(tmp_path: Path) -> None:
    installed(tmp_path)
    (component,) = bill.of_wheels(tmp_path)
    assert [text.read_text() for text in component.texts] == ["its own", "theirs"]


def test_of_the_metadata_the_fields_stay(tmp_path: Path) -> None:
    """importlib.metadata reads name and version there; the description is for an index."""
    info = installed(tmp_path)
    wheels.drop_licences(tmp_path)
    assert [path.name for path in info.iterdir() if path.is_file()] == ["METADATA"]
    (found,) = distributions(path=[str(tmp_path)])
    assert (found.metadata["Name"], found.version) == ("some-package", "1.0")
    assert "description" not in (info / "METADATA").read_text()


def test_byte_code_has_nothing_that_no_run_reads(tmp_path: Path) -> None:
    """No docstrings, no annotations of functions but of those with a decorator; a dataclass keeps its words."""
    (tmp_path / "module.py").write_text(
        '"""Words."""\nimport dataclasses, functools\n'
        'def plain(a: int, *b: int, c: int = 1, **d: int) -> int:\n    """Words."""\n    return a\n'
        "async def later(a: int) -> int:\n    pass\n"
        '@functools.singledispatch\ndef kind(of: object) -> str:\n    return "any"\n'
        '@kind.register\ndef _(of: int) -> str:\n    return "number"\n'
        '@dataclasses.dataclass\nclass Point:\n    """Words."""\n    x: int\n'
    )
    program = [sys.executable, "-I", "-S", "-X", "no_debug_ranges"]
    written = subprocess.run(
        [*program, bytecode.__file__, str(tmp_path), "/opt/x"], capture_output=True, text=True, check=True
    )
    assert json.loads(written.stdout) == {"module.py": ["dataclasses", "functools"]}
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from module import *; import module; plain = module.plain;"
        "print(module.__doc__, plain.__doc__, plain.__annotations__, later.__annotations__, kind(1), Point(1), "
        "Point.__doc__, plain.__code__.co_filename, next(plain.__code__.co_positions())[2:])"
    )
    ended = subprocess.run([*program, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout == "None None {} {} number Point(x=1) Words. /opt/x/module.py (None, None)\n"
