"""The timeline that is made of an environment's events, calls, freezes and shutdowns."""

from collections.abc import Iterable
from typing import Any

import pytest

from local_lambda.page import timeline
from local_lambda.page.destinations import Request, Sighting
from local_lambda.page.timeline import Span, Timeline
from local_lambda.transcript import Entry, Exit, Period

DAY = 1_795_824_000  # 2026-11-28T00:00:00Z
REQUEST = "0d0b9b69-5f08-4dca-8d73-9953857f23c3"


def event(milliseconds: int, type_: str, **record: Any) -> dict[str, Any]:
    return {"time": f"2026-11-28T00:00:00.{milliseconds:03d}Z", "type": type_, "record": record}


def at(milliseconds: float) -> Any:
    return pytest.approx(DAY + milliseconds / 1000, abs=1e-4)


def merged(*changes: Iterable[Span]) -> dict[str, Span]:
    """Return the spans by id after all changes, as the page's table has them."""
    spans: dict[str, Span] = {}
    for change in (one for some in changes for one in some):
        spans.setdefault(change["id"], {}).update(change)
    return spans


def entry(name: str, call: str, began: float, ended: float | None = None, answer: str = "", status: int = 200) -> Entry:
    return Entry(direction="in", name=name, call=call, generation=1, began=began, ended=ended,
                 status=None if ended is None else status, answer=answer)  # fmt: skip


def test_an_init_lasts_from_its_start_to_its_report() -> None:
    line = Timeline()
    began = merged(line.event(event(100, "platform.initStart", phase="init")))
    assert [(one["kind"], one["began"], one["ended"]) for one in began.values()] == [("init", at(100), None)]
    report = event(
        365, "platform.initReport", status="timeout", errorType="Runtime.Unknown", metrics={"durationMs": 265}
    )
    (ended,) = merged(began.values(), line.event(report)).values()
    assert (ended["began"], ended["ended"], ended["status"]) == (at(100), at(365), "timeout")
    assert ended["detail"] == "265.0 ms, Runtime.Unknown"


def test_each_init_is_a_span_of_its_own() -> None:
    line = Timeline()
    starts = [event(1, "platform.initStart"), event(5, "platform.initStart"), event(9, "platform.restoreStart")]
    spans = merged(*(list(line.event(one)) for one in starts))
    assert [one["kind"] for one in spans.values()] == ["init", "init", "restore"]


def test_an_invocation_ends_with_the_runtime_and_the_overhead_with_the_extension() -> None:
    line = Timeline()
    done = {"requestId": REQUEST, "status": "success", "metrics": {"durationMs": 8.0, "billedDurationMs": 8}}
    overhead = {"name": "extensionOverhead", "start": "2026-11-28T00:00:00.018Z", "durationMs": 414.25}
    spans = merged(
        line.event(event(10, "platform.start", requestId=REQUEST)),
        line.event(event(21, "platform.runtimeDone", **done)),  # after 8 ms; the event is a little late
        line.event(event(433, "platform.report", **done, spans=[overhead])),
    )
    invoke, after = spans.values()
    assert (invoke["kind"], invoke["began"], invoke["ended"], invoke["request"]) == ("invoke", at(10), at(18), REQUEST)
    assert (after["kind"], after["began"], after["ended"]) == ("overhead", at(18), at(432.25))


def test_the_overhead_is_shown_while_an_extension_still_works_and_ends_even_if_that_crashes() -> None:
    line = Timeline()
    list(line.call(entry("mine", "GET /2020-01-01/extension/event/next", DAY, DAY + 0.01, '{"eventType":"INVOKE"')))
    done = {"requestId": REQUEST, "status": "success", "metrics": {"durationMs": 8.0}}
    lasting = merged(line.event(event(18, "platform.runtimeDone", **done)))
    assert (lasting[f"overhead {REQUEST}"]["began"], lasting[f"overhead {REQUEST}"]["ended"]) == (at(18), None)
    crash = event(
        40, "platform.report", requestId=REQUEST, status="error", metrics={"durationMs": 30, "billedDurationMs": 30}
    )
    ended = merged(lasting.values(), line.event(crash))
    assert (ended[f"overhead {REQUEST}"]["ended"], ended[f"overhead {REQUEST}"]["status"]) == (at(40), "error")


def test_without_an_extension_there_is_no_overhead() -> None:
    line = Timeline()
    done = {"requestId": REQUEST, "status": "success", "metrics": {"durationMs": 8.0, "billedDurationMs": 8}}
    spans = merged(
        line.event(event(10, "platform.start", requestId=REQUEST)),
        line.event(event(18, "platform.runtimeDone", **done)),
        line.event(event(19, "platform.report", **done)),
    )
    assert list(spans) == [f"invoke {REQUEST}"]


