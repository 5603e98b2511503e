"""Parses and checks the body of a telemetry subscription. Pure; each refusal has the status and text of the real API.

Source: captures of the Telemetry API on real Lambda, listed in docs/fidelity.md, section 2.1.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson

from local_lambda.rules.logs_schema import LOGS_SCHEMAS
from local_lambda.rules.refusals import Refused

_HOSTS = ("sandbox.localdomain", "sandbox")  # two vendors use the short name in production
_TYPES = ("platform", "function", "extension")
_KNOWN_SCHEMAS = (*LOGS_SCHEMAS, "2022-07-01", "2022-12-13", "2025-01-29")
_RESERVED_PORT = 9001
Fields = Mapping[str, Any]
Limits = Mapping[str, tuple[int, int, int]]  # name: (default, least, most)
_BUFFERING: Limits = {
    "maxItems": (10000, 1000, 10000),
    "maxBytes": (262144, 262144, 1048576),
    "timeoutMs": (1000, 25, 30000),
}
_LOGS_BUFFERING = {**_BUFFERING, "timeoutMs": (1000, 100, 30000)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A telemetry subscription. Two subscriptions are the same if all their members are equal."""

    name: str  # the extension
    schema: str
    types: tuple[str, ...]
    max_items: int
    max_bytes: int
    timeout_ms: int
    protocol: Literal["HTTP", "TCP"]
    port: int
    path: str  # with its query; "" for TCP
    method: str


def parse(name: str, body: bytes, *, schemas: Collection[str]) -> Subscription:
    """Return the subscription requested in `body`. Raises Refused; the error types have no prefix."""
    return _parse(name, body, lambda asked: _schema(asked, schemas), _BUFFERING)


def parse_logs(name: str, body: bytes) -> Subscription:
    """Return the Logs API subscription requested in `body`. Raises Refused; the names of its errors are a choice."""
    return _parse(name, body, _logs_schema, _LOGS_BUFFERING)


def _parse(name: str, body: bytes, schema_of: Callable[[Fields], str], limits: Limits) -> Subscription:
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _malformed(str(error)) from None
    if not isinstance(asked, dict):
        raise _malformed("invalid type: expected a JSON object")
    schema = schema_of(asked)
    types = _types(asked)
    buffering = _buffering(asked, limits)
    protocol, port, path, method = _destination(asked)
    return Subscription(
        name=name,
        schema=schema,
        types=types,
        max_items=buffering["maxItems"],
        max_bytes=buffering["maxBytes"],
        timeout_ms=buffering["timeoutMs"],
        protocol=protocol,
        port=port,
        path=path,
        method=method,
    )


def _schema(asked: Fields, accepted: Collection[str]) -> str:
    schema = asked.get("schemaVersion")
    if schema is None:
        raise _invalid("TelemetryAPI only supports the SchemaVersion released after 2021-03-18")
    if schema not in _KNOWN_SCHEMAS or (schema in _KNOWN_SCHEMAS[2:] and schema not in accepted):
        # A schema that was removed from `Platform.schemas` is refused like an unknown one.
        known = [known for known in _KNOWN_SCHEMAS if known in _KNOWN_SCHEMAS[:2] or known in accepted]
        listed = ", ".join(f"`{known}`" for known in known)
        raise _malformed(f"unknown variant `{schema}`, expected one of {listed}")
    if schema in _KNOWN_SCHEMAS[:2]:
        raise _invalid("TelemetryAPI only supports the SchemaVersion released after 2021-03-18")
    return str(schema)


def _logs_schema(asked: Fields) -> str:
    schema = asked.get("schemaVersion") or LOGS_SCHEMAS[0]
    if schema in _KNOWN_SCHEMAS and schema not in LOGS_SCHEMAS:
        raise _invalid(f"Logs API does not support the SchemaVersion {schema}")
    if schema not in LOGS_SCHEMAS:
        raise _malformed(
            f"unknown variant `{schema}`, expected one of {', '.join(f'`{known}`' for known in LOGS_SCHEMAS)}"
        )
    return str(schema)


def _types(asked: Fields) -> tuple[str, ...]:
    if "types" not in asked:
        raise _malformed("missing field `types`")
    types = asked["types"]
    if not isinstance(types, list):
        raise _malformed("invalid type: types should be a sequence")
    if not types:
        raise _invalid("types should not be empty")
    if any(word not in _TYPES for word in types):
        raise _invalid("Unrecognized enum variant")
    if len(set(types)) != len(types):
        raise _invalid("types should be unique")
    return tuple(types)


def _buffering(asked: Fields, limits: Limits) -> dict[str, int]:
    given = asked.get("buffering")
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise _malformed("invalid type: buffering should be an object")
    values = {}
    for name, (default, least, most) in limits.items():
        value = given.get(name)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise _malformed(f"invalid type: {name} should be an unsigned integer")
        if not least <= value <= most:
            raise _invalid(f"{name} should be between {least} and {most}")
        values[name] = value
    return values


def _destination(asked: Fields) -> tuple[Literal["HTTP", "TCP"], int, str, str]:
    destination = asked.get("destination")
    if destination is None:
        raise _malformed("missing field `destination`")
    if not isinstance(destination, dict):
        raise _malformed("invalid type: destination should be an object")
    protocol = destination.get("protocol")
    if protocol is None:
        raise _malformed("missing field `protocol`")
    if protocol == "TCP":
        return "TCP", _port(destination.get("port")), "", ""
    if protocol != "HTTP":
        raise _malformed(f"unknown variant `{protocol}`, expected `HTTP` or `TCP`")
    method = destination.get("method") or "POST"
    if method not in ("POST", "PUT"):
        raise _malformed(f"unknown variant `{method}`, expected `POST` or `PUT`")
    port, path = _uri(destination.get("URI"))
    return "HTTP", port, path, method


def _uri(uri: object) -> tuple[int, str]:
    if uri is None:
        raise _malformed("missing field `URI`")
    try:
        parts = urlsplit(str(uri))
        port = parts.port
    except ValueError:
        raise _invalid("URI is not valid") from None
    if parts.scheme != "http":
        raise _denied("Only 'http' scheme is supported.")
    if parts.hostname not in _HOSTS:
        raise _denied("Only 'sandbox.localdomain' hostname is supported.")
    if port is None:
        raise _invalid("URI port is not provided")
    return _port(port), (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _port(port: object) -> int:
    if port is None:
        raise _malformed("missing field `port`")
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port <= 65535:
        raise _malformed("invalid value: port should be between 1 and 65535")
    if port == _RESERVED_PORT:
        raise _invalid(f"Port {_RESERVED_PORT} is reserved")
    return port


def _invalid(message: str) -> Refused:
    return Refused(400, "ValidationError", message)


def _malformed(message: str) -> Refused:
    return Refused(400, "DeserializationError", message)


def _denied(message: str) -> Refused:
    return Refused(403, "AccessDenied", message)
