"""Environments of a function, each with the extension's own lifecycle and worker, in virtual time.

What is real: the lifecycle and its machine, the queue, the batches, the windows, the retries, the pauses, the breaker,
the copies and the last window. What is not: the bytes, the network, and the freeze, in which no attempt begins, but an
answer that comes is read at once instead of after the thaw.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import quantiles
from typing import Literal, cast
from unittest import mock

from msgspec import Struct, field
from msgspec.structs import replace

from benchmarks.scale.backend import Backend, Bucket, Firehose, LinesSink
from telemetry_forwarder.delivery import breaker
from telemetry_forwarder.delivery.window import CLOSED
from telemetry_forwarder.delivery.worker import Capacity, Worker
from telemetry_forwarder.lambda_api.client import ExtensionsClient, Invoke, Shutdown
from telemetry_forwarder.ledger import IntakeCounts
from telemetry_forwarder.lifecycle.budget import Holding
from telemetry_forwarder.lifecycle.loop import Lifecycle
from telemetry_forwarder.lifecycle.machine import Machine
from telemetry_forwarder.lifecycle.strategy import Strategy
from telemetry_forwarder.log import Log
from telemetry_forwarder.records.record import Context, Event, Origin, Record
from telemetry_forwarder.testing.virtual_time import VirtualClock, clock, run
from telemetry_forwarder.turns import Turns

_CONTEXT = Context(Origin(function_name="orders"), "function", "8f5f0a4e-0d39-4f7e-b6f5-1f3b5f4b9a77")
_CAPACITY = Capacity(max_records=4096, max_bytes=4 * 1024 * 1024)
_LINES = 2  # of an invocation
_WORK_S = 0.2  # for which the function runs
_REPLAYING = 20  # functions at a time
_AFTERWARDS_S = 130.0  # for Firehose and the replay, when the last environment has ended


class Scene(Struct, frozen=True, kw_only=True):
    """What happens. Times are in seconds; `rate` and `queue_s` are the backend's, in requests and in seconds."""

    environments: int = 10_000
    every_s: float = 10.0  # between two invocations of an environment
    within_s: float = 10.0  # in which those of all environments come, of each `every_s`
    lasts_s: float = 120.0  # invocations come for so long
    ending: float = 0.3  # the share of environments that end meanwhile, each at a moment of its own
    idle_s: float = 60.0  # within which the others end behind that
    rate: float
    queue_s: float = 1.0
    ill_from: float = 0.0
    ill_until: float = 0.0


class Ways(Struct, frozen=True, kw_only=True):
    """What the extension does about it."""

    name: str
    has_jitter: bool = True
    has_breaker: bool = True
    has_failover: bool = True
    has_firehose: bool = False


AS_IT_IS = Ways(name="as it is")
WITHOUT_JITTER = Ways(name="without jitter", has_jitter=False)
WITHOUT_BREAKER = Ways(name="without breaker", has_breaker=False)
WITHOUT_FAILOVER = Ways(name="without failover", has_failover=False)
BY_FIREHOSE = Ways(name="through Firehose", has_firehose=True)


class Course(Struct, kw_only=True):
    """What came of it. The lists are by the second: requests that were refused, and records that have not arrived."""

    way: str
    made: int = 0
    delivered: int = 0
    requests: int = 0  # of the environments
    refusals: int = 0  # of these
    at_backend: int = 0  # requests that the backend took, of Firehose and of replay, too
    copies: int = 0
    lost: int = 0
    kept: int = 0  # in the bucket, before the replay
    objects: int = 0
    refused: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    there_s: float = 0.0  # after which half of the records were there
    there_99_s: float = 0.0
    held_ms: float = 0.0  # by which an invocation was longer, on average
    held_99_ms: float = 0.0


