"""What answers of AWS have in common, whoever asked: our own client (`aws_json`) or the SDK (`aws_calls`). Pure."""

from collections.abc import Mapping
from typing import Any

NO_CREDENTIALS = "there are no AWS credentials"
# The text for an answer that is not from AWS, with what to check.
NOT_AWS = "{where}: what answered is not AWS ({told}); check the proxy and AWS_ENDPOINT_URL_…, if they are set"
# AWS names each request in a header, and S3 names what it stored.
OF_AWS = frozenset({"x-amzn-requestid", "x-amz-request-id", "x-amz-id-2", "etag"})

_LONGEST_MESSAGE = 500


def error_type(members: Mapping[str, Any], status: int) -> str:
    """Return the type of an error without its namespace (`com.amazonaws.logs#…`); the status if the answer has none."""
    given = members.get("__type")
    return given.partition(":")[0].rpartition("#")[2] if given and isinstance(given, str) else str(status)


def longest(text: object) -> str:
    """Return a message as it may be logged."""
    return str(text or "")[:_LONGEST_MESSAGE]


def wait_asked_for(headers: Mapping[str, str]) -> float:
    """Return the seconds that `x-amz-retry-after` (in ms) or `retry-after` (in s) ask for; 0.0 without them."""
    for name, unit in (("x-amz-retry-after", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if value.isascii() and value.isdigit():
            return int(value) * unit
    return 0.0
