"""What is a token in what a secret holds, and that no error shows it."""

import traceback

import pytest

from telemetry_forwarder.clock import Moment
from telemetry_forwarder.errors import SecretNotFound
from telemetry_forwarder.secrets.answers import Answer, Outcome
from telemetry_forwarder.secrets.fetch import region_of
from telemetry_forwarder.secrets.tokens import token_in, token_of
from telemetry_forwarder.variables.types import SecretReference

ARN = "arn:aws:secretsmanager:eu-west-3:123456789012:secret:hec-AbCdEf"
WHOLE = SecretReference("secretsmanager", ARN)
MEMBER = SecretReference("secretsmanager", ARN, "token")


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        (WHOLE, "t0ken"),
        (WHOLE, "  t0ken\r\n"),
        (WHOLE, b"t0ken\n"),
        (MEMBER, '{"token": " t0ken ", "other": 1}'),
        (MEMBER, b'{"token": "t0ken"}'),
    ],
)
def test_the_token_is_found_and_stripped(reference, value):
    assert token_in(reference, value).reveal() == "t0ken"


@pytest.mark.parametrize(
    ("reference", "value", "says"),
    [
        (WHOLE, "", "does not hold"),
        (WHOLE, "hidden words", "does not hold"),
        (WHOLE, "hid\nden", "does not hold"),
        (WHOLE, b"\xff\xfehidden", "binary"),
        (WHOLE, '{"token": "hidden"}', "#member"),
        (SecretReference("ssm", "/a/b"), '{"token": "hidden"}', "store the token alone"),
        (MEMBER, "hidden", "not a JSON object"),
        (MEMBER, '{"token": "hidden"', "not a JSON object"),
        (MEMBER, '["hidden"]', "not a JSON object"),
        (MEMBER, '{"hidden": "hidden"}', "no such member"),
        (MEMBER, '{"token": {"hidden": 1}}', "not a string"),
        (MEMBER, '{"token": "hid den"}', "does not hold"),
        (MEMBER, "[" * 100_000, "not a JSON object"),
    ],
)
def test_what_is_no_token_is_said_without_a_word_of_it(reference, value, says):
    with pytest.raises(SecretNotFound, match=says) as caught:
        token_in(reference, value)
    assert reference.name in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    shown = "".join(traceback.format_exception_only(caught.value))
    assert "hid" not in shown
    assert "den" not in shown.replace("hec-AbCdEf", "")


def test_the_region_is_the_arns():
    assert region_of(ARN) == "eu-west-3"
    assert region_of("arn:aws:ssm:us-east-2:1:parameter/a/b") == "us-east-2"
    assert region_of("/a/b") is None
    assert region_of("name:1") is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"Parameter": {"Name": "n", "Value": "t0ken"}}',
        b'{"ARN": "a", "SecretString": "t0ken"}',
        b'{"ARN": "a", "SecretBinary": "dDBrZW4="}',
    ],
)
def test_the_token_is_found_in_the_services_own_answer(body):
    answer = Answer(Outcome.FOUND, Moment(0, 0), 200, body)
    assert token_of(WHOLE, answer).reveal() == "t0ken"
