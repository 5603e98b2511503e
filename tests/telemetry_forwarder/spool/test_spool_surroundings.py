"""The spool on real files, among what may happen to /tmp: few descriptors, a full disk, a function that clears it."""

import asyncio
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from telemetry_forwarder.clock import Deadline
from telemetry_forwarder.interfaces import DropReason
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.spool.files import Kernel, SegmentFiles
from telemetry_forwarder.spool.frames import FORMAT, KeptBody, Note, body_frame, header_frame, settled_frame
from telemetry_forwarder.spool.pauses import PAUSE_S
from telemetry_forwarder.spool.spool import MOST_SEGMENTS, SECURE_S
from telemetry_forwarder.testing.virtual_time import in_virtual_time
from tests.builders import clock, in_seconds, limits, run
from tests.generations import OWNER, World

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Faulty(Kernel):
    """A kernel of which every `every`-th call of those in `calls` fails with `code`; 0: none."""

    def __init__(self) -> None:
        self.calls: frozenset[str] = frozenset()
        self.every = 0
        self.code = errno.EIO
        self.made = 0

    def fail(self, *calls: str, code: int = errno.ENOSPC, every: int = 1) -> None:
        self.calls, self.code, self.every = frozenset(calls), code, every

    def be_well(self) -> None:
        self.every = 0

    def __getattribute__(self, name: str) -> Any:
        get = object.__getattribute__
        if get(self, "__dict__").get("every") and name in get(self, "calls"):
            self.made += 1
            if self.made % get(self, "every") == 0:
                return self._close if name == "close" else self._raise
        return get(self, name)

    def _close(self, file: int) -> Any:
        """Fail as Linux does: with the descriptor closed."""
        os.close(file)
        self._raise()

    def _raise(self, *_: Any, **__: Any) -> Any:
        raise OSError(self.code, os.strerror(self.code))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir())


def segments(folder: Path) -> list[Path]:
    return list(folder.rglob("*.log"))


def on_disk(folder: Path, *names: str, kernel: Kernel | None = None, **kept: Any) -> World:
    """Return an environment whose spool is in `folder`."""
    kept = {"max_bytes": 1_000_000, **kept}
    return World(clock(), *names, open_store=lambda: SegmentFiles(str(folder / "spool"), kernel), **kept)


async def end_well(world: World) -> None:
    for backend in world.backends.values():
        backend.is_well = True
    await asyncio.sleep(60.0)
    await world.process.flush(60.0)
    await world.end()


RESETS = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from pathlib import Path
from telemetry_forwarder.spool.spool import MOST_SEGMENTS
from tests.builders import run
from tests.telemetry_forwarder.spool.test_spool_surroundings import descriptors, end_well, on_disk

async def main():
    world = on_disk(Path(sys.argv[1]), "a", max_bytes=8_388_608)
    world.backends["a"].is_well = False
    before = descriptors()
    for number in range(1030):
        world.take(1, kind="platform.start" if number % 10 == 0 else "function")
        world.kill()
        assert world.process.workers["a"].held == number + 1
        assert descriptors() <= before + MOST_SEGMENTS + 2
    assert len(list(Path(sys.argv[1]).rglob("*.log"))) <= MOST_SEGMENTS + 1
    await end_well(world)
    assert world.backends["a"].arrived == world.routed and len(world.routed) == 1030
    assert not world.dropped["a"], world.reasons

