"""AnyValue and attributes as protobuf and as JSON, written at once: what `values` and `protobuf` make of them, faster.

The tags of the fields stand in opentelemetry-proto's common.proto; a test compares every result with the table's.
"""

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct as Packer
from typing import Any

import orjson

from telemetry_forwarder.otlp.fields import varint
from telemetry_forwarder.otlp.values import DEEPEST_VALUE
from telemetry_forwarder.records.lossless_json import clean, json_part

_DOUBLE = Packer("<cd")
_MASK = 2**64 - 1
_LEAST, _MOST = -(2**63), 2**63 - 1
SCALARS = frozenset({str, int, float, bool})


class _Openings(dict[int, bytes]):
    """What opens a field: its tag, which is one byte, and its length, by `length << 8 | tag`."""

    def __missing__(self, key: int) -> bytes:
        if len(self) >= _MOST_OPENINGS:
            self.clear()
        found = self[key] = bytes((key & 0xFF,)) + varint(key >> 8)
        return found


_MOST_OPENINGS = 2048
OPENINGS = _Openings()


def field(tag: int, data: bytes) -> bytes:
    """Return a field of a message whose tag is one byte, with its length."""
    return OPENINGS[len(data) << 8 | tag] + data


def utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return clean(text).encode()


def attribute(tag: int, key: str, value: Any, depth: int = 0) -> bytes:
    """Return an attribute as a field with `tag`: a KeyValue with its AnyValue; nothing for null."""
    found = any_value(value, depth)
    return field(tag, _key(key) + field(0x12, found)) if found is not None else b""


@lru_cache(maxsize=512)
def _key(key: str) -> bytes:
    return field(0x0A, utf8(key)) if key else b""


def any_value(value: Any, depth: int = 0) -> bytes | None:
    """Return a JSON value as AnyValue; None for null."""
    kind = value.__class__
    if kind is str:
        return field(0x0A, utf8(value))
    if value is None:
        return None
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is int and _LEAST <= value <= _MOST:
        return b"\x18" + varint(value & _MASK)
    if kind is float:
        return _DOUBLE.pack(b"\x21", value) if value - value == 0 else field(0x0A, str(value).encode())
    if isinstance(value, Mapping) and depth < DEEPEST_VALUE:
        return field(0x32, b"".join([attribute(0x0A, str(key), one, depth + 1) for key, one in value.items()]))
    if isinstance(value, list | tuple) and depth < DEEPEST_VALUE:
        parts = [field(0x0A, any_value(one, depth + 1) or _NULL) for one in value]
        return field(0x2A, b"".join(parts))
    return field(0x0A, json_part(value).strip(b'"'))


_NULL = field(0x0A, b"null")


def attribute_json(key: str, value: Any) -> bytes:
    """Return an attribute with a scalar as JSON. Raises TypeError if orjson refuses it."""
    kind = value.__class__
    if kind is str:
        return b'%b"stringValue":%b}}' % (_key_json(key), orjson.dumps(value))
    if kind is bool:
        return b'%b"boolValue":%b}}' % (_key_json(key), b"true" if value else b"false")
    if kind is int and _LEAST <= value <= _MOST:
        return b'%b"intValue":"%d"}}' % (_key_json(key), value)
    if kind is float and value - value == 0:
        return b'%b"doubleValue":%b}}' % (_key_json(key), orjson.dumps(value))
    return b'%b"stringValue":%b}}' % (_key_json(key), json_part(str(value) if kind is float else _digits(value)))


def _digits(value: Any) -> str:
    return json_part(value).decode().strip('"')


@lru_cache(maxsize=512)
def _key_json(key: str) -> bytes:
    return b'{"key":%b,"value":{' % json_part(clean(key))
