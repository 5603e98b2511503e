"""Messages of OTLP as protobuf: from OTLP/JSON's form, and back into it.

A message is a dict as OTLP/JSON has it, e.g. {"timeUnixNano": "1", "body": {"stringValue": "text"}}. What it is in
protobuf is read from the table in `schema`; a test compares the result with what the official classes make of it.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

from telemetry_forwarder.errors import DecodeError, EncodeError
from telemetry_forwarder.otlp.fields import FIXED32, FIXED64, KINDS, LENGTH, VARINT, Kind, varint
from telemetry_forwarder.otlp.schema import MESSAGES

# Of messages in messages; values that a function logs can be nested. Source: protobuf's own parsers refuse more.
DEEPEST = 100
# The fields of one decoded body: with what they become, about 100 bytes each.
MOST_FIELDS = 1_000_000


class _Field(NamedTuple):
    """One row of the table, ready for use: `tag` has the number and the wire type, `kind` is None for a message."""

    name: str
    label: str
    type: str
    kind: Kind | None
    wire: int
    tag: bytes
    rivals: tuple[str, ...]  # the other members of its `oneof`

    @property
    def is_list(self) -> bool:
        return self.label in ("repeated", "packed")


@cache
def _fields(message: str) -> dict[int, _Field]:
    """Return the fields of a message, by number."""
    rows = MESSAGES[message]
    found = {}
    for number, name, kind_name, label, type in rows:
        kind = KINDS.get(kind_name)
        wire = LENGTH if kind is None or label == "packed" else kind.wire
        is_choice = label not in ("", "optional", "repeated", "packed")
        rivals = tuple(row[1] for row in rows if is_choice and row[3] == label and row[1] != name)
        found[number] = _Field(name, label, type, kind, wire, varint(number << 3 | wire), rivals)
    return found


# --- to protobuf ----------------------------------------------------------------------------------------------------


def encode(name: str, message: Mapping[str, Any], depth: int = 0) -> bytes:
    """Return the message `name` as protobuf. What the table does not know is left out, and so is null.

    Raises EncodeError if a value is of another kind than its field, or nested too deep.
    """
    if not isinstance(message, Mapping):
        raise EncodeError(f"{name} is no JSON object")
    if depth > DEEPEST:
        raise EncodeError(f"{name} is nested deeper than {DEEPEST} levels")
    parts: list[bytes] = []
    for field in _fields(name).values():
        value = message.get(field.name)
        if value is None:
            continue
        try:
            _write(field, value, depth, parts)
        except ValueError as error:
            raise EncodeError(f"{field.name} of {name} is {error}") from error
    return b"".join(parts)


def _write(field: _Field, value: Any, depth: int, parts: list[bytes]) -> None:
    kind = field.kind
    if not field.is_list:
        data = encode(field.type, value, depth + 1) if kind is None else kind.write(value)
        if kind is None or field.label or data != _default(kind):
            _append(field, data, parts)
        return
    if not isinstance(value, list | tuple):
        raise ValueError("no JSON array")
    found = [encode(field.type, one, depth + 1) if kind is None else kind.write(one) for one in value]
    if field.label == "packed":
        found = [b"".join(found)] if found else []
    for data in found:
        _append(field, data, parts)


def _append(field: _Field, data: bytes, parts: list[bytes]) -> None:
    parts += (field.tag, varint(len(data)), data) if field.wire == LENGTH else (field.tag, data)


@cache
def _default(kind: Kind) -> bytes:
    return kind.write(kind.default)


# --- from protobuf --------------------------------------------------------------------------------------------------


def decode(name: str, data: bytes, most_fields: int = MOST_FIELDS) -> dict[str, Any]:
    """Return the message `name` that `data` holds, in OTLP/JSON's form, without fields that the table does not know.

    Raises DecodeError, and nothing else, if `data` is no such message, is nested deeper than `DEEPEST`, or has more
    fields than `most_fields`.
    """
    found: dict[str, Any] = {}
    _Reader(data, most_fields).message(name, 0, len(data), found, 0)
    return found


class _Reader:
    """Reads messages out of one body."""

    def __init__(self, data: bytes, most_fields: int) -> None:
        self._data = data
        self._left = most_fields
        self._most = most_fields

    def message(self, name: str, at: int, end: int, found: dict[str, Any], depth: int) -> None:
        """Read the message in `at..end` into `found`: what is there already is kept, or replaced, as protobuf says."""
        if depth > DEEPEST:
            raise DecodeError(f"{name} is nested deeper than {DEEPEST} levels")
        fields = _fields(name)
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise DecodeError(f"there are more than {self._most} fields")
            tag, at = self._varint(at, end, name)
            number, wire = tag >> 3, tag & 7
            if number == 0 or tag > 0xFFFF_FFFF:
                raise DecodeError(f"{name} has a field without a number")
            start, at = self._extent(wire, at, end, name)
            field = fields.get(number)
            if field is not None:
                self._put(field, name, wire, start, at, found, depth)

    def _put(
        self, field: _Field, name: str, wire: int, start: int, end: int, found: dict[str, Any], depth: int
    ) -> None:
        """Add what is in `start..end`, which is without its length, to `found`."""
        kind = field.kind
        single = LENGTH if kind is None else kind.wire
        if wire != single and not (field.is_list and wire == LENGTH and single != LENGTH):
            raise DecodeError(f"{field.name} of {name} has the wire type {wire}, not {single}")
        for rival in field.rivals:
            found.pop(rival, None)
        if kind is None:
            if field.is_list:
                into: dict[str, Any] = {}
                found.setdefault(field.name, []).append(into)
            else:
                into = found.setdefault(field.name, {})
            self.message(field.type, start, end, into, depth + 1)
            return
        if field.is_list:
            values = [self._scalar(field, name, kind, start, end)] if wire == single else [
                self._scalar(field, name, kind, *place) for place in self._packed(kind.wire, start, end, name)
            ]  # fmt: skip
            if values:
                found.setdefault(field.name, []).extend(values)
            return
        value = self._scalar(field, name, kind, start, end)
        # -0.0 equals the default, but is another value.
        if field.label == "" and value == kind.default and kind.write(value) == _default(kind):
            found.pop(field.name, None)  # it replaces what came before, and is left out
        else:
            found[field.name] = value

    def _scalar(self, field: _Field, name: str, kind: Kind, start: int, end: int) -> Any:
        if kind.wire == VARINT:
            return kind.read(self._varint(start, end, name)[0])
        try:
            return kind.read(self._data[start:end])
        except UnicodeDecodeError as error:
            raise DecodeError(f"{field.name} of {name} is no text in UTF-8") from error

    def _packed(self, wire: int, at: int, end: int, name: str) -> list[tuple[int, int]]:
        found = []
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise DecodeError(f"there are more than {self._most} fields")
            start, at = self._extent(wire, at, end, name)
            found.append((start, at))
        return found

    def _extent(self, wire: int, at: int, end: int, name: str) -> tuple[int, int]:
        """Return where the value at `at` begins and ends."""
        if wire == VARINT:
            return at, self._varint(at, end, name)[1]
        if wire == LENGTH:
            size, at = self._varint(at, end, name)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise DecodeError(f"{name} has the wire type {wire}, which OTLP does not use")
        if size > end - at:
            raise DecodeError(f"{name} ends amid a field")
        return at, at + size

    def _varint(self, at: int, end: int, name: str) -> tuple[int, int]:
        data = self._data
        number = shift = 0
        while at < end:
            byte = data[at]
            at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number & 0xFFFF_FFFF_FFFF_FFFF, at
            shift += 7
            if shift >= 70:
                raise DecodeError(f"{name} has a number of more than ten bytes")
        raise DecodeError(f"{name} ends amid a number")


def normal(name: str, message: Any) -> dict[str, Any]:
    """Return a message of OTLP/JSON as `decode` would: without what the table does not know, each value in its form.

    Raises DecodeError, and nothing else, if it is no such message.
    """
    try:
        return decode(name, encode(name, message))
    except EncodeError as error:
        raise DecodeError(str(error)) from error
