"""Store parcels in S3 or SQS with the AWS SDK. Imported only when needed, because botocore is heavy.

Sources, read 2026-11-23: Amazon S3 API Reference, PutObject, and User Guide, "How to prevent object overwrites with
conditional writes" (412 if the object exists, 409 if another request is writing it); Amazon SQS API Reference,
SendMessage.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError
from botocore.handlers import add_expect_header

from telemetry_forwarder.aws_errors import Meaning, meaning_of, short
from telemetry_forwarder.errors import ConfigError, FailoverError
from telemetry_forwarder.failover.parcels import Parcel, Store, message_body, object_key, word
from telemetry_forwarder.interfaces import AwsResponse
from telemetry_forwarder.transports import aws_session
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.transports.aws import client_config
from telemetry_forwarder.transports.aws_calls import call
from telemetry_forwarder.transports.aws_session import new_session
from telemetry_forwarder.variables.failover_target import S3Prefix, SqsQueue

# Timeouts of one attempt. The caller retries and sets the deadline for all attempts.
CONNECT_S = 1.0
READ_S = 30.0

# Errors that may pass: those with one of these meanings or statuses, and any 5xx.
PASSING = (Meaning.THROTTLED, Meaning.BUSY)
_PASSING_STATUS = (408, 409, 425, 429)
_ALREADY_THERE = 412

# Hints for the operator: what the role lacks, or what is wrong with the bucket or queue.
_HINTS = {
    "AccessDenied": "allow s3:PutObject, or sqs:SendMessage, on it to the function's role, and its key's kms actions",
    "AllAccessDisabled": "the bucket's owner has closed it",
    "NoSuchBucket": "there is no such bucket",
    "PermanentRedirect": "the bucket is in another region",
    "NonExistentQueue": "there is no such queue in this region",
    "QueueDoesNotExist": "there is no such queue in this region",
}


# The SDK's data files that every client needs, besides those of its service.
_COMMON_DATA = ("partitions", "endpoints", "sdk-default-configuration", "_retry")


def loaded_session(place: S3Prefix | SqsQueue) -> AioSession:
    """Return a session that has read all data files for a client of `place`. Call it in a thread.

    It takes 50 ms of a processor, seven times as long as making the client, which must happen on the event loop.
    """
    session = new_session()
    loader = session.get_component("data_loader")
    for kind in ("service-2", "endpoint-rule-set-1"):
        # The loader caches by arguments, so these must be the ones that the SDK uses.
        loader.load_service_model("s3" if isinstance(place, S3Prefix) else "sqs", kind, api_version=None)
    for name in _COMMON_DATA:
        loader.load_data(name)
    return session


@asynccontextmanager
async def open_store(
    place: S3Prefix | SqsQueue, network: Network, session: Callable[[], AioSession] = new_session
) -> AsyncIterator[Store]:
    """Open `place` for storing; leaving the context closes its connections.

    Endpoint and credentials come from the variables that `aws_session` lists. Raises ConfigError if no client can be
    made from them.
    """
    async with open_client(place, network, session) as client:
        yield _ObjectStore(client, place) if isinstance(place, S3Prefix) else _MessageStore(client, place)


@asynccontextmanager
async def open_client(
    place: S3Prefix | SqsQueue,
    network: Network,
    session: Callable[[], AioSession] = new_session,
    *,
    attempts: int = 1,
) -> AsyncIterator[Any]:
    """Open the AWS client for `place`; it makes up to `attempts` attempts at each call. Raises ConfigError."""

    async def client_of(service: str, **more: Any) -> Any:
        own = AioConfig(retries={"mode": "standard", "total_max_attempts": attempts}, s3=more.pop("s3", None))
        config = client_config(network, connect_s=CONNECT_S, read_s=READ_S).merge(own)
        opening = aws_session.open_client(session(), service, network, config=config, **more)
        return await stack.enter_async_context(opening)

    async with AsyncExitStack() as stack:
        try:
            if isinstance(place, SqsQueue):
                endpoint_url = None if place.region else origin(place.url)
                client = await client_of("sqs", region=place.region, endpoint_url=endpoint_url)
            else:
                client = await client_of("s3")
                if not is_of_aws(client.meta.endpoint_url):
                    # S3-compatible services have no host name for each bucket.
                    client = await client_of("s3", s3={"addressing_style": "path"})
                # Else the SDK would wait for `100 Continue` before it sends the body, which costs a round trip.
                client.meta.events.unregister("before-call.s3", add_expect_header)
        except (BotoCoreError, ValueError) as error:
            service = "sqs" if isinstance(place, SqsQueue) else "s3"
            problem = aws_session.sdk_problem(error, service, "There is no failover without it.")
            raise ConfigError([problem]) from error
        yield client


def origin(url: str) -> str:
    """Return scheme, host and port of a queue's URL: the endpoint if it is not AWS's, which the SDK knows itself."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def is_of_aws(url: str) -> bool:
    return (urlsplit(url).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))