run(main())
print("well", [path.name for path in Path(sys.argv[1]).rglob("*.log")])
"""


def test_a_thousand_resets_while_the_backend_is_away_take_a_bounded_number_of_descriptors_and_files(
    tmp_path: Path,
) -> None:
    """Each leaves a segment; with a limit of 64 descriptors, every line arrives once, in order."""
    ran = subprocess.run([sys.executable, "-c", RESETS, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.stdout == "well []\n", ran.stderr[-3000:]


@in_virtual_time
async def test_merged_segments_make_the_records_that_they_made_before(tmp_path: Path) -> None:
    """With their requests, and without what some sink had settled."""
    world = on_disk(tmp_path, "a", "b", capacity=1000)
    world.backends["a"].is_well = False
    for number in range(3 * MOST_SEGMENTS):
        world.take(1, kind="platform.start" if number % 7 == 0 else "function")
        world.take(3)
        if number % 3:
            await world.process.flush()
        world.kill()
    names = [name for name in files_in(tmp_path) if name.endswith(".log")]
    assert len(names) <= MOST_SEGMENTS
    spool = world.process.spool
    assert any(len(segment.sections) > 10 for segment in spool._segments)
    queue, backlog = world.process.workers["a"]._queue, world.process.backlogs["a"]
    waiting = backlog.read(10**6, 10**9)
    requests = {record.id: record.request_id for record in [*queue._buffer, *waiting]}
    backlog.put_back(waiting)
    for index, ids in enumerate(world.bodies):
        process, is_second = divmod(index, 2)
        expected = None if process % 7 else f"request {index + 1 - is_second}"
        assert {requests[one] for one in ids} == {expected}
    await end_well(world)
    assert world.backends["a"].arrived == world.routed
    assert sorted(world.backends["b"].arrived) == sorted(world.routed)


@in_virtual_time
async def test_who_dies_while_segments_are_merged_leaves_nothing_twice(tmp_path: Path) -> None:
    """After the new one is in its place and before the others are removed."""
    kernel = Faulty()
    world = on_disk(tmp_path, "a", kernel=kernel)
    world.backends["a"].is_well = False
    for _ in range(MOST_SEGMENTS):
        world.take(2)
        world.kill()
    kernel.fail("unlink", code=errno.EIO)
    world.take(2)
    world.kill()  # merges, and cannot remove
    assert len(files_in(tmp_path)) > MOST_SEGMENTS
    kernel.be_well()
    world.kill()
    assert world.process.workers["a"].held == 2 * MOST_SEGMENTS + 2
    await end_well(world)
    assert world.backends["a"].arrived == world.routed
    assert files_in(tmp_path) == []


def clear_all(folder: Path) -> None:
    shutil.rmtree(folder / "spool")


def clear_segments(folder: Path) -> None:
    for path in folder.rglob("*.log"):
        path.unlink()


def clear_one(folder: Path) -> None:
    min(folder.rglob("*.log")).unlink()


def move_away(folder: Path) -> None:
    (folder / "spool").rename(folder / "moved")


CLEARED = [clear_all, clear_segments, clear_one, move_away]


@pytest.mark.parametrize("clear", CLEARED)
@pytest.mark.parametrize("goes_on", [False, True])
@in_virtual_time
async def test_what_is_spilled_after_the_function_cleared_tmp_is_found_by_the_next_process(
    tmp_path: Path, clear: Callable[[Path], None], goes_on: bool
) -> None:
    before = descriptors()
    world = on_disk(tmp_path, "a", max_bytes=100_000)
    world.backends["a"].is_well = False
    for _ in range(60):
        world.take(2, size=300)
    assert len(segments(tmp_path)) > 3
    clear(tmp_path)
    if goes_on:
        world.take(1)
    worker = world.process.workers["a"]
    await world.reset()
    spilled = worker.statement().spilled
    assert spilled == world.process.workers["a"].statement().recovered == len(world.routed)
    await end_well(world)
    assert world.backends["a"].arrived == world.routed
    assert not world.reasons
    shutil.rmtree(tmp_path / "moved", ignore_errors=True)
    assert (files_in(tmp_path), descriptors()) == ([], before)


@pytest.mark.parametrize("instead", ["a file", "a link", "cut", "no room", "no time"])
@in_virtual_time
async def test_what_cannot_be_left_to_the_next_process_is_not_said_to_be(tmp_path: Path, instead: str) -> None:
    kernel = Faulty()
    world = on_disk(tmp_path, "a", max_bytes=100_000, kernel=kernel)
    world.backends["a"].is_well = False
    for _ in range(30):
        world.take(2, size=300)
    worker = world.process.workers["a"]
    if instead == "cut":
        for path in segments(tmp_path):
            os.truncate(path, 100)
    else:
        shutil.rmtree(tmp_path / "spool")
    if instead == "a file":
        (tmp_path / "spool").write_bytes(b"mine")
    elif instead == "a link":
        (tmp_path / "spool").symlink_to(tmp_path / "nowhere")
    elif instead == "no room":
        kernel.fail("writev", "mkdir", code=errno.ENOSPC)
    elif instead == "no time":
        loop: Any = asyncio.get_running_loop()
        written = Kernel.writev

        def slowly(*given: Any) -> int:
            loop.now += SECURE_S
            return written(*given)

        kernel.__dict__["writev"] = slowly
    worker.expect_next_process()
    await worker.drain(in_seconds(1.0))
    statement = worker.statement()
    assert statement.is_balanced()
    assert statement.held == 0
    kept_in_memory = statement.dropped.get(DropReason.DEADLINE, 0)
    lost = statement.dropped[DropReason.SPOOL_LOST] + statement.dropped.get(DropReason.SPOOL_DAMAGED, 0)
    assert lost + kept_in_memory == 60 - statement.spilled
    assert kept_in_memory <= 3 * world.capacity.max_records, "in the buffer, packed, under way"
    assert statement.spilled == 0 if instead != "no time" else 0 < statement.spilled < 60
    assert lost > 0
    assert world.process.spool.counts.lost_segments
    assert world.lines.said("Does the function clear /tmp?", "WARN") == 1
    world.process.die()
    kernel.be_well()
    kernel.__dict__.pop("writev", None)
    if instead in ("cut", "no time"):
        files = SegmentFiles(str(tmp_path / "spool"))
        assert bool(files.numbers()) is (instead == "no time")
        files.close()


@in_virtual_time
async def test_a_full_disk_is_tried_twice_a_minute_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """And is used as soon as there is room; what it was like is said once."""
    kernel = Faulty()
    world = on_disk(tmp_path, "a", kernel=kernel)
    world.backends["a"].is_well = False
    before = descriptors()
    kernel.fail("writev", "mkdir")
    for _ in range(120):
        world.take(1)
        await asyncio.sleep(PAUSE_S / 3)
        assert (files_in(tmp_path), descriptors()) == ([], before)
    assert world.process.spool.counts.failures <= 41
    assert world.lines.said("The spool cannot be written: No space left on device", "WARN") == 1
    kernel.be_well()
    await asyncio.sleep(PAUSE_S)
    world.take(1)
    assert len(files_in(tmp_path)) == 1
    world.check()
    await end_well(world)
    assert files_in(tmp_path) == []
    assert world.lines.said("The spool is written again", "WARN") == 1


CODES = [errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.ENOENT]


@pytest.mark.parametrize("code", CODES)
@in_virtual_time
async def test_each_error_is_said_by_its_name_once_and_counted(tmp_path: Path, code: int) -> None:
    kernel = Faulty()
    world = on_disk(tmp_path, "a", kernel=kernel)
    world.backends["a"].is_well = False
    world.take(9)
    kernel.fail("open", "writev", code=code)
    for _ in range(5):
        world.take(2)
        await asyncio.sleep(PAUSE_S)
    assert world.lines.said(f"The spool cannot be written: {os.strerror(code)}", "WARN") == 1
    assert world.process.spool.counts.failures >= 5
    world.check()
    kernel.be_well()
    await end_well(world)
    assert world.dropped["a"] + len(world.backends["a"].arrived) == len(world.routed)


CALLS = [
    "close",
    "flock",
    "fstat",
    "ftruncate",
    "listdir",
    "mkdir",
    "open",
    "pread",
    "rename",
    "stat",
    "unlink",
    "writev",
]
STEPS = st.one_of(
    st.tuples(st.just("take"), st.tuples(st.integers(1, 9), st.sampled_from([1, 20, 300]))),
    st.tuples(st.just("start"), st.none()),
    st.tuples(st.just("flush"), st.none()),
    st.tuples(st.just("fall ill"), st.none()),
    st.tuples(st.just("be well"), st.none()),
    st.tuples(st.just("kill"), st.none()),
    st.tuples(st.just("reset"), st.none()),
    st.tuples(st.just("wait"), st.just(PAUSE_S)),
    st.tuples(st.just("clear"), st.sampled_from([clear_all, clear_segments])),
    st.tuples(
        st.just("fail"),
        st.tuples(st.sets(st.sampled_from(CALLS)), st.sampled_from(CODES), st.sampled_from([1, 1, 2, 3, 7])),
    ),
    st.tuples(st.just("mend"), st.none()),
)


class Course:
    """Steps in one environment, of which each process but the first begins with a disk that is well."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kernel = Faulty()
        self.world = on_disk(folder, "a", max_bytes=200_000, kernel=self.kernel)
        self.backend = self.world.backends["a"]
        self.is_cleared = False  # since when a kill takes what nobody can know of
        self.may_miss = False

    async def step(self, verb: str, how: Any) -> None:
        world = self.world
        match verb:
            case "take":
                world.take(how[0], size=how[1])
            case "start":
                world.take(1, kind="platform.start")
            case "flush":
                await world.process.flush()
            case "fall ill" | "be well":
                self.backend.is_well = verb == "be well"
            case "wait":
                await asyncio.sleep(how)
            case "clear":
                if (self.folder / "spool").exists():
                    how(self.folder)
                self.is_cleared = True
            case "fail":
                self.kernel.fail(*how[0], code=how[1], every=how[2])
            case "mend":
                self.kernel.be_well()
            case "kill":
                self.kernel.be_well()
                self.may_miss |= self.is_cleared
                world.kill()
            case "reset":
                await self.reset()
        world.check()

    async def reset(self) -> None:
        """End by a timeout with whatever fails; the next process finds what this one says that it left."""
        worker = self.world.process.workers["a"]
        worker.expect_next_process()
        await self.world.end()
        self.kernel.be_well()
        spilled = worker.statement().spilled
        self.world.process = type(self.world.process)(self.world)
        recovered = self.world.process.workers["a"].statement().recovered
        assert recovered >= spilled, "what was left is there"
        self.is_cleared = False


