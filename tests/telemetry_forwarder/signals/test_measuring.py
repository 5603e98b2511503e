"""Each invocation is measured once, whatever comes twice, late or not at all."""

from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.record import METRICS, Context, Record
from telemetry_forwarder.signals.events import error_type
from telemetry_forwarder.signals.measuring import Meter, Prices
from telemetry_forwarder.signals.points import MetricKind, Point
from telemetry_forwarder.variables.table import MANAGED_INSTANCES
from tests.builders import ORIGIN, request_id

ONE = request_id(1)
USUAL = replace(ORIGIN, region="eu-west-1", init_type="on-demand")


def event(
    kind: str,
    request: str | None = ONE,
    *,
    time_ms: int = 1000,
    cold: bool | None = False,
    origin: Any = USUAL,
    **body: Any,
) -> Record:
    """Return the record of a platform event, as enriching makes it."""
    fields = {"requestId": request, **body} if request else body
    return Record("b", 0, time_ms, fields, fields, Context(origin, f"platform.{kind}", request, cold), 100)


def line(body: Any, *, level: str | None = "error", request: str | None = ONE) -> Record:
    fields = body if isinstance(body, dict) else None
    return Record("b", 0, 1000, body, fields, Context(USUAL, "function", request, False, level), 100)


def done(**more: Any) -> Record:
    return event("runtimeDone", **{"status": "success", "metrics": {"durationMs": 10.5, "producedBytes": 7}, **more})


def report(metrics: Mapping[str, Any] | None = None, **more: Any) -> Record:
    found = {"durationMs": 12.0, "billedDurationMs": 13, "memorySizeMB": 512, "maxMemoryUsedMB": 60, **(metrics or {})}
    return event("report", **{"status": "success", "metrics": found, **more})


def values(made: Derived | None) -> dict[str, float]:
    assert made is not None
    assert made.type == METRICS
    return {point["name"].removeprefix("lambda."): point["value"] for point in made.fields["points"]}


def meter(**more: Any) -> Meter:
    return Meter(Prices(), **more)


def test_a_warm_invocation_is_counted_when_it_ends_and_billed_by_its_report() -> None:
    one = meter()
    first = one.measure(done(spans=[{"name": "responseLatency", "durationMs": 3.5}]))
    assert values(first) == {
        "invocations": 1, "successes": 1, "runtime_duration": 10.5, "produced_bytes": 7, "response_latency": 3.5,
    }  # fmt: skip
    second = one.measure(report(spans=[{"name": "extensionOverhead", "durationMs": 1.25}]))
    assert values(second) == {
        "duration": 12.0, "post_runtime_duration": 1.5, "extension_overhead": 1.25, "billed_duration": 13,
        "memory_used": 60, "memory_size": 512, "estimated_cost": round(2e-7 + 0.013 * 0.5 * 1.66667e-5, 12),
    }  # fmt: skip
    assert (first.request_id, second.request_id) == (ONE, ONE)  # type: ignore[union-attr]


def test_the_same_event_twice_counts_once() -> None:
    one = meter()
    assert one.measure(done()) is not None
    assert one.measure(done(time_ms=2000)) is None
    assert one.measure(report()) is not None
    assert one.measure(report(time_ms=2000)) is None
    init = event("initReport", None, initializationType="on-demand", phase="init", metrics={"durationMs": 99})
    assert one.measure(init) is not None
    assert one.measure(init) is None


def test_another_attempt_of_an_event_has_the_same_id_and_counts_again() -> None:
    one = meter()
    assert one.measure(event("start")) is None
    assert one.measure(done()) is not None
    assert one.measure(report()) is not None
    assert one.measure(line("[ERROR] ValueError: x")) is not None
    assert one.measure(event("start")) is None
    assert one.measure(done()) is None, "the same start again is none"
    assert one.measure(event("start", time_ms=61_000)) is None
    assert values(one.measure(done(time_ms=61_100)))["invocations"] == 1
    assert "invocations" not in values(one.measure(report(time_ms=61_200)))
    assert one.measure(line("[ERROR] ValueError: x")) is not None


def test_a_report_without_the_end_of_its_invocation_counts_it() -> None:
    one = meter()
    found = values(one.measure(report(status="timeout", metrics={"durationMs": 3000.0})))
    assert {"invocations": 1, "errors": 1, "timeouts": 1}.items() <= found.items()
    assert "post_runtime_duration" not in found
    assert one.measure(done()) is None, "an end that comes after it counts no second time"


@pytest.mark.parametrize(
    ("status", "kind", "counts", "error"),
    [
        ("success", None, {"invocations", "successes"}, None),
        ("timeout", None, {"invocations", "errors", "timeouts"}, "timeout"),
        ("timeout", "Sandbox.Timedout", {"invocations", "errors", "timeouts"}, "Sandbox.Timedout"),
        ("error", "Runtime.ExitError", {"invocations", "errors"}, "Runtime.ExitError"),
        ("failure", None, {"invocations", "errors"}, "failure"),
    ],
)
def test_each_status_has_its_counts_and_its_class_of_error(
    status: str, kind: str | None, counts: set[str], error: str | None
) -> None:
    made = meter().measure(done(status=status, errorType=kind, metrics={}))
    assert values(made).keys() == counts
    assert made is not None
    assert made.fields["attributes"].get("error.type") == error
    assert error_type({"status": status, "errorType": kind}) == error


