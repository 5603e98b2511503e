"""HTTP to one destination: connections that are kept, no retry, no redirect, no cookie, nothing from the environment.

A timer that was set before Lambda froze the environment fires as soon as it thaws, although the answer may be
waiting in the socket. So only the making of a connection is bounded here; how long an answer may take is the
worker's to say, who knows the deadline of the invocation.
"""

import asyncio
import contextlib
import os
import socket
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote_to_bytes, urlsplit

import h11

from telemetry_forwarder import __version__
from telemetry_forwarder.clock import Clock, SystemClock
from telemetry_forwarder.errors import ConnectFailed, ConnectionLost, TimedOut, TransportError
from telemetry_forwarder.interfaces import Cause, HttpRequest, HttpResponse
from telemetry_forwarder.transports.addresses import addresses_of, connected_socket
from telemetry_forwarder.transports.answers import LONGEST_ANSWER_BYTES, read_answer, unread
from telemetry_forwarder.transports.http11 import Connection
from telemetry_forwarder.transports.steps import (
    Way,
    Ways,
    connection_wanted,
    handshake_wanted,
    name_wanted,
    proxy_wanted,
    tunnel_wanted,
)
from telemetry_forwarder.transports.tls_failures import (
    HUNG_UP,
    is_hung_up,
    is_other_name,
    is_tls,
    names_in,
    tls_failure,
)
from telemetry_forwarder.variables.proxies import proxy_for

if TYPE_CHECKING:  # `ssl` and the library below it cost 5 ms and 3 MB: only who speaks TLS loads them
    import ssl

# Shorter than the idle limit of any load balancer, so that a connection is seldom found dead when it is used again.
KEEP_ALIVE_S = 5.0

USER_AGENT = f"telemetry-forwarder/{__version__}"
PORTS = {"http": 80, "https": 443}
NEEDS_LOGIN = 407
TLS_ALERT = b"\x15\x03"


