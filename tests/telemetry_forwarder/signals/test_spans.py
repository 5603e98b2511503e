"""Each request becomes one tree, whatever comes twice, late, interleaved or not at all."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.handover import Handover
from telemetry_forwarder.records.record import SPAN, Record
from telemetry_forwarder.records.tracing import trace_of
from telemetry_forwarder.signals.spans import Spans
from telemetry_forwarder.variables.table import MANAGED_INSTANCES
from tests.builders import request_id
from tests.telemetry_forwarder.signals.test_measuring import USUAL, event, line

ONE, TWO = request_id(1), request_id(2)
ROOT, TRACE = "1-68c4a1f0-3b2a90d1c7e845f6a0b1c2d3", "68c4a1f03b2a90d1c7e845f6a0b1c2d3"
PARENT, SEGMENT = "1a2b3c4d5e6f7081", "7f3e1d2c4b5a6978"
MANAGED = replace(USUAL, init_type=MANAGED_INSTANCES)
ARN = "arn:aws:lambda:eu-west-1:210987654321:function:orders-worker"


def tracing(sampled: object = 1, segment: str | None = SEGMENT) -> dict[str, Any]:
    return {"value": f"Root={ROOT};Parent={PARENT};Sampled={sampled}", "spanId": segment}


def start(time_ms: int = 1000, request: str = ONE, **more: Any) -> Record:
    return event("start", request, time_ms=time_ms, **more)


def done(time_ms: int = 1100, request: str = ONE, **more: Any) -> Record:
    body = {"status": "success", "metrics": {"durationMs": 99.5, "producedBytes": 7}, **more}
    return event("runtimeDone", request, time_ms=time_ms, **body)


def report(time_ms: int = 1120, request: str = ONE, metrics: Mapping[str, Any] | None = None, **more: Any) -> Record:
    found = {"durationMs": 115.0, "billedDurationMs": 116, "memorySizeMB": 512, "maxMemoryUsedMB": 60}
    spans = [{"name": "extensionOverhead", "durationMs": 15.25}]
    body = {"status": "success", "metrics": found if metrics is None else metrics, "spans": spans, **more}
    return event("report", request, time_ms=time_ms, **body)


def init_start(time_ms: int, kind: str = "on-demand", phase: str = "init", **more: Any) -> Record:
    return event("initStart", None, time_ms=time_ms, initializationType=kind, phase=phase, **more)


def init_report(time_ms: int, kind: str = "on-demand", phase: str = "init", **more: Any) -> Record:
    return event("initReport", None, time_ms=time_ms, initializationType=kind, phase=phase, **more)


def made(spans: Spans, *records: Record) -> list[dict[str, Any]]:
    return shown([one for record in records for one in spans.trace(record)])


def shown(found: Iterable[Derived]) -> list[dict[str, Any]]:
    for one in found:
        assert one.type == SPAN
        assert one.fields["trace_id"] == one.trace_id
        assert one.fields["start_ns"] <= one.fields["end_ns"]
    return [dict(one.fields) for one in found]


def times(found: Iterable[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return the start and end of each span in ms, by its name."""
    return {one["name"]: (one["start_ns"] / 1e6, one["end_ns"] / 1e6) for one in found}


def spans(sampling: str | float = "on", **more: Any) -> Spans:
    return Spans(sampling, **more)


# --- the tree -------------------------------------------------------------------------------------------------------


def test_a_warm_invocation_is_a_root_with_two_steps_which_leave_with_the_report() -> None:
    one = spans()
    latency = [{"name": "responseLatency", "durationMs": 90.5}]
    assert made(one, start(functionArn=ARN, version="$LATEST", tenantId="t"), done(spans=latency)) == []
    root, invocation, overhead = made(one, report())
    assert root == {
        "trace_id": trace_of(ONE), "span_id": root["span_id"], "name": "orders-worker", "kind": "server",
        "start_ns": 1_000_000_000, "end_ns": 1_120_000_000, "flags": 1,
        "attributes": {
            "faas.invocation_id": ONE, "faas.trigger": "other", "faas.coldstart": False, "cloud.resource_id": ARN,
            "aws.lambda.tenant_id": "t", "aws.lambda.duration_ms": 115.0, "aws.lambda.billed_duration_ms": 116,
            "aws.lambda.memory_size_mb": 512, "aws.lambda.max_memory_used_mb": 60,
        },
    }  # fmt: skip
    assert invocation == {
        "trace_id": trace_of(ONE), "span_id": invocation["span_id"], "parent_id": root["span_id"],
        "name": "invocation", "kind": "internal", "start_ns": 1_000_000_000, "end_ns": 1_100_000_000, "flags": 1,
        "attributes": {"aws.lambda.response_latency_ms": 90.5, "aws.lambda.produced_bytes": 7},
    }  # fmt: skip
    assert overhead["parent_id"] == root["span_id"]
    assert (overhead["start_ns"], overhead["end_ns"]) == (1_100_000_000, 1_115_250_000)
    assert len({root["span_id"], invocation["span_id"], overhead["span_id"]}) == 3


