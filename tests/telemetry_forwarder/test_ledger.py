"""Each record is settled once, and the books can be written."""

import re
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.interfaces import (
    Delivered,
    Denied,
    DropReason,
    Encoded,
    Partial,
    Rejected,
    Retry,
    TooLarge,
    Verdict,
)
from telemetry_forwarder.ledger import Account, IntakeCounts, Statement, Unrouted
from tests.builders import encoded, encoded_list

INDICES = st.integers(-3, 12)
VERDICTS = st.one_of(
    st.builds(Delivered),
    st.builds(Retry),
    st.builds(Rejected, st.just("no")),
    st.builds(TooLarge),
    st.builds(Denied, st.just("no")),
    st.builds(
        Partial,
        retry=st.lists(INDICES).map(tuple),
        rejected=st.dictionaries(INDICES, st.sampled_from(list(DropReason))),
    ),
)


@given(st.lists(VERDICTS, max_size=8), st.integers(1, 10))
def test_every_record_is_settled_once_or_handed_back(verdicts: list[Verdict], count: int) -> None:
    account, left = Account(), encoded_list(count)
    account.offered = count
    for verdict in verdicts:
        if not left:
            break
        before = [one.record.id for one in left]
        left = account.settle(left, verdict)
        assert account.statement(len(left)).is_balanced()
        assert [one.record.id for one in left] == [id for id in before if id in {one.record.id for one in left}]


@pytest.mark.parametrize(
    ("verdict", "delivered", "dropped", "left"),
    [
        (Delivered("careful"), 3, {}, []),
        (Retry(1.0), 0, {}, [0, 1, 2]),
        (Denied("no"), 0, {}, [0, 1, 2]),
        (TooLarge(), 0, {}, [0, 1, 2]),
        (Rejected("no"), 0, {DropReason.REJECTED: 3}, []),
        (Partial(retry=(2,)), 2, {}, [2]),
        (Partial(rejected={0: DropReason.TOO_OLD, 2: DropReason.TOO_NEW}), 1, {"too_old": 1, "too_new": 1}, []),
        (Partial(retry=(0, 1), rejected={1: DropReason.REJECTED}), 1, {DropReason.REJECTED: 1}, [0]),
        (Partial(retry=(7,), rejected={-1: DropReason.REJECTED, 9: DropReason.REJECTED}), 3, {}, []),
        (Partial(), 3, {}, []),
    ],
)
def test_what_each_verdict_does(verdict: Verdict, delivered: int, dropped: dict[str, int], left: list[int]) -> None:
    account, batch = Account(), encoded_list(3)
    assert account.settle(batch, verdict) == [batch[index] for index in left]
    statement = account.statement(len(left))
    assert (statement.delivered, statement.dropped) == (delivered, dropped)


def test_a_single_record_that_is_too_large_is_oversize() -> None:
    account = Account()
    assert account.settle(encoded_list(1), TooLarge()) == []
    assert account.statement(0).dropped == {DropReason.OVERSIZE: 1}


def test_cut_records_are_counted_when_they_are_delivered() -> None:
    account = Account()
    batch: list[Encoded] = [encoded(is_cut=True), encoded(is_cut=True), encoded()]
    left = account.settle(batch, Partial(retry=(0,)))
    assert account.statement(1).cut == 1
    account.settle(left, Rejected("no"))
    assert account.statement(0).cut == 1


def test_dropping_nothing_leaves_no_trace() -> None:
    account = Account()
    account.drop(0, DropReason.DEADLINE)
    assert account.statement(0).dropped == {}


def test_lost_is_what_nobody_asked_to_drop() -> None:
    account = Account()
    account.drop(2, DropReason.FILTERED)
    account.drop(3, DropReason.DEADLINE)
    assert account.statement(0).lost == 3
    assert [reason for reason in DropReason if reason.is_intentional] == [DropReason.FILTERED]


@pytest.mark.parametrize("member", ["offered", "delivered", "spilled", "held"])
def test_a_statement_that_does_not_add_up_says_so(member: str) -> None:
    numbers = dict.fromkeys(("cut", "attempts", "copies", "failed_attempts", "told", "recovered"), 0)
    numbers |= {"offered": 6, "delivered": 1, "spilled": 1, "held": 1}
    dropped = {DropReason.DEADLINE: 3}
    assert Statement(**numbers, dropped=dropped).is_balanced()
    assert not Statement(**{**numbers, member: 9}, dropped=dropped).is_balanced()


def test_what_came_in_is_balanced_when_routed_and_unrouted_are_all() -> None:
    counts = IntakeCounts(received=3, routed=2)
    assert not counts.is_balanced()
    counts.unrouted[Unrouted.OWN_LINE] += 1
    assert counts.is_balanced()


def test_the_books_can_be_written_as_json() -> None:
    """At exit they are one line of the log, and orjson takes no enums as keys."""
    counts, account = IntakeCounts(), Account()
    counts.unrouted[Unrouted.OWN_LINE] += 1
    account.drop(2, DropReason.DEADLINE)
    account.attempts += 1
    assert orjson.loads(orjson.dumps(counts.snapshot()))["unrouted"] == {"own_line": 1}
    written = orjson.loads(orjson.dumps(account.statement(0).snapshot()))
    assert written["dropped"] == {"deadline": 2}
    assert written["attempts"] == 1


def test_every_reason_is_explained() -> None:
    """docs/durability.md has a row for each, and none for what is no reason."""
    page = (Path(__file__).parents[2] / "docs" / "durability.md").read_text()
    section = page.partition("## Why a record is dropped")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert set(re.findall("`([a-z_]+)`", " ".join(rows))) == set(DropReason)
