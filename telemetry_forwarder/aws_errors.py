"""The meanings of AWS's error types: one table for all services. Pure.

Sources, read 2026-11-23: the API references of CloudWatch Logs, S3, SQS, SSM and Secrets Manager, each with its common
errors; Amazon S3, "Error responses"; the service models of Firehose and Kinesis.
"""

from enum import StrEnum


class Meaning(StrEnum):
    """What an error means, for all services alike."""

    THROTTLED = "throttled"
    BUSY = "busy"  # the service is unhealthy, or the resource is being changed
    EXPIRED = "expired"  # a signature or token expired, e.g. in a freeze: the next attempt signs anew
    BAD_CREDENTIALS = "bad credentials"
    FORBIDDEN = "forbidden"
    UNREADABLE_KEY = "unreadable key"  # a key of KMS
    MISSING = "missing"  # the resource does not exist, or is being deleted
    MALFORMED = "malformed"
    TOO_LARGE = "too large"
    UNKNOWN = "unknown"


# Some services add `Exception` to the name of a type, some do not; the table has the names without it.
TYPES = {
    Meaning.THROTTLED: (
        "Throttling", "Throttled", "RequestThrottled", "TooManyRequests", "RequestLimitExceeded", "SlowDown",
        "KmsThrottled", "KMSThrottling", "ProvisionedThroughputExceeded",
    ),
    Meaning.BUSY: (
        "ServiceUnavailable", "InternalFailure", "InternalServer", "InternalServerError", "InternalService",
        "InternalError", "RequestTimeout", "OperationAborted", "InvalidSequenceToken", "ConditionalRequestConflict",
    ),
    Meaning.EXPIRED: ("ExpiredToken", "RequestExpired", "RequestTimeTooSkewed"),
    Meaning.BAD_CREDENTIALS: (
        "UnrecognizedClient", "InvalidSignature", "SignatureDoesNotMatch", "IncompleteSignature", "InvalidAccessKeyId",
        "InvalidClientTokenId", "MissingAuthenticationToken", "AuthFailure", "OptInRequired",
    ),
    Meaning.FORBIDDEN: ("AccessDenied", "NotAuthorized"),
    Meaning.UNREADABLE_KEY: ("DecryptionFailure", "InvalidKeyId"),
    Meaning.MISSING: (
        "ResourceNotFound", "ParameterNotFound", "ParameterVersionNotFound", "ParameterVersionLabelNotFound",
        "InvalidRequest",  # a secret that is scheduled for deletion
    ),
    Meaning.MALFORMED: ("InvalidParameter", "Validation", "InvalidKeyId.Malformed"),
    Meaning.TOO_LARGE: ("RequestEntityTooLarge", "RequestTooLarge"),
}  # fmt: skip
_MEANINGS = {name: meaning for meaning, names in TYPES.items() for name in names}


def short(error_type: str) -> str:
    """Return an error type without the suffix `Exception` and the prefix of SQS."""
    return error_type.removeprefix("AWS.SimpleQueueService.").removesuffix("Exception")


def meaning_of(error_type: str | None) -> Meaning:
    return _MEANINGS.get(short(error_type or ""), Meaning.UNKNOWN)
