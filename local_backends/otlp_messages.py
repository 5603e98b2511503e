"""Reads OTLP requests strictly, in protobuf and in JSON, with the official classes of `opentelemetry-proto`.

JSON is read by rules of its own, because `google.protobuf.json_format` is not OTLP/JSON: it takes ids in base64 and
enums by name. Both encodings become an official message, and that the plain form in which tests read it.
Source: OTLP 1.11 specification, "JSON Protobuf Encoding", read 2026-11-28.
"""

import base64
import binascii
import math
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import orjson

SIGNALS = ("logs", "metrics", "traces")
IDS = {"traceId": 16, "spanId": 8, "parentSpanId": 8}
_REQUESTS = {
    "logs": ("logs", "ExportLogsServiceRequest"),
    "metrics": ("metrics", "ExportMetricsServiceRequest"),
    "traces": ("trace", "ExportTraceServiceRequest"),
}
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_DECIMAL = re.compile(r"-?[0-9]{1,20}")


class Malformed(Exception):
    """A request is no OTLP."""


# Integers of 64 bits that a real receiver takes as JSON numbers alone; all others have to be strings for it.
# Tried with rotel 0.0.1a15, 2026-11-28.
NUMBERS = frozenset({"asInt", "count", "zeroCount", "bucketCounts"})


class Rules:
    """What is refused beyond what every receiver refuses. `numbers`: integers of 64 bits may be JSON numbers."""

    def __init__(self, *, numbers: bool = False, snake_case: bool = False) -> None:
        self.numbers = numbers
        self.snake_case = snake_case


def services(signal: str) -> Any:
    """Return the official module of a signal's service. Raises ImportError, with what to install."""
    name = _REQUESTS[signal][0]
    try:
        return import_module(f"opentelemetry.proto.collector.{name}.v1.{name}_service_pb2")
    except ImportError as error:
        raise ImportError("the local OTLP backend needs the package opentelemetry-proto") from error


def read_protobuf(signal: str, body: bytes) -> dict[str, Any]:
    """Return the request in `body`, in the form of OTLP/JSON. Raises Malformed."""
    from google.protobuf.message import DecodeError

    message = getattr(services(signal), _REQUESTS[signal][1])()
    try:
        message.ParseFromString(body)
    except DecodeError as error:
        raise Malformed("the body is no such message in protobuf") from error
    _refuse_wrong_types(message)
    return plain(message)


def read_any(body: bytes) -> Any:
    """Return the JSON value in `body`. Raises Malformed."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is no JSON: {error}") from error


def read_json(signal: str, body: bytes, rules: Rules) -> dict[str, Any]:
    """Return the request in `body`. Raises Malformed."""
    given = read_any(body)
    message = getattr(services(signal), _REQUESTS[signal][1])()
    _fill(message, given, rules, signal)
    return plain(message)


def refuse_what_is_lost(given: Any, path: str = "") -> None:
    """Refuse what opentelemetry-proto of Rust, and so several receivers, lose while they answer 200, or refuse.

    Numbers in text lose their data point, a histogram's point without `attributes` too; a list of values without
    `values` is refused with the whole request. Tried with rotel 0.0.1a15, 2026-11-28.
    """
    if isinstance(given, list):
        for index, one in enumerate(given):
            refuse_what_is_lost(one, f"{path}[{index}]")
    if not isinstance(given, dict):
        return
    for name, value in given.items():
        where = f"{path}.{name}"
        if name in NUMBERS and not all(isinstance(one, int) for one in (value if isinstance(value, list) else [value])):
            raise Malformed(f"{where} is text, and would be lost")
        if name in ("arrayValue", "kvlistValue") and "values" not in value:
            raise Malformed(f"{where} has no values")
        if name == "histogram" and not all("attributes" in point for point in value.get("dataPoints", ())):
            raise Malformed(f"{where} has a point without attributes, and would be lost")
        refuse_what_is_lost(value, where)


def _refuse_wrong_types(message: Any) -> None:
    """Refuse fields that are known, but of another wire type: the parser takes them for unknown ones."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    known = message.DESCRIPTOR.fields_by_number
    for field in UnknownFieldSet(message):
        if field.field_number in known:
            name = known[field.field_number].json_name
            raise Malformed(f"{name} of {message.DESCRIPTOR.name} has another wire type")
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                _refuse_wrong_types(one)


# --- JSON -----------------------------------------------------------------------------------------------------------