def test_a_record_of_a_span_has_the_context_of_its_request() -> None:
    one = spans()
    found = [made for record in (start(cold=True), done(), report()) for made in one.trace(record)]
    assert {(made.request_id, made.cold_start, made.trace_id) for made in found} == {(ONE, True, trace_of(ONE))}


def test_a_cold_start_begins_with_the_init_that_the_request_waited_for() -> None:
    found = made(spans(), init_start(400), init_report(900), start(cold=True), done(), report())
    assert [one["name"] for one in found] == ["orders-worker", "init", "invocation", "extension overhead"]
    assert times(found) == {
        "orders-worker": (400, 1120), "init": (400, 900), "invocation": (1000, 1100),
        "extension overhead": (1100, 1115.25),
    }  # fmt: skip
    assert found[1]["attributes"] == {"aws.lambda.init_type": "on-demand", "aws.lambda.init_phase": "init"}
    assert found[0]["attributes"]["faas.coldstart"] is True


def test_an_init_that_nobody_waited_for_is_a_trace_of_its_own_with_a_link_to_it() -> None:
    """Lambda may initialise an environment long before its first request. Source: the reference, 3.5: 10 s."""
    found = made(spans(), init_start(400), init_report(900), start(10_901, cold=True), done(11_000), report(11_001))
    init, root, *_ = found
    assert (init["name"], "parent_id" in init) == ("init", False)
    assert init["trace_id"] != root["trace_id"]
    assert root["links"] == [{"trace_id": init["trace_id"], "span_id": init["span_id"]}]
    assert times(found)["orders-worker"] == (10_901, 11_015.25)
    within = made(spans(), init_start(400), init_report(900), start(10_900, cold=True), done(11_000), report(11_001))
    assert [one["name"] for one in within][:2] == ["orders-worker", "init"]


@pytest.mark.parametrize("kind", ["provisioned-concurrency", "snap-start", MANAGED_INSTANCES])
def test_an_init_ahead_of_all_requests_leaves_when_it_ends(kind: str) -> None:
    one = spans()
    (init,) = made(one, init_start(400, kind, tracing=tracing()), init_report(900, kind))
    assert (init["name"], init["trace_id"], "parent_id" in init) == ("init", TRACE, False)
    root, *rest = made(one, start(), done(), report(), start(2000, TWO), done(2100, TWO), report(2101, TWO))
    assert root["links"] == [{"trace_id": TRACE, "span_id": init["span_id"]}]
    assert not any("links" in other for other in rest)


def test_an_init_ahead_of_all_requests_is_no_part_of_one_even_if_its_end_was_lost() -> None:
    init, root, *_ = made(spans(), init_start(900, "provisioned-concurrency"), start(), done(), report())
    assert init["attributes"]["lambda.incomplete"] is True
    assert root["links"] == [{"trace_id": init["trace_id"], "span_id": init["span_id"]}]


def test_a_restore_is_a_part_of_the_first_request() -> None:
    found = made(spans(), event("restoreStart", None, time_ms=700), event("restoreReport", None, time_ms=900),
                 start(), done(), report())  # fmt: skip
    assert times(found) == {
        "orders-worker": (700, 1120), "restore": (700, 900), "invocation": (1000, 1100),
        "extension overhead": (1100, 1115.25),
    }  # fmt: skip


def test_an_init_within_an_invocation_is_a_part_of_it() -> None:
    within = {"request": ONE, "initializationType": "on-demand", "phase": "invoke"}
    records = [
        start(), replace(event("initStart", time_ms=1010, **within)), event("initReport", time_ms=1050, **within),
        done(), report(),
    ]  # fmt: skip
    found = made(spans(), *records)
    assert times(found)["init"] == (1010, 1050)
    assert times(found)["orders-worker"] == (1000, 1120)


