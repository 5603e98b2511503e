"""Which emitted record a sighting is of, and how often each destination has it. Pure."""

from collections import deque
from typing import Any

import orjson

from local_lambda.page.destinations import Sighting

_MOST_IDS = 50_000  # by which a destination's repeats are told: the last ones
_STREAMS = ("platform", "function", "extension")


class Recognizer:
    """Knows the last `most` emitted records, and learns the id of each when it is seen for the first time.

    A record is recognized by its id, else by time and type; of several that share both, the first with the same
    content that has no id yet, else the first without an id.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._order: deque[tuple[tuple[int, str], str]] = deque()
        self._unknown: dict[tuple[int, str], dict[str, Any]] = {}  # records without an id, by their row
        self._rows: dict[str, str] = {}  # by id

    def emitted(self, row: str, time_ms: int, type_: str, record: Any) -> None:
        """Remember an emitted record; `row` is the id that `recognize` returns for it."""
        key = (time_ms, type_)
        self._unknown.setdefault(key, {})[row] = record
        self._order.append((key, row))
        if len(self._order) > self._most:
            self._forget(*self._order.popleft())

    def recognize(self, sighting: Sighting) -> str | None:
        """Return the row of the record that was sighted; None if it is no emitted one, or too long ago."""
        if (row := self._rows.get(sighting.id)) is not None:
            return row
        key = (sighting.time_ms, sighting.type)
        candidates = self._unknown.get(key)
        if candidates is None:
            return None
        same = (row for row, record in candidates.items() if _is_same(record, sighting.content))
        row = next(same, None) or next(iter(candidates))
        self._forget(key, row)
        self._rows[sighting.id] = row
        _shorten(self._rows, self._most)
        return row

    def _forget(self, key: tuple[int, str], row: str) -> None:
        candidates = self._unknown.get(key, {})
        candidates.pop(row, None)
        if not candidates:
            self._unknown.pop(key, None)


class Arrivals:
    """The records that one destination has taken."""

    def __init__(self) -> None:
        self.distinct = 0
        self.repeats = 0
        self._ids: dict[str, None] = {}

    def add(self, sighting: Sighting) -> bool:
        """Count one record; return whether it is new here."""
        if sighting.id in self._ids:
            self.repeats += 1
            return False
        self._ids[sighting.id] = None
        _shorten(self._ids, _MOST_IDS)
        self.distinct += 1
        return True


def is_lambdas(sighting: Sighting) -> bool:
    """Whether Lambda emitted the record; if not, the extension made it, a loss notice perhaps."""
    return sighting.type.partition(".")[0] in _STREAMS


def _is_same(emitted: Any, content: Any) -> bool:
    if isinstance(emitted, str) and isinstance(content, str):
        return emitted.rstrip("\n") == content.rstrip("\n")
    if isinstance(emitted, str) and "{" in emitted:  # JSON in a line of text, maybe behind a prefix
        try:
            emitted = orjson.loads(emitted[emitted.index("{") :])
        except orjson.JSONDecodeError:
            return False
    return bool(emitted == content)


def _shorten(known: dict[Any, Any], most: int) -> None:
    if len(known) > most:
        del known[next(iter(known))]
