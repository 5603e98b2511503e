"""What the environment may say, how it is read, and what is never shown of it."""

from collections import UserDict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.lambda_api.first_event import budget_ms
from telemetry_forwarder.secrets.settings import secrets_from
from telemetry_forwarder.settings import Settings, capacity_bytes
from telemetry_forwarder.variables import reading
from telemetry_forwarder.variables.reading import BY_NAME, is_sound, missing, read_all, wanted_sinks
from telemetry_forwarder.variables.table import VARIABLES, Problem
from telemetry_forwarder.variables.types import Secret, SecretReference

NAMES = [variable.name for variable in VARIABLES]
each_name = pytest.mark.parametrize("name", NAMES)


def problems_of(name: str, text: str) -> list[Problem]:
    return [describe() for describe in read_all({name: text}).faults.values()]


@each_name
@given(text=st.text(st.characters(exclude_categories=()), max_size=60))
def test_any_text_gives_a_value_or_the_default_and_a_problem(name: str, text: str) -> None:
    value, found = read_all({name: text})[name], problems_of(name, text)
    assert not found or value == BY_NAME[name].default or "the rest of the list is used" in str(found[0])
    assert len(found) <= 1
    assert not found or text.strip()


@each_name
@pytest.mark.parametrize("text", [None, "", "   "])
def test_unset_and_empty_give_the_default_without_a_problem(name: str, text: str | None) -> None:
    values = read_all({} if text is None else {name: text})
    assert values[name] == BY_NAME[name].default
    assert not values.faults


def test_names_are_unique_and_defaults_are_explained() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for variable in VARIABLES:
        assert variable.meaning
        assert variable.kind.allowed


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("TELEMETRY_FORWARDER_PORT", "1024", 1024),
        ("TELEMETRY_FORWARDER_PORT", " 65535\n", 65535),
        ("TELEMETRY_FORWARDER_TYPES", "Function, platform,,function", ("function", "platform")),
        ("TELEMETRY_FORWARDER_SINKS", "datadog,my_own", ("datadog", "my_own")),
        ("TELEMETRY_FORWARDER_STRICT", "YES", True),
        ("TELEMETRY_FORWARDER_STRICT", "0", False),
        ("TELEMETRY_FORWARDER_LOG_LEVEL", "DEBUG", "debug"),
        ("TELEMETRY_FORWARDER_TAGS", "team:a, url:http://x:1 ,", (("team", "a"), ("url", "http://x:1"))),
        ("DD_TAGS", "a:1 b:2,c:3", (("a", "1"), ("b", "2"), ("c", "3"))),
        ("CLOUDWATCH_RETENTION_DAYS", "14", 14),
        ("SPLUNK_HEC_URL", "HTTPS://splunk:8088/services/collector/", "https://splunk:8088/services/collector"),
        ("SPLUNK_HEC_URL", "http://[::1]:8088", "http://[::1]:8088"),
        ("SPLUNK_HEC_URL", "http://[::1]", "http://[::1]"),
        ("DD_LOGS_CONFIG_LOGS_DD_URL", "proxy:10516", "https://proxy:10516"),
        ("DD_LOGS_CONFIG_LOGS_DD_URL", "http://proxy/", "http://proxy"),
        ("DD_SITE", "https://US5.datadoghq.com/", "us5.datadoghq.com"),
        ("DD_API_KEY", " abc\n", Secret("abc")),
        ("CLOUDWATCH_LOG_GROUP", "/a/B_c.d#e-1", "/a/B_c.d#e-1"),
        ("DD_API_KEY_SSM_PARAMETER", "/prod/dd-key", SecretReference("ssm", "/prod/dd-key")),
        (
            "DD_API_KEY_SECRET_ARN",
            "arn:aws:secretsmanager:eu-west-1:210987654321:secret:dd-AbCdEf#key",
            SecretReference("secretsmanager", "arn:aws:secretsmanager:eu-west-1:210987654321:secret:dd-AbCdEf", "key"),
        ),
    ],
)
def test_sound_values_are_read(name: str, text: str, value: object) -> None:
    values = read_all({name: text})
    assert values[name] == value
    assert not values.faults


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TELEMETRY_FORWARDER_PORT", "1023"),
        ("TELEMETRY_FORWARDER_PORT", "9001"),
        ("TELEMETRY_FORWARDER_PORT", "2773"),
        ("TELEMETRY_FORWARDER_PORT", "4243.0"),
        ("TELEMETRY_FORWARDER_PORT", "-4243"),
        ("TELEMETRY_FORWARDER_PORT", "\u0664\u0662\u0664\u0663"),
        ("TELEMETRY_FORWARDER_BUFFERING_TIMEOUT_MS", "24"),
        ("TELEMETRY_FORWARDER_BUFFERING_MAX_BYTES", "1048577"),
        ("TELEMETRY_FORWARDER_BUFFERING_MAX_ITEMS", "999"),
        ("TELEMETRY_FORWARDER_TYPES", "platform.start"),
        ("TELEMETRY_FORWARDER_SINKS", ","),
        ("TELEMETRY_FORWARDER_STRICT", "maybe"),
        ("TELEMETRY_FORWARDER_TAGS", "team"),
        ("TELEMETRY_FORWARDER_TAGS", "team:"),
        ("CLOUDWATCH_RETENTION_DAYS", "2"),
        ("CLOUDWATCH_LOG_GROUP", "aws/mine"),
        ("CLOUDWATCH_LOG_STREAM", "a:b"),
        ("DD_API_KEY", "two words"),
        ("DD_SITE", "localhost"),
        ("DD_LOGS_CONFIG_LOGS_DD_URL", "proxy/path"),
        ("SPLUNK_INDEX", "a\nb"),
        *(
            ("SPLUNK_HEC_URL", text)
            for text in (
                "splunk:8088", "ftp://splunk", "https://", "https://user@splunk", "https://user:pw@splunk",
                "https://splunk:", "https://splunk:0", "https://splunk:65536", "https://splunk:80:80",
                "https://spl unk",
                "https://splunk/a b", "https://splunk?x=1", "https://splunk/#f", "https://[::1", "https://[::1]x",
                "https://[::1]:", "https://[splunk]", "https://[]", "https://::1", "https://[zz::1]", "https://.a",
            )
        ),
    ],
)  # fmt: skip
def test_unsound_values_are_problems(name: str, text: str) -> None:
    (problem,) = problems_of(name, text)
    assert problem.variable == name
    assert str(problem).startswith(f"{name} is ")


