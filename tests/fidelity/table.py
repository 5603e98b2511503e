"""The table of fidelity: statements, the tests that assert them, and `docs/fidelity.md` made from both.

`python -m tests.fidelity.table` writes the page. Tests are found in the syntax trees, by their marks, so that the table
names none that is not there.
"""

import ast
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STATEMENTS = Path(__file__).with_name("statements.toml")
PAGE = ROOT / "docs" / "fidelity.md"
OPEN = "open"

_HEAD = """\
# Fidelity of the local Lambda

What is known of Lambda's execution environment because it was captured on real Lambda (C) or read in AWS's source (S),
and the test that asserts it of the local Lambda; D where AWS documents it too. The sections are those
that the code's docstrings name. `make fidelity` makes it of `tests/fidelity/statements.toml` and marks on tests.
Whole lives of an environment are written down in [transcripts](transcripts): a [timeout](transcripts/timeout.txt), an
[init that fails](transcripts/init-failure.txt), a [runtime's share](transcripts/runtime-share.txt) of the shutdown, and
[eight invocations at once](transcripts/managed-instances.txt).

{counts}

"""
_OPEN_HEAD = """\
## What is not known

AWS does not say, and nobody was seen to measure it. What the local Lambda does instead, and what changes it:

| question | here | setting |
| --- | --- | --- |
"""


@dataclass(frozen=True, slots=True)
class Statement:
    """One thing that is known. `reason` says why no test asserts it, beginning with "not yet" or "not here"."""

    id: str
    section: str
    basis: str
    text: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One thing that is not known, what was chosen, and the setting that changes it ("" where there is none)."""

    text: str
    choice: str
    setting: str


TITLES = {
    "1.1": "Registering", "1.2": "The next event", "1.3": "Reporting an error", "1.4": "The states of an extension",
    "1.5": "Refusals", "1.6": "Finding and starting extensions", "1.7": "The order of things", "1.8": "Time limits",
    "1.9": "The environment of an extension", "2.1": "Subscribing to telemetry", "2.2": "The listener",
    "2.3": "Delivery", "2.4": "When telemetry arrives", "3.1": "What events share", "3.2": "Schemas",
    "3.3": "Events, one by one", "3.4": "Error types", "3.5": "The lines of CloudWatch Logs", "4": "The Runtime API",
    "5.2": "SnapStart", "5.3": "Managed Instances", "5.4": "Timeout, crash and reset", "6": "Log formats and levels",
    "8": "AWS's own emulator",
}  # fmt: skip


def load() -> tuple[list[Statement], list[Question]]:
    """Return the statements in order, and the open questions."""
    sections: dict[str, dict[str, Any]] = tomllib.loads(STATEMENTS.read_text())
    questions = [Question(*row) for row in sections.pop(OPEN).values()]
    statements = [
        Statement(f"{section}-{name}", section, *row)
        for section, rows in sections.items()
        for name, row in rows.items()
    ]
    return statements, questions


def marked_tests(folder: Path = ROOT / "tests") -> dict[str, list[str]]:
    """Return, for each statement id that a mark names, the node ids of the tests that carry it."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for name, ids in _marks(ast.parse(path.read_text())):
            for id_ in ids:
                found.setdefault(id_, []).append(f"{path.relative_to(ROOT)}::{name}")
    return found


def _marks(module: ast.Module) -> Iterator[tuple[str, Sequence[str]]]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fidelity":
                    yield node.name, [str(ast.literal_eval(argument)) for argument in mark.args]


def page(statements: Sequence[Statement], questions: Sequence[Question], tests: Mapping[str, Sequence[str]]) -> str:
    """Return the Markdown of `docs/fidelity.md`."""
    parts = [_HEAD.format(counts=counts(statements, questions))]
    section = None
    for statement in statements:
        if statement.section != section:
            section = statement.section
            parts.append(
                f"## {section} {TITLES[section]}\n\n| statement | basis | asserted by |\n| --- | --- | --- |\n"
            )
        parts.append(f"| {statement.text} | {statement.basis} | {_evidence(statement, tests)} |\n")
        if statement is statements[-1] or statements[statements.index(statement) + 1].section != section:
            parts.append("\n")
    parts.append(_OPEN_HEAD)
    parts += [f"| {row.text} | {row.choice} | {f'`{row.setting}`' if row.setting else 'none'} |\n" for row in questions]
    return "".join(parts)


def counts(statements: Sequence[Statement], questions: Sequence[Question]) -> str:
    """Say how many statements there are of each kind."""
    later = sum(statement.reason.startswith("not yet") for statement in statements)
    never = sum(statement.reason.startswith("not here") for statement in statements)
    asserted = len(statements) - later - never
    return (
        f"{len(statements)} statements: {asserted} asserted by tests, {later} not yet, {never} not applicable here; "
        f"{len(questions)} open questions."
    )


def _evidence(statement: Statement, tests: Mapping[str, Sequence[str]]) -> str:
    return statement.reason or "<br>".join(f"`{test}`" for test in tests.get(statement.id, []))


if __name__ == "__main__":
    known, unknown = load()
    PAGE.write_text(page(known, unknown, marked_tests()))
    print(counts(known, unknown))
