"""How the fields of OTLP's messages are written: a value of OTLP/JSON to the bytes of protobuf, and back.

OTLP/JSON has integers of 64 bits as text, ids as hexadecimal digits, other bytes in base64, and enums as numbers.
Source: OTLP specification, "JSON Protobuf Encoding", and Protocol Buffers, "Encoding"; read 2026-11-28.
"""

import binascii
import math
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from telemetry_forwarder.records.lossless_json import clean

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # the wire types; 3 and 4, the groups, are not used by OTLP
_MASK = 0xFFFF_FFFF_FFFF_FFFF


class Kind(NamedTuple):
    """One kind of scalar: its wire type, and its default as OTLP/JSON has it.

    `write` returns the bytes of a value, and raises ValueError if it is not of this kind; `read` returns the value of
    a number, or of bytes, as it was found.
    """

    wire: int
    default: Any
    write: Callable[[Any], bytes]
    read: Callable[[Any], Any]


def varint(number: int) -> bytes:
    """Return a whole number from 0 to 2**64 - 1 in as few bytes as it takes."""
    if number < 0x80:
        return _ONE_BYTE[number]
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


_ONE_BYTE = [bytes((number,)) for number in range(0x80)]


def whole(value: Any, low: int, high: int) -> int:
    """Return a whole number, which may be text. Raises ValueError if it is none, or out of range."""
    is_text = isinstance(value, str) and value.isascii() and value.removeprefix("-").isdecimal() and len(value) <= 20
    if is_text or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"no whole number from {low} to {high}")
    return value


def _integer(bits: int, *, is_signed: bool, is_zigzag: bool = False) -> Kind:
    """Return the kind of an integer that is written as a varint."""
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    modulus = 1 << bits

    def write(value: Any) -> bytes:
        number = whole(value, low, high)
        return varint(number << 1 ^ number >> 63 if is_zigzag else number & _MASK)

    def read(number: int) -> Any:
        number %= modulus
        if is_zigzag:
            number = number >> 1 ^ -(number & 1)
        elif number > high:
            number -= modulus
        return str(number) if bits == 64 else number

    return Kind(VARINT, "0" if bits == 64 else 0, write, read)


def _fixed(form: str, wire: int, low: int, high: int) -> Kind:
    packer = struct.Struct(form)

    def read(data: bytes) -> Any:
        (number,) = packer.unpack(data)
        return str(number) if wire == FIXED64 else number

    return Kind(wire, "0" if wire == FIXED64 else 0, lambda value: packer.pack(whole(value, low, high)), read)


_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_DOUBLE = struct.Struct("<d")


def _write_double(value: Any) -> bytes:
    if isinstance(value, str):
        value = _NOT_FINITE[value] if value in _NOT_FINITE else float(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError("no number")
    try:
        return _DOUBLE.pack(float(value))
    except OverflowError as error:
        raise ValueError("no number that a double holds") from error


def _read_double(data: bytes) -> float | str:
    (value,) = _DOUBLE.unpack(data)
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _write_bool(value: Any) -> bytes:
    if not isinstance(value, bool):
        raise ValueError("neither true nor false")
    return b"\1" if value else b"\0"


def _write_text(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("no text")
    try:
        return value.encode()
    except UnicodeEncodeError:
        return clean(value).encode()


def _read_text(data: bytes) -> str:
    return data.decode()


_URL_SAFE = str.maketrans("-_", "+/")


def _write_bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise ValueError("no text in base64")
    text = value.translate(_URL_SAFE).rstrip("=")
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError as error:
        raise ValueError("no text in base64") from error


def _read_bytes(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _write_id(value: Any) -> bytes:
    if not isinstance(value, str) or not value.isascii() or not (value.isalnum() or not value):
        raise ValueError("no hexadecimal digits")
    try:
        return bytes.fromhex(value)
    except ValueError as error:
        raise ValueError("no hexadecimal digits") from error


KINDS = {
    "double": Kind(FIXED64, 0.0, _write_double, _read_double),
    "int64": _integer(64, is_signed=True),
    "uint64": _integer(64, is_signed=False),
    "sint64": _integer(64, is_signed=True, is_zigzag=True),
    "int32": _integer(32, is_signed=True),
    "uint32": _integer(32, is_signed=False),
    "sint32": _integer(32, is_signed=True, is_zigzag=True),
    "enum": _integer(32, is_signed=True),
    "fixed64": _fixed("<Q", FIXED64, 0, _MASK),
    "sfixed64": _fixed("<q", FIXED64, -(1 << 63), (1 << 63) - 1),
    "fixed32": _fixed("<I", FIXED32, 0, (1 << 32) - 1),
    "bool": Kind(VARINT, False, _write_bool, bool),
    "string": Kind(LENGTH, "", _write_text, _read_text),
    "bytes": Kind(LENGTH, "", _write_bytes, _read_bytes),
    "id": Kind(LENGTH, "", _write_id, bytes.hex),
}
