"""Every ending tells its story: in each backend what docs/endings says, of the right request, each record once."""

import re
from pathlib import Path
from typing import Any

import pytest

from telemetry_forwarder.sinks import load
from telemetry_forwarder.variables.reading import read_all
from tests.integration.endings import ENDINGS, FOLDER, normal, page, tell
from tests.integration.test_local_lambda_limits import can_have
from tests.integration.world import SINKS
from tests.sink_records import loads, make_record
from tests.telemetry_forwarder.sinks.test_every_sink import ENVIRON

PAGE = (FOLDER.parent / "endings.md").read_text()
ROWS = re.findall(r"^\| \[(.+?)\]\(endings/(.+?)\.txt\) \|.*$", PAGE, re.MULTILINE)


def written(name: str) -> str:
    return (FOLDER / f"{name}.txt").read_text()


def rows(name: str) -> list[str]:
    """Return the records of a written story, without its headings."""
    return [line for line in written(name).splitlines()[2:] if not line.startswith(("---", "("))]


@pytest.mark.parametrize("name", ENDINGS)
async def test_an_ending_is_told_as_written(name: str, tmp_path: Path) -> None:
    """The records, their order, requests, cold starts, levels and texts, and in which chapter they arrived."""
    if name == "out-of-memory" and not can_have("memory"):
        pytest.skip("no memory control group can be made here")
    story = await tell(name, tmp_path)
    for sink in SINKS:
        told = page(name, story, sink)
        assert normal(told) == normal(written(name)), f"{sink}: python -m tests.integration.endings"
        ids = [one.record_id for one in story.shown[sink]]
        assert len(set(ids)) == len(ids), "each record once"
        assert ids == [one.record_id for one in story.shown["splunk"]], "and the same in each backend"
    assert not story.other_streams


# --- what has to be in the stories, however they are written anew ----------------------------------------------------

START, END, REPORT = "START RequestId", "END RequestId", "REPORT RequestId"


@pytest.mark.parametrize(
    ("name", "request_", "last_words", "status"),
    [
        ("timeout", "A", "calling the slow API", "Status: timeout"),
        ("crash", "A", "calling native code", "Status: error  Error Type: Runtime.ExitError"),
        ("out-of-memory", "A", "loading the whole table", "Status: error  Error Type: Runtime.ExitError"),
        ("other-extension", "A", "paying order 17", "Status: error  Error Type: Extension.Crash"),
        ("killed-extension", "B", "paying order 17", "Status: error  Error Type: Extension.Crash"),
    ],
)
def test_an_invocation_that_was_broken_off_is_told_to_its_end(
    name: str, request_: str, last_words: str, status: str
) -> None:
    """The last lines, then how it ended, then the report with the next invocation: all three of its request."""
    of_it = [row for row in rows(name) if row.startswith(f"{request_} ")]
    words, end, report = of_it[-3:]
    assert words.endswith(last_words)
    assert END in end
    assert REPORT in report
    assert " error " in end[:14]
    assert " error " in report[:14]
    assert end.endswith(status)
    assert report.endswith(status)
    assert written(name).index("--- with the next invocation ---") < written(name).index(report)


@pytest.mark.parametrize("name", ["timeout", "crash", "out-of-memory", "other-extension"])
def test_how_it_ended_is_told_before_the_next_invocation(name: str) -> None:
    assert written(name).index(END) < written(name).index("--- with the next invocation ---")


def test_an_init_that_fails_is_told_though_it_fails_before_the_extension_is_up() -> None:
    first, again = written("init-failure").split("--- when the invocation has ended ---")
    for chapter, request, phase in ((first, "-", "init"), (again, "A", "invoke")):
        assert f"{request} cold info  connecting to the database\n" in chapter
        assert f"{request} cold error [ERROR] ValueError: no database" in chapter
        assert re.search(rf"{request} cold error INIT_REPORT .*  Phase: {phase}  Status: error  Error Type: ", chapter)
    assert re.search(r"A cold error END .*  Status: error  Error Type: Runtime.Unknown", again)
    assert re.search(r"A cold error REPORT .*  Status: error  Error Type: Runtime.Unknown", again)


