"""Only what a sink takes is derived, and what is left over is told to the next process."""

from collections.abc import Iterable, Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.records.derived import Derived, body_of
from telemetry_forwarder.records.handover import Handover
from telemetry_forwarder.records.record import Item, Record, Signal
from telemetry_forwarder.signals.measuring import Prices
from telemetry_forwarder.signals.points import MetricKind, Point
from telemetry_forwarder.signals.signals import Signals
from tests.builders import ORIGIN, WholeBatches, item, request_id
from tests.telemetry_forwarder.records.test_record import JSON
from tests.telemetry_forwarder.signals.test_measuring import ONE, values
from tests.telemetry_forwarder.signals.test_spans import done, report, start

ALL = frozenset(Signal)


def of(signals: Signals, *records: Record) -> dict[Signal, list[Derived]]:
    return dict(signals.of(records))


@pytest.mark.parametrize(
    ("takes", "traces", "made"),
    [
        ({Signal.LOG}, "on", set()),
        ({Signal.LOG, Signal.METRIC}, "on", {Signal.METRIC}),
        ({Signal.LOG, Signal.SPAN}, "on", {Signal.SPAN}),
        (ALL, "off", {Signal.METRIC}),
        (ALL, 1.0, {Signal.METRIC, Signal.SPAN}),
    ],
)
def test_what_no_sink_takes_is_not_derived(takes: Iterable[Signal], traces: str | float, made: set[Signal]) -> None:
    one = Signals(frozenset(takes), Prices(), traces=traces)
    assert set(of(one, start(), done(), report())) == made
    assert of(one, start(2000, "another")) == {}
    assert one.has_metrics is (Signal.METRIC in made)


def test_what_is_open_at_the_end_leaves_then() -> None:
    one = Signals(ALL, Prices(), traces="on")
    of(one, start(), done())
    ((signal, spans),) = one.finish(9000, "spindown")
    assert (signal, len(spans)) == (Signal.SPAN, 2)
    assert list(one.finish(9001)) == []
    assert list(Signals(frozenset({Signal.METRIC}), Prices()).finish(9000)) == []


def test_across_a_reset_each_invocation_is_counted_and_traced_once() -> None:
    one = Signals(ALL, Prices(), traces="on")
    assert one.unfinished is None
    first = of(one, start(), done(status="timeout", metrics={}))
    assert [made for _, made in one.finish(4000, "timeout")]
    assert values(first[Signal.METRIC][0])["timeouts"] == 1
    left = Handover(request_id=ONE, started="1000", measured=ONE, traced=one.unfinished)
    after = Signals(ALL, Prices(), traces="on", before=left)
    found: Sequence[Derived] = of(after, report(status="timeout"))[Signal.METRIC]
    assert "invocations" not in values(found[0])
    assert Signal.SPAN not in of(after, report(status="timeout"))
    assert Signals(frozenset({Signal.LOG}), Prices()).unfinished is None


def test_the_use_of_the_machine_goes_with_the_invocation_that_ends_next() -> None:
    point = Point("lambda.cpu", 1.5, "s", MetricKind.DISTRIBUTION)
    one = Signals(ALL, Prices())
    one.note_usage([point])
    (made,) = of(one, done())[Signal.METRIC]
    assert values(made)["cpu"] == 1.5
    Signals(frozenset({Signal.LOG}), Prices()).note_usage([point])


# --- whatever comes -------------------------------------------------------------------------------------------------

NUMBERS = JSON | st.sampled_from([0, 1.5, 99, -1, 1e308, 2**70, True, float("inf")])
METRICS = st.dictionaries(
    st.sampled_from(
        ["durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB", "initDurationMs", "producedBytes"]
    ),
    NUMBERS,
)
SPANS = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["extensionOverhead", "responseLatency", "other"]), "durationMs": NUMBERS}
    ),
    max_size=3,
)
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "requestId": st.sampled_from([request_id(n) for n in range(3)]) | JSON,
        "metrics": METRICS | JSON,
        "spans": SPANS | JSON,
        "status": st.sampled_from(["success", "timeout", "error", "failure"]) | JSON,
        "errorType": st.sampled_from(["Runtime.ExitError"]) | JSON,
        "phase": st.sampled_from(["init", "invoke"]) | JSON,
        "initializationType": st.sampled_from(["on-demand", "snap-start"]) | JSON,
        "tracing": st.just({"value": "Root=1-68c4a1f0-3b2a90d1c7e845f6a0b1c2d3;Sampled=1"}) | JSON,
        "functionArn": st.just("arn:aws:lambda:eu-west-1:210987654321:function:f:live") | JSON,
        "version": st.just("7") | JSON,
    },
)
KINDS = ["start", "runtimeDone", "report", "initStart", "initReport", "restoreStart", "restoreReport"]


@st.composite
def any_event(draw: st.DrawFn) -> Item:
    time_ms = draw(st.integers(0, 100_000) | st.integers(-(2**62), 2**62))
    return item(f"platform.{draw(st.sampled_from(KINDS))}", draw(BODIES | JSON), time_ms=time_ms)


LINES = st.sampled_from([
    {"errorType": "KeyError", "stackTrace": [], "level": "ERROR"}, "[ERROR] KeyError: 1", "signal: killed", "hello",
    {"_aws": {"Timestamp": 1, "CloudWatchMetrics": [{"Metrics": [{"Name": "n"}]}]}, "n": 3},
])  # fmt: skip


@given(st.lists(any_event() | LINES.map(lambda line: item("function", line)), max_size=12), st.booleans())
def test_what_is_left_out_before_tells_nothing(items: list[Item], converts_lines: bool) -> None:
    records = WholeBatches(ORIGIN, is_traced=True).enrich_all(items, "b")
    made = []
    for some in (lambda one: records, lambda one: one.telling(records)):
        one = Signals(ALL, Prices(), traces="on", converts_lines=converts_lines)
        found = dict(one.of(some(one)))
        made.append((found, list(one.finish(200_000, "failure"))))
    assert made[0] == made[1]


@given(st.lists(any_event(), max_size=12), st.sampled_from(["on", "follow_xray", 0.5]), st.booleans())
def test_whatever_events_come_what_is_made_of_them_can_be_sent(
    events: list[Item], traces: str | float, is_xray: bool
) -> None:
    """Nothing raises; each span has its ids, ends after it begins, and is there once; its parent is there, too."""
    records = WholeBatches(ORIGIN, is_traced=True).enrich_all(events, "b")
    one = Signals(ALL, Prices(), traces=traces, is_xray=is_xray)
    derived = [(signal, made) for record in records for signal, found in one.of([record]) for made in found]
    derived += [(signal, made) for signal, found in one.finish(200_000, "timeout") for made in found]
    assert len(orjson.loads(body_of([made for _, made in derived]))) == len(derived)
    spans = [made.fields for signal, made in derived if signal is Signal.SPAN]
    ids = [(span["trace_id"], span["span_id"]) for span in spans]
    for span in spans:
        assert 0 <= span["start_ns"] <= span["end_ns"] < 2**63
        assert "parent_id" not in span or (span["trace_id"], span["parent_id"]) in ids
    assert len(set(ids)) == len(ids)