class HttpTransport:
    """Send each `HttpRequest` once and return the answer, whatever its status.

    `proxy` is the proxy's URL (`choose_proxy`), with user name and password where it wants them; `ca_file` a PEM file
    of the authorities to trust instead of the system's; `connect_s` bounds name look-up, TCP, proxy and TLS together.

    Raises ConnectFailed where nothing was sent, ConnectionLost and TimedOut where something may have arrived; their
    texts name host and port, never a header, a body or a query. Of a longer answer the first 64 KiB are returned.
    Where a whole status line came there was an answer, whatever is wrong behind it: it is returned as `unreadable`.
    """

    def __init__(
        self,
        *,
        proxy: str | None = None,
        ca_file: str | None = None,
        connect_s: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        self._proxy = proxy
        self._ca_file = ca_file
        self._connect_s = connect_s
        self._tls: ssl.SSLContext | None = None
        self._names: tuple[str, ...] | None = None  # of a certificate that was made for others
        self._clock = clock or SystemClock()
        self._idle: list[tuple[Connection, tuple[str, str], float]] = []  # to whom, and since when by the wall clock
        self._busy: set[Connection] = set()
        self._is_closed = False
        self._ways = Ways()

    def waits_for(self) -> Cause | None:
        """Return the step of making a connection that the oldest request waits for; None where it was sent."""
        return self._ways.waits_for()

    async def send(self, request: HttpRequest) -> HttpResponse:
        where = address(request.url, self._proxy)
        if self._is_closed:
            raise ConnectFailed(f"{where}: the transport is closed")
        with self._ways.begin() as way:
            return await self._send(request, where, way)

    async def _send(self, request: HttpRequest, where: str, way: Way) -> HttpResponse:
        try:
            parts = urlsplit(request.url)
            target = target_of(parts, is_proxied=self._proxy is not None and parts.scheme == "http")
            headers = self._headers(request, parts)
            connection = self._idle_connection(parts) or await self._connect(parts, where, way)
        except (ValueError, UnicodeError) as error:
            raise ConnectFailed(f"{where}: the request cannot be sent ({type(error).__name__})") from error
        way.waits_for = None
        self._busy.add(connection)
        try:
            answer = await connection.exchange(request.method, target, headers, request.body, LONGEST_ANSWER_BYTES)
            response = read_answer(answer)
        except (h11.ProtocolError, OSError) as error:
            begun = connection.begun
            if begun is None or isinstance(error, h11.LocalProtocolError):
                raise lost(error, where, connection.unread) from error
            response = unread(begun, unreadable(error))
        finally:
            self._busy.discard(connection)
        if response.status == NEEDS_LOGIN and self._proxy is not None and parts.scheme == "http":
            raise ConnectFailed(f"{where}: {refused_by_proxy(response.status)}")  # no answer of the backend's
        if connection.is_open:
            self._idle.append((connection, destination(parts), self._clock.time()))
        return response

    async def aclose(self) -> None:
        self._is_closed = True
        for connection in [*self._busy, *(idle[0] for idle in self._idle)]:
            connection.close()
        self._idle.clear()
        await asyncio.sleep(0)  # the loop closes what was aborted

    def _headers(self, request: HttpRequest, parts: SplitResult) -> dict[str, str]:
        headers = {"Host": parts.netloc.rpartition("@")[2], "User-Agent": USER_AGENT, "Accept": "*/*"}
        if request.body or request.method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = str(len(request.body))
        if parts.scheme == "http" and self._proxy is not None:
            headers |= proxy_login(self._proxy)
        taken = {name.lower() for name in request.headers}
        return {name: value for name, value in headers.items() if name.lower() not in taken} | dict(request.headers)

    def _idle_connection(self, parts: SplitResult) -> Connection | None:
        """Return a connection to use again; close what has been idle for too long by the wall clock.

        The monotonic clock may have stood still while the environment was frozen or kept as a snapshot; the other end
        has long forgotten the connection then, and may not even say so.
        """
        now, found = self._clock.time(), None
        idle, self._idle = self._idle, []
        for connection, whom, since in idle:
            if not connection.is_open or abs(now - since) > KEEP_ALIVE_S:
                connection.close()
            elif found is None and whom == destination(parts):
                found = connection
            else:
                self._idle.append((connection, whom, since))
        return found

    # --- making a connection ---

    async def _connect(self, parts: SplitResult, where: str, way: Way) -> Connection:
        """Return a connection on which requests for `parts` can be sent. Raises ConnectFailed."""
        if parts.scheme not in PORTS or not parts.hostname:
            raise ConnectFailed(f"{where}: the request cannot be sent (not an http or https address)")
        tls = self._tls_context(parts) if parts.scheme == "https" else None
        try:
            async with asyncio.timeout(self._connect_s):
                return await self._reach(parts, tls, way)
        except TimeoutError as error:
            if error.errno is not None:  # ETIMEDOUT, of the system
                raise ConnectFailed(f"{where}: no connection ({plain(error)})") from error
            raise ConnectFailed(way.waits_for.text if way.waits_for else f"{where}: no connection in time") from error
        except ProxyRefused as error:
            raise ConnectFailed(f"{where}: {error}") from error
        except (OSError, h11.ProtocolError) as error:
            if is_other_name(error) and self._names is None:
                self._names = await self._names_at(parts)
            if tls is not None and is_hung_up(error):
                raise ConnectFailed(f"{where}: {HUNG_UP}") from error
            reason = why_not(error, is_proxy=False, ca_file=self._ca_file, names=self._names or ())
            raise ConnectFailed(f"{where}: {reason}") from error

    async def _reach(self, parts: SplitResult, tls: "ssl.SSLContext | None", way: Way) -> Connection:
        if self._proxy is None:
            return await self._open(parts, tls, way, connection_wanted(host_port(parts.geturl())))
        return await self._through_proxy(urlsplit(self._proxy), parts, tls, way)

    async def _names_at(self, parts: SplitResult) -> tuple[str, ...]:
        """Return the names in the certificate of the other end, which has another than ours; nothing is sent there.

        OpenSSL gives them only where the handshake succeeds, so there is another one, once, that does not compare.
        """
        context = context_of(self._ca_file)
        context.check_hostname = False
        try:
            async with asyncio.timeout(self._connect_s):
                connection = await self._reach(parts, context, Way())
        except (OSError, h11.ProtocolError):
            return ()
        certificate = connection.transport.get_extra_info("peercert") or {}
        connection.close()
        return names_in(certificate)

    async def _open(self, parts: SplitResult, tls: "ssl.SSLContext | None", way: Way, reached: Cause) -> Connection:
        """Connect step by step; `reached` is what is waited for while the other end says nothing at all."""
        where = host_port(parts.geturl())
        way.waits_for = name_wanted(where)
        addresses = await addresses_of(parts.hostname or "", parts.port or PORTS[parts.scheme])
        way.waits_for = reached
        connected = await connected_socket(addresses)
        way.waits_for = handshake_wanted(where)
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection,
            sock=connected,
            ssl=tls,
            # Without the dot of a fully qualified name, which no certificate has.
            server_hostname=(parts.hostname or "").rstrip(".") if tls else None,
        )
        return connection

    async def _through_proxy(
        self, proxy: SplitResult, parts: SplitResult, tls: "ssl.SSLContext | None", way: Way
    ) -> Connection:
        where, variable = address(parts.geturl(), self._proxy), f"{parts.scheme.upper()}_PROXY"
        try:
            own_tls = self._tls_context(proxy) if proxy.scheme == "https" else None
            connection = await self._open(proxy, own_tls, way, proxy_wanted(where, variable))
        except TimeoutError as error:
            if error.errno is None:
                raise
            raise ProxyRefused(why_not(error, is_proxy=True)) from error
        except OSError as error:
            raise ProxyRefused(why_not(error, is_proxy=True)) from error
        if tls is None:
            return connection
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        target = f"{host}:{parts.port or PORTS[parts.scheme]}"
        headers = {"Host": target, "User-Agent": USER_AGENT, **proxy_login(self._proxy or "")}
        way.waits_for = tunnel_wanted(where, variable)
        try:
            answer = await connection.exchange("CONNECT", target, headers, b"")
        except (OSError, h11.ProtocolError) as error:
            raise ProxyRefused("the proxy ended the connection, or speaks no HTTP") from error
        if not 200 <= answer.status < 300:
            connection.close()
            raise ProxyRefused(refused_by_proxy(answer.status))
        way.waits_for = handshake_wanted(where)
        return await self._encrypt(connection, tls, parts)

    async def _encrypt(self, tunnel: Connection, tls: "ssl.SSLContext", parts: SplitResult) -> Connection:
        connection = Connection()
        try:
            transport = await asyncio.get_running_loop().start_tls(
                tunnel.transport, connection, tls, server_hostname=(parts.hostname or "").rstrip(".")
            )
        except BaseException:
            tunnel.close()
            raise
        if transport is None:  # says the type: not of an open connection
            raise ConnectionAbortedError("closed by the other end")
        connection.connection_made(transport)
        return connection

    def _tls_context(self, parts: SplitResult) -> "ssl.SSLContext":
        """Return what verifies the other end, made once, when it is first needed."""
        if self._tls is None:
            try:
                context = context_of(self._ca_file)
            except OSError as error:
                raise ConnectFailed(
                    f"{host_port(parts.geturl())}: the CA file {self._ca_file!r} cannot be read ({plain(error)}); "
                    "SSL_CERT_FILE must name a file of certificates in PEM form"
                ) from error
            context.set_alpn_protocols(["http/1.1"])
            self._tls = context
        return self._tls


