"""What stands at the other end: a backend that takes so many requests a second, Firehose, and a bucket for failover.

A backend is a queue with one server. A request takes `1 / rate` seconds of it, and is answered when it is through.
While the queue is longer than `queue_s` seconds, further requests are answered 429 at once and take nothing. A client
that goes away does not take its request out of the queue: what it sends again is stored twice.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

from telemetry_forwarder.clock import Clock, Deadline
from telemetry_forwarder.interfaces import Batch, Delivered, Encoded, Limits, Retry, Verdict
from telemetry_forwarder.records.record import Record

# On the way there and back, in seconds: within a region.
_WAY_S = 0.010


class Seen:
    """What happened at a backend, by the second since the beginning, and which records it holds."""

    def __init__(self) -> None:
        self.taken: Counter[int] = Counter()
        self.refused: Counter[int] = Counter()
        self.stored: Counter[str] = Counter()
        self.new: Counter[int] = Counter()  # records that were not there before
        self.ages_s: list[float] = []  # of those, since they were made

    def store(self, records: Sequence[Record], second: int, now_s: float) -> None:
        for record in records:
            self.stored[record.id] += 1
            if self.stored[record.id] == 1:
                self.new[second] += 1
                self.ages_s.append(now_s - record.time_ms / 1000)

    @property
    def copies(self) -> int:
        """The number of records that are there more than once, each further time counted."""
        return self.stored.total() - len(self.stored)


class Backend:
    """A backend of `rate` requests a second. It answers 503 from `ill_from` to `ill_until`, in seconds."""

    def __init__(
        self, clock: Clock, *, rate: float, queue_s: float = 1.0, ill_from: float = 0.0, ill_until: float = 0.0
    ) -> None:
        self.seen = Seen()
        self._clock = clock
        self._start = self._free_at = clock.monotonic()
        self._request_s = 1 / rate
        self._queue_s = queue_s
        self._ill = (ill_from, ill_until)

    @property
    def second(self) -> int:
        return int(self._clock.monotonic() - self._start)

    async def send(self, request: Batch) -> Verdict:
        """Take the records of `request`, or refuse them; return the verdict that its answer means."""
        await asyncio.sleep(_WAY_S / 2)
        now = self._clock.monotonic()
        if self._ill[0] <= now - self._start < self._ill[1]:
            self.seen.refused[self.second] += 1
            await asyncio.sleep(_WAY_S / 2)
            return Retry(detail="HTTP 503")
        if self._free_at - now > self._queue_s:
            self.seen.refused[self.second] += 1
            await asyncio.sleep(_WAY_S / 2)
            return Retry(detail="HTTP 429")
        self._free_at = max(now, self._free_at) + self._request_s
        self.seen.taken[self.second] += 1
        self.seen.store([encoded.record for encoded in request], self.second, self._clock.time())
        await asyncio.sleep(self._free_at - now + _WAY_S / 2)
        return Delivered()

    async def aclose(self) -> None: ...


class Firehose(Backend):
    """A delivery stream in front of a backend. It takes more requests, keeps them, and sends them on in large ones.

    Quotas of a stream by direct PUT: 2,000 requests a second, in large regions. A buffer is sent on when it has a MiB
    or is 60 s old, and tried again for as long as the stream's retry duration says. Source: Amazon Data Firehose
    Developer Guide, "Quotas" and "Configure buffering hints"; read 2026-11-28.
    """

    def __init__(self, clock: Clock, behind: Backend, *, rate: float = 2000.0, buffer_s: float = 60.0) -> None:
        super().__init__(clock, rate=rate)
        self._behind = behind
        self._buffer_s = buffer_s
        self._waiting: list[Encoded] = []
        self._is_full = asyncio.Event()

    async def send(self, request: Batch) -> Verdict:
        verdict = await super().send(request)
        if isinstance(verdict, Delivered):
            self._waiting.extend(request)
            if len(self._waiting) >= _FIREHOSE_RECORDS:
                self._is_full.set()
        return verdict

    async def run(self) -> None:
        """Send on what waits, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._is_full.wait(), self._buffer_s)
                self._is_full.clear()
                waiting, self._waiting = self._waiting, []
                for first in range(0, len(waiting), _FIREHOSE_RECORDS):
                    group.create_task(self._send_on(waiting[first : first + _FIREHOSE_RECORDS]))

    async def _send_on(self, records: Sequence[Encoded]) -> None:
        if not isinstance(await self._behind.send(records), Delivered):
            asyncio.get_running_loop().call_later(_FIREHOSE_RETRY_S, lambda: self._waiting.extend(records))


_FIREHOSE_RETRY_S = 10.0
# About a MiB of records of 500 bytes.
_FIREHOSE_RECORDS = 2000


class Bucket:
    """Keeps what a sink did not take before its environment ended, and replays it by so many functions at a time."""

    def __init__(self) -> None:
        self.parcels: list[list[Record]] = []
        self._left: asyncio.Queue[list[Record]] = asyncio.Queue()

    def warm(self) -> None: ...

    async def store(self, sink: str, records: Sequence[Record], deadline: Deadline) -> list[Record]:
        await asyncio.sleep(2 * _WAY_S)
        self.parcels.append([*records])
        self._left.put_nowait(self.parcels[-1])
        return []

    async def replay(self, backend: Backend, functions: int) -> None:
        """Send every parcel soon after it was stored, `functions` at a time, until cancelled.

        A message that is refused comes back to the queue, and is seen again after its visibility timeout.
        """

        async def one() -> None:
            while True:
                parcel = await self._left.get()
                if not isinstance(await backend.send([Encoded(record, b"") for record in parcel]), Delivered):
                    asyncio.get_running_loop().call_later(_VISIBLE_AFTER_S, self._left.put_nowait, parcel)

        async with asyncio.TaskGroup() as group:
            for _ in range(functions):
                group.create_task(one())


# How long a message that was not done is hidden, in seconds.
_VISIBLE_AFTER_S = 30.0


class LinesSink:
    """The sink of the simulation: a record is 500 bytes, and a backend's answer is the verdict itself."""

    name = "lines"
    limits = Limits(max_records=1000, max_bytes=1_000_000, max_record_bytes=100_000)
    _data = b"x" * 500

    def encode(self, record: Record) -> Encoded:
        return Encoded(record, self._data)

    def encode_all(self, records: Sequence[Record]) -> list[Encoded]:
        return [Encoded(record, self._data) for record in records]

    def request(self, batch: Batch) -> Batch:
        return batch

    def verdict(self, batch: Batch, response: Verdict) -> Verdict:
        return response
