"""Store undelivered records in S3 or SQS by a deadline, with retries, and log the result.

The AWS SDK is loaded in a thread when a sink first has trouble (`warm`), never at start. Loading takes some 0.2 s of a
whole processor, which is seconds for a small function with its share of one, and 10 to 20 MB.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from msgspec import Struct, field

from telemetry_forwarder.clock import Clock, Deadline
from telemetry_forwarder.delivery.breaker import backoff
from telemetry_forwarder.errors import ConfigError, FailoverError, TransportError
from telemetry_forwarder.failover.parcels import Packed, Parcel, Store, pack_messages, pack_objects
from telemetry_forwarder.log import Log, where
from telemetry_forwarder.records.record import Record
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.variables.failover_target import S3Prefix, SqsQueue

# The number of parcels of one sink that are sent at the same time.
_PARALLEL = 4
# An attempt may take this share of the remaining time, so that a hanging connection leaves time for a retry, but always
# at least LEAST_ATTEMPT_S.
_ATTEMPT_SHARE = 0.5
_LEAST_ATTEMPT_S = 0.2


OpenStore: TypeAlias = Callable[[], AbstractAsyncContextManager[Store]]


class _Job(Struct):
    """The state of one `store` call: the parcels to store for a sink, and the result so far."""

    sink: str
    packs: Iterator[Packed]
    deadline: Deadline
    stored: set[int] = field(default_factory=set)  # the `id()` of each stored record
    unfit: int = 0
    trouble: str = ""
    is_refused: bool = False


class Failover:
    """Store records that a sink did not accept in `place`. Works only while `run` is running.

    Tests pass `load` to replace the store.
    """

    def __init__(
        self,
        place: S3Prefix | SqsQueue,
        network: Network,
        *,
        clock: Clock,
        log: Log,
        load: Callable[[], Awaitable[OpenStore]] | None = None,
    ) -> None:
        self._place = place
        self._clock = clock
        self._log = log
        self._network = network
        self._load = load or self._load_in_thread
        self._wanted = asyncio.Event()
        self._opened = asyncio.Event()
        self._store: Store | None = None
        self._fault = ""
        self._has_failed = False
        self._told: set[str] = set()  # the sinks for which a warning about stored records was logged

    def warm(self) -> None:
        """Start loading the SDK, unless that has begun: records may have to be stored soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Wait until the place is first wanted, open it, and keep it open until cancelled."""
        await self._wanted.wait()
        try:
            open_store = await self._load()
            async with open_store() as self._store:
                self._opened.set()
                await asyncio.Event().wait()
        except ConfigError as error:
            self._fault = str(error).rstrip(".")
        except Exception as error:  # noqa: BLE001 - a failover bug must not stop the sinks
            self._fault = f"a bug ({type(error).__name__})"
            self._log.error("A bug kept the failover from being opened.", **where(error))
        self._opened.set()

    async def store(self, sink: str, records: Sequence[Record], deadline: Deadline) -> list[Record]:
        """Store `records` for `sink` by `deadline`; return those not known to be stored, in order. Never raises.

        A returned record may be stored nevertheless, if the answer was lost.
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
        except Exception as error:  # noqa: BLE001 - other sinks still have to store, and the ledger has to be written
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
            for _ in range(_PARALLEL):
                group.create_task(self._put_some(self._store, job))

    async def _put_some(self, store: Store, job: _Job) -> None:
        """Put parcels, one after the other, until there are no more. Several tasks run this and share the parcels."""
        for packed in job.packs:
            job.unfit += len(packed.unfit)
            if packed.parcel is not None and await self._put(store, packed.parcel, job):
                job.stored.update(map(id, packed.parcel.records))
            if job.is_refused:
                return

    async def _put(self, store: Store, parcel: Parcel, job: _Job) -> bool:
        """Try to put `parcel`; return True when it is stored, False when the store refuses for good.

        Retries without end: `store` cancels this at the deadline.
        """
        pauses = backoff(first=0.05, longest=0.5)
        while not job.is_refused:
            attempt_s = max(_LEAST_ATTEMPT_S, job.deadline.left(self._clock) * _ATTEMPT_SHARE)
            try:
                async with asyncio.timeout(attempt_s):
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
        say = self._log.info if self._has_failed else self._log.error  # one error is enough: the cause is likely shared
        say(f"TELEMETRY_FORWARDER_FAILOVER {self._place}: {left} records of sink {job.sink} not stored: {job.trouble}.")
        self._has_failed = True

    async def _load_in_thread(self) -> OpenStore:
        """Import the SDK and let it read its data in a thread, so that the event loop is not blocked."""
        return await asyncio.to_thread(_import_stores, self._place, self._network)


def _import_stores(place: S3Prefix | SqsQueue, network: Network) -> OpenStore:
    # Imported here because botocore is heavy.
    from telemetry_forwarder.failover.s3_sqs import loaded_session, open_store

    session = loaded_session(place)
    return lambda: open_store(place, network, lambda: session)
