"""Every record is delivered once by some process of the environment, or accounted for."""

import asyncio
import errno
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry_forwarder.clock import Deadline
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.spool.backlog import AT_ONCE
from telemetry_forwarder.spool.frames import frames
from telemetry_forwarder.spool.pauses import PAUSE_S, SLOW_S, SLOW_WRITES
from telemetry_forwarder.spool.segments import Owner
from telemetry_forwarder.spool.spool import MOST_BODIES, WORTH_REMOVING_BYTES, Spool
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import Lines, ManualClock, clock, in_seconds
from tests.generations import OWNER, MemoryStore, World

SINKS = st.sampled_from(["a", "b"])
STEPS = st.one_of(
    st.tuples(st.just("take"), st.tuples(st.integers(1, 12), st.sampled_from([1, 20, 300, 3000]))),
    st.tuples(st.just("start"), st.none()),
    st.tuples(st.just("answer"), st.none()),
    st.tuples(st.just("flush"), st.none()),
    st.tuples(st.just("fall ill"), SINKS),
    st.tuples(st.just("be well"), SINKS),
    st.tuples(st.just("kill"), st.none()),
    st.tuples(st.just("reset"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([0.0, 40.0])),
)


async def step(world: World, verb: str, how: Any) -> None:
    match verb:
        case "take":
            world.take(how[0], size=how[1])
        case "start":
            world.take(1, kind="platform.start")
        case "answer":
            world.process.answer()
        case "flush":
            await world.process.flush()
        case "fall ill" | "be well":
            world.backends[how].is_well = verb == "be well"
        case "kill":
            world.kill()
        case "reset":
            await world.reset()
        case "wait":
            await asyncio.sleep(how)


async def end_well(world: World) -> None:
    for backend in world.backends.values():
        backend.is_well = True
    await asyncio.sleep(60.0)
    await world.process.flush(60.0)
    await world.end()


@settings(max_examples=80, deadline=None)
@given(st.lists(STEPS, max_size=25), st.sampled_from([4_000, 20_000, 1_000_000]))
@in_virtual_time
async def test_each_record_arrives_once_or_is_accounted_for(steps: list[tuple[str, Any]], max_bytes: int) -> None:
    """In strict mode, whatever comes in whatever order: full buffers, a full spool, kills and resets.

    A spool that is smaller than what the sinks hold in memory cannot protect that from a kill; it is counted here.
    """
    world = World(clock(), "a", "b", max_bytes=max_bytes)
    for verb, how in steps:
        await step(world, verb, how)
        world.check()
        assert world.store.size() <= max_bytes + 2_000
    await end_well(world)
    for name, backend in world.backends.items():
        arrived = Counter(backend.arrived)
        assert set(arrived) <= set(world.routed)
        assert max(arrived.values(), default=1) == 1, "twice"
        assert len(arrived) + world.dropped[name] == len(world.routed)
        if max_bytes == 1_000_000:
            assert not world.dropped[name]
    assert world.store.files == {}, "nothing stays behind where nothing is held"


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=25))
@in_virtual_time
async def test_in_the_default_mode_a_kill_costs_the_current_body_at_most(steps: list[tuple[str, Any]]) -> None:
    world = World(clock(), "a", "b", max_bytes=1_000_000, is_strict=False)
    may_be_lost: set[str] = set()
    for verb, how in steps:
        if verb in ("take", "start"):
            world.process.answer()  # Lambda sends a body when it has the answer to the one before
        if verb == "kill" and world.process.pending:
            may_be_lost |= set(world.bodies[-1])
        await step(world, verb, how)
        world.check()
    await end_well(world)
    for backend in world.backends.values():
        assert Counter(set(world.routed) - may_be_lost) <= Counter(backend.arrived)
        assert max(Counter(backend.arrived).values(), default=1) == 1
    assert not world.reasons


@in_virtual_time
async def test_order_is_kept_across_memory_disk_and_processes() -> None:
    world = World(clock(), "a", max_bytes=1_000_000)
    world.backends["a"].is_well = False
    for _ in range(4):
        world.take(4)
        world.kill()
        world.take(4)
    assert world.process.workers["a"].held == 32
    await end_well(world)
    assert world.backends["a"].arrived == world.routed