def _fill(message: Any, given: Any, rules: Rules, path: str) -> None:
    """Set the fields of `message` from a JSON object."""
    if not isinstance(given, dict):
        raise Malformed(f"{path} is no JSON object")
    fields = {field.json_name: field for field in message.DESCRIPTOR.fields}
    snake = {field.name for field in message.DESCRIPTOR.fields} - set(fields)
    for key, value in given.items():
        where = f"{path}.{key}"
        if key in snake and not rules.snake_case:
            raise Malformed(f"{where} is not in lowerCamelCase")
        field = fields.get(key)
        if field is None:
            continue
        if value is None:
            if field.containing_oneof is not None:
                raise Malformed(f"{where} is null, but one of several")
            continue
        if field.is_repeated:
            if not isinstance(value, list):
                raise Malformed(f"{where} is no array")
            for index, one in enumerate(value):
                _add(message, field, one, rules, f"{where}[{index}]")
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            _fill(inner, value, rules, where)
        else:
            setattr(message, field.name, _scalar(field, value, rules, where))


def _add(message: Any, field: Any, value: Any, rules: Rules, where: str) -> None:
    values = getattr(message, field.name)
    if field.message_type is not None:
        _fill(values.add(), value, rules, where)
    else:
        values.append(_scalar(field, value, rules, where))


def _scalar(field: Any, value: Any, rules: Rules, where: str) -> Any:
    if field.type == field.TYPE_STRING:
        return _of_type(str, value, where)
    if field.type == field.TYPE_BOOL:
        return _of_type(bool, value, where)
    if field.type == field.TYPE_BYTES:
        return _bytes(field.json_name, _of_type(str, value, where), where)
    if field.type == field.TYPE_DOUBLE:
        return _double(value, where)
    if field.type in (field.TYPE_INT64, field.TYPE_UINT64, field.TYPE_FIXED64, field.TYPE_SFIXED64):
        may_be_number = rules.numbers or field.json_name in NUMBERS
        return _long(value, field.type not in (field.TYPE_UINT64, field.TYPE_FIXED64), may_be_number, where)
    number = _of_type(int, value, where)  # an enum, too: its name is forbidden
    is_signed = field.type in (field.TYPE_INT32, field.TYPE_SINT32, field.TYPE_ENUM)
    return _within(number, 32, is_signed, where)


def _of_type(type: type, value: Any, where: str) -> Any:
    if not isinstance(value, type) or (type is int and isinstance(value, bool)):
        raise Malformed(f"{where} is no {type.__name__}")
    return value


def _bytes(name: str, text: str, where: str) -> bytes:
    size = IDS.get(name)
    try:
        found = bytes.fromhex(text) if size and " " not in text else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise Malformed(f"{where} is not in {'hexadecimal digits' if size else 'base64'}") from error
    if size and len(found) not in (0, size):
        raise Malformed(f"{where} has {len(found)} bytes, not {size}")
    return found


def _double(value: Any, where: str) -> float:
    if isinstance(value, str) and value in _NOT_FINITE:
        return _NOT_FINITE[value]
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Malformed(f"{where} is no number")
    return float(value)


def _long(value: Any, is_signed: bool, may_be_number: bool, where: str) -> int:
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return _within(int(value), 64, is_signed, where)
    if may_be_number and isinstance(value, int) and not isinstance(value, bool):
        return _within(value, 64, is_signed, where)
    raise Malformed(f"{where} is no integer of 64 bits as a string")


def _within(number: int, bits: int, is_signed: bool, where: str) -> int:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)
    if not low <= number <= high:
        raise Malformed(f"{where} is out of range")
    return number


# --- the plain form -------------------------------------------------------------------------------------------------


def plain(message: Any) -> dict[str, Any]:
    """Return an official message in the form of OTLP/JSON; integers are integers. Raises Malformed for a wrong id."""
    found = {}
    for field, value in message.ListFields():
        name = field.json_name
        found[name] = [_plain(field, one) for one in value] if field.is_repeated else _plain(field, value)
    return found


def _plain(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return plain(value)
    if field.type != field.TYPE_BYTES:
        return value
    size = IDS.get(field.json_name)
    if size is None:
        return base64.b64encode(value).decode()
    if len(value) != size:
        raise Malformed(f"{field.json_name} has {len(value)} bytes, not {size}")
    return value.hex()


def attributes_of(holder: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes of an item or a resource as a plain dict."""
    return {one.get("key", ""): value_of(one.get("value", {})) for one in holder.get("attributes", ())}


def value_of(value: Mapping[str, Any]) -> Any:
    """Return an AnyValue as a plain value; None for an empty one."""
    if "arrayValue" in value:
        return [value_of(one) for one in value["arrayValue"].get("values", ())]
    if "kvlistValue" in value:
        return {one.get("key", ""): value_of(one.get("value", {})) for one in value["kvlistValue"].get("values", ())}
    return next(iter(value.values()), None)
