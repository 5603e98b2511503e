"""Telemetry records under the three schemas."""

import json
from pathlib import Path
from typing import Any

import pytest

from local_lambda.rules import telemetry_events as events
from local_lambda.rules.runtime import Request
from local_lambda.rules.telemetry_events import TelemetryEvent, line
from local_lambda.settings import Function, SchemaReading

REQUEST = Request(payload=b"{}", request_id="id")


@pytest.fixture
def function(tmp_path: Path) -> Function:
    return Function(code=tmp_path, command=["true"], name="orders", memory_mb=512)


def encoded(event: TelemetryEvent, schema: str, reading: SchemaReading = "captured") -> Any:
    return json.loads(event.encode(schema, reading))


def test_time_is_utc_with_milliseconds() -> None:
    assert events.timestamp(1_772_446_530.1239) == "2026-03-02T10:15:30.123Z"
    assert events.timestamp(0) == "1970-01-01T00:00:00.000Z"


@pytest.mark.fidelity("3.2-captured")
def test_the_function_arn_is_new_in_2025(function: Function) -> None:
    event = TelemetryEvent(time=0, type="platform.start", record=events.start(function, REQUEST))
    arn = "arn:aws:lambda:us-east-1:123456789012:function:orders"
    assert encoded(event, "2025-01-29")["record"] == {"requestId": "id", "version": "$LATEST", "functionArn": arn}
    for schema in ("2022-07-01", "2022-12-13"):
        assert encoded(event, schema)["record"] == {"requestId": "id", "version": "$LATEST"}


def test_the_oldest_schema_as_documented_lacks_what_was_captured_all_the_same(function: Function) -> None:
    start = events.init_start(function, "stream", "python:3.11.v0", "init")
    event = TelemetryEvent(time=0, type="platform.initStart", record=start)
    assert encoded(event, "2022-07-01")["record"] == start
    assert encoded(event, "2022-07-01", "documented")["record"].keys() == {
        "initializationType",
        "phase",
        "runtimeVersion",
    }
    report = TelemetryEvent(
        time=0, type="platform.initReport", record=events.init_report(function, "init", "success", None, 608.2701)
    )
    assert "status" not in encoded(report, "2022-07-01", "documented")["record"]
    assert encoded(report, "2025-01-29")["record"]["metrics"] == {"durationMs": 608.27}


@pytest.mark.parametrize(
    ("raw", "is_json", "newer"),
    [
        (b"plain\n", False, "plain\n"),
        (b'{"a":1}\n', False, '{"a":1}\n'),
        (b'{"a":1}\n', True, {"a": 1}),
        (b"[1]\n", True, "[1]\n"),
        (b"plain\n", True, "plain\n"),
        (b"\xff\n", True, "\ufffd\n"),
    ],
)
def test_a_line_is_an_object_only_under_json_format_and_never_in_the_oldest_schema(
    raw: bytes, is_json: bool, newer: Any
) -> None:
    event = line("function", raw, is_json=is_json)
    assert encoded(event, "2025-01-29")["record"] == encoded(event, "2022-12-13")["record"] == newer
    assert encoded(event, "2022-07-01")["record"] == raw.decode("utf-8", "replace")


def test_error_types_and_spans_are_there_only_when_there_is_something_to_say(function: Function) -> None:
    failed = events.init_runtime_done(function, "init", "error", "Extension.Crash")
    assert failed["errorType"] == "Extension.Crash"
    done = events.ended(REQUEST, "success", None, {"durationMs": 1.235}, [])
    assert done == {"requestId": "id", "status": "success", "metrics": {"durationMs": 1.235}}
    assert events.span("responseLatency", 10.0, 10.0125) == {
        "name": "responseLatency",
        "start": "1970-01-01T00:00:10.000Z",
        "durationMs": 12.5,
    }
