"""What a subscriber of the Logs API is sent for each event of the Telemetry API."""

import json
from typing import Any

import pytest

from local_lambda.rules import telemetry_events as events
from local_lambda.rules.logs_schema import LOGS_SCHEMAS
from local_lambda.rules.telemetry_events import TelemetryEvent, line

each_schema = pytest.mark.parametrize("schema", LOGS_SCHEMAS)
DOCUMENTED = {  # by AWS docs, "Lambda Logs API", its table of log types
    "platform.start", "platform.runtimeDone", "platform.end", "platform.report", "platform.fault", "platform.extension",
    "platform.logsSubscription", "platform.logsDropped", "function", "extension",
}  # fmt: skip
METRICS = {"durationMs": 1.5, "billedDurationMs": 2, "memorySizeMB": 128, "maxMemoryUsedMB": 30}


def told(event: TelemetryEvent, schema: str) -> list[dict[str, Any]]:
    return [json.loads(record) for record in event.encode_all(schema, "captured")]


@each_schema
@pytest.mark.parametrize("stream", ["function", "extension"])
@pytest.mark.parametrize("is_json", [False, True])
@pytest.mark.parametrize("text", ["plain\n", '{"a": 1}\n', "[1]\n", "null\n", "7\n", '"quoted"\n'])
def test_lines_are_strings_whatever_the_log_format(schema: str, stream: str, is_json: bool, text: str) -> None:
    (record,) = told(line(stream, text.encode(), is_json=is_json, at=0.0), schema)
    assert record == {"time": "1970-01-01T00:00:00.000Z", "type": stream, "record": text}


@each_schema
@pytest.mark.parametrize(
    ("type_", "record"),
    [
        ("platform.initStart", {"phase": "init"}),
        ("platform.initRuntimeDone", {"status": "success"}),
        ("platform.initReport", {"metrics": {"durationMs": 1}}),
        ("platform.restoreStart", {}),
        ("platform.restoreRuntimeDone", {"status": "success"}),
        ("platform.restoreReport", {"metrics": {"durationMs": 1}}),
        ("platform.telemetrySubscription", events.subscription("a", ["platform"], again=False)),
        ("platform.tomorrow", {"new": True}),
    ],
)
def test_what_the_logs_api_does_not_know_is_not_sent(schema: str, type_: str, record: Any) -> None:
    assert told(TelemetryEvent(time=0, type=type_, record=record), schema) == []


@each_schema
@pytest.mark.parametrize("status", ["success", "error", "failure", "timeout"])
def test_each_invocation_is_told_in_documented_types_without_newer_members(schema: str, status: str) -> None:
    done = {"requestId": "id", "status": status, "spans": [], "tenantId": "t", "errorType": "Runtime.ExitError"}
    happened = [
        TelemetryEvent(time=0, type="platform.start", record={"requestId": "id", "version": "1", "functionArn": "arn"}),
        TelemetryEvent(time=0, type="platform.runtimeDone", record={**done, "metrics": {"durationMs": 1.0}}),
        TelemetryEvent(time=0, type="platform.report", record={**done, "metrics": {**METRICS, "new": 1}}),
    ]
    records = [record for event in happened for record in told(event, schema)]
    assert {record["type"] for record in records} <= DOCUMENTED
    crashed = status in ("error", "failure")
    assert [record["type"] for record in records] == [
        "platform.start",
        *(["platform.runtimeDone"] if schema == "2021-03-18" else []),
        *(["platform.fault"] if crashed else []),
        "platform.end",
        "platform.report",
    ]
    by_type = {record["type"]: record["record"] for record in records}
    assert by_type["platform.start"] == {"requestId": "id", "version": "1"}
    assert by_type["platform.report"] == {"requestId": "id", "metrics": METRICS}
    if schema == "2021-03-18":
        assert by_type["platform.runtimeDone"]["status"] in ("success", "failure", "timeout")
    if crashed:
        assert isinstance(by_type["platform.fault"], str)


def test_a_subscriber_of_the_telemetry_api_hears_nothing_of_logs_subscriptions() -> None:
    event = TelemetryEvent(
        time=0, type="platform.logsSubscription", record=events.subscription("a", ["platform"], again=False)
    )
    assert event.encode_all("2025-01-29", "captured") == []
    assert [record["type"] for record in told(event, "2021-03-18")] == ["platform.logsSubscription"]
