"""The calls to the Extensions and Telemetry APIs, against a server on loopback."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from telemetry_forwarder.errors import ExtensionsApiError
from telemetry_forwarder.lambda_api import client as client_module
from telemetry_forwarder.lambda_api import registration as registration_module
from telemetry_forwarder.lambda_api.client import (
    ExtensionsClient,
    Invoke,
    Shutdown,
    is_subscribed,
    read_event,
)
from telemetry_forwarder.lambda_api.first_event import Early
from telemetry_forwarder.lambda_api.registration import Registration, send, subscribing
from telemetry_forwarder.variables.reading import read_all

HANG_UP = object()
SILENCE = object()
NO_PAUSES = (0.0, 0.001, 0.001, 0.001)


class Server:
    """Answers from a script of (status, body), the last one again and again, and keeps what was asked."""

    def __init__(self, *script: Any) -> None:
        self._script = list(script)
        self.asked: list[tuple[str, str, Any]] = []
        self.said: list[str] = []
        self.address = ""
        self.headers: list[dict[str, str]] = []

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        self.asked.append((request.method, request.path, json.loads(body) if body else None))
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        reply = self._script.pop(0) if len(self._script) > 1 else self._script[0]
        if reply is SILENCE:
            await asyncio.Event().wait()
        if reply is HANG_UP:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        status, content = reply
        return web.Response(status=status, body=content if isinstance(content, bytes) else json.dumps(content).encode())


@asynccontextmanager
async def connected(*script: Any) -> AsyncIterator[tuple[ExtensionsClient, Server]]:
    server = Server(*script)
    runner = web.ServerRunner(web.Server(server.answer), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        server.address = f"{host}:{port}"
        async with ExtensionsClient(server.address, "the-id", pauses=NO_PAUSES, say=server.said.append) as client:
            yield client, server
    finally:
        await runner.cleanup()


def refused(kind: str) -> dict[str, str]:
    return {"errorType": kind, "errorMessage": "because"}


# --- events ---------------------------------------------------------------------------------------------------------


def test_events_are_read() -> None:
    invoke = {"eventType": "INVOKE", "deadlineMs": 1790000012345, "requestId": "r", "tracing": {}}
    assert read_event(json.dumps(invoke).encode()) == Invoke("r", 1790000012345)
    for reason, word in (("spindown", "spindown"), ("Timeout", "timeout"), ("ReleaseFail", "releasefail")):
        shutdown = {"eventType": "SHUTDOWN", "deadlineMs": 5, "shutdownReason": reason}
        assert read_event(json.dumps(shutdown).encode()) == Shutdown(word, 5)
    assert read_event(b'{"eventType":"SHUTDOWN","deadlineMs":5}') == Shutdown("", 5)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"null", b"not JSON", b"{}", b'{"eventType":"INVOKE","deadlineMs":1}',
        b'{"eventType":"INVOKE","requestId":"r"}', b'{"eventType":"INVOKE","requestId":"r","deadlineMs":"1"}',
        b'{"eventType":"NEW","deadlineMs":1}', b'{"eventType":"SHUTDOWN","deadlineMs":1e400}',
        b'{"eventType":"SHUTDOWN","deadlineMs":99999999999999999999}',
    ],
)  # fmt: skip
def test_what_is_no_known_event_raises(body: bytes) -> None:
    with pytest.raises(ExtensionsApiError, match="UnknownEvent"):
        read_event(body)


@given(st.binary())
def test_any_bytes_are_an_event_or_raise(body: bytes) -> None:
    with pytest.raises(ExtensionsApiError):
        read_event(body)


async def test_the_next_event_is_asked_for_with_the_identifier() -> None:
    event = {"eventType": "SHUTDOWN", "deadlineMs": 5, "shutdownReason": "spindown"}
    async with connected((200, event)) as (client, server):
        assert await client.next_event() == Shutdown("spindown", 5)
        assert server.asked == [("GET", "/2020-01-01/extension/event/next", None)]
        assert server.headers[0]["lambda-extension-identifier"] == "the-id"


async def test_a_connection_that_did_not_survive_a_freeze_is_made_again() -> None:
    event = {"eventType": "INVOKE", "deadlineMs": 5, "requestId": "r"}
    async with connected(HANG_UP, (200, event)) as (client, server):
        assert await client.next_event() == Invoke("r", 5)
        assert len(server.asked) == 2


AN_INVOKE = {"eventType": "INVOKE", "deadlineMs": 5, "requestId": "r"}


@pytest.mark.parametrize(
    "trouble",
    [
        (HANG_UP, HANG_UP), (HANG_UP,) * 4, (HANG_UP, (403, {"errorType": "Extension.InvalidExtensionState"})),
        ((502, b"<html>"), (503, b"")), ((200, b"<html>"), (200, b"")), ((200, {"eventType": "NEW", "deadlineMs": 1}),),
    ],
)  # fmt: skip
async def test_what_may_pass_does_not_end_the_extension(trouble: tuple[Any, ...]) -> None:
    """Who ends takes the function along: two connections that failed used to."""
    async with connected(*trouble, (200, AN_INVOKE)) as (client, server):
        assert await client.next_event() == Invoke("r", 5)
        assert len(server.asked) == len(trouble) + 1
        assert len(server.said) == (1 if len(trouble) > 1 else 0)


async def test_a_refused_connection_is_tried_again_until_somebody_listens() -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))  # taken, and nobody listens yet
        port = place.getsockname()[1]
        async with ExtensionsClient(f"127.0.0.1:{port}", "the-id", pauses=(0.0, *(0.02,) * 100)) as client:
            asking = asyncio.ensure_future(client.next_event())
            await asyncio.wait([asking], timeout=0.1)
            assert not asking.done()
            place.listen()
            place.setblocking(False)
            asked, _ = await asyncio.get_running_loop().sock_accept(place)
            with asked:
                body = json.dumps(AN_INVOKE).encode()
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
                await asyncio.get_running_loop().sock_sendall(asked, answer)
                assert await asking == Invoke("r", 5)


async def test_a_connection_that_fails_again_and_again_raises() -> None:
    async with connected(HANG_UP) as (client, server):
        with pytest.raises(ExtensionsApiError) as caught:
            await client.next_event()
        assert caught.value.status == 0
        assert len(server.asked) == len(NO_PAUSES) + 1


async def test_a_report_that_nobody_answers_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "REPORT_S", 0.05)
    async with connected(SILENCE) as (client, _):
        with pytest.raises(ExtensionsApiError, match="no answer within"):
            await client.exit_error("Extension.X", "why")


@pytest.mark.parametrize("status", [403, 500])
async def test_a_refusal_of_the_next_event_raises_and_is_not_repeated(status: int) -> None:
    async with connected((status, refused("Extension.InvalidExtensionState"))) as (client, server):
        with pytest.raises(ExtensionsApiError, match="because") as caught:
            await client.next_event()
        assert (caught.value.status, caught.value.error_type) == (status, "Extension.InvalidExtensionState")
        assert len(server.asked) == 1


async def test_a_refusal_without_json_raises_all_the_same() -> None:
    async with connected((502, b"<html>")) as (client, _):
        with pytest.raises(ExtensionsApiError, match="without errorType"):
            await client.next_event()


async def test_nobody_there_raises() -> None:
    async with connected() as (client, _):
        pass
    async with ExtensionsClient("127.0.0.1:1", "the-id", pauses=NO_PAUSES) as client:
        with pytest.raises(ExtensionsApiError) as caught:
            await client.next_event()
        assert caught.value.status == 0


# --- how an answer is read -------------------------------------------------------------------------------------------

EVENT = json.dumps(AN_INVOKE).encode()
WITH_LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(EVENT), EVENT)
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n5;x=y\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (
    EVENT[:5], len(EVENT) - 5, EVENT[5:],
)  # fmt: skip


@asynccontextmanager
async def sends(pieces: list[bytes], *, then_closes: bool) -> AsyncIterator[str]:
    """Answer the first call with `pieces`, a packet each, and every other with an event; yield the address."""
    calls = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        calls += 1
        await reader.readuntil(b"\r\n\r\n")
        for number, piece in enumerate(pieces if calls == 1 else [WITH_LENGTH]):
            if number:
                await asyncio.sleep(0.001)  # the case itself: packets of their own
            writer.write(piece)
        if not then_closes and calls == 1:
            with contextlib.suppress(ConnectionError):
                await reader.read()
        writer.close()
        ended.set()

    ended = asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await ended.wait()
    finally:
        server.close()


@pytest.mark.parametrize(
    "pieces",
    [
        [WITH_LENGTH], [WITH_LENGTH[:9], WITH_LENGTH[9:30], WITH_LENGTH[30:-1], WITH_LENGTH[-1:]],
        [CHUNKED], [CHUNKED[:-3], CHUNKED[-3:]], [CHUNKED[at : at + 1] for at in range(len(CHUNKED))][:-2],
        [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", WITH_LENGTH],
        [b"HTTP/1.1 200 OK\r\nODD:\r\nX Y : \xff\x01\r\nno colon\r\ncontent-LENGTH:\t%d \r\n\r\n" % len(EVENT), EVENT],
    ],
)  # fmt: skip
async def test_an_answer_ends_where_it_says_though_the_connection_stays_open(pieces: list[bytes]) -> None:
    """A proxy that a layer puts before the Runtime API may keep it open all the same."""
    async with sends(pieces, then_closes=False) as address, ExtensionsClient(address, "the-id", pauses=()) as client:
        async with asyncio.timeout(10):
            assert await client.next_event() == Invoke("r", 5)


async def test_an_answer_that_announces_no_length_ends_with_the_connection() -> None:
    pieces = [b"HTTP/1.0 200 OK\r\n\r\n" + EVENT[:9], EVENT[9:]]
    async with sends(pieces, then_closes=True) as address, ExtensionsClient(address, "the-id", pauses=()) as client:
        assert await client.next_event() == Invoke("r", 5)


@pytest.mark.parametrize("cut_off", [b"", b"HTTP/1.1 200 OK\r\nContent-", WITH_LENGTH[:-1], CHUNKED[:-7], b"\0" * 99])
async def test_an_answer_that_is_cut_off_is_none(cut_off: bytes) -> None:
    """And the event is asked for again, as after any connection that broke."""
    async with sends([cut_off], then_closes=True) as address, ExtensionsClient(address, "the-id", pauses=()) as client:
        with pytest.raises(ExtensionsApiError) as caught:
            await client.next_event()
        assert caught.value.status == 0
        assert await client.next_event() == Invoke("r", 5)


async def test_the_event_that_was_asked_for_while_loading_is_read_on_from_where_that_ended() -> None:
    """The first answer comes in two packets; one was read before asyncio was there."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        address = f"127.0.0.1:{place.getsockname()[1]}"
        early = Early(address, "the-id", read_all({}), send)
        early._ask()
        asked, _ = place.accept()
        with asked:
            asked.recv(65536)
            asked.sendall(WITH_LENGTH[:50])
            assert early._asked is not None
            early._asked.setblocking(True)
            early._read(early._asked)
            early._asked.setblocking(False)
            async with ExtensionsClient(address, "the-id", early, pauses=()) as client:
                said = []
                client.on_asked = lambda: said.append("asked")
                assert client.is_asking
                waiting = asyncio.ensure_future(client.next_event())
                await asyncio.wait([waiting], timeout=0.02)
                assert (waiting.done(), said) == (False, ["asked"])
                asked.sendall(WITH_LENGTH[50:])
                assert await waiting == Invoke("r", 5)


