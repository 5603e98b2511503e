"""Send HTTP requests to one destination with aiohttp: no retry, no redirect, no cookie, nothing from the environment.

For that it takes aiohttp's protocol with the parser, and its writer of heads. A session, with a request and a response
object for each request, would cost three times as much, and to load the connector that belongs to it 20 ms.

A timer that was set before Lambda froze the environment fires as soon as it thaws, although the answer may be in the
socket. So only connecting has a timeout here. The worker bounds the wait for an answer, because it knows the deadline
of the invocation.

This module loads what belongs to clients of HTTP, so only code that is about to send imports it.
"""

import contextlib
import functools
import ssl

from aiohttp.client_exceptions import ClientError
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import _serialize_headers
from aiohttp.streams import StreamReader
from multidict import CIMultiDict
from yarl import URL

from telemetry_forwarder import __version__
from telemetry_forwarder.clock import Clock, SystemClock
from telemetry_forwarder.errors import ConnectFailed, drop_tracebacks
from telemetry_forwarder.interfaces import Cause, HttpRequest, HttpResponse, Tls
from telemetry_forwarder.transports.addresses import address, host_port, proxy_login
from telemetry_forwarder.transports.answers import LONGEST_ANSWER_BYTES, Answer, begun_answer, read_answer, unread
from telemetry_forwarder.transports.connections import (
    CURRENT,
    Attempt,
    Connection,
)
from telemetry_forwarder.transports.connector import Connector, Peer, ProxyRefused, Route
from telemetry_forwarder.transports.http_failures import NEEDS_LOGIN, lost, not_http, plain, refused_by_proxy, why_not
from telemetry_forwarder.transports.steps import Way, Ways
from telemetry_forwarder.transports.tls_failures import HUNG_UP, is_hung_up, is_other_name, is_tls, names_in
from telemetry_forwarder.variables.proxies import PORTS

_USER_AGENT = f"telemetry-forwarder/{__version__}"
_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS")  # methods whose empty body has no length