def test_on_managed_instances_the_report_ends_the_invocation() -> None:
    line = Timeline()
    report = event(30, "platform.report", requestId=REQUEST, status="success", metrics={"durationMs": 20.0})
    (invoke,) = merged(line.event(event(10, "platform.start", requestId=REQUEST)), line.event(report)).values()
    assert (invoke["began"], invoke["ended"], invoke["status"]) == (at(10), at(30), "success")


def test_an_extension_works_from_an_event_until_it_asks_for_the_next() -> None:
    line, ask = Timeline(), "GET /2020-01-01/extension/event/next"
    asking = entry("mine", ask, DAY + 1)
    spans = merged(
        line.call(entry("mine", "POST /2020-01-01/extension/register", DAY, DAY + 0.1)),
        line.call(asking),
        line.call(asking),  # it is looked at again and again while it waits
        line.call(
            entry("mine", ask, DAY + 1, DAY + 2, f'{{"eventType":"INVOKE","deadlineMs":1,"requestId":"{REQUEST}"')
        ),
        line.call(entry("mine", ask, DAY + 3)),
        line.call(entry("mine", ask, DAY + 3, DAY + 9, '{"eventType":"SHUTDOWN","deadlineMs":1')),
        line.exit(Exit(name="mine", code=-9, at=DAY + 11, generation=1, killed=True, in_shutdown=True)),
    )
    assert [(one["name"], one["began"] - DAY, one["ended"] - DAY) for one in spans.values()] == [
        ("INIT", 0, 1),
        ("INVOKE", 2, 3),
        ("SHUTDOWN", 9, 11),
    ]
    assert {one["lane"] for one in spans.values()} == {"mine"}
    assert [one["request"] for one in spans.values()] == [None, REQUEST, None]
    assert (spans["extension mine 2"]["status"], spans["extension mine 2"]["detail"]) == ("failure", "killed")


def test_calls_of_the_runtime_and_calls_without_a_name_are_no_work_of_an_extension() -> None:
    line = Timeline()
    calls = [entry(name, "GET /2020-01-01/extension/event/next", DAY, DAY + 1, "{}") for name in ("", "?", "runtime")]
    refused = entry("mine", "POST /2020-01-01/extension/register", DAY, DAY + 1, status=403)
    assert [span for one in (*calls, refused) for span in line.call(one)] == []


def test_freezes_and_shutdowns() -> None:
    frozen = timeline.period(0, Period(kind="frozen", began=DAY, ended=DAY + 5))
    ending = timeline.period(1, Period(kind="shutdown", reason="timeout", began=DAY + 6))
    assert (frozen["kind"], frozen["began"], frozen["ended"]) == ("frozen", DAY, DAY + 5)
    assert (ending["kind"], ending["detail"], ending["ended"]) == ("shutdown", "timeout", None)


ONE = [Sighting(id="1", time_ms=0, type="function", content="x")]


@pytest.mark.parametrize(
    ("more", "status", "detail"),
    [
        ({}, None, "no answer yet"),
        ({"ended": DAY + 1, "status": 200}, "success", "HTTP 200"),
        ({"ended": DAY + 1, "status": 503, "fault": "503"}, "failure", "HTTP 503, fault: 503"),
        ({"is_broken_off": True, "fault": "hang"}, "failure", "no answer: the connection ended, fault: hang"),
        ({"ended": DAY + 1, "status": 202, "brought": ONE}, "success", "1 record, HTTP 202"),
        ({"brought": ONE * 2, "fault": "slow"}, None, "2 records, no answer yet, fault: slow"),
    ],
)
def test_a_request_to_a_destination_says_how_it_ended(more: dict[str, Any], status: str | None, detail: str) -> None:
    span = timeline.request("splunk", 3, Request(operation="event", began=DAY, **more))
    assert (span["id"], span["lane"], span["status"], span["detail"]) == ("splunk 3", "splunk", status, detail)


def test_an_invocation_has_the_figures_of_its_report() -> None:
    report = event(
        9, "platform.report", requestId=REQUEST, status="error", errorType="Runtime.ExitError",
        metrics={"durationMs": 5.5, "billedDurationMs": 170, "maxMemoryUsedMB": 53, "initDurationMs": 163.9},
        spans=[{"name": "extensionOverhead", "durationMs": 30.5}],
    )  # fmt: skip
    assert timeline.invocation(report) == {
        "request": REQUEST, "status": "error", "error_type": "Runtime.ExitError",
        "duration_ms": 5.5, "billed_ms": 170, "memory_mb": 53, "init_ms": 163.9, "overhead_ms": 30.5,
    }  # fmt: skip
    assert timeline.invocation(event(9, "function")) is None
