"""What each kind of wrong setting is told as, and what becomes of it: the sentences that a user acts on.

`TOLD` is one setting a row: what was set, what has to be read (all of it in one line), and what is used. What stands in
`TAKEN` is written in a way that many use, means one thing, and is taken without a word.
"""

import subprocess
import sys
from typing import Any

import orjson
import pytest

from telemetry_forwarder.settings import Settings
from telemetry_forwarder.sinks.datadog import Datadog
from telemetry_forwarder.sinks.splunk_hec import SplunkHec
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.types import Secret
from tests.builders import record

SPLUNK = {"SPLUNK_HEC_URL": "https://splunk:8088", "SPLUNK_HEC_TOKEN": "t"}
DATADOG = {"DD_API_KEY": "k"}
CLOUDWATCH = {"CLOUDWATCH_LOG_GROUP": "/g"}
ARN = "arn:aws:secretsmanager:eu-west-1:210987654321:secret:dd-AbCdEf"
STOPPED = "Sink datadog does not run"


def told(environ: dict[str, str]) -> tuple[Settings, list[str]]:
    settings = Settings.from_values(read_all({"AWS_REGION": "eu-west-1", **environ}))
    return settings, [f"{problem.level}: {problem}" for problem in settings.problems]


def url_of(settings: Settings) -> str:
    (destination,) = settings.destinations
    assert isinstance(destination.sink, Datadog | SplunkHec)
    return destination.sink.url


# --- one value is refused, and the right one named ------------------------------------------------------------------

