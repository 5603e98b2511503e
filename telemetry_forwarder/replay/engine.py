"""One replay run: read parcels from a source, send their records through the extension's pipeline, note the results.

The sink, the transport, the worker and the ledger are the extension's own. A replay adds two things. It notes the
sink's verdicts in the journal, record by record, and the journal is saved before the next request is sent. And it
offers parcels to the worker only after those before them are settled, so the worker's buffer needs no limit and drops
nothing.
"""

import asyncio
import contextlib
import math
import sys
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from msgspec import Struct

from telemetry_forwarder.clock import Clock, Deadline
from telemetry_forwarder.delivery.window import NEVER, SendWindow
from telemetry_forwarder.delivery.worker import Capacity, Worker
from telemetry_forwarder.errors import ConnectFailed, FailoverError, FilteredOut, TransportError
from telemetry_forwarder.failover.parcels import NotReadable
from telemetry_forwarder.interfaces import (
    Batch,
    Cause,
    Delivered,
    Denied,
    Encoded,
    Limits,
    Partial,
    Sink,
    Transport,
    Verdict,
    is_preparing,
    step_of,
    warm,
)
from telemetry_forwarder.ledger import Statement
from telemetry_forwarder.log import Log
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.replay.content import Content, Placed, read
from telemetry_forwarder.replay.journal import InUse, Journal, JournalError
from telemetry_forwarder.replay.sources import Source, Waiting

# How long to wait for answers when a replay is interrupted. Records without an answer by then may arrive twice.
LAST_ANSWERS_S = 10.0
PAUSE_S = 0.25
# In effect for ever: `nudge` tells the worker when to send.
_LINGER_S = 3600.0


class Counts(Struct):
    """What a replay found, in numbers of parcels, lines and records."""

    parcels: int = 0
    done: int = 0  # parcels with nothing left to send
    removed: int = 0
    unreadable: int = 0  # parcels that could not be read at all
    in_use: int = 0  # parcels that another worker sends
    alien_lines: int = 0  # lines that are no records
    sent_before: int = 0  # records that an earlier replay sent; they are not offered again
    records: int = 0  # records that were read, including those sent before
    unreached: bool = False  # the replay ended before all parcels were read


class _NotingSink:
    """Wrap a sink: note each verdict in the journal, record by record, before the next request is made."""

    def __init__(self, sink: Sink[Any, Any], journal: Journal, on_delivered: Callable[[int], None]) -> None:
        self._sink = sink
        self._journal = journal
        self._on_delivered = on_delivered
        self.denied: str | None = None
        self.unnoted: JournalError | None = None  # why the last answer could not be noted

    @property
    def name(self) -> str:
        return self._sink.name

    @property
    def limits(self) -> Limits:
        return self._sink.limits

    def encode(self, record: Record) -> Encoded:
        """Return what the sink does. A record that the user wants not sent is noted, too: nothing is left to do."""
        try:
            return self._sink.encode(record)
        except FilteredOut:
            self._note([record])
            raise

    def request(self, batch: Batch) -> Any:
        return self._sink.request(batch)

    def verdict(self, batch: Batch, response: Any) -> Verdict:
        verdict = self._sink.verdict(batch, response)
        self._on_delivered(self._note(accepted(batch, verdict)))
        self.denied = verdict.detail if isinstance(verdict, Denied) else None
        return verdict

    def _note(self, records: Iterable[Record]) -> int:
        """Note in the journal that `records` are settled; return how many."""
        taken: dict[str, list[int]] = {}
        for record in records:
            if isinstance(record, Placed):
                taken.setdefault(record.parcel, []).append(record.number)
        try:
            for parcel, numbers in taken.items():
                self._journal.note_sent(parcel, numbers)
        except JournalError as error:  # the verdict stands; `Replay` reads this and stops
            self.unnoted = error
        return sum(map(len, taken.values()))


def accepted(batch: Batch, verdict: Verdict) -> list[Record]:
    """Return the records of `batch` that the destination has accepted."""
    if isinstance(verdict, Delivered):
        return [encoded.record for encoded in batch]
    if isinstance(verdict, Partial):
        others = {*verdict.retry, *verdict.rejected}
        return [encoded.record for index, encoded in enumerate(batch) if index not in others]
    return []


