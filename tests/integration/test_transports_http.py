"""What of HTTP the transport takes and what it leaves alone: odd heads, redirects, proxies, interim answers, bounds."""

import asyncio
import gzip
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from telemetry_forwarder.errors import ConnectFailed, ConnectionLost
from telemetry_forwarder.interfaces import HttpDelivery, HttpRequest, HttpResponse
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.transports.answers import LONGEST_ANSWER_BYTES
from telemetry_forwarder.transports.http import HttpTransport
from telemetry_forwarder.transports.stack import open_transport
from telemetry_forwarder.variables.proxies import proxy_url

from .sockets import Answer, Seen, Server, hang, listening, make_certificate, proxying, raw, read_head, says, serving

HERE = "127.0.0.1"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def post(url: str, body: bytes = b"{}", **headers: str) -> HttpRequest:
    return HttpRequest(url=url, body=body, headers={"Content-Type": "application/json", **headers})


@asynccontextmanager
async def http(**arguments: object) -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(**arguments)  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(20):
            yield transport
    finally:
        await transport.aclose()


async def answer_to(answer: Answer) -> HttpResponse:
    async with serving(answer) as server, http() as transport:
        response = await transport.send(post(server.url()))
    assert len(server.requests) == 1
    return response


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


# --- odd lines in a head ---

# The head's middle, and whether the answer as a whole can be read. Its status, and a delay that stands in a sound line,
# count either way.
ODD_LINES = {
    "no space behind the colon": (b"A:b\r\n", True),
    "no value": (b"A:\r\n", True),
    "tabs around a value": (b"A:\t b \t\r\n", True),
    "odd case": (b"cOnTeNt-TyPe: x\r\n", True),
    "Latin-1": (b"A: caf\xe9\r\n", True),
    "UTF-8": (b"A: caf\xc3\xa9\r\n", True),
    "a folded line": (b"A: b\r\n c\r\n", True),
    "the same twice": (b"A: b\r\nA: c\r\n", True),
    "a long line": (b"A: " + b"b" * 40_000 + b"\r\n", True),
    "a hundred lines": (b"".join(b"A-%d: b\r\n" % number for number in range(100)), True),
    "a bare line feed": (b"A: b\n", True),
    "a thousand lines": (b"".join(b"A-%d: b\r\n" % number for number in range(1000)), False),
    "no colon": (b"hidden\r\n", False),
    "a colon alone": (b": hidden\r\n", False),
    "a space before the colon": (b"A : hidden\r\n", False),
    "a name in quotes": (b'"A": hidden\r\n', False),
    "a NUL": (b"A: hid\0den\r\n", False),
    "another status line": (b"HTTP/1.1 500 hidden\r\n", False),
}


@pytest.mark.parametrize(
    ("odd", "pieces"),
    [
        *((odd, pieces) for odd in ODD_LINES for pieces in ("at once", "head and body")),
        *((odd, "byte by byte") for odd, (line, _) in ODD_LINES.items() if len(line) < 1000),
    ],
)
async def test_an_odd_line_in_a_head_takes_nothing_from_the_status(odd: str, pieces: str) -> None:
    line, is_readable = ODD_LINES[odd]
    head = b"HTTP/1.1 503 No\r\nRetry-After: 7\r\n" + line + b"Content-Length: 2\r\n\r\n"

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        parts = {"at once": [head + b"{}"], "head and body": [head, b"{}"]}.get(pieces) or [
            bytes([byte]) for byte in head + b"{}"
        ]
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        return False

    response = await answer_to(answer)
    assert (response.status, response.headers["retry-after"]) == (503, "7")
    assert bool(response.unreadable) is not is_readable
    assert "hidden" not in response.unreadable
    if is_readable:
        assert response.body == b"{}"


