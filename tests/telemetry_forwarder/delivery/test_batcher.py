"""Batches partition what goes in, within the destination's limits."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.delivery.batcher import OpenBatch, halve
from telemetry_forwarder.interfaces import Encoded, Limits
from tests.builders import encoded, encoded_list, limits


def batches(items: Iterable[Encoded], bounds: Limits) -> list[list[Encoded]]:
    """Fill batches as the worker does."""
    closed, batch = [], OpenBatch(bounds)
    for item in items:
        if not batch.add(item):
            closed.append(batch.close())
            batch = OpenBatch(bounds)
            assert batch.add(item), "the first one always fits"
    return [*closed, batch.close()] if len(batch) else closed


BOUNDS = st.builds(
    limits,
    max_records=st.integers(1, 6),
    max_bytes=st.integers(60, 120),
    overhead_bytes=st.integers(0, 10),
    framing_bytes=st.integers(0, 10),
    max_span_ms=st.none() | st.integers(0, 50),
    is_sorted=st.booleans(),
)
ITEMS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 100)), max_size=20)


@given(ITEMS, BOUNDS)
def test_batches_partition_their_input_within_the_limits(items: list[tuple[int, int]], bounds: Limits) -> None:
    given_items = [encoded(size, time_ms=time, id=f"{n}") for n, (size, time) in enumerate(items)]
    made = batches(given_items, bounds)
    ids = [int(one.record.id) for batch in made for one in batch]
    assert sorted(ids) == [*range(len(items))]
    for batch in made:
        times = [one.record.time_ms for one in batch]
        assert 1 <= len(batch) <= bounds.max_records
        sizes = sum(len(one.data) + bounds.overhead_bytes for one in batch) + bounds.framing_bytes
        assert sizes <= bounds.max_bytes
        assert bounds.max_span_ms is None or max(times) - min(times) <= bounds.max_span_ms
        if bounds.is_sorted:
            assert batch == sorted(batch, key=lambda one: (one.record.time_ms, int(one.record.id)))
    if not bounds.is_sorted:
        assert ids == sorted(ids)


@given(st.lists(ITEMS, max_size=4), BOUNDS)
def test_to_extend_a_batch_is_to_add_one_by_one(lists: list[list[tuple[int, int]]], bounds: Limits) -> None:
    extended, added = OpenBatch(bounds), OpenBatch(bounds)
    for items in lists:
        some = [encoded(size, time_ms=time, id=f"{n}") for n, (size, time) in enumerate(items)]
        taken = extended.extend(some)
        assert [added.add(one) for one in some[: taken + 1]] == [True] * taken + [False] * (taken < len(some))
        assert extended.close() == added.close()


@given(ITEMS, BOUNDS)
def test_no_batch_ends_early(items: list[tuple[int, int]], bounds: Limits) -> None:
    """Each batch is closed because the next record did not fit: no request is wasted."""
    made = batches([encoded(size, time_ms=time, id=f"{n}") for n, (size, time) in enumerate(items)], bounds)
    for batch, following in pairwise(made):
        grown = [*batch, min(following, key=lambda one: int(one.record.id))]
        times = [one.record.time_ms for one in grown]
        assert (
            len(grown) > bounds.max_records
            or sum(len(one.data) + bounds.overhead_bytes for one in grown) + bounds.framing_bytes > bounds.max_bytes
            or (bounds.max_span_ms is not None and max(times) - min(times) > bounds.max_span_ms)
        )


@pytest.mark.parametrize(("third", "fits"), [(10, True), (11, False)])
def test_bytes_are_counted_with_overhead_and_framing(third: int, fits: bool) -> None:
    batch = OpenBatch(limits(max_bytes=4 + 3 * (10 + 2), overhead_bytes=2, framing_bytes=4))
    assert batch.add(encoded(10))
    assert batch.add(encoded(10))
    assert batch.add(encoded(third)) is fits
    assert len(batch) == (3 if fits else 2)


def test_a_refused_record_changes_nothing() -> None:
    batch = OpenBatch(limits(max_span_ms=10))
    batch.add(encoded(time_ms=100))
    assert not batch.add(encoded(time_ms=111))
    assert not batch.add(encoded(time_ms=89))
    assert batch.add(encoded(time_ms=110))
    assert not batch.add(encoded(time_ms=99))


@given(st.integers(2, 50))
def test_halves_are_in_order_and_neither_is_empty(count: int) -> None:
    batch = encoded_list(count)
    first, second = halve(batch)
    assert [*first, *second] == batch
    assert abs(len(first) - len(second)) <= 1
    assert first
    assert second
