"""The function behind HTTP, as behind a function URL, or with routes as behind an HTTP API of API Gateway."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Self

import orjson
from aiohttp import web

from local_lambda.apis.server import serve
from local_lambda.errors import EmulatorError, Throttled
from local_lambda.fleet import Fleet, Served
from local_lambda.response_stream import ResponseStream
from local_lambda.rules import http_events, http_routes
from local_lambda.rules.http_events import Front, HttpAnswer, HttpRequest, MalformedAnswer
from local_lambda.rules.http_routes import Route
from local_lambda.serving.deployment import Deployment

_MAX_BODY_BYTES = 6 * 1024 * 1024  # source: Lambda quotas, synchronous payload
_JSON = (("content-type", "application/json"),)
_TOO_LARGE = HttpAnswer(status=413, headers=_JSON, body=b'{"message":"Request Entity Too Large"}')
_NOT_FOUND = HttpAnswer(status=404, headers=_JSON, body=b'{"message":"Not Found"}')
_THROTTLED = HttpAnswer(
    status=429,
    headers=_JSON,
    body=b'{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}',
)


class HttpFront:
    """The front as an async context manager; it listens on 127.0.0.1 at `port` (0: any free one).

    Without `routes` it is a function URL, which streams what the function streams. `on_problem` gets a sentence for
    each request that had no answer for a reason which neither the caller nor the function's log is told.
    Raises AddressInUse when it is entered.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        port: int = 0,
        routes: Sequence[Route] = (),
        on_problem: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._deployment = deployment
        self._port = port
        self._routes = routes
        self._on_problem = on_problem
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner, self._port = await serve(app, self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/"

    @property
    def _failed(self) -> HttpAnswer:
        """The answer where the function has none; the caller is not told why."""
        if self._routes:
            return HttpAnswer(status=500, headers=_JSON, body=b'{"message":"Internal Server Error"}')
        return HttpAnswer(status=502, headers=_JSON, body=b"Internal Server Error")

    async def _answer(self, given: web.Request) -> web.StreamResponse:
        body = await _body(given)
        if body is None:
            return _response(_TOO_LARGE)
        request = _request(given, body)
        route = http_routes.chosen(self._routes, request.method, request.path) if self._routes else None
        if self._routes and route is None:
            return _response(_NOT_FOUND)
        try:
            async with self._deployment.fleet() as fleet:
                front = Front()
                if route is not None:
                    key, parameters = route[0].key, route[1]
                    front = Front(account_id=fleet.function.account_id, route_key=key, path_parameters=parameters)
                payload = orjson.dumps(http_events.event_of(request, front))
                return await self._invoked(fleet, payload, request, given)
        except Throttled:
            return _response(_THROTTLED)
        except EmulatorError as error:
            self._on_problem(f"{request.method} {request.path}: {error}")
        except MalformedAnswer as error:
            self._on_problem(f"{request.method} {request.path}: what the function returned is no answer: {error}.")
        return _response(self._failed)

    async def _invoked(
        self, fleet: Fleet, payload: bytes, request: HttpRequest, given: web.Request
    ) -> web.StreamResponse:
        # An HTTP API takes a streamed response as a whole.
        stream = None if self._routes else ResponseStream()
        trace = given.headers.get("X-Amzn-Trace-Id")
        served = fleet.begin(payload, request_id=request.request_id, trace=trace, stream=stream)
        if stream is None:
            return self._whole(await asyncio.shield(served))
        try:
            if not await stream.has_begun():
                return self._whole(await asyncio.shield(served))
            return await _streamed(stream, given)
        finally:
            stream.leave()  # the caller may be gone; the invocation goes on

    def _whole(self, served: Served) -> web.Response:
        result = served.invocation
        return _response(self._failed if result.function_error else http_events.answer_of(result.payload))


async def _streamed(stream: ResponseStream, given: web.Request) -> web.StreamResponse:
    """Pass on what is streamed, as it comes. A stream that breaks off breaks off the connection."""
    chunks = aiter(stream)
    answer, first = HttpAnswer(headers=(("content-type", stream.content_type),)), b""
    if stream.content_type == http_events.STREAMED_WITH_STATUS:
        answer, first = await _prelude(chunks)
    response = web.StreamResponse(status=answer.status)
    _set_headers(response, answer)
    await response.prepare(given)
    if first:
        await response.write(first)
    async for chunk in chunks:
        await response.write(chunk)
    if stream.is_complete:
        await response.write_eof()
    elif given.transport is not None:
        given.transport.abort()
    return response


async def _prelude(chunks: AsyncIterator[bytes]) -> tuple[HttpAnswer, bytes]:
    received = b""
    async for chunk in chunks:
        received += chunk
        if (found := http_events.prelude_of(received)) is not None:
            return found
    raise MalformedAnswer("its prelude does not end in eight NUL bytes")


def _request(given: web.Request, body: bytes) -> HttpRequest:
    path, _, query = given.raw_path.partition("?")
    return HttpRequest(
        method=given.method,
        path=path,
        query=query,
        headers=list(given.headers.items()),
        body=body,
        source_ip=given.remote or "",
        protocol=f"HTTP/{given.version.major}.{given.version.minor}",
        scheme=given.scheme,
    )


async def _body(given: web.Request) -> bytes | None:
    """Return the body; None if it is too large. It is read to its end either way: the caller reads only then."""
    body, size = bytearray(), 0
    async for chunk in given.content.iter_any():
        size += len(chunk)
        if size <= _MAX_BODY_BYTES:
            body += chunk
    return bytes(body) if size <= _MAX_BODY_BYTES else None


def _response(answer: HttpAnswer) -> web.Response:
    response = web.Response(status=answer.status, body=answer.body)
    _set_headers(response, answer)
    return response


def _set_headers(response: web.StreamResponse, answer: HttpAnswer) -> None:
    response.headers.popall("Content-Type", None)
    for name, value in answer.headers:
        response.headers.add(name, value)