class ProxyRefused(OSError):
    """The proxy is away, or will not let us through."""


def refused_by_proxy(status: int) -> str:
    hint = ""
    if status == NEEDS_LOGIN:
        hint = ": HTTP_PROXY or HTTPS_PROXY lacks the user name and password that it wants, or has others"
    return f"the proxy refused the connection with status {status}{hint}"


def target_of(parts: SplitResult, *, is_proxied: bool) -> str:
    """Return what stands in the request line: the whole address only for a proxy that has to read it."""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}" if is_proxied else path


def destination(parts: SplitResult) -> tuple[str, str]:
    """Return what two requests must have in common to go through the same connection."""
    return parts.scheme, parts.netloc


def proxy_login(proxy: str) -> dict[str, str]:
    """Return the header with the user name and password of the proxy's URL, if it holds any."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    login = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
    return {"Proxy-Authorization": "Basic " + b64encode(login).decode()}


def unreadable(error: Exception) -> str:
    """Say why an answer could not be read behind its status line; the parser's own words may quote it."""
    if isinstance(error, h11.ProtocolError):
        return "behind its status line it is not HTTP"
    return f"the connection ended before it did ({plain(error)})"


def context_of(ca_file: str | None) -> "ssl.SSLContext":
    """Return a context that trusts the authorities of `ca_file`, else the system's. Raises OSError.

    OpenSSL itself reads SSL_CERT_FILE. Where that names nothing of use, which the settings have said and left out, it
    hides the system's authorities; they are loaded from where this OpenSSL was built to find them.
    """
    import ssl

    context = ssl.create_default_context(cafile=ca_file)
    if ca_file is None and not context.cert_store_stats()["x509_ca"]:
        with contextlib.suppress(OSError):  # a system that keeps them in a directory: OpenSSL looks there as it needs
            context.load_verify_locations(ssl.get_default_verify_paths().openssl_cafile)
    return context


