"""Parses a body of Datadog's logs intake into logs, with the intake's limits on size, age and count. Pure.

Source: Datadog's Logs API reference (`POST /api/v2/logs`) and its pages on log pipelines and status remappers.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

_MAX_ENTRIES = 1_000
_MAX_LOG_BYTES = 1_000_000  # "1 MB"; some shippers read 1024 * 1024
OLDEST = 18 * 3600.0  # seconds before the intake's clock
_NEWEST = 2 * 3600.0  # and after it
_TIME_KEYS = ("@timestamp", "timestamp", "_timestamp", "Timestamp", "eventTime", "date", "published_date")
_STATUS_KEYS = ("status", "severity", "level")
_RESERVED = frozenset({"message", "ddsource", "ddtags", "hostname", "service", "status", "timestamp"})
_STATUSES = ("emerg", "alert", "critical", "error", "warning", "notice", "info", "debug")  # by syslog number, 0 to 7
PREFIXES = (
    ("emerg", "emerg"),
    ("f", "emerg"),
    ("a", "alert"),
    ("c", "critical"),
    ("err", "error"),
    ("w", "warning"),
    ("n", "notice"),
    ("i", "info"),
    ("d", "debug"),
    ("t", "debug"),
    ("v", "debug"),
    ("o", "ok"),
    ("s", "ok"),
)


class Malformed(Exception):
    """The body or one of its entries is refused; the text says which and why, without quoting it."""


@dataclass(frozen=True, slots=True)
class DatadogLog:
    """One log as Datadog would store it: `timestamp` in ms since the epoch, `status` remapped, `attributes` the rest.

    `is_cut`: it was over 1 MB and lost the end of its message. `is_outside`: its time is more than 18 h old or 2 h
    ahead. `sent` is the entry as it was sent.
    """

    message: str
    timestamp: int
    status: str
    ddsource: str = ""
    ddtags: str = ""
    hostname: str = ""
    service: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    is_cut: bool = False
    is_outside: bool = False
    sent: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def tags(self) -> Mapping[str, str]:
        """`ddtags` as a map; a tag without a colon has the value ""."""
        pairs = (tag.partition(":") for tag in self.ddtags.split(",") if tag.strip())
        return {name.strip(): value for name, _, value in pairs}


def read_logs(body: bytes, now: float, *, strict: bool) -> list[DatadogLog]:
    """Return the logs in `body`, a JSON array of objects or one object. Raises Malformed; then no log is stored.

    `strict` also refuses what the real intake accepts and repairs: a `message` that is missing or not a string,
    `ddtags` or another reserved attribute that is not a string, a timestamp that is neither integer ms, ISO 8601 nor
    RFC 3164.
    """
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"not JSON: {error}") from error
    entries = given if isinstance(given, list) else [given]
    if len(entries) > _MAX_ENTRIES:
        raise Malformed(f"{len(entries)} entries; an array holds {_MAX_ENTRIES}")
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise Malformed(f"entry {place} is no object")
        if strict:
            _check(entry, place)
    return [_log(entry, now) for entry in entries]


def status_of(value: Any) -> str:
    """Return Datadog's status for a sent value: a syslog number, or a word recognised by its first letters."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _STATUSES[value] if 0 <= value < len(_STATUSES) else "info"
    word = str(value).strip().lower()
    if word.isdecimal() and int(word) < len(_STATUSES):
        return _STATUSES[int(word)]
    return next((status for prefix, status in PREFIXES if word.startswith(prefix)), "info")


def timestamp_of(value: Any) -> int | None:
    """Return `value` in ms since the epoch; None if it is neither integer ms, ISO 8601 nor RFC 3164."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return _parsed(value) if isinstance(value, str) else None


def _parsed(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:  # RFC 3164 has no year: the current one is assumed
            moment = datetime.strptime(f"{datetime.now(UTC).year} {text}", "%Y %b %d %H:%M:%S")
        except ValueError:
            return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


def _check(entry: Mapping[str, Any], place: int) -> None:
    if not isinstance(entry.get("message"), str):
        raise Malformed(f"entry {place}: `message` must be a string")
    for key in ("ddsource", "ddtags", "hostname", "service"):
        if not isinstance(entry.get(key, ""), str):
            raise Malformed(f"entry {place}: `{key}` must be a string")
    if not isinstance(entry.get("status", ""), str | int):
        raise Malformed(f"entry {place}: `status` must be a string or a number from 0 to 7")
    for key in _TIME_KEYS:
        if key in entry and timestamp_of(entry[key]) is None:
            raise Malformed(f"entry {place}: `{key}` must be integer milliseconds, ISO 8601 or RFC 3164")


def _log(entry: Mapping[str, Any], now: float) -> DatadogLog:
    times = (timestamp_of(entry[key]) for key in _TIME_KEYS if key in entry)
    timestamp = next((moment for moment in times if moment is not None), round(now * 1000))
    status = next((entry[key] for key in _STATUS_KEYS if key in entry), "info")
    message, is_cut = _message(entry)
    return DatadogLog(
        message,
        timestamp,
        status_of(status),
        str(entry.get("ddsource", "")),
        str(entry.get("ddtags", "")),
        str(entry.get("hostname", entry.get("host", ""))),
        str(entry.get("service", "")),
        {key: value for key, value in entry.items() if key not in _RESERVED},
        is_cut,
        not now - OLDEST <= timestamp / 1000 <= now + _NEWEST,
        entry,
    )


def _message(entry: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the message and whether it was cut; a log over 1 MB loses the end of its message."""
    message = str(entry.get("message", ""))
    excess = len(orjson.dumps(entry)) - _MAX_LOG_BYTES
    if excess <= 0:
        return message, False
    data = message.encode()
    return data[: max(0, len(data) - excess)].decode(errors="ignore"), True
