"""Serves the page on loopback: its files, a stream of what changes (Server-Sent Events), and what its buttons ask for.

Only this page may ask. A request whose Host is another name is refused, so that a site whose name is made to lead here
(DNS rebinding) reads nothing; a POST whose Origin is not the page is refused, so that no other site presses a button.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from local_lambda.apis.server import serve
from local_lambda.errors import EmulatorError, EnvironmentClosed
from local_lambda.fleet import Fleet
from local_lambda.local_lambda import LocalLambda
from local_lambda.page.recorder import Recorder
from local_lambda.page.report import FILES, POLICY, read_file, report

_MOST_EVENT_BYTES = 6 * 1024 * 1024  # source: Lambda quotas, synchronous invocations
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": f"{POLICY}; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_GATHER_S = 0.05  # how long changes are gathered before they are sent
_LOOK_S = 0.5  # how often the page looks at what gives no sign of its changes

_Asked = Mapping[str, Any]


class _Impossible(Exception):
    """What was asked for cannot be done; the text says why, in a sentence for people."""

    def __init__(self, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.status = status


class PageServer:
    """The page as an async context manager; it listens on 127.0.0.1 at `port` (0: any free one).

    `event` is what the page offers to invoke with. `fleet` is what its buttons act on; it may be replaced at any time,
    and is None as long as there is none. Raises AddressInUse when it is entered.
    """

    def __init__(self, recorder: Recorder, *, port: int = 0, event: Any = None) -> None:
        self.fleet: Fleet | None = None
        self._recorder = recorder
        self._event = event
        self._port = port
        self._runner: web.AppRunner | None = None
        self._looked_at = 0.0  # by the monotonic clock
        self._tasks = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard], client_max_size=2 * _MOST_EVENT_BYTES)
        app.on_response_prepare.append(_add_headers)
        app.add_routes([web.get(path, self._file) for path in FILES])
        app.add_routes([web.get("/events", self._events), web.get("/report.html", self._report)])
        doing: Mapping[str, Callable[[_Asked], Awaitable[object]]] = {
            "/invoke": self._invoke,
            "/freeze": self._freeze,
            "/thaw": self._thaw,
            "/fault": self._fault,
            "/shutdown": self._shutdown,
        }
        app.add_routes([web.post(path, _answering(do)) for path, do in doing.items()])
        self._runner, self._port = await serve(app, self._port)
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        for task in self._running:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self._port}/"

    # Who may ask

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse what does not come from the page itself; answer each error in one sentence."""
        try:
            self._check_origin(request)
            return await handler(request)
        except _Impossible as why:
            return _error(str(why), why.status)
        except web.HTTPException as error:
            return _error(f"{request.method} {request.path}: {error.reason}.", error.status)

    def _check_origin(self, request: web.Request) -> None:
        own = [f"127.0.0.1:{self._port}", f"localhost:{self._port}"]
        if request.host not in own:
            raise _Impossible(f"This page is {self.url}; it does not answer to the name {request.host!r}.", 403)
        origin = request.headers.get("Origin")
        if request.method != "GET" and origin not in [f"http://{name}" for name in own]:
            given = "no Origin" if origin is None else f"the Origin {origin!r}"
            raise _Impossible(f"Only the page {self.url} may ask for this; the request has {given}.", 403)

    # What there is to read

    async def _file(self, request: web.Request) -> web.Response:
        name, content_type = FILES[request.path]
        return web.Response(text=read_file(name), content_type=content_type)

    async def _report(self, _: web.Request) -> web.Response:
        headers = {"Content-Disposition": "attachment; filename=report.html"}
        self._recorder.refresh()
        return web.Response(text=report(self._recorder.tables), content_type="text/html", headers=headers)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Send all rows, then what changes, until the browser leaves."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        tables, seen = self._recorder.tables, 0
        await response.write(_message("start", {"event": self._event}))
        while True:
            self._look_at_disk()
            if tables.number > seen:
                news = tables.since(seen)
                seen = tables.number
                await response.write(_message("rows", {"now": time.time(), **news}))
            try:
                async with asyncio.timeout(_LOOK_S):
                    await tables.change(seen)
            except TimeoutError:
                continue
            await asyncio.sleep(_GATHER_S)

    def _look_at_disk(self) -> None:
        """Look at what gives no sign of its changes, but not for every browser and every message."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_S:
            self._recorder.refresh()
            self._looked_at = time.monotonic()

    # What there is to do

    async def _invoke(self, asked: _Asked) -> dict[str, str]:
        payload = _payload(asked.get("event"))
        fleet = self._open_fleet()
        request_id = str(uuid.uuid4())
        self._start(self._invoked(fleet, payload, request_id))
        return {"request": request_id}

    async def _invoked(self, fleet: Fleet, payload: bytes, request_id: str) -> None:
        try:
            self._recorder.answered(await fleet.invoke(payload, wait=True, request_id=request_id))
        except EmulatorError as error:
            self._recorder.notice(str(error))

    async def _freeze(self, asked: _Asked) -> None:
        self._environment(asked).freeze()

    async def _thaw(self, asked: _Asked) -> None:
        self._environment(asked).thaw()

    async def _fault(self, asked: _Asked) -> None:
        name, fault = asked.get("destination"), asked.get("fault")
        destination = self._recorder.destinations.get(name) if isinstance(name, str) else None
        if destination is None:
            raise _Impossible(f"There is no backend {name!r}; there are {_list(self._recorder.destinations)}.")
        if fault is not None and not (isinstance(fault, str) and fault in destination.faults):
            raise _Impossible(f"{destination.name} knows no fault {fault!r}; it knows {_list(destination.faults)}.")
        destination.set_fault(fault)
        self._recorder.show_destinations()

    async def _shutdown(self, _: _Asked) -> None:
        self._start(self._ended(self._open_fleet()))

    async def _ended(self, fleet: Fleet) -> None:
        await fleet.shutdown()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Do `work` beside the answer: a browser has few connections, and the next button may be pressed meanwhile."""
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _open_fleet(self) -> Fleet:
        if self.fleet is None or not self.fleet.is_open:
            raise EnvironmentClosed("The environment was shut down. Ctrl-C in the terminal ends the page.")
        return self.fleet

    def _environment(self, asked: _Asked) -> LocalLambda:
        environments = self._open_fleet().environments
        number = asked.get("environment")
        if not isinstance(number, int) or number not in environments:
            raise _Impossible(f"There is no environment {number!r}; there are {_list(map(str, environments))}.")
        return environments[number]


