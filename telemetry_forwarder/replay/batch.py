"""One invocation of the replay function: send what a batch refers to, sink by sink, within the invocation's time."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from msgspec import Struct

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.errors import FailoverError, TransportError
from telemetry_forwarder.failover.parcels import LARGEST_PARCEL_BYTES, NotReadable, from_message, sink_and_digest, word
from telemetry_forwarder.failover.s3_sqs import called
from telemetry_forwarder.interfaces import Destination, Transport
from telemetry_forwarder.ledger import Statement
from telemetry_forwarder.log import Log
from telemetry_forwarder.replay.destinations import target_of
from telemetry_forwarder.replay.engine import Counts, Replay
from telemetry_forwarder.replay.events import Stored, StoredMessage, StoredObject
from telemetry_forwarder.replay.journal import InUse, JournalError
from telemetry_forwarder.replay.s3_journal import S3Journal
from telemetry_forwarder.replay.sources import Waiting
from telemetry_forwarder.transports.addresses import host_port
from telemetry_forwarder.transports.aws_calls import SDK_ERRORS, call, translated
from telemetry_forwarder.variables.failover_target import S3Prefix

# The tag of an object that is done, for a lifecycle rule of the bucket.
TAG = {"Key": "telemetry-forwarder", "Value": "replayed"}
# Parcels are sent together up to this many bytes of lines: some requests' worth, and a few times that in memory.
_TOGETHER_BYTES = 4 * 1024 * 1024
_PATIENCE_S = 30.0


class WhenDone(StrEnum):
    """What becomes of an object when all of it was sent."""

    TAG = "tag"
    DELETE = "delete"
    KEEP = "keep"


class Outcome(StrEnum):
    """What came of a stored parcel."""

    DONE = "done"  # nothing is left to do
    LATER = "later"  # try again
    HOPELESS = "hopeless"  # trying again alone does not help: somebody has to look at it


class Result(Struct, frozen=True):
    """The outcome for one parcel; `free_in_s` is when another worker's claim to it ends, if there is one."""

    outcome: Outcome
    free_in_s: float | None = None


class Timing(Struct, frozen=True):
    """The time of an invocation: points on the monotonic clock, but for `lambda_ends_at` (epoch seconds)."""

    stop_at: float  # nothing is begun any more
    work_until: float  # no answer is waited for any more
    end_at: float  # nothing is noted any more
    last_answers_s: float
    patience_s: float  # for how long a destination may take nothing
    lambda_ends_at: float

    @classmethod
    def of(cls, remaining_s: float, clock: Clock) -> "Timing":
        """Divide the time that Lambda gives, backwards from its end: to report, to note, and to read last answers."""
        now = clock.monotonic()
        return cls(
            stop_at=now + remaining_s - min(15.0, 0.4 * remaining_s),
            work_until=now + remaining_s - min(4.0, 0.15 * remaining_s),
            end_at=now + remaining_s - min(2.0, 0.1 * remaining_s),
            last_answers_s=min(10.0, 0.2 * remaining_s),
            patience_s=min(_PATIENCE_S, 0.5 * remaining_s),
            lambda_ends_at=clock.time() + remaining_s,
        )


class Surroundings(Struct, frozen=True, kw_only=True):
    """What stays from one invocation to the next: the open sinks by their name in keys, and the client of S3."""

    sinks: Mapping[str, tuple[Destination[Any, Any], Transport[Any, Any]]]
    s3: Any
    state: S3Prefix
    when_done: WhenDone
    clock: Clock
    log: Log


class Totals(Struct):
    """The records of an invocation, over all sinks."""

    read: int = 0
    sent_before: int = 0
    delivered: int = 0
    lost: int = 0  # refused by the sink, or not to be expressed by it: they stay where they are

    def add(self, counts: Counts, statement: Statement) -> None:
        self.read += counts.records
        self.sent_before += counts.sent_before
        self.delivered += statement.delivered
        self.lost += statement.lost