def test_a_cold_start_is_counted_with_its_invocation_and_its_init_once() -> None:
    one = meter()
    init = event("initReport", None, initializationType="on-demand", phase="init", metrics={"durationMs": 250.5})
    made = one.measure(init)
    assert values(made) == {"init_duration": 250.5}
    assert made is not None
    assert made.fields["attributes"] == {"init.type": "on-demand", "init.phase": "init"}
    assert values(one.measure(done(cold=True)))["cold_starts"] == 1
    assert "init_duration" not in values(one.measure(report({"initDurationMs": 250.5}, cold=True)))


def test_an_init_whose_report_was_lost_is_measured_by_the_first_report_of_an_invocation() -> None:
    one = meter()
    assert values(one.measure(report({"initDurationMs": 250.5}, cold=True)))["init_duration"] == 250.5
    second = values(one.measure(report({"initDurationMs": 250.5}, cold=True, request=request_id(2))))
    assert "init_duration" not in second


def test_a_process_that_follows_another_does_not_count_the_init_again() -> None:
    found = values(meter(is_successor=True).measure(report({"initDurationMs": 250.5}, cold=True)))
    assert "init_duration" not in found


def test_an_invocation_whose_end_another_process_measured_is_not_counted_again() -> None:
    found = values(meter(measured=ONE).measure(report()))
    assert "invocations" not in found
    assert found["billed_duration"] == 13


OOM = [
    ({}, "error", "Runtime.OutOfMemory", "error_type"),
    ({"maxMemoryUsedMB": 512}, "timeout", None, "memory_full"),
    ({"maxMemoryUsedMB": 512}, "success", None, None),  # the page cache counts as used
    ({"maxMemoryUsedMB": 500}, "error", "Runtime.ExitError", "killed"),
    ({"maxMemoryUsedMB": 400}, "error", "Runtime.ExitError", None),
    ({"maxMemoryUsedMB": 500}, "error", "Runtime.Unknown", None),
]


@pytest.mark.parametrize(("metrics", "status", "kind", "evidence"), OOM)
def test_out_of_memory_is_told_with_its_evidence(
    metrics: dict[str, Any], status: str, kind: str | None, evidence: str | None
) -> None:
    one = meter()
    one.measure(line("RequestId: x Error: Runtime exited with error: signal: killed"))
    made = one.measure(report(metrics, status=status, errorType=kind))
    assert made is not None
    assert values(made).get("out_of_memory") == (1 if evidence else None)
    assert made.fields["attributes"].get("oom.evidence") == evidence


def test_a_text_about_memory_is_no_evidence() -> None:
    one = meter()
    assert one.measure(line("caught a MemoryError, all is well", level="info")) is None
    assert "out_of_memory" not in values(one.measure(report()))


def test_managed_instances_have_reports_alone_and_no_cost() -> None:
    origin = replace(USUAL, init_type=MANAGED_INSTANCES)
    spans = [{"name": "responseLatency", "durationMs": 2.0}]
    made = meter().measure(
        event("report", origin=origin, cold=None, status="success", metrics={"durationMs": 8.5}, spans=spans)
    )
    assert values(made) == {"invocations": 1, "successes": 1, "response_latency": 2.0, "duration": 8.5}


def test_a_restore_is_measured() -> None:
    made = meter().measure(event("restoreReport", None, status="success", metrics={"durationMs": 77.5}))
    assert values(made) == {"restore_duration": 77.5}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("[ERROR] ValueError: no such order\nTraceback (most recent call last):\n  …", "ValueError"),
        ("[ERROR] KeyError", "KeyError"),
        ("2026-11-28T10:00:00.000Z\tabc\tERROR\tInvoke Error\t{…}", None),
        ({"errorType": "TypeError", "errorMessage": "x", "stackTrace": []}, "TypeError"),
    ],
)
def test_an_exception_that_only_the_runtime_tells_is_a_metric_of_its_own(body: Any, kind: str | None) -> None:
    one = meter()
    made = one.measure(line(body))
    assert values(made) == {"function_errors": 1}
    assert made is not None
    assert made.fields["attributes"] == ({"error.type": kind} if kind else {})
    assert one.measure(line(body)) is None, "once for each request"


@pytest.mark.parametrize("body", ["[ERROR] the order was refused", {"level": "ERROR", "message": "refused"}, "[ERROR]"])
def test_a_line_that_the_function_logs_as_an_error_is_no_exception(body: Any) -> None:
    assert meter().measure(line(body)) is None


@pytest.mark.parametrize("metrics", [None, [], {"durationMs": "12"}, {"durationMs": True}, {"durationMs": -1}])
def test_members_of_another_form_are_left_out(metrics: Any) -> None:
    assert values(meter().measure(done(metrics=metrics, spans="x"))) == {"invocations": 1, "successes": 1}


def test_no_request_id_is_an_attribute() -> None:
    one = meter()
    for made in (one.measure(done()), one.measure(report())):
        assert made is not None
        assert ONE not in str(made.fields)


def test_the_use_of_the_machine_goes_with_the_end_of_the_invocation() -> None:
    one = meter()
    one.usage = [Point("lambda.fd_use", 12, "1", MetricKind.GAUGE)]
    assert values(one.measure(done()))["fd_use"] == 12
    assert "fd_use" not in values(one.measure(done(request=request_id(2))))


def test_what_is_remembered_is_bounded() -> None:
    one = meter()
    for number in range(5000):
        one.measure(done(request=request_id(number)))
    assert len(one._seen) <= 1024