class _Environment:
    """One environment: invoked every so often, frozen between, ended once. It is the lifecycle's client, too."""

    def __init__(self, run: "_Run", number: int) -> None:
        scene, dice = run.scene, run.dice
        self._run, self._number = run, number
        self._clock = run.clock
        self._next_at = run.start + dice.uniform(0.0, scene.within_s)
        early, late = (0.0, scene.lasts_s), (scene.lasts_s, scene.lasts_s + scene.idle_s)
        self._ends_at = run.start + dice.uniform(*(early if dice.random() < scene.ending else late))
        self._count = 0
        self._done = asyncio.Event()
        self._done.set()
        self._done_at = 0.0
        turns = Turns(self._clock)
        log = Log("error", write=lambda line: None)
        bucket = run.bucket if run.ways.has_failover else None
        self._worker = Worker(
            LinesSink(), run.front, capacity=_CAPACITY, clock=self._clock, log=log, fallback=bucket, turns=turns
        )
        if not run.ways.has_breaker:
            self._worker._delivery.breaker = breaker.Breaker(self._clock, tolerated=1_000_000_000)
        machine = Machine(
            clock=self._clock,
            strategy=Strategy(),
            holding=Holding(),
            buffering_s=0.025,
            has_fallback=run.ways.has_failover,
        )
        self._lifecycle = Lifecycle(
            client=cast("ExtensionsClient", self), machine=machine, workers=[self._worker], counts=IntakeCounts(),
            clock=self._clock, log=log, turns=turns,
        )  # fmt: skip

    async def live(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._worker.run())
            self._tell("platform.initReport", None)
            await self._lifecycle.run()
        self._run.lost += self._worker.statement().lost

    async def next_event(self) -> Invoke | Shutdown:
        """Return the next event when Lambda has one; until then the environment is frozen once the function is done."""
        if self._count:
            await self._done.wait()
            self._run.held_s.append(self._clock.monotonic() - self._done_at)
        self._freeze()
        until = min(self._next_at, self._ends_at)
        await asyncio.sleep(max(0.0, until - self._clock.monotonic()))
        if self._count:
            self._tell("platform.report", self._request_id)
        if self._clock.monotonic() >= min(self._ends_at, self._run.start + self._run.scene.lasts_s):
            await asyncio.sleep(max(0.0, self._ends_at - self._clock.monotonic()))
            return Shutdown("spindown", self._clock.epoch_ms(2.0))
        self._count += 1
        self._next_at += self._run.scene.every_s
        self._done.clear()
        self._run.group.create_task(self._work())
        return Invoke(self._request_id, self._clock.epoch_ms(30.0))

    def _freeze(self) -> None:
        """Let nothing begin. A timer that falls due meanwhile is overdue at the thaw, when a new window is given."""
        self._worker._delivery.allow(CLOSED)
        if (timer := self._worker._timer._timer) is not None:
            timer.cancel()

    @property
    def _request_id(self) -> str:
        return f"{self._number}-{self._count}"

    async def _work(self) -> None:
        """Be the function for one invocation."""
        self._tell("platform.start", self._request_id)
        await asyncio.sleep(_WORK_S)
        self._run.made[self._run.backend.second] += _LINES
        self._worker.offer([self._record(index) for index in range(_LINES)])
        self._done_at = self._clock.monotonic()
        self._tell("platform.runtimeDone", self._request_id)
        self._done.set()

    def _record(self, index: int) -> Record:
        batch, now_ms = f"{self._request_id}-", self._clock.epoch_ms()
        return Record(
            batch=batch, index=index, time_ms=now_ms, body="line", fields=None, context=_CONTEXT, size_bytes=500
        )

    def _tell(self, type: str, request_id: str | None) -> None:
        self._lifecycle.on_events([Event(self._clock.epoch_ms(), type, request_id)])


