"""What becomes of a record that is older than its destination takes."""

from msgspec.structs import replace

from telemetry_forwarder.delivery.encoder import Encoder
from telemetry_forwarder.interfaces import DropReason, Encoded, Limits
from telemetry_forwarder.ledger import Account
from telemetry_forwarder.records.record import Record
from tests.builders import ListSink, ManualClock, limits, record

HOUR_MS = 3_600_000
CLOCK = ManualClock(epoch=1_800_100_000.0)
NOW_MS = round(CLOCK.time() * 1000)
LATE = limits(max_age_ms=HOUR_MS, redated_ms=24 * HOUR_MS)


def encoded(age_ms: int, given: Limits) -> tuple[Encoded | None, Account]:
    account = Account()
    encoder = Encoder(ListSink(limits=given), account, CLOCK, lambda detail, **members: None)
    return encoder.encode(record(id="r7", time_ms=NOW_MS - age_ms)), account


def of(found: Encoded | None) -> Record:
    assert found is not None
    return found.record


def test_a_young_record_keeps_its_time() -> None:
    found, _ = encoded(HOUR_MS, LATE)
    assert of(found).time_ms == NOW_MS - HOUR_MS


def test_a_late_one_is_given_the_time_of_now_where_that_is_better_than_nothing() -> None:
    """It is the same record otherwise: the spool knows it by its place."""
    for age_ms in (HOUR_MS + 1, 24 * HOUR_MS):
        found, account = encoded(age_ms, LATE)
        assert of(found) == replace(record(id="r7"), time_ms=NOW_MS)
        assert not account.dropped


def test_a_record_that_is_too_old_even_for_that_is_dropped_as_such() -> None:
    found, account = encoded(24 * HOUR_MS + 1, LATE)
    assert found is None
    assert account.dropped == {DropReason.TOO_OLD: 1}


def test_elsewhere_no_record_is_given_another_time() -> None:
    found, account = encoded(HOUR_MS + 1, limits(max_age_ms=HOUR_MS))
    assert found is None
    assert account.dropped == {DropReason.TOO_OLD: 1}
    assert of(encoded(HOUR_MS * 1000, limits())[0]).time_ms == NOW_MS - HOUR_MS * 1000
