"""The HTTP transport against real sockets: servers that behave, and servers that do not."""

import asyncio
import base64
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from telemetry_forwarder import __version__
from telemetry_forwarder.errors import ConnectFailed, ConnectionLost
from telemetry_forwarder.interfaces import Credential, HttpRequest
from telemetry_forwarder.transports.answers import LONGEST_ANSWER_BYTES
from telemetry_forwarder.transports.auth import AuthTransport
from telemetry_forwarder.transports.gzip import GzipTransport
from telemetry_forwarder.transports.http import HttpTransport
from telemetry_forwarder.variables.types import Secret

from .sockets import Seen, hang, listening, make_certificate, proxying, raw, read_head, reset, says, serving


def post(url: str, body: bytes = b"{}", **headers: str) -> HttpRequest:
    return HttpRequest(url=url, body=body, headers={"Content-Type": "application/json", **headers})


@asynccontextmanager
async def http(**arguments: object) -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(**arguments)  # type: ignore[arg-type]
    try:
        yield transport
    finally:
        await transport.aclose()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


async def test_a_request_arrives_as_it_was_given_and_its_answer_comes_back():
    async with serving(says(202, b'{"code":0}', "X-Amz-Id: Seven")) as server, http() as transport:
        answer = await transport.send(post(server.url("/a/b?c=d%20e"), b"body", **{"X-Own": "1"}))
    assert (answer.status, answer.body, answer.headers["x-amz-id"]) == (202, b'{"code":0}', "Seven")
    seen = server.requests[0]
    assert (seen.line, seen.body) == ("POST /a/b?c=d%20e HTTP/1.1", b"body")
    assert seen.headers["x-own"] == "1"
    assert seen.headers["content-length"] == "4"
    assert seen.headers["user-agent"] == f"telemetry-forwarder/{__version__}"


async def test_connections_are_used_again_and_cookies_are_not_kept():
    async with serving(says(200, b"", "Set-Cookie: a=b")) as server, http() as transport:
        for _ in range(3):
            await transport.send(post(server.url()))
    assert server.connections == 1
    assert not any("cookie" in seen.headers for seen in server.requests)


async def test_a_body_of_megabytes_goes_with_its_length_and_whole():
    body = bytes(range(256)) * 12_000
    async with serving(says(200)) as server, http() as transport:
        await transport.send(post(server.url(), body))
    assert server.requests[0].body == body
    assert "transfer-encoding" not in server.requests[0].headers


async def test_a_request_without_a_body_carries_none():
    async with serving(says(200, b"healthy")) as server, http() as transport:
        answer = await transport.send(HttpRequest(url=server.url("/health"), body=b"", headers={}, method="GET"))
    assert answer.body == b"healthy"
    assert server.requests[0].line.startswith("GET /health")
    assert "content-length" not in server.requests[0].headers


async def test_each_request_has_its_own_head_whatever_the_one_before_it_had():
    """Heads are the same from one request to the next but for the length, and are not written anew where they are."""
    own = {"X-Own": "1"}
    async with serving(says(200)) as server, http() as transport:
        requests = [
            post(server.url(), b"12", **own), post(server.url(), b"123", **own), post(server.url(), b"123", X_Own="1"),
            post(server.url("/other"), b"1"), post(server.url("/other"), b""), post(server.url("/other"), b"1"),
            post(server.url(), b"1", **own, **{"Content-Length": "7"}), post(server.url(), b"1", **own),
            HttpRequest(url=server.url(), body=b"", headers=own, method="GET"),
            HttpRequest(url=server.url(), body=b"", headers=own, method="PUT"),
            HttpRequest(url=server.url(), body=b"4444", headers=own, method="GET"),
            HttpRequest(url=server.url(), body=b"", headers=own, method="GET"),
        ]  # fmt: skip
        for request in requests:
            await transport.send(request)
            own["X-Own"] = f"{len(server.requests)}"  # whose mapping it is may change it
        together, server.requests = server.requests, []
        own["X-Own"] = "1"
        for number, request in enumerate(requests):
            async with http() as alone:
                await alone.send(request)
            own["X-Own"] = f"{number + 1}"
    assert together == server.requests
    assert [int(seen.headers.get("content-length", "-1")) for seen in together] == [
        2,
        3,
        3,
        1,
        0,
        1,
        1,
        1,
        -1,
        0,
        4,
        -1,
    ]


async def test_a_redirect_is_an_answer_and_not_followed():
    async with serving(says(307, b"", "Location: /elsewhere")) as server, http() as transport:
        answer = await transport.send(post(server.url()))
    assert (answer.status, len(server.requests)) == (307, 1)


async def test_a_long_answer_is_cut_and_its_connection_not_used_again():
    async with serving(says(500, b"x" * 5_000_000)) as server, http() as transport:
        for _ in range(2):
            answer = await transport.send(post(server.url()))
            assert answer.body == b"x" * LONGEST_ANSWER_BYTES
    assert server.connections == 2


