"""The asyncio client of Lambda's Extensions API after registration: next event, errors, a deferred subscription.

Every call goes directly to `AWS_LAMBDA_RUNTIME_API`, never through a proxy, on a raw socket of its own. Requests are
built and answers are parsed by `registration`. `/event/next` has no timeout of ours. Source: AWS Lambda Developer
Guide, "Extensions API".
"""

import _socket
import asyncio
import socket
from collections.abc import Callable, Sequence
from errno import EISCONN
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson
from msgspec import Struct

from telemetry_forwarder.errors import ExtensionsApiError
from telemetry_forwarder.lambda_api.first_event import PAUSES, Early
from telemetry_forwarder.lambda_api.registration import (
    API,
    SUBSCRIBE_S,
    address_of,
    request_bytes,
    whole,
)

if TYPE_CHECKING:
    from telemetry_forwarder.lambda_api.registration import Answer, Subscribing

CONNECT_S = 2.0
# The process ends right after this report, whether Lambda received it or not.
REPORT_S = 1.0
NEXT = f"{API}/event/next"
# Statuses that Lambda does not send, but a failing proxy that a layer puts before the Runtime API.
BUSY = frozenset({408, 425, 429, 502, 503, 504})


class Invoke(Struct, frozen=True):
    """An INVOKE event; `deadline_ms` (since the epoch) is the function's timeout."""

    request_id: str
    deadline_ms: int


class Shutdown(Struct, frozen=True):
    """A SHUTDOWN event; `reason` is in lower case: `spindown`, `timeout`, `failure` or an unknown word."""

    reason: str
    deadline_ms: int


Event: TypeAlias = Invoke | Shutdown


