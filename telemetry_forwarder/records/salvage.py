"""Takes apart a telemetry body that is no JSON as a whole: what is sound in it is not lost with what is not.

A parser gives up a body for one record: nested too deep, damaged, or cut off at its end. Here the bytes are searched
for the ends of the array's elements, without understanding them, and each is parsed by itself. Where even that search
was led astray (a quote or a bracket too many), what it took for one element is divided where Lambda's own begin.

Most elements end where Lambda begins the next, and are parsed without a search; the others cost one pass over their
bytes, whatever they hold. That may take a function of 128 MB seconds: so who takes apart can pause at any step.
"""

import re
from collections.abc import Callable, Generator, Iterator
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
# Tokens of one step: about a quarter of a millisecond on a processor of one's own.
_STEP = 512
MARK = "…[no JSON that can be read]"
MARK_OF_CUT = "…[no JSON that can be read: cut, {} bytes]"


class Torn(NamedTuple):
    """An element that cannot be parsed: what can be told of it, and its record as text, marked, and cut where long."""

    time: str | None
    type: str
    text: str


class NoArray(ValueError):
    """The body does not begin as an array does."""


class Pause:
    """Stands between two elements, or within the search for the end of one: whoever takes apart may rest there."""


PAUSE = Pause()


def take_apart(body: bytes, parse: Callable[[bytes], Any]) -> Iterator[Any]:
    """Yield each element of `body` in order: its value, or a Torn; and PAUSE in between.

    `parse` raises ValueError or RecursionError. Raises NoArray.
    """
    start = len(_BOM) if body.startswith(_BOM) else 0
    start += len(body) - start - len(body[start:].lstrip())
    if body[start : start + 1] != b"[":
        raise NoArray("it does not begin with [")
    start += 1
    between = _BETWEEN.search(body, start)
    is_tried = False  # each `between` only once, so that nothing is parsed again and again
    while True:
        if between is not None and between.start() < start:
            between, is_tried = _BETWEEN.search(body, start), False
        if between is not None and not is_tried:
            is_tried = True
            try:
                value = parse(body[start : between.start()])
            except (ValueError, RecursionError):
                pass
            else:
                yield value
                start = between.end()
                continue
        end, is_last = yield from _end_of_element(body, start)
        yield from _elements(body[start:end].strip(), parse)
        start = end + 1
        if is_last:
            yield from _elements(body[start:].strip(), parse)  # what stands behind the end of the array
            return


def _end_of_element(body: bytes, start: int) -> Generator[Pause, None, tuple[int, bool]]:
    """Return where the element of an array ends that begins at `start`, and whether the array ends there too."""
    depth = 1
    for number, token in enumerate(_TOKEN.finditer(body, start), 1):
        if not number % _STEP:
            yield PAUSE
        first, length = body[token.start()], token.end() - token.start()
        if first == _QUOTE:
            continue
        if first == _COMMA:
            if depth == 1:
                return token.start(), False
        elif first in _OPENING:
            depth += length
        elif length < depth:
            depth -= length
        else:  # the end of the array is among these
            return token.start() + depth - 1, True
    return len(body), True


def _elements(raw: bytes, parse: Callable[[bytes], Any]) -> Iterator[Any]:
    if not raw:
        return
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
