"""All that a sink of your own imports, and the only module path that stays: docs/sinks.md, "A sink of your own".

`create(environ)` returns a Destination: a Sink, and an HttpDelivery or a function that opens a Transport. The names are
described where they are defined. What a name here means, and takes, changes with a new major version alone.
"""

from telemetry_forwarder.errors import ConfigError, ConnectFailed, ConnectionLost, EncodeError, TimedOut, TransportError
from telemetry_forwarder.interfaces import (
    Batch,
    Cause,
    Credential,
    Delivered,
    Denied,
    Destination,
    DropReason,
    Encoded,
    HttpDelivery,
    HttpRequest,
    HttpResponse,
    Limits,
    OpenTransport,
    Partial,
    Rejected,
    Retry,
    Sink,
    TooLarge,
    Transport,
    Verdict,
)
from telemetry_forwarder.records.lossless_json import to_json
from telemetry_forwarder.records.record import Origin, Record
from telemetry_forwarder.sinks.truncate import cut, fit, text_of
from telemetry_forwarder.variables.table import Problem
from telemetry_forwarder.variables.types import Secret, SecretReference, Url

__all__ = [
    "Batch", "Cause", "ConfigError", "ConnectFailed", "ConnectionLost", "Credential", "Delivered", "Denied",
    "Destination", "DropReason", "EncodeError", "Encoded", "HttpDelivery", "HttpRequest", "HttpResponse", "Limits",
    "OpenTransport", "Origin", "Partial", "Problem", "Record", "Rejected", "Retry", "Secret", "SecretReference", "Sink",
    "TimedOut", "TooLarge", "Transport", "TransportError", "Url", "Verdict", "cut", "fit", "text_of", "to_json",
]  # fmt: skip
