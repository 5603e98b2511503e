"""The base of the local AWS services: AWS JSON 1.1 over one path, checks of SigV4 signatures, and error bodies.

A signature itself is not verified (a local service knows no secret keys), but its form, scope and date are. Sources:
the AWS Signature Version 4 reference and the AWS JSON 1.1 protocol.
"""

import re
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar, NoReturn, TypeAlias

import orjson
from aiohttp import web

from local_backends.faults import Answer, Fault, Throttle, TooLarge
from local_backends.server import Backend, Call, Reply

_CONTENT_TYPE = "application/x-amz-json-1.1"
_MAX_SKEW = 300.0  # seconds between X-Amz-Date and the service's clock
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>\w{1,128})/(?P<day>[0-9]{8})/(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9-]+)"
    r"/aws4_request, ?SignedHeaders=(?P<signed>[a-z0-9;-]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_USUAL_TYPE: Mapping[int, str] = {
    400: "InvalidParameterException",
    403: "AccessDeniedException",
    408: "RequestTimeoutException",
    413: "RequestEntityTooLarge",
    429: "ThrottlingException",
    500: "InternalFailure",
    503: "ServiceUnavailableException",
}
Members: TypeAlias = dict[str, Any]
Operation: TypeAlias = Callable[[Members, Call, Fault | None], Members]