TOLD: list[tuple[str, str, tuple[str, ...]]] = [
    # A site of Datadog's
    ("DD_SITE", "https://app.datadoghq.eu", ("'https://app.datadoghq.eu'", "Write `datadoghq.eu`.", STOPPED)),
    ("DD_SITE", "http-intake.logs.datadoghq.eu", ("Write `datadoghq.eu`.", STOPPED)),
    ("DD_SITE", "agent-http-intake.logs.us3.datadoghq.com", ("Write `us3.datadoghq.com`.", STOPPED)),
    ("DD_SITE", "https://api.us5.datadoghq.com/api/v2/logs", ("Write `us5.datadoghq.com`.", STOPPED)),
    ("DD_SITE", "https://us3.datadoghq.com/logs?query=x", ("Write `us3.datadoghq.com`.", STOPPED)),
    ("DD_SITE", "datadoghq.eu:443", ("Write `datadoghq.eu`.", STOPPED)),
    ("DD_SITE", "data doghq.eu", ("Write `datadoghq.eu`.", STOPPED)),
    ("DD_SITE", "us1.datadoghq.com", ("Write `datadoghq.com`.", STOPPED)),
    ("DD_SITE", "EU", ("Write `datadoghq.eu`.", STOPPED)),
    ("DD_SITE", "us5", ("Write `us5.datadoghq.com`.", STOPPED)),
    ("DD_SITE", "me:hunter2@datadoghq.eu", ("'***@datadoghq.eu'", "Write `datadoghq.eu`.")),
    ("DD_LOGS_CONFIG_LOGS_DD_URL", "https://proxy:1/x", ("Write `https://proxy:1`.", STOPPED)),
    # The address of an HEC
    ("SPLUNK_HEC_URL", "splunk:8088", ("Write `https://splunk:8088`.", "Sink splunk does not run")),
    ("SPLUNK_HEC_URL", "https//splunk:8088", ("Write `https://splunk:8088`.",)),
    ("SPLUNK_HEC_URL", "https:/splunk:8088", ("Write `https://splunk:8088`.",)),
    ("SPLUNK_HEC_URL", "htps://splunk:8088/services/collector", ("Write `https://splunk:8088/services/collector`.",)),
    ("SPLUNK_HEC_URL", "https://splunk:8088/services/collector?token=hunter2", ("Write `https://splunk:8088/serv",)),
    ("SPLUNK_HEC_URL", "https://me:hunter2@splunk:8088", ("'https://***@splunk:8088'", "Leave user name and password")),
    ("SPLUNK_HEC_URL", "https://spl unk:8088", ("Write `https://splunk:8088`.",)),
    # Secrets, and references to them
    ("SPLUNK_HEC_TOKEN", "Splunk hunter2", ("*** (hidden)", "Leave the word `Splunk` out.")),
    ("SPLUNK_HEC_TOKEN", "hunter2\nhunter2", ("*** (hidden)", "There is a line break in it.")),
    ("DD_API_KEY", "hunter2\u200bhunter2", ("*** (hidden)", "There is the character U+200B in it.")),
    ("DD_API_KEY", ARN, ("*** (hidden)", "It is an ARN: set DD_API_KEY_SECRET_ARN to it instead.")),
    ("DD_API_KEY", "{{resolve:secretsmanager:hunter2}}", ("*** (hidden)", "CloudFormation has not resolved")),
    ("DD_API_KEY_SECRET_ARN", f"{ARN}:api_key::", (f"Write `{ARN}#api_key`.",)),
    ("DD_API_KEY_SECRET_ARN", "arn:aws:ssm:eu-west-1:210987654321:parameter/x", ("set DD_API_KEY_SSM_PARAMETER",)),
    ("DD_API_KEY_SECRET_ARN", "prod/hunter2", ("*** (hidden)", "The whole ARN is wanted, not a name")),
    ("DD_API_KEY_SSM_PARAMETER", ARN, ("set DD_API_KEY_SECRET_ARN to it instead",)),
    ("DD_API_KEY_SSM_PARAMETER", "ssm:/prod/hunter2?", ("*** (hidden)", "Leave out what stands before the name.")),
    # Numbers
    ("TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS", "5s", ("is '5s'", "0 to 10000", "Write `5000`.", "Using 500 instead")),
    ("TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS", "700ms", ("Write `700`.",)),
    ("TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS", "1_000", ("Write `1000`.",)),
    ("TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS", "1e3", ("Write `1000`.",)),
    ("TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS", "1,000", ("Write `1000`.",)),
    ("TELEMETRY_FORWARDER_BUFFER_BYTES", "16 MiB", ("Write `16777216`.",)),
    ("TELEMETRY_FORWARDER_BUFFER_BYTES", "64MB", ("Write `67108864`.",)),
    ("TELEMETRY_FORWARDER_PORT", "4244.0", ("Write `4244`.",)),
    ("CLOUDWATCH_RETENTION_DAYS", "10", ("1, 3, 5, 7, 14", "Write `14`.")),
    ("CLOUDWATCH_RETENTION_DAYS", "2 weeks", ("Write `14`.",)),
    # Words
    ("TELEMETRY_FORWARDER_STRICT", "ture", ("Write `true`.",)),
    ("TELEMETRY_FORWARDER_LOG_LEVEL", "trace", ("Write `debug`.", "Using warning instead")),
    ("TELEMETRY_FORWARDER_LOG_LEVEL", "infos", ("Write `info`.",)),
    ("TELEMETRY_FORWARDER_FLUSH", "periodically,60000", ("Write `periodic,60`.", "Using adaptive instead")),
    ("TELEMETRY_FORWARDER_FLUSH", "periodic 10s", ("Write `periodic,10`.",)),
    ("TELEMETRY_FORWARDER_FLUSH", "end,5", ("Write `end`.",)),
    ("TELEMETRY_FORWARDER_WHEN_FULL", "drop-oldest", ("Write `drop_oldest`.",)),
    # Names of AWS's
    ("CLOUDWATCH_LOG_GROUP", "arn:aws:logs:eu-west-1:123456789012:log-group:/a/b:*", ("Write `/a/b`.",)),
    ("AWS_REGION", "eu_west_1", ("Write `eu-west-1`.",)),
    ("AWS_REGION", "eu-west-1a", ("Write `eu-west-1`.",)),
    ("AWS_REGION", "Frankfurt", ("the code of a region such as `eu-west-1`",)),
    ("TELEMETRY_FORWARDER_FAILOVER", "my-bucket", ("Write `s3://my-bucket`.",)),
    ("TELEMETRY_FORWARDER_FAILOVER", "arn:aws:s3:::my-bucket/logs", ("Write `s3://my-bucket/logs`.",)),
    ("TELEMETRY_FORWARDER_FAILOVER", "arn:aws:sqs:eu-west-1:210987654321:q", ("https://sqs.eu-west-1.amazonaws.com/",)),
    # The network
    ("HTTPS_PROXY", "socks5://me:hunter2@proxy:1080", ("'socks5://***@proxy:1080'", "A SOCKS proxy cannot be used")),
    ("https_proxy", "ftp://proxy", ("https_proxy is 'ftp://proxy'", "none of http and https")),
    ("HTTP_PROXY", "http://me:hunter2@", ("'http://***@'", "There is no host name in it")),
    ("HTTP_PROXY", "http://me:hunter2", ("*** (hidden)", "There is no host name in it", "left out")),
    ("HTTP_PROXY", "me:hunter2://@proxy:port", ("'***@proxy:port'", "left out")),
    ("NO_PROXY", "10.0.0.0/33", ("NO_PROXY is '10.0.0.0/33'", "networks such as `10.0.0.0/8`")),
    ("no_proxy", "http://a.internal/x", ("no_proxy is 'http://a.internal/x'", "Write `a.internal`.")),
]


