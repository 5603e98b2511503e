"""The public API for sinks of your own, and the only module path that is stable: docs/sinks.md, "A sink of your own".

A sink's `create(environ)` returns a Destination: a Sink, and an HttpDelivery or a function that opens a Transport. Each
name is documented where it is defined. The meaning and the parameters of a name only change with a new major version.
"""

from telemetry_forwarder.errors import ConfigError, ConnectFailed, ConnectionLost, EncodeError, TimedOut, TransportError
from telemetry_forwarder.interfaces import (
    Batch,
    Cause,
    Credential,
    CredentialUrl,
    Delivered,
    Denied,
    Destination,
    DropReason,
    Encoded,
    HeaderList,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
    OpenTransport,
    Partial,
    Rejected,
    Retry,
    Signing,
    Sink,
    Tls,
    TooLarge,
    Transport,
    Verdict,
)
from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.records.record import Context, Origin, Record
from telemetry_forwarder.sinks.truncate import cut, fit, text_of
from telemetry_forwarder.variables.table import Problem
from telemetry_forwarder.variables.types import Secret, SecretReference, Url

__all__ = [
    "Batch", "Cause", "ConfigError", "ConnectFailed", "ConnectionLost", "Context", "Credential",
    "CredentialUrl", "Delivered",
    "Denied", "Destination", "DropReason", "EncodeError", "Encoded", "HeaderList", "HttpDelivery", "HttpRequest",
    "HttpResponse", "Limits", "OpenTransport", "Origin", "Partial", "Problem", "Record", "Rejected", "Retry", "Secret",
    "SecretReference", "Signing", "Sink", "TimedOut", "Tls", "TooLarge", "Transport", "TransportError", "Url",
    "Verdict", "cut", "fit", "text_of", "to_json",
]  # fmt: skip