class _Run:
    """One scene in one way."""

    def __init__(self, scene: Scene, ways: Ways, now: VirtualClock, group: asyncio.TaskGroup, seed: int) -> None:
        self.scene, self.ways, self.clock, self.group = scene, ways, now, group
        self.dice = random.Random(seed)  # noqa: S311 - the same course each time
        self.start = now.monotonic()
        self.backend = Backend(
            now, rate=scene.rate, queue_s=scene.queue_s, ill_from=scene.ill_from, ill_until=scene.ill_until
        )
        self.front = Firehose(now, self.backend) if ways.has_firehose else self.backend
        self.bucket = Bucket()
        self.made: Counter[int] = Counter()
        self.held_s: list[float] = []
        self.lost = 0

    async def play(self) -> None:
        background = [self.group.create_task(self.front.run())] if isinstance(self.front, Firehose) else []
        replaying = self.group.create_task(self.bucket.replay(self.backend, _REPLAYING))
        lives = [self.group.create_task(_Environment(self, number).live()) for number in range(self.scene.environments)]
        await asyncio.wait(lives)
        await asyncio.sleep(_AFTERWARDS_S)
        for task in (*background, replaying):
            task.cancel()


@contextmanager
def _without_jitter() -> Iterator[None]:
    """Let pauses be what they are before chance cuts them."""
    certain = mock.Mock(wraps=random)
    certain.uniform = lambda low, high: high
    with mock.patch.object(breaker, "random", certain):
        yield


def play(scene: Scene, ways: Ways, seed: int = 16) -> Course:
    """Return the course of `scene`, with what the extension does changed as `ways` says."""

    async def scenario() -> _Run:
        async with asyncio.TaskGroup() as group:
            course = _Run(scene, ways, clock(), group, seed)
            await course.play()
        return course

    if ways.has_jitter:
        played = run(scenario())
    else:
        with _without_jitter():
            played = run(scenario())
    return _course(played, ways)


def _course(played: _Run, ways: Ways) -> Course:
    seen, front = played.backend.seen, played.front.seen
    made, arrived, waiting = 0, 0, []
    last = max(seen.new, default=0)
    for second in range(last + 1):
        made, arrived = made + played.made[second], arrived + seen.new[second]
        waiting.append(made - arrived)
    ages, held = (quantiles(times, n=100) for times in (seen.ages_s, played.held_s))
    return Course(
        way=ways.name,
        made=played.made.total(),
        delivered=len(seen.stored),
        requests=front.taken.total() + front.refused.total(),
        refusals=front.refused.total(),
        at_backend=seen.taken.total(),
        copies=seen.copies,
        lost=played.lost,
        kept=sum(map(len, played.bucket.parcels)),
        objects=len(played.bucket.parcels),
        refused=[front.refused[second] for second in range(last + 1)],
        waiting=waiting,
        there_s=ages[49],
        there_99_s=ages[98],
        held_ms=1000 * sum(played.held_s) / len(played.held_s),
        held_99_ms=1000 * held[98],
    )


Name = Literal["outage", "limit", "herd"]
SCENES: dict[Name, Scene] = {
    # A minute of illness, of a backend that can take twice what comes.
    "outage": Scene(rate=2000.0, ill_from=20.0, ill_until=80.0),
    # A backend that takes 600 requests a second, where 1,000 invocations end.
    "limit": Scene(rate=600.0),
    # All are invoked within the same second: on the whole the backend could take three times what comes.
    "herd": Scene(rate=3000.0, within_s=1.0),
}
# The ways that make a difference in each.
WAYS: dict[Name, tuple[Ways, ...]] = {
    "outage": (AS_IT_IS, WITHOUT_JITTER, WITHOUT_BREAKER, WITHOUT_FAILOVER, BY_FIREHOSE),
    "limit": (AS_IT_IS, WITHOUT_JITTER, WITHOUT_BREAKER, WITHOUT_FAILOVER, BY_FIREHOSE),
    "herd": (AS_IT_IS, WITHOUT_JITTER, BY_FIREHOSE),
}


def scaled(scene: Scene, environments: int) -> Scene:
    """Return the scene with fewer environments, and a backend that is as much smaller."""
    return replace(scene, environments=environments, rate=scene.rate * environments / scene.environments)
