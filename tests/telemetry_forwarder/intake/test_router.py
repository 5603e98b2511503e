"""Each record is counted once: routed to every sink, or unrouted for a reason."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.intake.router import Router
from telemetry_forwarder.ledger import IntakeCounts, Unrouted
from telemetry_forwarder.records.record import Record, Signal
from tests.builders import Lines, record


class Taken:
    def __init__(self) -> None:
        self.records: list[Record] = []

    def offer(self, records: Sequence[Record]) -> None:
        self.records += records


def route(types: Sequence[str], *records: Record) -> tuple[IntakeCounts, Taken, Taken]:
    counts, first, second = IntakeCounts(), Taken(), Taken()
    Router(types, [first, second], counts).route(records)
    return counts, first, second


def test_every_sink_gets_the_same_objects_in_order() -> None:
    sent = [record(id="a"), record(id="b", type="platform.report")]
    counts, first, second = route(("platform", "function"), *sent)
    assert [*map(id, first.records)] == [*map(id, sent)] == [*map(id, second.records)]
    assert (counts.routed, counts.unrouted.total()) == (2, 0)


def test_types_that_are_not_wanted_are_counted() -> None:
    counts, first, _ = route(("function",), record(), record(type="platform.start"), record(type="extension"))
    assert len(first.records) == 1
    assert counts.unrouted == {Unrouted.TYPE_NOT_WANTED: 2}


def test_a_type_that_is_not_known_yet_is_forwarded() -> None:
    counts, first, _ = route(("function",), record(type="metrics.new"), record(type=""))
    assert len(first.records) == counts.routed == 2


def test_own_lines_are_left_out_as_text_and_as_objects() -> None:
    """Without this a subscription to `extension` would feed itself."""
    lines: list[str] = []
    from telemetry_forwarder.log import Log

    Log("info", lines.append).info("hello")
    own = [record(lines[0], type="extension"), record({"telemetry_forwarder": "0.1"}, type="extension")]
    theirs = record("the other extension mentions telemetry_forwarder", type="extension")
    counts, first, _ = route(("extension",), *own, theirs)
    assert first.records == [theirs]
    assert counts.unrouted == {Unrouted.OWN_LINE: 2}


def test_a_function_that_prints_such_a_line_is_not_silenced() -> None:
    counts, first, _ = route(("function",), record('{"telemetry_forwarder":"0.1"}'))
    assert len(first.records) == counts.routed == 1


@given(
    st.lists(st.sampled_from(["function", "extension", "platform.start", "platform", "new", ""])),
    st.sets(st.sampled_from(["function", "extension", "platform"])),
)
def test_received_is_routed_plus_unrouted(kinds: list[str], types: set[str]) -> None:
    counts, first, _ = route(tuple(types), *(record(type=kind) for kind in kinds))
    counts.received = len(kinds)
    assert counts.is_balanced()
    assert counts.routed == len(first.records)


@pytest.mark.parametrize("level", ["debug"])
def test_routing_says_nothing(level: str) -> None:
    """A line per record would be a loop."""
    lines = Lines(level)
    route(("function",), record())
    assert not lines.written


def test_a_derived_record_of_a_signal_that_nobody_takes_is_counted_as_unrouted() -> None:
    """As the ledger's own record is where sinks take metrics alone."""
    counts = IntakeCounts()
    Router(("function",), [], counts).route_derived(Signal.LOG, [record()])
    assert (counts.derived, counts.routed, counts.unrouted) == (1, 0, {Unrouted.NO_SINK: 1})
    assert counts.is_balanced()
