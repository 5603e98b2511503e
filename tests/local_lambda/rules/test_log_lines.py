"""Telemetry as CloudWatch Logs shows it."""

from typing import Any

import pytest

from local_lambda.rules.log_lines import text_of

REPORT = {
    "requestId": "r-1",
    "status": "success",
    "metrics": {"durationMs": 452.8, "billedDurationMs": 1062, "memorySizeMB": 512, "maxMemoryUsedMB": 97},
}
REPORT_LINE = (
    "END RequestId: r-1\nREPORT RequestId: r-1\tDuration: 452.80 ms\tBilled Duration: 1062 ms\tMemory Size: 512 MB"
    "\tMax Memory Used: 97 MB"
)
INIT = {"initializationType": "on-demand", "phase": "init", "status": "success", "metrics": {"durationMs": 608.271}}


@pytest.mark.fidelity("3.5-lines")
@pytest.mark.parametrize(
    ("kind", "record", "text"),
    [
        ("platform.start", {"requestId": "r-1", "version": "$LATEST"}, "START RequestId: r-1 Version: $LATEST"),
        ("platform.report", REPORT, REPORT_LINE),
        (
            "platform.report",
            REPORT | {"metrics": REPORT["metrics"] | {"initDurationMs": 608.271}},  # type: ignore[operator]
            REPORT_LINE + "\tInit Duration: 608.27 ms",
        ),
        ("platform.report", REPORT | {"status": "timeout"}, REPORT_LINE + "\tStatus: timeout"),
        (
            "platform.extension",
            {"name": "mine", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]},
            "EXTENSION\tName: mine\tState: Ready\tEvents: [INVOKE, SHUTDOWN]",
        ),
        (
            "platform.telemetrySubscription",
            {"name": "mine", "state": "Subscribed", "types": ["platform", "function"]},
            "TELEMETRY\tName: mine\tState: Subscribed\tTypes: [Platform, Function]",
        ),
        ("function", "a line\n", "a line"),
        ("platform.runtimeDone", {}, None),
    ],
)
def test_the_familiar_lines(kind: str, record: Any, text: str | None) -> None:
    assert text_of({"type": kind, "record": record}) == text


@pytest.mark.fidelity("3.5-init-report", "3.5-init-report-other")
@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, None),
        (
            {"status": "error", "errorType": "Extension.Crash"},
            "INIT_REPORT Init Duration: 608.27 ms\tPhase: init\tStatus: error\tError Type: Extension.Crash",
        ),
        (
            {"initializationType": "provisioned-concurrency"},
            "INIT_REPORT Init Duration: 608.27 ms\tPhase: init\tStatus: success",
        ),
    ],
)
def test_an_init_is_reported_when_it_failed_or_was_not_on_demand(changes: dict[str, str], text: str | None) -> None:
    assert text_of({"type": "platform.initReport", "record": INIT | changes}) == text
