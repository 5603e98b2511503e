"""What a question came to: the service's own words, or why there are none. Pure."""

import json
from enum import StrEnum
from typing import Any

import orjson

from telemetry_forwarder.clock import Moment
from telemetry_forwarder.lazy_dataclass import dataclass, field


class Outcome(StrEnum):
    """How a question ended. The first four are final; the others may be another tomorrow."""

    FOUND = "found"
    NOT_FOUND = "not found"
    DENIED = "denied"
    INVALID = "invalid"  # the service does not take the name, version or label
    THROTTLED = "throttled"
    UNAVAILABLE = "unavailable"
    TIMED_OUT = "timed out"
    BAD_CREDENTIALS = "bad credentials"
    BUSY = "busy"  # too much is being asked at once
    FAILED = "failed"  # a setting of the SDK is wrong, or a bug

    @property
    def is_final(self) -> bool:
        return self in (Outcome.FOUND, Outcome.NOT_FOUND, Outcome.DENIED, Outcome.INVALID)


@dataclass(slots=True, eq=False)
class Answer:
    """One answer. `status` and `body` are the service's (0 and empty where it gave none), `message` is ours.

    `asked` is when the request was sent that brought it. A body holds the value and is never shown.
    """

    outcome: Outcome
    asked: Moment
    status: int = 0
    body: bytes = field(default=b"", repr=False)
    message: str = ""
    stale_s: float | None = None  # how long past its time it was given, where the service could not be asked
    _value_json: bytes = field(default=b"", repr=False)

    @property
    def is_found(self) -> bool:
        return self.outcome is Outcome.FOUND

    @property
    def size(self) -> int:
        """Bytes of memory that it takes, about: the body, and as much for the form in which `/` gives the value."""
        return 2 * len(self.body) + 512

    def value(self) -> "tuple[str, bool]":
        """Return the value of a found answer, and whether it is the base64 of a binary secret."""
        return value_in(self.body)

    def value_json(self) -> bytes:
        """Return `{"value": …}`, made once."""
        if not self._value_json:
            text, is_binary = self.value()
            self._value_json = as_json({"value": text, "encoding": "base64"} if is_binary else {"value": text})
        return self._value_json

    def given_stale(self, seconds: float) -> "Answer":
        """Return a copy that says that it is `seconds` past its time."""
        return Answer(self.outcome, self.asked, self.status, self.body, self.message, seconds, self._value_json)


def value_in(body: bytes) -> tuple[str, bool]:
    """Find the value in the service's JSON. Raises ValueError, which never holds the body, where there is none."""
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
    """Return the JSON object in `body`. Raises ValueError, which never holds the body."""
    value = _loads(body)
    if not isinstance(value, dict):
        raise ValueError("the answer is no JSON object")
    return value


def _loads(body: bytes) -> Any:
    """Return what `body` says, or None: the decoder's exceptions hold the text, so they end here."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:  # an escaped half of a surrogate pair, which json takes
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            return None


def as_json(value: Any) -> bytes:
    """Return `value` as JSON, whatever text it holds."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value).encode()
