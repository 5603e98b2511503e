"""Prints telemetry_forwarder/otlp/schema.py, the table of OTLP's messages: `make otlp-schema`.

It is read from the descriptors of the published .proto files, which the package `opentelemetry-proto` holds. The
package `protobuf` itself takes 23 ms to import, of which the extension has not five; this table takes less than one.
"""

import sys
from importlib.metadata import version
from typing import Any

SERVICES = ("logs", "metrics", "trace")

_HEAD = '''"""The messages of OTLP, as a table. Written by `make otlp-schema`: change layer/otlp_schema.py instead.

Read from the descriptors of opentelemetry-proto {version}. A message has one row for each field: its number, its name
in JSON, its kind, its label and its message type. The label is `repeated`, `packed`, "" for a field that is left out
where it has its default, `optional` for one that is not, or the name of the `oneof` that it is a member of.
"""

VERSION = "{version}"

# fmt: off
MESSAGES: dict[str, tuple[tuple[int, str, str, str, str], ...]] = {{
'''

# By their number in descriptor.proto. `id` is for trace and span ids: bytes that OTLP/JSON has in hexadecimal digits.
_KINDS = {
    1: "double", 2: "float", 3: "int64", 4: "uint64", 5: "int32", 6: "fixed64", 7: "fixed32", 8: "bool", 9: "string",
    11: "message", 12: "bytes", 13: "uint32", 14: "enum", 15: "sfixed32", 16: "sfixed64", 17: "sint32", 18: "sint64",
}  # fmt: skip
_IDS = ("traceId", "spanId", "parentSpanId")

# Errors come as google.rpc.Status, which opentelemetry-proto does not hold.
# Source: googleapis, google/rpc/status.proto, read 2026-11-28.
_ERROR = '    "Error": (\n        (1, "code", "int32", "", ""),\n        (2, "message", "string", "", ""),\n    ),\n'


def schema() -> str:
    """Return the module's text."""
    found: dict[str, Any] = {}
    for service in SERVICES:
        for descriptor in _services(service).message_types_by_name.values():
            _walk(descriptor, found)
    messages = [_message(_name_of(descriptor), descriptor) for descriptor in found.values()]
    return _HEAD.format(version=version("opentelemetry-proto")) + "".join(messages) + _ERROR + "}\n"


def _services(name: str) -> Any:
    from importlib import import_module

    return import_module(f"opentelemetry.proto.collector.{name}.v1.{name}_service_pb2").DESCRIPTOR


def _walk(descriptor: Any, found: dict[str, Any]) -> None:
    if descriptor.full_name not in found:
        found[descriptor.full_name] = descriptor
        for field in descriptor.fields:
            if field.message_type is not None:
                _walk(field.message_type, found)


def _name_of(descriptor: Any) -> str:
    """Return the name without its package, e.g. `Span.Event`."""
    return str(descriptor.full_name).removeprefix(descriptor.file.package + ".")


def _message(name: str, descriptor: Any) -> str:
    rows = [_row(field) for field in sorted(descriptor.fields, key=lambda field: field.number)]
    return f'    "{name}": (\n' + "".join(f"        {row},\n" for row in rows) + "    ),\n"


def _row(field: Any) -> str:
    kind = "id" if field.json_name in _IDS else _KINDS[field.type]
    type = _name_of(field.message_type) if field.message_type is not None else ""
    return f'({field.number}, "{field.json_name}", "{kind}", "{_label(field)}", "{type}")'


def _label(field: Any) -> str:
    if field.is_repeated:
        return "packed" if field.is_packed else "repeated"
    oneof = field.containing_oneof
    if oneof is None:
        return "optional" if field.has_presence and field.message_type is None else ""
    return "optional" if oneof.name.startswith("_") else str(oneof.name)  # `optional` is a oneof of one member


if __name__ == "__main__":
    sys.stdout.write(schema())
