"""Cut a record's text that is over a destination's size limit, and mark in the text that it was cut."""

from bisect import bisect_right
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from telemetry_forwarder.errors import EncodeError
from telemetry_forwarder.interfaces import Encoded
from telemetry_forwarder.records.lossless_json import Restated, clean, json_part
from telemetry_forwarder.records.record import Record

MARK = "…[cut, {} bytes]"  # the number of bytes (UTF-8) that were cut off


def fit(record: Record, data: bytes, max_bytes: int, with_text: Callable[[str, bool], bytes]) -> Encoded:
    """Return the record's wire form `data` if it has at most `max_bytes`, else a form with its text, cut to fit.

    `with_text(text, is_cut)` makes a wire form that holds `text` in place of the record's value. It gets the text (or
    the JSON text) of the record, cut as far as needed. Raises EncodeError as `cut` does.
    """
    if len(data) <= max_bytes:
        return Encoded(record, data)
    text = clean(text_of(record))
    around = max(len(with_text("", is_cut)) for is_cut in (True, False))  # not known yet whether it will be cut
    kept = cut(text, max_bytes - around)
    is_cut = kept != text  # the text may fit uncut, because the wire form of the text is smaller
    return Encoded(record, with_text(kept, is_cut), is_cut)


def cut(text: str, max_bytes: int) -> str:
    """Return `text`, cut to at most `max_bytes` inside a JSON string (escapes included, quotes not).

    A text that fits is returned whole. Otherwise the result is the longest beginning that fits, in whole characters,
    followed by `MARK`. Lone surrogates become U+FFFD in both cases. Raises EncodeError if not even the mark fits.
    """
    text = clean(text)
    # A character takes at least one byte, so for huge texts the cheap first comparison is enough.
    if len(text) <= max_bytes and escaped_bytes(text) <= max_bytes:
        return text
    total_bytes = len(text.encode())
    room = max_bytes - escaped_bytes(MARK.format(total_bytes))  # no mark is longer than the one for all bytes
    if room < 0:
        raise EncodeError("no room for the record's text beside what is known about it")
    sizes = range(min(len(text), room) + 1)
    kept = text[: bisect_right(sizes, room, key=lambda length: escaped_bytes(text[:length])) - 1]
    return kept + MARK.format(total_bytes - len(kept.encode()))


def escaped_bytes(text: str) -> int:
    """Count the bytes that `text` takes between the quotes of a JSON string."""
    return len(orjson.dumps(text)) - 2


def text_of(record: Record) -> str:
    """Return the record's text as it came, or JSON text: of its value, or of its fields if they are `Restated`."""
    if not isinstance(record.body, str):
        return json_part(record.body).decode()
    return json_part(record.fields).decode() if isinstance(record.fields, Restated) else record.body


def present(members: Mapping[str, Any]) -> dict[str, Any]:
    """Return `members` without values that are unknown (None) or an empty mapping."""
    return {key: value for key, value in members.items() if value is not None and value != {}}


def grouped(pairs: tuple[tuple[str, str], ...]) -> dict[str, str | list[str]]:
    """Return tags by key, in order. A key with several values gets the list of them."""
    found: dict[str, str | list[str]] = {}
    for key, value in pairs:
        before = found.get(key)
        if before is None:
            found[key] = value
        else:
            found[key] = [*([before] if isinstance(before, str) else before), value]
    return found