@in_virtual_time
async def test_records_made_again_equal_those_made_first() -> None:
    """Ids, requests, cold starts and origin: what a body meant depends on those before it."""
    world = World(clock(), "a", capacity=1, max_bytes=1_000_000)
    world.backends["a"].is_well = False
    first: list[Any] = []
    world.offer = _noting(world.offer, first)  # type: ignore[method-assign]
    begin = b'[{"time":"x","type":"platform.initStart","record":{"instanceId":"i-1","initializationType":"on-demand"}}]'
    world.process.intake.take(begin, "0")
    for _ in range(3):
        world.take(2)
        world.take(1, kind="platform.start")
        world.take(3, size=900)
    backlog = world.process.backlogs["a"]
    again = backlog.read(1_000, 1_000_000)
    assert again == first[-len(again) :]
    assert len(again) > 12
    assert {record.request_id for record in again} == {None, "request 2", "request 5", "request 8"}
    assert again[-1].origin.instance_id == "i-1"


@in_virtual_time
async def test_a_body_that_is_read_in_slices_is_read_once() -> None:
    """What is left of it waits, counted, and can be begun again from the start of what was put back."""
    world = World(clock(), "a", capacity=1, max_bytes=10**7)
    world.backends["a"].is_well = False
    for _ in range(3):
        world.take(3 * AT_ONCE + 5)
    backlog = world.process.backlogs["a"]
    total = backlog.waiting
    found: list[Any] = []
    while records := backlog.read(10**6, 10**9, lambda: True):
        assert len(records) <= AT_ONCE
        if len(found) == 2 * AT_ONCE:
            backlog.put_back(records)
            records = backlog.read(10**6, 10**9, lambda: True)
        found += records
        assert backlog.waiting == total - len(found)
    ids = [record.id for record in found]
    assert len(ids) == total
    assert ids == sorted(set(ids), key=ids.index)
    assert [int(one[-4:], 16) for one in ids[: 3 * AT_ONCE]] == list(range(1, 3 * AT_ONCE + 1))


def _noting(offer: Any, noted: list[Any]) -> Any:
    def both(records: Any) -> None:
        noted.extend(records)
        offer(records)

    return both


@in_virtual_time
async def test_a_file_cut_anywhere_gives_back_all_that_was_whole() -> None:
    world = World(clock(), "a", max_bytes=1_000_000)
    world.backends["a"].is_well = False
    for _ in range(3):
        world.take(2)
    (data,) = [bytes(file) for file in world.store.files.values()]
    ends = [frame.end for frame in frames(data)]
    world.process.die()
    for size in range(len(data) + 1):
        store = MemoryStore()
        store.files[0] = bytearray(data[:size])
        spool = Spool(store, owner=OWNER, sinks=["a"], max_bytes=1_000_000, clock=ManualClock(), log=Lines().log)
        spool.recover()
        whole = sum(end <= size for end in ends)
        assert len(spool.identities()) == max(0, whole - 1)
        if whole:
            assert len(store.files.get(0, b"")) in (0, ends[whole - 1]), "what comes next can be read again"


@in_virtual_time
async def test_what_is_delivered_is_not_sent_by_the_next_process() -> None:
    world = World(clock(), "a", "b", max_bytes=1_000_000)
    world.backends["b"].is_well = False
    world.take(5)
    await world.process.flush()
    world.kill()
    assert world.process.workers["a"].held == 0
    assert world.process.workers["b"].statement().recovered == 5
    await end_well(world)
    assert world.backends["a"].arrived == world.backends["b"].arrived == world.routed


@in_virtual_time
async def test_what_is_left_at_a_timeout_is_spilled_and_recovered() -> None:
    """The books of both processes say so; what comes after the end of the workers too."""
    world = World(clock(), "a", max_bytes=1_000_000)
    world.backends["a"].is_well = False
    world.take(9)
    old = world.process.workers["a"]
    old.expect_next_process()
    await old.drain(in_seconds(1.0))
    world.take(2)
    assert (old.statement().spilled, old.statement().dropped, old.held) == (11, {}, 0)
    world.kill()
    new = world.process.workers["a"]
    assert (new.statement().recovered, new.statement().offered, new.held) == (11, 11, 11)
    await end_well(world)
    assert world.backends["a"].arrived == world.routed


