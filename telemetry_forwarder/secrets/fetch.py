"""Reading one credential from Secrets Manager or SSM Parameter Store, with the AWS SDK.

No error here is chained to the exception that it comes from: that one may hold the value (`JSONDecodeError.doc` and
`UnicodeDecodeError.object` are what could not be read, and the SDK's exceptions hold answers), and someone may log it.
"""

import asyncio
import json
from typing import Any

from botocore.exceptions import ClientError, NoRegionError, ParamValidationError

from telemetry_forwarder.errors import SecretDenied, SecretError, SecretNotFound, SecretUnavailable
from telemetry_forwarder.kinds import Secret, SecretReference, SecretText
from telemetry_forwarder.transports.aws_client import (
    NO_ANSWER,
    NO_CREDENTIALS,
    client_config,
    error_type,
    new_session,
    translated,
)
from telemetry_forwarder.transports.http import host_port

CONNECT_S = 2.0
READ_S = 2.0
PAUSE_S = 0.2

PERMISSIONS = {"secretsmanager": "secretsmanager:GetSecretValue", "ssm": "ssm:GetParameter"}

# Source: Secrets Manager API Reference, GetSecretValue; Systems Manager API Reference, GetParameter, and the common
# errors of both; read 2026-11-23. What is in none of these sets is taken as passing.
MISSING = {
    "ResourceNotFoundException",
    "InvalidRequestException",  # the secret is scheduled for deletion
    "InvalidParameterException",
    "ParameterNotFound",
    "ParameterVersionNotFound",
    "ValidationException",
}
FORBIDDEN = {"AccessDeniedException", "AccessDenied", "NotAuthorized"}
UNREADABLE_KEY = {"DecryptionFailure", "InvalidKeyId"}
BAD_CREDENTIALS = {
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "ExpiredTokenException",
    "IncompleteSignature",
    "MissingAuthenticationToken",
}


async def fetch(reference: SecretReference, *, region: str | None = None, ca_file: str | None = None) -> Secret:
    """Return what `reference` names, without surrounding white space.

    The region is the ARN's, where the reference is one, else `region`, else the SDK's own; endpoints and credentials
    come by the SDK's own variables (AWS_ENDPOINT_URL_SECRETS_MANAGER, AWS_ENDPOINT_URL_SSM, …). Connecting and reading
    are bounded by 2 s each; a service that is away is asked once more.

    Raises SecretNotFound, SecretDenied or SecretUnavailable; the text names the reference and what to do.
    """
    try:
        text = await fetch_once(reference, region, ca_file)
    except SecretUnavailable:
        await asyncio.sleep(PAUSE_S)
        text = await fetch_once(reference, region, ca_file)
    return token_of(reference, text)


async def fetch_once(reference: SecretReference, region: str | None, ca_file: str | None) -> str | bytes:
    """Return the whole value as the service holds it. Raises SecretError."""
    where = reference.service
    try:
        async with new_session().create_client(
            reference.service,
            region_name=region_of(reference.name) or region,
            verify=ca_file,
            config=client_config(connect_s=CONNECT_S, read_s=READ_S),
        ) as client:
            where = host_port(client.meta.endpoint_url)
            value = await ask(client, reference)
        if value is not None:
            return value
        failure: SecretError = SecretUnavailable(f"{shown(reference)} cannot be read now: {where} gave no value.")
    except ClientError as error:
        failure = refused(reference, error)
    except NO_CREDENTIALS:
        failure = SecretDenied(f"{shown(reference)} cannot be read: there are no AWS credentials.")
    except (NoRegionError, ParamValidationError, ValueError) as error:  # ValueError: region or endpoint of wrong form
        failure = SecretNotFound(f"{shown(reference)} cannot be asked for: {type(error).__name__}; check the region.")
    except NO_ANSWER as error:
        failure = SecretUnavailable(f"{shown(reference)} cannot be read now: {translated(error, where)}.")
    raise failure  # outside of the handlers: not chained


async def ask(client: Any, reference: SecretReference) -> str | bytes | None:
    """Return the value; None where the answer holds none (a proxy's page with status 200)."""
    value: str | bytes | None
    if reference.service == "ssm":
        answer = await client.get_parameter(Name=reference.name, WithDecryption=True)
        value = answer.get("Parameter", {}).get("Value")
    else:
        answer = await client.get_secret_value(SecretId=reference.name)
        value = answer.get("SecretString", answer.get("SecretBinary"))
    return value


def region_of(name: str) -> str | None:
    """Return the region of an ARN (`arn:PARTITION:SERVICE:REGION:…`); None where `name` is no ARN."""
    parts = name.split(":")
    return parts[3] if len(parts) > 5 and parts[0] == "arn" and parts[3] else None


def shown(reference: SecretReference) -> str:
    kind = "SSM parameter" if reference.service == "ssm" else "Secret"
    return f"{kind} {reference.name}" + (f"#{reference.key}" if reference.key else "")


def refused(reference: SecretReference, error: ClientError) -> SecretError:
    """Return what an answer of the service means for whoever configured `reference`."""
    kind = error_type(error.response)
    name = shown(reference)
    if kind in MISSING:
        return SecretNotFound(f"{name} does not exist or is being deleted ({kind}); check name, region and account.")
    if kind in FORBIDDEN:
        return SecretDenied(
            f"{name} may not be read ({kind}); allow {PERMISSIONS[reference.service]} on it to the function's role, "
            "and kms:Decrypt on its key if that is your own."
        )
    if kind in UNREADABLE_KEY:
        return SecretDenied(
            f"{name} cannot be decrypted ({kind}); allow kms:Decrypt on its key to the function's role."
        )
    if kind in BAD_CREDENTIALS:
        return SecretDenied(f"{name} cannot be read: AWS does not accept the function's credentials ({kind}).")
    return SecretUnavailable(f"{name} cannot be read now ({kind}).")


def token_of(reference: SecretReference, value: str | bytes) -> Secret:
    """Return the token in `value`: the whole of it, or the member `reference.key` of the JSON object that it is."""
    name = shown(reference)
    text = text_of(value)
    if text is None:
        raise SecretNotFound(f"{name} is binary and not UTF-8 text.")
    members = object_of(text)
    if reference.key is not None:
        if members is None:
            raise SecretNotFound(f"{name} cannot be found: the secret is not a JSON object; leave the #member out.")
        member = members.get(reference.key)
        if not isinstance(member, str):
            raise SecretNotFound(f"{name} is not there: the JSON object has no such member, or it is not a string.")
        text = member
    elif members is not None:
        hint = "add #member to the ARN" if reference.service == "secretsmanager" else "store the token alone"
        raise SecretNotFound(f"{name} is a JSON object and not a token; {hint}.")
    token = secret_of(text)
    if token is None:
        raise SecretNotFound(f"{name} does not hold {SecretText.allowed}.")
    return token


# Each of these ends the exception that holds the value before anything else is raised.


def text_of(value: str | bytes) -> str | None:
    try:
        return value if isinstance(value, str) else bytes(value).decode()
    except UnicodeDecodeError:
        return None


def object_of(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def secret_of(text: str) -> Secret | None:
    try:
        return SecretText().read(text)
    except ValueError:
        return None
