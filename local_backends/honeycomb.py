"""A strict local Honeycomb: the batch endpoint of one dataset.

Source: Honeycomb's API reference (Events, Errors, Rate limits), read 2026-11-28.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import unquote

import orjson

from local_backends.faults import Fault, ServiceFault
from local_backends.intake import Intake, Refused
from local_backends.server import Call, Reply

_LONGEST_EVENT = 1_000_000
_LONGEST_TEXT = 65_536
_MOST_FIELDS = 2_000


@dataclass(frozen=True, slots=True)
class RefuseEvents(ServiceFault):
    """Answer 200, with `status` for each `every`-th event from the first on; these are not stored."""

    status: int = 400
    error: str = "Event has too many columns"
    every: int = 1_000_000
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class HoneycombEvent:
    """An event that was stored: its time in ms since the epoch, and its data."""

    time_ms: int
    data: Mapping[str, Any]
    samplerate: int = 1


class Honeycomb(Intake):
    """Takes events for `dataset` with `key`, which may be changed while it runs. `events` are those that were stored.

    `strict` also refuses what the real one takes but makes no columns of: objects and arrays in an event.
    """

    own_faults: ClassVar[tuple[type, ...]] = (RefuseEvents,)
    max_bytes: ClassVar[int] = 5_000_000

    def __init__(self, *, key: str = "0" * 32, dataset: str = "lambda", strict: bool = True, **listen: Any) -> None:
        super().__init__(**listen)
        self.key = key
        self.dataset = dataset
        self.strict = strict
        self.events: list[HoneycombEvent] = []

    @property
    def kept(self) -> Sequence[HoneycombEvent]:
        return self.events

    def error(self, status: int, text: str) -> bytes:
        return orjson.dumps({"error": text})

    def is_mine(self, path: str) -> bool:
        return path.startswith("/1/batch/")

    def check_sender(self, call: Call) -> None:
        if call.headers.get("X-Honeycomb-Team") != self.key:
            raise Refused(401, "unknown API key - check your credentials")
        if unquote(call.path.removeprefix("/1/batch/")).lower() != self.dataset.lower():
            raise Refused(404, "Dataset not found")

    def take(self, call: Call, body: bytes, fault: Fault | None) -> Reply:
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Refused(400, "Request body is malformed and cannot be read as JSON") from error
        if not isinstance(given, list) or not given:
            raise Refused(400, "Request body should not be empty")
        answers: list[dict[str, Any]] = []
        for place, event in enumerate(given):
            if isinstance(fault, RefuseEvents) and place % fault.every == 0:
                answers.append({"status": fault.status, "error": fault.error})
            elif flaw := self._flaw(event):
                answers.append({"status": 400, "error": flaw})
            else:
                answers.append({"status": 202})
                self.events.append(_stored(event, call.time))
        return Reply(200, orjson.dumps(answers))

    def _flaw(self, event: Any) -> str:
        if not isinstance(event, dict) or not isinstance(data := event.get("data"), dict) or not data:
            return "Request body should not be empty"
        if len(orjson.dumps(event)) > _LONGEST_EVENT:
            return "Event exceeds the size limit"
        if len(data) > _MOST_FIELDS:
            return "Event has too many columns"
        if any(isinstance(value, str) and len(value.encode()) > _LONGEST_TEXT for value in data.values()):
            return "A string exceeds the size limit"
        if self.strict and any(isinstance(value, dict | list) for value in data.values()):
            return "this local Honeycomb takes flat data only"
        if "time" in event and _time_ms(event["time"]) is None:
            return "time has no known form"
        rate = event.get("samplerate", 1)
        return "" if type(rate) is int and rate > 0 else "samplerate has to be positive"


def _stored(event: Mapping[str, Any], now: float) -> HoneycombEvent:
    time_ms = _time_ms(event["time"]) if "time" in event else round(now * 1000)
    return HoneycombEvent(time_ms or 0, event["data"], event.get("samplerate", 1))


def _time_ms(value: Any) -> int | None:
    """Return a time in RFC 3339, or in seconds since the epoch, in ms; None if it is neither."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return round(value * 1000)
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return round(moment.timestamp() * 1000) if moment is not None and moment.tzinfo is not None else None
