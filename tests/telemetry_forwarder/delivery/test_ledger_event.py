"""The ledger of a period has what was counted since the last, in three forms that agree."""

from collections import Counter
from typing import Any

from telemetry_forwarder.delivery.ledger_event import LedgerReporter, Report
from telemetry_forwarder.interfaces import DropReason
from telemetry_forwarder.ledger import Account, IntakeCounts

NOW_MS = 1_800_000_000_000


def account(delivered: int, **dropped: int) -> Account:
    found = Account(offered=delivered + sum(dropped.values()) + 2, delivered=delivered)
    found.dropped = Counter({DropReason(reason): count for reason, count in dropped.items()})
    return found


def report(reporter: LedgerReporter, counts: IntakeCounts, *, time_ms: int = NOW_MS, **accounts: Account) -> Report:
    return reporter.report(counts, {name: one.statement(2) for name, one in accounts.items()}, 4096, time_ms)


def values(made: Any) -> dict[tuple[str, ...], float]:
    return {
        (point["name"], *one.fields["attributes"].values()): point["value"]
        for one in made
        for point in one.fields["points"]
    }


def test_a_report_has_what_was_counted_since_the_last() -> None:
    reporter = LedgerReporter(60, is_record_wanted=True)
    report(reporter, IntakeCounts(received=10, lost_before_us=1), splunk=account(8, rejected=1))
    second = report(reporter, IntakeCounts(received=15, lost_before_us=1), splunk=account(11, rejected=1, too_old=2))
    found = values(second.metrics())
    assert found["forwarder.received",] == 5
    assert found["forwarder.lost_before_us",] == 0
    assert found["forwarder.spool_bytes",] == 4096
    assert found["forwarder.delivered", "splunk"] == 3
    assert found["forwarder.held", "splunk"] == 2
    assert found["forwarder.dropped", "splunk", "too_old"] == 2
    assert ("forwarder.dropped", "splunk", "rejected") not in found


def test_the_three_forms_agree() -> None:
    made = report(
        LedgerReporter(60, is_record_wanted=True),
        IntakeCounts(lost_before_us=3),
        a=account(8, oversize=1),
        b=account(9, filtered=4),
    )
    line = made.emf("orders")
    assert (line["Delivered"], line["Dropped"], line["Held"], line["LostBeforeUs"]) == (17, 1, 4, 3)
    assert line["_aws"]["Timestamp"] == NOW_MS
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Dimensions"] == [["function_name"]]
    assert {metric["Name"] for metric in directive["Metrics"]} <= line.keys()
    record = made.record()
    assert record.type == "forwarder.ledger"
    assert record.fields["sinks"]["a"]["dropped.oversize"] == 1
    assert record.level == "error"


def test_what_the_user_wants_dropped_is_no_loss() -> None:
    made = report(LedgerReporter(60, is_record_wanted=True), IntakeCounts(), a=account(8, filtered=4))
    assert made.record().level == "info"
    assert made.emf("orders")["Dropped"] == 0


def test_a_report_is_due_once_in_a_period_and_after_a_clock_that_went_back() -> None:
    reporter = LedgerReporter(60, is_record_wanted=False)
    assert not reporter.is_due(1000.0), "the first period begins"
    assert not reporter.is_due(1059.9)
    assert reporter.is_due(1060.0)
    report(reporter, IntakeCounts(), time_ms=1_060_000)
    assert not reporter.is_due(1061.0)
    assert reporter.is_due(900.0)
