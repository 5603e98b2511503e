"""The journal that many workers share: an object in S3 for each parcel, written on conditions.

    PREFIX/SINK-MARK/DIGEST.json    {"v": 1, "to": …, "by": …, "until": …, "sent": [[first, last], …], "done": …}

The mark is made of the destination's address. A worker claims a parcel by creating its object (`If-None-Match: *`), or
by writing it anew (`If-Match`) where another worker's claim is over: each is a single step of S3, so of any number of
workers one has it. A claim lasts `until` the end of that worker's invocation, when Lambda has ended it for certain; it
is given back earlier (0) when the invocation ends in order. So a worker that is killed blocks a parcel for the rest of
its invocation's time at most, and what it had noted is known to the next one.

Sources, read 2026-11-28: Amazon S3 User Guide, "How to prevent object overwrites with conditional writes" (412 if the
condition fails, 409 if another write is under way, 404 if there is no object to match); consistency: a read after a
write sees it.
"""

import asyncio
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import orjson
from msgspec import Struct, field

from telemetry_forwarder.clock import Clock
from telemetry_forwarder.errors import FailoverError, TransportError
from telemetry_forwarder.failover.parcels import NotReadable, word
from telemetry_forwarder.failover.s3_sqs import accepted
from telemetry_forwarder.replay.journal import InUse, JournalError, runs
from telemetry_forwarder.transports.aws_calls import SDK_ERRORS, call, translated
from telemetry_forwarder.variables.failover_target import S3Prefix

FORM = 1
# How much the clocks of two workers may differ, in seconds.
_SKEW_S = 2.0
_CONFLICTS = (409, 412)


class _Entry(Struct):
    """What is known of a parcel: lines that were sent, whether all is done, and the ETag of the object that says so."""

    etag: str
    sent: set[int] = field(default_factory=set)
    is_done: bool = False
    is_noted: bool = False  # something was noted since it was written
    has_claim: bool = True


