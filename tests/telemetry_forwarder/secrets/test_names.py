"""What names stand for, and what patterns let through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.secrets.names import Key, is_allowed, key_of, prefetch_of

SECRET_ARN = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:db-AbCdEf"
PARAMETER_ARN = "arn:aws:ssm:eu-west-1:111122223333:parameter/prod/db"


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("/prod/db/pass", Key("ssm", "/prod/db/pass")),
        ("plain", Key("ssm", "plain")),
        ("/prod/db:3", Key("ssm", "/prod/db:3")),
        (PARAMETER_ARN, Key("ssm", PARAMETER_ARN)),
        (SECRET_ARN, Key("secretsmanager", SECRET_ARN)),
        ("secretsmanager:api/key+1@x", Key("secretsmanager", "api/key+1@x")),
        ("secretsmanager:" + SECRET_ARN, Key("secretsmanager", SECRET_ARN)),
        ("schlüssel", Key("ssm", "schlüssel")),
    ],
)
def test_a_name_says_of_which_service_it_is(name: str, key: Key) -> None:
    assert key_of(name) == key


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "x" * 2049, "secretsmanager:", "arn:aws:s3:::bucket", "arn:x"])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"a name has|an ARN is|a secret is named"):
        key_of(name)


def test_a_version_or_label_is_part_of_the_key() -> None:
    assert len({Key("ssm", "/a"), Key("ssm", "/a", version="3"), Key("ssm", "/a", stage="3"), Key("ssm", "/a")}) == 3
    assert Key("ssm", "/a", version="3").selected_name == "/a:3"
    assert str(Key("ssm", "/a", stage="live")) == "SSM parameter /a:live"


@pytest.mark.parametrize(
    ("name", "pattern", "is_let_through"),
    [
        ("/prod/db", "/prod/*", True),
        ("/prod/a/b", "/prod/*", True),
        ("/prod/db:3", "/prod/db", True),
        ("/production", "/prod/*", False),
        ("/PROD/db", "/prod/*", False),
        ("secretsmanager:api-key", "secretsmanager:api-*", True),
        ("secretsmanager:api-key", "api-*", False),
        ("secretsmanager:api-key", "*", True),
        (SECRET_ARN, "*", True),
        (SECRET_ARN, "arn:aws:secretsmanager:*:111122223333:secret:db-*", True),
        (SECRET_ARN, "secretsmanager:db*", False),
        (PARAMETER_ARN, "/prod/*", False),
        (PARAMETER_ARN + ":3", PARAMETER_ARN, True),
    ],
)
def test_a_pattern_is_written_as_the_name_is(name: str, pattern: str, is_let_through: bool) -> None:
    assert is_allowed(key_of(name), ("/other", pattern)) is is_let_through


def test_a_parameter_does_not_pose_as_a_secret() -> None:
    """`secretsmanager:api` can be asked of Parameter Store too: a parameter with a label."""
    assert not is_allowed(Key("ssm", "secretsmanager:api"), ("secretsmanager:api",))


def test_without_patterns_everything_and_with_none_of_them_nothing_is_allowed() -> None:
    assert is_allowed(Key("ssm", "/a"), None)
    assert not is_allowed(Key("ssm", "/a"), ())


def test_prefetch_sorts_keys_from_paths() -> None:
    wanted = prefetch_of(("/prod/db", "secretsmanager:api", "/prod/app/*", "/*", "/prod/db"))
    assert wanted.keys == (Key("ssm", "/prod/db"), Key("secretsmanager", "api"))
    assert wanted.paths == ("/prod/app", "/")


@given(st.text(max_size=80))
def test_any_text_is_a_key_or_refused(name: str) -> None:
    try:
        key = key_of(name)
    except ValueError:
        return
    assert key.name
    assert is_allowed(key, ("*",))
