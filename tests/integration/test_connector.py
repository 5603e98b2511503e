"""How connections are made and kept, where that is ours and not aiohttp's."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from telemetry_forwarder.errors import ConnectFailed
from telemetry_forwarder.interfaces import HttpRequest
from telemetry_forwarder.transports.http import HttpTransport

from .certificates import Authority
from .sockets import make_certificate, proxying, says, serving


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def post(url: str) -> HttpRequest:
    return HttpRequest(url=url, body=b"{}", headers={})


async def test_all_paths_of_a_host_share_its_connections() -> None:
    async with serving(says(200)) as server:
        transport = HttpTransport()
        for path in ("/records", "/health?x=1", "/records"):
            await transport.send(post(server.url(path)))
        assert repr(transport) == "<HttpTransport: 0 connections busy, 1 idle>"
        await transport.aclose()
    assert server.connections == 1
    assert [seen.line.split()[1] for seen in server.requests] == ["/records", "/health?x=1", "/records"]


async def test_all_paths_behind_a_proxy_share_a_tunnel(certificate: tuple[ssl.SSLContext, Path]) -> None:
    tls, ca_file = certificate
    async with serving(says(200), tls=tls) as server, proxying() as proxy:
        transport = HttpTransport(proxy=proxy.url(), ca_file=str(ca_file))
        for path in ("/one", "/two"):
            await transport.send(post(server.url(path, "https")))
        await transport.aclose()
    assert server.connections == proxy.connections == 1


async def test_an_address_that_only_the_system_would_take_for_one_is_refused() -> None:
    """`127.1` gets past a list of addresses that says 127.0.0.1."""
    transport = HttpTransport()
    with pytest.raises(ConnectFailed, match=r"127\.1:1: the request cannot be sent \(InvalidUrlClientError\)"):
        await transport.send(post("http://127.1:1/"))
    await transport.aclose()


async def test_what_is_closed_while_it_connects_keeps_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    asked, may_answer = asyncio.Event(), asyncio.Event()
    really = loop.getaddrinfo

    async def late(*words: object, **named: object) -> object:
        asked.set()
        await may_answer.wait()
        return await really(*words, **named)  # type: ignore[arg-type]

    async with serving(says(200)) as server, asyncio.timeout(10):
        transport = HttpTransport()
        monkeypatch.setattr(loop, "getaddrinfo", late)
        sending = asyncio.create_task(transport.send(post(server.url().replace("127.0.0.1", "localhost"))))
        await asked.wait()
        await transport.aclose()
        may_answer.set()
        with pytest.raises(ConnectFailed):
            await sending
        assert repr(transport) == "<HttpTransport: 0 connections busy, 0 idle>"
    assert server.requests == []


async def test_an_address_where_tls_fails_gives_way_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    refused = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        refused.set()

    plain = await asyncio.start_server(refuse, "127.0.0.1", 0)
    async with plain, serving(says(200), tls=authority.server("localhost")) as server, asyncio.timeout(10):
        ports = plain.sockets[0].getsockname()[1], server.port

        async def both(*_: object, **__: object) -> list[object]:
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port)) for port in ports]

        transport = HttpTransport(ca_file=str(authority.trusted))
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", both)
        answer = await transport.send(post(f"https://localhost:{server.port}/"))
        await transport.aclose()
    assert answer.status == 200
    assert refused.is_set()
