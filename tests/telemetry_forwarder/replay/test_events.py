"""What invokes the replay function, in the forms that AWS sends, and in those that nobody should."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.replay.events import (
    Message,
    NotUnderstood,
    StoredMessage,
    StoredObject,
    batch_of,
    is_of_sqs,
    messages_in,
)


def of_s3(key: str = "kept/a.gz", **changes: Any) -> dict[str, Any]:
    """As in the S3 User Guide, "Event message structure"."""
    return {
        "eventVersion": "2.3",
        "eventSource": "aws:s3",
        "awsRegion": "eu-central-1",
        "eventTime": "2026-11-28T12:00:00.000Z",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "replay",
            "bucket": {"name": "b", "arn": "arn:aws:s3:::b"},
            "object": {"key": key, "size": 10, "eTag": "e", "versionId": "v", "sequencer": "0055AED6DCD90281E5"},
        },
    } | changes


def message(body: Any, **changes: Any) -> dict[str, Any]:
    return {
        "messageId": "m1",
        "receiptHandle": "r1",
        "body": body if isinstance(body, str) else json.dumps(body),
        "attributes": {"ApproximateReceiveCount": "3"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:q",
    } | changes


def read(body: Any, **changes: Any) -> Message:
    (found,) = messages_in({"Records": [message(body, **changes)]})
    return found


def test_event_of_s3_names_an_object_by_its_decoded_key() -> None:
    found = read({"Records": [of_s3("kept/a+b%2Bc/%C3%A4.gz")]})
    assert found.stored == (StoredObject("b", "kept/a b+c/ä.gz"),)
    assert (found.id, found.receipt, found.receives, found.fault) == ("m1", "r1", 3, None)
    assert found.queue_arn.endswith(":q")


def test_a_message_may_hold_several_events_and_those_of_deletions_ask_for_nothing() -> None:
    found = read({"Records": [of_s3("a"), of_s3("b", eventName="ObjectRemoved:Delete"), of_s3("c")]})
    assert [str(one) for one in found.stored] == ["s3://b/a", "s3://b/c"]
    assert not found.is_idle
    assert read({"Records": [of_s3("b", eventName="ObjectTagging:Put")]}).is_idle


def test_test_event_is_done_at_once() -> None:
    found = read({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"})
    assert (found.is_idle, found.fault) == (True, None)


def test_event_bridge_names_an_object_by_its_key_as_it_is() -> None:
    detail = {"version": "0", "bucket": {"name": "b"}, "object": {"key": "kept/a+b%2B.gz", "size": 1, "etag": "e"}}
    event = {"version": "0", "source": "aws.s3", "detail-type": "Object Created", "detail": detail}
    assert read(event).stored == (StoredObject("b", "kept/a+b%2B.gz"),)
    assert read({**event, "detail-type": "Object Deleted"}).is_idle
    assert "names no object" in str(read({**event, "detail": {}}).fault)


def test_message_of_the_failover_holds_its_records_itself() -> None:
    attributes = {
        "sink": {"stringValue": "splunk", "dataType": "String"},
        "digest": {"stringValue": "0" * 32, "dataType": "String"},
        "encoding": {"stringValue": "base64-gzip-ndjson", "dataType": "String"},
    }
    assert read("H4sI", messageAttributes=attributes).stored == (StoredMessage("m1", "H4sI", "splunk", "0" * 32),)
    attributes["digest"]["stringValue"] = "../../x"  # it becomes part of a key
    assert read("H4sI", messageAttributes=attributes).stored == (StoredMessage("m1", "H4sI", "splunk", None),)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("H4sI", "its body is not JSON"),
        ([1], "its body is list in JSON"),
        ({"secret": "hunter2", "b": 1}, "its members are secret, b"),
        ({"Records": [{"eventSource": "aws:ses"}]}, "one of its records is no event of S3"),
        ({"Records": [of_s3(eventVersion="3.0")]}, "an event of aws:s3 in version 3.0, where aws:s3, 2.x is known"),
        ({"Records": [of_s3(eventSource="ceph:s3")]}, "an event of ceph:s3"),
        ({"Records": ["x"]}, "one of its records is no event of S3"),
    ],
)
def test_other_messages_are_named_without_their_values(body: Any, said: str) -> None:
    found = read(body)
    assert said in str(found.fault)
    assert "hunter2" not in str(found.fault)
    assert (found.stored, found.is_idle) == ((), False)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(
    st.sampled_from(["Records", "eventSource", "s3", "source", "detail", "Event", "Items", "BatchInput"]) | st.text(), x
)))  # fmt: skip
def test_no_body_and_no_event_is_a_bug(value: Any) -> None:
    found = read(value)
    assert found.fault or found.is_idle or found.stored
    if not is_of_sqs(value):
        with contextlib.suppress(NotUnderstood):
            batch_of(value)


def test_batch_of_step_functions() -> None:
    items = [{"Key": "kept/a", "Size": 1, "Etag": '"e"', "LastModified": 1, "StorageClass": "STANDARD"}]
    event = {"BatchInput": {"Bucket": "b"}, "Items": items}
    assert not is_of_sqs(event)
    assert batch_of(event) == [StoredObject("b", "kept/a")]


def test_batches_of_sqs_are_known_by_their_records() -> None:
    assert is_of_sqs({"Records": [message("x")]})
    assert not is_of_sqs({"Records": [of_s3()]})
    assert not is_of_sqs({"Records": 1})