@pytest.mark.parametrize(("name", "value", "parts"), TOLD, ids=[f"{name}={value}" for name, value, _ in TOLD])
def test_a_wrong_value_is_told_with_what_to_write(name: str, value: str, parts: tuple[str, ...]) -> None:
    _, (line,) = told({**beside(name), name: value})
    assert line.startswith(f"error: {name} is ")
    assert [part for part in parts if part not in line] == [], line
    assert "hunter2" not in line


def beside(name: str) -> dict[str, str]:
    """Return what makes the sink of a variable sound, but for that variable."""
    if name.startswith("DD_"):
        return {} if name.startswith("DD_API_KEY") else DATADOG
    return SPLUNK if name.startswith("SPLUNK_") else CLOUDWATCH


def test_a_wrong_site_has_nothing_sent_to_another_one() -> None:
    """Datadog's first site is in another country; a key of the second is refused there."""
    assert told({**DATADOG, "DD_SITE": "https://app.datadoghq.eu"})[0].destinations == ()
    environ = {**DATADOG, "DD_SITE": "https://app.datadoghq.eu", "DD_LOGS_CONFIG_LOGS_DD_URL": "https://intake:1"}
    assert url_of(told(environ)[0]) == "https://intake:1", "the site is not used then"


# --- what is written in another way, but means one thing ------------------------------------------------------------

TAKEN: list[tuple[str, str, Any]] = [
    ("TELEMETRY_FORWARDER_STRICT", "True ", True),
    ("TELEMETRY_FORWARDER_STRICT", "on", True),
    ("TELEMETRY_FORWARDER_STRICT", "'off'", False),
    ("TELEMETRY_FORWARDER_LOG_LEVEL", "WARN", "warning"),
    ("TELEMETRY_FORWARDER_LOG_LEVEL", '"debug"', "debug"),
    ("TELEMETRY_FORWARDER_TYPES", "platform; function", ("platform", "function")),
    ("TELEMETRY_FORWARDER_TYPES", '["function", "extension"]', ("function", "extension")),
    ("TELEMETRY_FORWARDER_SINKS", '"cloudwatch"', ("cloudwatch",)),
    ("TELEMETRY_FORWARDER_SINKS", "splunk datadog\ncloudwatch", ("splunk", "datadog", "cloudwatch")),
    ("TELEMETRY_FORWARDER_TAGS", "team:a stage:prod", (("team", "a"), ("stage", "prod"))),
    ("TELEMETRY_FORWARDER_TAGS", "team:a;stage:prod", (("team", "a"), ("stage", "prod"))),
    ("TELEMETRY_FORWARDER_TAGS", "owner:Jane Doe", (("owner", "Jane Doe"),)),
    ("TELEMETRY_FORWARDER_TAGS", "see:it is http://a", (("see", "it is http://a"),)),
    ("DD_TAGS", "simple-tag-0 tag-key-1:tag-value-1", (("simple-tag-0", ""), ("tag-key-1", "tag-value-1"))),
    ("DD_TAGS", "a:1, b c:2", (("a", "1"), ("b", ""), ("c", "2"))),
    ("SPLUNK_INDEX", "main\u00a0\n", "main"),
    ("SPLUNK_INDEX", "\u201cmain\u201d", "main"),
    ("DD_SITE", "\ufeffUS5.datadoghq.com./\u200b", "us5.datadoghq.com"),
    ("DD_SITE", "xx9.datadoghq.com", "xx9.datadoghq.com"),
    ("DD_LOGS_CONFIG_LOGS_DD_URL", "https://a.b/api/v2/logs", "https://a.b"),
    ("NO_PROXY", "localhost;10.0.0.0/8 [::1]:80, *.b", ("localhost", "10.0.0.0/8", "[::1]:80", "*.b")),
]