async def test_a_compressed_answer_is_read():
    async with serving(says(400, gzip.compress(b"why"), "Content-Encoding: gzip")) as server, http() as transport:
        assert (await transport.send(post(server.url()))).body == b"why"


async def test_a_refused_connection_is_connect_failed_and_names_host_and_port_only():
    async with serving(says(200)) as server:
        url = server.url("/path?token=hidden")
    async with http() as transport:
        with pytest.raises(ConnectFailed) as caught:
            await transport.send(post(url, Authorization="hidden"))
    assert f"127.0.0.1:{server.port}: " in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "path" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://" + "a" * 64 + ".invalid/?hidden", "http://127.0.0.1:99999/hidden", "ftp://127.0.0.1/hidden"]
)
async def test_an_address_that_cannot_be_is_connect_failed(url):
    async with http() as transport:
        with pytest.raises(ConnectFailed) as caught:
            await transport.send(post(url))
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        raw(b""),
        raw(b"", by_reset=True),
        raw(b"HTTP/1.1 200"),
        raw(b"HTTP/1.1 100 Continue\r\n\r\n"),
        raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 20"),
        raw(b"SSH-2.0-hidden\r\n\r\n"),
        raw(b"HTTP/1.1 2000 hidden\r\n\r\n"),
    ],
    ids=["closed", "reset", "half a status line", "interim", "interim and half a status line", "not HTTP", "no status"],
)
async def test_an_answer_without_a_whole_status_line_is_connection_lost(answer):
    async with serving(answer) as server, http() as transport:
        with pytest.raises(ConnectionLost) as caught:
            await transport.send(post(server.url("/?hidden")))
    assert f"127.0.0.1:{server.port}: " in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert len(server.requests) == 1


GOOD = b'{"text":"Success","code":0}'
LENGTH = b"Content-Length: %d\r\n" % len(GOOD)
# What stands behind a status line and cannot be read, by what is wrong with it.
UNREADABLE = {
    "no gzip": LENGTH + b"Content-Encoding: gzip\r\n\r\n" + GOOD,
    "gzip cut short": b"Content-Length: 9\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(GOOD)[:9],
    "packed otherwise": LENGTH + b"Content-Encoding: br\r\n\r\n" + GOOD,
    "no chunk": b"Transfer-Encoding: chunked\r\n\r\nhidden\r\n",
    "half a chunk": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhalf",
    "no colon": b"hidden\r\n" + LENGTH + b"\r\n" + GOOD,
    "space in a name": b"hid den: 1\r\n" + LENGTH + b"\r\n" + GOOD,
    "NUL in a value": b"A: hid\0den\r\n" + LENGTH + b"\r\n" + GOOD,
    "no length": b"Content-Length: hidden\r\n\r\n" + GOOD,
    "two lengths": LENGTH + b"Content-Length: 1\r\n\r\n" + GOOD,
    "an unknown transfer": b"Transfer-Encoding: hidden\r\n\r\n" + GOOD,
    "half a body": b"Content-Length: 100\r\n\r\nhalf",
    "no body": LENGTH + b"\r\n",
    "nothing behind the head": b"Server: hidden\r\n\r\n",
    "half a head": b"Content-Le",
    "a head without end": b"A: " + b"b" * 70_000,
    "nothing": b"",
}