# --- all of them at once ----------------------------------------------------------------------------------------------


class Counting(UserDict[str, str]):
    """An environment that counts how often each variable is read."""

    def __init__(self, **given: str) -> None:
        super().__init__(given)
        self.reads: list[str] = []

    def __getitem__(self, name: str) -> str:
        self.reads.append(name)
        return super().__getitem__(name)


def test_the_environment_is_read_once_and_what_becomes_of_it_changes_nothing() -> None:
    environ = Counting(DD_API_KEY="k", TELEMETRY_FORWARDER_PORT="5000", TELEMETRY_FORWARDER_SINKS="datadog,mine")
    values = read_all(environ)
    assert sorted(environ.reads) == sorted(environ)
    environ.clear()
    assert (values["TELEMETRY_FORWARDER_PORT"], values["DD_API_KEY"]) == (5000, Secret("k"))
    assert values.given("DD_API_KEY") == values.environ["DD_API_KEY"] == "k"
    assert [one.sink.name for one in Settings.from_values(values).destinations] == ["datadog"]


def test_problems_are_those_of_the_sinks_that_are_asked_after() -> None:
    values = read_all({"DD_SITE": "x", "SPLUNK_INDEX": "\n\0", "TELEMETRY_FORWARDER_PORT": "0", "NO_PROXY": "?"})
    asked = {sink: [problem.variable for problem in values.problems(sink)] for sink in (None, "datadog", "network")}
    assert asked == {None: ["TELEMETRY_FORWARDER_PORT"], "datadog": ["DD_SITE"], "network": ["NO_PROXY"]}
    assert len(values.problems(None, "network", "splunk")) == 3


@pytest.mark.parametrize(
    ("text", "memory_mb"),
    [("128", 128), (" 10240\n", 10240), ("", None), ("much", None), ("\u00b2", None), ("0", None)],
)
def test_the_memory_size_has_one_rule(text: str, memory_mb: int | None) -> None:
    """What is no number is none: buffers and the cache are as for 128 MB then, and INIT waits as on a large one."""
    values = read_all({"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": text})
    settings = Settings.from_values(values)
    assert settings.origin.memory_mb == memory_mb
    assert settings.capacity.max_bytes == capacity_bytes(memory_mb or 128)
    assert budget_ms(values) == (300 if memory_mb == 128 else 10)
    assert secrets_from(values).policy.max_bytes == (64 << 20 if memory_mb == 10240 else 4 << 20)
    assert settings.problems == (), "it is Lambda's, and no setting"


# --- secrets --------------------------------------------------------------------------------------------------------


