"""One sentence for each kind of TLS failure, from real handshakes: what is wrong, and what to do about it."""

import asyncio
import socket
import ssl
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

from telemetry_forwarder.errors import TransportError
from telemetry_forwarder.interfaces import HttpRequest
from telemetry_forwarder.transports.http import HttpTransport

from .certificates import Authority
from .sockets import Seen, listening, proxying, says, serving

HERE = "127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("another"), "another")


async def failure_of(url: str, ca_file: Path | None, proxy: str | None = None) -> str:
    """Return what is told of a request to `url`, which must fail."""
    transport = HttpTransport(ca_file=str(ca_file) if ca_file else None, proxy=proxy)
    try:
        with pytest.raises(TransportError) as caught:
            await transport.send(HttpRequest(url=url, body=b"{}", headers={"Authorization": "hidden"}))
    finally:
        await transport.aclose()
    assert "hidden" not in str(caught.value)
    return str(caught.value)


def wants_certificate(authority: Authority, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = authority.server(HERE)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.trusted)
    context.maximum_version = version
    return context


def only_old(authority: Authority) -> ssl.SSLContext:
    context = authority.server(HERE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is the point
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


NO_HELP = "SSL_CERT_FILE changes nothing in that"
ASKED = "from its clients, which cannot be given"

# What the server has, whether its authority is given, and what is told (each part).
FAILURES: dict[str, tuple[Callable[[Authority], ssl.SSLContext], bool, tuple[str, ...]]] = {
    "expired": (lambda a: a.server(HERE, starts=-3, ends=-1), True, ("has expired", "renewed there", NO_HELP)),
    "not yet valid": (lambda a: a.server(HERE, starts=0.5), True, ("is not valid yet", "clock", NO_HELP)),
    "for other names": (
        lambda a: a.server("splunk.example", "*.hec.example", "10.1.2.3"), True,
        ("is not for that name, but for splunk.example, *.hec.example, 10.1.2.3:", "into the address", NO_HELP),
    ),
    "of an unknown authority": (
        lambda a: a.server(HERE), False,
        ("the authority of the certificate is none that the system trusts", "SSL_CERT_FILE must name a PEM file"),
    ),
    "self-signed": (
        lambda a: a.server(HERE, is_own=True), False,
        ("a self-signed certificate, which is not trusted", "SSL_CERT_FILE must name a PEM file that holds it"),
    ),
    "self-signed, another trusted": (
        lambda a: a.server(HERE, is_own=True), True,
        ("a self-signed certificate, which is not in ", "authority.pem, which SSL_CERT_FILE names"),
    ),
    "of a short key": (lambda a: a.server(HERE, bits=1024), True, ("too weak",)),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAILURES)
async def test_each_kind_of_failure_is_told_with_its_own_remedy(authority: Authority, kind: str) -> None:
    make, is_trusted, parts = FAILURES[kind]
    async with serving(says(200), make(authority)) as server:
        told = await failure_of(server.url(scheme="https"), authority.trusted if is_trusted else None)
        assert told.startswith(f"127.0.0.1:{server.port}: ")
    assert [part for part in parts if part not in told] == [], told
    assert server.requests == []


# What servers refuse. They say why in an alert, which asyncio's server does not send.
REFUSALS: dict[str, tuple[Callable[[Authority], ssl.SSLContext], tuple[str, ...]]] = {
    "old TLS": (only_old, ("no TLS newer than 1.1", "allow TLS 1.2")),
    "a certificate, TLS 1.2": (lambda a: wants_certificate(a, ssl.TLSVersion.TLSv1_2), (ASKED,)),
    "a certificate, TLS 1.3": (lambda a: wants_certificate(a, ssl.TLSVersion.TLSv1_3), (ASKED, "requireClientCert")),
}


@contextmanager
def blocking(context: ssl.SSLContext) -> Iterator[int]:
    """Take one connection in a thread, read from it if its handshake succeeds, and hang up; yield the port."""

    def serve() -> None:
        with suppress(OSError):
            raw, _ = listener.accept()
            raw.settimeout(10)
            with raw.dup() as left:
                with suppress(OSError), context.wrap_socket(raw, server_side=True) as connection:
                    connection.recv(65536)
                while left.recv(65536):  # unread bytes would become a reset, which overtakes the alert
                    pass

    with socket.create_server((HERE, 0)) as listener:
        listener.settimeout(10)
        thread = Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join(10)


@pytest.mark.parametrize("kind", REFUSALS)
async def test_what_a_server_refuses_is_told_with_its_own_remedy(authority: Authority, kind: str) -> None:
    make, parts = REFUSALS[kind]
    with blocking(make(authority)) as port:
        told = await failure_of(f"https://{HERE}:{port}/", authority.trusted)
    assert [part for part in parts if part not in told] == [], told


async def test_an_authority_that_is_not_the_given_one_is_told_with_the_file(
    authority: Authority, another: Authority
) -> None:
    async with serving(says(200), authority.server(HERE)) as server:
        told = await failure_of(server.url(scheme="https"), another.trusted)
    assert f"the authority of the certificate is not in {another.trusted}" in told
    assert "PEM file with the authority's own certificate" in told


async def test_other_names_are_told_through_a_proxy_too_and_asked_for_once(authority: Authority) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxying())
        server = await stack.enter_async_context(serving(says(200), authority.server("a.example")))
        transport = HttpTransport(ca_file=str(authority.trusted), proxy=f"http://{HERE}:{proxy.port}")
        stack.push_async_callback(transport.aclose)
        for _ in range(3):
            with pytest.raises(TransportError, match=r"not for that name, but for a\.example"):
                await transport.send(HttpRequest(url=server.url(scheme="https"), body=b"", headers={}))
        assert proxy.connections == 4, "three attempts, and one handshake for the names"


