"""What the services' errors, and their silence, mean to whoever asked: an outcome, and a sentence with what to do."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from botocore.exceptions import ClientError, ConnectTimeoutError

from telemetry_forwarder.clock import Moment
from telemetry_forwarder.errors import TimedOut
from telemetry_forwarder.secrets.answers import Answer, Outcome
from telemetry_forwarder.secrets.names import SECRETS_MANAGER, SSM, Key
from telemetry_forwarder.transports.aws import error_type, translated
from telemetry_forwarder.transports.steps import VPC, connection_wanted

PERMISSIONS = {SECRETS_MANAGER: "secretsmanager:GetSecretValue", SSM: "ssm:GetParameter"}
SERVICES = tuple(PERMISSIONS)

# Source: Secrets Manager API Reference, GetSecretValue; Systems Manager API Reference, GetParameter, and the common
# errors of both; read 2026-11-23. What is in none of these sets is taken as passing.
MISSING = {
    "ResourceNotFoundException",
    "InvalidRequestException",  # the secret is scheduled for deletion
    "ParameterNotFound",
    "ParameterVersionNotFound",
    "ParameterVersionLabelNotFound",
}
MALFORMED = {"InvalidParameterException", "ValidationException", "InvalidKeyId.Malformed"}
FORBIDDEN = {"AccessDeniedException", "AccessDenied", "NotAuthorized"}
UNREADABLE_KEY = {"DecryptionFailure", "InvalidKeyId"}
BAD_CREDENTIALS = {
    "UnrecognizedClientException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "ExpiredTokenException",
    "ExpiredToken",
    "IncompleteSignature",
    "MissingAuthenticationToken",
}
THROTTLED = {
    "ThrottlingException",
    "Throttling",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "RequestLimitExceeded",
    "SlowDown",
}

# Where the hook below puts the body of an answer, beside what the SDK read in it.
BODY = "telemetry-forwarder-body"

# A question that takes longer is worth a word. A service answers in some 20 to 300 ms, connection included.
SLOW_S = 0.4


class Wait(NamedTuple):
    """For how many seconds a question has been under way, and a sentence on what it waits for."""

    seconds: float
    text: str

    @property
    def is_normal(self) -> bool:
        return self.seconds < SLOW_S


def refused(key: Key, error: ClientError, asked: Moment) -> Answer:
    """Return what an answer of the service means for whoever asked; its own status and body go along."""
    kind = error_type(error.response)
    response: Mapping[str, Any] = error.response
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    outcome, message = meaning(key, kind)
    return Answer(outcome, asked, status, response.get(BODY, b""), message)


def meaning(key: Key, kind: str) -> tuple[Outcome, str]:
    """Return what an error of the type `kind` says about `key`, and what to do."""
    if kind in MISSING:
        return Outcome.NOT_FOUND, (
            f"{key} does not exist or is being deleted ({kind}); check name, region and account."
        )
    if kind in MALFORMED:
        return Outcome.INVALID, f"{key} does not exist: the service does not take such a name or version ({kind})."
    if kind in FORBIDDEN:
        return Outcome.DENIED, (
            f"{key} may not be read ({kind}); allow {PERMISSIONS[key.service]} on it to the function's role, "
            "and kms:Decrypt on its key if that is your own."
        )
    if kind in UNREADABLE_KEY:
        return Outcome.DENIED, (
            f"{key} cannot be decrypted ({kind}); allow kms:Decrypt on its key to the function's role."
        )
    if kind in BAD_CREDENTIALS:
        return Outcome.BAD_CREDENTIALS, (
            f"{key} cannot be read: AWS does not accept the function's credentials ({kind})."
        )
    outcome = Outcome.THROTTLED if kind in THROTTLED else Outcome.UNAVAILABLE
    return outcome, f"{key} cannot be read now ({kind})."


def not_in_time(key: Key, why: str) -> str:
    """Say of a question under way, and in the same words when its time is over, what has not answered."""
    return f"{key} was not read in time: {why}."


def no_answer(key: Key, error: BaseException, where: str, asked: Moment) -> Answer:
    """Return what it means that a call had no answer."""
    reason = translated(error, where)
    if isinstance(reason, TimedOut):
        return Answer(Outcome.TIMED_OUT, asked, message=not_in_time(key, f"{reason}; {VPC}"))
    if isinstance(error, ConnectTimeoutError):
        return Answer(Outcome.UNAVAILABLE, asked, message=not_in_time(key, connection_wanted(where).text))
    return Answer(Outcome.UNAVAILABLE, asked, message=f"{key} cannot be read now: {reason}.")


def in_time(key: Key, last: Answer | None, at: Moment, waited: Wait | None = None) -> Answer:
    """Return the answer when the time is over: the last that the service gave, as a time-out."""
    if last is None:
        return Answer(Outcome.TIMED_OUT, at, message=waited.text if waited else f"{key} was not read in time.")
    message = f"{last.message} The time for it is over."
    return Answer(Outcome.TIMED_OUT, at, last.status, last.body, message)
