"""What of the standard library is carried, beside what is in the list."""

import sys
from pathlib import Path

import pytest

from layer import __main__ as command_line
from layer import interpreter, stdlib
from layer.errors import Refused
from layer.interpreter import Interpreter


@pytest.fixture(scope="module")
def python() -> Interpreter:
    return interpreter.describe(Path(sys.executable), "the one of the tests")


def copied(python: Interpreter, into: Path, *more: str) -> set[str]:
    into.mkdir(parents=True)
    stdlib.copy(python, into, more)
    return {path.relative_to(into).as_posix() for path in into.rglob("*.py")}


def test_what_is_asked_for_comes_with_what_it_imports(python: Interpreter, tmp_path: Path) -> None:
    plain, more = (
        copied(python, tmp_path / "plain/lib"),
        copied(python, tmp_path / "more/lib", "statistics", "http.cookiejar"),
    )
    assert {"statistics.py", "fractions.py", "http/cookiejar.py"} <= more
    assert not {"statistics.py", "fractions.py", "http/cookiejar.py"} & plain
    assert plain < more
    assert not {"http/server.py", "xml/dom/minidom.py"} & more, "what was not asked for"


def test_what_is_asked_for_and_is_nowhere(python: Interpreter, tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"has no module statistiks to carry\. Correct --stdlib"):
        copied(python, tmp_path / "lib", "statistiks")


def test_a_layer_that_was_built_takes_no_more_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["layer", str(tmp_path / "new"), "--onto", "old.zip", "--stdlib", "statistics"])
    assert command_line.main() == 1
    assert "--stdlib changes how a layer is built, and --onto takes old.zip as it was built" in capsys.readouterr().err
