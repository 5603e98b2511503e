"""The verdicts on an extension as text, as JSON, and as JUnit XML for a CI system."""

import io
import re
from collections import Counter
from collections.abc import Sequence

import orjson
from rich.console import Console
from rich.markup import escape

from local_lambda.conformance import Outcome, Verdict

_STYLES = {
    Outcome.PASSED: "green",
    Outcome.FAILED: "bold red",
    Outcome.NOTE: "yellow",
    Outcome.NOT_APPLICABLE: "bright_black",
    Outcome.NOT_CHECKED: "yellow",
}
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # by the XML recommendation, Char


def print_text(console: Console, extension: str, verdicts: Sequence[Verdict], *, is_one_of_several: bool) -> None:
    """Print one line for each check; below a fault or a note, what Lambda does and where AWS documents the rule."""
    if is_one_of_several:
        _line(console, f"[bold]{escape(extension)}[/]")
    names = max(len(verdict.check) for verdict in verdicts)
    words = max(map(len, Outcome))
    told: set[str] = set()
    for verdict in verdicts:
        outcome = f"[{_STYLES[verdict.outcome]}]{verdict.outcome:<{words}}[/]"
        is_told = verdict.outcome is Outcome.NOT_CHECKED and verdict.seen in told
        _line(console, f"{outcome}  {verdict.check:<{names}}  {'As above.' if is_told else escape(verdict.seen)}")
        told.add(verdict.seen)
        if verdict.is_complaint:
            margin = " " * (words + names + 4)
            _line(console, f"{margin}[yellow]{escape(verdict.consequence)}[/]")
            _line(console, f"{margin}[bright_black]{escape(verdict.source)}[/]")
    counts = Counter(verdict.outcome for verdict in verdicts)
    _line(console, "\n" + ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome]) + ".")
    if not (counts.keys() & {Outcome.PASSED, Outcome.FAILED, Outcome.NOTE}):
        _line(console, "Nothing could be judged here.")
    if is_one_of_several:
        console.print()


def _line(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True)  # no line breaks in a pipe


def as_json(extension: str, verdicts: Sequence[Verdict]) -> bytes:
    """Return one JSON object."""
    failed = any(verdict.is_failure for verdict in verdicts)
    checks = [verdict.as_dict() for verdict in verdicts]
    return orjson.dumps({"extension": extension, "passed": not failed, "checks": checks})


def as_junit(judged: Sequence[tuple[str, Sequence[Verdict]]]) -> str:
    """Return a JUnit document: a test suite for each extension, a test case for each check.

    A fault is a failure. A note is output of a case that passes. What is not applicable or not checked is skipped.
    """
    from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite  # for those who ask for it

    document = JUnitXml("conform")
    for extension, verdicts in judged:
        suite = TestSuite(_xml(extension))
        for verdict in verdicts:
            case = TestCase(verdict.check, f"conform.{_xml(extension)}", 0.0)
            if verdict.is_failure:
                fault = Failure(_xml(verdict.seen), "fault")
                fault.text = _xml(f"{verdict.title}: {verdict.seen}\n{verdict.consequence}\n{verdict.source}")
                case.result = [fault]
            elif verdict.outcome is Outcome.NOTE:
                case.system_out = _xml(f"note: {verdict.seen}\n{verdict.consequence}\n{verdict.source}")
            elif verdict.outcome is not Outcome.PASSED:
                case.result = [Skipped(_xml(f"{verdict.outcome}: {verdict.seen}"))]
            suite.add_testcase(case)
        document.add_testsuite(suite)
    document.write(buffer := io.BytesIO())
    return buffer.getvalue().decode()


def _xml(text: str) -> str:
    """Return `text` without characters that no XML document can have; each becomes its escape, such as \\x1b."""
    return _NOT_XML.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