def test_an_init_that_failed_and_was_repeated_is_there_twice() -> None:
    within = {"request": ONE, "initializationType": "on-demand", "phase": "invoke"}
    records = [
        init_start(400), init_report(900, status="timeout", errorType="Runtime.Unknown"), start(),
        event("initStart", time_ms=1010, **within), event("initReport", time_ms=1050, **within), done(), report(),
    ]  # fmt: skip
    inits = [one for one in made(spans(), *records) if one["name"] == "init"]
    assert len({one["span_id"] for one in inits}) == 2
    assert [one.get("error") for one in inits] == [True, None]
    assert inits[0]["attributes"]["error.type"] == "Runtime.Unknown"


def test_an_init_whose_events_were_lost_is_rebuilt_from_what_is_left() -> None:
    only_report = made(spans(), init_report(900, metrics={"durationMs": 500}), start(cold=True), done(), report())
    assert times(only_report)["init"] == (400, 900)
    only_start = made(spans(), init_start(400), start(cold=True), done(), report())
    assert times(only_start)["init"] == (400, 1000)
    assert only_start[1]["attributes"]["lambda.incomplete"] is True
    neither = made(spans(), start(cold=True), done(), report(metrics={"initDurationMs": 500}))
    assert times(neither)["init"] == (500, 1000)
    within = made(spans(), start(), event("initStart", ONE, time_ms=1010, phase="invoke"), done(), report())
    assert times(within)["init"] == (1010, 1120)


def test_an_alias_is_replaced_by_its_version() -> None:
    root, *_ = made(spans(), start(functionArn=f"{ARN}:live", version="7"), done(), report())
    assert root["attributes"]["cloud.resource_id"] == f"{ARN}:7"
    assert root["attributes"]["aws.lambda.invoked_arn"] == f"{ARN}:live"
    nothing, *_ = made(spans(), start(functionArn=7), done(), report())
    assert "cloud.resource_id" not in nothing["attributes"]


# --- errors ---------------------------------------------------------------------------------------------------------


def failed(found: list[dict[str, Any]]) -> dict[str, Any]:
    return {one["name"]: one["attributes"]["error.type"] for one in found if one.get("error")}


def test_a_time_out_is_an_error_with_lambdas_words() -> None:
    found = made(spans(), start(), report(4400, status="timeout", metrics={"durationMs": 3000.0}, spans=[]))
    assert failed(found) == {"orders-worker": "timeout", "invocation": "timeout"}
    assert {one["message"] for one in found} == {"Task timed out after 3.00 seconds"}
    assert times(found) == {"orders-worker": (1000, 4400), "invocation": (1000, 4000)}


def test_a_crash_is_an_error_without_words() -> None:
    found = made(spans(), start(), done(status="error", errorType="Runtime.ExitError"), report(status="error"))
    assert failed(found) == {"orders-worker": "error", "invocation": "error"}
    known = made(spans(), start(), done(status="error", errorType="Runtime.ExitError"), report())
    assert failed(known)["orders-worker"] == "Runtime.ExitError"
    assert not any("message" in one for one in found)


@pytest.mark.parametrize(
    ("body", "level", "error"),
    [
        ("[ERROR] ValueError: no stock", "error", "ValueError"),
        ({"errorType": "KeyError", "stackTrace": []}, "error", "KeyError"),
        ("2026-03-02T10:15:30.100Z\tid\tERROR\tInvoke Error \t{}", "error", "_OTHER"),
        ("no stock", "error", None),
        ("[ERROR] ValueError: no stock", "info", None),
    ],
)
def test_an_exception_that_only_the_functions_lines_tell_is_an_error(body: Any, level: str, error: str | None) -> None:
    found = made(spans(), start(), line(body, level=level), line("[ERROR] Later: x"), done(), report())
    expected = error or ("Later" if level != "none" else None)
    assert failed(found)["orders-worker"] == expected


def test_a_line_of_no_request_that_is_known_is_no_ones_error() -> None:
    assert not failed(made(spans(), start(), line("[ERROR] A: x", request=TWO), done(), report()))


# --- what is lost, late or told twice -------------------------------------------------------------------------------


def test_what_is_told_again_makes_nothing_again() -> None:
    one = spans()
    inits = [init_start(400), init_report(900, metrics={"durationMs": 499.5})]
    assert len(made(one, *inits, *inits, start(), start(), done(), done(1300), report())) == 4
    assert made(one, *inits, start(), done(), report()) == []
    assert one.finish(9000) == []


