"""The transcript and what it asserts."""

import pytest

from local_lambda.transcript import Transcript

NEXT = "GET /2020-01-01/extension/event/next"
INVOKE = b'{"eventType":"INVOKE"}'
SHUTDOWN = b'{"eventType":"SHUTDOWN"}'


def transcript(*answers: tuple[int, bytes] | None, name: str = "mine") -> Transcript:
    written = Transcript()
    for answer in answers:
        entry = written.received(name, NEXT)
        if answer is not None:
            entry.close(*answer)
    return written


@pytest.mark.parametrize(
    "answers",
    [
        [None],
        [(200, INVOKE), None],
        [(200, INVOKE), (200, INVOKE), (200, SHUTDOWN)],
        [(200, SHUTDOWN)],
    ],
)
def test_once_at_init_and_once_after_each_invoke_passes(answers: list[tuple[int, bytes] | None]) -> None:
    transcript(*answers).assert_next_once_per_invocation()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([(200, INVOKE)], "asked for the next event 0 times"),
        ([(200, INVOKE), None, None], "asked for the next event 2 times"),
        ([None, (403, b"{}")], "was refused"),
        ([], "No extension ever asked"),
    ],
)
def test_anything_else_fails(answers: list[tuple[int, bytes] | None], words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        transcript(*answers).assert_next_once_per_invocation()


def test_a_long_body_is_shown_by_its_beginning() -> None:
    entry = Transcript().received("mine", NEXT)
    entry.close(200, b"x" * 1000)
    assert entry.answer == "x" * 200 + "… (1000 bytes)"
    assert "mine -> GET" in str(entry)