class S3Journal:
    """A Journal in S3 for the destination `to`, of one worker, whose invocation ends at `ends_at` (epoch seconds)."""

    def __init__(self, client: Any, place: S3Prefix, to: str, *, by: str, ends_at: float, clock: Clock) -> None:
        self._client = client
        self._bucket = place.name
        mark = blake2b(to.encode(), digest_size=6).hexdigest()
        parts = (place.prefix, f"{word(to.partition(' ')[0])}-{mark}")
        self._folder = "/".join(part for part in parts if part)
        self._to = to
        self._by = by
        self._until_ms = int((ends_at + _SKEW_S) * 1000)
        self._clock = clock
        self._entries: dict[str, _Entry] = {}

    async def open(self, digest: str) -> None:
        if digest in self._entries:
            return
        new = _Entry("")
        response = await self._put(digest, new, {"IfNoneMatch": "*"})
        if response is not None:
            new.etag = response
            self._entries[digest] = new
            return
        found = await self._read(digest)
        if not found.is_done:
            etag = await self._put(digest, found, {"IfMatch": found.etag})
            if etag is None:  # another one was faster
                raise InUse(max(0.0, self._until_ms / 1000 - self._clock.time()))
            found.etag = etag
        self._entries[digest] = found

    def is_done(self, digest: str) -> bool:
        return digest in self._entries and self._entries[digest].is_done

    def sent(self, digest: str) -> frozenset[int]:
        return frozenset(self._entries[digest].sent) if digest in self._entries else frozenset()

    def note_sent(self, digest: str, numbers: Iterable[int]) -> None:
        entry = self._entries[digest]
        entry.sent.update(numbers)
        entry.is_noted = True

    def note_done(self, digest: str) -> None:
        entry = self._entries[digest]
        entry.is_done = entry.is_noted = True

    async def save(self) -> None:
        await self._write([digest for digest, entry in self._entries.items() if entry.is_noted])

    async def release(self) -> None:
        """Save what was noted, and give all claims back. Raises JournalError."""
        claimed = [(digest, entry) for digest, entry in self._entries.items() if entry.has_claim and not entry.is_done]
        for _, entry in claimed:
            entry.has_claim = False
        waiting = [digest for digest, entry in self._entries.items() if entry.is_noted]
        await self._write({*waiting, *[digest for digest, _ in claimed]})

    async def _write(self, digests: Iterable[str]) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._guarded(digest)) for digest in digests]
        failures = [failure for task in tasks if (failure := task.result()) is not None]
        if failures:
            raise failures[0]

    async def _guarded(self, digest: str) -> JournalError | None:
        """Write one entry; return an error, because a TaskGroup would wrap it and cancel the others."""
        entry = self._entries[digest]
        was_noted, entry.is_noted = entry.is_noted, False
        try:
            etag = await self._put(digest, entry, {"IfMatch": entry.etag})
            if etag is None:  # ours, and the answer to it was lost; or another's, if this one's clock is slow
                found = await self._read(digest, is_claimed=True)
                entry.is_done |= found.is_done
                etag = await self._put(digest, entry, {"IfMatch": found.etag})
            if etag is None:
                return JournalError(f"{self._name(digest)} is written by another worker at the same time.")
        except (InUse, NotReadable) as error:
            entry.is_noted = was_noted
            return JournalError(f"{self._name(digest)} was taken by another worker: {error}.")
        except JournalError as error:
            entry.is_noted = was_noted
            return error
        entry.etag = etag
        return None

    def _name(self, digest: str) -> str:
        return f"s3://{self._bucket}/{self._key(digest)}"

    def _key(self, digest: str) -> str:
        return f"{self._folder}/{digest}.json"

    async def _put(self, digest: str, entry: _Entry, condition: dict[str, str]) -> str | None:
        """Write an entry; return its new ETag, or None if the condition failed. Raises JournalError."""
        content: dict[str, Any] = {"v": FORM, "to": self._to, "by": self._by}
        if entry.is_done:
            content |= {"until": 0, "done": True}
        else:
            content |= {"until": self._until_ms if entry.has_claim else 0, "sent": runs(sorted(entry.sent))}
        where = {"Bucket": self._bucket, "Key": self._key(digest), "ContentType": "application/json"}
        try:
            response = await call(self._client, "put_object", {**where, "Body": orjson.dumps(content), **condition})
            if response.status in _CONFLICTS or response.error == "NoSuchKey":
                return None
            return str(accepted(response)["ETag"])
        except (FailoverError, TransportError, LookupError) as error:
            raise JournalError(f"{self._name(digest)} cannot be written: {error}.") from error

    async def _read(self, digest: str, *, is_claimed: bool = False) -> _Entry:
        """Return the entry of a parcel, as ours. Raises InUse if another worker has it, NotReadable, JournalError.

        With `is_claimed` it must have been ours before: that its claim is over does not make it so again.
        """
        try:
            response = await call(self._client, "get_object", {"Bucket": self._bucket, "Key": self._key(digest)})
            answer = accepted(response)
            async with answer["Body"] as body:
                data: bytes = await body.read()
        except SDK_ERRORS as error:
            raise JournalError(f"{self._name(digest)} cannot be read: {translated(error, 'S3')}.") from error
        except (FailoverError, TransportError) as error:
            raise JournalError(f"{self._name(digest)} cannot be read: {error}.") from error
        try:
            content = orjson.loads(data)
            if content["v"] != FORM or content["to"] != self._to:
                raise ValueError
            sent = {number for first, last in content.get("sent", ()) for number in range(first, last + 1)}
            left_s = content["until"] / 1000 - self._clock.time()
            is_ours, is_done = content["by"] == self._by, content.get("done") is True
        except (LookupError, TypeError, ValueError, AttributeError):
            what = f"{self._name(digest)} is no journal of {self._to}; if it is deleted, the parcel is sent anew"
            raise NotReadable(what) from None
        if not is_ours and not is_done and (left_s > 0 or is_claimed):
            raise InUse(max(0.0, left_s))
        return _Entry(str(answer["ETag"]), sent, is_done)
