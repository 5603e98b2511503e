"""HTTP/1.1 as a client: h11 keeps the rules, asyncio moves the bytes, and nothing else is loaded.

What it does not do is its point: no pool, no retry, no redirect, no cookie, no timer of its own, nothing from the
environment. aiohttp does all of that, and importing it takes more than twice as long as everything else here together.
"""

import asyncio
import re
from collections.abc import Mapping

import h11

# What a head may be long; a server that sends more is not answered to its end. aiohttp allows 8 KiB for each line.
LONGEST_HEAD_BYTES = 64 * 1024

# A body up to this long is copied behind its head, which is cheaper than a second packet.
SMALL_BYTES = 32 * 1024

# A whole status line, with whatever for a reason: its three digits are what the other end decided.
_STATUS_LINE = re.compile(rb"\s*HTTP/\d(?:\.\d)?[ \t]+(\d{3})(?:[ \t][^\n]*|\r?)\n")
_END_OF_HEAD = re.compile(rb"\r?\n\r?\n")
# A line of a head that can be read whatever stands around it. Source: RFC 9110, section 5.6.2 (token).
_HEADER = re.compile(rb"^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*\r?$", re.MULTILINE)


class Answer:
    """One answer: `headers` with lower-case names, `body` up to the limit that was asked for."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str]) -> None:
        self.status = status
        self.headers = headers
        self.body = bytearray()


def begun_answer(received: bytes) -> Answer | None:
    """Return what the first bytes of an answer say without its rest; None without a whole status line.

    A server says with its status what it did, and what is wrong behind that changes nothing of it. Interim answers
    (1xx) are passed over; of the head the lines that are whole and sound are read.
    """
    at = 0
    while line := _STATUS_LINE.match(received, at):
        end = _END_OF_HEAD.search(received, line.end() - 1)
        if not 100 <= int(line[1]) < 200:
            head = received[line.end() : end.start() + 1 if end else received.rfind(b"\n") + 1]
            headers = {name.decode().lower(): value.decode("latin-1") for name, value in _HEADER.findall(head)}
            return Answer(int(line[1]), headers)
        if end is None:
            return None
        at = end.end()
    return None


class Connection(asyncio.Protocol):
    """One connection of a client, on which one request at a time is answered.

    A factory for `loop.create_connection`. Raises OSError where the connection ends before the answer does, and
    `h11.ProtocolError` where what comes back is no HTTP (or the request cannot be expressed in it); the connection is
    closed then, and wherever `exchange` is cancelled.
    """

    def __init__(self) -> None:
        self._http = h11.Connection(h11.CLIENT, LONGEST_HEAD_BYTES)
        self._transport: asyncio.Transport | None = None
        self._news: asyncio.Future[None] | None = None
        self._end: OSError | None = None
        self._is_asked = False
        self._received = bytearray()  # of the answer: no more than what a head may be long
        self._found: Answer | None = None

    @property
    def is_open(self) -> bool:
        """Say whether another request can be sent."""
        return self._end is None and self._transport is not None and not self._transport.is_closing()

    @property
    def unread(self) -> bytes:
        """What came back and was not understood."""
        return self._http.trailing_data[0]

    @property
    def begun(self) -> Answer | None:
        """What came of the answer that `exchange` failed to read to its end; None without a whole status line."""
        return self._found or begun_answer(bytes(self._received))

    @property
    def transport(self) -> asyncio.Transport:
        if self._transport is None:
            raise RuntimeError("the connection is not made yet")
        return self._transport

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def exchange(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, longest: int | None = None
    ) -> Answer:
        """Send a request and return its answer, of whose body at most `longest` bytes are read."""
        try:
            self._send(method, target, headers, body)
            return await self.answer(longest)
        except BaseException:
            self.close()
            raise

    async def take_over(self, method: str, target: str, received: bytes) -> Answer:
        """Return the answer to a request that somebody else has sent, and of which `received` was read already."""
        try:
            # The bytes are not sent again; h11 has to know what the answer is one to.
            self._http.send(h11.Request(method=method, target=target, headers=[("Host", "-")]))
            self._http.send(h11.EndOfMessage())
            self._is_asked = True
            if received:
                self._http.receive_data(received)
            return await self.answer(None)
        except BaseException:
            self.close()
            raise

    async def answer(self, longest: int | None) -> Answer:
        found = self._found = await self._head()
        while True:
            event = await self._event()
            if isinstance(event, h11.Data):
                found.body += event.data
                if longest is not None and len(found.body) >= longest:
                    del found.body[longest:]
                    self.close()
                    return found
            elif isinstance(event, h11.EndOfMessage):
                self._rest()
                return found

    async def _head(self) -> Answer:
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
                return Answer(event.status_code, headers)

    async def _event(self) -> h11.Event:
        while True:
            try:
                event = self._http.next_event()
            except h11.RemoteProtocolError:
                if self._end is not None:
                    raise self._end from None
                raise
            if event is h11.PAUSED:  # the answer to CONNECT: what follows is no HTTP
                return h11.EndOfMessage()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]  # the two that are no events are dealt with
            await self._wait()

    async def _wait(self) -> None:
        if self._end is not None:
            raise self._end
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        finally:
            self._news = None

    def _send(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> None:
        request = h11.Request(method=method, target=target, headers=list(headers.items()))
        head = self._http.send(request)
        if body:
            self._http.send_with_data_passthrough(h11.Data(data=body))
        self._http.send(h11.EndOfMessage())
        if self._end is not None:
            raise self._end
        self._is_asked = True
        self._received.clear()
        self._found = None
        if len(body) <= SMALL_BYTES:
            self.transport.write((head or b"") + body)
        else:
            self.transport.write(head or b"")
            self.transport.write(body)

    def _rest(self) -> None:
        """Be ready for another request, or close: unread or unsent bytes would be taken for parts of the next one."""
        self._is_asked = False
        is_done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE and not self.unread
        if is_done and self.is_open and not self.transport.get_write_buffer_size():
            self._http.start_next_cycle()
        elif self._http.their_state is not h11.SWITCHED_PROTOCOL:
            self.close()

    # --- called by asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_connection makes no other
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._is_asked:  # "408 Request Timeout", say: it would be taken for the answer to the next request
            self.close()
            return
        self._received += data[: LONGEST_HEAD_BYTES - len(self._received)]
        self._http.receive_data(data)
        self._tell()

    def eof_received(self) -> None:
        self._end = ConnectionAbortedError("closed by the other end")
        self._http.receive_data(b"")
        self._tell()

    def connection_lost(self, error: Exception | None) -> None:
        if self._end is None:
            self._end = error if isinstance(error, OSError) else ConnectionAbortedError("closed")
            self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
