"""The building blocks of the unit tests: records, a small sink, a scripted transport, clocks and logs.

All of them are classes with behaviour; nothing is patched. `run` and `clock` are those of virtual time.
"""

import asyncio
import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from telemetry_forwarder.clock import Clock, Deadline, SystemClock
from telemetry_forwarder.delivery.window import SendWindow
from telemetry_forwarder.delivery.worker import Capacity, Worker
from telemetry_forwarder.errors import EncodeError, FilteredOut
from telemetry_forwarder.interfaces import Delivered, Encoded, Fallback, Limits, Verdict
from telemetry_forwarder.log import Log
from telemetry_forwarder.records.enrich import Enricher
from telemetry_forwarder.records.record import Context, Item, Origin, Record
from telemetry_forwarder.testing.virtual_time import VirtualClock, clock, freeze, run
from telemetry_forwarder.turns import Turns

__all__ = [
    "ORIGIN",
    "Bug",
    "Hang",
    "Lines",
    "ListSink",
    "ManualClock",
    "ScriptedTransport",
    "Slow",
    "VirtualClock",
    "World",
    "clock",
    "encoded",
    "encoded_list",
    "freeze",
    "in_seconds",
    "item",
    "limits",
    "record",
    "records",
    "request_id",
    "run",
    "watched",
]

ORIGIN = Origin(function_name="orders-worker")


def request_id(number: int) -> str:
    """Return a request id in Lambda's format."""
    return f"{number:08x}-8a51-4f0e-9c6b-2f1f6f0b7a11"


def item(kind: str, body: Any, *, time_ms: int = 1_800_000_000_000, size_bytes: int = 100) -> Item:
    return Item(kind, body, time_ms, size_bytes)


def record(
    body: Any = "hello",
    *,
    id: str = "r0",
    type: str = "function",
    time_ms: int = 1_800_001_000_000,
    request: str | None = None,
    size_bytes: int = 100,
) -> Record:
    return Record(
        batch=id,
        index=None,
        time_ms=time_ms,
        body=body,
        fields=body if isinstance(body, dict) else None,
        context=Context(ORIGIN, type, request),
        size_bytes=size_bytes,
    )


def records(count: int, *, prefix: str = "r", body: Any = "hello") -> list[Record]:
    return [record(body, id=f"{prefix}{number}") for number in range(count)]


def encoded(size_bytes: int = 10, *, time_ms: int = 1_800_001_000_000, id: str = "r0", is_cut: bool = False) -> Encoded:
    return Encoded(record(id=id, time_ms=time_ms), b"x" * size_bytes, is_cut)


def encoded_list(count: int) -> list[Encoded]:
    return [encoded(id=f"r{number}") for number in range(count)]


def limits(**changes: Any) -> Limits:
    return Limits(**{"max_records": 100, "max_bytes": 10_000, "max_record_bytes": 5_000, **changes})


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, monotonic: float = 1000.0, epoch: float = 1_800_000_000.0) -> None:
        self.now = monotonic
        self.epoch = epoch

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.epoch

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.epoch += seconds


class Lines:
    """Collects the extension's own log lines: `log` writes to it."""

    def __init__(self, level: str = "debug") -> None:
        self.written: list[dict[str, Any]] = []
        self.log = Log(level, self._keep)

    def _keep(self, line: str) -> None:
        self.written.append(orjson.loads(line))

    def said(self, word: str, level: str | None = None) -> int:
        """Return how many lines (of a level: DEBUG, INFO, WARN, ERROR) have `word` in their message."""
        return sum(word in line["message"] and level in (None, line["level"]) for line in self.written)


@dataclass(frozen=True, eq=False)
class Sent:
    """A request of `ListSink`. Compared by identity."""

    ids: tuple[str, ...]


@dataclass
class ListSink:
    """A sink whose requests are lists of record ids and whose responses are verdicts.

    Records with these bodies trigger its bugs: "inexpressible", "bug in encode", "nothing encoded", "bug in request".
    One with the body "not wanted" is filtered out. A response that is a `Bug` makes `verdict` raise.
    """

    name: str = "list"
    limits: Limits = field(default_factory=limits)
    requests: int = 0

    def encode(self, record: Record) -> Encoded:
        if record.body == "inexpressible":
            raise EncodeError("no words")
        if record.body == "not wanted":
            raise FilteredOut("by the user")
        if record.body == "bug in encode":
            raise KeyError("oops")
        if record.body == "nothing encoded":
            return None  # type: ignore[return-value]
        return Encoded(record, str(record.body).encode())

    def request(self, batch: Sequence[Encoded]) -> Sent:
        self.requests += 1
        if any(one.record.body == "bug in request" for one in batch):
            raise ZeroDivisionError("oops")
        return Sent(tuple(one.record.id for one in batch))

    def verdict(self, batch: Sequence[Encoded], response: Any) -> Verdict:
        if isinstance(response, Bug):
            raise LookupError("oops")
        answer: Verdict = response
        return answer


class WholeBatches(Enricher):
    """An Enricher that makes all records of a batch at once."""

    def enrich_all(self, items: Sequence[Item], batch: str, gaps: Sequence[int] = ()) -> list[Record]:
        return [record for some in self.enrich(items, batch, len(items) or 1, gaps) for record in some]