class Batch:
    """The parcels of one invocation; `run` sends them, and then `results` has each."""

    def __init__(self, surroundings: Surroundings, stored: Sequence[Stored], timing: Timing, by: str) -> None:
        self.results: dict[Stored, Result] = dict.fromkeys(stored, Result(Outcome.LATER))
        self.totals = Totals()
        self._surroundings = surroundings
        self._timing = timing
        self._by = by
        self._say = surroundings.log.warning

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for sink, stored in self._by_sink().items():
                group.create_task(self._replay(sink, stored))

    def _by_sink(self) -> dict[str, list[tuple[Stored, str | None]]]:
        """Return what there is for each sink that is open here, with the digests that are known."""
        found: dict[str, list[tuple[Stored, str | None]]] = {}
        for stored in self.results:
            if isinstance(stored, StoredMessage):
                told: tuple[str, str | None] | None = (stored.sink, stored.digest)
            else:
                told = sink_and_digest(stored.key)
            if told is None:  # somebody else's object
                self._surroundings.log.debug(f"{stored} is left alone: the failover gives no such name.")
                self.results[stored] = Result(Outcome.DONE)
            else:
                found.setdefault(word(told[0]), []).append((stored, told[1]))
        for sink in found.keys() - self._surroundings.sinks.keys():
            unknown = found.pop(sink)
            self.results |= dict.fromkeys((stored for stored, _ in unknown), Result(Outcome.HOPELESS))
            open_here = ", ".join(sorted(self._surroundings.sinks)) or "none"
            self._surroundings.log.error(
                f"Parcels are kept for sink {sink}, and this function has only {open_here}. Give it that sink's "
                f"variables, then redrive. {len(unknown)} in this batch; the first is {unknown[0][0]}."
            )
        return found

    async def _replay(self, sink: str, stored: Sequence[tuple[Stored, str | None]]) -> None:
        timing, world = self._timing, self._surroundings
        destination, transport = world.sinks[sink]
        journal = S3Journal(
            world.s3, world.state, target_of(destination), by=self._by, ends_at=timing.lambda_ends_at, clock=world.clock
        )
        source = _Source([self._waiting(one, digest) for one, digest in stored])
        replay = Replay(
            source,
            destination.sink,
            transport,
            journal,
            clock=world.clock,
            log=world.log,
            say=self._say,
            patience_s=timing.patience_s,
            last_answers_s=timing.last_answers_s,
            together_bytes=_TOGETHER_BYTES,
        )
        stopping = asyncio.get_running_loop().call_at(timing.stop_at, replay.stop.set)
        for work, until in ((replay.run(sink), timing.work_until), (journal.release(), timing.end_at)):
            try:
                async with asyncio.timeout_at(until):
                    await work
            except TimeoutError:
                self._say(f"Sink {sink}: the invocation's time is over; what is left comes again.")
            except (JournalError, FailoverError, TransportError) as error:
                world.log.error(f"Sink {sink}: the replay ends: {error}")
        stopping.cancel()
        self.totals.add(replay.counts, replay.statement)
        for one, _ in stored:
            if self.results[one].outcome is Outcome.LATER:
                self.results[one] = _result(replay.left_out.get(str(one)))

    def _waiting(self, stored: Stored, digest: str | None) -> Waiting:
        if isinstance(stored, StoredMessage):
            body = stored.body

            async def read() -> bytes:
                return from_message(body)

            return Waiting(str(stored), digest, len(body), read, self._finishing(stored, _nothing))
        return Waiting(str(stored), digest, 0, self._fetching(stored), self._finishing(stored, self._mark(stored)))

    def _finishing(self, stored: Stored, mark: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def finish() -> None:
            await mark()
            self.results[stored] = Result(Outcome.DONE)

        return finish

    def _mark(self, stored: StoredObject) -> Callable[[], Awaitable[None]]:
        """Return what shows that an object is done, in the bucket."""
        s3, where = self._surroundings.s3, {"Bucket": stored.bucket, "Key": stored.key}

        async def tag() -> None:
            await called(s3, "put_object_tagging", {**where, "Tagging": {"TagSet": [TAG]}})

        async def delete() -> None:
            await called(s3, "delete_object", where)

        return {WhenDone.TAG: tag, WhenDone.DELETE: delete, WhenDone.KEEP: _nothing}[self._surroundings.when_done]

    def _fetching(self, stored: StoredObject) -> Callable[[], Awaitable[bytes]]:
        s3 = self._surroundings.s3

        async def fetch() -> bytes:
            try:
                answer = await call(s3, "get_object", {"Bucket": stored.bucket, "Key": stored.key})
                if answer.error is not None:
                    raise _fault(answer.error, answer.status)
                if (size := answer.body["ContentLength"]) > LARGEST_PARCEL_BYTES:
                    raise NotReadable(f"an object of {size} bytes")
                async with answer.body["Body"] as body:
                    data: bytes = await body.read()
            except SDK_ERRORS as error:
                raise _Unreachable(str(translated(error, host_port(s3.meta.endpoint_url)))) from error
            except TransportError as error:
                raise _Unreachable(str(error)) from error
            return data

        return fetch


class _Unreachable(NotReadable):
    """An object cannot be read now; the others may."""


class _Gone(NotReadable):
    """An object does not exist any more."""


def _fault(error: str, status: int) -> NotReadable:
    if error == "NoSuchKey":
        return _Gone("it is not there any more: it was deleted, by a lifecycle rule or by hand")
    hint = "; allow s3:GetObject on it to this function's role, and kms:Decrypt on its key" if status == 403 else ""
    return _Unreachable(f"{error} (HTTP {status}){hint}")


def _result(why: NotReadable | InUse | None) -> Result:
    """Return the result for a parcel that is not finished, by the reason for which it was left out, if it was."""
    if isinstance(why, _Gone):
        return Result(Outcome.DONE)
    if isinstance(why, InUse):
        return Result(Outcome.LATER, why.seconds)
    return Result(Outcome.LATER if why is None or isinstance(why, _Unreachable) else Outcome.HOPELESS)


class _Source:
    """The parcels of a batch, as a Source."""

    keeps = False

    def __init__(self, parcels: Sequence[Waiting]) -> None:
        self.others = 0
        self._parcels = parcels

    async def waiting(self, sink: str) -> AsyncGenerator[Waiting, None]:
        for parcel in self._parcels:
            yield parcel

    async def size(self, sink: str) -> tuple[int, int | None]:
        return len(self._parcels), None


async def _nothing() -> None:
    """Do nothing: the queue deletes its messages itself."""
