"""Read parcels for a replay: from the objects of an S3 bucket, or from the messages of an SQS queue.

Sources, read 2026-11-23: Amazon S3 API Reference, ListObjectsV2, GetObject, DeleteObject; Amazon SQS API Reference,
ReceiveMessage (a received message is hidden from others for the visibility timeout, and reappears after it).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from aiobotocore.session import AioSession
from msgspec import Struct

from telemetry_forwarder.errors import FailoverError, TransportError
from telemetry_forwarder.failover.parcels import (
    LARGEST_PARCEL_BYTES,
    SUFFIX,
    NotReadable,
    from_message,
    sink_and_digest,
    word,
)
from telemetry_forwarder.failover.s3_sqs import called, open_client
from telemetry_forwarder.transports.addresses import Network, host_port
from telemetry_forwarder.transports.aws_calls import SDK_ERRORS, translated
from telemetry_forwarder.variables.failover_target import S3Prefix, SqsQueue

# The SDK may retry here: a replay has no deadline, unlike the extension.
ATTEMPTS = 4
# The visibility timeout of a received message, in seconds: longer than sending its records takes.
_VISIBILITY_S = 900
# The seconds to wait for a message before the queue counts as empty. A poll without wait asks only some SQS servers.
_POLL_S = 2


class Waiting(Struct, frozen=True):
    """One stored parcel. `digest` is None if it is not known before the parcel is read."""

    name: str
    digest: str | None
    size_bytes: int
    fetch: Callable[[], Awaitable[bytes]]  # returns its bytes; raises FailoverError, TransportError, NotReadable
    remove: Callable[[], Awaitable[None]]  # deletes it; raises FailoverError, TransportError


class Source(Protocol):
    """A place that is open for reading."""

    others: int  # the number of objects or messages of other sinks or programs
    keeps: bool  # True: sent parcels may stay there. False: they must be removed, as a queue would deliver them again.

    def waiting(self, sink: str) -> AsyncGenerator[Waiting, None]:
        """Yield each parcel for `sink` once. Raises FailoverError or TransportError if the place cannot be read."""
        ...

    async def size(self, sink: str) -> tuple[int, int | None]:
        """Return the approximate number of parcels, and their size in bytes or None if it is not known."""
        ...


@asynccontextmanager
async def open_source(place: S3Prefix | SqsQueue, network: Network) -> AsyncIterator[Source]:
    """Open `place` for reading, with the AWS SDK's usual settings, profiles included.

    Raises ConfigError if no client can be made.
    """
    async with open_client(place, network, AioSession, attempts=ATTEMPTS) as client:
        yield Objects(client, place) if isinstance(place, S3Prefix) else Messages(client, place)


class Objects:
    """Read the objects of a bucket in order of their keys: those below a prefix, or the one object that it names."""

    keeps = True

    def __init__(self, client: Any, bucket: S3Prefix) -> None:
        self._client = client
        self._bucket = bucket
        self.others = 0

    async def waiting(self, sink: str) -> AsyncGenerator[Waiting, None]:
        self.others = 0
        async for one in self._list():
            told = sink_and_digest(one["Key"])
            if told is None or told[0] != word(sink):
                self.others += 1
            else:
                yield self._waiting(one["Key"], told[1], one["Size"])

    async def size(self, sink: str) -> tuple[int, int | None]:
        sizes = [one.size_bytes async for one in self.waiting(sink)]
        return len(sizes), sum(sizes)

    async def _list(self) -> AsyncIterator[Mapping[str, Any]]:
        prefix = self._bucket.prefix
        if prefix and not prefix.endswith(SUFFIX):
            prefix += "/"
        after: dict[str, str] = {}
        while True:
            where = {"Bucket": self._bucket.name, "Prefix": prefix}
            page = await called(self._client, "list_objects_v2", where | after)
            for one in page.get("Contents", ()):
                yield one
            if not page.get("IsTruncated"):
                return
            after = {"ContinuationToken": page["NextContinuationToken"]}

    def _waiting(self, key: str, digest: str, size_bytes: int) -> Waiting:
        where = {"Bucket": self._bucket.name, "Key": key}

        async def fetch() -> bytes:
            if size_bytes > LARGEST_PARCEL_BYTES:
                raise NotReadable(f"an object of {size_bytes} bytes")
            answer = await called(self._client, "get_object", where)
            try:
                async with answer["Body"] as body:
                    data: bytes = await body.read()
            except SDK_ERRORS as error:
                raise translated(error, host_port(self._client.meta.endpoint_url)) from error
            return data

        async def remove() -> None:
            await called(self._client, "delete_object", where)

        return Waiting(f"s3://{self._bucket.name}/{key}", digest, size_bytes, fetch, remove)


class Messages:
    """Read the messages of a queue until it is empty. Messages for other sinks are given back at the end."""

    keeps = False

    def __init__(self, client: Any, queue: SqsQueue) -> None:
        self._client = client
        self._queue = queue
        self.others = 0

    async def waiting(self, sink: str) -> AsyncGenerator[Waiting, None]:
        """Yield each message for `sink`. At the end, make messages that were not removed visible to others again."""
        received: dict[str, str] = {}  # receipt handles by message id
        try:
            while messages := await self._receive():
                if all(message["MessageId"] in received for message in messages):
                    return  # only messages that were seen before
                for message in messages:
                    if message["MessageId"] in received:
                        continue
                    received[message["MessageId"]] = message["ReceiptHandle"]
                    attributes = message.get("MessageAttributes", {})
                    if _text(attributes, "sink") != word(sink):
                        self.others += 1
                        continue
                    yield self._waiting(message, _text(attributes, "digest"), received)
        finally:
            for handle in received.values():
                await self._give_back(handle)

    async def size(self, sink: str) -> tuple[int, int | None]:
        name = "ApproximateNumberOfMessages"
        parameters = {"QueueUrl": self._queue.url, "AttributeNames": [name]}
        answer = await called(self._client, "get_queue_attributes", parameters)
        return int(answer["Attributes"][name]), None

    async def _receive(self) -> list[Mapping[str, Any]]:
        parameters = {
            "QueueUrl": self._queue.url,
            "MaxNumberOfMessages": 10,
            "MessageAttributeNames": ["All"],
            "VisibilityTimeout": _VISIBILITY_S,
            "WaitTimeSeconds": _POLL_S,
        }
        answer = await called(self._client, "receive_message", parameters)
        return list(answer.get("Messages", ()))

    async def _give_back(self, handle: str) -> None:
        parameters = {"QueueUrl": self._queue.url, "ReceiptHandle": handle, "VisibilityTimeout": 0}
        with suppress(FailoverError, TransportError):  # it reappears anyway after the visibility timeout
            await called(self._client, "change_message_visibility", parameters)

    def _waiting(self, message: Mapping[str, Any], digest: str | None, received: dict[str, str]) -> Waiting:
        body, number = message["Body"], message["MessageId"]

        async def fetch() -> bytes:
            return from_message(body)

        async def remove() -> None:
            parameters = {"QueueUrl": self._queue.url, "ReceiptHandle": message["ReceiptHandle"]}
            await called(self._client, "delete_message", parameters)
            received.pop(number, None)

        return Waiting(f"message {number} of {self._queue.url}", digest, len(body), fetch, remove)


def _text(attributes: Mapping[str, Any], name: str) -> str | None:
    value = attributes.get(name, {}).get("StringValue")
    return value if isinstance(value, str) else None