class ExtensionsClient:
    """A registered extension's connection to Lambda. An async context manager.

    If `early` has asked for an event while the application was loaded, `next_event` waits for that one first. `pauses`
    are the seconds between attempts at one event; `say` is called once when an attempt has failed.
    """

    def __init__(
        self,
        runtime_api: str,
        extension_id: str,
        early: Early | None = None,
        *,
        pauses: Sequence[float] = PAUSES,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.on_asked: Callable[[], object] = lambda: None  # called when a request was sent
        self._early = early
        self._pauses = pauses
        self._say = say
        self._is_said = False
        self._waiting: tuple[_socket.socket, bytes] | None = None
        self._runtime_api = runtime_api
        self._identifier = f"Lambda-Extension-Identifier: {extension_id}\r\n"

    async def __aenter__(self) -> "ExtensionsClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection of an early request that nobody waits for; other connections end with their calls."""
        if self._waiting is not None:
            self._waiting[0].close()

    async def next_event(self) -> Event:
        """Report that the last event is done and wait for the next one, without a timeout.

        If no answer comes, or one without an event, ask again, because the end of this process would end the function
        too. Raises ExtensionsApiError for a refusal, and if all attempts fail.
        """
        is_cut_off = False
        for pause in (*self._pauses, None):
            try:
                return await self._event()
            except ExtensionsApiError as error:
                is_cut_off = is_cut_off or error.status == 0
                # For Lambda the interrupted request may still be open; then it refuses another one for a moment.
                may_pass = error.status in (0, 200) or error.status in BUSY or (error.status == 403 and is_cut_off)
                if pause is None or not may_pass:
                    raise
                if pause:
                    self._note(error)
            await asyncio.sleep(pause)
        raise AssertionError  # the last attempt returned or raised

    async def _event(self) -> Event:
        status, _, body = await self._asked_early() or await self._call("GET", NEXT)
        if status != 200:
            raise _refusal("/event/next", status, body)
        return read_event(body)

    def _note(self, error: ExtensionsApiError) -> None:
        if not self._is_said:
            self._is_said = True
            self._say(f"Lambda gave no event that could be read, and is asked again: {error}")

    @property
    def is_asking(self) -> bool:
        """Whether the first event was asked for while the application was loaded, so that INIT is over."""
        return self._waiting is not None or (self._early is not None and self._early.has_asked)

    def take_over(self) -> Invoke | None:
        """Take over the early request, and return an invocation that `early` did not hold to its end."""
        if self._early is None:
            return None
        early, self._early = self._early, None
        self._waiting = early.hand_over()
        return invocation_in(early.given_up)

    async def subscribe(self, calls: "Subscribing") -> tuple[int, str, bytes]:
        """Make the calls of a subscription. Return status, schema and answer as `registration.subscribe` does."""
        request = next(calls)
        while True:
            try:
                async with asyncio.timeout(SUBSCRIBE_S):
                    answer = await self._call(*request)
            except (ExtensionsApiError, TimeoutError) as error:
                answer = 0, {}, str(error).encode() or f"no answer within {SUBSCRIBE_S:g} s".encode()
            try:
                request = calls.send(answer)
            except StopIteration as end:
                outcome: tuple[int, str, bytes] = end.value
                return outcome

    async def _asked_early(self) -> "Answer | None":
        """Wait for the answer to the early request; return None if there was none."""
        self.take_over()
        if self._waiting is None:
            return None
        (asked, received), self._waiting = self._waiting, None
        with socket.socket(fileno=asked.detach()) as connection:
            connection.setblocking(False)
            try:
                return await self._receive(connection, received)
            except OSError as error:
                raise ExtensionsApiError(NEXT, 0, type(error).__name__, str(error)) from error

    async def exit_error(self, kind: str, message: str) -> None:
        """Report why the extension ends. The process must end right after."""
        body = orjson.dumps({"errorMessage": message, "errorType": kind, "stackTrace": []}).decode()
        path = f"{API}/exit/error"
        try:
            async with asyncio.timeout(REPORT_S):
                status, _, answer = await self._call(
                    "POST", path, f"{self._identifier}Lambda-Extension-Function-Error-Type: {kind}\r\n", body
                )
        except TimeoutError as error:
            raise ExtensionsApiError(path, 0, "TimeoutError", f"no answer within {REPORT_S:g} s") from error
        if status != 202:
            raise _refusal("/exit/error", status, answer)

    async def _call(self, method: str, path: str, head: str | None = None, body: str = "") -> "Answer":
        """Make one call on a connection of its own. Raises ExtensionsApiError if no complete answer comes.

        No connection is reused: one that was idle during a freeze may be dead after it.
        """
        loop = asyncio.get_running_loop()
        request = request_bytes(self._runtime_api, method, path, self._identifier if head is None else head, body)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            try:
                await _connect(connection, address_of(self._runtime_api))
                await loop.sock_sendall(connection, request)
                return await self._receive(connection, b"")
            except (OSError, ValueError) as error:
                raise ExtensionsApiError(path, 0, type(error).__name__, str(error)) from error

    async def _receive(self, connection: socket.socket, received: bytes) -> "Answer":
        """Read the rest of the answer to a request; `received` was read before. Raises OSError."""
        self.on_asked()
        while not received or (answer := whole(received)) is None:
            news = await _read(connection)
            if not news:
                if (answer := whole(received, is_over=True)) is None:
                    raise ConnectionAbortedError("closed by the other end")
                break
            received += news
        return answer


async def _connect(connection: socket.socket, address: tuple[str, int]) -> None:
    """Connect a socket that does not block. Raises OSError, which includes TimeoutError."""
    connection.connect_ex(address)
    # On loopback there is a connection already, so the second call returns what came of the first.
    if connection.connect_ex(address) not in (0, EISCONN):
        async with asyncio.timeout(CONNECT_S):
            await asyncio.get_running_loop().sock_connect(connection, address)


async def _read(connection: socket.socket) -> bytes:
    """Wait until bytes have come, and return them; none if the connection was closed. Raises OSError.

    This is what the event loop's `sock_recv` does, at half the cost.
    """
    loop = asyncio.get_running_loop()
    has_come = loop.create_future()
    file = connection.fileno()  # asyncio puts what it is given into the text of an error that it catches itself
    loop.add_reader(file, _note, has_come)
    try:
        await has_come
    finally:
        loop.remove_reader(file)
    return connection.recv(65536)


def _note(has_come: "asyncio.Future[None]") -> None:
    if not has_come.done():
        has_come.set_result(None)


def is_subscribed(status: int, answer: bytes) -> bool:
    """Return whether telemetry will come; not with status 202, from a local substitute for Lambda.

    Raises ExtensionsApiError if the subscription was refused or not answered.
    """
    if status in (200, 202):  # 200 is "OK", or "AlreadySubscribed" after a reset
        return status == 200
    if status == 0:
        raise ExtensionsApiError("subscribing to telemetry", 0, "NoAnswer", answer.decode("utf-8", "replace"))
    raise _refusal("subscribing to telemetry", status, answer)


def invocation_in(answer: bytes) -> Invoke | None:
    """Return the invocation in a raw answer; None if it holds another event or is incomplete."""
    try:
        event = read_event(answer[answer.find(b"{") : answer.rfind(b"}") + 1])
    except ExtensionsApiError:
        return None
    return event if isinstance(event, Invoke) else None


def read_event(body: bytes) -> Event:
    """Parse the answer of `/event/next`. Raises ExtensionsApiError if it is no known event."""
    event = _object(body)
    kind, deadline_ms, request_id = event.get("eventType"), event.get("deadlineMs"), event.get("requestId")
    if isinstance(deadline_ms, int):
        if kind == "INVOKE" and isinstance(request_id, str):
            return Invoke(request_id, deadline_ms)
        if kind == "SHUTDOWN":
            return Shutdown(str(event.get("shutdownReason", "")).lower(), deadline_ms)
    raise ExtensionsApiError("/event/next", 200, "UnknownEvent", body[:200].decode("utf-8", "replace"))


def _refusal(call: str, status: int, body: bytes) -> ExtensionsApiError:
    answer = _object(body)
    kind, message = answer.get("errorType", "without errorType"), answer.get("errorMessage", "")
    return ExtensionsApiError(call, status, str(kind), str(message))


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
