"""What OpenTelemetry's variables mean together. Loaded only if the OTLP sink is wanted.

Source: OpenTelemetry specification, "OpenTelemetry Protocol Exporter" and "Environment variables"; read 2026-11-28.
"""

from telemetry_forwarder.variables.reading import wants_metrics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_forwarder.variables.reading import Values

SIGNALS = ("logs", "metrics", "traces")
GENERAL = "OTEL_EXPORTER_OTLP_ENDPOINT"
OURS = "TELEMETRY_FORWARDER_OTLP_ENDPOINT"
DISABLED = "OTEL_SDK_DISABLED"
PROTOCOL = "OTEL_EXPORTER_OTLP_PROTOCOL"


def of_signal(signal: str, what: str) -> str:
    """Return the name of a signal's own variable, e.g. OTEL_EXPORTER_OTLP_LOGS_ENDPOINT."""
    return f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}"


def endpoints(values: "Values") -> "dict[str, str]":
    """Return the URL of each signal that has one, wanted or not.

    Ours replaces the general one, which the function's own SDK reads, too. The path is added to these; that of a signal
    is used as it is.
    """
    found = {}
    base = values[OURS] or values[GENERAL]
    for signal in SIGNALS:
        own: str | None = values[of_signal(signal, "ENDPOINT")]
        if own is not None:
            found[signal] = own if own.count("/") > 2 else f"{own}/"
        elif base is not None:
            found[signal] = f"{base}/v1/{signal}"
    return found


def is_wanted(signal: str, values: "Values") -> bool:
    """Return whether a signal shall be sent: log records always, the others if they are asked for."""
    if signal == "metrics":
        return wants_metrics("otlp", values)
    return signal == "logs" or values["TELEMETRY_FORWARDER_TRACES"] != "off"


def may_run(values: "Values") -> bool:
    """Return whether any signal is sent."""
    if values[DISABLED] or any(variable.name == PROTOCOL for variable in values.faults):
        return False
    return any(is_wanted(signal, values) for signal in endpoints(values))


def is_local(url: str) -> bool:
    """Return whether a URL leads to this environment: to a collector beside the function."""
    host = url.lower().partition("://")[2]
    return host.startswith(("localhost", "127.", "[::1]"))


# --- headers and attributes -----------------------------------------------------------------------------------------


def headers_in(text: str) -> "tuple[tuple[str, str], ...]":
    """Return the headers that a list `name=value,name=value` holds. Raises ValueError if it is none, without its text.

    A value may hold `=` and spaces as they are, which SDKs disagree about; a comma has to be percent-encoded.
    """
    found: dict[str, tuple[str, str]] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, value = part.partition("=")
        name, value = name.strip(), decoded(value.strip())
        is_name = name.isascii() and name.replace("-", "").replace("_", "").replace(".", "").isalnum()
        if not equals or not is_name or not value or not (value.isascii() and value.isprintable()):
            raise ValueError("no list of headers `name=value,name=value`")
        found[name.lower()] = (name, value)
    if not found:
        raise ValueError("no list of headers `name=value,name=value`")
    return tuple(found.values())


def attributes_in(text: str) -> "tuple[tuple[str, str], ...]":
    """Return the attributes of a list `key=value,key=value`; of equal keys the last counts. Raises ValueError.

    On any error nothing of the list is used, as the specification demands.
    """
    found: dict[str, str] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        key, equals, value = part.partition("=")
        if not equals or not key.strip() or "=" in value:
            raise ValueError
        found[decoded(key.strip(), is_strict=True)] = decoded(value.strip(), is_strict=True)
    if not found:
        raise ValueError
    return tuple(found.items())


def decoded(text: str, *, is_strict: bool = False) -> str:
    """Return `text` with each valid `%XX` replaced; another `%` stays, or if strict is an error.

    Raises ValueError, too, if the result is no UTF-8.
    """
    first, *rest = text.split("%")
    found = bytearray(first, "utf-8")
    for piece in rest:
        digits = piece[:2]
        if len(digits) == 2 and all(digit in "0123456789abcdefABCDEF" for digit in digits):
            found += bytes.fromhex(digits) + piece[2:].encode()
        elif is_strict:
            raise ValueError
        else:
            found += b"%" + piece.encode()
    return found.decode()
