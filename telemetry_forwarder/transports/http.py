"""HTTP to one destination: one aiohttp session, no retry, no redirect, no cookie, nothing from the environment.

A timer that was set before Lambda froze the environment fires as soon as it thaws, although the answer may be
waiting in the socket. So only the making of a connection is bounded here; how long an answer may take is the
worker's to say, who knows the deadline of the invocation.
"""

import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed leaves it out

import aiohttp

from telemetry_forwarder import __version__
from telemetry_forwarder.clock import Clock, SystemClock
from telemetry_forwarder.errors import ConnectFailed, ConnectionLost, TimedOut, TransportError
from telemetry_forwarder.interfaces import HttpRequest, HttpResponse

LONGEST_ANSWER_BYTES = 64 * 1024
PIECE_BYTES = 256 * 1024

# Shorter than the idle limit of any load balancer, so that a connection is seldom found dead when it is used again.
KEEP_ALIVE_S = 5.0

USER_AGENT = f"telemetry-forwarder/{__version__}"


class HttpTransport:
    """Send each `HttpRequest` once and return the answer, whatever its status.

    `proxy` is the proxy's URL (`choose_proxy`), with user name and password where it wants them; `ca_file` a PEM file
    of the authorities to trust instead of the system's; `connect_s` bounds name look-up, TCP, proxy and TLS together.

    Raises ConnectFailed where nothing was sent, ConnectionLost and TimedOut where something may have arrived; their
    texts name host and port, never a header, a body or a query. Of a longer answer the first 64 KiB are returned.
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
        self._timeout = aiohttp.ClientTimeout(total=None, connect=connect_s, sock_connect=connect_s, sock_read=None)
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | bool | None = None
        self._clock = clock or SystemClock()
        self._used_at = 0.0  # on the wall clock
        self._in_flight = 0
        self._is_closed = False

    async def send(self, request: HttpRequest) -> HttpResponse:
        where = address(request.url, self._proxy)
        if self._is_closed:
            raise ConnectFailed(f"{where}: the transport is closed")
        tls = self._tls_for(request.url)
        await self._leave_idle_connections()
        self._in_flight += 1
        try:
            return await self._exchange(request, tls)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise translated(error, where) from error
        finally:
            self._in_flight -= 1
            self._used_at = self._clock.time()

    async def aclose(self) -> None:
        self._is_closed = True
        if self._session is not None:
            await self._session.close()

    async def _exchange(self, request: HttpRequest, tls: ssl.SSLContext | bool) -> HttpResponse:
        headers = dict(request.headers)
        body: bytes | AsyncIterator[bytes] | None = request.body or None
        if len(request.body) > PIECE_BYTES:
            # In pieces, so that the event loop is not held; with its length, because chunked bodies are not
            # documented for every intake.
            headers["Content-Length"] = str(len(request.body))
            body = pieces(request.body)
        async with self._open_session().request(
            request.method, request.url, data=body, headers=headers, ssl=tls, proxy=self._proxy, allow_redirects=False
        ) as response:
            answer = await read_start(response)
            names = {name.lower(): value for name, value in response.headers.items()}
            return HttpResponse(status=response.status, body=answer, headers=names)

    async def _leave_idle_connections(self) -> None:
        """Close what has been idle for too long by the wall clock.

        aiohttp does so by the monotonic clock, which may have stood still while the environment was frozen or kept as
        a snapshot; the other end has long forgotten the connection, and may not even say so.
        """
        idle = abs(self._clock.time() - self._used_at)
        if self._session is not None and not self._in_flight and idle > KEEP_ALIVE_S:
            session, self._session = self._session, None
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": USER_AGENT},
                timeout=self._timeout,
                trust_env=False,
            )
        return self._session

    def _tls_for(self, url: str) -> ssl.SSLContext | bool:
        """Return what verifies `url`, made once: never aiohttp's own context, which `bootstrap` leaves without CAs."""
        if not url.startswith("https:"):
            return True
        if self._tls is None:
            try:
                context = context_of(self._ca_file)
            except OSError as error:
                raise ConnectFailed(
                    f"{address(url, None)}: the CA file {self._ca_file!r} cannot be read ({plain(error)}); "
                    "SSL_CERT_FILE must name a file of certificates in PEM form"
                ) from error
            context.set_alpn_protocols(["http/1.1"])
            self._tls = context
        return self._tls


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


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


async def read_start(response: aiohttp.ClientResponse) -> bytes:
    """Return the first 64 KiB of the answer; where there is more, the connection is not used again."""
    answer = bytearray()
    while len(answer) < LONGEST_ANSWER_BYTES:
        piece = await response.content.read(LONGEST_ANSWER_BYTES - len(answer))
        if not piece:
            return bytes(answer)
        answer += piece
    response.close()
    return bytes(answer)


def translated(error: Exception, where: str) -> TransportError:
    """Return the transport error that `error` of aiohttp amounts to, in words that hold nothing of the request."""
    # Order matters: a certificate error is a connector error, which is an OS error; a connect timeout is a timeout.
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        reason = getattr(error.certificate_error, "verify_message", "") or "it does not verify"
        return ConnectFailed(
            f"{where}: the certificate is not trusted ({reason}); set SSL_CERT_FILE to a PEM file of its authority"
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return ConnectFailed(f"{where}: the TLS handshake failed ({plain(error.os_error)})")
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return ConnectFailed(f"{where}: the proxy cannot be reached ({plain(error.os_error)})")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return ConnectFailed(f"{where}: the proxy refused the connection with status {error.status}")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return ConnectFailed(f"{where}: the name cannot be resolved ({plain(error.os_error)})")
    if isinstance(error, aiohttp.ClientConnectorError):
        return ConnectFailed(f"{where}: no connection ({plain(error.os_error)})")
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return ConnectFailed(f"{where}: no connection in time")
    # A plain OSError for ETIMEDOUT is a TimeoutError too, and is a lost connection: it carries its number.
    if isinstance(error, TimeoutError) and error.errno is None:
        return TimedOut(f"{where}: no answer in time")
    if isinstance(error, aiohttp.ClientResponseError):
        return ConnectionLost(f"{where}: what came back is not HTTP")
    if isinstance(error, aiohttp.ClientConnectionError | aiohttp.ClientPayloadError | OSError):
        return ConnectionLost(f"{where}: the connection ended before the answer did ({plain(error)})")
    return ConnectFailed(f"{where}: the request cannot be sent ({type(error).__name__})")


def plain(error: BaseException) -> str:
    """Name what the operating system or OpenSSL said; other texts may quote what was sent and are left out."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
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
    """Return the proxy's URL for `url`, or None for the direct way.

    `proxies` holds what HTTP_PROXY, HTTPS_PROXY and NO_PROXY say under `http`, `https` and `no`. NO_PROXY is a comma
    list of hosts and domain ends, each with a port where wanted, or `*`. A proxy without a scheme is taken as
    `http://`. What is returned may hold a password.
    """
    parts = urlsplit(url)
    proxy = proxies.get(parts.scheme, "").strip()
    if not proxy:
        return None
    rules = {"no": proxies.get("no", "")}
    host = parts.hostname or ""
    if any(proxy_bypass_environment(name, rules) for name in {host, f"[{host}]", host_port(url)}):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
