"""Bounded in records and in bytes; the oldest go first."""

from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.delivery.buffer import Buffer, WhenFull
from tests.builders import record, records


@given(
    st.lists(st.lists(st.integers(0, 30), max_size=6), max_size=8), st.integers(1, 5), st.integers(1, 40),
    st.integers(0, 3),
)  # fmt: skip
def test_the_bounds_hold_and_every_record_is_kept_or_counted(
    offers: list[list[int]], max_records: int, max_bytes: int, pops: int
) -> None:
    buffer = Buffer(max_records=max_records, max_bytes=max_bytes)
    offered = gone = popped = 0
    for sizes in offers:
        batch = [record(id=f"{offered + n}", size_bytes=size) for n, size in enumerate(sizes)]
        offered += len(batch)
        gone += len(buffer.offer(batch))
        assert len(buffer) == len([*buffer]) <= max_records
        assert buffer.size_bytes == sum(one.size_bytes for one in buffer) <= max_bytes
        for _ in range(min(pops, len(buffer))):
            buffer.pop()
            popped += 1
        assert offered == gone + popped + len(buffer)
        assert [int(one.id) for one in buffer] == sorted(int(one.id) for one in buffer)


def test_the_newest_records_stay() -> None:
    """They are those that explain a crash."""
    buffer = Buffer(max_records=3, max_bytes=10_000)
    assert len(buffer.offer(records(5))) == 2
    assert [one.id for one in buffer] == ["r2", "r3", "r4"]


def test_a_large_record_pushes_out_as_many_as_it_needs() -> None:
    buffer = Buffer(max_records=10, max_bytes=100)
    buffer.offer([record(id=f"r{n}", size_bytes=30) for n in range(3)])
    assert len(buffer.offer([record(id="large", size_bytes=60)])) == 2
    assert [one.id for one in buffer] == ["r2", "large"]


def test_a_record_larger_than_the_buffer_does_not_empty_it() -> None:
    buffer = Buffer(max_records=10, max_bytes=100)
    buffer.offer(records(1))
    assert len(buffer.offer([record(id="huge", size_bytes=101)])) == 1
    assert [one.id for one in buffer] == ["r0"]


def test_records_come_out_oldest_first() -> None:
    buffer = Buffer(max_records=10, max_bytes=10_000)
    buffer.offer(records(3))
    assert [buffer.pop().id for _ in range(3)] == ["r0", "r1", "r2"]
    assert buffer.size_bytes == 0


def test_whoever_asks_for_it_keeps_the_first_records() -> None:
    buffer = Buffer(max_records=3, max_bytes=10_000, when_full=WhenFull.DROP_NEWEST)
    assert [one.id for one in buffer.offer(records(5))] == ["r3", "r4"]
    assert [one.id for one in buffer] == ["r0", "r1", "r2"]
    buffer.pop()
    assert buffer.offer([record(id="late")]) == []


@given(st.lists(st.integers(0, 60), max_size=12), st.integers(1, 6), st.integers(1, 50))
def test_what_is_taken_is_a_beginning_and_pushes_nothing_out(sizes: list[int], max_records: int, size: int) -> None:
    """The rest can then wait in order. One record is always taken, or it would wait for ever."""
    buffer = Buffer(max_records=max_records, max_bytes=size)
    batch = [record(id=f"{n}", size_bytes=size) for n, size in enumerate(sizes)]
    taken = buffer.take(batch)
    assert list(buffer) == batch[:taken]
    assert taken >= min(1, len(batch))
    assert len(buffer) <= max_records
    assert buffer.size_bytes <= size or taken == 1
    if taken < len(batch):
        assert len(buffer) == max_records or buffer.size_bytes + batch[taken].size_bytes > size