def test_a_report_that_never_came_leaves_a_tree_that_says_so_when_the_environment_ends() -> None:
    one = spans()
    made(one, start(), done())
    found = shown(one.finish(9000, "spindown"))
    assert times(found) == {"orders-worker": (1000, 1100), "invocation": (1000, 1100)}
    assert found[0]["attributes"]["lambda.incomplete"] is True
    assert not failed(found)
    assert one.finish(9001) == []
    assert made(one, report()) == [], "it comes too late"


@pytest.mark.parametrize(("reason", "error"), [("timeout", "timeout"), ("failure", "failure"), ("spindown", None)])
def test_a_request_of_which_nothing_came_but_its_start_ends_with_the_environment(reason: str, error: str) -> None:
    one = spans()
    made(one, start())
    found = shown(one.finish(4000, reason))
    assert times(found) == {"orders-worker": (1000, 4000), "invocation": (1000, 4000)}
    assert failed(found).get("orders-worker") == error


def test_an_init_without_a_request_leaves_when_the_environment_ends() -> None:
    one = spans()
    made(one, init_start(400), init_report(900))
    (init,) = shown(one.finish(9000))
    assert times([init])["init"] == (400, 900)


def test_of_requests_one_at_a_time_the_report_is_given_up_with_the_start_after_the_next() -> None:
    one = spans()
    made(one, start(), done())
    assert made(one, start(2000, TWO), done(2100, TWO)) == []
    found = made(one, start(3000, request_id(3)))
    assert {made["attributes"].get("faas.invocation_id") for made in found} == {ONE, None}
    assert found[0]["attributes"]["lambda.incomplete"] is True


def test_on_managed_instances_requests_interleave_and_are_bounded() -> None:
    one = spans()
    members = {"origin": MANAGED, "cold": None}
    made(one, *[start(1000 + number, request_id(number), **members) for number in range(1024)])
    found = made(one, report(5000, request_id(900), {"durationMs": 100}, spans=[], **members))
    assert times(found) == {"orders-worker": (1900, 5000), "invocation": (1900, 2000)}
    assert "faas.coldstart" not in found[0]["attributes"]
    made(one, start(6000, request_id(5000), **members))
    given_up = made(one, start(6001, request_id(5001), **members))
    assert given_up[0]["attributes"]["faas.invocation_id"] == request_id(0)


def test_another_attempt_of_an_event_is_another_root_in_the_same_trace() -> None:
    one = spans()
    first = made(one, start(), done(), report())
    second = made(one, start(5000), done(5100), report(5120))
    assert first[0]["trace_id"] == second[0]["trace_id"]
    assert not {made["span_id"] for made in first} & {made["span_id"] for made in second}
    made(one, start(6000), done(6100))
    given_up = made(one, start(7000))
    assert times(given_up)["orders-worker"] == (6000, 6100)


def test_ids_are_the_same_in_another_process() -> None:
    whole = made(spans(), start(), done(), report())
    again = made(spans(before=Handover(request_id=ONE, started="1000")), report())
    assert [one["span_id"] for one in again] == [one["span_id"] for one in whole]
    assert times(again)["orders-worker"] == (1000, 1120)


def test_a_request_whose_start_nobody_saw_is_rebuilt_from_its_end() -> None:
    from_report = made(spans(), report(tracing=tracing()))
    assert times(from_report) == {
        "orders-worker": (1005, 1120), "invocation": (1005, 1104.75), "extension overhead": (1104.75, 1120),
    }  # fmt: skip
    assert from_report[0]["trace_id"] == TRACE
    one = spans()
    assert made(one, done()) == []
    assert times(made(one, report()))["invocation"] == (1000.5, 1100)


def test_what_the_process_before_has_told_is_not_told_again_but_another_attempt_is() -> None:
    left = Handover(request_id=ONE, started="1000", traced=ONE)
    one = spans(before=left)
    assert made(one, start(), done(), report()) == []
    assert len(made(one, start(5000), done(5100), report(5120))) == 3
    unknown = spans(before=Handover(traced=ONE))
    assert made(unknown, report()) == []


def test_the_last_tree_without_its_report_is_named_for_the_next_process() -> None:
    one = spans()
    made(one, start(), done(), report(), start(2000, TWO))
    assert one.unfinished is None
    one.finish(3000, "timeout")
    assert one.unfinished == TWO


