"""Secrets and parameters from moto, which others wrote, and from a service that says what it is told to say."""

import asyncio
import json
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from aiobotocore.session import get_session

from telemetry_forwarder.clock import SystemClock
from telemetry_forwarder.errors import SecretDenied, SecretNotFound, SecretUnavailable
from telemetry_forwarder.log import Log
from telemetry_forwarder.secrets import fetch as fetching
from telemetry_forwarder.secrets.service import SecretsService, open_secrets_service
from telemetry_forwarder.secrets.settings import secrets_from
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.types import Secret, SecretReference

from .aws_service import ENDPOINTS, REGION, Service, endpoint, environment, error, moto
from .sockets import hang, raw, says, serving

# Fixtures are found by name in the module that asks for them.
__all__ = ["endpoint", "environment", "moto"]


async def with_service(use: Callable[[SecretsService], Any], region: str | None = None, **environ: str) -> Any:
    """Open a service, use it, close it."""
    settings = secrets_from(read_all(environ))
    quiet = Log("error")
    async with open_secrets_service(settings, [], Network(region=region), clock=SystemClock(), log=quiet) as service:
        return await use(service)


async def fetch(reference: SecretReference, region: str | None = None, **environ: str) -> Secret:
    secret: Secret = await with_service(lambda service: service.fetch(reference), region, **environ)
    return secret


async def test_moto_gives_secrets_and_parameters(moto, endpoint):
    endpoint(moto)
    async with get_session().create_client("secretsmanager", region_name="us-west-2") as client:
        whole = (await client.create_secret(Name="whole", SecretString="t0ken\n"))["ARN"]
        member = (await client.create_secret(Name="member", SecretString='{"hec": "t0ken"}'))["ARN"]
        binary = (await client.create_secret(Name="binary", SecretBinary=b" t0ken"))["ARN"]
    async with get_session().create_client("ssm", region_name=REGION) as client:
        await client.put_parameter(Name="/hec/token", Value="t0ken", Type="SecureString")
        name = (await client.get_parameter(Name="/hec/token"))["Parameter"]["ARN"]
    for reference in (
        SecretReference("secretsmanager", whole),
        SecretReference("secretsmanager", member, "hec"),
        SecretReference("secretsmanager", binary),
        SecretReference("ssm", "/hec/token"),
        SecretReference("ssm", name),
    ):
        secret = await fetch(reference)
        assert (secret.reveal(), repr(secret)) == ("t0ken", "***")


@pytest.mark.parametrize(
    "reference",
    [
        SecretReference("ssm", "/not/there"),
        SecretReference("secretsmanager", f"arn:aws:secretsmanager:{REGION}:123456789012:secret:not-there"),
    ],
)
async def test_moto_knows_no_such_secret(moto, endpoint, reference):
    endpoint(moto)
    with pytest.raises(SecretNotFound, match=f"{reference.name} does not exist"):
        await fetch(reference)


HEC = SecretReference("ssm", "/hec/token")
ARN = SecretReference("secretsmanager", f"arn:aws:secretsmanager:{REGION}:123456789012:secret:hec-AbCdEf", "token")


@pytest.mark.parametrize(
    ("kind", "reference", "error_class", "says_what"),
    [
        ("AccessDeniedException", HEC, SecretDenied, "ssm:GetParameter"),
        ("AccessDeniedException", ARN, SecretDenied, "secretsmanager:GetSecretValue"),
        ("DecryptionFailure", ARN, SecretDenied, "kms:Decrypt"),
        ("InvalidRequestException", ARN, SecretNotFound, "being deleted"),
    ],
)
async def test_a_refusal_says_what_to_do_and_is_not_asked_twice(endpoint, kind, reference, error_class, says_what):
    async with serving(error(kind)) as server:
        endpoint(server.url())
        with pytest.raises(error_class, match=says_what) as caught:
            await fetch(reference)
    assert reference.name in str(caught.value)
    assert kind in str(caught.value)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "failure",
    [error("InternalServerError", 500), raw(b""), says(200, b"<html>hidden</html>")],
    ids=["unwell", "closed", "not JSON"],
)
async def test_a_service_that_is_away_is_asked_once_more(endpoint, failure):
    good = says(200, json.dumps({"Parameter": {"Value": "t0ken"}}).encode())
    service = Service(GetParameter=[failure, good, failure, failure])
    async with serving(service) as server:
        endpoint(server.url())
        assert (await fetch(HEC)).reveal() == "t0ken"
        with pytest.raises(SecretUnavailable, match="/hec/token") as caught:
            await fetch(HEC)
    assert "hidden" not in str(caught.value)
    assert service.calls == ["GetParameter"] * 4
    assert all(body == {"Name": "/hec/token", "WithDecryption": True} for body in service.bodies)


