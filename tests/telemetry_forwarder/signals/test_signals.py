"""Only what a sink takes is derived, and what is left over is told to the next process."""

from collections.abc import Iterable, Sequence

import pytest

from telemetry_forwarder.records.derived import Derived
from telemetry_forwarder.records.handover import Handover
from telemetry_forwarder.records.record import Record, Signal
from telemetry_forwarder.signals.measuring import Prices
from telemetry_forwarder.signals.points import MetricKind, Point
from telemetry_forwarder.signals.signals import Signals
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
