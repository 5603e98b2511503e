"""A strict local HTTP source of Sumo Logic.

Sources: Sumo Logic, "HTTP Logs and Metrics Source" (upload, troubleshooting), "Search Large Messages"; read 2026-11-28.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

import orjson

from local_backends.faults import Fault, ServiceFault
from local_backends.intake import Intake, Refused
from local_backends.server import Call, Reply

_PATH = "/receiver/v1/http/"
_SLICE = 65_536
_QUOTA = "You have temporarily exceeded your Sumo Logic quota; the data was not kept"
_METADATA = ("name", "host", "category", "fields")


@dataclass(frozen=True, slots=True)
class Budget(ServiceFault):
    """Answer 200 and throw the data away, as an ingest budget that is used up does."""

    times: int | None = 1


@dataclass(frozen=True, slots=True)
class SumoMessage:
    """A message that was stored, with the metadata of its request. `members` is what its JSON says, {} if it is none.

    `time_ms` is what Sumo Logic finds at its beginning. A message of more than 64 KB is stored as slices.
    """

    text: str
    time_ms: int
    members: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)


class SumoLogic(Intake):
    """An HTTP source whose address ends in `token`, which may be changed while it runs. `address` is all of it."""

    content_types: ClassVar[tuple[str, ...]] = ("application/x-ndjson", "application/json", "text/plain")
    encodings: ClassVar[frozenset[str]] = frozenset({"identity", "gzip", "deflate"})
    own_faults: ClassVar[tuple[type, ...]] = (Budget,)
    max_bytes: ClassVar[int] = 8_000_000  # not documented; 1 MB is advised

    def __init__(self, *, token: str = "0" * 32, **listen: Any) -> None:
        super().__init__(**listen)
        self.token = token
        self.messages: list[SumoMessage] = []
        self.thrown_away = 0

    @property
    def address(self) -> str:
        return f"{self.url}{_PATH}{self.token}"

    @property
    def kept(self) -> Sequence[SumoMessage]:
        return self.messages

    def is_mine(self, path: str) -> bool:
        return path.startswith(_PATH)

    def shown(self, path: str) -> str:
        return f"{_PATH}***" if path.startswith(_PATH) else path

    def check_sender(self, call: Call) -> None:
        if call.path != f"{_PATH}{self.token}":
            raise Refused(401, "the token of the address is not valid")

    def error(self, status: int, text: str) -> bytes:
        return orjson.dumps({"status": status, "message": _QUOTA if status == 429 else text})

    def take(self, call: Call, body: bytes, fault: Fault | None) -> Reply:
        try:
            lines = body.decode().removesuffix("\n").split("\n")
        except UnicodeDecodeError as error:
            raise Refused(400, "not UTF-8") from error
        if isinstance(fault, Budget):
            self.thrown_away += len(lines)
            return Reply(200, content_type="text/plain")
        metadata = {name: found for name in _METADATA if (found := call.headers.get(f"X-Sumo-{name}"))}
        for line in lines:
            data = line.encode()
            for at in range(0, max(1, len(data)), _SLICE):
                piece = data[at : at + _SLICE].decode(errors="replace")
                self.messages.append(_message(piece, metadata, call.time))
        return Reply(200, content_type="text/plain")


def _message(text: str, metadata: Mapping[str, str], now: float) -> SumoMessage:
    try:
        members = orjson.loads(text)
    except orjson.JSONDecodeError:
        members = {}
    members = members if isinstance(members, dict) else {}
    return SumoMessage(text, _time_ms(text) or round(now * 1000), members, metadata)


def _time_ms(text: str) -> int | None:
    """Return the first time in a message, in ISO 8601; None if it is not at its beginning."""
    try:
        return round(datetime.fromisoformat(text.partition('":"')[2][:24]).timestamp() * 1000)
    except ValueError:
        return None