class Hang:
    """In a script: never answer."""


class Bug:
    """A response that the sink's `verdict` cannot read."""


@dataclass(frozen=True)
class Slow:
    """In a script: answer with `answer` after `seconds`."""

    seconds: float
    answer: Any = Delivered()  # noqa: RUF009 - frozen


class ScriptedTransport:
    """A transport that follows a script of answers, and at its end repeats `then`.

    An answer is a verdict or a response, an exception to raise, `Hang`, `Slow`, or a function that makes the answer of
    the request. `sent` holds (time, request); `open` is the number of requests waiting for an answer, `most_open` its
    maximum.
    """

    def __init__(self, *script: Any, then: Any = None, clock: Clock | None = None) -> None:
        self._script = list(script)
        self._then = Delivered() if then is None else then
        self._clock = clock or SystemClock()
        self.is_closed = False
        self.sent: list[tuple[float, Sent]] = []
        self.open = 0
        self.most_open = 0

    async def send(self, request: Sent) -> Any:
        self.sent.append((self._clock.monotonic(), request))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            answer = self._script.pop(0) if self._script else self._then
            return await self._play(answer(request) if inspect.isfunction(answer) else answer)
        finally:
            self.open -= 1

    async def _play(self, answer: Any) -> Any:
        if isinstance(answer, Hang):
            await asyncio.Event().wait()
        if isinstance(answer, Slow):
            await asyncio.sleep(answer.seconds)
            return await self._play(answer.answer)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def aclose(self) -> None:
        self.is_closed = True

    @property
    def requests(self) -> list[Any]:
        return [request for _, request in self.sent]

    @property
    def times(self) -> list[float]:
        """The time of each request, in seconds since the loop's start."""
        return [at - 1000.0 for at, _ in self.sent]

    @property
    def ids(self) -> list[tuple[str, ...]]:
        return [request.ids for _, request in self.sent]


def in_seconds(seconds: float) -> Deadline:
    return Deadline(clock().monotonic() + seconds)


def _raise_failure(task: asyncio.Task[Any]) -> None:
    """Raise what a task failed with as soon as it has, rather than judge what became of its not being there."""
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


@types.coroutine
def _watch(steps: Coroutine[Any, Any, Any], check: Callable[[], None]) -> Generator[Any, Any, Any]:
    step: Callable[[Any], Any] = steps.send
    argument: Any = None
    # Drive the coroutine by hand, so that `check` runs each time it is about to wait.
    while True:
        try:
            waited_for = step(argument)
        except StopIteration as stop:
            check()
            return stop.value
        check()
        try:
            step, argument = steps.send, (yield waited_for)
        except BaseException as error:  # noqa: BLE001 - passed on to the coroutine
            step, argument = steps.throw, error


async def watched(steps: Coroutine[Any, Any, Any], check: Callable[[], None]) -> Any:
    """Run a coroutine; call `check` at each of its await points and at its end."""
    return await _watch(steps, check)


class World:
    """A running worker on a scripted transport; its ledger is checked at each of its await points."""

    def __init__(
        self,
        *script: Any,
        then: Any = None,
        sink: ListSink | None = None,
        capacity: int = 10_000,
        fallback: Fallback | None = None,
        turns: Turns | None = None,
    ) -> None:
        self.clock = clock()
        self.lines = Lines()
        self.sink = sink or ListSink()
        self.transport = ScriptedTransport(*script, then=then, clock=self.clock)
        self.worker = Worker(
            self.sink,
            self.transport,
            capacity=Capacity(max_records=capacity, max_bytes=1_000_000),
            clock=self.clock,
            log=self.lines.log,
            fallback=fallback,
            turns=turns,
        )
        self.checks = 0
        self.runner: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> "World":
        self.runner = asyncio.get_running_loop().create_task(watched(self.worker.run(), self.check))
        self.runner.add_done_callback(_raise_failure)
        await asyncio.sleep(0)  # lets it start: a coroutine never started gives a warning
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.runner is not None:
            self.runner.cancel()
            await asyncio.wait([self.runner])
            if not self.runner.cancelled() and (error := self.runner.exception()):
                raise error

    def begin(self, until: Deadline) -> None:
        """Open the window of an invocation; records left over from the last one are sent at once."""
        self.worker.allow(SendWindow(until))
        self.worker.nudge(only_left_over=True)

    def check(self) -> None:
        """Assert the ledger's rule: the counts balance and none is negative."""
        self.checks += 1
        statement = self.worker.statement()
        assert statement.is_balanced(), statement
        assert (
            min(
                statement.offered,
                statement.delivered,
                statement.spilled,
                statement.held,
                *statement.dropped.values(),
                0,
            )
            == 0
        )

    @property
    def delivered(self) -> int:
        return self.worker.statement().delivered

    @property
    def dropped(self) -> dict[str, int]:
        return {str(reason): count for reason, count in self.worker.statement().dropped.items()}


async def gather(*waits: Awaitable[Any]) -> None:
    """Wait for all of `waits`."""
    await asyncio.gather(*waits)


def all_ids(batches: Iterable[tuple[str, ...]]) -> list[str]:
    return [one for batch in batches for one in batch]