@pytest.mark.parametrize(("name", "text", "value"), TAKEN)
def test_another_way_to_write_it_is_taken_without_a_word(name: str, text: str, value: Any) -> None:
    values = read_all({name: text})
    assert values[name] == value
    assert not values.faults


@pytest.mark.parametrize("text", ["abc\n", "abc\u00a0", '"abc"', "\u200babc\ufeff", "'abc'\r\n"])
@pytest.mark.parametrize("name", ["SPLUNK_HEC_TOKEN", "DD_API_KEY"])
def test_what_is_pasted_with_a_secret_is_no_part_of_it(name: str, text: str) -> None:
    assert read_all({name: text})[name] == Secret("abc")


@pytest.mark.parametrize(
    "url",
    [
        "https://splunk:8088/services/collector/services/collector/event",
        "https://splunk:8088/services/collector/raw/1.0",
        "https://splunk:8088//services//collector//",
        "https://splunk:8088/services",
        '"https://splunk:8088/"',
    ],
)
def test_the_path_of_an_hec_is_there_once(url: str) -> None:
    settings, lines = told({**SPLUNK, "SPLUNK_HEC_URL": url})
    assert (url_of(settings), lines) == ("https://splunk:8088", [])


def test_a_bare_tag_reaches_datadog_as_it_is() -> None:
    settings, lines = told({**DATADOG, "DD_TAGS": "simple-tag-0 tag-key-1:tag-value-1"})
    (destination,) = settings.destinations
    assert lines == []
    assert isinstance(destination.sink, Datadog)
    tags = orjson.loads(destination.sink.encode(record()).data)["ddtags"].split(",")
    assert {"simple-tag-0", "tag-key-1:tag-value-1"} <= set(tags)


# --- one unsound element does not discard a list --------------------------------------------------------------------

PARTLY: list[tuple[str, str, Any, tuple[str, ...]]] = [
    (
        "TELEMETRY_FORWARDER_TYPES",
        "function,functions,platform",
        ("function", "platform"),
        ("'functions'", "Write `fun"),
    ),
    ("TELEMETRY_FORWARDER_TAGS", "team:a,stage=prod", (("team", "a"),), ("'stage=prod'", "Write `stage:prod`.")),
    ("DD_TAGS", "a:1 :b c", (("a", "1"), ("c", "")), ("':b'", "pairs and bare tags")),
    ("NO_PROXY", "10.0.*,localhost", ("localhost",), ("'10.0.*'", "Write `10.0.0.0/16`.")),
    ("TELEMETRY_FORWARDER_SECRETS_PREFETCH", "/a/b,/c/*/d", ("/a/b",), ("'/c/*/d'",)),
    ("TELEMETRY_FORWARDER_SECRETS_ALLOW", "/a/b,c d", ("/a/b",), ("*** (hidden)",)),
]


@pytest.mark.parametrize(("name", "text", "value", "parts"), PARTLY)
def test_what_is_sound_of_a_list_is_used_and_the_rest_named(
    name: str, text: str, value: Any, parts: tuple[str, ...]
) -> None:
    values = read_all({name: text})
    assert values[name] == value
    (line,) = (str(describe()) for describe in values.faults.values())
    assert line.startswith(f"{name} is partly unsound: ")
    assert [part for part in parts if part not in line] == [], line
    assert line.endswith("It is left out, the rest of the list is used.")


