"""The lines that Lambda writes into CloudWatch Logs, made from platform records."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.sinks.platform_lines import LINES, platform_text
from tests.sink_records import json_values

ID = "5d0c2c7e-8a51-4f0e-9c6b-2f1f6f0b7a11"
RUNTIME = {"runtimeVersion": "python:3.13.v60", "runtimeVersionArn": "arn:aws:lambda:eu-west-1::runtime:0b"}
METRICS = {"durationMs": 452.8, "billedDurationMs": 1062, "memorySizeMB": 512, "maxMemoryUsedMB": 97}
REPORT = (
    f"REPORT RequestId: {ID}\tDuration: 452.80 ms\tBilled Duration: 1062 ms"
    "\tMemory Size: 512 MB\tMax Memory Used: 97 MB"
)


@pytest.mark.parametrize(
    ("type", "record", "line"),
    [
        (
            "platform.initStart",
            {"initializationType": "on-demand", "phase": "init", **RUNTIME},
            "INIT_START Runtime Version: python:3.13.v60\tRuntime Version ARN: arn:aws:lambda:eu-west-1::runtime:0b",
        ),
        ("platform.initStart", {"phase": "init"}, None),
        ("platform.start", {"requestId": ID, "version": "$LATEST"}, f"START RequestId: {ID} Version: $LATEST"),
        ("platform.start", {"requestId": ID}, f"START RequestId: {ID}"),
        ("platform.start", {"version": "7"}, None),
        ("platform.runtimeDone", {"requestId": ID, "status": "success"}, f"END RequestId: {ID}"),
        ("platform.runtimeDone", {"requestId": ID, "status": "timeout"}, f"END RequestId: {ID}\tStatus: timeout"),
        (
            "platform.runtimeDone",
            {"requestId": ID, "status": "error", "errorType": "Runtime.ExitError"},
            f"END RequestId: {ID}\tStatus: error\tError Type: Runtime.ExitError",
        ),
        ("platform.runtimeDone", {"status": "success"}, None),
        ("platform.report", {"requestId": ID, "status": "success", "metrics": METRICS}, REPORT),
        (
            "platform.report",
            {"requestId": ID, "status": "success", "metrics": {**METRICS, "initDurationMs": 608.267}},
            REPORT + "\tInit Duration: 608.27 ms",
        ),
        (
            "platform.report",
            {"requestId": ID, "metrics": {**METRICS, "restoreDurationMs": 214.5, "billedRestoreDurationMs": 215}},
            REPORT + "\tRestore Duration: 214.50 ms\tBilled Restore Duration: 215 ms",
        ),
        ("platform.report", {"requestId": ID, "status": "timeout", "metrics": METRICS}, REPORT + "\tStatus: timeout"),
        (
            "platform.report",
            {"requestId": ID, "status": "error", "errorType": "Runtime.ExitError", "metrics": METRICS},
            REPORT + "\tStatus: error\tError Type: Runtime.ExitError",
        ),
        (
            "platform.report",
            {"requestId": ID, "metrics": {"durationMs": 12}},
            f"REPORT RequestId: {ID}\tDuration: 12.00 ms",
        ),
        ("platform.report", {"requestId": ID}, f"REPORT RequestId: {ID}"),
        ("platform.report", {"metrics": METRICS}, None),
        (
            "platform.initReport",
            {"initializationType": "on-demand", "phase": "init", "status": "success", "metrics": {"durationMs": 1.0}},
            None,
        ),
        (
            "platform.initReport",
            {"initializationType": "on-demand", "phase": "invoke", "status": "error", "errorType": "Extension.Crash",
             "metrics": {"durationMs": 608.27}},
            "INIT_REPORT Init Duration: 608.27 ms\tPhase: invoke\tStatus: error\tError Type: Extension.Crash",
        ),
        (
            "platform.initReport",
            {"initializationType": "provisioned-concurrency", "phase": "init", "metrics": {"durationMs": 608.27}},
            "INIT_REPORT Init Duration: 608.27 ms\tPhase: init",
        ),
        (
            "platform.restoreStart",
            RUNTIME,
            "RESTORE_START Runtime Version: python:3.13.v60\tRuntime Version ARN: arn:aws:lambda:eu-west-1::runtime:0b",
        ),
        (
            "platform.restoreReport",
            {"status": "success", "metrics": {"durationMs": 214.5}},
            "RESTORE_REPORT Restore Duration: 214.50 ms",
        ),
        (
            "platform.restoreReport",
            {"status": "timeout", "metrics": {"durationMs": 10000}},
            "RESTORE_REPORT Restore Duration: 10000.00 ms\tStatus: timeout",
        ),
        (
            "platform.extension",
            {"name": "forwarder", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]},
            "EXTENSION\tName: forwarder\tState: Ready\tEvents: [INVOKE, SHUTDOWN]",
        ),
        (
            "platform.extension",
            {"name": "forwarder", "state": "LaunchError", "events": [], "errorType": "Extension.LaunchError"},
            "EXTENSION\tName: forwarder\tState: LaunchError\tEvents: []\tError Type: Extension.LaunchError",
        ),
        (
            "platform.telemetrySubscription",
            {"name": "forwarder", "state": "Subscribed", "types": ["platform", "function", "extension"]},
            "TELEMETRY\tName: forwarder\tState: Subscribed\tTypes: [Platform, Function, Extension]",
        ),
        ("platform.logsDropped", {"reason": "x"}, None),
        ("platform.initRuntimeDone", {"status": "success"}, None),
        ("platform.news", {"requestId": ID}, None),
        ("function", {"requestId": ID}, None),
        ("platform.start", "text", None),
        ("platform.start", None, None),
    ],
)  # fmt: skip
def test_line(type, record, line):
    assert platform_text(type, record) == line


@pytest.mark.parametrize("odd", [None, True, "12", [], {}, float("nan"), float("inf"), 10**400, -(10**400)])
def test_a_number_that_is_none_is_left_out(odd):
    record = {"requestId": ID, "metrics": {"durationMs": odd, "memorySizeMB": odd}}
    assert platform_text("platform.report", record) == f"REPORT RequestId: {ID}"


MEMBERS = ["requestId", "version", "status", "errorType", "phase", "initializationType", "name", "state", "events",
           "types", "runtimeVersion", "runtimeVersionArn"]  # fmt: skip
METRIC_NAMES = ["durationMs", "billedDurationMs", "memorySizeMB", "initDurationMs", "restoreDurationMs"]


@given(
    type=st.sampled_from([*LINES, "platform.news"]),
    record=st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(MEMBERS, json_values),
            "metrics": json_values | st.fixed_dictionaries({}, optional=dict.fromkeys(METRIC_NAMES, json_values)),
        },
    )
    | json_values,
)
def test_no_record_makes_it_raise(type, record):
    line = platform_text(type, record)
    assert line is None or line.partition(" ")[0].partition("\t")[0].isupper()
