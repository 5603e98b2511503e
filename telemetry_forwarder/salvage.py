"""Takes apart a telemetry body that is no JSON as a whole: what is sound in it is not lost with what is not.

A parser gives up a body for one record: nested too deep, damaged, or cut off at its end. Here the bytes are searched
for the ends of the array's elements, without understanding them, and each is parsed by itself. Where even that search
was led astray (a quote or a bracket too many), what it took for one element is divided where Lambda's own begin.

One pass over the bytes, whatever they hold: a body of 2 MB takes as long as taking it in does.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

# A string, to its end or that of the body; a run of brackets; a comma. Possessive, so that nothing is ever tried twice.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]+|[\]}]+|,', re.DOTALL)
_QUOTE, _COMMA = b'",'
_OPENING = b"[{"
# Between two elements as Lambda writes them. Inside of a sound string the quotes would be escaped.
_BETWEEN = re.compile(rb',\s*(?=\{\s*"time"\s*:\s*"[^"\\]{0,64}"\s*,\s*"type"\s*:)')
# How an element begins as Lambda writes it: its time, its type, and then whatever the record is.
_HEAD = re.compile(rb'\{\s*"time"\s*:\s*"([^"\\]{0,64})"\s*,\s*"type"\s*:\s*"([^"\\]{1,100})"\s*,\s*"record"\s*:\s*')
_BOM = b"\xef\xbb\xbf"

# Of what nobody can parse the beginning is enough to find who wrote it.
LONGEST_TEXT_BYTES = 2048
MARK = "…[no JSON that can be read]"
MARK_OF_CUT = "…[no JSON that can be read: cut, {} bytes]"


class Torn(NamedTuple):
    """An element that cannot be parsed: what can be told of it, and its record as text, marked, and cut where long."""

    time: str | None
    type: str
    text: str


class NoArray(ValueError):
    """The body does not begin as an array does."""


def take_apart(body: bytes, parse: Callable[[bytes], Any]) -> Iterator[Any]:
    """Yield each element of `body` in order: its value, or a Torn. `parse` raises ValueError or RecursionError.

    Raises NoArray.
    """
    begin = len(_BOM) if body.startswith(_BOM) else 0
    begin += len(body) - begin - len(body[begin:].lstrip())
    if body[begin : begin + 1] != b"[":
        raise NoArray("it does not begin with [")
    for start, end in _spans(body, begin + 1):
        if raw := body[start:end].strip():
            yield from _elements(raw, parse)


def _spans(body: bytes, at: int) -> Iterator[tuple[int, int]]:
    """Yield where each element lies of an array whose inside begins `at`; what stands behind its end is one more."""
    depth, start = 1, at
    for token in _TOKEN.finditer(body, at):
        first, length = body[token.start()], token.end() - token.start()
        if first == _QUOTE:
            continue
        if first == _COMMA:
            if depth == 1:
                yield start, token.start()
                start = token.end()
        elif first in _OPENING:
            depth += length
        elif length < depth:
            depth -= length
        else:  # the end of the array is among these
            end = token.start() + depth - 1
            yield start, end
            yield end + 1, len(body)
            return
    yield start, len(body)


def _elements(raw: bytes, parse: Callable[[bytes], Any]) -> Iterator[Any]:
    try:
        yield parse(raw)
        return
    except (ValueError, RecursionError):
        pieces = _BETWEEN.split(raw)
    for piece in pieces:
        if piece := piece.strip():
            yield _element(piece, parse)


def _element(raw: bytes, parse: Callable[[bytes], Any]) -> Any:
    """Return the value of `raw`, perhaps with the end of the array behind it, or a Torn."""
    for candidate in dict.fromkeys((raw, raw.removesuffix(b"]"))):
        try:
            return parse(candidate)
        except (ValueError, RecursionError):
            continue
    head = _HEAD.match(raw)
    if head is None:
        return Torn(None, "function", _text(raw))
    time, kind = (part.decode("utf-8", "replace") for part in head.groups())
    return Torn(time, kind, _text(raw[head.end() :].removesuffix(b"}")))


def _text(raw: bytes) -> str:
    kept = raw[:LONGEST_TEXT_BYTES]
    missing = len(raw) - len(kept)
    # Not in the middle of a character.
    text = kept.decode("utf-8", "replace" if not missing else "ignore")
    return text + (MARK_OF_CUT.format(missing) if missing else MARK)