def why_not(error: Exception, *, is_proxy: bool, ca_file: str | None = None, names: Iterable[str] = ()) -> str:
    """Say why no connection was made, in words that hold nothing of the request."""
    if isinstance(error, socket.gaierror) and not is_proxy:
        return f"the name cannot be resolved ({plain(error)})"
    if is_tls(error):
        reason = tls_failure(error, ca_file=ca_file, names=names)
        return f"TLS with the proxy: {reason}" if is_proxy else reason
    return f"the proxy cannot be reached ({plain(error)})" if is_proxy else f"no connection ({plain(error)})"


def lost(error: Exception, where: str, unread: bytes = b"") -> TransportError:
    """Return the transport error of an exchange that was begun and not ended; `unread` came back last."""
    if isinstance(error, h11.LocalProtocolError):
        return ConnectFailed(f"{where}: the request cannot be sent ({type(error).__name__})")
    if isinstance(error, h11.RemoteProtocolError):
        hint = "; it is an alert of TLS: write `https://`" if unread.startswith(TLS_ALERT) else ""
        return ConnectionLost(f"{where}: what came back is not HTTP{hint}")
    if is_tls(error):  # TLS 1.3: a server judges its client when that has begun to send
        return ConnectionLost(f"{where}: {tls_failure(error)}")
    # A plain OSError for ETIMEDOUT is a TimeoutError too, and is a lost connection: it carries its number.
    if isinstance(error, TimeoutError) and error.errno is None:
        return TimedOut(f"{where}: no answer in time")
    return ConnectionLost(f"{where}: the connection ended before the answer did ({plain(error)})")


def plain(error: BaseException) -> str:
    """Name what the operating system or OpenSSL said; other texts may quote what was sent and are left out."""
    reason = getattr(error, "reason", None)  # ssl.SSLError
    if isinstance(reason, str) and reason:
        return reason.replace("_", " ").lower()
    if isinstance(error, socket.gaierror) and error.strerror:
        return error.strerror
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__


def address(url: str, proxy: str | None) -> str:
    """Return `host:port` of `url`, and of the proxy on the way; never a user name, path or query."""
    text = host_port(url)
    return f"{text} (through the proxy {host_port(proxy)})" if proxy else text


def host_port(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "an address that is not a URL"
    host = parts.hostname or "?"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def choose_proxy(url: str, proxies: Mapping[str, str]) -> str | None:
    """Return the proxy's URL for `url`, or None for the direct way (see `proxy_for`)."""
    parts = urlsplit(url)
    return proxy_for(parts.scheme, parts.hostname or "", parts.port, proxies)
