"""Describe why a request got no answer: texts that name host and port, and nothing of the request."""

import os
import socket
from collections.abc import Iterable

from telemetry_forwarder.errors import ConnectionLost, TimedOut, TransportError
from telemetry_forwarder.transports.tls_failures import is_tls, tls_failure

NEEDS_LOGIN = 407
_TLS_ALERT = b"\x15\x03"


def why_not(
    error: BaseException,
    *,
    is_proxy: bool,
    ca_file: str | None = None,
    names: Iterable[str] = (),
    ca_variable: str = "SSL_CERT_FILE",
    name_advice: str = "",
) -> str:
    """Return why no connection was made; `names` are those of a certificate that is for another name than ours."""
    if isinstance(error, socket.gaierror) and not is_proxy:
        return f"the name cannot be resolved ({plain(error)})" + (f"; {name_advice}" if name_advice else "")
    if is_tls(error):
        reason = tls_failure(error, ca_file=ca_file, names=names, variable=ca_variable)
        return f"TLS with the proxy: {reason}" if is_proxy else reason
    return f"the proxy cannot be reached ({plain(error)})" if is_proxy else f"no connection ({plain(error)})"


def refused_by_proxy(status: int) -> str:
    hint = ""
    if status == NEEDS_LOGIN:
        hint = ": HTTP_PROXY or HTTPS_PROXY lacks the user name and password that it wants, or has others"
    return f"the proxy refused the connection with status {status}{hint}"


def not_http(where: str, received: bytes | bytearray = b"") -> ConnectionLost:
    """Return the error for an answer without a status line; `received` came instead."""
    hint = "; it is an alert of TLS: write `https://`" if received.startswith(_TLS_ALERT) else ""
    return ConnectionLost(f"{where}: what came back is not HTTP{hint}")


def lost(error: BaseException, where: str) -> TransportError:
    """Return the transport error for a connection that ended, with `error`, before the answer did."""
    if is_tls(error):  # in TLS 1.3 a server rejects its client only after the client has begun to send
        return ConnectionLost(f"{where}: {tls_failure(error)}")
    # An OSError for ETIMEDOUT is a TimeoutError too, but means a lost connection. It has an errno.
    if isinstance(error, TimeoutError) and error.errno is None:
        return TimedOut(f"{where}: no answer in time")
    return ConnectionLost(f"{where}: the connection ended before the answer did ({plain(error)})")


def plain(error: BaseException) -> str:
    """Return the words of the operating system or OpenSSL. Other texts may quote the request, so they are left out."""
    reason = getattr(error, "reason", None)  # ssl.SSLError
    if isinstance(reason, str) and reason:
        return reason.replace("_", " ").lower()
    if isinstance(error, socket.gaierror) and error.strerror:
        return error.strerror
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__
