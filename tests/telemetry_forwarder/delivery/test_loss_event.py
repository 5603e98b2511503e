"""The event that tells of lost records."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_forwarder.delivery.loss_event import RECORDS_LOST, loss_record
from telemetry_forwarder.intake.router import Router
from telemetry_forwarder.interfaces import DropReason
from telemetry_forwarder.ledger import IntakeCounts
from telemetry_forwarder.sinks.platform_lines import platform_text
from tests.builders import ORIGIN

DEADLINE, FULL, FILTERED, REJECTED = map(DropReason, ("deadline", "buffer_full", "filtered", "rejected"))
NOW = 1_800_000_000_000


@pytest.mark.parametrize(
    ("dropped", "text"),
    [
        ({"splunk": {DEADLINE: 12}}, "telemetry-forwarder lost 12 records for splunk (deadline)"),
        ({"splunk": {DEADLINE: 1}, "datadog": {}}, "telemetry-forwarder lost 1 record for splunk (deadline)"),
        (
            {"splunk": {DEADLINE: 10, FULL: 2}, "datadog": {REJECTED: 3}},
            "telemetry-forwarder lost 12 records for splunk (10 deadline, 2 buffer_full), "
            "3 records for datadog (rejected)",
        ),
        ({"splunk": {DEADLINE: 5, FILTERED: 7}}, "telemetry-forwarder lost 5 records for splunk (deadline)"),
    ],
)
def test_the_text_names_each_sink_its_number_and_its_reasons(dropped, text):
    record = loss_record(ORIGIN, dropped, time_ms=NOW)
    assert record is not None
    assert record.body["message"] == text
    assert platform_text(record.type, record.body) == text
    assert record.level == "error"


def test_what_lambda_dropped_is_told_beside_it_and_alone_is_a_warning():
    told = {"time_ms": NOW, "lost_before_us": 1800, "lost_before_us_bytes": 412300}
    both, alone = loss_record(ORIGIN, {"splunk": {DEADLINE: 2}}, **told), loss_record(ORIGIN, {}, **told)
    assert both is not None
    assert alone is not None
    assert both.body == {
        "message": "telemetry-forwarder lost 2 records for splunk (deadline); "
        "Lambda dropped 1800 records (412300 bytes) before telemetry-forwarder",
        "lost": {"splunk": {"deadline": 2}},
        "droppedRecords": 1800,
        "droppedBytes": 412300,
    }
    assert alone.body["message"] == "Lambda dropped 1800 records (412300 bytes) before telemetry-forwarder"
    assert (both.level, alone.level) == ("error", "warn")


@pytest.mark.parametrize("dropped", [{}, {"splunk": {}}, {"splunk": {FILTERED: 9}}, {"splunk": {DEADLINE: 0}}])
def test_without_a_loss_there_is_no_event(dropped):
    assert loss_record(ORIGIN, dropped, time_ms=NOW) is None


def test_its_id_is_the_same_for_every_sink_and_another_in_another_environment_or_at_another_time():
    one, again, other, later = (
        loss_record(replace(ORIGIN, instance_id=instance), {"splunk": {DEADLINE: 1}}, time_ms=time_ms)
        for instance, time_ms in (("a", NOW), ("a", NOW), ("b", NOW), ("a", NOW + 1))
    )
    assert one == again
    assert len({record.id for record in (one, other, later) if record}) == 3
    assert one is not None
    assert len(one.id) == 28
    int(one.id, 16)


@given(st.dictionaries(st.text(), st.dictionaries(st.sampled_from(DropReason), st.integers(0, 2**70))))
def test_any_counts_make_an_event_of_all_that_was_lost_or_none(dropped):
    record = loss_record(ORIGIN, dropped, time_ms=NOW)
    lost = sum(count for reasons in dropped.values() for reason, count in reasons.items() if reason is not FILTERED)
    assert (record is None) == (lost == 0)
    if record is not None:
        assert sum(sum(reasons.values()) for reasons in record.body["lost"].values()) == lost


class Taker:
    def __init__(self):
        self.records = []

    def offer(self, records):
        self.records += records


@pytest.mark.parametrize("types", [("platform",), ("function",), ("extension",)])
def test_the_router_lets_it_pass_whatever_is_forwarded(types):
    record = loss_record(ORIGIN, {"splunk": {DEADLINE: 1}}, time_ms=NOW)
    assert record is not None
    taker, counts = Taker(), IntakeCounts()
    Router(types, [taker], counts).route([record])
    assert taker.records == [record]
    assert (counts.routed, counts.unrouted.total()) == (1, 0)
    assert record.type == RECORDS_LOST
