"""What a request asks for, and how an answer is told."""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.clock import Moment
from telemetry_forwarder.secrets.answers import Answer, Outcome, as_json
from telemetry_forwarder.secrets.names import Key
from telemetry_forwarder.secrets.routes import Form, Page, Question, Refused, question_of, render

ARN = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:db-AbCdEf"
GET = "/systemsmanager/parameters/get"
AT = Moment(0, 0)


def refusal(read: Callable[[Any], object], given: str | bytes) -> int | None:
    """Return the status with which `given` is refused, None where it is not. Anything else that is raised passes."""
    try:
        read(given)
    except Refused as refused:
        return refused.status
    return None


@pytest.mark.parametrize(
    ("target", "key", "form"),
    [
        ("/?name=/prod/db", Key("ssm", "/prod/db"), Form.VALUE),
        ("/?name=%2Fprod%2Fdb", Key("ssm", "/prod/db"), Form.VALUE),
        ("/?name=/a&version=3", Key("ssm", "/a", version="3"), Form.VALUE),
        ("/?name=/a&withDecryption=false", Key("ssm", "/a", decrypt=False), Form.VALUE),
        ("/?name=secretsmanager:api", Key("secretsmanager", "api"), Form.VALUE),
        (f"/?name={ARN}&versionStage=AWSPREVIOUS", Key("secretsmanager", ARN, stage="AWSPREVIOUS"), Form.VALUE),
        (f"{GET}?name=/a", Key("ssm", "/a", decrypt=False), Form.SERVICE),
        (f"{GET}/?name=/a&withDecryption=true", Key("ssm", "/a"), Form.SERVICE),
        (f"{GET}?name=/a&label=live&withDecryption=TRUE", Key("ssm", "/a", stage="live"), Form.SERVICE),
        (f"{GET}?name=/a&unknown=1", Key("ssm", "/a", decrypt=False), Form.SERVICE),
        (f"/secretsmanager/get?secretId={quote(ARN)}", Key("secretsmanager", ARN), Form.SERVICE),
        ("/secretsmanager/get?secretId=a+b", Key("secretsmanager", "a+b"), Form.SERVICE),
        ("/secretsmanager/get?secretId=a%2Bb", Key("secretsmanager", "a+b"), Form.SERVICE),
        ("/secretsmanager/get?secretId=x&versionId=v", Key("secretsmanager", "x", version="v"), Form.SERVICE),
        ("/?name=schl%C3%BCssel", Key("ssm", "schlüssel"), Form.VALUE),
    ],
)
def test_a_target_is_a_question(target: str, key: Key, form: Form) -> None:
    assert question_of(target) == Question(key, form, is_fresh=False)


def test_a_fetch_can_be_forced_and_pages_are_no_questions() -> None:
    asked = question_of("/?name=/a&refreshNow=true")
    assert isinstance(asked, Question)
    assert asked.is_fresh
    assert (question_of("/ping"), question_of("/stats")) == (Page.PING, Page.STATS)


@pytest.mark.parametrize(
    ("target", "status", "says"),
    [
        ("/", 400, "name is missing"),
        ("/?name=", 400, "name is missing"),
        ("/?nmae=/a", 400, "There is no parameter 'nmae'; allowed: name, "),
        ("/?name=/a&name=/b", 400, "name is given twice"),
        ("/?name=a%20b", 400, "no spaces"),
        ("/?name=%ff", 400, "not UTF-8"),
        ("/?name=" + "a" * 2049, 400, "1 to 2048"),
        ("/?name=arn:aws:s3:::x", 400, "ssm or secretsmanager"),
        ("/?name=/a&versionStage=x", 400, "for a secret only"),
        ("/?name=secretsmanager:a&label=x", 400, "for a parameter only"),
        (GET, 400, "name is missing"),
        (f"{GET}?name=/a&version=1&label=x", 400, "Either version or label"),
        (f"{GET}?name=/a&version=latest", 400, "whole number"),
        (f"{GET}?name=/a&withDecryption=maybe", 400, "withDecryption is true or false"),
        ("/secretsmanager/get?name=x", 400, "secretId is missing"),
        ("/v2", 404, "/secretsmanager/get"),
        ("//x", 404, "no such route"),
    ],
)
def test_what_is_no_question_is_refused_with_a_reason(target: str, status: int, says: str) -> None:
    with pytest.raises(Refused, match=says) as caught:
        question_of(target)
    assert caught.value.status == status


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=100))
def test_any_target_is_a_question_or_refused(rest: str) -> None:
    for start in ("/?name=", "/?", "/", GET + "?"):
        assert refusal(question_of, start + rest) in (None, 400, 404)


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Outcome.NOT_FOUND, 404),
        (Outcome.DENIED, 403),
        (Outcome.BAD_CREDENTIALS, 403),
        (Outcome.INVALID, 400),
        (Outcome.BUSY, 429),
        (Outcome.TIMED_OUT, 504),
        (Outcome.THROTTLED, 500),
        (Outcome.UNAVAILABLE, 500),
        (Outcome.FAILED, 500),
    ],
)
def test_each_outcome_has_its_status_and_the_services_own_words_pass(outcome: Outcome, status: int) -> None:
    answer = Answer(outcome, AT, 400, b'{"__type":"X"}', "what happened")
    assert render(answer, Form.VALUE) == (status, b'{"error":"what happened"}')
    assert render(answer, Form.SERVICE) == (400, b'{"__type":"X"}')
    assert render(Answer(outcome, AT, message="what happened"), Form.SERVICE) == (status, b'{"error":"what happened"}')


@pytest.mark.parametrize("value", ["plain", '{"json": ["ü", 1e3]}', "日本\u2028\x00\U0001f511", "x" * 65536, " \n", ""])
def test_a_value_is_told_exactly(value: str) -> None:
    for body in ({"Parameter": {"Value": value}}, {"SecretString": value, "SecretBinary": None}):
        answer = Answer(Outcome.FOUND, AT, 200, json.dumps(body).encode())
        status, told_body = render(answer, Form.VALUE)
        assert (status, json.loads(told_body)) == (200, {"value": value})
        assert render(answer, Form.SERVICE) == (200, answer.body)


def test_half_a_surrogate_pair_is_told_too() -> None:
    answer = Answer(Outcome.FOUND, AT, 200, b'{"SecretString":"\\ud83d"}')
    assert json.loads(render(answer, Form.VALUE)[1]) == {"value": "\ud83d"}


def test_a_binary_secret_is_told_in_base64_and_marked() -> None:
    answer = Answer(Outcome.FOUND, AT, 200, b'{"SecretBinary":"AAH/"}')
    assert json.loads(render(answer, Form.VALUE)[1]) == {"value": "AAH/", "encoding": "base64"}


def test_an_answer_takes_no_more_memory_than_its_size_says() -> None:
    """The bound of the cache is the sum of these sizes."""

    def answer() -> Answer:
        found = Answer(Outcome.FOUND, AT, 200, as_json({"Parameter": {"Value": "v" * 300}}))
        found.value_json()
        return found

    answer()  # everything is loaded
    tracemalloc.start()
    try:
        answers = [answer() for _ in range(100)]
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < sum(each.size for each in answers)