async def test_a_service_that_hangs_is_given_up(endpoint, monkeypatch):
    monkeypatch.setattr(fetching, "READ_S", 0.1)
    async with serving(hang) as server:
        endpoint(server.url())
        with pytest.raises(SecretUnavailable, match="no answer in time"):
            await fetch(HEC)
    assert len(server.requests) == 2


async def test_a_service_that_throttles_is_asked_until_it_gives_or_the_time_is_over(endpoint, monkeypatch):
    monkeypatch.setattr(fetching, "LONGEST_PAUSE_S", 0.05)
    good = says(200, json.dumps({"Parameter": {"Value": "t0ken"}}).encode())
    service = Service(GetParameter=[*[error("ThrottlingException")] * 6, good])
    async with serving(service) as server:
        endpoint(server.url())
        assert (await fetch(HEC)).reveal() == "t0ken"
    assert len(service.calls) == 7
    async with serving(error("ThrottlingException")) as server:
        endpoint(server.url())
        with pytest.raises(SecretUnavailable, match=r"\(ThrottlingException\). The time for it is over"):
            await fetch(HEC, SSM_PARAMETER_STORE_TIMEOUT_MILLIS="2000")
    assert len(server.requests) > 3


async def test_credentials_that_are_refused_are_taken_anew_once(endpoint, monkeypatch):
    """Lambda gives new ones; where they come from an address, as with SnapStart, they are asked for again."""
    good = says(200, json.dumps({"Parameter": {"Value": "t0ken"}}).encode())
    service = Service(GetParameter=[error("ExpiredTokenException"), good, *[error("ExpiredTokenException")] * 2])

    async def use(service: SecretsService) -> None:
        asking = asyncio.ensure_future(service.fetch(HEC))
        await server.asked.wait()
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDROTATED")
        assert (await asking).reveal() == "t0ken"
        with pytest.raises(SecretDenied, match="credentials"):
            await service.fetch(HEC, fresh=True)

    async with serving(service) as server:
        endpoint(server.url())
        await with_service(use)
    keys = [seen.headers["authorization"].split("Credential=")[1].split("/")[0] for seen in server.requests]
    assert keys[:2] == ["AKIDEXAMPLE", "AKIDROTATED"]
    assert len(keys) == 4


async def test_what_was_read_is_kept_until_a_fresh_one_is_wanted(endpoint):
    values = [says(200, json.dumps({"Parameter": {"Value": value}}).encode()) for value in ("old", "new")]
    service = Service(GetParameter=values)

    async def use(service: SecretsService) -> list[str]:
        return [(await service.fetch(HEC, fresh=fresh)).reveal() for fresh in (False, False, True, False)]

    async with serving(service) as server:
        endpoint(server.url())
        assert await with_service(use) == ["old", "old", "new", "new"]
    assert len(service.calls) == 2


async def test_a_malformed_secret_is_in_no_text_and_no_chain(endpoint):
    held = json.dumps({"SecretString": '{"token": "hidden'}).encode()
    async with serving(says(200, held)) as server:
        endpoint(server.url())
        with pytest.raises(SecretNotFound) as caught:
            await fetch(ARN)
    assert "hidden" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


async def test_without_credentials_or_region_it_is_said(endpoint, monkeypatch):
    endpoint("http://127.0.0.1:9")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(SecretDenied, match="no AWS credentials"):
        await fetch(HEC)
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv(ENDPOINTS[1])
    with pytest.raises(SecretNotFound, match="region"):
        await fetch(HEC)


async def test_the_region_of_an_arn_goes_before_all_others(endpoint):
    both = {"SecretString": "t0ken", "Parameter": {"Value": "t0ken"}}
    async with serving(says(200, json.dumps(both).encode())) as server:
        endpoint(server.url())
        await fetch(
            SecretReference("secretsmanager", "arn:aws:secretsmanager:sa-east-1:1:secret:x"), region="us-east-1"
        )
        await fetch(HEC, region="us-east-1")
    scopes = [seen.headers["authorization"].split("/", 2)[2] for seen in server.requests]
    assert [scope.partition("/aws4")[0] for scope in scopes] == ["sa-east-1/secretsmanager", "us-east-1/ssm"]