class HttpTransport:
    """Sends each `HttpRequest` once and returns the answer, whatever its status.

    `proxy` is the proxy's URL (`choose_proxy`), with user name and password if it needs them; `ca_file` is a PEM file
    of authorities to trust instead of the system's; `connect_s` bounds name look-up, TCP, proxy and TLS together, and
    `read_s` each wait for more of the answer. `ca_variable` names the setting of `ca_file` to whom TLS fails, and
    `name_advice` says what to check if the name is not known.

    Raises ConnectFailed if nothing was sent, ConnectionLost and TimedOut if something may have arrived. Their texts
    name host and port, never a header, a body or a query. Of a longer answer the first `longest_answer_bytes` are
    returned. Once a whole status line has come there is an answer: if anything is wrong after it, the answer is
    returned as `unreadable`.
    """

    def __init__(
        self,
        *,
        proxy: str | None = None,
        ca_file: str | None = None,
        connect_s: float = 5.0,
        read_s: float | None = None,
        clock: Clock | None = None,
        longest_answer_bytes: int = LONGEST_ANSWER_BYTES,
        ca_variable: str = "SSL_CERT_FILE",
        name_advice: str = "",
        tls: Tls | None = None,
    ) -> None:
        self._proxy = proxy
        self._tls = tls or Tls()
        ca_variable = self._tls.variables[0] if self._tls.ca_file else ca_variable
        self._ca_file = self._tls.ca_file or ca_file
        self._connect_s = connect_s
        self._read_s = read_s
        self._longest_answer_bytes = longest_answer_bytes
        self._ca_variable = ca_variable
        self._name_advice = name_advice
        self._names: tuple[str, ...] | None = None  # in a certificate that is for other names
        self._clock = clock or SystemClock()
        self._connector: Connector | None = None
        self._route: tuple[str, Route] | None = None  # of the last request
        self._head: tuple[tuple[object, ...], bytes] | None = None  # of the last request, and what it depends on
        self._is_closed = False
        self._ways = Ways()

    def __repr__(self) -> str:
        return f"<HttpTransport: {self._connector or 'not used yet'}>"

    def waits_for(self) -> Cause | None:
        """Return the connection step that the oldest request waits for; None if it was sent."""
        return self._ways.waits_for()

    async def send(self, request: HttpRequest) -> HttpResponse:
        if self._is_closed:
            raise ConnectFailed(f"{address(request.url, self._proxy)}: the transport is closed")
        with self._ways.begin() as way:
            attempt = Attempt(request.url, self._proxy, way)
            current = CURRENT.set(attempt)
            try:
                response = await self._send(request, attempt)
            finally:
                CURRENT.reset(current)
        if response.status == NEEDS_LOGIN and self._proxy and request.url.startswith("http:"):  # the proxy answered
            raise ConnectFailed(f"{attempt.where}: {refused_by_proxy(response.status)}")
        return response

    async def _send(self, request: HttpRequest, attempt: Attempt) -> HttpResponse:
        found: Answer | None = None
        try:
            route = self._route_to(request.url)
            head = self._head_of(request, route)
            connector = self._open_connector()
            connection = await connector.lease(route, self._connect_s)
            try:
                message, content = await connection.exchange(
                    head, request.body, is_head_alone=request.method == "HEAD", read_s=self._read_s
                )
                found = Answer(message.code, {name.lower(): value for name, value in message.headers.items()})
                await _read_body(content, found.body, self._longest_answer_bytes)
            except BaseException:
                connector.drop(connection)
                raise
            connector.release(route, connection)
        except (ClientError, HttpProcessingError, OSError, ValueError) as error:
            drop_tracebacks(error)
            if attempt.connection is None:
                raise await self._not_sent(error, request.url, attempt) from error
            return _cut_short(error, attempt.where, attempt.connection, found)
        if found.status < 200:  # a change of protocol that was not asked for
            raise not_http(attempt.where)
        return read_answer(found, self._longest_answer_bytes)

    async def aclose(self) -> None:
        self._is_closed = True
        if self._connector is not None:
            await self._connector.close()

    def _open_connector(self) -> Connector:
        """Return the connector. It is created with the first request."""
        if self._connector is None:
            self._connector = Connector(self._clock)
        return self._connector

    def _head_of(self, request: HttpRequest, route: Route) -> bytes:
        """Return the head of a request as bytes. Raises ValueError if it would hold another line than it should.

        It is that of the request before but for the length, which comes last, unless a header has changed.
        """
        method = request.method.upper()
        has_length = bool(request.body) or method not in _WITHOUT_BODY
        key = (route, method, has_length, *request.headers.items())
        if (known := self._head) is None or known[0] != key:
            self._head = known = key, self._lines_of(request, route, has_length=has_length)
        return known[1] + (b"Content-Length: %d\r\n\r\n" % len(request.body) if has_length else b"\r\n")

    def _lines_of(self, request: HttpRequest, route: Route, *, has_length: bool) -> bytes:
        """Return all lines of a request's head but the length, if it is to have one, and the empty one at its end."""
        headers = CIMultiDict({"Host": route.authority, "User-Agent": _USER_AGENT, "Accept": "*/*"})
        if self._proxy and not route.target.startswith("/"):  # it forwards the request
            headers.update(proxy_login(self._proxy))
        headers.update(request.headers)
        if has_length:
            headers.popall("Content-Length", None)
        return _serialize_headers(f"{request.method.upper()} {route.target} HTTP/1.1", headers).removesuffix(b"\r\n")

    def _route_to(self, text: str) -> Route:
        """Return the way to a URL, which is requested as it is. Raises ValueError and ConnectFailed."""
        if (known := self._route) is not None and known[0] == text:
            return known[1]
        route = self._new_route(text)
        self._route = text, route
        return route

    def _new_route(self, text: str, tls: ssl.SSLContext | None = None) -> Route:
        url = URL(text, encoded=True).with_user(None)
        host, port = url.raw_host, url.port
        if url.scheme not in PORTS or not host or not port:
            raise ValueError("not an http or https address")
        proxy = URL(self._proxy, encoded=True) if self._proxy else None
        is_encrypted = url.scheme == "https"
        if tls is None and (is_encrypted or (proxy and proxy.scheme == "https")):
            tls = self._tls_context(text)
        peer = Peer(host, port, tls if is_encrypted else None)
        authority = str(url.host_port_subcomponent)
        if proxy is None:
            return Route(peer, authority, url.raw_path_qs)
        if not proxy.raw_host or not proxy.port:
            raise ValueError("the proxy has no address")
        by = Peer(proxy.raw_host, proxy.port, tls if proxy.scheme == "https" else None)
        if not is_encrypted:
            return Route(by, authority, str(url))
        asked = CIMultiDict({"Host": authority, "User-Agent": _USER_AGENT, "Accept": "*/*"})
        asked.update(proxy_login(self._proxy or ""))
        connect = _serialize_headers(f"CONNECT {url.host_subcomponent}:{port} HTTP/1.1", asked)
        return Route(peer, authority, url.raw_path_qs, by, connect)

    def _tls_context(self, url: str) -> ssl.SSLContext:
        """Return the context that verifies the server."""
        certificate, key = self._tls.certificate, self._tls.key
        try:
            return shared_context(self._ca_file, certificate, key)
        except CertificateError as error:
            names = " and ".join(filter(None, self._tls.variables[1:]))
            raise ConnectFailed(
                f"{host_port(url)}: the certificate {certificate!r} cannot be used with its key ({error}); "
                f"{names} must name files in PEM form, the key without a password"
            ) from error
        except OSError as error:
            raise ConnectFailed(
                f"{host_port(url)}: the CA file {self._ca_file!r} cannot be read ({plain(error)}); "
                f"{self._ca_variable} must name a file of certificates in PEM form"
            ) from error

    async def _not_sent(self, error: Exception, url: str, attempt: Attempt) -> ConnectFailed:
        """Return the transport error of a request that got no connection."""
        if isinstance(error, TimeoutError) and error.errno is None:
            step = attempt.way.waits_for
            return ConnectFailed(step.text if step else f"{attempt.where}: no connection in time")
        if isinstance(error, ProxyRefused):
            return ConnectFailed(f"{attempt.where}: {refused_by_proxy(error.status)}")
        if attempt.is_tunnelling:
            return ConnectFailed(f"{attempt.where}: the proxy ended the connection, or speaks no HTTP")
        if isinstance(error, ValueError) and not is_tls(error):
            return ConnectFailed(f"{attempt.where}: the request cannot be sent ({type(error).__name__})")
        is_proxy = attempt.is_with_proxy
        if not is_proxy and url.startswith("https:") and (is_hung_up(error) or _is_tls_unstarted(error)):
            return ConnectFailed(f"{attempt.where}: {HUNG_UP}")
        if is_other_name(error) and self._names is None:
            self._names = await self._names_at(url)
        reason = why_not(
            error,
            is_proxy=is_proxy,
            ca_file=self._ca_file,
            names=self._names or (),
            ca_variable=self._ca_variable,
            name_advice=self._name_advice,
        )
        return ConnectFailed(f"{attempt.where}: {reason}")

    async def _names_at(self, text: str) -> tuple[str, ...]:
        """Return the names in the server's certificate if it is for another name; no request is sent.

        OpenSSL shows them only after a successful handshake. So one more handshake is made, without comparing names.
        """
        context = context_of(self._ca_file)
        context.check_hostname = False
        current = CURRENT.set(Attempt(text, self._proxy, Way()))
        connector = self._open_connector()
        try:
            connection = await connector.lease(self._new_route(text, context), self._connect_s)
        except (ClientError, HttpProcessingError, OSError):
            return ()
        finally:
            CURRENT.reset(current)
        certificate = connection.transport.get_extra_info("peercert") if connection.transport else None
        connector.drop(connection)
        return names_in(certificate or {})


