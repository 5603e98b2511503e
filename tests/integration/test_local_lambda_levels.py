"""Application and system log levels on the local Lambda, and what they do to telemetry if the platform is told so."""

from pathlib import Path
from typing import Any

import pytest

from local_lambda import Function, Platform
from local_lambda.errors import InvalidSetting
from local_lambda.rules.log_levels import passes
from tests.integration.local_lambda_probe import FUNCTIONS, Probe, local_lambda

LINES = ['{"level": "DEBUG", "message": "d"}', '{"message": "i"}', '{"level": "error", "message": "e"}', "plain"]


def messages(probe: Probe) -> list[str]:
    records = [record["record"] for record in probe.records() if record["type"] == "function"]
    return [record["message"] if isinstance(record, dict) else record for record in records]


async def test_the_runtime_is_told_and_drops_what_is_below_its_level_itself(tmp_path: Path) -> None:
    probe = Probe(tmp_path)
    async with local_lambda(probe, log_format="JSON", application_log_level="ERROR") as env:
        environ = (await env.invoke({"log": ["a warning"], "environ": True})).json()["environ"]
    assert (environ["AWS_LAMBDA_LOG_FORMAT"], environ["AWS_LAMBDA_LOG_LEVEL"]) == ("JSON", "ERROR")
    assert messages(probe) == []


async def test_without_a_level_json_means_info_and_text_means_none(tmp_path: Path) -> None:
    async with local_lambda(log_format="JSON") as env:
        assert (await env.invoke({"environ": True})).json()["environ"]["AWS_LAMBDA_LOG_LEVEL"] == "INFO"
    async with local_lambda() as env:
        assert "AWS_LAMBDA_LOG_LEVEL" not in (await env.invoke({"environ": True})).json()["environ"]


@pytest.mark.parametrize(
    ("filters", "expected"), [(False, ["d", "i", "e", "plain\n"]), (True, ["e", "plain\n"])], ids=["as-is", "filtered"]
)
async def test_the_platform_thins_out_telemetry_only_if_told(
    tmp_path: Path, filters: bool, expected: list[str]
) -> None:
    probe = Probe(tmp_path, waits=False)
    function = {"log_format": "JSON", "application_log_level": "WARN", "system_log_level": "WARN"}
    async with local_lambda(probe, platform=Platform(filter_telemetry=filters), **function) as env:
        await env.invoke({"print": LINES})
        await env.invoke()
        kinds = {event["type"] for event in env.telemetry}
    assert messages(probe) == expected
    assert {"platform.start", "platform.runtimeDone"} <= kinds, "produced, whoever gets it"
    assert ("platform.start" in probe.types()) is not filters


FAILED = {"status": "error"}


@pytest.mark.parametrize(
    ("system", "type_", "record", "expected"),
    [
        ("INFO", "platform.start", {}, True),
        ("WARN", "platform.start", {}, False),
        ("INFO", "platform.runtimeDone", {"status": "success"}, False),
        ("DEBUG", "platform.runtimeDone", {"status": "success"}, True),
        ("WARN", "platform.runtimeDone", FAILED, True),
        ("INFO", "platform.initReport", {"status": "success", "initializationType": "on-demand"}, False),
        ("INFO", "platform.initReport", {"status": "success", "initializationType": "snap-start"}, True),
        ("WARN", "platform.initReport", FAILED, True),
        ("INFO", "platform.initStart", {"runtimeVersion": "x"}, True),
        ("INFO", "platform.initStart", {}, False),
        ("WARN", "platform.logsDropped", {}, True),
        ("WARN", "extension", {"level": "DEBUG"}, True),
    ],
)
def test_system_events_have_their_levels(system: str, type_: str, record: dict[str, Any], expected: bool) -> None:
    function = Function(code=FUNCTIONS, log_format="JSON", system_log_level=system)
    assert passes(function, type_, record) is expected


def test_text_is_never_filtered_and_levels_need_json() -> None:
    assert passes(Function(code=FUNCTIONS), "platform.runtimeDone", {"status": "success"})
    with pytest.raises(InvalidSetting, match="needs the log format JSON"):
        Function(code=FUNCTIONS, application_log_level="WARN")
    with pytest.raises(InvalidSetting, match="'LOUD' is none of TRACE"):
        Function(code=FUNCTIONS, log_format="JSON", application_log_level="LOUD")
    with pytest.raises(InvalidSetting, match="'ERROR' is none of DEBUG, INFO, WARN"):
        Function(code=FUNCTIONS, log_format="JSON", system_log_level="ERROR")
