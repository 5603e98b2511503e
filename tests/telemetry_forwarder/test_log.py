"""Own lines: valid JSON, quiet unless asked, and known again."""

import json
import logging
import sys

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.log import LibraryLines, Log, is_own
from tests.builders import Lines

ANY_TEXT = st.text(st.characters(codec=None))


def lines_of(level: str) -> list[str]:
    written: list[str] = []
    log = Log(level, written.append)
    log.debug("a debug line")
    log.info("an info line")
    log.warning("a warning")
    log.error("an error")
    return [json.loads(line)["level"] for line in written]


def test_only_lines_of_the_level_and_above_are_written() -> None:
    assert lines_of("debug") == ["DEBUG", "INFO", "WARN", "ERROR"]
    assert lines_of("warning") == ["WARN", "ERROR"]
    assert lines_of("error") == ["ERROR"]


@given(ANY_TEXT, ANY_TEXT | st.integers() | st.floats() | st.none() | st.dictionaries(ANY_TEXT, st.integers()))
def test_any_line_is_one_json_object_that_is_known_again(message: str, member: object) -> None:
    written: list[str] = []
    Log("info", written.append).info(message, member=member)
    (line,) = written
    assert "\n" not in line
    assert is_own(line)
    assert is_own(json.loads(line))
    assert json.loads(line)["message"] == message


@pytest.mark.parametrize("member", [2**70, {"k": -(2**64)}, "\ud800", object(), {1, 2}, b"x", {"k": float("inf")}])
def test_no_value_stops_a_line(member: object) -> None:
    lines: list[str] = []
    Log("info", lines.append).info("said", member=member)
    assert len(lines) == 1


def test_a_line_has_what_lambdas_filters_read() -> None:
    """Source: AWS Lambda Developer Guide, "Log-level filtering": `level`, and `timestamp` in RFC 3339."""
    lines = Lines()
    lines.log.warning("hello", held=3)
    (line,) = lines.written
    assert line["level"] == "WARN"
    assert line["timestamp"].endswith("Z")
    assert line["held"] == 3


@pytest.mark.parametrize(
    "body",
    [
        "the line telemetry_forwarder wrote",
        ' {"telemetry_forwarder":"0.1"}',
        '{"message":"telemetry_forwarder"}',
        '{"message":{"telemetry_forwarder":1}}',
        {"message": "telemetry_forwarder"},
        {"message": {"telemetry_forwarder": "0.1"}},
        ["telemetry_forwarder"],
        None,
        5,
        "",
    ],
)
def test_a_users_line_that_mentions_the_mark_is_not_ours(body: object) -> None:
    assert not is_own(body)


def test_standard_output_gets_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Log("info").info("hello")
    said = capsys.readouterr().out
    assert said.endswith("\n")
    assert orjson.loads(said)["message"] == "hello"


def test_what_libraries_say_becomes_our_line() -> None:
    lines = Lines()
    library = logging.Logger("aiohttp.server")
    library.addHandler(LibraryLines(lines.log))
    library.info("not of interest")
    library.warning("hello %s", "there")
    try:
        raise ValueError("deep")
    except ValueError:
        library.error("it broke", exc_info=sys.exc_info())
    assert [line["message"] for line in lines.written] == ["aiohttp.server: hello there", "aiohttp.server: it broke"]
    assert lines.written[1]["error"] == "ValueError"
    assert "test_log.py" in lines.written[1]["trace"][-1]


def test_what_libraries_say_of_their_state_is_left_out() -> None:
    """asyncio adds what was being done: of an unclosed connection the proxy's address, with its password."""
    lines = Lines()
    library = logging.Logger("asyncio")
    library.addHandler(LibraryLines(lines.log))
    library.error("Unclosed connection\nclient_connection: Connection<proxy=URL('http://me:secret@proxy')>")
    try:
        raise ValueError("the header is secret")
    except ValueError:
        library.exception("Task exception was never retrieved")
    assert [line["message"] for line in lines.written] == [
        "asyncio: Unclosed connection", "asyncio: Task exception was never retrieved"
    ]  # fmt: skip
    assert "secret" not in str(lines.written)