@settings(max_examples=120, deadline=None)
@given(st.lists(STEPS, max_size=30))
def test_whatever_fails_costs_the_spool_at_most(steps: list[tuple[str, Any]]) -> None:
    """Nothing is raised, the books balance, what is said to be left is there; no descriptor or file is left over."""

    async def main(folder: Path) -> None:
        before = descriptors()
        course = Course(folder)
        for verb, how in steps:
            await course.step(verb, how)
        course.kernel.be_well()
        await course.reset()
        await end_well(course.world)
        arrived = set(course.backend.arrived)
        assert arrived <= set(course.world.routed)
        if not course.may_miss:
            assert len(arrived) + course.world.dropped["a"] >= len(course.world.routed)
        assert (files_in(folder), descriptors()) == ([], before)

    with TemporaryDirectory() as folder:
        run(main(Path(folder)))


KEPT = KeptBody(identity="0" * 24, received_ms=0, items=1, mask=0, teaches=False, body=b"[]")


@pytest.mark.parametrize("trouble", ["too old", "damaged"])
@pytest.mark.parametrize("has_fallback", [False, True])
def test_a_drain_of_what_nobody_takes_ends_and_lets_others_work_meanwhile(
    tmp_path: Path, trouble: str, has_fallback: bool
) -> None:
    """Hundreds of bodies wait on disk and none gives anything to send: piece by piece, with the loop between them."""

    async def main() -> None:
        world = on_disk(tmp_path, "a", max_bytes=8_000_000)
        world.backends["a"].is_well = False
        for _ in range(300):
            world.take(2, size=2_000)
        worker = world.process.workers["a"]
        in_memory = worker.held - world.process.backlogs["a"].waiting
        if trouble == "damaged":
            for path in segments(tmp_path):
                path.write_bytes(b"\0" * path.stat().st_size)
            world.backends["a"].is_well = True
        else:
            worker._encoder._sink.limits = limits(max_age_ms=0)  # type: ignore[misc]
        if has_fallback:
            worker._fallback = Refusing()
        turns = 0

        async def work() -> None:
            nonlocal turns
            loop: Any = asyncio.get_running_loop()
            while True:
                turns += 1
                loop.now += 0.001  # it passes by itself only where nothing is left to do
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            other = group.create_task(work())
            await worker.drain(in_seconds(1.0), in_seconds(2.0) if has_fallback else None)
            other.cancel()
        statement = worker.statement()
        assert statement.is_balanced()
        assert statement.held == 0
        assert turns > 20, "one for each piece"
        if trouble == "damaged":
            assert statement.dropped[DropReason.SPOOL_DAMAGED] == 600 - in_memory
        else:
            assert statement.dropped[DropReason.TOO_OLD] > 500
        await asyncio.sleep(0)

    run(main())