def test_the_memory_of_trees_and_of_phases_is_bounded() -> None:
    one = spans()
    for number in range(1100):
        made(one, start(1000 + number, request_id(number)), report(1000 + number, request_id(number)))
    assert len(one._made) == 1024
    inits = [made(one, init_start(400 + number)) for number in range(9)]
    assert [len(found) for found in inits] == [0] * 8 + [1]


@pytest.mark.parametrize("body", [{"requestId": 7}, {}])
def test_events_without_a_request_are_passed_over(body: Any) -> None:
    for kind in ("start", "runtimeDone", "report"):
        assert made(spans(), event(kind, None, **body)) == []
    assert made(spans(), event("extension", None), replace(start(), fields=None)) == []


# --- sampling and X-Ray ---------------------------------------------------------------------------------------------


def is_kept(sampling: str | float, trace: str | None = None, **more: Any) -> bool:
    first = start(**more)
    if trace is not None:
        first = replace(first, context=replace(first.context, trace_id=trace))
    return bool(made(spans(sampling), first, done(), report()))


def test_what_x_ray_does_not_record_is_a_trace_all_the_same() -> None:
    """Lambda says `Sampled=0` wherever tracing is off, so that it must not suppress."""
    assert is_kept("on", tracing=tracing(0))


@pytest.mark.parametrize(
    ("header", "kept"), [(tracing(1), True), (tracing(0), False), (tracing("?"), False), (None, False)]
)
def test_x_ray_is_followed_where_that_is_wanted(header: Any, kept: bool) -> None:
    assert is_kept("follow_xray", tracing=header) is kept


@pytest.mark.parametrize(
    ("share", "random", "kept"),
    [
        (0.0, "f" * 14, False), (1.0, "0" * 14, True), (0.25, "c" + "0" * 13, True), (0.25, "b" + "f" * 13, False),
    ],
)  # fmt: skip
def test_a_share_is_chosen_by_the_random_part_of_the_trace_id(share: float, random: str, kept: bool) -> None:
    assert is_kept(share, "a" * 18 + random) is kept


def test_errors_and_cold_starts_are_always_kept() -> None:
    assert is_kept(0.0, cold=True)
    for sampling in (0.0, "follow_xray"):
        assert made(spans(sampling), start(), done(), report(status="timeout"))
        assert made(spans(sampling), start(), line("[ERROR] ValueError: x"), done(), report())
        assert made(spans(sampling), init_start(400, phase="invoke"), init_report(900), start(), done(), report())


def test_lambdas_own_span_is_the_parent_only_where_it_is_to_be_found() -> None:
    elsewhere, *_ = made(spans(), start(tracing=tracing()), done(), report())
    assert "parent_id" not in elsewhere
    assert elsewhere["trace_id"] == TRACE
    assert elsewhere["links"] == [{"trace_id": TRACE, "span_id": PARENT}]
    assert elsewhere["span_id"] != SEGMENT
    in_xray, child, *_ = made(spans(is_xray=True), start(tracing=tracing()), done(), report())
    assert (in_xray["parent_id"], in_xray["span_id"], child["parent_id"]) == (PARENT, SEGMENT, SEGMENT)
    assert "links" not in in_xray
    unrecorded, *_ = made(spans(is_xray=True), start(tracing=tracing(0)), done(), report())
    assert "parent_id" not in unrecorded
    without, *_ = made(spans(is_xray=True), start(tracing=tracing(1, None)), done(), report())
    assert (without["parent_id"], len(without["span_id"])) == (PARENT, 16)


def test_a_span_that_the_function_sends_for_its_request_is_the_root_and_ours_its_platform_part() -> None:
    own_trace, own_span = "a" * 32, "b" * 16
    one = spans(0.0)
    one.adopt(ONE, own_trace, own_span)
    root, *steps = made(one, start(tracing=tracing()), done(), report())
    assert (root["kind"], root["trace_id"], root["parent_id"]) == ("internal", own_trace, own_span)
    assert {step["trace_id"] for step in steps} == {own_trace}
    assert {step["parent_id"] for step in steps} == {root["span_id"]}
    assert root["links"] == [{"trace_id": TRACE, "span_id": PARENT}]
    assert not made(one, start(2000, TWO), done(2100, TWO), report(2120, TWO)), "the next one is not traced by anybody"


def test_the_memory_of_the_functions_spans_is_bounded() -> None:
    one = spans()
    for number in range(5000):
        one.adopt(request_id(number), "a" * 32, "b" * 16)
    assert len(one._servers) <= 1024