class _ObjectStore:
    """An S3 bucket as a Store: one object for each parcel, never overwritten."""

    def __init__(self, client: Any, bucket: S3Prefix) -> None:
        self._client = client
        self._bucket = bucket

    async def put(self, sink: str, parcel: Parcel) -> None:
        parameters = {
            "Bucket": self._bucket.name,
            "Key": object_key(self._bucket.prefix, sink, parcel),
            "Body": parcel.data,
            "ContentType": "application/gzip",
            "Metadata": {"records": str(len(parcel.records)), "sink": word(sink)},
            "IfNoneMatch": "*",
        }
        response = await call(self._client, "put_object", parameters)
        if response.status == _ALREADY_THERE:  # an earlier attempt succeeded, but its answer was lost
            return
        if not accepted(response).get("ETag"):
            raise FailoverError("what answered is not S3: it names no ETag; check AWS_ENDPOINT_URL_S3 and the proxy")


class _MessageStore:
    """An SQS queue as a Store: one message for each parcel.

    Messages are sent singly, because a batch may be no larger than one message. A FIFO queue drops a message that it
    got within the last five minutes; for other queues `replay` recognizes duplicates by their digest.
    """

    def __init__(self, client: Any, queue: SqsQueue) -> None:
        self._client = client
        self._queue = queue

    async def put(self, sink: str, parcel: Parcel) -> None:
        function = parcel.records[-1].origin.function_name
        parameters = {
            "QueueUrl": self._queue.url,
            "MessageBody": message_body(parcel),
            "MessageAttributes": {
                "sink": _text(word(sink)),
                "function": _text(word(function)),
                "digest": _text(parcel.digest),
                "encoding": _text("base64-gzip-ndjson"),
                "records": {"DataType": "Number", "StringValue": str(len(parcel.records))},
            },
        }
        if self._queue.is_fifo:
            # The sink is part of the id, because two sinks may store the same records. Each message has its own group,
            # so none has to wait for another.
            once = f"{parcel.digest}-{word(sink)[:90]}"
            parameters |= {"MessageGroupId": once, "MessageDeduplicationId": once}
        answer = await called(self._client, "send_message", parameters)
        if not answer.get("MessageId"):
            raise FailoverError("what answered is not SQS: it names no MessageId; check the queue's URL and the proxy")


def _text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


async def called(client: Any, operation: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Call `operation` and return its answer. Raises FailoverError for an error, TransportError if no answer came."""
    return accepted(await call(client, operation, parameters))


def accepted(response: AwsResponse) -> Mapping[str, Any]:
    """Return the members of a response. Raises FailoverError, with a hint, if it is an error."""
    if response.error is None:
        return response.body
    if response.is_unsent:
        raise FailoverError(response.message)
    kind, status = response.error, response.status
    hint = f"; {_HINTS[short(kind)]}" if short(kind) in _HINTS else ""
    may_pass = meaning_of(kind) in PASSING or status in _PASSING_STATUS or status >= 500
    raise FailoverError(f"{kind} (HTTP {status}){hint}", may_pass=may_pass)
