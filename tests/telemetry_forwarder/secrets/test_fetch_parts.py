"""What the services' words mean, and which part of a list is whose."""

import json

import pytest

from telemetry_forwarder.clock import Moment
from telemetry_forwarder.secrets import fetch as fetching
from telemetry_forwarder.secrets.answers import Outcome
from telemetry_forwarder.secrets.fetch import batched, found, matched, pause
from telemetry_forwarder.secrets.meanings import in_time, meaning
from telemetry_forwarder.secrets.names import Key

AT = Moment(0, 0)
ARN = "arn:aws:ssm:eu-west-1:111122223333:parameter/prod/db"


def test_each_key_finds_its_own_part_of_a_list() -> None:
    keys = [
        Key("ssm", "/prod/db"),
        Key("ssm", "/prod/db", version="3"),
        Key("ssm", "/prod/db:live"),
        Key("ssm", ARN),
        Key("ssm", "/prod/other"),
    ]
    listed = {
        "Parameters": [
            {"Name": "/prod/db", "ARN": ARN, "Value": "third", "Selector": ":3"},
            {"Name": "/prod/db", "ARN": ARN, "Value": "labelled", "Selector": ":live"},
            {"Name": "/prod/db", "ARN": ARN, "Value": "newest"},
        ],
        "InvalidParameters": ["/prod/other"],
    }
    answers = {key: answer.value()[0] for key, answer in matched(keys, listed, AT).items()}
    assert answers == {keys[0]: "newest", keys[1]: "third", keys[2]: "labelled", keys[3]: "newest"}


def test_secrets_are_found_by_name_and_by_arn() -> None:
    keys = [Key("secretsmanager", "api"), Key("secretsmanager", "arn:x"), Key("secretsmanager", "missing")]
    listed = {
        "SecretValues": [{"Name": "api", "ARN": "arn:x", "SecretString": "v"}],
        "Errors": [{"SecretId": "missing"}],
    }
    answers = matched(keys, listed, AT)
    assert [answers[key].value() for key in keys[:2]] == [("v", False)] * 2
    assert keys[2] not in answers
    assert json.loads(answers[keys[0]].body) == listed["SecretValues"][0], "as GetSecretValue would have said it"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"Parameter": {}}', b'{"Parameter": 3}'])
def test_an_answer_without_a_value_is_no_answer(body: bytes) -> None:
    answer = found(Key("ssm", "/a"), body, AT)
    assert (answer.outcome, answer.body) == (Outcome.UNAVAILABLE, b"")


@pytest.mark.parametrize("kind", ["ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"])
def test_throttling_is_known_by_any_of_its_names(kind: str) -> None:
    assert meaning(Key("ssm", "/a"), kind)[0] is Outcome.THROTTLED


def test_what_is_not_known_passes() -> None:
    assert meaning(Key("ssm", "/a"), "SomethingNew") == (
        Outcome.UNAVAILABLE,
        "SSM parameter /a cannot be read now (SomethingNew).",
    )


def test_when_the_time_is_over_the_last_answer_tells_why() -> None:
    assert in_time(Key("ssm", "/a"), None, AT).message == "SSM parameter /a was not read in time."


def test_pauses_are_drawn_from_a_growing_range() -> None:
    """So that environments that started together do not come back together."""
    drawn = [[pause(attempt) for _ in range(200)] for attempt in range(8)]
    for attempt, pauses in enumerate(drawn):
        most = min(fetching.LONGEST_PAUSE_S, fetching.PAUSE_S * 2**attempt)
        assert 0 <= min(pauses) < 0.2 * most
        assert 0.8 * most < max(pauses) <= most


def test_batches_are_as_large_as_they_may_be() -> None:
    keys = [Key("ssm", f"/{number}") for number in range(21)]
    assert [len(batch) for batch in batched(keys, 10)] == [10, 10, 1]
    assert batched([], 10) == []
