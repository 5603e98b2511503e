"""Parses a HEC body as Splunk does: a stream of JSON objects, stored up to the first bad one. Pure.

Bytes go in; the events before the first flaw and the flaw come out. The rules are those of Splunk's "Format events for
HTTP Event Collector"; where it says nothing, they follow measurements on Splunk Enterprise 9.3.3 to 10.4.3 and Splunk
Cloud 10.5 (2026).
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

KEYS = frozenset({"time", "host", "source", "sourcetype", "index", "event", "fields"})
_SPACE = re.compile(r"[ \t\r\n]*")
_EXPONENT = re.compile(r'"time"\s*:\s*-?[0-9.]+[eE]')
_PLAIN_NUMBER = re.compile(r"\s*-?[0-9]+(\.[0-9]+)?\s*")

_METRIC = "metric_name:"
_METRIC_NAME = re.compile(r"[A-Za-z0-9_.:]+")

NO_DATA, BAD_FORMAT, WRONG_INDEX = 5, 6, 7
EVENT_REQUIRED, EVENT_BLANK, BAD_FIELDS = 12, 13, 15


@dataclass(frozen=True, slots=True)
class HecEvent:
    """One stored event: `time` in seconds since the epoch, and its metadata with every default applied.

    `keys` are the top-level keys that were sent, so that a default can be told from a sent value. `is_metric`: it went
    to a metrics index.
    """

    time: float
    host: str
    source: str
    sourcetype: str
    index: str
    event: Any
    fields: Mapping[str, Any] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    is_metric: bool = False


@dataclass(frozen=True, slots=True)
class Flaw:
    """The reason why parsing stopped: a HEC code, and the `invalid-event-number` to report (None: not reported).

    `is_silent` marks an unknown key: the events before it are stored, and the answer is then 200.
    """

    code: int
    number: int | None
    is_silent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """The metadata of an object that has none: from the query string, else from the token, else Splunk's own."""

    time: float
    host: str
    source: str
    sourcetype: str
    index: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the token allows, and the choices where the sources are silent or disagree.

    `indexes` None allows every index. An index of metrics takes metrics alone, and only it takes metrics: else code 7;
    a metric whose name has other characters than documented, or whose value is no number, is code 15 (neither code is
    documented). `takes_arrays`: a top-level array is a batch (seen on 10.4.2). `null_event` is
    the code for `"event": null` (13 by one measurement, 12 by two re-implementations). `empty_event` is the code for
    `{}` and `[]` (13 by one measurement; None stores them). `max_event_bytes` is `maxEventSize` (5 MB by default; the
    code for larger events is not documented, 6 here).
    """

    indexes: frozenset[str] | None = None
    metric_indexes: frozenset[str] = frozenset()
    takes_arrays: bool = False
    null_event: int = EVENT_BLANK
    empty_event: int | None = EVENT_BLANK
    max_event_bytes: int = 5_000_000


@dataclass(frozen=True, slots=True)
class ForcedFlaw:
    """Treat object `at` (0-based) as bad with `code`, whatever its content."""

    at: int
    code: int


class _Bad(Exception):
    """An object cannot be stored, for the reason `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _UnknownKey(Exception):
    """An object has a top-level key that HEC does not know."""


def read_events(
    body: bytes, defaults: Defaults, rules: Rules, forced: ForcedFlaw | None = None
) -> tuple[list[HecEvent], Flaw | None]:
    """Return the events of `body` up to the first flaw, and the flaw, if any.

    An object with `fields` but no `event` is accepted, but stored only if it is a metric, as measured.
    """
    events: list[HecEvent] = []
    objects = _objects(body, rules)
    number = 0
    while True:
        try:
            given = next(objects, None)
            if given is None:
                break
            if forced is not None and forced.at == number:
                raise _Bad(forced.code)
            event = _event(given, defaults, rules)
        except _UnknownKey:
            return events, Flaw(NO_DATA, None, is_silent=True)
        except _Bad as bad:
            # Measured: with code 7 the reported number is one too high.
            return events, Flaw(bad.code, number + 1 if bad.code == WRONG_INDEX else number)
        number += 1
        if event is not None:
            events.append(event)
    return events, None if number else Flaw(NO_DATA, None)


def _objects(body: bytes, rules: Rules) -> Iterator[Any]:
    """Yield the concatenated JSON values in `body`. Raises _Bad at the first unreadable one."""
    text = body.decode("utf-8", "surrogateescape")  # a byte that is not UTF-8 spoils its own object only
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    place = _after_space(text, 0)
    while place < len(text):
        try:
            value, end = decoder.raw_decode(text, place)
            size = len(text[place:end].encode("utf-8"))
        except (ValueError, RecursionError) as error:
            raise _Bad(BAD_FORMAT) from error
        if size > rules.max_event_bytes and not isinstance(value, list):
            raise _Bad(BAD_FORMAT)
        if isinstance(value, dict) and _has_exponent(text[place:end]):
            raise _Bad(BAD_FIELDS)
        yield from value if rules.takes_arrays and isinstance(value, list) else (value,)
        place = _after_space(text, end)


def _has_exponent(text: str) -> bool:
    """Whether the object's own `time` is written like 1.7E9: code 15 on Splunk 10."""
    if not _EXPONENT.search(text):
        return False
    written = json.loads(text, parse_float=str).get("time")
    return isinstance(written, str) and "e" in written.lower()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _after_space(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _event(given: Any, defaults: Defaults, rules: Rules) -> HecEvent | None:
    """Check one object in Splunk's order; return the event to store, or None."""
    if not isinstance(given, dict):
        raise _Bad(BAD_FORMAT)
    moment = _time(given["time"]) if "time" in given else defaults.time
    if not given.keys() <= KEYS:
        raise _UnknownKey
    fields = _fields(given.get("fields", {}))
    if "event" in given:
        _check_event(given["event"], rules)
    elif "fields" not in given:
        raise _Bad(EVENT_REQUIRED)
    index = _text(given, "index", defaults.index)
    is_metric = _is_metric(given, fields)
    if is_metric:
        _check_metric(fields)
    _check_index(index, is_metric, rules)
    if "event" not in given and not is_metric:
        return None
    return HecEvent(
        moment,
        _text(given, "host", defaults.host),
        _text(given, "source", defaults.source),
        _text(given, "sourcetype", defaults.sourcetype),
        index,
        given.get("event", "metric"),
        fields,
        frozenset(given),
        is_metric,
    )


def _time(value: Any) -> float:
    if isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _Bad(BAD_FIELDS)
    return float(value)


def _fields(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(_is_flat(entry) for entry in value.values()):
        raise _Bad(BAD_FIELDS)
    return value


def _is_flat(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(entry, str | int | float) for entry in value)
    return isinstance(value, str | int | float)  # a bool is an int; no source allows null


def _check_event(event: Any, rules: Rules) -> None:
    if event is None:
        raise _Bad(rules.null_event)
    if isinstance(event, str) and not event.strip():
        raise _Bad(EVENT_BLANK)
    if event in ({}, []) and rules.empty_event is not None:
        raise _Bad(rules.empty_event)


def _is_metric(given: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    if given.get("event", "metric") != "metric":
        return False
    return any(name.startswith(_METRIC) for name in fields) or {"metric_name", "_value"} <= fields.keys()


def _check_metric(fields: Mapping[str, Any]) -> None:
    """Raise _Bad if a metric's name or value is none. Source: Splunk, "Get metrics in from other sources"."""
    named = {name.removeprefix(_METRIC): value for name, value in fields.items() if name.startswith(_METRIC)}
    if not named:
        named = {str(fields["metric_name"]): fields["_value"]}
    for name, value in named.items():
        if not _METRIC_NAME.fullmatch(name) or isinstance(value, bool) or not isinstance(value, int | float):
            raise _Bad(BAD_FIELDS)


def _check_index(index: str, is_metric: bool, rules: Rules) -> None:
    """Raise _Bad for an index that the token may not write to, or that is of the other kind."""
    if is_metric != (index in rules.metric_indexes):
        raise _Bad(WRONG_INDEX)
    if not is_metric and rules.indexes is not None and index not in rules.indexes:
        raise _Bad(WRONG_INDEX)


def _text(given: Mapping[str, Any], key: str, default: str) -> str:
    value = given.get(key, default)
    if not isinstance(value, str):
        raise _Bad(BAD_FORMAT)  # the code is not documented
    return value
