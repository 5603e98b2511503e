"""The base of backends that are one address for JSON: what they all refuse, in the usual order."""

from abc import abstractmethod
from http import HTTPStatus
from typing import ClassVar

import orjson
from aiohttp import web

from local_backends.encodings import Corrupt, TooLong, Unsupported, decoded
from local_backends.faults import Answer, Fault, Throttle, TooLarge
from local_backends.server import Backend, Call, Reply

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Refused(Exception):
    """The request is refused, with this status. The text quotes nothing that was sent."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Intake(Backend):
    """A backend with one operation, `logs`. `max_bytes` is its limit for a body, unpacked."""

    deliveries: ClassVar[frozenset[str]] = frozenset({"logs"})
    content_types: ClassVar[tuple[str, ...]] = ("application/json",)
    encodings: ClassVar[frozenset[str]] = frozenset({"identity", "gzip"})
    max_bytes: ClassVar[int]

    @abstractmethod
    def is_mine(self, path: str) -> bool:
        """Return whether a path is that of the operation."""

    @abstractmethod
    def check_sender(self, call: Call) -> None:
        """Raise Refused without the right credential."""

    @abstractmethod
    def take(self, call: Call, body: bytes, fault: Fault | None) -> Reply:
        """Store what is in `body`, unpacked, and return the answer. Raises Refused."""

    def error(self, status: int, text: str) -> bytes:
        """Return the body of an error."""
        return orjson.dumps({"message": text})

    def operation(self, request: web.BaseRequest) -> str:
        return "logs" if self.is_mine(request.path) else "unknown"

    def respond(self, call: Call, fault: Fault | None = None) -> Reply:
        try:
            if call.operation == "unknown":
                raise Refused(404, "there is nothing at this path")
            if call.method != "POST":
                raise Refused(405, "only POST is taken")
            self.check_sender(call)
            if call.headers.get("Content-Type", "").partition(";")[0].strip().lower() not in self.content_types:
                raise Refused(415, f"the content type has to be one of {', '.join(self.content_types)}")
            return self.take(call, self._unpacked(call), fault)
        except Refused as error:
            return Reply(error.status, self.error(error.status, str(error)))

    def refuse(self, fault: Answer | Throttle | TooLarge, call: Call) -> Reply:
        match fault:
            case Answer(status=status, retry_after=wait):
                header = "Retry-After"
            case Throttle(retry_after=wait, header=header):
                status = 429
            case TooLarge():
                status, wait, header = 413, None, ""
        headers = {} if wait is None else {header: f"{wait:g}"}
        return Reply(status, self.error(status, _PHRASES.get(status, "as scripted")), headers=headers)

    def _unpacked(self, call: Call) -> bytes:
        encoding = call.headers.get("Content-Encoding", "identity")
        try:
            return decoded(call.body, encoding, self.max_bytes, accepted=self.encodings)
        except Unsupported as error:
            raise Refused(415, f"content encoding {error}") from error
        except TooLong as error:
            raise Refused(413, "the body is too large") from error
        except Corrupt as error:
            raise Refused(400, str(error)) from error


def lines_of(body: bytes) -> list[object]:
    """Return the JSON values of a body with one on each line. Raises Refused if one is none, or a line is empty."""
    try:
        return [orjson.loads(line) for line in body.removesuffix(b"\n").split(b"\n")]
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"a line is no JSON: {error}") from error
