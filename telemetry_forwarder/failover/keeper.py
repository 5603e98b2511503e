"""Keeping records outside of the environment before it ends: when, in what time, and what is said of it.

The SDK that reaches S3 and SQS is loaded in a thread when a sink is first in trouble (`warm`), never at start: it takes
some 0.2 s of a whole processor, which is seconds of a small function's share, and 10 to 20 MB.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from telemetry_forwarder.clock import Clock, Deadline
from telemetry_forwarder.delivery.breaker import backoff
from telemetry_forwarder.errors import ConfigError, FailoverError, TransportError
from telemetry_forwarder.failover.parcels import Packed, Parcel, Store, pack_messages, pack_objects
from telemetry_forwarder.lazy_dataclass import dataclass, field
from telemetry_forwarder.log import Log, where
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.variables.failover_target import S3Prefix, SqsQueue

# How many parcels of one sink are under way at once.
PARALLEL = 4
# One attempt gets half of what is left, so that a connection that hangs leaves time for another, but never less.
ATTEMPT_SHARE = 0.5
LEAST_ATTEMPT_S = 0.2


OpenStore: TypeAlias = Callable[[], AbstractAsyncContextManager[Store]]


@dataclass(slots=True)
class _Job:
    """What is being stored for one sink, and how that goes."""

    sink: str
    packs: Iterator[Packed]
    deadline: Deadline
    stored: set[int] = field(default_factory=set)  # identities of the records
    unfit: int = 0
    trouble: str = ""
    is_refused: bool = False


class Failover:
    """The place where records go that a sink does not take. `run` has to be running.

    `region`, `ca_file` and `proxies` are what the AWS client is told; `load` gives what opens the place, for tests.
    """

    def __init__(
        self,
        place: S3Prefix | SqsQueue,
        *,
        clock: Clock,
        log: Log,
        region: str | None = None,
        ca_file: str | None = None,
        proxies: Mapping[str, str] | None = None,
        load: Callable[[], Awaitable[OpenStore]] | None = None,
    ) -> None:
        self._place = place
        self._clock = clock
        self._log = log
        self._region = region
        self._ca_file = ca_file
        self._proxies = proxies
        self._load = load or self._load_in_thread
        self._wanted = asyncio.Event()
        self._opened = asyncio.Event()
        self._store: Store | None = None
        self._fault = ""
        self._has_failed = False
        self._told: set[str] = set()  # the sinks of which it was said that records are kept

    def warm(self) -> None:
        """Begin to load what is needed, if that has not begun: records may have to be stored soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Open the place when it is first wanted, and keep it open until cancelled."""
        await self._wanted.wait()
        try:
            open_store = await self._load()
            async with open_store() as self._store:
                self._opened.set()
                await asyncio.Event().wait()
        except ConfigError as error:
            self._fault = str(error).rstrip(".")
        except Exception as error:  # noqa: BLE001 - the sinks must not suffer for it
            self._fault = f"a bug ({type(error).__name__})"
            self._log.error("A bug kept the failover from being opened.", **where(error))
        self._opened.set()

    async def store(self, sink: str, records: Sequence[Record], deadline: Deadline) -> list[Record]:
        """Store `records` for `sink`; return those that are not surely stored, in order. Never raises.

        Ends at `deadline` at the latest. What is returned may be stored all the same, where an answer was lost.
        """
        if not records:
            return []
        self._wanted.set()
        pack = pack_objects if isinstance(self._place, S3Prefix) else pack_messages
        job = _Job(sink, pack(records), deadline)
        try:
            async with asyncio.timeout_at(deadline.at):
                await self._opened.wait()
                await self._put_all(job)
        except TimeoutError:
            job.trouble = job.trouble or "the time was up"
        except Exception as error:  # noqa: BLE001 - this is the last chance of the others, and there is a ledger to write
            job.trouble = f"a bug ({type(error).__name__})"
            self._log.error("A bug in the failover.", **where(error))
        left = [record for record in records if id(record) not in job.stored]
        self._say(job, len(job.stored), len(left))
        return left

    async def _put_all(self, job: _Job) -> None:
        if self._store is None:
            job.trouble = self._fault
            return
        async with asyncio.TaskGroup() as group:
            for _ in range(PARALLEL):
                group.create_task(self._put_some(self._store, job))

    async def _put_some(self, store: Store, job: _Job) -> None:
        """Put parcels, one after the other, until there are no more; several of these share them."""
        for packed in job.packs:
            job.unfit += len(packed.unfit)
            if packed.parcel is not None and await self._put(store, packed.parcel, job):
                job.stored.update(map(id, packed.parcel.records))
            if job.is_refused:
                return

    async def _put(self, store: Store, parcel: Parcel, job: _Job) -> bool:
        """Put `parcel` until that succeeds (True) or is refused for good (False), or the job's time is up."""
        pauses = backoff(first=0.05, longest=0.5)
        while not job.is_refused:
            patience = max(LEAST_ATTEMPT_S, job.deadline.left(self._clock) * ATTEMPT_SHARE)
            try:
                async with asyncio.timeout(patience):
                    await store.put(job.sink, parcel)
                return True
            except TimeoutError:
                job.trouble = "no answer came in time"
            except TransportError as error:
                job.trouble = str(error)
            except FailoverError as error:
                job.trouble = str(error)
                if not error.may_pass:
                    job.is_refused = True
                    break
            await asyncio.sleep(next(pauses))
        return False

    def _say(self, job: _Job, stored: int, left: int) -> None:
        if stored:
            say = self._log.info if job.sink in self._told else self._log.warning
            self._told.add(job.sink)
            say(
                f"Sink {job.sink}: {stored} records were not delivered and are kept in {self._place}; "
                "`telemetry-forwarder replay` sends them."
            )
        if not left:
            return
        if job.unfit == left:
            job.trouble = "each is too large for it, or cannot be written as JSON"
        say = self._log.info if self._has_failed else self._log.error  # the same for each sink, most likely
        say(f"TELEMETRY_FORWARDER_FAILOVER {self._place}: {left} records of sink {job.sink} not stored: {job.trouble}.")
        self._has_failed = True

    async def _load_in_thread(self) -> OpenStore:
        """Import the SDK, and have it read its data, beside the event loop, which goes on meanwhile."""
        return await asyncio.to_thread(_import_stores, self._place, self._region, self._ca_file, self._proxies)


def _import_stores(
    place: S3Prefix | SqsQueue, region: str | None, ca_file: str | None, proxies: Mapping[str, str] | None
) -> OpenStore:
    # botocore only where it is needed
    from telemetry_forwarder.failover.s3_sqs import loaded_session, open_store

    session = loaded_session(place)
    return lambda: open_store(place, region=region, ca_file=ca_file, proxies=proxies, session=lambda: session)