def test_an_unknown_sink_is_named_with_the_one_that_is_meant() -> None:
    settings, (line,) = told({**CLOUDWATCH, "TELEMETRY_FORWARDER_SINKS": "cloudwatch;splunk_hec"})
    assert [destination.sink.name for destination in settings.destinations] == ["cloudwatch"]
    assert "TELEMETRY_FORWARDER_SINKS is 'splunk_hec'" in line
    assert "Write `splunk`. Sink splunk_hec does not run." in line


# --- what is most likely a mistake is a warning ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "parts"),
    [
        ({**DATADOG, "DD_SITE": "datadoghq.co"}, ("DD_SITE is 'datadoghq.co'", "Is `datadoghq.com` meant?")),
        ({**DATADOG, "DD_SITE": "logs.example.com"}, ("DD_SITE is 'logs.example.com'", "DD_LOGS_CONFIG_LOGS_DD_URL")),
        ({**SPLUNK, "SPLUNK_HEC_URL": "https://splunk:8000"}, ("port 8000", "Splunk's web pages", "8088")),
        ({**SPLUNK, "SPLUNK_HEC_URL": "https://splunk:8089"}, ("port 8089", "management API")),
        ({**SPLUNK, "SPLUNK_HEC_URL": "https://splunk:8088/en-US/app"}, ("Splunk's web pages", "leave the path out")),
        ({**SPLUNK, "SPLUNK_HEC_URL": "https://a.splunkcloud.com"}, ("https://http-inputs-a.splunkcloud.com:443",)),
        ({**CLOUDWATCH, "HTTP_PROXY": "http://a", "http_proxy": "http://b"}, ("and http_proxy are set",)),
    ],
)  # fmt: skip
def test_what_is_allowed_but_hardly_meant_is_a_warning_and_used(
    environ: dict[str, str], parts: tuple[str, ...]
) -> None:
    settings, (line,) = told(environ)
    assert line.startswith("warning: ")
    assert [part for part in parts if part not in line] == [], line
    assert len(settings.destinations) == 1
    assert not any(problem.is_wrong for problem in settings.problems), "strict mode does not fail for it"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TELEMETRY_FORWARDER_LOGLEVEL", "TELEMETRY_FORWARDER_LOG_LEVEL"),
        ("TELEMETRY_FORWARDER_SINK", "TELEMETRY_FORWARDER_SINKS"),
        ("TELEMETRY_FORWARDER_DURABLITY", "TELEMETRY_FORWARDER_DURABILITY"),
        ("telemetry_forwarder_flush", "TELEMETRY_FORWARDER_FLUSH"),
        ("TELEMETRYFORWARDER_PORT", "TELEMETRY_FORWARDER_PORT"),
        ("TELEMETRY_FORWARDER_DD_SITE", "DD_SITE"),
        ("TELEMETRY_FORWARDER_NO_SUCH_THING_AT_ALL", "docs/settings.md has them all"),
    ],
)
def test_an_unknown_name_of_ours_is_named_with_the_nearest(name: str, meant: str) -> None:
    settings, (line,) = told({**CLOUDWATCH, name: "hunter2"})
    assert line.startswith(f"warning: {name} is set, but is the name of no setting")
    assert meant in line
    assert "hunter2" not in line
    assert settings.problems[0].is_wrong, "strict mode is for those who would rather know before"


TOKEN_ARN, SSM_ARN = "SPLUNK_HEC_TOKEN_ARN", "DD_API_KEY_SSM_ARN"


@pytest.mark.parametrize(
    ("environ", "name", "meant"),
    [
        ({"SPLUNK_HEC_URL": "https://s", TOKEN_ARN: ARN}, TOKEN_ARN, "SPLUNK_HEC_TOKEN_SECRET_ARN"),
        ({"SPLUNK_URL": "https://s"}, "SPLUNK_URL", "SPLUNK_HEC_URL"),
        ({"SPLUNK_HECTOKEN": "t"}, "SPLUNK_HECTOKEN", "SPLUNK_HEC_TOKEN"),
        ({"TELEMETRY_FORWARDER_SINKS": "datadog", SSM_ARN: "x"}, SSM_ARN, "DD_API_KEY_SSM_PARAMETER"),
        ({"DD_API_KEY_SECRET": "x"}, "DD_API_KEY_SECRET", "DD_API_KEY_SECRET_ARN"),
        ({**CLOUDWATCH, "CLOUDWATCH_RETENTION": "7"}, "CLOUDWATCH_RETENTION", "CLOUDWATCH_RETENTION_DAYS"),
        ({**SPLUNK, "SPLUNK_SOURCE_TYPE": "x"}, "SPLUNK_SOURCE_TYPE", "SPLUNK_SOURCETYPE"),
    ],
)  # fmt: skip
def test_a_near_miss_of_another_name_is_named(environ: dict[str, str], name: str, meant: str) -> None:
    lines = told(environ)[1]
    said = f"warning: {name} is set, but is the name of no setting: it has no effect. Set {meant} instead."
    assert said in lines