def _cut_short(error: Exception, where: str, connection: Connection, found: Answer | None) -> HttpResponse:
    """Return the part of an answer that came before `error`. Raises TransportError if not even a status line came.

    The connection itself knows better why it ended than aiohttp's exceptions do.
    """
    begun = found or begun_answer(bytes(connection.received))
    if begun is not None:
        ended = f"the connection ended before it did ({plain(connection.end or error)})"
        return unread(begun, "behind its status line it is not HTTP" if connection.is_garbled else ended)
    if isinstance(error, ValueError):  # an invalid header: nothing was sent
        raise ConnectFailed(f"{where}: the request cannot be sent ({type(error).__name__})") from error
    if connection.is_garbled:
        raise not_http(where, connection.received) from error
    raise lost(connection.end or error, where) from error


async def _read_body(content: StreamReader, body: bytearray, most: int) -> None:
    """Read at most `most` bytes into `body`. If more follows, the connection will not be used again."""
    async for piece in content.iter_any():
        body += piece
        if len(body) >= most:
            del body[most:]
            return


def _is_tls_unstarted(error: BaseException) -> bool:
    """Return whether TLS could not begin in a proxy's tunnel; asyncio gives no error number then."""
    return type(error) is OSError and error.errno is None


class CertificateError(Exception):
    """The certificate that is to be shown cannot be read, or does not fit its key."""


@functools.cache
def shared_context(ca_file: str | None, certificate: str | None = None, key: str | None = None) -> ssl.SSLContext:
    """Return the context of `context_of` for all transports: reading the authorities takes 20 to 35 ms of CPU.

    It shows `certificate`, if there is one. Raises CertificateError.
    """
    context = context_of(ca_file)
    context.set_alpn_protocols(["http/1.1"])
    if certificate is not None:
        try:
            context.load_cert_chain(certificate, key, password=_no_password)
        except (OSError, ValueError) as error:
            raise CertificateError(plain(error)) from error
    return context


def _no_password() -> str:
    raise ValueError("it has a password")  # else OpenSSL would ask at the terminal


def context_of(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that trusts the authorities of `ca_file`, else the system's. Raises OSError.

    OpenSSL itself reads SSL_CERT_FILE. If that names nothing usable, which the settings have reported and ignored, it
    hides the system's authorities. Then they are loaded from the path that this OpenSSL was built with.

    From Python 3.13 on a default context refuses certificates that deviate from RFC 5280, as many that companies issue
    for themselves do (no Authority Key Identifier). Which Python a layer carries must not decide what it delivers to.
    """
    context = ssl.create_default_context(cafile=ca_file)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if ca_file is None and not context.cert_store_stats()["x509_ca"]:
        with contextlib.suppress(OSError):  # if they are in a directory OpenSSL reads it on demand
            context.load_verify_locations(ssl.get_default_verify_paths().openssl_cafile)
    return context
