"""Per sink: which types, which levels, and in which functions."""

from typing import Any

import pytest
from msgspec.structs import replace

from telemetry_forwarder.errors import FilteredOut
from telemetry_forwarder.interfaces import Destination
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.sinks.selection import SelectiveSink
from telemetry_forwarder.variables.reading import read_all
from tests.sink_records import make_record

ENVIRON = {
    "AWS_LAMBDA_FUNCTION_NAME": "orders-eu",
    "TELEMETRY_FORWARDER_SINKS": "splunk,splunk:audit",
    "SPLUNK_HEC_URL": "https://splunk:8088",
    "SPLUNK_HEC_TOKEN": "t",
}


def settings(**environ: str) -> Settings:
    return Settings.from_values(read_all({**ENVIRON, **environ}))


def audit(**environ: str) -> Any:
    destination: Destination[Any, Any] = settings(**environ).destinations[1]
    assert destination.sink.name == "splunk:audit"
    return destination.sink


def record(type: str, level: str | None = None) -> Record:
    made = make_record("x")
    return replace(made, context=replace(made.context, type=type, level=level))


@pytest.mark.parametrize(
    ("types", "type", "is_taken"),
    [
        ("platform.report", "platform.report", True),
        ("platform.report", "platform.start", False),
        ("platform.report", "function", False),
        ("platform", "platform.start", True),
        ("function,platform.report", "function", True),
        ("function", "extension", False),
        ("function", "forwarder.loss", True),
    ],
)
def test_types(types: str, type: str, is_taken: bool) -> None:
    sink = audit(TELEMETRY_FORWARDER_TYPES__AUDIT=types)
    assert sink.admits(record(type)) is is_taken
    if is_taken:
        assert sink.encode(record(type)).record.context.type == type
    else:
        with pytest.raises(FilteredOut):
            sink.encode(record(type))


@pytest.mark.parametrize(
    ("floor", "level", "is_taken"),
    [
        ("warn", "error", True),
        ("warn", "warn", True),
        ("warn", "info", False),
        ("WARNING", "debug", False),
        ("warn", None, True),  # perhaps of a crash
        ("debug", "debug", True),
    ],
)
def test_levels(floor: str, level: str | None, is_taken: bool) -> None:
    sink = audit(TELEMETRY_FORWARDER_LEVEL__AUDIT=floor)
    assert sink.admits(record("function", level)) is is_taken


def test_events_of_the_platform_have_no_level_to_be_left_out_by() -> None:
    assert audit(TELEMETRY_FORWARDER_LEVEL__AUDIT="error").admits(record("platform.start", "info"))


def test_the_other_sink_takes_everything() -> None:
    first, second = settings(TELEMETRY_FORWARDER_TYPES__AUDIT="platform").destinations
    assert not isinstance(first.sink, SelectiveSink)
    assert isinstance(second.sink, SelectiveSink)


def test_all_at_once_is_what_one_after_the_other_is() -> None:
    sink = audit(TELEMETRY_FORWARDER_TYPES__AUDIT="function")
    taken = [record("function"), record("function", "info")]
    assert sink.encode_all(taken) == [sink.encode(one) for one in taken]
    with pytest.raises(FilteredOut):
        sink.encode_all([*taken, record("extension")])


@pytest.mark.parametrize(
    ("patterns", "runs"), [("orders-*", True), ("pay,orders-eu", True), ("Orders-*", False), ("pay-*", False)]
)
def test_functions(patterns: str, runs: bool) -> None:
    found = settings(TELEMETRY_FORWARDER_FUNCTIONS__AUDIT=patterns)
    assert len(found.destinations) == (2 if runs else 1)
    if not runs:
        (problem,) = found.problems
        assert (problem.level, problem.is_wrong) == ("info", False)
        assert str(problem) == "TELEMETRY_FORWARDER_FUNCTIONS__AUDIT leaves sink splunk:audit out of orders-eu."


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TELEMETRY_FORWARDER_TYPES__AUDIT", "reports", "allowed: of `platform`, `function`, `extension`, and single"),
        ("TELEMETRY_FORWARDER_TYPES__AUDIT", "extension", "TELEMETRY_FORWARDER_TYPES has to name `extension`"),
        ("TELEMETRY_FORWARDER_LEVEL__SPLUNK", "loud", "allowed: `debug`, `info`, `warn`"),
        ("TELEMETRY_FORWARDER_FUNCTIONS__AUDIT", "a b/c", "partly unsound: 'b/c'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(name: str, value: str, said: str) -> None:
    problems = [str(problem) for problem in settings(**{name: value}).problems if problem.is_wrong]
    assert len(problems) == 1
    assert problems[0].startswith(name)
    assert said in problems[0]


def test_only_splunk_itself_is_meant_by_its_kind() -> None:
    first, second = settings(TELEMETRY_FORWARDER_LEVEL__SPLUNK="error").destinations
    assert isinstance(first.sink, SelectiveSink)
    assert not isinstance(second.sink, SelectiveSink)