def test_a_secret_never_shows_itself() -> None:
    secret = Secret("hunter2")
    assert {repr(secret), str(secret), f"{secret}", f"{[secret]}", format(secret)} == {"***", "[***]"}
    assert secret.reveal() == "hunter2"
    assert secret == Secret("hunter2") != Secret("other")
    assert hash(secret) == hash(Secret("hunter2"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("DD_API_KEY", "hunter2 hunter2"),
        ("SPLUNK_HEC_TOKEN", "hunter2\u00e9"),
        ("SPLUNK_HEC_URL", "https://user:hunter2@splunk:8088"),
        ("SPLUNK_HEC_URL", "https://user:hunter2?hunter2@splunk:8088"),
        ("SPLUNK_HEC_URL", "https://user:hunter2#hunter2@splunk:8088"),
        ("SPLUNK_HEC_URL", "https://splunk:8088/?token=hunter2"),
        ("SPLUNK_HEC_URL", "user:hunter2@splunk"),
        ("DD_LOGS_CONFIG_LOGS_DD_URL", "user:hunter2@proxy"),
        ("DD_API_KEY_SECRET_ARN", "hunter2"),
        ("DD_API_KEY_SSM_PARAMETER", "hunter2+hunter2=="),
    ],
)
def test_no_problem_shows_a_secret(name: str, text: str) -> None:
    (problem,) = problems_of(name, text)
    assert "hunter2" not in str(problem)
    assert "hunter2" not in repr(problem)


def test_a_wrong_reference_is_shown() -> None:
    """It is no secret, and the mistake is in it."""
    (problem,) = problems_of("DD_API_KEY_SECRET_ARN", "arn:aws:ssm:eu-west-1:1:parameter/x")
    assert "arn:aws:ssm" in problem.given


def test_long_values_are_cut() -> None:
    (problem,) = problems_of("SPLUNK_INDEX", "x" * 2000)
    assert len(problem.given) < 130


# --- sinks ----------------------------------------------------------------------------------------------------------

SPLUNK = {"SPLUNK_HEC_URL": "https://splunk:8088", "SPLUNK_HEC_TOKEN": "t"}


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, ()),
        (SPLUNK, ("splunk",)),
        ({"SPLUNK_HEC_TOKEN": "t"}, ("splunk",)),
        ({**SPLUNK, "DD_API_KEY": "k", "CLOUDWATCH_LOG_GROUP": "g"}, ("splunk", "datadog", "cloudwatch")),
        ({**SPLUNK, "TELEMETRY_FORWARDER_SINKS": "datadog"}, ("datadog",)),
        ({**SPLUNK, "TELEMETRY_FORWARDER_SINKS": " , "}, ("splunk",)),
        ({"SPLUNK_HEC_URL": "  "}, ()),
    ],
)
def test_sinks_run_that_are_listed_or_else_whose_settings_are_given(
    environ: dict[str, str], wanted: tuple[str, ...]
) -> None:
    assert wanted_sinks(read_all(environ)) == wanted


def test_a_sink_is_sound_with_one_sound_variable_of_each_need() -> None:
    assert is_sound("splunk", read_all(SPLUNK))
    assert not is_sound("splunk", read_all({**SPLUNK, "SPLUNK_HEC_URL": "splunk"}))
    assert not is_sound("splunk", read_all({"SPLUNK_HEC_URL": "https://splunk"}))
    assert is_sound("splunk", read_all({"SPLUNK_HEC_URL": "https://splunk", "SPLUNK_HEC_TOKEN_SSM_PARAMETER": "/t"}))


def test_what_is_missing_is_named_once_and_what_is_unsound_is_not_repeated() -> None:
    names = [problem.variable for problem in missing("splunk", read_all({"SPLUNK_HEC_URL": "nonsense"}))]
    assert names == ["SPLUNK_HEC_TOKEN"]
    assert missing("splunk", read_all(SPLUNK)) == []
    assert "SPLUNK_HEC_TOKEN_SSM_PARAMETER" in missing("splunk", read_all({}))[1].allowed


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("SPLUNK_HEC_URL", "Sink splunk does not run without it."),
        ("TELEMETRY_FORWARDER_PORT", "Using 4243 instead."),
        ("TELEMETRY_FORWARDER_TYPES", "Using platform,function instead."),
        ("SPLUNK_INDEX", "It is left out."),
        ("TELEMETRY_FORWARDER_STRICT", "It is left out."),
    ],
)
def test_a_problem_says_what_follows_from_it(name: str, words: str) -> None:
    assert reading.consequence(BY_NAME[name]) == words
