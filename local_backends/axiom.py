"""A strict local Axiom: the ingest endpoint of one dataset, of the API and of an edge deployment.

Sources: Axiom's API reference ("Ingest data", "Limits") and its client for Go, read 2026-11-28.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

import orjson

from local_backends.faults import Fault, ServiceFault
from local_backends.intake import Intake, Refused, lines_of
from local_backends.server import Call, Reply

_MOST_EVENTS = 10_000
_LONGEST_STRING = 1_000_000
_LONGEST_NAME = 200
_TOO_LONG = "<invalid string: too long>"


@dataclass(frozen=True, slots=True)
class FailEvents(ServiceFault):
    """Answer 200, and say that the first `count` events failed, for the reason `error`; they are not stored."""

    count: int = 1
    error: str = "field limit exceeded"
    times: int | None = 1


@dataclass(frozen=True, slots=True)
class AxiomEvent:
    """An event that was stored: its time in ms since the epoch, and its members as Axiom keeps them."""

    time_ms: int
    members: Mapping[str, Any]
    has_time: bool = True
    sent: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Axiom(Intake):
    """Takes events for `dataset` with `token`. `token` may be changed while it runs.

    A personal token (`xapt-…`) needs the header of its `organisation`, and is refused at an edge deployment. An event
    that would give the dataset more than `most_fields` fields fails, inside a 200. `events` are those that were stored.
    """

    content_types: ClassVar[tuple[str, ...]] = ("application/json", "application/x-ndjson")
    own_faults: ClassVar[tuple[type, ...]] = (FailEvents,)
    max_bytes: ClassVar[int] = 16 * 1024 * 1024  # not documented

    def __init__(
        self,
        *,
        token: str = "0" * 32,
        dataset: str = "lambda",
        organisation: str = "local-org",
        most_fields: int = 1024,
        **listen: Any,
    ) -> None:
        super().__init__(**listen)
        self.token = token
        self.dataset = dataset
        self.organisation = organisation
        self.most_fields = most_fields
        self.events: list[AxiomEvent] = []
        self.fields: set[str] = set()

    @property
    def kept(self) -> Sequence[AxiomEvent]:
        return self.events

    def is_mine(self, path: str) -> bool:
        return path.startswith("/v1/ingest/") or (path.startswith("/v1/datasets/") and path.endswith("/ingest"))

    def check_sender(self, call: Call) -> None:
        given = call.headers.get("Authorization")
        if given is None:
            raise Refused(401, "missing authorization header")
        if given != f"Bearer {self.token}":
            raise Refused(403, "forbidden")
        is_edge = call.path.startswith("/v1/ingest/")
        if self.token.startswith("xapt-") and (is_edge or call.headers.get("X-Axiom-Org-Id") != self.organisation):
            raise Refused(403, "the token does not belong to the organisation")
        name = call.path.removeprefix("/v1/ingest/").removeprefix("/v1/datasets/").removesuffix("/ingest")
        if name != self.dataset:
            raise Refused(404, "dataset not found")

    def take(self, call: Call, body: bytes, fault: Fault | None) -> Reply:
        given = self._events(call, body)
        if len(given) > _MOST_EVENTS:
            raise Refused(400, f"{len(given)} events, where {_MOST_EVENTS} are allowed")
        failures = []
        for place, event in enumerate(given):
            error = self._fault_in(event)
            if isinstance(fault, FailEvents) and place < fault.count:
                error = fault.error
            if error:
                failures.append({"timestamp": event.get("_time"), "error": error})
                continue
            self.fields.update(paths(event))
            self.events.append(_stored(event, call.time))
        counts = {"ingested": len(given) - len(failures), "failed": len(failures), "failures": failures}
        return Reply(200, orjson.dumps({**counts, "processedBytes": len(body), "blocksCreated": 0, "walLength": 1}))

    def _events(self, call: Call, body: bytes) -> list[dict[str, Any]]:
        if call.headers["Content-Type"].startswith("application/x-ndjson"):
            found = lines_of(body)
        else:
            try:
                found = orjson.loads(body)
            except orjson.JSONDecodeError as error:
                raise Refused(400, f"not JSON: {error}") from error
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise Refused(400, "events have to be objects")
        return [one for one in found if isinstance(one, dict)]

    def _fault_in(self, event: Mapping[str, Any]) -> str:
        names = paths(event)
        if "_time" in event and _time_ms(event["_time"]) is None:
            return "unparsable timestamp"
        if any(len(name.encode()) > _LONGEST_NAME for name in names):
            return "field name too long"
        if len(self.fields | names) > self.most_fields:
            return f"maximum number of fields ({self.most_fields}) exceeded"
        return ""


def paths(value: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Return the fields that an object takes in a dataset: a path for each member that is no object."""
    found: set[str] = set()
    for key, member in value.items():
        path = f"{prefix}{key}"
        found |= paths(member, f"{path}.") if isinstance(member, dict) and member else {path}
    return found


def _stored(event: Mapping[str, Any], now: float) -> AxiomEvent:
    time_ms = _time_ms(event.get("_time"))
    members = {key: _shortened(value) for key, value in event.items() if key != "_time"}
    return AxiomEvent(round(now * 1000) if time_ms is None else time_ms, members, time_ms is not None, event)


def _time_ms(value: Any) -> int | None:
    try:
        return round(datetime.fromisoformat(value).timestamp() * 1000) if isinstance(value, str) else None
    except ValueError:
        return None


def _shortened(value: Any) -> Any:
    """Return a value with each string that is too long replaced, at any depth."""
    if isinstance(value, str):
        return _TOO_LONG if len(value.encode()) > _LONGEST_STRING else value
    if isinstance(value, dict):
        return {key: _shortened(one) for key, one in value.items()}
    return [_shortened(one) for one in value] if isinstance(value, list) else value
