"""What people read at the default level when something is wrong: which thing, what about it, and what to do. Once.

Each case is the real executable in a local Lambda, with backends that are told to be wrong.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from local_backends import Answer, SecretsManager
from tests.integration.sockets import hang, says, serving
from tests.integration.world import EXTENSION, assert_balanced, world

ALONE = {"TELEMETRY_FORWARDER_SINKS": "datadog", "TELEMETRY_FORWARDER_LOG_LEVEL": "warning"}
SPLUNK = {"TELEMETRY_FORWARDER_SINKS": "splunk", "TELEMETRY_FORWARDER_LOG_LEVEL": "warning"}
CLOUDWATCH = {"TELEMETRY_FORWARDER_SINKS": "cloudwatch", "TELEMETRY_FORWARDER_LOG_LEVEL": "warning"}
PAGE = (
    b"<html><head><title>Sign in to Hotel Wi-Fi</title></head><body>key=4f0e9c6b2f1f6f0b7a115d0c2c7e8a51</body></html>"
)
NEVER_BLAMED = "it has not answered in time"


@dataclass
class Said:
    """What came of a case: lines at WARN and ERROR, those of the first invocation, and what was dropped, and why."""

    lines: list[str]
    first: list[str]
    dropped: dict[str, int]
    delivered: int

    def has(self, *parts: str) -> bool:
        return any(all(part in line for part in parts) for line in self.lines)


async def told(
    environment: dict[str, str | None],
    sink: str,
    *,
    invocations: int = 2,
    begin: Callable[[Any], None] = lambda w: None,
    between: Callable[[Any, int], None] = lambda w, number: None,
) -> Said:
    """Run `invocations` with `environment`, and return what was said."""
    first: list[str] = []
    async with world(environment=environment, timeout_s=10.0) as w:
        begin(w)
        for number in range(invocations):
            result = await w.env.invoke({"first": number * 3, "lines": 3})
            assert result.status == "success"
            first = first or warnings(w)
            between(w, number)
        await w.env.shutdown()
        # The ledger is at INFO where nothing was lost, and is not said at this level.
        books = w.ledgers[0]["sinks"][sink] if w.ledgers else None
        if w.ledgers:
            assert_balanced(w.ledgers[0])
        everything = "\n".join(w.env.extension_output(EXTENSION.name))
        assert "dd-key" not in everything
        assert "hec-token" not in everything
        dropped = books["dropped"] if books else {}
        delivered = books["delivered"] if books else len(w.arrived(sink))
        return Said(warnings(w), first, dropped, delivered)


def warnings(w: Any) -> list[str]:
    seen = [line["message"] for line in w.said if line["level"] in ("WARN", "ERROR")]
    return [message for message in seen if not message.startswith("ledger")]


@asynccontextmanager
async def by_reference(**more: str | None) -> AsyncIterator[tuple[SecretsManager, dict[str, str | None]]]:
    async with SecretsManager(secrets={"dd": "dd-key"}) as manager:
        reference: dict[str, str | None] = {
            "DD_API_KEY": None,
            "DD_API_KEY_SECRET_ARN": manager.secret_arn("dd"),
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": manager.url,
        }
        yield manager, {**ALONE, **reference, **more}


# --- a secret -------------------------------------------------------------------------------------------------------


async def test_a_healthy_start_with_a_secret_by_reference_says_nothing() -> None:
    async with by_reference() as (_, environment):
        said = await told(environment, "datadog")
    assert said.lines == []
    assert said.delivered > 6


async def test_a_secret_that_may_not_be_read_is_named_in_the_first_invocation() -> None:
    """AccessDenied comes after 0.7 s: later than an invocation is held for."""
    body = b'{"__type":"AccessDeniedException","Message":"not authorized"}'
    deny = says(400, body, "Content-Type: application/x-amz-json-1.1")

    async def late(seen: Any, writer: Any) -> bool:
        await asyncio.sleep(0.7)
        return await deny(seen, writer)

    async with by_reference() as (_, environment), serving(late) as server:
        there = {"AWS_ENDPOINT_URL_SECRETS_MANAGER": server.url().rstrip("/")}
        said = await told({**environment, **there}, "datadog", invocations=3)
    told_of = ("secret:dd", "may not be read (AccessDenied", "allow secretsmanager:GetSecretValue", "role")
    assert any(all(part in line for part in told_of) for line in said.first), said
    assert not said.has(NEVER_BLAMED)
    assert set(said.dropped) == {"secret_unreadable"}
    assert len([line for line in said.lines if "may not be read" in line]) == 2, "once, and at the end"


async def test_a_secrets_manager_that_hangs_is_named_with_the_way_out_in_the_first_invocation() -> None:
    async with by_reference() as (_, environment), serving(hang) as server:
        there = {"AWS_ENDPOINT_URL_SECRETS_MANAGER": server.url().rstrip("/")}
        said = await told({**environment, **there}, "datadog", invocations=2)
    told_of = ("secret:dd", "was not read in time", "no answer in time", "VPC", "NAT gateway", "VPC endpoint")
    assert any(all(part in line for part in told_of) for line in said.first), said
    assert not said.has(NEVER_BLAMED)
    assert set(said.dropped) == {"secret_unreadable"}


async def test_a_secret_that_is_not_there_is_no_deadline() -> None:
    async with by_reference() as (manager, environment):
        nowhere = manager.secret_arn("dd").replace("secret:dd", "secret:nowhere")
        said = await told({**environment, "DD_API_KEY_SECRET_ARN": nowhere}, "datadog")
    assert said.has("secret:nowhere", "does not exist", "check name, region and account")
    assert set(said.dropped) == {"secret_unreadable"}


# --- what the function's own SDK is told -----------------------------------------------------------------------------

FOREIGN = {
    "AWS_PROFILE": "nosuch",
    "AWS_DEFAULT_PROFILE": "nosuch",
    "AWS_CONFIG_FILE": "/nonexistent/config",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
    "AWS_RETRY_MODE": "never",
    "AWS_MAX_ATTEMPTS": "many",
    "AWS_DEFAULTS_MODE": "nosuch",
    "AWS_STS_REGIONAL_ENDPOINTS": "nosuch",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_USE_DUALSTACK_ENDPOINT": "true",
    "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/other",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent/token",
    "AWS_SECURITY_TOKEN": "of long ago",
    "AWS_CREDENTIAL_EXPIRATION": "2001-01-01T00:00:00Z",
    "AWS_DATA_PATH": "/nonexistent",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "nowhere",
    "REQUESTS_CA_BUNDLE": "/nonexistent/ca.pem",
    "BOTOCORE_EXPERIMENTAL__PLUGINS": "nosuch=nosuch",
}


@pytest.mark.parametrize("is_empty", [False, True], ids=["set", "empty"])
async def test_the_functions_own_sdk_variables_have_no_effect_on_ours(is_empty: bool) -> None:
    async with by_reference() as (_, environment):
        foreign = dict.fromkeys([*FOREIGN, "AWS_CA_BUNDLE"], "") if is_empty else FOREIGN
        # Nothing here is about how long a busy machine takes.
        both = {"TELEMETRY_FORWARDER_SINKS": "datadog,cloudwatch", "TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS": "8000"}
        async with world(environment={**environment, **foreign, **both}, timeout_s=10.0) as w:
            for number in range(2):
                await w.env.invoke({"first": number * 3, "lines": 3})
            await w.env.shutdown()
            assert warnings(w) == []
            for sink in ("datadog", "cloudwatch"):
                assert set(w.numbers(sink)) == set(range(6)), sink


# --- who answers ----------------------------------------------------------------------------------------------------


async def test_a_page_with_status_200_is_no_delivery_to_datadog() -> None:
    async with serving(says(200, PAGE, "Content-Type: text/html")) as server:
        said = await told({**ALONE, "DD_LOGS_CONFIG_LOGS_DD_URL": server.url().rstrip("/")}, "datadog")
    assert said.has("HTTP 200 with text/html that begins “Sign in to Hotel Wi-Fi”", "DD_SITE", "proxy")
    assert (said.delivered, set(said.dropped)) == (0, {"wrong_address"})
    assert not said.has("4f0e9c6b")


async def test_a_page_with_status_200_is_no_delivery_to_splunk() -> None:
    async with serving(says(200, PAGE, "Content-Type: text/html")) as server:
        said = await told({**SPLUNK, "SPLUNK_HEC_URL": server.url().rstrip("/")}, "splunk")
    assert said.has("HTTP 200 with text/html that begins “Sign in to Hotel Wi-Fi”", "SPLUNK_HEC_URL", "proxy")
    assert (said.delivered, set(said.dropped)) == (0, {"wrong_address"})


@pytest.mark.parametrize("body", [PAGE, b""], ids=["page", "empty"])
async def test_a_200_that_is_not_of_aws_is_no_delivery_to_cloudwatch(body: bytes) -> None:
    async with serving(says(200, body, "Content-Type: text/html")) as server:
        there = {"AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": server.url().rstrip("/")}
        said = await told({**CLOUDWATCH, **there}, "cloudwatch")
    assert said.has("what answered is not AWS (HTTP 200 with", "AWS_ENDPOINT_URL", "proxy")
    assert (said.delivered, set(said.dropped)) == (0, {"wrong_address"})


# --- refusals ---------------------------------------------------------------------------------------------------------


async def test_a_wrong_key_names_the_key_and_the_site_and_what_to_do() -> None:
    said = await told({**ALONE, "DD_API_KEY": "wrong-key"}, "datadog")
    assert said.has("HTTP 403", "DD_API_KEY", "DD_SITE", "API key (no application key)")
    assert set(said.dropped) == {"unauthorized"}
    assert len(said.lines) == 2, said.lines  # once, and at the end


async def test_a_wrong_token_names_the_token() -> None:
    said = await told({**SPLUNK, "SPLUNK_HEC_TOKEN": "wrong-token"}, "splunk")
    assert said.has("HTTP 403, code 4: the token is unknown", "SPLUNK_HEC_TOKEN", "SPLUNK_HEC_URL")
    assert set(said.dropped) == {"unauthorized"}


async def test_a_404_is_a_wrong_address_and_names_its_variable() -> None:
    async with serving(says(404, b"not here")) as server:
        said = await told({**SPLUNK, "SPLUNK_HEC_URL": server.url("/wrong")}, "splunk")
    assert said.has("HTTP 404: there is nothing at this address", "SPLUNK_HEC_URL")
    assert set(said.dropped) == {"wrong_address"}


async def test_a_role_that_may_not_write_is_told_the_action_and_the_group() -> None:
    denied = Answer(400, code="AccessDeniedException", times=None)
    said = await told(CLOUDWATCH, "cloudwatch", begin=lambda w: w.cloudwatch.faults.script(denied))
    assert said.has("AccessDeniedException", "logs:PutLogEvents", "/telemetry-forwarder/test", "role")
    assert set(said.dropped) == {"unauthorized"}


async def test_nothing_that_listens_is_unreachable() -> None:
    said = await told({**SPLUNK, "SPLUNK_HEC_URL": "http://127.0.0.1:9"}, "splunk")
    assert said.has("127.0.0.1:9: no connection (Connection refused)")
    assert set(said.dropped) == {"unreachable"}


# --- one after the other ----------------------------------------------------------------------------------------------


async def test_each_new_cause_and_the_recovery_are_said_at_the_default_level() -> None:
    def begin(w: Any) -> None:
        w.datadog.faults.script(Answer(503), Answer(502))

    said = await told({**ALONE, "TELEMETRY_FORWARDER_FLUSH": "end"}, "datadog", begin=begin)
    assert said.lines == ["Sink datadog: HTTP 503.", "Sink datadog: HTTP 502.", "Sink datadog is delivering again."]
