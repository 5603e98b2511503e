"""HTTP to one destination through aiohttp: no retry, no redirect, no cookie, nothing from the environment.

A timer that was set before Lambda froze the environment fires as soon as it thaws, although the answer may be
waiting in the socket. So only the making of a connection is bounded here; how long an answer may take is the
worker's to say, who knows the deadline of the invocation.

Importing this module loads aiohttp's client, so nothing imports it but who is about to send.
"""

import contextlib
import ssl
from io import BytesIO
from typing import Any

from aiohttp.client import ClientRequest, ClientResponse, ClientSession, ClientTimeout
from aiohttp.client_exceptions import ClientError, ClientHttpProxyError, ConnectionTimeoutError
from aiohttp.cookiejar import DummyCookieJar
from yarl import URL

from telemetry_forwarder import __version__
from telemetry_forwarder.clock import Clock, SystemClock
from telemetry_forwarder.errors import ConnectFailed
from telemetry_forwarder.interfaces import Cause, HttpRequest, HttpResponse
from telemetry_forwarder.transports.addresses import address, host_port, proxy_login
from telemetry_forwarder.transports.answers import LONGEST_ANSWER_BYTES, Answer, begun_answer, read_answer, unread
from telemetry_forwarder.transports.connections import (
    CURRENT,
    LONGEST_HEAD_BYTES,
    Attempt,
    Connection,
    Connector,
)
from telemetry_forwarder.transports.http_failures import NEEDS_LOGIN, lost, not_http, plain, refused_by_proxy, why_not
from telemetry_forwarder.transports.steps import Way, Ways
from telemetry_forwarder.transports.tls_failures import HUNG_UP, is_hung_up, is_other_name, is_tls, names_in
from telemetry_forwarder.variables.proxies import PORTS

_LONGEST_PIECE_BYTES = 2**20  # of longer ones aiohttp warns, as the event loop stands still meanwhile

_USER_AGENT = f"telemetry-forwarder/{__version__}"


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
        self._timeout = ClientTimeout(total=None, connect=connect_s)
        self._tls: ssl.SSLContext | None = None
        self._names: tuple[str, ...] | None = None  # of a certificate that was made for others
        self._clock = clock or SystemClock()
        self._session: ClientSession | None = None
        self._is_closed = False
        self._ways = Ways()

    def __repr__(self) -> str:
        return f"<HttpTransport: {self._session.connector if self._session else 'not used yet'}>"

    def waits_for(self) -> Cause | None:
        """Return the step of making a connection that the oldest request waits for; None where it was sent."""
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
        if response.status == NEEDS_LOGIN and self._proxy and request.url.startswith("http:"):  # not the backend's
            raise ConnectFailed(f"{attempt.where}: {refused_by_proxy(response.status)}")
        return response

    async def _send(self, request: HttpRequest, attempt: Attempt) -> HttpResponse:
        found: Answer | None = None
        try:
            url, route = self._route_to(request.url)
            login = proxy_login(self._proxy) if self._proxy and url.scheme == "http" else {}
            async with self._open_session().request(
                request.method,
                url,
                data=_payload_of(request.body),
                headers={**login, **request.headers},
                allow_redirects=False,
                **route,
            ) as answer:
                found = Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()})
                await _read_body(answer, found.body)
        except (ClientError, OSError, ValueError) as error:
            if attempt.connection is None:
                raise await self._not_sent(error, request.url, attempt) from error
            return _cut_short(error, attempt.where, attempt.connection, found)
        if found.status < 200:  # a change of protocol that nobody asked for
            raise not_http(attempt.where)
        return read_answer(found)

    async def aclose(self) -> None:
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    def _open_session(self) -> ClientSession:
        """Return the session, made with the first request: aiohttp wants a running loop."""
        if self._session is None:
            self._session = ClientSession(
                connector=Connector(self._clock),
                cookie_jar=DummyCookieJar(),
                headers={"User-Agent": _USER_AGENT},
                skip_auto_headers=["Content-Type", "Accept-Encoding"],
                auto_decompress=False,  # what cannot be unpacked is an answer too
                timeout=self._timeout,
                max_line_size=LONGEST_HEAD_BYTES,
                max_field_size=LONGEST_HEAD_BYTES,
            )
            self._session._retry_connection = False  # of a GET, which would outlive any deadline
        return self._session

    def _route_to(self, text: str) -> tuple[URL, dict[str, Any]]:
        """Return the address to ask for, as it is, and through what: the arguments of aiohttp's requests."""
        url = URL(text, encoded=True).with_user(None)
        if url.scheme not in PORTS or not url.raw_host:
            raise ValueError("not an http or https address")
        proxy = URL(self._proxy, encoded=True) if self._proxy else None
        is_encrypted = url.scheme == "https"
        return url, {
            "ssl": self._tls_context(text) if is_encrypted or (proxy and proxy.scheme == "https") else True,
            # Without the dot of a fully qualified name, which no certificate has.
            "server_hostname": url.raw_host.rstrip(".") if is_encrypted else None,
            "proxy": proxy.with_user(None) if proxy else None,
            "proxy_headers": {"User-Agent": _USER_AGENT, **proxy_login(self._proxy or "")},  # of CONNECT
        }

    def _tls_context(self, url: str) -> ssl.SSLContext:
        """Return what verifies the other end, made once, when it is first needed."""
        if self._tls is None:
            try:
                context = context_of(self._ca_file)
            except OSError as error:
                raise ConnectFailed(
                    f"{host_port(url)}: the CA file {self._ca_file!r} cannot be read ({plain(error)}); "
                    "SSL_CERT_FILE must name a file of certificates in PEM form"
                ) from error
            context.set_alpn_protocols(["http/1.1"])
            self._tls = context
        return self._tls

    async def _not_sent(self, error: Exception, url: str, attempt: Attempt) -> ConnectFailed:
        """Return the transport error of a request for which there was no connection."""
        if isinstance(error, ConnectionTimeoutError):
            step = attempt.way.waits_for
            return ConnectFailed(step.text if step else f"{attempt.where}: no connection in time")
        if isinstance(error, ClientHttpProxyError):
            return ConnectFailed(f"{attempt.where}: {refused_by_proxy(error.status)}")
        if attempt.is_tunnelling:
            return ConnectFailed(f"{attempt.where}: the proxy ended the connection, or speaks no HTTP")
        # aiohttp keeps what the system or OpenSSL said in an attribute.
        cause = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
        if isinstance(cause, ValueError) and not is_tls(cause):
            return ConnectFailed(f"{attempt.where}: the request cannot be sent ({type(cause).__name__})")
        is_proxy = attempt.is_with_proxy
        if not is_proxy and url.startswith("https:") and (is_hung_up(cause) or _is_tls_unstarted(cause)):
            return ConnectFailed(f"{attempt.where}: {HUNG_UP}")
        if is_other_name(cause) and self._names is None:
            self._names = await self._names_at(url)
        reason = why_not(cause, is_proxy=is_proxy, ca_file=self._ca_file, names=self._names or ())
        return ConnectFailed(f"{attempt.where}: {reason}")

    async def _names_at(self, text: str) -> tuple[str, ...]:
        """Return the names in the certificate of the other end, which has another than ours; nothing is sent there.

        OpenSSL gives them only where the handshake succeeds, so there is another one, once, that does not compare.
        """
        url, route = self._route_to(text)
        route["ssl"] = context_of(self._ca_file)
        route["ssl"].check_hostname = False
        connector = self._open_session().connector
        assert connector is not None  # noqa: S101 - the session was not closed
        current = CURRENT.set(Attempt(text, self._proxy, Way()))
        try:
            connection = await connector.connect(ClientRequest("HEAD", url, **route), [], self._timeout)
        except (ClientError, OSError):
            return ()
        finally:
            CURRENT.reset(current)
        certificate = connection.transport.get_extra_info("peercert") if connection.transport else None
        connection.close()
        return names_in(certificate or {})