class Refusing:
    """A fallback that takes nothing."""

    def warm(self) -> None:
        """Need nothing."""

    async def store(self, sink: str, records: Sequence[Record], deadline: Deadline) -> list[Record]:
        return list(records)


def segment_of(*frames: list[bytes], sinks: tuple[str, ...] = ("a",), version: int = FORMAT) -> bytes:
    knowledge = {
        "instance_id": None, "init_type": None, "current": None, "first": None, "starts": 0, "init_within": None,
        "known": [],
    }  # fmt: skip
    owner = {"function": OWNER.function, "version": OWNER.version}
    header = header_frame({**owner, "sinks": sinks, "knowledge": knowledge, "format": version})
    return b"".join(b"".join(frame) for frame in (header, *frames))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100_000,
        segment_of(version=FORMAT + 1),
        segment_of(settled_frame(7, [Note(0, None)])),
        segment_of(settled_frame(0, [Note(9, [(0, 1)])])),
        segment_of(settled_frame(0, [Note(0, [(0, 2**32 - 1)])])),
        segment_of(body_frame(KEPT))[:-11] + b"\xff" * 11,
        segment_of(body_frame(replace(KEPT, body=b"no telemetry"))),
        orjson.dumps({"not": "a segment"}),
    ],
)
@in_virtual_time
async def test_a_foreign_file_in_the_slot_costs_nothing_else(tmp_path: Path, data: bytes) -> None:
    world = on_disk(tmp_path, "a")
    world.backends["a"].is_well = False
    world.take(3)
    world.process.die()
    (tmp_path / "spool/0/1.log").write_bytes(data)
    (tmp_path / "spool/0/2.log").mkdir()
    (tmp_path / "spool/0/x.log").write_bytes(b"x")
    world.kill()
    assert world.process.workers["a"].held == 3
    world.take(2)
    await end_well(world)
    assert world.backends["a"].arrived == world.routed
    assert files_in(tmp_path) == ["x.log"]


@in_virtual_time
async def test_a_clock_that_is_set_back_makes_no_pause_longer(tmp_path: Path) -> None:
    kernel = Faulty()
    world = on_disk(tmp_path, "a", kernel=kernel)
    world.backends["a"].is_well = False
    kernel.fail("writev", "open")
    world.take(1)
    kernel.be_well()
    world.clock._epoch -= 86_400.0
    await asyncio.sleep(PAUSE_S)
    world.take(1)
    assert world.process.spool.counts.bodies == 1
    await end_well(world)