@in_virtual_time
async def test_a_body_that_lambda_sends_again_to_the_next_process_is_known_there() -> None:
    """Its answer was lost with the process that had written it down."""
    world = World(clock(), "a", max_bytes=1_000_000)
    body = b'[{"time":"x","type":"function","record":"hello"}]'
    world.process.intake.take(body, "s")
    world.kill()
    world.process.intake.take(body, "s")
    assert world.process.counts.redelivered_bodies == 1
    await end_well(world)
    assert len(world.backends["a"].arrived) == 1


@in_virtual_time
async def test_a_body_that_was_delivered_whole_is_known_to_the_next_process_too() -> None:
    """Nothing of it is needed any more, but its answer may have been lost with the process."""
    world = World(clock(), "a", max_bytes=1_000_000)
    body = b'[{"time":"x","type":"function","record":"hello"}]'
    world.process.intake.take(body, "s")
    await world.process.flush()
    world.kill()
    assert world.store.files == {}
    world.process.intake.take(body, "another")
    assert world.process.counts.redelivered_bodies == 1
    await end_well(world)
    assert len(world.backends["a"].arrived) == 1


@in_virtual_time
async def test_a_sink_that_is_not_configured_any_more_is_counted_once() -> None:
    world = World(clock(), "a", "b", max_bytes=1_000_000)
    for backend in world.backends.values():
        backend.is_well = False
    world.take(3)
    gone = world.backends.pop("b")
    world.backends["c"] = gone
    world.kill()
    assert world.process.spool.counts.unclaimed == {"b": 3}
    assert world.lines.said("3 records were kept for b", "WARN") == 1
    assert (world.process.workers["a"].held, world.process.workers["c"].held) == (3, 0)
    world.take(2)
    world.kill()
    assert world.process.spool.counts.unclaimed == {}
    assert (world.process.workers["a"].held, world.process.workers["c"].held) == (5, 2)
    await end_well(world)
    assert world.store.files == {}


@in_virtual_time
async def test_a_full_spool_drops_its_oldest_but_not_what_is_in_memory() -> None:
    world = World(clock(), "a", capacity=5, max_bytes=10_000)
    world.backends["a"].is_well = False
    for _ in range(100):
        world.take(4, size=60)
        world.check()
        assert world.store.size() <= 10_000
    worker = world.process.workers["a"]
    assert worker.statement().dropped["spool_full"] + worker.held == 400
    assert world.lines.said("The spool is full", "WARN") == 1
    await end_well(world)
    arrived = world.backends["a"].arrived
    first = next(n for n, (here, there) in enumerate(zip(arrived, world.routed, strict=False)) if here != there)
    assert first >= 5, "the segment of which something was in memory"
    assert arrived[first:] == world.routed[first - len(arrived) :], "and the newest"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
@in_virtual_time
async def test_a_disk_that_cannot_be_written_is_said_once_and_memory_goes_on(code: int) -> None:
    world = World(clock(), "a", max_bytes=1_000_000)
    world.backends["a"].is_well = False
    world.take(2)
    world.store.trouble = OSError(code, "no way")
    for _ in range(10):
        world.take(2)
        await asyncio.sleep(PAUSE_S)
    world.check()
    assert world.process.workers["a"].held == 5
    assert world.lines.said("The spool cannot be written: no way", "WARN") == 1
    assert world.process.workers["a"].statement().dropped == {"buffer_full": 17}
    world.store.trouble = None
    await asyncio.sleep(PAUSE_S)
    world.take(1)
    world.take(1)
    assert world.lines.said("The spool is written again") == 1
    world.backends["a"].is_well = True
    await end_well(world)
    assert len(world.backends["a"].arrived) == 7