def test_an_init_that_takes_too_long_is_told_with_what_it_said_last() -> None:
    first, again = written("init-timeout").split("--- when the environment has ended ---")
    assert "- cold info  connecting to the database\n" in first
    assert re.search(r"- cold error INIT_REPORT .*  Phase: init  Status: timeout", first)
    assert "A cold info  connecting to the database\n" in again
    assert "A cold info  paying order 17\n" in again


def test_another_extension_that_breaks_an_init_is_named() -> None:
    found = [row for row in rows("other-extension-in-init") if "Name: other-extension" in row]
    assert [row[:12].strip() for row in found] == ["- cold error", "A cold error", "B cold error"]
    assert all(row.endswith("Error Type: Extension.Crash") for row in found)


def test_an_exception_is_an_error_of_its_request_and_a_success_of_the_invocation() -> None:
    error, end, report = rows("exception")[-3:]
    assert error.startswith("A cold error [ERROR] ValueError: no stock")
    assert end.startswith(f"A cold info  {END}")
    assert report.startswith(f"A cold info  {REPORT}")


def test_a_spindown_brings_the_last_report_and_no_error() -> None:
    assert rows("spindown")[-1].startswith(f"A cold info  {REPORT}")
    assert not [row for row in rows("spindown") if " error " in row[:14]]


def test_an_invocation_that_lambda_abandons_says_so() -> None:
    end = next(row for row in rows("reset") if END in row)
    assert end.startswith("A cold error")
    assert end.endswith("Status: failure  Error Type: Sandbox.Failure")


@pytest.mark.parametrize("name", ENDINGS)
def test_no_line_of_a_function_is_without_its_request_but_those_of_an_init(name: str) -> None:
    for row in rows(name):
        assert not re.search(r"paying|calling|loading", row) or row[0] in "ABC", row


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_shows_every_ending() -> None:
    assert {name for _, name in ROWS} == set(ENDINGS) == {path.stem for path in FOLDER.glob("*.txt")}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_example_of_the_page_is_a_line_of_its_story(name: str) -> None:
    row = next(line for line in PAGE.splitlines() if f"(endings/{name}.txt)" in line)
    (example,) = re.findall(r"\| `([^`]+)` \|", row)
    assert any(example in line for line in rows(name)), example


ENDED = make_record(
    {"requestId": "r", "status": "error", "errorType": "Runtime.ExitError",
     "metrics": {"memorySizeMB": 128, "maxMemoryUsedMB": 128}},
    "platform.report", level="error",
)  # fmt: skip
# How a search of each backend names a member, and where that member is in what is sent.
SEARCHES = {
    "splunk": (r"'?([\w.]+)'?(?:::| ?>?= ?)'?([a-z]+\.[\w.]+MB)?", lambda sent: {**sent["fields"], **sent["event"]}),
    "datadog": (r"@?([\w.]+):", lambda sent: sent),
    "cloudwatch": (r"([\w.]+) (?:=|>=|like)(?: ([a-z]+\.[\w.]+))?", lambda sent: sent),
}
QUOTED = re.compile(r'"[^"]*"')


def cells() -> list[list[str]]:
    table = PAGE.partition("| to find |")[2].splitlines()[2:]
    return [re.split(r"(?<!\\) \| ", line.strip("| "))[1:] for line in table if line.startswith("|")]


@pytest.mark.parametrize("column", range(3), ids=SINKS)
def test_what_is_searched_for_is_in_what_is_sent(column: int) -> None:
    sink = SINKS[column]
    pattern, members = SEARCHES[sink]
    sent = members(loads(load(sink)(read_all(ENVIRON)).sink.encode(ENDED).data))
    found = 0
    for row in cells():
        for names in re.findall(pattern, QUOTED.sub("", row[column])):
            for path in filter(None, [names] if isinstance(names, str) else names):
                found += 1
                assert resolves(sent, path), f"{path} of {row[column]}"
    assert found >= 9


def resolves(value: Any, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return False
        value = value[name]
    return True