def _answering(do: Callable[[_Asked], Awaitable[object]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return a handler that reads the request's JSON object, does what it asks for, and answers."""

    async def handle(request: web.Request) -> web.Response:
        try:
            asked = orjson.loads(await request.read())
        except orjson.JSONDecodeError as error:
            raise _Impossible(f"The request is not JSON: {error}.") from None
        if not isinstance(asked, dict):
            raise _Impossible("The request is not a JSON object.")
        try:
            done = await do(asked)
        except EmulatorError as error:
            raise _Impossible(str(error), 409) from error
        return web.Response(body=orjson.dumps(done or {}), content_type="application/json", status=202)

    return handle


def _payload(event: object) -> bytes:
    """Return the event as it is sent to the function. Raises _Impossible if it is none."""
    if not isinstance(event, str):
        raise _Impossible(f"The event is {type(event).__name__}; it must be a text that holds JSON.")
    payload = event.encode("utf-8", "replace")
    if len(payload) > _MOST_EVENT_BYTES:
        raise _Impossible(f"The event has {len(payload):,} bytes; Lambda takes {_MOST_EVENT_BYTES:,} at most.")
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise _Impossible(f"The event is not JSON: {error}.") from None
    return payload


def _message(kind: str, data: Mapping[str, Any]) -> bytes:
    return b"event: " + kind.encode() + b"\ndata: " + orjson.dumps(data) + b"\n\n"


def _error(sentence: str, status: int) -> web.Response:
    return web.Response(body=orjson.dumps({"error": sentence}), content_type="application/json", status=status)


def _list(names: Any) -> str:
    return ", ".join(names) or "none"


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)
