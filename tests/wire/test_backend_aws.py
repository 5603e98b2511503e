"""The local AWS services refuse what AWS refuses: the protocol, parameters and secrets, over real sockets."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from local_backends import (
    Answer,
    CloudWatchLogs,
    SecretsManager,
    Ssm,
    Throttle,
    TooLarge,
)
from tests.wire.aws_calls import GROUP, NOW, NOW_MS, batch, call, create, error, signed


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def logs() -> AsyncIterator[CloudWatchLogs]:
    async with CloudWatchLogs(now=lambda: NOW, region="eu-west-1") as logs:
        yield logs


# --- the protocol ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error_type"),
    [
        ({"Authorization": "Bearer x"}, "IncompleteSignatureException"),
        ({"AWS4-HMAC-SHA256": "AWS4-HMAC-SHA1"}, "IncompleteSignatureException"),
        ({"Signature=0f": "Signature=0F"}, "IncompleteSignatureException"),
        ({"X-Amz-Date": "yesterday"}, "IncompleteSignatureException"),
        ({"/logs/": "/s3/"}, "InvalidSignatureException"),
        ({"eu-west-1": "us-east-1"}, "InvalidSignatureException"),
        ({"host;": ""}, "InvalidSignatureException"),
        ({";x-amz-target": ""}, "InvalidSignatureException"),
        ({"X-Amz-Date": "20261004T000000Z"}, "InvalidSignatureException"),
        ({"X-Amz-Date": "20261003T000000Z"}, "InvalidSignatureException"),
        ({"/20261003/": "/20260101/"}, "InvalidSignatureException"),
        ({"X-Amz-Target": "Logs_20140328.Nothing"}, "UnknownOperationException"),
        ({"X-Amz-Target": "Other.PutLogEvents"}, "UnknownOperationException"),
        ({"Content-Type": "application/json"}, "SerializationException"),
    ],
)
async def test_refused_calls(
    client: aiohttp.ClientSession, logs: CloudWatchLogs, changes: dict[str, str], error_type: str
) -> None:
    headers = signed(logs, "DescribeLogGroups", **changes)
    status, body = await call(client, logs, "DescribeLogGroups", {}, headers)
    assert (status, body["__type"]) == (400, error_type)


async def test_good_call_missing_signature_and_bad_bodies(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    assert await call(client, logs, "DescribeLogGroups", {}) == (200, {"logGroups": []})
    headers = signed(logs, "DescribeLogGroups")
    del headers["Authorization"]
    assert (await call(client, logs, "", {}, headers))[1]["__type"] == "MissingAuthenticationTokenException"
    for body in (b"", b"nonsense", b"[]"):
        assert (await call(client, logs, "DescribeLogGroups", body))[1]["__type"] == "SerializationException"
    async with client.post(logs.url + "/else", headers=signed(logs, "DescribeLogGroups")) as answer:
        assert answer.status == 404


async def test_clock_skew_of_five_minutes(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    headers = signed(logs, "DescribeLogGroups")
    logs.now = lambda: NOW + 299
    assert (await call(client, logs, "", {}, headers))[0] == 200
    logs.now = lambda: NOW + 301
    assert (await call(client, logs, "", {}, headers))[1]["__type"] == "InvalidSignatureException"


async def test_session_token_must_be_signed_and_stays_secret(
    client: aiohttp.ClientSession, logs: CloudWatchLogs
) -> None:
    headers = {**signed(logs, "DescribeLogGroups"), "X-Amz-Security-Token": "hush"}
    assert (await call(client, logs, "", {}, headers))[1]["__type"] == "InvalidSignatureException"
    headers["Authorization"] = headers["Authorization"].replace("x-amz-target", "x-amz-security-token;x-amz-target")
    assert (await call(client, logs, "", {}, headers))[0] == 200
    assert not {"x-amz-security-token", "authorization"} & set(logs.requests[-1].headers)


async def test_refused_credentials(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    logs.credential_error = "ExpiredTokenException"
    assert await error(client, logs, "DescribeLogGroups", {}) == "ExpiredTokenException"


async def test_scripted_errors(client: aiohttp.ClientSession, logs: CloudWatchLogs) -> None:
    """Throttling is HTTP 400 here; the operation that a fault meets can be named."""
    await create(client, logs)
    logs.faults.script(
        Throttle(),
        Answer(500),
        Answer(503),
        TooLarge(),
        Answer(400, code="AccessDeniedException"),
        Answer(400, stored=True),
    )
    seen = [await call(client, logs, "PutLogEvents", batch((NOW_MS, "m"))) for _ in range(6)]
    assert [(status, body["__type"]) for status, body in seen] == [
        (400, "ThrottlingException"),
        (500, "InternalFailure"),
        (503, "ServiceUnavailableException"),
        (413, "RequestEntityTooLarge"),
        (400, "AccessDeniedException"),
        (400, "InvalidParameterException"),
    ]
    assert len(logs.events(GROUP)) == 1
    logs.faults.script(Throttle(2), on="CreateLogGroup")
    async with client.post(logs.url, data=b"{}", headers=signed(logs, "CreateLogGroup")) as answer:
        assert (answer.status, answer.headers["x-amz-retry-after"], answer.headers["Retry-After"]) == (400, "2000", "2")


# --- secrets --------------------------------------------------------------------------------------------------------


async def test_parameters(client: aiohttp.ClientSession) -> None:
    async with Ssm(parameters={"/prod/token": "first"}) as ssm:

        async def get(name: str, **more: Any) -> Any:
            status, body = await call(client, ssm, "GetParameter", {"Name": name, "WithDecryption": True, **more})
            assert status == 200
            return body["Parameter"]

        assert (await get("/prod/token"))["Value"] == "first"
        hidden = await get("/prod/token", WithDecryption=False)
        assert (hidden["Type"], "first" in hidden["Value"]) == ("SecureString", False)
        assert ssm.put("/prod/token", "second") == 2
        newest = await get(hidden["ARN"])
        assert (newest["Value"], newest["Version"], newest["Name"]) == ("second", 2, "/prod/token")
        assert (await get("/prod/token:1"))["Value"] == "first"
        ssm.put("plain", "text", "String")
        assert (await get("plain", WithDecryption=False))["Value"] == "text"
        assert (await get("arn:aws:ssm:eu-west-1:123456789012:parameter/plain"))["Value"] == "text"


async def test_refused_parameters(client: aiohttp.ClientSession) -> None:
    async with Ssm(parameters={"/prod/token": "hush"}) as ssm:
        for name, error_type in (
            ("/prod/other", "ParameterNotFound"),
            ("arn:aws:ssm:eu-west-1:999999999999:parameter/prod/token", "ParameterNotFound"),
            ("/prod/token:2", "ParameterVersionNotFound"),
            ("/prod/token:label", "ParameterVersionNotFound"),
            ("prod/token", "ValidationException"),
            ("/prod/to ken", "ValidationException"),
            ("", "ValidationException"),
            (None, "ValidationException"),
            (7, "SerializationException"),
        ):
            assert await error(client, ssm, "GetParameter", {"Name": name}) == error_type
        wrong = {"Name": "/prod/token", "WithDecryption": "yes"}
        assert await error(client, ssm, "GetParameter", wrong) == "SerializationException"
        ssm.delete("/prod/token")
        assert await error(client, ssm, "GetParameter", {"Name": "/prod/token"}) == "ParameterNotFound"
        with pytest.raises(ValueError, match="no name"):
            ssm.put("with space", "x")


async def test_secrets(client: aiohttp.ClientSession) -> None:
    async with SecretsManager(secrets={"prod/token": "first", "binary": b"\x00\xff"}) as secrets:

        async def get(**members: Any) -> Any:
            status, body = await call(client, secrets, "GetSecretValue", members)
            assert status == 200
            return body

        arn = secrets.secret_arn("prod/token")
        first = await get(SecretId="prod/token")
        assert (first["SecretString"], first["ARN"], first["VersionStages"]) == ("first", arn, ["AWSCURRENT"])
        assert (await get(SecretId="binary"))["SecretBinary"] == "AP8="
        assert secrets.put("prod/token", "second") == arn
        assert (await get(SecretId=arn))["SecretString"] == "second"
        assert (await get(SecretId=arn[:-7]))["SecretString"] == "second"
        previous = await get(SecretId=arn, VersionStage="AWSPREVIOUS")
        assert (previous["SecretString"], previous["VersionId"]) == ("first", first["VersionId"])
        assert (await get(SecretId=arn, VersionId=first["VersionId"]))["SecretString"] == "first"
        secrets.put("prod/token", "third")
        assert (await get(SecretId=arn, VersionId=first["VersionId"]))["VersionStages"] == []


async def test_refused_secrets(client: aiohttp.ClientSession) -> None:
    async with SecretsManager(secrets={"token": "hush"}) as secrets:
        arn = secrets.secret_arn("token")
        for members, error_type in (
            ({"SecretId": "other"}, "ResourceNotFoundException"),
            ({"SecretId": arn.replace("123456789012", "999999999999")}, "ResourceNotFoundException"),
            ({"SecretId": arn[:-1]}, "ResourceNotFoundException"),
            ({"SecretId": "token", "VersionStage": "AWSPREVIOUS"}, "ResourceNotFoundException"),
            ({"SecretId": "token", "VersionId": "0" * 32}, "ResourceNotFoundException"),
            ({"SecretId": ""}, "InvalidParameterException"),
            ({}, "InvalidParameterException"),
        ):
            assert await error(client, secrets, "GetSecretValue", members) == error_type
        secrets.delete("token")
        assert await error(client, secrets, "GetSecretValue", {"SecretId": "token"}) == "InvalidRequestException"
        with pytest.raises(ValueError, match="no name"):
            secrets.put("with space", "x")


def test_values_are_in_no_repr() -> None:
    ssm, secrets = Ssm(parameters={"/a": "hush"}), SecretsManager(secrets={"a": "hush"})
    assert "hush" not in f"{vars(ssm)!r} {vars(secrets)!r}"
