"""Wrong settings: what the user reads, and the function unharmed."""

from base64 import b64encode
from collections import Counter

import pytest

from local_lambda import InitFailed
from tests.integration.sockets import proxying
from tests.integration.world import EXTENSION, SINKS, assert_balanced, world

# What is set, what has to be read in one line (each part), and which sinks go on. A bad port is not among them: the one
# that is used instead may be taken on the machine that tests (see variables/test_variables.py).
WRONG: dict[str, tuple[dict[str, str | None], tuple[str, ...], tuple[str, ...]]] = {
    "an unknown sink": (
        {"TELEMETRY_FORWARDER_SINKS": "splunk,graylog"},
        ("TELEMETRY_FORWARDER_SINKS is 'graylog'", "`splunk`, `datadog`, `cloudwatch`", "Sink graylog does not run"),
        ("splunk",),
    ),
    "a missing token": (
        {"SPLUNK_HEC_TOKEN": None},
        ("SPLUNK_HEC_TOKEN is not set", "SPLUNK_HEC_TOKEN_SECRET_ARN", "Sink splunk does not run"),
        ("datadog", "cloudwatch"),
    ),
    "a malformed URL": (
        {"SPLUNK_HEC_URL": "https//splunk.example.com:8088"},
        ("SPLUNK_HEC_URL is 'https//splunk.example.com:8088'", "`https://host[:port]", "Sink splunk does not run"),
        ("datadog", "cloudwatch"),
    ),
    "a buffering value out of range": (
        {"TELEMETRY_FORWARDER_BUFFERING_MAX_ITEMS": "10"},
        ("TELEMETRY_FORWARDER_BUFFERING_MAX_ITEMS is '10'", "1000 to 10000", "Using 1000 instead"),
        SINKS,
    ),
    "a token with a line break inside": (
        {"SPLUNK_HEC_TOKEN": "two\nlines"},
        ("SPLUNK_HEC_TOKEN is *** (hidden)", "printable ASCII", "Sink splunk does not run"),
        ("datadog", "cloudwatch"),
    ),
    "a retention that CloudWatch does not know": (
        {"CLOUDWATCH_RETENTION_DAYS": "10"},
        ("CLOUDWATCH_RETENTION_DAYS is '10'", "1, 3, 5, 7, 14", "left out"),
        SINKS,
    ),
    "a site with the name of the web page": (
        {"DD_SITE": "https://app.datadoghq.eu", "DD_LOGS_CONFIG_LOGS_DD_URL": None},
        ("DD_SITE is 'https://app.datadoghq.eu'", "Write `datadoghq.eu`.", "Sink datadog does not run"),
        ("splunk", "cloudwatch"),
    ),
    "a number with its unit": (
        {"TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS": "5s"},
        ("TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS is '5s'", "0 to 10000", "Write `5000`.", "Using 500 instead"),
        SINKS,
    ),
    "one unsound element of a list": (
        {"TELEMETRY_FORWARDER_TYPES": "function;platforms"},
        (
            "TELEMETRY_FORWARDER_TYPES is partly unsound: 'platforms'",
            "Write `platform`.",
            "the rest of the list is used",
        ),
        SINKS,
    ),
    "a proxy that speaks no HTTP": (
        {"HTTP_PROXY": "socks5://user:hunter2@127.0.0.1:1080"},
        ("HTTP_PROXY is 'socks5://***@127.0.0.1:1080'", "A SOCKS proxy cannot be used", "left out"),
        SINKS,
    ),
    "a CA file that is not there": (
        {"SSL_CERT_FILE": "/opt/nowhere.pem"},
        ("SSL_CERT_FILE is '/opt/nowhere.pem'", "readable PEM file", "left out"),
        SINKS,
    ),
    "a CA file that is none": (
        {"SSL_CERT_FILE": __file__},
        (f"SSL_CERT_FILE is '{__file__}'", "readable PEM file", "left out"),
        SINKS,
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_wrong_setting_is_one_clear_line_and_the_rest_goes_on(wrong: str) -> None:
    environment, read, sound = WRONG[wrong]
    async with world(environment=environment) as w:
        for number in range(2):
            result = await w.env.invoke({"first": number, "lines": 1})
            assert result.json() == {"ok": True}
            assert result.status == "success"
        end = await w.env.shutdown()
        assert end.extensions[EXTENSION.name].exit_code == 0
        errors = [line["message"] for line in w.said if line["level"] == "ERROR"]
        assert len(errors) == 1, errors
        assert all(part in errors[0] for part in read), errors[0]
        assert not any("two" in line and "lines" in line for line in w.env.extension_output(EXTENSION.name))
        for sink in SINKS:
            assert w.numbers(sink) == (Counter(range(2)) if sink in sound else Counter()), sink
        assert_balanced(w.ledgers[0])


async def test_with_no_sink_left_no_invocation_is_ever_waited_for() -> None:
    nothing = {"SPLUNK_HEC_URL": "nowhere", "DD_API_KEY": None, "CLOUDWATCH_LOG_GROUP": None}
    async with world(environment=nothing) as w:
        result = await w.env.invoke({"lines": 1})
        assert result.status == "success"
        assert result.held_ms == {}, "it is registered for SHUTDOWN alone"
        assert not [event for event in w.env.telemetry if event["type"] == "platform.telemetrySubscription"]
        end = await w.env.shutdown()
        assert end.extensions[EXTENSION.name].exit_code == 0
        assert end.seconds < 1.0
        assert any("SPLUNK_HEC_URL is 'nowhere'" in line["message"] for line in w.said)
        (said,) = [line for line in w.said if "No sink can run" in line["message"]]
        assert said["level"] == "WARN"
        assert "for splunk SPLUNK_HEC_URL and SPLUNK_HEC_TOKEN or SPLUNK_HEC_TOKEN_SECRET_ARN" in said["message"]
        assert "; for datadog DD_API_KEY or " in said["message"]
        assert "; for cloudwatch CLOUDWATCH_LOG_GROUP; for otlp OTEL_EXPORTER_OTLP_ENDPOINT or " in said["message"]


async def test_an_unknown_name_is_named_once_at_the_default_level_with_the_nearest() -> None:
    wrong = {"TELEMETRY_FORWARDER_LOGLEVEL": "debug", "TELEMETRY_FORWARDER_LOG_LEVEL": None, "DD_TRACE_ENABLED": "x"}
    async with world(environment=wrong) as w:
        for number in range(2):
            await w.env.invoke({"first": number, "lines": 1})
        await w.env.shutdown()
        (said,) = w.said
        assert (said["level"], said["message"]) == (
            "WARN",
            "TELEMETRY_FORWARDER_LOGLEVEL is set, but is the name of no setting: it has no effect. "
            "The nearest is TELEMETRY_FORWARDER_LOG_LEVEL.",
        )
        assert all(w.numbers(sink) == Counter(range(2)) for sink in SINKS)


async def test_strict_mode_fails_the_start_for_an_unknown_name_of_ours_but_not_for_a_doubt() -> None:
    strict = {"TELEMETRY_FORWARDER_STRICT": "true"}
    with pytest.raises(InitFailed, match=r"Extension\.CannotRun|Extension\.InitError"):
        async with world(environment={**strict, "TELEMETRY_FORWARDER_DURABLITY": "strict"}):
            pass
    async with world(environment={**strict, "HTTP_PROXY": "", "CLOUDWATCH_RETENTION": "7"}) as w:
        await w.env.invoke({"lines": 1})
        await w.env.shutdown()
        assert any("Set CLOUDWATCH_RETENTION_DAYS instead" in line["message"] for line in w.said)
        assert all(w.numbers(sink) == Counter(range(1)) for sink in SINKS)


async def test_a_proxys_password_may_hold_anything_and_reaches_it_from_every_sink() -> None:
    """Whatever speaks HTTP for a sink: ours, and the AWS SDK's."""
    async with proxying() as proxy, world(environment={"HTTP_PROXY": f"http://u:p#s/?@127.0.0.1:{proxy.port}"}) as w:
        await w.env.invoke({"lines": 1})
        await w.env.shutdown()
        asked = {seen.line.split()[1].split("/")[2] for seen in proxy.requests}
        ports = {w.backend(sink).url.rpartition("/")[2].split("//")[-1] for sink in SINKS}
        assert asked == ports
        logins = {seen.headers["proxy-authorization"] for seen in proxy.requests}
        assert logins == {"Basic " + b64encode(b"u:p#s/?").decode()}
        assert not any("p#s" in line or "p%23s" in line for line in w.env.extension_output(EXTENSION.name))


@pytest.mark.parametrize("exceptions", ["localhost,127.0.0.0/8", "*", "10.0.0.0/8 127.0.0.1;x"])
async def test_what_no_proxy_names_is_reached_directly_by_every_sink(exceptions: str) -> None:
    async with proxying() as proxy:
        variables = {"http_proxy": f"http://127.0.0.1:{proxy.port}", "NO_PROXY": exceptions}
        async with world(environment=variables) as w:
            await w.env.invoke({"lines": 3})
            await w.env.shutdown()
            assert all(w.numbers(sink) == Counter(range(3)) for sink in SINKS)
    assert proxy.requests == []


async def test_strict_mode_fails_the_start_instead() -> None:
    with pytest.raises(InitFailed, match=r"Extension\.CannotRun|Extension\.InitError"):
        async with world(environment={"TELEMETRY_FORWARDER_STRICT": "true", "DD_SITE": "not a site"}):
            pass


async def test_strict_mode_fails_the_start_where_the_port_is_taken() -> None:
    async with world() as first:
        port = first.env.function.environment["TELEMETRY_FORWARDER_PORT"]
        with pytest.raises(InitFailed, match=r"Extension\.InitError"):
            async with world(environment={"TELEMETRY_FORWARDER_STRICT": "true", "TELEMETRY_FORWARDER_PORT": port}):
                pass


async def test_strict_mode_with_sound_settings_changes_nothing() -> None:
    async with world(environment={"TELEMETRY_FORWARDER_STRICT": "true"}) as w:
        await w.env.invoke({"lines": 3})
        await w.env.shutdown()
        assert all(w.numbers(sink) == Counter(range(3)) for sink in SINKS)


async def test_port_that_is_taken_leaves_the_function_unharmed() -> None:
    async with world() as first:
        port = first.env.function.environment["TELEMETRY_FORWARDER_PORT"]
        async with world(environment={"TELEMETRY_FORWARDER_PORT": port}) as second:
            result = await second.env.invoke({"lines": 1})
            assert result.status == "success"
            assert result.held_ms == {}
            await second.env.shutdown()
            assert any(f"Port {port} cannot be listened on" in line["message"] for line in second.said)


async def test_unknown_log_level_is_named_and_problems_are_seen_at_the_default_one() -> None:
    async with world(environment={"TELEMETRY_FORWARDER_LOG_LEVEL": "loud"}) as w:
        await w.env.invoke({})
        await w.env.shutdown()
        (said,) = w.said
        assert "TELEMETRY_FORWARDER_LOG_LEVEL is 'loud'" in said["message"]
