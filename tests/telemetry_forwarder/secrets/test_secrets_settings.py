"""What the environment says of the secrets endpoint; what is unsound never opens it wider."""

import pytest

from telemetry_forwarder.secrets.names import Key
from telemetry_forwarder.secrets.settings import SecretsSettings, secrets_from
from telemetry_forwarder.settings import Settings
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.table import Problem


def read(**environ: str) -> tuple[SecretsSettings, list[Problem]]:
    values = read_all(environ)
    return secrets_from(values), values.problems(None, "secrets")


def test_defaults() -> None:
    settings, problems = read()
    assert problems == []
    assert (settings.mode, settings.is_served, settings.connections) == ("off", False, 3)
    assert settings.policy.ttl_s == {"ssm": 300.0, "secretsmanager": 300.0}
    assert settings.policy.max_entries == 1000
    assert settings.timeout_s == {"ssm": 10.0, "secretsmanager": 10.0}
    assert settings.allow is None


def test_the_variables_of_awss_own_extension() -> None:
    settings, problems = read(
        PARAMETERS_SECRETS_EXTENSION_HTTP_PORT="8080",
        PARAMETERS_SECRETS_EXTENSION_CACHE_SIZE="7",
        PARAMETERS_SECRETS_EXTENSION_MAX_CONNECTIONS="5",
        SECRETS_MANAGER_TTL="0",
        SSM_PARAMETER_STORE_TTL="86400",
        SECRETS_MANAGER_TIMEOUT_MILLIS="250",
        SSM_PARAMETER_STORE_TIMEOUT_MILLIS="0",
    )
    assert problems == []
    assert (settings.connections, settings.policy.max_entries) == (5, 7)
    assert settings.policy.ttl_s == {"ssm": 86400.0, "secretsmanager": 0.0}
    assert settings.policy.stale_s == {"ssm": 3600.0, "secretsmanager": 60.0}
    assert settings.timeout_s == {"ssm": 10.0, "secretsmanager": 0.25}


def test_a_cache_that_is_switched_off_keeps_nothing() -> None:
    settings, _ = read(PARAMETERS_SECRETS_EXTENSION_CACHE_ENABLED="false")
    assert settings.policy.ttl_s == {"ssm": 0.0, "secretsmanager": 0.0}


@pytest.mark.parametrize("word", ["on", "true", "yes", "opne"])
def test_an_unknown_mode_is_off_and_said(word: str) -> None:
    settings, problems = read(TELEMETRY_FORWARDER_SECRETS=word)
    assert not settings.is_served
    assert "`off`, `token`, `open`. Using off instead." in str(problems[0])


def test_an_unsound_list_of_what_is_allowed_allows_nothing() -> None:
    settings, problems = read(TELEMETRY_FORWARDER_SECRETS_ALLOW="/a b")
    assert settings.allow == ()
    assert "Nothing may be asked for." in str(problems[0])


def test_prefetch() -> None:
    settings, problems = read(TELEMETRY_FORWARDER_SECRETS_PREFETCH="/prod/db/pass,secretsmanager:api-key, /prod/app/*")
    assert problems == []
    assert settings.prefetch.keys == (Key("ssm", "/prod/db/pass"), Key("secretsmanager", "api-key"))
    assert settings.prefetch.paths == ("/prod/app",)


@pytest.mark.parametrize("text", ["/prod/*/x", "prod/*", "arn:aws:s3:::x", "arn:*", "secretsmanager:", "/a b", ","])
def test_what_cannot_be_prefetched_is_said(text: str) -> None:
    settings, problems = read(TELEMETRY_FORWARDER_SECRETS_PREFETCH=text)
    assert settings.prefetch == ((), ())
    assert [problem.variable for problem in problems] == ["TELEMETRY_FORWARDER_SECRETS_PREFETCH"]


def test_tokens_are_those_that_the_function_has_and_are_not_shown() -> None:
    settings, _ = read(AWS_SESSION_TOKEN="first", AWS_CONTAINER_AUTHORIZATION_TOKEN="second")
    assert [token.reveal() for token in settings.tokens] == ["first", "second"]
    assert "first" not in repr(settings)


def test_memory_bounds_the_cache() -> None:
    sizes = [read(AWS_LAMBDA_FUNCTION_MEMORY_SIZE=memory)[0].policy.max_bytes for memory in ("128", "1024", "10240")]
    assert sizes == [4 << 20, 32 << 20, 64 << 20]


def test_nobody_who_asks_for_secrets_has_settings_for_them() -> None:
    assert Settings.from_values(read_all({"DD_API_KEY": "k"})).secrets is None
    assert Settings.from_values(read_all({"DD_API_KEY_SSM_PARAMETER": "/k"})).secrets is not None
    assert Settings.from_values(read_all({"TELEMETRY_FORWARDER_SECRETS": "token"})).secrets is not None