OTHERS = {
    **dict.fromkeys(("DD_TRACE_ENABLED", "DD_KMS_API_KEY", "DD_API_KEY_SSM_ARN", "DD_LOG_LEVEL", "DD_URL"), "x"),
    **dict.fromkeys(("SPLUNK_ACCESS_TOKEN", "SPLUNK_REALM", "SPLUNK_METRICS_ENDPOINT", "SPLUNK_HOME"), "x"),
    **dict.fromkeys(("PARAMETERS_SECRETS_EXTENSION_LOG_LEVEL", "OTEL_SERVICE_NAME", "CLOUDWATCH_METRICS"), "x"),
}


@pytest.mark.parametrize("sound", [SPLUNK, CLOUDWATCH, {**DATADOG, "DD_TAGS": "a:b"}])
def test_variables_of_other_tools_are_never_complained_of(sound: dict[str, str]) -> None:
    assert told({**sound, **OTHERS})[1] == []


def test_a_healthy_start_loads_nothing_of_what_says_what_is_wrong() -> None:
    """Nor does it for the many variables that a tracer has."""
    environ = {**SPLUNK, **DATADOG, "DD_TAGS": "a:b", "DD_TRACE_ENABLED": "1", "SPLUNK_ACCESS_TOKEN": "x"}
    program = (
        "import sys; from telemetry_forwarder.settings import Settings\n"
        "from telemetry_forwarder.variables.reading import read_all\n"
        f"assert not Settings.from_values(read_all({environ!r})).problems\n"
        "print([name for name in ('telemetry_forwarder.variables.advice', 'difflib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- the file of certificates ---------------------------------------------------------------------------------------

KEY = b"-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (None, ("No such file or directory",)),
        (b"", ("The file is empty",)),
        (b"\x30\x82\x01\x0a", ("in DER form", "openssl x509 -inform der")),
        (KEY, ("a private key and no certificate",)),
        (b"-----BEGIN PKCS7-----\nMII\n", ("PKCS #7", "openssl pkcs7")),
        (b"Preamble\r\n-----BEGIN CERTIFICATE-----\r\nMIIB", ()),
        (b"-----BEGIN CERTIFICATE----- MIIB", ("was damaged (its line breaks were lost",)),
        (b"-----BEGIN CERTIFICATE-----\\nMIIB", ("was damaged (its line breaks were lost",)),
        (b"<html>", ("lacks the line -----BEGIN CERTIFICATE-----",)),
    ],
)
def test_a_ca_file_of_no_use_is_told_with_what_it_is(
    tmp_path: Any, content: bytes | None, parts: tuple[str, ...]
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    settings, lines = told({**CLOUDWATCH, "SSL_CERT_FILE": str(path)})
    if not parts:
        assert (settings.network.ca_file, lines) == (str(path), [])
        return
    (line,) = lines
    assert f"SSL_CERT_FILE is '{path}'" in line
    assert [part for part in parts if part not in line] == [], line
    assert line.endswith("It is left out: backends are checked against the authorities of the system.")
    assert settings.network.ca_file is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/proc/self/mem", "Input/output error"),
        ("/", "Is a directory"),
        ("certs/ca.pem", "below /opt: give the whole path"),
    ],
)
def test_a_ca_file_that_cannot_be_read_is_told_with_the_reason(path: str, reason: str) -> None:
    _, (line,) = told({**CLOUDWATCH, "SSL_CERT_FILE": path})
    assert reason in line