async def test_plain_http_on_a_port_of_tls_is_told(authority: Authority) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with listening(greet) as port:
        told = await failure_of(f"https://{HERE}:{port}/", authority.trusted)
    assert "does not speak TLS" in told
    assert "write `http://`" in told


async def test_tls_on_a_port_of_plain_http_is_told(authority: Authority) -> None:
    async def alert(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"\x15\x03\x01\x00\x02\x02F")  # what OpenSSL sends for `POST / HTTP/1.1`
        await writer.drain()
        return False

    async with serving(alert) as server:
        told = await failure_of(server.url(), None)
    assert "it is an alert of TLS: write `https://`" in told


async def test_a_server_that_hangs_up_within_the_handshake_is_told(authority: Authority) -> None:
    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.close()

    async with listening(leave) as port:
        told = await failure_of(f"https://{HERE}:{port}/", authority.trusted)
    assert "closed the connection within the TLS handshake" in told


async def test_a_certificate_that_was_damaged_in_its_file_is_told(authority: Authority, tmp_path: Path) -> None:
    """It looks like a PEM file at start, where nothing of TLS is loaded."""
    damaged = tmp_path / "ca.pem"
    damaged.write_text(authority.trusted.read_text().replace("A", "%", 3))
    async with serving(says(200), authority.server(HERE)) as server:
        told = await failure_of(server.url(scheme="https"), damaged)
    assert f"the CA file '{damaged}' cannot be read" in told
    assert "PEM form" in told


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_spoken_to_in_tls_works(authority: Authority, scheme: str) -> None:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxying(tls=authority.server(HERE)))
        backend = authority.server(HERE) if scheme == "https" else None
        server = await stack.enter_async_context(serving(says(200, b"far"), backend))
        transport = HttpTransport(ca_file=str(authority.trusted), proxy=f"https://u:p%23@{HERE}:{proxy.port}")
        stack.push_async_callback(transport.aclose)
        answer = await transport.send(HttpRequest(url=server.url(scheme=scheme), body=b"", headers={}))
        assert answer.body == (b"far" if scheme == "https" else b"proxy")
    assert proxy.requests[0].headers["proxy-authorization"] == "Basic " + b64encode(b"u:p#").decode()


async def test_a_proxy_that_wants_a_login_is_told_as_such_and_is_no_answer_of_the_backend() -> None:
    wants = says(407, b"", "Proxy-Authenticate: Basic")
    async with serving(wants) as proxy:
        told = await failure_of("http://backend.example/", None, f"http://u:hidden@{HERE}:{proxy.port}")
    assert "the proxy refused the connection with status 407: HTTP_PROXY or HTTPS_PROXY lacks" in told


async def test_tls_with_the_proxy_itself_is_told_as_such(authority: Authority) -> None:
    async with serving(says(200), authority.server(HERE, starts=-3, ends=-1)) as proxy:
        told = await failure_of("http://backend.example/", authority.trusted, f"https://{HERE}:{proxy.port}")
    assert "TLS with the proxy: " in told
    assert "has expired" in told
