"""What an error of a service, or no answer, means to the caller: an outcome, and a sentence that says what to do."""

from typing import NamedTuple

from aiohttp.client_exceptions import ConnectionTimeoutError

from telemetry_forwarder.aws_errors import Meaning, meaning_of
from telemetry_forwarder.clock import Moment
from telemetry_forwarder.errors import TimedOut, TransportError
from telemetry_forwarder.interfaces import AwsResponse
from telemetry_forwarder.secrets.answers import Answer, Outcome
from telemetry_forwarder.secrets.names import SECRETS_MANAGER, SSM, Key
from telemetry_forwarder.transports.aws_json import BODY
from telemetry_forwarder.transports.steps import VPC

_PERMISSIONS = {SECRETS_MANAGER: "secretsmanager:GetSecretValue", SSM: "ssm:GetParameter"}

# A call that takes longer is reported. A service answers in some 20 to 300 ms, connection included.
SLOW_S = 0.4


class Wait(NamedTuple):
    """How many seconds a call has been under way, and a sentence that says what it waits for."""

    seconds: float
    text: str

    @property
    def is_normal(self) -> bool:
        return self.seconds < SLOW_S


def refused(key: Key, response: AwsResponse, asked: Moment) -> Answer:
    """Return the answer for an error of the service, with the service's own status and body."""
    outcome, message = meaning(key, response.error or "")
    if response.is_unsent:
        return Answer(outcome, asked, message=f"{key} cannot be read: {response.message}.")
    return Answer(outcome, asked, response.status, response.body.get(BODY, b""), message)


def meaning(key: Key, kind: str) -> tuple[Outcome, str]:
    """Return the outcome for an error of the type `kind`, and a sentence that says what to do.

    Unknown types count as passing (UNAVAILABLE).
    """
    match meaning_of(kind):
        case Meaning.MISSING:
            return Outcome.NOT_FOUND, (
                f"{key} does not exist or is being deleted ({kind}); check name, region and account."
            )
        case Meaning.MALFORMED:
            return Outcome.INVALID, f"{key} does not exist: the service does not take such a name or version ({kind})."
        case Meaning.FORBIDDEN:
            return Outcome.DENIED, (
                f"{key} may not be read ({kind}); allow {_PERMISSIONS[key.service]} on it to the function's role, "
                "and kms:Decrypt on its key if that is your own."
            )
        case Meaning.UNREADABLE_KEY:
            return Outcome.DENIED, (
                f"{key} cannot be decrypted ({kind}); allow kms:Decrypt on its key to the function's role."
            )
        case Meaning.BAD_CREDENTIALS | Meaning.EXPIRED:
            return Outcome.BAD_CREDENTIALS, (
                f"{key} cannot be read: AWS does not accept the function's credentials ({kind})."
            )
        case Meaning.THROTTLED:
            outcome = Outcome.THROTTLED
        case _:
            outcome = Outcome.UNAVAILABLE
    return outcome, f"{key} cannot be read now ({kind})."


def not_in_time(key: Key, why: str) -> str:
    """Return a sentence that says why `key` has no answer yet; the same one is used before and after the timeout."""
    return f"{key} was not read in time: {why}."


def no_answer(key: Key, error: TransportError, asked: Moment) -> Answer:
    """Return the answer for a call without a response."""
    if isinstance(error, TimedOut):
        return Answer(Outcome.TIMED_OUT, asked, message=not_in_time(key, f"{error}; {VPC}"))
    if isinstance(error.__cause__, ConnectionTimeoutError):
        return Answer(Outcome.UNAVAILABLE, asked, message=not_in_time(key, str(error)))
    return Answer(Outcome.UNAVAILABLE, asked, message=f"{key} cannot be read now: {error}.")


def in_time(key: Key, last: Answer | None, at: Moment, waited: Wait | None = None) -> Answer:
    """Return the answer after the timeout: the last answer of the service, with the outcome TIMED_OUT."""
    if last is None:
        return Answer(Outcome.TIMED_OUT, at, message=waited.text if waited else f"{key} was not read in time.")
    message = f"{last.message} The time for it is over."
    return Answer(Outcome.TIMED_OUT, at, last.status, last.body, message)