class _SavingTransport:
    """Wrap a transport: save the journal before each request, so that a process that is killed repeats one at most."""

    def __init__(self, inner: Transport[Any, Any], journal: Journal, stop: asyncio.Event) -> None:
        self._inner = inner
        self._journal = journal
        self._stop = stop
        self.unsaved: JournalError | None = None

    async def send(self, request: Any) -> Any:
        try:
            await self._journal.save()
        except JournalError as error:
            self.unsaved = error
            self._stop.set()
            raise ConnectFailed("the journal cannot be saved") from error
        return await self._inner.send(request)

    async def aclose(self) -> None:
        await self._inner.aclose()

    def waits_for(self) -> Cause | None:
        return step_of(self._inner)

    def is_preparing(self) -> bool:
        return is_preparing(self._inner)

    async def warm(self) -> None:
        await warm(self._inner)


class Replay:
    """One replay run. Set `stop` at any time to finish requests under way and begin nothing new.

    `say` gets sentences for people. The run ends if the destination accepts nothing for `patience_s` seconds. Parcels
    are sent together until they have `together_bytes`, since the end of an environment leaves many small ones.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink[Any, Any],
        transport: Transport[Any, Any],
        journal: Journal,
        *,
        clock: Clock,
        log: Log,
        say: Callable[[str], None],
        on_delivered: Callable[[int], None] = lambda count: None,
        patience_s: float = 60.0,
        last_answers_s: float = LAST_ANSWERS_S,
        together_bytes: int = 0,
        removes: bool = False,
    ) -> None:
        self.counts = Counts()
        self.stop = asyncio.Event()
        self.left_out: dict[str, NotReadable | InUse] = {}  # why nothing can be done about a parcel now, by its name
        self._source = source
        self._journal = journal
        self._clock = clock
        self._say = say
        self._patience_s = patience_s
        self._last_answers_s = last_answers_s
        self._together_bytes = together_bytes
        self._group: list[tuple[Waiting, Content]] = []  # parcels that were read, to be sent together
        self._removes = removes or not source.keeps
        self._sink = _NotingSink(sink, journal, on_delivered)
        self._transport = _SavingTransport(transport, journal, self.stop)
        everything = Capacity(max_records=sys.maxsize, max_bytes=sys.maxsize)
        self._worker = Worker(self._sink, self._transport, capacity=everything, clock=clock, log=log)

    @property
    def statement(self) -> Statement:
        """The sink's statement, as in the extension's ledger; `held` are records that were not accepted."""
        return self._worker.statement()

    @property
    def is_whole(self) -> bool:
        """Whether every record found was sent: nothing was lost, and nothing is left."""
        counts, statement = self.counts, self.statement
        is_settled = not (statement.held or statement.lost or counts.unreached)
        return is_settled and not (counts.unreadable or counts.alien_lines or counts.in_use)

    async def run(self, sink: str, on_parcel: Callable[[Waiting], None] = lambda waiting: None) -> None:
        """Send all records stored for `sink`.

        Raises FailoverError or TransportError if the source cannot be read, JournalError if the journal cannot be
        written.
        """
        failure: Exception | None = None
        async with asyncio.TaskGroup() as group:
            runner = group.create_task(self._worker.run())
            try:
                await self._replay_all(sink, on_parcel)
            except (FailoverError, TransportError, JournalError) as error:
                self.counts.unreached = True
                failure = error  # raised below, because a TaskGroup would wrap it in a group
            finally:
                runner.cancel()
        if failure is not None:
            raise failure

    async def _replay_all(self, sink: str, on_parcel: Callable[[Waiting], None]) -> None:
        async with contextlib.aclosing(self._source.waiting(sink)) as parcels:
            async for waiting in parcels:
                if self.stop.is_set():
                    self.counts.unreached = True
                    break
                await self._add(waiting)
                if sum(content.bytes for _, content in self._group) >= self._together_bytes:
                    await self._send_group()
                on_parcel(waiting)
        await self._send_group()

    async def _add(self, waiting: Waiting) -> None:
        """Read a parcel into the group, unless nothing is left to send of it."""
        self.counts.parcels += 1
        digest = waiting.digest
        try:
            if digest is not None and await self._is_done(digest):
                await self._finish(waiting)
                return
            content = await self._read(waiting)
            if content.digest != digest and await self._is_done(content.digest):
                await self._finish(waiting)
                return
        except (NotReadable, InUse) as error:
            if isinstance(error, InUse):
                self.counts.in_use += 1
            else:
                self.counts.unreadable += 1
            self.left_out[waiting.name] = error
            self._say(f"{waiting.name} is left out: {error}.")
            return
        self._group.append((waiting, content))

    async def _is_done(self, digest: str) -> bool:
        await self._journal.open(digest)
        return self._journal.is_done(digest)

    async def _send_group(self) -> None:
        """Send the records of the group that were not sent before, and finish the parcels of which nothing is left."""
        group, self._group = self._group, []
        if not group:
            return
        offered = set[str]()  # a standard queue may have a parcel twice
        for _, content in group:
            if content.digest not in offered:
                offered.add(content.digest)
                sent = self._journal.sent(content.digest)
                left = [record for record in content.records if record.number not in sent]
                self.counts.sent_before += len(content.records) - len(left)
                self._worker.offer(left)
        await self._send()
        finished = []
        for waiting, content in group:
            is_done = self._journal.is_done(content.digest)
            if is_done or len(self._journal.sent(content.digest)) >= content.lines:
                if not is_done:
                    self._journal.note_done(content.digest)
                finished.append(waiting)
            elif content.aliens and len(self._journal.sent(content.digest)) == len(content.records):
                self.left_out[waiting.name] = NotReadable(f"{len(content.aliens)} lines are no records")
        await self._journal.save()
        for waiting in finished:
            await self._finish(waiting)

    async def _finish(self, waiting: Waiting) -> None:
        """Count a parcel as done, and remove it if that is wanted."""
        self.counts.done += 1
        if not self._removes:
            return
        try:
            await waiting.remove()
            self.counts.removed += 1
        except (FailoverError, TransportError) as error:
            self._say(f"{waiting.name} was sent, but not removed: {error}.")

    async def _read(self, waiting: Waiting) -> Content:
        content = read(await waiting.fetch())
        if content.aliens:
            number, why = content.aliens[0]
            self._say(
                f"{waiting.name}: {len(content.aliens)} of {content.lines} lines are left out; the first is line "
                f"{number + 1}: {why}."
            )
        self.counts.alien_lines += len(content.aliens)
        self.counts.records += len(content.records)
        return content

    async def _send(self) -> None:
        """Send all held records; give up if the destination refuses them, or accepts nothing for `patience_s`."""
        self._worker.allow(SendWindow(linger=_LINGER_S))  # sending is always allowed: no freeze happens here
        taken_at = self._clock.monotonic()
        while (held := self._worker.held) and not self.stop.is_set():
            self._worker.nudge()
            await self._until_stopped(self._worker.wait_idle(), taken_at + self._patience_s)
            if (error := self._sink.unnoted or self._transport.unsaved) is not None:
                raise error  # the next replay would send all further records twice
            now = self._clock.monotonic()
            if self._worker.held < held:
                taken_at = now
            elif self._sink.denied:
                self._give_up(f"the destination refuses: {self._sink.denied}")
            elif now >= taken_at + self._patience_s:
                self._give_up(f"the destination has taken nothing for {self._patience_s:g} s")
            else:  # the destination gets a pause
                await self._until_stopped(asyncio.sleep(PAUSE_S), math.inf)
        if self._worker.held:
            await self._worker.flush(
                SendWindow(NEVER, answer_by=Deadline(self._clock.monotonic() + self._last_answers_s))
            )

    def _give_up(self, reason: str) -> None:
        self._say(f"The replay ends: {reason}. What is left stays where it is.")
        self.counts.unreached = True
        self.stop.set()

    async def _until_stopped(self, wait: Coroutine[Any, Any, Any], at: float) -> None:
        """Wait for `wait`, until the time `at` or until `stop` is set, whichever comes first."""
        async with asyncio.TaskGroup() as group:
            tasks = (group.create_task(wait), group.create_task(self.stop.wait()))
            timeout = None if at == math.inf else max(0.0, at - self._clock.monotonic())
            await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()


async def count(source: Source, sink: str, journal: Journal, say: Callable[[str], None]) -> Counts:
    """Read every parcel stored for `sink`, send nothing, and return the counts.

    Raises FailoverError or TransportError if the source cannot be read.
    """
    counts = Counts()
    async for waiting in source.waiting(sink):
        counts.parcels += 1
        try:
            content = read(await waiting.fetch())
        except NotReadable as error:
            counts.unreadable += 1
            say(f"{waiting.name} cannot be read: {error}.")
            continue
        await journal.open(content.digest)
        is_done = journal.is_done(content.digest)
        counts.done += is_done
        counts.records += len(content.records)
        counts.alien_lines += len(content.aliens)
        counts.sent_before += len(content.records) if is_done else len(journal.sent(content.digest))
    return counts
