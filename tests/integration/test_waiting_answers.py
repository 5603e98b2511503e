"""What came while this process had no processor is read before anything is sent again."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from telemetry_forwarder.delivery.answer_time import let_answers_in
from telemetry_forwarder.interfaces import Credential, HttpRequest, PutLogEvents, Secret
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.transports.auth import AuthTransport
from telemetry_forwarder.transports.cloudwatch_logs import open_logs
from telemetry_forwarder.transports.gzip import GzipTransport
from telemetry_forwarder.transports.http import HttpTransport

from .aws_service import endpoint, environment

__all__ = ["endpoint", "environment"]

SOON_S = 10.0
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 2\r\n\r\n"


class Elsewhere:
    """A server in a thread of its own, which answers while this one stands still."""

    def __init__(self, listener: socket.socket) -> None:
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.has_answered = threading.Event()
        self.has_read = threading.Event()
        self._listener = listener

    def serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            while request := connection.recv(65536):
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                head, _, body = request.partition(b"\r\n\r\n")
                (length,) = (int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:")
                while len(body) < length:
                    body += connection.recv(65536)
                self.has_read.set()
                assert self.may_answer.wait(SOON_S)
                connection.sendall(HEAD + b"{}")
                self.has_answered.set()


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Elsewhere(listener)
        thread = threading.Thread(target=server.serve)
        thread.start()
        yield server
        thread.join(SOON_S)


async def is_read_in_time(server: Elsewhere, send: Callable[[], Awaitable[object]]) -> bool:
    """Send twice; let the second answer come while nothing runs here. Say whether it is read before a copy is begun."""
    await send()
    server.may_answer.clear()
    server.has_answered.clear()
    server.has_read.clear()
    sending = asyncio.ensure_future(send())
    assert await asyncio.to_thread(server.has_read.wait, SOON_S)
    server.may_answer.set()
    assert server.has_answered.wait(SOON_S)
    await let_answers_in()
    is_done = sending.done()
    await sending
    return is_done


async def test_an_answer_of_http_that_waits_is_read_before_a_copy_is_begun() -> None:
    with elsewhere() as server:
        inner = HttpTransport()
        credential = Credential(header="Authorization", prefix="Splunk ", secret=Secret("t0ken"))
        transport = GzipTransport(AuthTransport(inner, credential))
        request = HttpRequest(url=f"{server.url}/", body=b"{}", headers={})
        try:
            assert await is_read_in_time(server, lambda: transport.send(request))
        finally:
            await transport.aclose()


async def test_an_answer_of_the_sdk_that_waits_is_read_before_a_copy_is_begun(endpoint: Callable[[str], None]) -> None:
    with elsewhere() as server:
        endpoint(server.url)
        async with open_logs(Network()) as transport:
            request = PutLogEvents(group="g", stream="s", events=((int(time.time() * 1000), "one"),))
            assert await is_read_in_time(server, lambda: transport.send(request))
