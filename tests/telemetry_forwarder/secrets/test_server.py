"""The endpoint for secrets and whoever connects: which heads are read, odd lines, slow callers, and any bytes."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from telemetry_forwarder.clock import Moment, SystemClock
from telemetry_forwarder.secrets import server as server_module
from telemetry_forwarder.secrets.answers import Answer, Outcome
from telemetry_forwarder.secrets.cache import Cache
from telemetry_forwarder.secrets.names import Key
from telemetry_forwarder.secrets.server import Endpoint, Guard, is_local, serving
from telemetry_forwarder.secrets.settings import secrets_from
from telemetry_forwarder.variables.reading import read_all
from telemetry_forwarder.variables.types import Secret

TOKEN = b"\r\nX-AWS-Parameters-Secrets-Token:  t \r\nX: y"
BODY = b'{"Parameter":{"Name":"/a","Value":"v"}}'


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[tuple[Endpoint, int]]:
    """Serve one value to whoever has the token `t`; yield the endpoint and its port."""

    async def fetch(key: Key, on_trouble: Callable[[], None]) -> Answer:
        return Answer(Outcome.FOUND, Moment.now(SystemClock()), 200, BODY)

    async with asyncio.TaskGroup() as tasks:
        policy = secrets_from(read_all({})).policy
        cache = Cache(fetch, policy=policy, clock=SystemClock(), spawn=tasks.create_task)
        guard = Guard(tokens=(Secret("t"),), allow=None)
        endpoint = Endpoint(cache, guard, spawn=tasks.create_task, stats=dict)
        listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        async with serving([listener], endpoint):
            yield endpoint, listener.getsockname()[1]


async def exchanged(port: int, *pieces: bytes) -> bytes:
    """Send `pieces`, a packet each, then nothing more; return all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for number, piece in enumerate(pieces):
            if number:
                await asyncio.sleep(0.002)  # the case itself: packets of their own
            writer.write(piece)
        writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


def status_of(answer: bytes) -> int:
    version, status = answer.split(b" ")[:2]
    assert version == b"HTTP/1.1"
    return int(status)


# --- heads ----------------------------------------------------------------------------------------------------------

HOST = b"\r\nHost: localhost:2773"


@pytest.mark.parametrize(
    ("head", "closes"),
    [
        (b"GET / HTTP/1.1" + HOST, False),
        (b"GET / HTTP/1.1\r\nhost:127.0.0.1", False),
        (b"GET / HTTP/1.1\r\nHOST: [::1]:2773\r\nConnection: close", True),
        (b"GET / HTTP/1.0" + HOST, True),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive" + HOST, False),
        (b"GET / HTTP/1.1\r\nContent-Length: 0" + HOST, False),
    ],
)
async def test_a_sound_head_is_read(head: bytes, closes: bool) -> None:
    async with served() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.replace(b" / ", b" /?name=/a ") + TOKEN + b"\r\n\r\n")
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.split(b" ")[1] == b"200"
        assert (b"\r\nConnection: close\r\n" in answer) is closes
        assert not {b"date", b"server"} & {line.partition(b":")[0].lower() for line in answer.split(b"\r\n")}
        writer.close()


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1" + HOST, 400),
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET http://localhost/ HTTP/1.1" + HOST, 400),
        (b"GET /\xff HTTP/1.1" + HOST, 400),
        (b"GET / HTTP/2.0" + HOST, 505),
        (b"get / HTTP/1.1" + HOST, 400),  # no method that aiohttp knows
        (b"POST / HTTP/1.1" + HOST, 405),
        (b"POST / HTTP/1.1\r\nContent-Length: 5" + HOST, 405),
        (b"GET / HTTP/1.1\r\nContent-Length: 5" + HOST, 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked" + HOST, 400),
        (b"GET / HTTP/1.1", 400),  # RFC 9112, section 3.2
        (b"GET / HTTP/1.0", 403),
        (b"GET / HTTP/1.1\r\nHost: evil.example:2773", 403),
        (b"GET / HTTP/1.1\r\nHost: localhost.evil.example", 403),
        (b"GET / HTTP/1.1\r\nHost: localhost:2773:2773", 403),
        (b"GET / HTTP/1.1\r\nHost: 169.254.100.1", 403),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\n folded: x", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nX-Forwarded-For : x", 400),
        (b"GET / HTTP/1.1" + HOST + b"\r\nx-forwarded-for: 10.0.0.1", 403),
        (b"GET / HTTP/1.1" + HOST + b"\r\nForwarded: for=10.0.0.1", 403),
        (b"GET /" + b"a" * 8192 + b" HTTP/1.1" + HOST, 414),
    ],
)
async def test_anything_else_is_refused(head: bytes, status: int) -> None:
    async with served() as (endpoint, port):
        answer = await exchanged(port, head + b"\r\n\r\n")
        assert answer.split(b" ")[1] == b"%d" % status
        assert b"\r\nConnection: close\r\n" in answer
        assert endpoint.refused == 1


