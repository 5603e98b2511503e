"""A strict local New Relic: the Log API and the Metric API of one account. The real ones have two hosts.

A request is taken as a whole with 202. What New Relic finds wrong in it later is an `Issue` here, as it is an
`NrIntegrationError` event there.
Sources: New Relic, "Introduction to the Log API", "Report metrics via the Metric API" and limits, read 2026-11-28.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import uuid4

import orjson
from aiohttp import web

from local_backends.faults import Fault
from local_backends.intake import Intake, Refused
from local_backends.server import Call, Reply

_PATHS = {"/log/v1": "logs", "/metric/v1": "metrics"}
_OLDEST_S = 48 * 3600
_MOST_ATTRIBUTES = {"logs": 255, "metrics": 150}
_LONGEST_NAME = 255
_LONGEST_VALUE = 131_072
_RESERVED = ("accountId", "eventType", "timestamp")


@dataclass(frozen=True, slots=True)
class NewRelicLog:
    """A log that was taken. `attributes` are its own over those in common."""

    message: str
    timestamp: int
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewRelicMetric:
    """A metric that was taken; a summary's value is a mapping."""

    name: str
    kind: str
    value: Any
    timestamp: int
    attributes: Mapping[str, Any] = field(default_factory=dict)


class NewRelic(Intake):
    """Takes logs and metrics with the license key `key`, which may be changed while it runs.

    `logs` and `metrics` are what was taken, `issues` what New Relic would say of them afterwards. A fault is for logs,
    unless it is scripted `on` `metrics`.
    """

    deliveries: ClassVar[frozenset[str]] = frozenset({"logs"})
    content_types: ClassVar[tuple[str, ...]] = ("application/json",)
    max_bytes: ClassVar[int] = 1_000_000

    def __init__(self, *, key: str = "0" * 40, **listen: Any) -> None:
        super().__init__(**listen)
        self.key = key
        self.logs: list[NewRelicLog] = []
        self.metrics: list[NewRelicMetric] = []
        self.issues: list[str] = []

    @property
    def kept(self) -> Sequence[NewRelicLog]:
        return self.logs

    def is_mine(self, path: str) -> bool:
        return path in _PATHS

    def operation(self, request: web.BaseRequest) -> str:
        return _PATHS.get(request.path, "unknown")

    def check_sender(self, call: Call) -> None:
        if call.headers.get("Api-Key", call.headers.get("X-License-Key")) != self.key:
            raise Refused(403, "Missing or invalid API key")

    def take(self, call: Call, body: bytes, fault: Fault | None) -> Reply:
        try:
            given = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise Refused(400, f"not JSON: {error}") from error
        for common, item in _items(given, call.operation):
            attributes = {**_attributes(common), **_attributes(item)}
            self._look_at(attributes, call.operation)
            timestamp = item.get("timestamp", common.get("timestamp", round(call.time * 1000)))
            if type(timestamp) is not int:
                raise Refused(400, "a timestamp has to be a number of milliseconds")
            if call.time - timestamp / 1000 > _OLDEST_S:
                self.issues.append("older than 48 h")
                continue
            if call.operation == "logs":
                self.logs.append(_log(item, timestamp, attributes))
            else:
                self.metrics.append(_metric({**common, **item}, timestamp, attributes))
        return Reply(202, orjson.dumps({"requestId": str(uuid4())}))

    def _look_at(self, attributes: dict[str, Any], kind: str) -> None:
        """Note what New Relic drops or changes of attributes, and do so."""
        if len(attributes) > _MOST_ATTRIBUTES[kind]:
            self.issues.append(f"{len(attributes)} attributes")
        for name, value in [*attributes.items()]:
            if len(name) > _LONGEST_NAME:
                self.issues.append("an attribute's name is too long")
            elif name in _RESERVED:
                self.issues.append(f"{name} is reserved")
            elif isinstance(value, list):
                self.issues.append(f"{name} is an array")
            elif isinstance(value, dict):
                self.issues.append(f"{name} is an object")
            elif isinstance(value, str) and len(value.encode()) > _LONGEST_VALUE:
                self.issues.append(f"{name} has more than 128 KB")
            else:
                continue
            del attributes[name]


def _items(given: Any, kind: str) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Yield each item of a body with what its block has in common. Raises Refused if the body has another form."""
    if kind == "logs" and isinstance(given, dict):
        given = [{"logs": [given]}]
    if not isinstance(given, list) or not given:
        raise Refused(400, "the body has to be an array of blocks")
    for block in given:
        common = block.get("common", {}) if isinstance(block, dict) else None
        items = block.get(kind) if isinstance(block, dict) else None
        if (
            not isinstance(common, dict)
            or not isinstance(items, list)
            or not all(isinstance(one, dict) for one in items)
        ):
            raise Refused(400, f"a block has to have `{kind}`, an array of objects")
        for item in items:
            yield common, item


def _attributes(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    found = holder.get("attributes", {})
    if not isinstance(found, dict):
        raise Refused(400, "attributes have to be an object")
    return found


def _log(item: Mapping[str, Any], timestamp: int, attributes: Mapping[str, Any]) -> NewRelicLog:
    if not isinstance(message := item.get("message"), str):
        raise Refused(400, "a message has to be a text")
    return NewRelicLog(message, timestamp, attributes)


def _metric(item: Mapping[str, Any], timestamp: int, attributes: Mapping[str, Any]) -> NewRelicMetric:
    name, kind, value = item.get("name"), item.get("type", "gauge"), item.get("value")
    if not isinstance(name, str) or not name or len(name) > _LONGEST_NAME:
        raise Refused(400, "a metric has to have a name of at most 255 characters")
    if kind not in ("gauge", "count", "summary"):
        raise Refused(400, "a metric is a gauge, a count or a summary")
    if kind != "gauge" and not (type(item.get("interval.ms")) is int and item["interval.ms"] > 0):
        raise Refused(400, f"a {kind} has to have `interval.ms`")
    numbers = [value]
    if kind == "summary":
        if not isinstance(value, dict) or set(value) != {"count", "sum", "min", "max"}:
            raise Refused(400, "a summary's value has count, sum, min and max")
        numbers = [*value.values()]
    if not all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers):
        raise Refused(400, "a value has to be a number")
    return NewRelicMetric(name, kind, value, timestamp, attributes)