def _cut_short(error: Exception, where: str, connection: Connection, found: Answer | None) -> HttpResponse:
    """Return what came of an answer before `error`, `found` or at least its status. Raises TransportError without one.

    Why the connection ended is better known to itself than to aiohttp's exceptions.
    """
    begun = found or begun_answer(bytes(connection.received))
    if begun is not None:
        ended = f"the connection ended before it did ({plain(connection.end or error)})"
        return unread(begun, "behind its status line it is not HTTP" if connection.is_garbled else ended)
    if isinstance(error, ValueError):  # of a header: no byte was sent
        raise ConnectFailed(f"{where}: the request cannot be sent ({type(error).__name__})") from error
    if connection.is_garbled:
        raise not_http(where, connection.received) from error
    raise lost(connection.end or error, where) from error


def _payload_of(body: bytes) -> bytes | BytesIO | None:
    """Return a body in the form in which aiohttp sends it at once, or in pieces of 64 KiB where it is very long."""
    if not body:
        return None
    return body if len(body) <= _LONGEST_PIECE_BYTES else BytesIO(body)


async def _read_body(answer: ClientResponse, body: bytearray) -> None:
    """Read into `body`, at most `LONGEST_ANSWER_BYTES`; a connection with more to come is closed."""
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) >= LONGEST_ANSWER_BYTES:
            del body[LONGEST_ANSWER_BYTES:]
            answer.close()
            return


def _is_tls_unstarted(error: BaseException) -> bool:
    """Say whether aiohttp found no TLS begun in a proxy's tunnel, where asyncio gives no error to go with it."""
    return type(error) is OSError and error.errno is None


def context_of(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that trusts the authorities of `ca_file`, else the system's. Raises OSError.

    OpenSSL itself reads SSL_CERT_FILE. Where that names nothing of use, which the settings have said and left out, it
    hides the system's authorities; they are loaded from where this OpenSSL was built to find them.
    """
    context = ssl.create_default_context(cafile=ca_file)
    if ca_file is None and not context.cert_store_stats()["x509_ca"]:
        with contextlib.suppress(OSError):  # a system that keeps them in a directory: OpenSSL looks there as it needs
            context.load_verify_locations(ssl.get_default_verify_paths().openssl_cafile)
    return context
