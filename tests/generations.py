"""One process after the other in the same environment, with a disk that survives them: what the spool's tests play on.

Everything but the disk and the backends is real: intake, spool, backlogs, workers.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from telemetry_forwarder.delivery.buffer import WhenFull
from telemetry_forwarder.delivery.window import answered_by
from telemetry_forwarder.delivery.worker import Capacity, Worker
from telemetry_forwarder.intake.intake import Intake
from telemetry_forwarder.intake.router import Router
from telemetry_forwarder.interfaces import Delivered
from telemetry_forwarder.ledger import IntakeCounts
from telemetry_forwarder.records.enrich import Enricher
from telemetry_forwarder.records.record import Origin, Record
from telemetry_forwarder.spool.backlog import Backlog
from telemetry_forwarder.spool.segments import Owner
from telemetry_forwarder.spool.spool import Spool
from tests.builders import Lines, ListSink, Sent, VirtualClock, in_seconds

ORIGIN = Origin(function_name="orders", function_version="$LATEST")
OWNER = Owner(function="orders", version="$LATEST")


class MemoryStore:
    """A disk: a `Store` in memory. `trouble` is raised by every write; `write_seconds` pass in each."""

    def __init__(self) -> None:
        self.files: dict[int, bytearray] = {}
        self.trouble: OSError | None = None
        self.write_seconds = 0.0
        self.on_slow: Callable[[float], None] = lambda seconds: None
        self.writes = 0

    def numbers(self) -> list[int]:
        return sorted(self.files)

    def create(self, number: int, parts: Sequence[bytes]) -> None:
        self._fail()
        assert number not in self.files
        self.files[number] = bytearray()
        self.append(number, parts, 0)

    def append(self, number: int, parts: Sequence[bytes], at: int) -> bool:
        self._fail()
        assert len(self.files[number]) == at
        self.on_slow(self.write_seconds)
        self.writes += 1
        self.files[number] += b"".join(parts)
        return True

    def replace(self, number: int, parts: Sequence[bytes]) -> None:
        self._fail()
        self.files[number] = bytearray(b"".join(parts))

    def secure(self, number: int, size: int, *, may_write: bool = True) -> None:
        assert len(self.files[number]) >= size

    def read(self, number: int, offset: int = 0, size: int | None = None) -> bytes:
        end = None if size is None else offset + size
        return bytes(self.files[number][offset:end])

    def cut(self, number: int, size: int) -> None:
        self._fail()
        del self.files[number][size:]

    def remove(self, number: int) -> None:
        self._fail()
        del self.files[number]

    def size(self) -> int:
        return sum(map(len, self.files.values()))

    def _fail(self) -> None:
        if self.trouble is not None:
            raise self.trouble


class Mortal:
    """A process's view of the disk; nothing of a dead one reaches it."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        assert not self.is_dead, f"a dead process calls {name}"
        return getattr(self._store, name)


class Backend:
    """A transport that takes everything while it is well, and answers nothing else."""

    def __init__(self) -> None:
        self.is_well = True
        self.arrived: list[str] = []

    async def send(self, request: Sent) -> Delivered:
        if not self.is_well:
            await asyncio.Event().wait()
        self.arrived += request.ids
        return Delivered()

    async def aclose(self) -> None:
        """Close nothing."""