@in_virtual_time
async def test_what_was_learned_while_the_disk_was_away_is_in_the_next_segment() -> None:
    world = World(clock(), "a", max_bytes=1_000_000)
    world.backends["a"].is_well = False
    world.take(6)
    world.store.trouble = OSError(errno.ENOSPC, "full")
    world.take(1, kind="platform.start")
    world.store.trouble = None
    await asyncio.sleep(PAUSE_S)
    world.take(3)
    backlog = world.process.backlogs["a"]
    assert backlog.read(100, 100_000)[-1].request_id == "request 2"


@in_virtual_time
async def test_a_slow_disk_is_done_without_for_a_while() -> None:
    world = World(clock(), "a", max_bytes=1_000_000)
    loop: Any = asyncio.get_running_loop()
    world.store.on_slow = lambda seconds: setattr(loop, "now", loop.now + seconds)
    world.store.write_seconds = 2 * SLOW_S
    for _ in range(SLOW_WRITES + 3):
        world.take(1)
    assert world.process.spool.counts.bodies == SLOW_WRITES
    assert world.lines.said("too slow", "WARN") == 1


@in_virtual_time
async def test_damage_on_disk_costs_what_was_damaged() -> None:
    world = World(clock(), "a", max_bytes=1_000_000)
    world.backends["a"].is_well = False
    for _ in range(4):
        world.take(3)
    (file,) = world.store.files.values()
    third = [frame for frame in frames(bytes(file)) if frame.kind == 2][2]
    file[third.end - 1] ^= 1
    world.backends["a"].is_well = True
    await end_well(world)
    assert world.reasons == {"spool_damaged": 3}
    assert len(world.backends["a"].arrived) == 9


@in_virtual_time
async def test_what_another_function_or_version_left_is_removed() -> None:
    world = World(clock(), "a", max_bytes=1_000_000)
    world.take(3)
    world.process.die()
    for owner in (Owner(function="other", version="$LATEST"), Owner(function="orders", version="7")):
        store = MemoryStore()
        store.files = {number: bytearray(file) for number, file in world.store.files.items()}
        spool = Spool(store, owner=owner, sinks=["a"], max_bytes=10**6, clock=ManualClock(), log=Lines().log)
        spool.recover()
        assert (store.files, spool.identities()) == ({}, [])


@given(st.binary(max_size=200))
def test_no_leftovers_stop_the_start(data: bytes) -> None:
    store = MemoryStore()
    store.files[3] = bytearray(data)
    spool = Spool(store, owner=OWNER, sinks=["a"], max_bytes=10**6, clock=ManualClock(), log=Lines().log)
    spool.recover()
    assert store.files == {}


@in_virtual_time
async def test_the_normal_path_is_one_write_for_a_body_and_one_for_what_a_sink_delivered_of_it() -> None:
    world = World(clock(), "a", "b", capacity=1_000, max_bytes=10**7)
    world.take(100)
    await world.process.flush()
    before = world.store.writes
    for _ in range(10):
        world.take(10)
        await world.process.flush()
    assert world.store.writes - before == 10 * (1 + 2)


@in_virtual_time
async def test_a_settled_segment_goes_when_it_is_worth_it() -> None:
    world = World(clock(), "a", capacity=1_000, max_bytes=64 * 1024 * 1024)
    for _ in range(40):
        world.take(10, size=4_000)
        await world.process.flush()
        assert world.store.size() <= WORTH_REMOVING_BYTES + 50_000
    assert world.process.spool.counts.bodies == 40


@in_virtual_time
async def test_the_index_is_bounded_however_small_the_bodies_are() -> None:
    world = World(clock(), "a", max_bytes=2_000_000)
    world.backends["a"].is_well = False
    for _ in range(MOST_BODIES + 10):
        world.take(1, size=1)
    world.check()
    assert len(world.process.spool.identities()) <= MOST_BODIES


