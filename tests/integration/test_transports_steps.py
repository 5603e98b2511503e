"""What a request waits for before it is sent is known meanwhile, in the same words as when its time is over."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager

import pytest

from telemetry_forwarder.errors import ConnectFailed
from telemetry_forwarder.interfaces import DropReason, HttpRequest
from telemetry_forwarder.transports.gzip import GzipTransport
from telemetry_forwarder.transports.http import HttpTransport
from telemetry_forwarder.transports.steps import TELLING_S

from .sockets import hang, listening, says, serving


def post(url: str) -> HttpRequest:
    return HttpRequest(url=url, body=b"{}", headers={})


@contextmanager
def full() -> Iterator[int]:
    """Yield a port that takes no connection and refuses none, as a security group does: its backlog is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            one = stack.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """Yield a port that takes connections and says nothing."""

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with listening(say_nothing) as port:
        yield port


async def told(transport: HttpTransport, url: str) -> None:
    """Send to `url`, which fails; check that what is waited for last is what is said of the failure."""
    outer = GzipTransport(transport)
    waited = None
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(failing(transport, url))
        while not sending.done():
            waited = outer.waits_for() or waited
            await asyncio.wait([sending], timeout=0.01)
    assert waited is not None
    assert waited.text == sending.result()
    assert waited.reason is DropReason.UNREACHABLE
    assert outer.waits_for() is None


async def failing(transport: HttpTransport, url: str) -> str:
    with pytest.raises(ConnectFailed) as caught:
        await transport.send(post(url))
    return str(caught.value)


@asynccontextmanager
async def http(proxy: str | None = None) -> AsyncIterator[HttpTransport]:
    transport = HttpTransport(proxy=proxy, connect_s=0.5)
    try:
        yield transport
    finally:
        await transport.aclose()


async def says_of(url: str, proxy: str | None = None) -> str:
    async with http(proxy) as transport:
        await told(transport, url)
        return await failing(transport, url)


async def test_a_name_look_up_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
    said = await says_of("https://intake.example.com/v1")
    assert said.startswith("intake.example.com:443: the name look-up (DNS) has not answered in time")
    assert "DHCP options" in said


async def test_a_connection_that_nobody_takes_is_named() -> None:
    with full() as port:
        said = await says_of(f"http://127.0.0.1:{port}/")
    assert said.startswith(f"127.0.0.1:{port}: no connection in time: nothing answers there (TCP)")
    for word in ("VPC", "NAT gateway", "security group"):
        assert word in said


async def test_a_handshake_that_hangs_is_named() -> None:
    async with silent() as port:
        said = await says_of(f"https://127.0.0.1:{port}/")
    assert "does not answer the TLS handshake" in said


async def test_a_proxy_that_nobody_reaches_is_named_with_its_variable() -> None:
    with full() as port:
        said = await says_of("https://127.0.0.1:9/", f"http://127.0.0.1:{port}")
        plain = await says_of("http://127.0.0.1:9/", f"http://127.0.0.1:{port}")
    assert f"127.0.0.1:9 (through the proxy 127.0.0.1:{port}): no connection in time: the proxy does not answer" in said
    assert "check HTTPS_PROXY" in said
    assert "check HTTP_PROXY" in plain


async def test_a_proxy_that_does_not_answer_connect_is_named() -> None:
    async with silent() as port:
        said = await says_of("https://127.0.0.1:9/", f"http://127.0.0.1:{port}")
    assert "the proxy was reached, but does not say whether it lets us through (CONNECT)" in said


async def test_once_it_was_sent_the_destination_alone_owes_an_answer() -> None:
    async with serving(hang) as server, http() as transport, asyncio.TaskGroup() as group:
        sending = group.create_task(transport.send(post(server.url())))
        await until(lambda: bool(server.requests))
        assert transport.waits_for() is None
        sending.cancel()
        await asyncio.wait([sending])
        assert transport.waits_for() is None


async def test_what_was_waited_for_is_known_of_a_request_that_was_cut_off() -> None:
    with full() as port:
        transport = HttpTransport(connect_s=60.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(TELLING_S + 0.15):
                await transport.send(post(f"http://127.0.0.1:{port}/"))
        waited = transport.waits_for()
        await transport.aclose()
    assert waited is not None
    assert "nothing answers there (TCP)" in waited.text


async def test_a_step_that_was_cut_off_as_it_began_is_not_what_kept_the_records() -> None:
    """Of a destination that was reached before and never answered, the last attempt may end before it is connected."""
    with full() as port:
        transport = HttpTransport(connect_s=60.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(TELLING_S / 5):
                await transport.send(post(f"http://127.0.0.1:{port}/"))
        assert transport.waits_for() is None
        await transport.aclose()


async def test_the_oldest_request_is_the_one_that_counts() -> None:
    async with serving(hang) as server, http() as transport:
        with full() as port:
            async with asyncio.TaskGroup() as group:
                first = group.create_task(transport.send(post(server.url())))
                await until(lambda: bool(server.requests))
                second = group.create_task(transport.send(post(f"http://127.0.0.1:{port}/")))
                await asyncio.sleep(TELLING_S + 0.05)
                assert transport.waits_for() is None
                first.cancel()
                await asyncio.wait([first])
                waited = transport.waits_for()
                assert waited is not None
                assert str(port) in waited.text
                second.cancel()


async def test_a_name_with_several_addresses_is_reached_at_the_one_that_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first of them takes no connection: a race begins, and the second wins."""
    async with serving(says(200, b"second")) as server:
        with full() as port:
            both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", one)) for one in (port, server.port)]

            async def several(*_: object, **__: object) -> list[object]:
                return list(both)

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", several)
            transport = HttpTransport(connect_s=5.0)
            try:
                answer = await transport.send(post(f"http://two.example.com:{server.port}/"))
            finally:
                await transport.aclose()
    assert answer.body == b"second"


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(5.0):
        while not is_so():  # noqa: ASYNC110 - what a socket has read sets no event
            await asyncio.sleep(0.01)