class Line:
    """A process's way to a backend; nothing of a dead one gets through, though its tasks may take one more step."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.is_dead = False

    async def send(self, request: Sent) -> Delivered:
        if self.is_dead:
            await asyncio.Event().wait()
        return await self._backend.send(request)

    async def aclose(self) -> None:
        """Close nothing."""


class World:
    """What outlives a process: the disk and the backends; and what every process together was offered."""

    def __init__(
        self,
        clock: VirtualClock,
        *names: str,
        capacity: int = 5,
        max_bytes: int = 20_000,
        is_strict: bool = True,
        when_full: WhenFull = WhenFull.SPILL,
        store: Any = None,
        open_store: Callable[[], Any] | None = None,
    ) -> None:
        """Begin with one process. `open_store` gives each its own view of the disk; else all share `store`."""
        self.clock = clock
        self.store = store or MemoryStore()
        self.open_store = open_store or (lambda: self.store)
        self.backends = {name: Backend() for name in names}
        self.capacity = Capacity(max_records=capacity, max_bytes=5_000, when_full=when_full)
        self.max_bytes = max_bytes
        self.is_strict = is_strict
        self.lines = Lines()
        self.routed: list[str] = []  # ids, in order
        self.bodies: list[list[str]] = []
        self.dropped: Counter[str] = Counter()  # of each sink, by all processes together
        self.reasons: Counter[str] = Counter()
        self.number = 0
        self.process = Process(self)

    def offer(self, records: Sequence[Record]) -> None:
        """Note what the workers are offered: this is the first taker."""
        self.routed += [record.id for record in records]
        self.bodies.append([record.id for record in records])

    def take(self, lines: int, *, size: int = 20, kind: str = "function") -> None:
        """Let a body of `lines` lines arrive."""
        self.number += 1
        minute, ms = divmod(self.number, 60_000)
        items = [
            {
                "time": f"2027-01-15T08:{minute:02}:{ms // 1000:02}.{ms % 1000:03}Z",
                "type": kind,
                "record": {"requestId": f"request {self.number}"} if kind.startswith("platform.") else "x" * size,
            }
            for _ in range(lines)
        ]
        self.process.intake.take(orjson.dumps(items), str(self.number))

    def kill(self) -> None:
        """End the process as kill -9 does, and start another one."""
        for name, worker in self.process.workers.items():
            self.dropped[name] += self.process.in_memory_alone(worker)
        self._close_books()
        self.process.die()
        self.process = Process(self)

    async def reset(self) -> None:
        """End the process by SHUTDOWN with reason `timeout`, and start another one."""
        for worker in self.process.workers.values():
            worker.expect_next_process()
        await self.end()
        self.process = Process(self)

    async def end(self) -> None:
        """End the process by SHUTDOWN."""
        await asyncio.gather(*(worker.drain(in_seconds(1.5)) for worker in self.process.workers.values()))
        assert all(worker.held == 0 for worker in self.process.workers.values())
        self.process.spool.close()
        self._close_books()
        self.process.die()

    def _close_books(self) -> None:
        self.check()
        for name, worker in self.process.workers.items():
            dropped = worker.statement().dropped
            self.dropped[name] += sum(dropped.values())
            self.reasons.update({str(reason): count for reason, count in dropped.items()})

    def check(self) -> None:
        """The ledger's law, and the bounds of memory."""
        for worker in self.process.workers.values():
            assert worker.statement().is_balanced(), worker.statement()
            buffer = worker._queue._buffer
            assert len(buffer) <= self.capacity.max_records
            assert buffer.size_bytes <= self.capacity.max_bytes
        assert self.process.counts.is_balanced()


class Process:
    """One generation of the extension."""

    def __init__(self, environment: World) -> None:
        self._store = Mortal(environment.open_store())
        self.counts = IntakeCounts()
        self.pending: list[Callable[[], None]] = []
        log = environment.lines.log
        self.spool = Spool(
            self._store,
            owner=OWNER,
            sinks=list(environment.backends),
            max_bytes=environment.max_bytes,
            clock=environment.clock,
            log=log,
        )
        self.spool.recover()
        self.lines = {name: Line(backend) for name, backend in environment.backends.items()}
        spills = environment.capacity.when_full is WhenFull.SPILL
        self.backlogs = {name: Backlog(self.spool, name, ORIGIN) for name in environment.backends if spills}
        self.workers = {
            name: Worker(
                ListSink(name=name),
                self.lines[name],
                capacity=environment.capacity,
                clock=environment.clock,
                log=log,
                backlog=self.backlogs.get(name),
            )
            for name in environment.backends
        }
        self.enricher = Enricher(ORIGIN)
        self.intake = Intake(
            enricher=self.enricher,
            router=Router(("platform", "function"), [environment, *self.workers.values()], self.counts),
            counts=self.counts,
            on_events=lambda records: None,
            clock=environment.clock,
            log=log,
            spool=self.spool,
            soon=None if environment.is_strict else self.pending.append,
        )
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(worker.run()) for worker in self.workers.values()]

    def answer(self) -> None:
        """Do what is left for when the answer has gone out."""
        pending, self.pending[:] = self.pending[:], []
        for work in pending:
            work()

    async def flush(self, seconds: float = 1.0) -> None:
        deadline = in_seconds(seconds)
        await asyncio.gather(*(worker.flush(answered_by(deadline)) for worker in self.workers.values()))

    def in_memory_alone(self, worker: Worker) -> int:
        """Count what a kill would take: records whose body had to leave a full spool, or never was there."""
        backlog = self.backlogs.get(worker.name)
        if backlog is None:
            return worker.held
        encoded = [one.record for piece in worker._delivery.outstanding.pieces for one in piece]
        packer = worker._packer
        spare = [one.record for one in [*packer._open.records, *([packer._spare] if packer._spare else [])]]
        return sum(not backlog.keeps(record) for record in [*encoded, *spare, *worker._queue._buffer])

    def die(self) -> None:
        if not self._store.is_dead and hasattr(self._store, "close"):
            self._store.close()  # as the kernel does
        self._store.is_dead = True
        for line in self.lines.values():
            line.is_dead = True
        for task in self._tasks:
            task.cancel()
