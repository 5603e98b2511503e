"""The answer to a request for a secret or parameter: the service's own response, or why there is none. Pure."""

import json
from enum import StrEnum
from typing import Any

import orjson
from msgspec import Struct

from telemetry_forwarder.clock import Moment
from telemetry_forwarder.records.lossless_json import trimmed


class Outcome(StrEnum):
    """How a request ended. The first four are final; the others are passing, so a later request may end differently."""

    FOUND = "found"
    NOT_FOUND = "not found"
    DENIED = "denied"
    INVALID = "invalid"  # the service does not accept the name, version or label
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    TIMED_OUT = "timed out"
    BAD_CREDENTIALS = "bad credentials"
    BUSY = "busy"  # too many requests at once
    FAILED = "failed"  # a setting of the SDK is wrong, or there is a bug

    @property
    def is_final(self) -> bool:
        return self in (Outcome.FOUND, Outcome.NOT_FOUND, Outcome.DENIED, Outcome.INVALID)


class Answer(Struct, eq=False):
    """One answer. `status` and `body` are the service's (0 and empty if it gave none); `message` is ours.

    `asked` is when the request was sent. The body contains the secret value and is never shown.
    """

    outcome: Outcome
    asked: Moment
    status: int = 0
    body: bytes = b""
    message: str = ""
    stale_s: float | None = None  # set if it was given after its TTL because the service was down: seconds past it
    _value_json: bytes = b""

    def __repr__(self) -> str:
        return f"Answer({self.outcome!r}, {self.asked!r}, {self.status}, {self.message!r}, {self.stale_s})"

    @property
    def is_found(self) -> bool:
        return self.outcome is Outcome.FOUND

    @property
    def size(self) -> int:
        """The approximate size in memory, in bytes: the body, and the same again for `value_json`."""
        return 2 * len(self.body) + 512

    def value(self) -> "tuple[str, bool]":
        """Return the value of a found answer, and whether it is a binary secret in base64."""
        return value_in(self.body)

    def value_json(self) -> bytes:
        """Return `{"value": …}` as JSON; it is made only once."""
        if not self._value_json:
            text, is_binary = self.value()
            self._value_json = as_json({"value": text, "encoding": "base64"} if is_binary else {"value": text})
        return self._value_json

    def given_stale(self, seconds: float) -> "Answer":
        """Return a copy that is marked as stale: `seconds` past its TTL."""
        return Answer(self.outcome, self.asked, self.status, self.body, self.message, seconds, self._value_json)


def value_in(body: bytes) -> tuple[str, bool]:
    """Return the value in the service's JSON, and whether it is binary (base64).

    Raises ValueError if there is none; the error never contains the body.
    """
    members = object_in(body)
    holder = members.get("Parameter", members)
    text = holder.get("Value", holder.get("SecretString")) if isinstance(holder, dict) else None
    if isinstance(text, str):
        return text, False
    binary = members.get("SecretBinary")
    if isinstance(binary, str):
        return binary, True
    raise ValueError("the answer holds no value")


def object_in(body: bytes) -> dict[str, Any]:
    """Return the JSON object in `body`. Raises ValueError if it is none; the error never contains the body."""
    value = _loads(body)
    if not isinstance(value, dict):
        raise ValueError("the answer is no JSON object")
    return value


def _loads(body: bytes) -> Any:
    """Return the JSON value in `body`, or None. The decoder's exceptions contain the text, so they end here."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:  # perhaps an escaped half of a surrogate pair, which `json` accepts
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return None


def as_json(value: Any) -> bytes:
    """Return `value` as JSON; it may contain any text, also lone surrogates."""
    try:
        return trimmed(orjson.dumps(value))
    except orjson.JSONEncodeError:
        return json.dumps(value).encode()