class Shelf:
    """A fallback that takes what it is told to."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.stored: list[str] = []

    def warm(self) -> None:
        """Need nothing."""

    async def store(self, name: str, records: Sequence[Record], deadline: Deadline) -> list[Record]:
        now, later = list(records[: self.takes]), list(records[self.takes :])
        self.takes -= len(now)
        self.stored += [record.id for record in now]
        return later


@pytest.mark.parametrize("takes", [0, 7, 1_000])
@pytest.mark.parametrize("has_heir", [False, True])
@in_virtual_time
async def test_a_fallback_has_what_waits_on_disk_too_and_the_spool_what_it_did_not_take(
    takes: int, has_heir: bool
) -> None:
    world = World(clock(), "a", max_bytes=1_000_000)
    world.backends["a"].is_well = False
    for _ in range(4):
        world.take(5)
    worker = world.process.workers["a"]
    shelf = Shelf(takes)
    worker._fallback = shelf
    if has_heir:
        worker.expect_next_process()
    await worker.drain(in_seconds(1.0), in_seconds(2.0))
    statement = worker.statement()
    assert (statement.held, shelf.stored) == (0, world.routed[:takes])
    rest = 20 - len(shelf.stored)
    assert statement.spilled == (20 if has_heir else len(shelf.stored))
    assert sum(statement.dropped.values()) == (0 if has_heir else rest)
    world.kill()
    assert world.process.workers["a"].held == (rest if has_heir else 0)
    await end_well(world)
    assert world.backends["a"].arrived == (world.routed[takes:] if has_heir else [])


@pytest.mark.parametrize("is_strict", [True, False])
@in_virtual_time
async def test_strict_writes_before_the_answer_and_the_default_right_after_it(is_strict: bool) -> None:
    world = World(clock(), "a", capacity=100, max_bytes=1_000_000, is_strict=is_strict)
    world.take(5)
    assert bool(world.store.writes) is is_strict
    world.process.answer()
    assert world.store.writes


class Unreadable(MemoryStore):
    """A disk that cannot even be listed."""

    def numbers(self) -> list[int]:
        raise OSError(errno.EIO, "no list")


@in_virtual_time
async def test_a_disk_that_cannot_be_read_at_the_start_is_said_and_done_without() -> None:
    world = World(clock(), "a", store=Unreadable())
    world.take(9)
    assert world.lines.said("The spool cannot be read: no list", "WARN") == 1
    assert world.process.spool.snapshot()["failures"] == 1
    await end_well(world)
    assert world.reasons == {"buffer_full": 4}
    assert len(world.backends["a"].arrived) == 5


@in_virtual_time
async def test_a_disk_that_cannot_be_written_any_more_still_gives_what_is_on_it() -> None:
    """What was delivered cannot be noted nor removed then; that is said."""
    world = World(clock(), "a", max_bytes=1_000_000)
    world.backends["a"].is_well = False
    for _ in range(4):
        world.take(5)
    world.store.trouble = OSError(errno.EROFS, "read-only")
    world.backends["a"].is_well = True
    await end_well(world)
    assert world.backends["a"].arrived == world.routed
    assert world.lines.said("The spool cannot be written: read-only", "WARN") == 1
    assert world.lines.said("The spool cannot be cleared: read-only", "WARN") == 1
    assert world.store.files


@in_virtual_time
async def test_leftovers_that_cannot_be_opened_now_are_left_where_they_are() -> None:
    """They may be readable to the process after this one."""
    world = World(clock(), "a", max_bytes=1_000_000)
    world.backends["a"].is_well = False
    world.take(5)
    world.store.files[0] += b"torn"
    world.store.trouble = OSError(errno.EIO, "no")
    world.kill()
    assert world.process.workers["a"].held == 0
    world.store.trouble = None
    await asyncio.sleep(PAUSE_S)
    world.take(2)
    world.kill()
    assert world.process.workers["a"].held == 7
    await end_well(world)
    assert world.backends["a"].arrived == world.routed


def test_leftovers_that_cannot_be_used_nor_removed_stop_nobody() -> None:
    store = MemoryStore()
    store.files[0] = bytearray(b"nonsense")
    store.trouble = OSError(errno.EROFS, "read-only")
    lines = Lines()
    spool = Spool(store, owner=OWNER, sinks=["a"], max_bytes=10**6, clock=ManualClock(), log=lines.log)
    spool.recover()
    assert spool.identities() == []
    assert lines.said("cannot be cleared", "WARN") == 1