@pytest.mark.parametrize(
    "rest",
    [
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nhidden\r\n\r\n",
        b"Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    ],
    ids=["a chunk that is none", "two lengths"],
)
async def test_who_reads_the_body_is_told_that_it_cannot_be_read(rest: bytes) -> None:
    """In a packet of its own, behind the head: aiohttp's parser has given the body away by then."""
    head, end, body = (b"HTTP/1.1 200 OK\r\n" + rest).partition(b"\r\n\r\n")

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(head + end)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(body)
        await writer.drain()
        return True  # the connection stays open: nothing but the parser's error ends it

    response = await answer_to(answer)
    assert response.status == 200
    assert "hidden" not in response.unreadable


async def test_a_change_of_protocol_is_no_answer() -> None:
    async with (
        serving(raw(b"HTTP/1.1 101 Go\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")) as server,
        http() as transport,
    ):
        with pytest.raises(ConnectionLost):
            await transport.send(post(server.url()))


async def test_a_server_that_greets_first_is_connected_to_once() -> None:
    connections = 0

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await reader.read()
        writer.close()

    async with listening(greet) as port, http() as transport:
        with pytest.raises(ConnectionLost, match="what came back is not HTTP"):
            await transport.send(post(f"http://{HERE}:{port}/"))
    assert connections == 1


# --- what is sent ---


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_nothing_is_sent_twice_when_a_connection_used_before_is_dead(method: str) -> None:
    """aiohttp sends an idempotent request again by itself, which knows no deadline."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        return len(server.requests) != 2 and await says(200)(seen, writer)

    async with serving(answer) as server, http() as transport:
        await transport.send(post(server.url()))
        with pytest.raises(ConnectionLost):
            await transport.send(HttpRequest(url=server.url(), body=b"", headers={}, method=method))
        assert (len(server.requests), server.connections) == (2, 1)


@pytest.mark.parametrize("header", [{"A": "b\r\nInjected: 1"}, {"A\r\nInjected": "1"}])
async def test_a_header_that_would_be_two_is_not_sent(header: dict[str, str]) -> None:
    async with serving(says(200)) as server, http() as transport:
        with pytest.raises(ConnectFailed, match="cannot be sent"):
            await transport.send(HttpRequest(url=server.url(), body=b"{}", headers=header))
        assert (await transport.send(post(server.url()))).status == 200
    assert [seen.headers.get("injected") for seen in server.requests] == [None]


async def test_a_login_in_the_address_is_not_sent() -> None:
    async with serving(says(200)) as server, http() as transport:
        await transport.send(post(f"http://me:hidden@{HERE}:{server.port}/", Authorization="own"))
    assert server.requests[0].headers["authorization"] == "own"
    assert server.requests[0].headers["host"] == f"{HERE}:{server.port}"


async def test_closing_does_not_wait_for_an_end_that_reads_nothing() -> None:
    has_read, may_end = asyncio.Event(), asyncio.Event()

    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        has_read.set()
        await may_end.wait()
        writer.close()

    async with listening(stuck) as port, http() as transport, asyncio.TaskGroup() as group:
        sending = group.create_task(lost(transport, post(f"http://{HERE}:{port}/", b"x" * 30_000_000)))
        await has_read.wait()
        await asyncio.sleep(0.2)  # until the kernel takes no more, so that something is left to be sent
        async with asyncio.timeout(5):
            await transport.aclose()
            await sending
        may_end.set()


async def test_a_body_too_long_to_be_written_at_once_arrives_whole() -> None:
    body = bytes(range(256)) * 12_000
    async with serving(says(200)) as server, http() as transport:
        for _ in range(2):
            assert (await transport.send(post(server.url(), body))).status == 200
    assert [seen.body == body for seen in server.requests] == [True, True]
    assert server.connections == 1


async def test_an_answer_that_comes_before_a_long_body_was_sent_is_read_and_ends_the_connection() -> None:
    may_end, heads = asyncio.Event(), list[Seen]()

    async def refuses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await read_head(reader))
        writer.write(b"HTTP/1.1 413 Too large\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await may_end.wait()
        writer.close()

    async with listening(refuses) as port, http() as transport:
        for _ in range(2):
            async with asyncio.timeout(5):
                answer = await transport.send(post(f"http://{HERE}:{port}/", b"x" * 30_000_000))
            assert (answer.status, answer.body) == (413, b"{}")
            assert repr(transport) == "<HttpTransport: 0 connections busy, 0 idle>"
        may_end.set()
    assert len(heads) == 2


async def lost(transport: HttpTransport, request: HttpRequest) -> None:
    with pytest.raises(ConnectionLost):
        await transport.send(request)


async def test_the_beginning_of_an_answer_that_nobody_asked_for_ends_a_connection() -> None:
    """Of "408 Request Timeout", say: the rest of it would be taken for the answer to the next request."""

    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(OK)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 408 Requ")
        return True

    async with serving(answer) as server, http() as transport:
        for _ in range(2):
            assert (await transport.send(post(server.url()))).status == 200
            await asyncio.sleep(0.1)
        assert repr(transport) == "<HttpTransport: 0 connections busy, 0 idle>"
    assert server.connections == 2


async def test_no_cookie_is_kept_of_a_host_with_a_name() -> None:
    async with serving(says(200, b"", "Set-Cookie: a=b")) as server, http() as transport:
        for _ in range(2):
            await transport.send(post(f"http://localhost:{server.port}/"))
    assert [seen.headers.get("cookie") for seen in server.requests] == [None, None]


# --- redirects ---


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_no_redirect_is_followed(status: int, method: str) -> None:
    async with (
        serving(says(200)) as elsewhere,
        serving(says(status, b"moved", f"Location: {elsewhere.url('/stolen')}")) as server,
        http() as transport,
    ):
        request = HttpRequest(url=server.url(), body=b"", headers={"Authorization": "own"}, method=method)
        answer = await transport.send(request)
    assert (answer.status, answer.body, answer.headers["location"]) == (status, b"moved", elsewhere.url("/stolen"))
    assert (len(server.requests), elsewhere.requests) == (1, [])


# --- proxies ---

PASSWORDS = [
    "p#ss",
    "p/ss",
    "p?ss",
    "p@ss",
    "p:ss",
    "p%ss",
    "p%23ss",
    "p ss[]\\",
    "\u00fc\u20ac",
    "&=+;,$!'()*~`^|{}<>\"",
]


@pytest.mark.parametrize("written", PASSWORDS)
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxys_password_arrives_whatever_it_is_made_of(
    written: str, scheme: str, certificate: tuple[ssl.SSLContext, Path]
) -> None:
    context, trusted = certificate
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxying())
        server = await stack.enter_async_context(serving(says(200, b"far"), context if scheme == "https" else None))
        url = proxy_url(f"me:{written}@{HERE}:{proxy.port}")
        transport = await stack.enter_async_context(http(proxy=url, ca_file=str(trusted)))
        assert (await transport.send(post(server.url(scheme=scheme)))).status == 200
    (asked,) = proxy.requests
    password = written.replace("%23", "#")
    assert asked.headers["proxy-authorization"] == "Basic " + b64encode(f"me:{password}".encode()).decode()
    assert not any("proxy-authorization" in seen.headers for seen in server.requests)


async def through_network(server: Server, exception: str) -> bool:
    """Send through what is built from settings with NO_PROXY; say whether the proxy was asked."""
    async with proxying() as proxy:
        network = Network(proxies={"http": f"http://{HERE}:{proxy.port}", "no": exception})
        delivery = HttpDelivery(url=server.url())
        async with open_transport(delivery, network, print) as transport:
            answer = await transport.send(post(server.url()))
    assert answer.body == (b"proxy" if proxy.requests else b"direct")
    return bool(proxy.requests)


@pytest.mark.parametrize(
    ("exception", "is_asked"),
    [
        ("", True),
        ("*", False),
        (HERE, False),
        ("{here}", False),
        (f"{HERE}:1", True),
        ("127.0.0.0/8", False),
        ("10.0.0.0/8", True),
        (f"other.example, {HERE}", False),
        ("27.0.0.1", True),
        (".example,example", True),
    ],
)
async def test_the_way_is_direct_where_no_proxy_says_so(exception: str, *, is_asked: bool) -> None:
    async with serving(says(200, b"direct")) as server:
        assert await through_network(server, exception.format(here=f"{HERE}:{server.port}")) is is_asked


async def test_what_a_backend_says_of_a_proxy_is_its_own_answer(certificate: tuple[ssl.SSLContext, Path]) -> None:
    """Within a tunnel, used anew or again, 407 does not come from the proxy."""
    context, trusted = certificate
    async with (
        proxying() as proxy,
        serving(says(407), context) as server,
        http(proxy=f"http://{HERE}:{proxy.port}", ca_file=str(trusted)) as transport,
    ):
        for _ in range(2):
            assert (await transport.send(post(server.url(scheme="https")))).status == 407
    assert len(proxy.requests) == 1


# --- interim answers ---

INTERIM = [
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
    b"HTTP/1.1 102 Processing\r\nRetry-After: 9\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n",
]


@pytest.mark.parametrize("interim", INTERIM, ids=["100", "103", "twenty", "102 and 100"])
@pytest.mark.parametrize("pause", [None, 0.05], ids=["in one packet", "apart"])
async def test_an_interim_answer_is_passed_over(interim: bytes, pause: float | None) -> None:
    async def answer(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(interim)
        if pause is not None:
            await writer.drain()
            await asyncio.sleep(pause)
        writer.write(OK)
        return True

    async with serving(answer) as server, http() as transport:
        for _ in range(2):
            response = await transport.send(post(server.url()))
            assert (response.status, response.body, response.headers) == (200, b"{}", {"content-length": "2"})
    assert server.connections == 1


async def test_what_is_odd_behind_an_interim_answer_is_judged_by_the_last_status() -> None:
    response = await answer_to(
        raw(b"HTTP/1.1 100 Continue\r\nno colon\r\n\r\nHTTP/1.1 429 Slow\r\nRetry-After: 3\r\n\r\n")
    )
    assert (response.status, response.headers["retry-after"]) == (429, "3")


# --- limits ---


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("form", ["a length", "chunks", "to the end"])
async def test_of_a_body_64_kib_are_read_and_no_more(form: str, more: int) -> None:
    body = b"x" * (LONGEST_ANSWER_BYTES + more)
    head, sent = {
        "a length": (b"Content-Length: %d" % len(body), body),
        "chunks": (b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)),
        "to the end": (b"Content-Type: text/plain", body),
    }[form]
    response = await answer_to(raw(b"HTTP/1.1 500 No\r\n" + head + b"\r\n\r\n" + sent))
    assert (response.body, response.unreadable) == (body[:LONGEST_ANSWER_BYTES], "")


async def test_a_body_without_end_is_left() -> None:
    async def endless(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    response = await answer_to(endless)
    assert (response.status, len(response.body)) == (500, LONGEST_ANSWER_BYTES)


async def test_of_a_packed_body_64_kib_are_unpacked() -> None:
    packed = gzip.compress(bytes(50_000_000))
    response = await answer_to(says(400, packed, "Content-Encoding: gzip"))
    assert (response.body, response.unreadable) == (bytes(LONGEST_ANSWER_BYTES), "")


async def test_a_head_without_end_is_left_with_its_status() -> None:
    async def endless(seen: Seen, writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 503 No\r\nA: ")
        while True:
            writer.write(b"x" * 1024)
            await writer.drain()

    response = await answer_to(endless)
    assert response.status == 503
    assert response.unreadable


async def test_how_many_connections_there_are_can_be_seen() -> None:
    async with serving(hang) as server, http() as transport, asyncio.TaskGroup() as group:
        assert repr(transport) == "<HttpTransport: not used yet>"
        sending = [group.create_task(transport.send(post(server.url()))) for _ in range(2)]
        async with asyncio.timeout(5):
            while len(server.requests) < 2:  # noqa: ASYNC110 - what a server has read sets no event
                await asyncio.sleep(0.01)
        assert repr(transport) == "<HttpTransport: 2 connections busy, 0 idle>"
        for one in sending:
            one.cancel()
        await asyncio.wait(sending)
        assert repr(transport) == "<HttpTransport: 0 connections busy, 0 idle>"


async def test_a_connection_that_hangs_is_given_up_by_who_waits_alone() -> None:
    async with serving(hang) as server, http(connect_s=0.05) as transport:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await transport.send(post(server.url()))
    assert len(server.requests) == 1
