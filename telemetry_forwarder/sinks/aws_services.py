"""What the sinks for AWS's services have in common: the region, and how refusals are read (JSON, or S3's XML). Pure.

Sources: the API references of Firehose, Kinesis Data Streams and S3 with their common errors, and the services' models;
read 2026-11-28.
"""

import re
from collections.abc import Mapping

import orjson
from msgspec import Struct

from telemetry_forwarder.aws_errors import Meaning, meaning_of, short
from telemetry_forwarder.errors import ConfigError
from telemetry_forwarder.interfaces import Denied, DropReason, HttpResponse, Rejected, Retry, TooLarge, Verdict
from telemetry_forwarder.sinks.http_answers import (
    NEVER,
    UNAVAILABLE,
    Advice,
    not_theirs,
    quoted,
    read_status,
    wait_seconds,
)
from telemetry_forwarder.variables.reading import Values
from telemetry_forwarder.variables.table import Problem

# A request signed before a freeze may be sent long after it; EXPIRED is one, because each attempt is signed anew.
_PASSING = (Meaning.THROTTLED, Meaning.BUSY, Meaning.EXPIRED)
_REFUSED = (Meaning.FORBIDDEN, Meaning.BAD_CREDENTIALS)
_MISSING = ("ResourceNotFound", "NoSuchBucket")
_TOO_LARGE = ("EntityTooLarge", "MaxMessageLengthExceeded")
_CODE = re.compile(rb"<Code>([A-Za-z0-9.]{1,80})</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{1,1000})</Message>")
_LONGEST_MESSAGE = 300


def region_of(values: Values, variable: str, named: str | None, sink: str) -> str:
    """Return the region `named` in an ARN, or that in `variable`, or Lambda's. Raises ConfigError if there is none."""
    region = named or values[variable] or values["AWS_REGION"]
    if region is None:
        allowed = f"the region, also as {variable}"
        raise ConfigError([Problem("AWS_REGION", "not set", allowed, f"Sink {sink} does not run without it.")])
    return str(region)


class Target(Struct, frozen=True, kw_only=True):
    """What a sink writes to, for texts: `it` is e.g. `delivery stream orders in eu-west-1`, which `named_by` names.

    `actions` is what the function's role has to be allowed, `endpoint` the variable for another address of `service`.
    """

    service: str
    it: str
    named_by: str
    region_by: str
    actions: str
    endpoint: str

    @property
    def advice(self) -> Advice:
        """What to check if something else answers."""
        credential = f"the role of the function: allow {self.actions} on {self.it} ({self.named_by})"
        return Advice(who=self.service, credential=credential, address=f"{self.endpoint}, if it is set")


class Refusal(Struct, frozen=True):
    """The type of an error without namespace and `Exception`, its message, and the type as it came."""

    error: str
    message: str = ""
    given: str = ""


def refusal_in(response: HttpResponse) -> Refusal | None:
    """Return what an answer of AWS that is no success says; None if it is not AWS that says something."""
    body = response.body
    if body.lstrip()[:1] == b"<":
        found = _CODE.search(body[:4096])
        if found is None:
            return None
        given, said = found[1].decode(), _MESSAGE.search(body[:4096])
        return Refusal(short(given), said[1].decode("utf-8", "replace") if said else "", given)
    members = object_in(body) or {}
    named = members.get("__type") or response.headers.get("x-amzn-errortype", "")
    given = named.partition(":")[0].rpartition("#")[2] if isinstance(named, str) else ""
    if not given or len(given) > 80:
        return None
    told = members.get("message", members.get("Message"))
    return Refusal(short(given), told if isinstance(told, str) else "", given)


def object_in(body: bytes) -> Mapping[str, object] | None:
    """Return the JSON object in a body; None if it is something else."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def refused(response: HttpResponse, target: Target) -> Verdict:
    """Return the verdict for an answer that is no success: by the type of the error first, then by the status."""
    found = refusal_in(response)
    if found is None:
        return not_theirs(response, target.advice) if 200 <= response.status < 300 else _by_status(response, target)
    detail = found.given
    if meaning_of(found.given) is Meaning.TOO_LARGE or found.error in _TOO_LARGE or response.status == 413:
        return TooLarge(detail)
    if _may_pass(found, response.status):
        return Retry(after=wait_asked_for(response.headers), detail=detail)
    if found.error in _MISSING:
        check = f"check {target.named_by} and {target.region_by}"
        return Denied(f"{detail}: there is no {target.it}; {check}", DropReason.WRONG_ADDRESS)
    return _not_allowed(found, response.status, target) or Rejected(detail + quoted(found.message))


def _by_status(response: HttpResponse, target: Target) -> Verdict:
    answer = read_status(response, target.advice)
    return Retry(after=wait_asked_for(response.headers), detail=answer.detail) if isinstance(answer, Retry) else answer


def _may_pass(found: Refusal, status: int) -> bool:
    # AWS answers an expired signature with the same error type as one by a wrong key; only the message differs.
    is_stale = found.error in ("InvalidSignature", "SignatureDoesNotMatch") and "expired" in found.message.lower()
    if meaning_of(found.given) in _PASSING or is_stale or status in UNAVAILABLE:
        return True
    return status >= 500 and status != NEVER


def _not_allowed(found: Refusal, status: int, target: Target) -> Denied | None:
    """Return Denied if the role, its credentials or a key are at fault; None otherwise."""
    allow = f"allow {target.actions} on {target.it} ({target.named_by}) to the function's role"
    if found.error == "AccessDenied":  # its message names the missing action; others may quote a session token
        said = f"{found.message[:_LONGEST_MESSAGE].rstrip('.')}; " if found.message else ""
        return Denied(f"{found.given}: {said}{allow}")
    if found.error.startswith("KMS") or found.error == "InvalidKMSResource":
        return Denied(
            f"{found.given}: the key of {target.it} cannot be used{quoted(found.message)}; {allow}, and its key"
        )
    if meaning_of(found.given) in _REFUSED or status in (401, 403):
        return Denied(
            f"{found.given}: AWS does not accept the credentials of the function's role, or something between"
        )
    return None


def wait_asked_for(headers: Mapping[str, str]) -> float:
    """Return the seconds that `x-amz-retry-after` (in ms) or `retry-after` (in s) ask for; 0.0 without them."""
    return wait_seconds(headers, "x-amz-retry-after") / 1000 or wait_seconds(headers, "retry-after")