class AwsError(Exception):
    """An error of the service: its type, message and HTTP status."""

    def __init__(self, error_type: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.message = message
        self.status = status


class AwsJson(Backend):
    """One AWS service. `target` is the part of `X-Amz-Target` before the dot; `service` is the signature's service.

    `region` is the service's region; None accepts any. `account` is used in its ARNs. `credential_error`, an error type
    such as `ExpiredTokenException` or `AccessDeniedException`, refuses every caller while it is set.
    """

    target: ClassVar[str]
    service: ClassVar[str]
    validation_error: ClassVar[str] = "ValidationException"

    def __init__(self, *, region: str | None = None, account: str = "123456789012", **listen: Any) -> None:
        super().__init__(**listen)
        self.region = region
        self.account = account
        self.credential_error: str | None = None
        self._operations = self.operations()

    def operations(self) -> Mapping[str, Operation]:
        """Return the operations of this service, by name."""
        raise NotImplementedError

    def arn(self, resource: str) -> str:
        """Return the ARN of `resource` in this service, region and account."""
        return f"arn:aws:{self.service}:{self.region or 'us-east-1'}:{self.account}:{resource}"

    def resource(self, arn: str) -> str | None:
        """Return the resource named by `arn`; None if it belongs to another service, account or region."""
        parts = arn.split(":", 5)
        if len(parts) < 6 or parts[0] != "arn" or parts[2] != self.service or parts[4] != self.account:
            return None
        return parts[5] if self.region in (None, parts[3]) else None

    def operation(self, request: web.BaseRequest) -> str:
        prefix, _, name = request.headers.get("X-Amz-Target", "").partition(".")
        return name if prefix == self.target and name else "unknown"

    def respond(self, call: Call, fault: Fault | None = None) -> Reply:
        try:
            self._check_call(call)
            self._check_signature(call)
            return _reply(200, self._operations[call.operation](_members(call), call, fault))
        except AwsError as error:
            return _error(error.error_type, error.message, error.status)

    def refuse(self, fault: Answer | Throttle | TooLarge, call: Call) -> Reply:
        match fault:
            case Answer(status=status, code=code, retry_after=wait):
                error_type = code if isinstance(code, str) else _USUAL_TYPE.get(status, "InternalFailure")
                return _error(error_type, "as scripted", status, wait)
            case Throttle(retry_after=wait, header=header):
                return _error("ThrottlingException", "Rate exceeded", 400, wait, header)
            case TooLarge():
                return _error("RequestEntityTooLarge", "Request entity too large", 413)

    def invalid(self, message: str) -> NoReturn:
        """Raise the service's validation error."""
        raise AwsError(self.validation_error, message)

    def constraint(self, member: str, rule: str) -> NoReturn:
        """Raise the service's error for a member that violates a constraint of its model, without its value."""
        self.invalid(f"1 validation error detected: Value at '{member}' failed to satisfy constraint: {rule}")

    def text(self, given: Members, name: str, pattern: re.Pattern[str], longest: int) -> str:
        """Return the string `name`. Raises AwsError unless it has 1 to `longest` characters and fits `pattern`."""
        value = given.get(name)
        if value is None:
            self.constraint(name, "Member must not be null")
        if not isinstance(value, str):
            raise AwsError("SerializationException", f"{name} is not a string")
        if not 1 <= len(value) <= longest:
            self.constraint(name, f"Member must have length between 1 and {longest}")
        if not pattern.fullmatch(value):
            self.constraint(name, f"Member must satisfy regular expression pattern: {pattern.pattern}")
        return value

    def _check_call(self, call: Call) -> None:
        if call.path != "/" or call.method != "POST":
            raise AwsError("UnknownOperationException", "only POST / is served", 404)
        if call.operation not in self._operations:
            raise AwsError("UnknownOperationException", f"no such operation: {call.operation}")
        if call.headers.get("Content-Type", "").partition(";")[0].strip() != _CONTENT_TYPE:
            raise AwsError("SerializationException", f"Content-Type must be {_CONTENT_TYPE}")

    def _check_signature(self, call: Call) -> None:
        check_signature(call, self.service, self.region)
        if self.credential_error is not None:
            raise AwsError(self.credential_error, "the caller is refused, as set")


def check_signature(call: Call, service: str, region: str | None) -> None:
    """Raise AwsError unless `call` is signed for `service` and, unless that is None, `region`, just now."""
    header = call.headers.get("Authorization")
    if header is None:
        raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token")
    found = _AUTHORIZATION.fullmatch(header)
    if found is None:
        raise AwsError("IncompleteSignatureException", "Authorization header is not of the form of SigV4")
    if found["service"] != service:
        raise AwsError("InvalidSignatureException", f"Credential should be scoped to correct service: '{service}'")
    if region is not None and found["region"] != region:
        raise AwsError("InvalidSignatureException", f"Credential should be scoped to a valid region: '{region}'")
    _check_date(call, found["day"])
    _check_signed(call, frozenset(found["signed"].split(";")))


def _check_date(call: Call, day: str) -> None:
    date = call.headers.get("X-Amz-Date", "")
    try:
        moment = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise AwsError("IncompleteSignatureException", "X-Amz-Date is missing or malformed") from error
    if date[:8] != day:
        raise AwsError("InvalidSignatureException", "Date in Credential scope does not match X-Amz-Date")
    if abs(moment.timestamp() - call.time) > _MAX_SKEW:
        raise AwsError("InvalidSignatureException", "Signature expired or not yet current")


def _check_signed(call: Call, signed: frozenset[str]) -> None:
    """Raise AwsError unless the signature covers the host and every `x-amz-*` header."""
    needed = {"host", *(name.lower() for name in call.headers if name.lower().startswith("x-amz-"))}
    if not needed <= signed:
        missing = ", ".join(sorted(needed - signed))
        raise AwsError("InvalidSignatureException", f"headers that must be signed are not: {missing}")


def _members(call: Call) -> Members:
    try:
        given = orjson.loads(call.body)
    except orjson.JSONDecodeError as error:
        raise AwsError("SerializationException", "the body is not JSON") from error
    if not isinstance(given, dict):
        raise AwsError("SerializationException", "the body is no object")
    return given


def _reply(status: int, members: Members, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(
        status, orjson.dumps(members), _CONTENT_TYPE, {"x-amzn-RequestId": str(uuid.uuid4()), **(headers or {})}
    )


def _error(error_type: str, message: str, status: int, wait: float | None = None, header: str = "Retry-After") -> Reply:
    headers = {} if wait is None else {header: f"{wait:g}", "x-amz-retry-after": f"{wait * 1000:.0f}"}
    return _reply(status, {"__type": error_type, "message": message}, headers)