@pytest.mark.parametrize(
    "host", [b"localhost", b"LocalHost:1", b"127.0.0.1:65535", b"[::1]", b"[::1]:80", b"localhost:"]
)
def test_hosts_of_this_machine(host: bytes) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([b"X-Empty:", b"X-Tabs:\t a\tb \t", b"X-Latin: \xe4\xff"], 200),
        ([b"x-aws-parameters-SECRETS-token: wrong", b"X-Aws-Parameters-Secrets-Token:\tt\t"], 200),  # the last counts
        ([b"X-Aws-Parameters-Secrets-Token: t", b"x-aws-parameters-secrets-token: wrong"], 403),
        ([b"X-Aws-Parameters-Secrets-Token: \xfft"], 403),
        ([b"X-Many: %d" % number for number in range(900)], 200),
        ([b"X-Long: " + b"x" * 15_000], 200),
        ([b"X-Long: " + b"x" * 17_000], 431),
        ([b"Expect: 100-continue"], 200),  # there is no body to wait for
        ([b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"], 200),
        ([b"Content-Length: 0", b"Content-Length: 0"], 400),
        ([b"Content-Length: -1"], 400),
        ([b"Content-Length: 00000000000000000000"], 400),
        ([b"Transfer-Encoding: identity"], 400),
        ([b": no name"], 400),
        ([b"no colon"], 400),
        ([b"X-Nul: a\0b"], 400),
        ([b"X-Bare: a\rb"], 400),
        ([b"X-Bare: a\nHost: localhost"], 400),
    ],
)
async def test_odd_header_lines_are_read_or_refused(lines: list[bytes], status: int) -> None:
    async with served() as (_, port):
        if not any(line.lower().startswith(b"x-aws") for line in lines):
            lines = [*lines, b"X-Aws-Parameters-Secrets-Token: t"]
        head = b"GET /?name=/a HTTP/1.1" + HOST + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n"
        assert status_of(await exchanged(port, head)) == status
        assert status_of(await exchanged(port, b"GET /ping HTTP/1.1" + HOST + b"\r\n\r\n")) == 200


async def test_what_asks_for_a_body_is_answered_without_reading_it() -> None:
    """No 100 Continue either: `curl -d @file` learns at once that only GET is answered."""
    async with served() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1" + HOST + b"\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n")
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 405 ")
        writer.close()


async def test_what_was_asked_before_the_callers_end_is_answered() -> None:
    """Each of several, in their order, however they are cut into packets."""
    asked = b"GET /?name=/a HTTP/1.1" + HOST + TOKEN + b"\r\n\r\nGET /ping HTTP/1.1" + HOST + b"\r\n\r\n"
    async with served() as (endpoint, port):
        for pieces in ([asked * 20], [asked[:9], asked[9:-2], asked[-2:] + asked * 19], [asked * 20 + asked[:50]]):
            answer = await exchanged(port, *pieces)
            assert answer.count(b'{"value":"v"}') == answer.count(b'"healthy"') == 20
        assert (endpoint.waiting, endpoint.refused) == (0, 0)


async def test_many_slow_callers_are_given_up_each_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow-loris: what they send byte by byte wins them no time, and others are served meanwhile."""
    monkeypatch.setattr(server_module, "TICK_S", 0.05)
    async with served() as (endpoint, port):
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        for _, writer in pairs:
            writer.write(b"GET / HTTP/1.1\r\nX: ")
        answers = [asyncio.ensure_future(reader.readuntil(b"\r\n\r\n")) for reader, _ in pairs]
        async with asyncio.timeout(20):
            while not all(answer.done() for answer in answers):
                for answer, (_, writer) in zip(answers, pairs, strict=True):
                    if not answer.done():
                        writer.write(b"x")
                assert status_of(await exchanged(port, b"GET /ping HTTP/1.1" + HOST + b"\r\n\r\n")) == 200
                await asyncio.wait(answers, timeout=0.02)
        assert {status_of(await answer) for answer in answers} == {408}
        for reader, writer in pairs:
            async with asyncio.timeout(10):
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            writer.close()
        assert endpoint.refused == 50


async def test_who_does_not_read_is_asked_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded: what he asks for waits in the kernel, not here."""
    monkeypatch.setattr(server_module, "as_json", lambda _: b"[" + b" " * 400_000 + b"]")
    asked = b"GET /stats HTTP/1.1" + HOST + TOKEN + b"\r\n\r\n"
    async with served() as (endpoint, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(asked * 1000)
        assert status_of(await exchanged(port, b"GET /ping HTTP/1.1" + HOST + b"\r\n\r\n")) == 200
        (held,) = endpoint.connections
        assert held.transport is not None
        assert held.transport.get_write_buffer_size() < 2 * 400_100
        assert held.is_waiting
        writer.transport.abort()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=4))
def test_any_bytes_are_answered_or_refused_and_the_next_caller_is_served(pieces: list[bytes]) -> None:
    async def scenario() -> None:
        async with served() as (endpoint, port):
            ping = b"GET /ping HTTP/1.1" + HOST + b"\r\n\r\n"
            noise: Any = b"\r\n\r\n".join(pieces)
            for data in (noise, b"GET /" + noise, b"GET / HTTP/1.1" + HOST + b"\r\n" + noise):
                answer = await exchanged(port, data + b"\r\n\r\n")
                assert answer.split(b" ")[1] in (b"200", b"400", b"403", b"404", b"405", b"414", b"431", b"505")
            assert status_of(await exchanged(port, ping)) == 200
            assert endpoint.waiting == 0

    asyncio.run(scenario())
