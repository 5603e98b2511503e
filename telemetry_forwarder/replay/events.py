"""What invokes the replay function, as values: messages of SQS, and batches of Step Functions. Pure.

A message holds an event of S3 (by S3 itself or by EventBridge), or records that the failover has put into it.

Sources, read 2026-11-28: Amazon S3 User Guide, "Event message structure" (keys are URL-encoded, as in a form; the major
version of the form changes with what is incompatible) and "EventBridge event message structure" (keys are as they are);
AWS Lambda Developer Guide, "Using Lambda with Amazon SQS"; AWS Step Functions Developer Guide, "ItemBatcher".
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

import orjson
from msgspec import Struct

_DIGEST = re.compile(r"[0-9a-f]{32}")
_S3_FORM = "2"  # the major version of S3's events


class NotUnderstood(ValueError):
    """An event or a message is none of those that this function knows; the text says what it is."""


class StoredObject(Struct, frozen=True):
    """An object in S3 that may hold records.

    Its version is not kept: an object's name has the digest of its content, so that all versions are the same.
    """

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class StoredMessage(Struct, frozen=True):
    """Records in a message: its body in base64, the sink that they are for, and the digest of their lines if known."""

    id: str
    body: str
    sink: str
    digest: str | None

    def __str__(self) -> str:
        return f"message {self.id}"


Stored = StoredObject | StoredMessage


class Message(Struct, frozen=True, kw_only=True):
    """A message of SQS: what it refers to, or why that is nothing (`is_idle`), or what is wrong with it (`fault`)."""

    id: str
    receipt: str
    queue_arn: str
    receives: int
    stored: tuple[Stored, ...] = ()
    is_idle: bool = False
    fault: str | None = None


def is_of_sqs(event: Any) -> bool:
    records = event.get("Records") if isinstance(event, dict) else None
    return isinstance(records, list) and all(
        isinstance(one, dict) and one.get("eventSource") == "aws:sqs" for one in records
    )


def messages_in(event: Mapping[str, Any]) -> list[Message]:
    """Return the messages of a batch of SQS."""
    return [_message(one) for one in event["Records"]]


def _message(record: Mapping[str, Any]) -> Message:
    count = str(record.get("attributes", {}).get("ApproximateReceiveCount", "1"))
    envelope = {
        "id": record["messageId"],
        "receipt": record.get("receiptHandle", ""),
        "queue_arn": record.get("eventSourceARN", ""),
        "receives": int(count) if count.isdecimal() else 1,
    }
    try:
        stored = _stored_in(record)
    except NotUnderstood as error:
        return Message(**envelope, fault=str(error))
    return Message(**envelope, stored=stored, is_idle=not stored)


def _stored_in(record: Mapping[str, Any]) -> tuple[Stored, ...]:
    """Return what a message refers to; nothing for one that asks for nothing. Raises NotUnderstood."""
    attributes = record.get("messageAttributes") or {}
    if _text(attributes, "encoding") == "base64-gzip-ndjson":
        digest = _text(attributes, "digest")
        known = digest if _DIGEST.fullmatch(digest) else None
        return (StoredMessage(record["messageId"], record["body"], _text(attributes, "sink"), known),)
    try:
        body = orjson.loads(record.get("body", ""))
    except orjson.JSONDecodeError:
        raise NotUnderstood("its body is not JSON, and it has not the attributes of the failover's") from None
    if not isinstance(body, dict):
        raise NotUnderstood(f"its body is {type(body).__name__} in JSON, where an event of S3 is an object")
    if body.get("Event") == "s3:TestEvent":  # sent once, when the bucket's notifications are set
        return ()
    if body.get("source") == "aws.s3":
        return _of_event_bridge(body)
    if isinstance(body.get("Records"), list):
        return tuple(found for one in body["Records"] for found in _of_s3(one))
    raise NotUnderstood(f"its body is no event of S3: its members are {_names(body)}")


def _of_s3(event: Any) -> tuple[StoredObject, ...]:
    try:
        source, form, name = event["eventSource"], str(event["eventVersion"]), event["eventName"]
        bucket, key = event["s3"]["bucket"]["name"], event["s3"]["object"]["key"]
    except (LookupError, TypeError):
        raise NotUnderstood("one of its records is no event of S3") from None
    if source != "aws:s3" or form.partition(".")[0] != _S3_FORM:
        raise NotUnderstood(f"it is an event of {str(source)[:40]} in version {form[:20]}, where aws:s3, 2.x is known")
    is_created = str(name).removeprefix("s3:").startswith("ObjectCreated")
    return (StoredObject(str(bucket), unquote_plus(str(key))),) if is_created else ()


def _of_event_bridge(event: Mapping[str, Any]) -> tuple[StoredObject, ...]:
    if event.get("detail-type") != "Object Created":
        return ()
    try:
        return (StoredObject(str(event["detail"]["bucket"]["name"]), str(event["detail"]["object"]["key"])),)
    except (LookupError, TypeError):
        raise NotUnderstood("it is an event of EventBridge that names no object") from None


def batch_of(event: Any) -> list[StoredObject]:
    """Return the objects of a batch of Step Functions. Raises NotUnderstood.

    `Items` are what ListObjectsV2 lists; `BatchInput` names the bucket.
    """
    try:
        bucket, items = event["BatchInput"]["Bucket"], event["Items"]
        return [StoredObject(str(bucket), str(one["Key"])) for one in items]
    except (LookupError, TypeError):
        what = f"an object with the members {_names(event)}" if isinstance(event, dict) else type(event).__name__
        raise NotUnderstood(
            f"The event is {what}. This function takes batches of SQS, and of Step Functions "
            '({"BatchInput": {"Bucket": …}, "Items": [{"Key": …}, …]}).'
        ) from None


def _text(attributes: Any, name: str) -> str:
    found = attributes.get(name) if isinstance(attributes, dict) else None
    value = found.get("stringValue") if isinstance(found, dict) else None
    return value if isinstance(value, str) else ""


def _names(members: Mapping[str, Any]) -> str:
    """Return the names of members, a few: values may be secret, and there may be many."""
    return ", ".join(str(name)[:40] for name in list(members)[:8]) or "none"
