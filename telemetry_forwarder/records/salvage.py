"""Take apart a telemetry body that is no JSON as a whole, so that its valid elements are kept.

A parser rejects the whole body for one bad record: nested too deep, damaged, or cut off. Here a search finds the ends
of the array's elements without understanding them, and each element is parsed by itself. If a surplus quote or bracket
misleads the search, the piece it found is split where elements begin as Lambda writes them.

Most elements end where the next one of Lambda's begins, and are parsed without a search. The others cost one pass over
their bytes. That may take seconds in a function of 128 MB, so the caller can pause at any step.
"""

import re
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

# One token: a string (to its end or the body's), a run of brackets, or a comma. Possessive, to prevent backtracking.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]+|[\]}]+|,', re.DOTALL)
_QUOTE, _COMMA = b'",'
_OPENING = b"[{"
# The boundary of two elements as Lambda writes them. Inside a valid string the quotes would be escaped.
_BETWEEN = re.compile(rb',\s*(?=\{\s*"time"\s*:\s*"[^"\\]{0,64}"\s*,\s*"type"\s*:)')
# The start of an element as Lambda writes it: its time, its type, and then the record.
_HEAD = re.compile(rb'\{\s*"time"\s*:\s*"([^"\\]{0,64})"\s*,\s*"type"\s*:\s*"([^"\\]{1,100})"\s*,\s*"record"\s*:\s*')
_BOM = b"\xef\xbb\xbf"

# The start of an unreadable record is enough to find who wrote it.
_LONGEST_TEXT_BYTES = 2048
# The tokens of one step: about a quarter of a millisecond on a full CPU.
_STEP = 512
MARK = "…[no JSON that can be read]"
_MARK_OF_CUT = "…[no JSON that can be read: cut, {} bytes]"


class Torn(NamedTuple):
    """An element that cannot be parsed: its time and type if found, and its record as marked text, cut if long."""

    time: str | None
    type: str
    text: str


class _NoArray(ValueError):
    """The body does not begin with `[`."""


class Pause:
    """A value between two elements, or during the search for the end of one, at which the caller may pause."""


PAUSE = Pause()


def take_apart(body: bytes, parse: Callable[[bytes], Any]) -> Iterator[Any]:
    """Yield each element of `body` in order, as its value or a Torn, with PAUSE in between.

    `parse` may raise ValueError or RecursionError for an element. Raises NoArray.
    """
    start = len(_BOM) if body.startswith(_BOM) else 0
    start += len(body) - start - len(body[start:].lstrip())
    if body[start : start + 1] != b"[":
        raise _NoArray("it does not begin with [")
    start += 1
    between = _BETWEEN.search(body, start)
    is_tried = False  # each boundary is tried once, so that no bytes are parsed again and again
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
            yield from _elements(body[start:].strip(), parse)  # what follows the end of the array
            return


def _end_of_element(body: bytes, start: int) -> Generator[Pause, None, tuple[int, bool]]:
    """Return the end of the array's element that begins at `start`, and whether the array ends there too."""
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
        else:  # one of these brackets ends the array
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
    """Return the value of `raw`, which may end with the array's own bracket, or a Torn."""
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
    kept = raw[:_LONGEST_TEXT_BYTES]
    missing = len(raw) - len(kept)
    # If cut, drop a partial character at the end.
    text = kept.decode("utf-8", "replace" if not missing else "ignore")
    return text + (_MARK_OF_CUT.format(missing) if missing else MARK)