@pytest.mark.parametrize("rest", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("status", [b"200 OK", b"429 Too Many", b"503", b"403 \xff"])
async def test_what_cannot_be_read_behind_a_status_line_is_an_answer_of_that_status(status, rest):
    async with serving(raw(b"HTTP/1.1 " + status + b"\r\n" + rest)) as server, http() as transport:
        answer = await transport.send(post(server.url("/?hidden")))
    assert answer.status == int(status[:3])
    assert answer.unreadable
    assert "hidden" not in answer.unreadable
    assert len(server.requests) == 1


async def test_an_answer_whose_status_line_comes_before_a_reset_is_one():
    async with (
        serving(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", by_reset=True)) as server,
        http() as transport,
    ):
        answer = await transport.send(post(server.url()))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.unreadable.startswith("the connection ended before it did (")


async def test_the_sound_headers_of_a_head_that_is_not_are_read():
    answer = raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 No\r\nno colon\r\nRetry-After: 7\r\n\r\nbody: 1\r\n")
    async with serving(answer) as server, http() as transport:
        response = await transport.send(post(server.url()))
    assert (response.status, response.headers) == (503, {"retry-after": "7"})


async def test_what_came_of_a_body_before_it_broke_off_is_kept():
    async with serving(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<html>")) as server, http() as transport:
        answer = await transport.send(post(server.url()))
    assert (answer.body, answer.headers) == (b"<html>", {"content-length": "99"})


async def test_bytes_behind_an_answer_are_not_taken_for_the_next():
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}and more\r\n\r\n")
        return True

    async with serving(answer) as server, http() as transport:
        for _ in range(2):
            response = await transport.send(post(server.url()))
            assert (response.status, response.body, response.unreadable) == (200, b"{}", "")
    assert server.connections == 2


@pytest.mark.parametrize("by_reset", [False, True])
async def test_a_post_that_dies_on_a_connection_used_before_is_not_sent_again_unseen(by_reset):
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        if len(server.requests) != 2:
            return await says(200)(seen, writer)
        if by_reset:
            reset(writer)
        return False

    async with serving(answer) as server, http() as transport:
        await transport.send(post(server.url()))
        with pytest.raises(ConnectionLost):
            await transport.send(post(server.url()))
        assert (len(server.requests), server.connections) == (2, 1)
        assert (await transport.send(post(server.url()))).status == 200
    assert server.connections == 2


async def test_what_comes_unasked_is_not_taken_for_the_answer_to_the_next_request():
    """Servers say "408 Request Timeout" on connections that they find idle."""
    unasked = asyncio.Event()

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        await says(200, b"asked")(seen, writer)
        if len(server.requests) == 1:
            await asyncio.sleep(0.05)
            await says(408)(seen, writer)
            unasked.set()
        return True

    async with serving(answer) as server, http() as transport:
        for _ in range(2):
            assert (await transport.send(post(server.url()))).body == b"asked"
            await unasked.wait()
            await asyncio.sleep(0.05)
    assert server.connections == 2


async def test_an_answer_that_comes_before_the_body_was_read_is_an_answer():
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await writer.drain()
        await reader.read()  # to its end, so that no reset overtakes the answer
        writer.close()

    async with listening(refuse) as port, http() as transport:
        answer = await transport.send(post(f"http://127.0.0.1:{port}/", b"x" * 20_000_000))
    assert (answer.status, answer.body) == (413, b"big")


async def test_a_cancelled_request_hangs_up_and_the_transport_goes_on():
    async with serving(hang) as server, http() as transport:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await transport.send(post(server.url()))
        async with asyncio.timeout(5):
            await server.hung_up.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await transport.send(post(server.url()))
    assert (len(server.requests), server.connections) == (2, 2)


class FrozenClock:
    """A wall clock that is moved by hand, beside a monotonic one that stands still."""

    now = 5000.0

    def monotonic(self) -> float:
        return 1.0

    def time(self) -> float:
        return self.now


async def test_a_connection_is_not_used_again_after_a_freeze():
    clock = FrozenClock()
    async with serving(says(200)) as server, http(clock=clock) as transport:
        for pause in (0.0, 3.0, 3600.0):
            clock.now += pause
            await transport.send(post(server.url()))
    assert (len(server.requests), server.connections) == (3, 2)


async def test_an_answer_under_way_outlives_the_freeze_and_a_second_request():
    """The answer may be waiting in the socket: its connection is not one of the idle ones."""
    clock, may_answer = FrozenClock(), asyncio.Event()

    async def first_late(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        if seen.line.startswith("POST /late"):
            await may_answer.wait()
        return await says(200)(seen, writer)

    async with serving(first_late) as server, http(clock=clock) as transport, asyncio.TaskGroup() as tasks:
        await transport.send(post(server.url()))
        late = tasks.create_task(transport.send(post(server.url("/late"))))
        server.asked.clear()
        await server.asked.wait()
        clock.now += 3600
        await transport.send(post(server.url()))
        may_answer.set()
        assert (await late).status == 200


async def test_a_request_under_way_at_closing_is_connection_lost():
    async with serving(hang) as server, http() as transport, asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(wait_lost(transport, server.url()))
        await server.asked.wait()
        await transport.aclose()
        await sending


async def wait_lost(transport: HttpTransport, url: str) -> None:
    with pytest.raises(ConnectionLost):
        await transport.send(post(url))


async def test_an_answer_may_take_longer_than_a_connection():
    """After a thaw a timer on the answer would fire although the answer is waiting."""

    async def late(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.5)
        return await says(200)(seen, writer)

    async with serving(late) as server, http(connect_s=0.1) as transport:
        assert (await transport.send(post(server.url()))).status == 200


async def test_a_handshake_that_does_not_come_is_connect_failed():
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with listening(silent) as port, http(connect_s=0.2) as transport:
        with pytest.raises(ConnectFailed, match="in time"):
            await transport.send(post(f"https://127.0.0.1:{port}/"))


async def test_nothing_is_sent_after_closing():
    transport = HttpTransport()
    await transport.aclose()
    await transport.aclose()
    with pytest.raises(ConnectFailed, match="closed"):
        await transport.send(post("http://127.0.0.1:9/"))


async def test_a_certificate_of_nobody_is_refused_with_the_way_out(certificate):
    async with serving(says(200), certificate[0]) as server, http() as transport:
        with pytest.raises(ConnectFailed, match=r"self-signed certificate.*SSL_CERT_FILE"):
            await transport.send(post(server.url(scheme="https")))
    assert server.requests == []


async def test_a_certificate_of_the_ca_file_is_trusted_for_its_name_only(certificate):
    context, trusted = certificate
    async with serving(says(200, b"safe"), context) as server, http(ca_file=str(trusted)) as transport:
        for _ in range(2):
            assert (await transport.send(post(server.url(scheme="https")))).body == b"safe"
        with pytest.raises(ConnectFailed, match="SSL_CERT_FILE"):
            await transport.send(post(f"https://localhost:{server.port}/"))
    assert len(server.requests) == 2


@pytest.mark.parametrize("name", ["missing.pem", "bad.pem"])
async def test_a_ca_file_that_cannot_be_read_is_said_and_http_goes_on_without_it(tmp_path, name):
    (tmp_path / "bad.pem").write_text("no certificate")
    async with serving(says(200)) as server, http(ca_file=str(tmp_path / name)) as transport:
        with pytest.raises(ConnectFailed, match=f"{name}.*SSL_CERT_FILE"):
            await transport.send(post(server.url(scheme="https")))
        assert (await transport.send(post(server.url()))).status == 200


async def test_a_server_without_tls_is_connect_failed():
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with listening(greet) as port, http() as transport:
        with pytest.raises(ConnectFailed, match="TLS handshake failed"):
            await transport.send(post(f"https://127.0.0.1:{port}/"))


BASIC = "Basic " + base64.b64encode(b"me:pa:ss").decode()


async def test_https_goes_through_the_proxys_tunnel_with_its_password(certificate):
    context, trusted = certificate
    async with proxying() as proxy, serving(says(200, b"far"), context) as server:
        url = f"http://me:pa%3Ass@127.0.0.1:{proxy.port}"
        async with http(proxy=url, ca_file=str(trusted)) as transport:
            for _ in range(2):
                assert (await transport.send(post(server.url(scheme="https"), Authorization="own"))).body == b"far"
    assert [seen.line for seen in proxy.requests] == [f"CONNECT 127.0.0.1:{server.port} HTTP/1.1"]
    assert proxy.requests[0].headers["proxy-authorization"] == BASIC
    assert "authorization" not in proxy.requests[0].headers
    assert server.requests[0].headers["authorization"] == "own"
    assert "proxy-authorization" not in server.requests[0].headers


async def test_http_is_asked_of_the_proxy_with_its_password():
    async with proxying() as proxy, http(proxy=f"http://me:pa%3Ass@127.0.0.1:{proxy.port}") as transport:
        answer = await transport.send(post("http://127.0.0.1:9/x", Authorization="own"))
    assert answer.body == b"proxy"
    assert proxy.requests[0].line == "POST http://127.0.0.1:9/x HTTP/1.1"
    assert proxy.requests[0].headers["proxy-authorization"] == BASIC
    assert proxy.requests[0].headers["authorization"] == "own"


async def test_a_proxy_that_refuses_or_is_away_is_connect_failed_without_its_password():
    async with proxying(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n") as proxy:
        url = f"http://me:hidden@127.0.0.1:{proxy.port}"
        async with http(proxy=url) as transport:
            with pytest.raises(ConnectFailed, match="refused the connection with status 407") as refused:
                await transport.send(post("https://127.0.0.1:9/"))
    async with http(proxy=url) as transport:
        with pytest.raises(ConnectFailed, match="proxy cannot be reached") as away:
            await transport.send(post("https://127.0.0.1:9/"))
    for caught in (refused, away):
        assert f"127.0.0.1:9 (through the proxy 127.0.0.1:{proxy.port})" in str(caught.value)
        assert "hidden" not in str(caught.value)


async def test_the_environments_proxies_are_not_looked_at(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serving(says(200)) as server, http() as transport:
        assert (await transport.send(post(server.url()))).status == 200


async def test_compression_credential_and_http_stand_on_each_other():
    body = b'{"event":"line"}' * 1000
    async with serving(says(200)) as server:
        secret = Credential(header="Authorization", prefix="Splunk ", secret=Secret("t0ken"))
        transport = GzipTransport(AuthTransport(HttpTransport(), secret))
        await transport.send(post(server.url(), body))
        await transport.aclose()
    seen = server.requests[0]
    assert gzip.decompress(seen.body) == body
    assert seen.headers["authorization"] == "Splunk t0ken"
    assert seen.headers["content-encoding"] == "gzip"
    assert seen.headers["content-length"] == str(len(seen.body))