# --- subscribing: what `bootstrap` was answered ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "answer", "outcome"),
    [
        (200, b'"OK"', True),
        (200, b'"AlreadySubscribed"', True),  # by the generation before a reset
        (202, b'{"errorType":"Telemetry.NotSupported"}', False),
    ],
)
def test_the_outcome_of_a_subscription_is_read(status: int, answer: bytes, outcome: bool) -> None:
    assert is_subscribed(status, answer) is outcome


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (403, b'{"errorType":"Telemetry.SubscriptionClosed","errorMessage":"because"}', "SubscriptionClosed: because"),
        (500, b"<html>", "500 without errorType"),
        (0, b"no answer from Lambda: refused", "no answer from Lambda"),
    ],
)
def test_a_subscription_that_was_refused_raises(status: int, answer: bytes, words: str) -> None:
    with pytest.raises(ExtensionsApiError, match=words) as caught:
        is_subscribed(status, answer)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("script", "outcome", "asked"),
    [
        ([(200, "OK")], (200, "2025-01-29", b'"OK"'), 1),
        ([(400, {}), (200, "OK")], (200, "2022-12-13", b'"OK"'), 2),
        ([(400, {"errorType": "x"}), (404, {})], (400, "2025-01-29", b'{"errorType": "x"}'), 2),
        ([(403, {})], (403, "2025-01-29", b"{}"), 1),
    ],
)
async def test_a_subscription_that_waits_for_the_server_asks_as_the_one_that_blocks(
    script: list[Any], outcome: tuple[int, str, bytes], asked: int
) -> None:
    """On Managed Instances: nothing else of the event loop stands still for it."""
    found = []
    for is_blocking in (False, True):
        async with connected(*script) as (client, server):
            registration = Registration(server.address, "x", ())
            registration.identifier = "the-id"
            if is_blocking:
                assert await asyncio.to_thread(registration_module.subscribe, registration, read_all({})) == outcome
            else:
                assert await client.subscribe(subscribing(registration, read_all({}))) == outcome
            found.append((server.asked, server.headers))
            assert len(server.asked) == asked
            assert server.asked[0][:2] == ("PUT", "/2022-07-01/telemetry")
            assert {headers["lambda-extension-identifier"] for headers in server.headers} == {"the-id"}
    assert found[0][0] == found[1][0]


async def test_a_subscription_that_nobody_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "SUBSCRIBE_S", 0.05)
    async with connected(SILENCE) as (client, server):
        calls = subscribing(Registration(server.address, "x", ()), read_all({}))
        assert await client.subscribe(calls) == (0, "2025-01-29", b"no answer within 0.05 s")


# --- errors ---------------------------------------------------------------------------------------------------------


async def test_failures_are_recorded_with_their_kind() -> None:
    async with connected((202, {"status": "OK"}), (403, refused("x"))) as (client, server):
        await client.exit_error("Extension.EventsRefused", 'a "message"')
        assert [path for _, path, _ in server.asked] == ["/2020-01-01/extension/exit/error"]
        assert server.asked[0][2] == {
            "errorMessage": 'a "message"', "errorType": "Extension.EventsRefused", "stackTrace": [],
        }  # fmt: skip
        assert server.headers[0]["lambda-extension-function-error-type"] == "Extension.EventsRefused"
        with pytest.raises(ExtensionsApiError):
            await client.exit_error("Extension.EventsRefused", "again")
