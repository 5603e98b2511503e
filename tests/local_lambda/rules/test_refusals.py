"""Refusals that AWS's emulator was seen to give, byte for byte."""

import pytest

from local_lambda.rules.extensions import Extensions, read_identifier
from local_lambda.rules.refusals import Refused
from local_lambda.rules.runtime import Call, Request, Runtime


def call() -> Call:
    return Call(request=Request(request_id="r-1", payload=b"{}"), deadline_ms=0, arn="arn")


def test_answer_that_comes_after_the_timeout_is_gone_on_managed_instances() -> None:
    """The environment lives on there, so its worker is told what became of the invocation."""
    runtime = Runtime(concurrent=True)
    late = call()
    runtime.give(late)
    assert runtime.take() is late
    runtime.forget(late)
    with pytest.raises(Refused) as refused:
        runtime.check_open(late.request.request_id)
    assert refused.value.status == 410
    assert refused.value.body == b'{"errorMessage":"Invoke timeout","errorType":"InvokeTimeout"}\n'


def test_answer_to_an_invocation_that_never_was_is_invalid() -> None:
    with pytest.raises(Refused) as refused:
        Runtime(concurrent=True).check_open("r-2")
    assert (refused.value.status, refused.value.error_type) == (400, "InvalidRequestID")


@pytest.mark.parametrize("event", ["INVOKE", "SHUTDOWN", "WAKE"])
def test_internal_extension_has_no_events_on_managed_instances(event: str) -> None:
    extensions = Extensions([], managed=True)
    with pytest.raises(Refused, match="No events allowed for internal extensions"):
        extensions.register("internal", b'{"events":["' + event.encode() + b'"]}')
    assert extensions.register("internal", b'{"events":[]}').is_registered


@pytest.mark.parametrize(("given", "text"), [(None, "Missing"), ("", "Missing"), ("no uuid", "Invalid")])
def test_identifier_is_there_and_a_uuid(given: str | None, text: str) -> None:
    with pytest.raises(Refused, match=text):
        read_identifier(given)
