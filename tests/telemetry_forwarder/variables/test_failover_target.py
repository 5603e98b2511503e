"""Which places for records are understood, and what is shown of one that is not."""

import pytest

from telemetry_forwarder.settings import Settings
from telemetry_forwarder.variables.failover_target import FailoverTarget, S3Prefix, SqsQueue
from telemetry_forwarder.variables.reading import read_all

NAME = "TELEMETRY_FORWARDER_FAILOVER"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("s3://logs", S3Prefix("logs")),
        ("S3://my.logs-1/", S3Prefix("my.logs-1")),
        ("s3://logs/a/b_c=1/", S3Prefix("logs", "a/b_c=1")),
        (
            "https://sqs.eu-central-1.amazonaws.com/123456789012/kept",
            SqsQueue("https://sqs.eu-central-1.amazonaws.com/123456789012/kept", "eu-central-1"),
        ),
        (
            "https://sqs.cn-north-1.amazonaws.com.cn/123456789012/kept.fifo",
            SqsQueue("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/kept.fifo", "cn-north-1"),
        ),
        ("http://127.0.0.1:4566/123456789012/kept", SqsQueue("http://127.0.0.1:4566/123456789012/kept")),
    ],
)
def test_buckets_and_queues_are_read(text: str, place: object) -> None:
    values = read_all({NAME: text})
    assert values[NAME] == place
    assert values.problems(None) == []


@pytest.mark.parametrize(
    "text",
    [
        "s3://", "s3://ab", "s3://Logs", "s3://logs-", "s3://.logs", "s3://a..b", "s3://lo_gs", "s3://" + "a" * 64,
        "s3://logs/a//b", "s3://logs/ä", "s3://logs/a b", "s3://logs/" + "a" * 513,
        "s4://logs", "logs", "https://example.com", "https://sqs.eu-central-1.amazonaws.com/kept",
        "https://sqs.eu-central-1.amazonaws.com/1234/kept", "https://sqs.eu-central-1.amazonaws.com/123456789012/",
        "https://sqs.eu-central-1.amazonaws.com/123456789012/a/b", "https://sqs.x.amazonaws.com/123456789012/.fifo",
        "https://sqs.x.amazonaws.com/123456789012/a.b", "https://sqs.x.amazonaws.com/123456789012/" + "a" * 81,
        "arn:aws:sqs:eu-central-1:123456789012:kept",
    ],
)  # fmt: skip
def test_anything_else_is_named_with_what_is_allowed(text: str) -> None:
    values = read_all({NAME: text})
    assert values[NAME] is None
    (problem,) = values.problems(None)
    assert str(problem).startswith(f"{NAME} is '{text[:20]}")
    assert FailoverTarget.allowed in str(problem)
    assert str(problem).endswith("It is left out.")


def test_a_password_in_a_queues_address_is_not_shown() -> None:
    problems = read_all({NAME: "https://user:sesame@sqs.eu-central-1.amazonaws.com/123456789012/kept"}).problems(None)
    assert "sesame" not in str(problems)


def test_settings_know_the_place_and_whatever_is_wrong_with_it() -> None:
    assert Settings.from_values(read_all({NAME: "s3://logs/a"})).failover == S3Prefix("logs", "a")
    assert Settings.from_values(read_all({})).failover is None
    settings = Settings.from_values(read_all({NAME: "somewhere"}))
    assert settings.failover is None
    assert [problem.variable for problem in settings.problems if problem.variable == NAME] == [NAME]


def test_places_are_written_as_they_are_given() -> None:
    assert str(S3Prefix("logs", "a/b")) == "s3://logs/a/b"
    assert str(S3Prefix("logs")) == "s3://logs"
    assert len({S3Prefix("logs"), S3Prefix("logs", ""), S3Prefix("logs", "a")}) == 2
    assert SqsQueue("https://sqs.x.amazonaws.com/123456789012/a.fifo").is_fifo
    assert len({SqsQueue("a", "r"), SqsQueue("a", "r"), SqsQueue("a")}) == 2
