"""The runtime's side of the Runtime API: which call is allowed when."""

import pytest

from local_lambda.rules.refusals import Refused
from local_lambda.rules.runtime import Call, Request, Runtime, clean_error_type


def call(name: str = "one") -> Call:
    return Call(request=Request(request_id=name, payload=b"{}"), deadline_ms=1, arn="arn")


def test_an_invocation_is_done_when_the_next_is_asked_for() -> None:
    runtime, one = Runtime(), call()
    runtime.ask_next()
    assert runtime.take() is None
    runtime.give(one)
    assert runtime.take() is one
    runtime.answer(runtime.check_open("one"), b"ok", 1.0)
    assert one.done_at is None
    runtime.ask_next()
    assert one.done_at is not None
    assert runtime.state == "Ready"


@pytest.mark.fidelity("4-next-again")
def test_asking_again_while_running_gives_the_same_invocation() -> None:
    runtime, one = Runtime(), call()
    runtime.give(one)
    runtime.ask_next()
    assert runtime.take() is one
    runtime.ask_next()
    assert runtime.has_work
    assert runtime.take() is one


@pytest.mark.fidelity("4-state", "4-unknown-request")
def test_a_wrong_or_second_answer_is_refused() -> None:
    runtime = Runtime()
    runtime.give(call())
    runtime.ask_next()
    runtime.take()
    with pytest.raises(Refused) as unknown:
        runtime.check_open("another")
    assert (unknown.value.status, unknown.value.error_type) == (400, "InvalidRequestID")
    runtime.fail(runtime.check_open("one"), b"{}", "Function.Bad")
    with pytest.raises(Refused) as twice:
        runtime.check_open("one")
    assert (twice.value.status, twice.value.error_type) == (403, "InvalidStateTransition")


def test_an_init_error_comes_before_the_first_next_or_not_at_all() -> None:
    failed = Runtime()
    failed.fail_init(b"{}", "Runtime.ImportModuleError")
    assert failed.init_error == ("Runtime.ImportModuleError", b"{}")
    with pytest.raises(Refused, match="InvalidStateTransition"):
        failed.ask_next()
    started = Runtime()
    started.ask_next()
    with pytest.raises(Refused, match="from Ready to InitError"):
        started.fail_init(b"{}", None)


@pytest.mark.fidelity("4-managed-next")
def test_concurrent_runtimes_hold_several_and_are_done_with_the_answer() -> None:
    runtime, one, two = Runtime(concurrent=True), call("one"), call("two")
    runtime.ask_next()
    runtime.ask_next()
    runtime.give(one)
    runtime.give(two)
    assert [runtime.take(), runtime.take(), runtime.take()] == [one, two, None]
    runtime.answer(runtime.check_open("two"), b"2", 1.0)
    assert two.done_at is not None
    assert one.done_at is None
    runtime.forget(one)
    with pytest.raises(Refused, match="410 InvokeTimeout"):  # late, and the environment lives on
        runtime.check_open("one")


@pytest.mark.fidelity("4-headers")
def test_headers_are_given_only_with_a_value() -> None:
    assert call().headers() == {
        "Lambda-Runtime-Aws-Request-Id": "one",
        "Lambda-Runtime-Deadline-Ms": "1",
        "Lambda-Runtime-Invoked-Function-Arn": "arn",
        "Content-Type": "application/json",
    }


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("Runtime.ImportModuleError", "Runtime.ImportModuleError"),
        ("Function.X1", "Function.Unknown"),
        ("ValueError", "Function.Unknown"),
        (None, "Function.Unknown"),
    ],
)
@pytest.mark.fidelity("4-error-type")
def test_an_error_type_has_the_documented_form(given: str | None, kept: str) -> None:
    assert clean_error_type(given, "Function.Unknown") == kept
