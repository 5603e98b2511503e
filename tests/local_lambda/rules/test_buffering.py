"""The buffer of one subscription: when batches close, and that every record is somewhere."""

from hypothesis import given
from hypothesis import strategies as st

from local_lambda.rules.buffering import Buffer, Dropped


def buffer(max_items: int = 3, max_bytes: int = 100, timeout_s: float = 1.0, limit_bytes: int = 1000) -> Buffer:
    return Buffer(max_items=max_items, max_bytes=max_bytes, timeout_s=timeout_s, limit_bytes=limit_bytes)


def test_a_batch_is_due_when_its_oldest_record_has_waited_long_enough() -> None:
    held = buffer()
    assert held.due_at is None
    held.add(b"a", 10.0)
    held.add(b"b", 10.9)
    assert held.due_at == 11.0
    assert held.take(10.99) is None
    assert held.take(11.0) == [b"a", b"b"]
    assert held.take(99.0) is None


def test_a_batch_is_due_at_once_with_enough_items_or_bytes() -> None:
    items = buffer(max_items=2)
    for record in (b"a", b"b", b"c"):
        items.add(record, 0.0)
    assert items.take(0.0) == [b"a", b"b"]
    assert items.take(0.0) is None
    sized = buffer(max_bytes=5)
    sized.add(b"four", 0.0)
    assert sized.take(0.0) is None
    sized.add(b"more", 0.0)
    assert sized.take(0.0) == [b"four", b"more"]


def test_what_was_held_over_a_freeze_is_a_batch_of_its_own() -> None:
    held = buffer()
    held.add(b"report", 0.0)
    held.seal()
    held.add(b"start", 0.0)
    assert held.take(0.0) == [b"report"]
    assert held.take(0.0) is None


def test_a_batch_put_back_comes_first_again() -> None:
    held = buffer(max_items=1)
    held.add(b"a", 0.0)
    held.add(b"b", 0.0)
    batch = held.take(0.0)
    assert batch == [b"a"]
    held.put_back(batch)
    assert len(held) == 2
    assert [held.take(0.0), held.take(0.0)] == [[b"a"], [b"b"]]


def test_what_does_not_fit_is_counted_once_but_the_notice_of_it_fits() -> None:
    held = buffer(limit_bytes=5)
    assert held.add(b"12345", 0.0)
    assert not held.add(b"67", 0.0)
    assert held.take_dropped() == Dropped(1, 2)
    assert held.take_dropped() is None
    assert held.add(b"notice", 0.0, beyond_limit=True)
    assert len(held) == 2


@given(st.lists(st.one_of(st.binary(min_size=1, max_size=40), st.sampled_from(["take", "seal", "back"])), max_size=60))
def test_every_record_is_taken_held_or_dropped_and_in_order(steps: list[bytes | str]) -> None:
    held = buffer(max_items=3, max_bytes=60, limit_bytes=150)
    offered, taken, dropped, refused = [], [], 0, set()
    for number, step in enumerate(steps):
        if step == "seal":
            held.seal()
        elif step == "take":
            taken += held.take(float("inf")) or []
        elif step == "back":
            if batch := held.take(float("inf")):
                held.put_back(batch)
        else:
            record = bytes([number]) + step  # type: ignore[operator]
            offered.append(record)
            if not held.add(record, 0.0):
                refused.add(record)
    dropped = (held.take_dropped() or Dropped(0, 0)).records
    assert dropped == len(refused)
    assert len(offered) == len(taken) + len(held) + dropped
    while batch := held.take(float("inf")):
        taken += batch
    assert taken == [record for record in offered if record not in refused]
