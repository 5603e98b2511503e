"""Finding the token in the value of a secret, for the forwarder's own settings. Pure.

No error here is chained to the exception that caused it, because `JSONDecodeError.doc` and `UnicodeDecodeError.object`
contain the value.
"""

import base64
import json
from typing import Any

from telemetry_forwarder.errors import SecretNotFound
from telemetry_forwarder.secrets.answers import Answer
from telemetry_forwarder.variables.types import Secret, SecretReference, SecretText


def token_of(reference: SecretReference, answer: Answer) -> Secret:
    """Return the token in a found answer. Raises SecretNotFound, whose text names the reference and what to do."""
    value, is_binary = answer.value()
    return token_in(reference, base64.b64decode(value) if is_binary else value)


def token_in(reference: SecretReference, value: str | bytes) -> Secret:
    """Return the token in `value`: all of it or, if `reference.key` is set, that member of the JSON object.

    Raises SecretNotFound.
    """
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
    token = _secret_of(text)
    if token is None:
        raise SecretNotFound(f"{name} does not hold {SecretText.allowed}.")
    return token


def shown(reference: SecretReference) -> str:
    kind = "SSM parameter" if reference.service == "ssm" else "Secret"
    return f"{kind} {reference.name}" + (f"#{reference.key}" if reference.key else "")


# Each of these functions catches the exception that contains the value, before anything else is raised.


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


def _secret_of(text: str) -> Secret | None:
    try:
        return SecretText().read(text)
    except ValueError:
        return None
