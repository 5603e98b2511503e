"""The cache of parameters and secrets: how long an answer is valid, when it is fetched, and what stands in for it.

| the entry's age                     | a caller gets                                                                 |
| below nine tenths of the TTL        | the entry                                                                     |
| above, below the TTL                | the entry; one fetch starts in the background, so that no caller waits for it |
| above the TTL                       | the answer of one fetch, which all callers share                              |
| above the TTL, and the fetch failed | the entry, marked, for at most `Policy.stale_s`; the fetch is repeated later  |

No clock is trusted alone (`Moment`). The age of an answer counts from its request: an answer that waited in a socket
during a freeze is old when it is read. Nothing here does I/O; background tasks are started by `spawn`.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import asdict

from telemetry_forwarder.clock import Clock, Moment
from telemetry_forwarder.secrets.answers import Answer, Outcome
from telemetry_forwarder.secrets.names import Key

# Fetches a key. It calls its second argument when an attempt has failed and another one follows.
Fetch: TypeAlias = Callable[[Key, Callable[[], None]], Awaitable[Answer]]
_FetchMany: TypeAlias = Callable[[Sequence[Key]], Awaitable[Mapping[Key, Answer]]]
Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], object]

# The last part of an entry's TTL, in which it is refreshed in the background; at most 30 s.
_REFRESH_SHARE = 0.1
_LONGEST_REFRESH_S = 30.0
# The longest wait for a silent service if there is a stale entry to give; a failed attempt ends the wait at once.
PATIENCE_S = 2.0
# After a failed fetch the stale entry is given without any wait for a random time in this range. It is random so that
# environments do not all ask at the same time.
PAUSE_S = (1.0, 5.0)
# A negative answer (not found, denied, invalid) is kept so long. Negatives are kept apart from the entries, so that
# wrong names never evict a right one.
NEGATIVE_S = 5.0
MOST_NEGATIVES = 256
# The most keys that are fetched at the same time; for one more the answer is BUSY.
MOST_FLIGHTS = 512
# An answer that is older than this and than its TTL when it comes was delayed by a freeze. It is fetched again, in at
# most ROUNDS rounds altogether.
_LONGEST_CALL_S = 8.0
ROUNDS = 3


class Policy(Struct, frozen=True, kw_only=True):
    """For how long entries are kept, and how many.

    `ttl_s` by service (0: nothing is kept). `stale_s` by service: how long after its TTL an entry may be given if a
    fetch fails. `flight_s`: longer than any fetch takes, unless a freeze came between.
    """

    ttl_s: Mapping[str, float]
    stale_s: Mapping[str, float]
    flight_s: float
    max_entries: int
    max_bytes: int


class Counts(Struct):
    """How often each thing has happened so far."""

    hits: int = 0
    misses: int = 0
    stale: int = 0
    negative: int = 0
    refreshes: int = 0  # fetches in the background before the TTL is over
    fetches: int = 0
    failures: int = 0
    evictions: int = 0


class _Flight(Struct):
    """One fetch that is under way; all callers that wait for the key share it."""

    began: Moment
    generation: int
    landed: asyncio.Future[Answer]
    trouble: asyncio.Future[None]  # set when an attempt has failed

    def on_trouble(self) -> None:
        if not self.trouble.done():
            self.trouble.set_result(None)


class Entry(Struct):
    answer: Answer
    ttl_s: float
    failed: Moment | None = None
    pause_s: float = 0.0

    @property
    def refresh_at_s(self) -> float:
        return self.ttl_s - min(self.ttl_s * _REFRESH_SHARE, _LONGEST_REFRESH_S)


class Cache:
    """Answers by key. For use in one event loop; nothing here is locked."""

    def __init__(self, fetch: Fetch, *, policy: Policy, clock: Clock, spawn: Spawn, keeps: bool = True) -> None:
        self.counts = Counts()
        self._fetch = fetch
        self._policy = policy
        self._clock = clock
        self._spawn = spawn
        self._keeps = keeps  # False: nothing is kept until `drop_all`, because a snapshot's answers are never given
        self._entries: OrderedDict[Key, Entry] = OrderedDict()
        self._bytes = 0
        self._negatives: OrderedDict[Key, Answer] = OrderedDict()
        self._flights: dict[Key, _Flight] = {}
        self._generation = 0

    # --- callers ---

    def hit(self, key: Key) -> Answer | None:
        """Return the valid cached answer for `key`, or None; start its refresh if that is due."""
        entry = self._entries.get(key)
        if entry is None:
            return self._known_missing(key)
        age = entry.answer.asked.age(self._clock)
        if age >= entry.ttl_s:
            return None
        self._entries.move_to_end(key)
        if age >= entry.refresh_at_s and self._may_refresh(key, entry):
            self.counts.refreshes += 1
            self._launch(key)
        self.counts.hits += 1
        return entry.answer

    async def get(self, key: Key, *, fresh: bool = False, takes_stale: bool = True) -> Answer:
        """Return an answer for `key`: cached, fetched or, if the service cannot be reached, stale (`takes_stale`).

        With `fresh` it is always fetched. Never raises. Callers that ask at the same time share one fetch.
        """
        if not fresh and (answer := self.hit(key)) is not None:
            return answer
        self.counts.misses += 1
        for _ in range(ROUNDS):
            spare = self._spare(key) if takes_stale else None
            if spare is not None and not fresh and self._is_pausing(spare):
                return self._given_stale(spare)
            if (flight := self._join(key, fresh=fresh)) is None:
                return Answer(Outcome.BUSY, Moment.now(self._clock), message="Too many keys are being fetched at once.")
            answer = await self._wait(flight, is_patient=fresh or spare is None)
            if answer is not None and (answer.outcome.is_final or not takes_stale):
                if self._is_of_now(key, flight, answer, fresh=fresh):
                    return answer
            elif takes_stale and (spare := self._spare(key)) is not None:
                return self._given_stale(spare)
            elif answer is not None:
                return answer
            else:
                break
        return Answer(Outcome.TIMED_OUT, Moment.now(self._clock), message=f"{key} could not be read in time.")

    async def prefetch(self, keys: Iterable[Key], fetch_many: _FetchMany) -> dict[Key, Answer]:
        """Fetch `keys` with one call of `fetch_many`; return the answers. Other callers of `get` wait for that call.

        Keys without an answer are then fetched one by one.
        """
        flights = {key: self._new_flight(key) for key in keys if key not in self._entries and key not in self._flights}
        try:
            found = await fetch_many(list(flights))
        except BaseException:
            for key, flight in flights.items():
                self._land(
                    key, flight, Answer(Outcome.FAILED, Moment.now(self._clock), message=f"{key} was not fetched.")
                )
            raise
        for key, flight in flights.items():
            if key in found:
                self._land(key, flight, found[key])
            else:
                self._spawn(self._fly(key, flight))
        return {key: await asyncio.shield(flight.landed) for key, flight in flights.items()}

    def put(self, key: Key, answer: Answer) -> None:
        """Keep an answer that was fetched in another way (with a path of parameters)."""
        if key not in self._flights:
            self._keep(key, answer)

    # --- the whole cache ---

    def drop_all(self) -> None:
        """Forget all answers, also those of fetches under way; keep answers from now on."""
        self._entries.clear()
        self._negatives.clear()
        self._flights.clear()
        self._bytes = 0
        self._generation += 1
        self._keeps = True

    def statistics(self) -> dict[str, Any]:
        """Return counts, sizes and the age of each entry in seconds; never a value."""
        counts = asdict(self.counts)
        ages = {str(key): round(entry.answer.asked.age(self._clock), 3) for key, entry in self._entries.items()}
        return {**counts, "entries": len(self._entries), "bytes": self._bytes, "ages": ages}

    # --- fetching ---

    def _join(self, key: Key, *, fresh: bool) -> _Flight | None:
        """Return the fetch to wait for; None if there are too many.

        A new one is started if none is under way, or if that one began before a freeze or is not `fresh` enough.
        """
        flight = self._flights.get(key)
        if flight is not None and not fresh and flight.began.age(self._clock) < self._policy.flight_s:
            return flight
        if flight is None and len(self._flights) >= MOST_FLIGHTS:
            return None
        return self._launch(key)

    def _launch(self, key: Key) -> _Flight:
        flight = self._new_flight(key)
        self._spawn(self._fly(key, flight))
        return flight

    def _new_flight(self, key: Key) -> _Flight:
        self.counts.fetches += 1
        loop = asyncio.get_running_loop()
        flight = _Flight(Moment.now(self._clock), self._generation, loop.create_future(), loop.create_future())
        self._flights[key] = flight
        return flight

    async def _fly(self, key: Key, flight: _Flight) -> None:
        answer = Answer(Outcome.FAILED, flight.began, message=f"{key} was not fetched to the end.")
        try:
            answer = await self._fetch(key, flight.on_trouble)
        finally:  # whatever happens, the waiting callers get an answer
            self._land(key, flight, answer)

    def _land(self, key: Key, flight: _Flight, answer: Answer) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
            self._keep(key, answer)
        if not answer.outcome.is_final:
            self.counts.failures += 1
        if not flight.landed.done():
            flight.landed.set_result(answer)

    async def _wait(self, flight: _Flight, *, is_patient: bool) -> Answer | None:
        """Wait for the answer of `flight`; return None if it takes too long.

        Without `is_patient`, it takes too long after PATIENCE_S, or when an attempt has failed.
        """
        if is_patient:
            await asyncio.wait([flight.landed], timeout=self._policy.flight_s)
        else:
            seconds = max(0.0, PATIENCE_S - flight.began.age(self._clock))
            either: tuple[asyncio.Future[Any], ...] = (flight.landed, flight.trouble)
            await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        return flight.landed.result() if flight.landed.done() else None

    def _is_of_now(self, key: Key, flight: _Flight, answer: Answer, *, fresh: bool) -> bool:
        """Return whether an answer is recent enough: not from before a restore or a long freeze."""
        longest = _LONGEST_CALL_S if fresh else max(_LONGEST_CALL_S, self._policy.ttl_s[key.service])
        return flight.generation == self._generation and answer.asked.age(self._clock) < longest

    def _may_refresh(self, key: Key, entry: Entry) -> bool:
        return key not in self._flights and len(self._flights) < MOST_FLIGHTS and not self._is_pausing(entry)

    # --- keeping ---

    def _keep(self, key: Key, answer: Answer) -> None:
        """Keep `answer` if it is final; else note that the fetch failed."""
        if answer.outcome.is_final:
            self._drop(key)
            if answer.is_found:
                self._store(key, answer)
            elif self._keeps and self._policy.ttl_s[key.service] > 0:
                self._negatives[key] = answer
                if len(self._negatives) > MOST_NEGATIVES:
                    self._negatives.popitem(last=False)
        elif (entry := self._entries.get(key)) is not None:
            entry.failed = Moment.now(self._clock)
            entry.pause_s = random.uniform(*PAUSE_S)  # noqa: S311 - jitter

    def _store(self, key: Key, answer: Answer) -> None:
        ttl_s = self._policy.ttl_s[key.service]
        if not self._keeps or ttl_s <= 0 or self._policy.max_entries < 1 or answer.size > self._policy.max_bytes:
            return
        self._entries[key] = Entry(answer, ttl_s)
        self._bytes += answer.size
        while len(self._entries) > self._policy.max_entries or self._bytes > self._policy.max_bytes:
            self._drop(next(iter(self._entries)))
            self.counts.evictions += 1

    def _drop(self, key: Key) -> None:
        self._negatives.pop(key, None)
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.answer.size

    def _known_missing(self, key: Key) -> Answer | None:
        answer = self._negatives.get(key)
        if answer is None or answer.asked.age(self._clock) >= NEGATIVE_S:
            return None
        self.counts.negative += 1
        return answer

    def _spare(self, key: Key) -> Entry | None:
        """Return the entry that may be given if a fetch fails; None if there is none, or it is too old."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.answer.asked.age(self._clock) >= entry.ttl_s + self._policy.stale_s[key.service]:
            self._drop(key)
            return None
        return entry

    def _is_pausing(self, entry: Entry) -> bool:
        return entry.failed is not None and entry.failed.age(self._clock) < entry.pause_s

    def _given_stale(self, entry: Entry) -> Answer:
        self.counts.stale += 1
        return entry.answer.given_stale(max(0.0, entry.answer.asked.age(self._clock) - entry.ttl_s))
