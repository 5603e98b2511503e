"""The operations Invoke and InvokeWithResponseStream of the Lambda API, for `aws lambda invoke` and the SDKs.

Source: Lambda API Reference, Invoke (2015-03-31) and InvokeWithResponseStream (2021-11-15), and the message texts that
callers of real Lambda have reported. Requests need no signature and no permissions.
"""

import asyncio
import base64
import binascii
import re
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypedDict

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from local_lambda.apis.server import serve
from local_lambda.errors import EmulatorError, Throttled
from local_lambda.fleet import Served
from local_lambda.response_stream import ResponseStream
from local_lambda.rules.event_stream import invoke_complete, payload_chunk
from local_lambda.rules.log_lines import text_of
from local_lambda.serving.asynchronous import EventQueue, EventRetries, OnFailure
from local_lambda.serving.deployment import Deployment
from local_lambda.settings import Function

_INVOKE = "/2015-03-31/functions/{name}/invocations"
_STREAM = "/2021-11-15/functions/{name}/response-streaming-invocations"
# Source: Lambda quotas; the asynchronous one was 256 KB until October 2025.
_MAX_SYNCHRONOUS_BYTES = 6 * 1024 * 1024
_MAX_ASYNCHRONOUS_BYTES = 1024 * 1024
_MAX_CONTEXT_BYTES = 3583  # source: Lambda API Reference, X-Amz-Client-Context
_LOG_TAIL_BYTES = 4096

_REQUEST_ID = web.RequestKey("request-id", str)
_TYPES = ("RequestResponse", "Event", "DryRun")
_STREAM_TYPES = ("RequestResponse", "DryRun")
_NAME = re.compile(r"(?:(?:arn:[a-z-]+:lambda:[a-z0-9-]+:)?\d{12}:function:)?([A-Za-z0-9_-]+)(?::([A-Za-z0-9$_-]+))?")


class _ApiError(Exception):
    """An error answer: a status and the name of an exception of the Lambda API."""

    def __init__(self, status: int, code: str, message: str, **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.body = orjson.dumps({"Type": "User" if status < 500 else "Service", "Message": message, **more})


class InvokeEndpoint:
    """The endpoint as an async context manager; it listens on 127.0.0.1 at `port` (0: any free one).

    `on_failure` gets the record of each asynchronous invocation that was given up after its `retries`.
    Raises AddressInUse when it is entered.
    """

    def __init__(
        self,
        deployment: Deployment,
        *,
        port: int = 0,
        retries: EventRetries | None = None,
        on_failure: OnFailure = lambda record: None,
    ) -> None:
        self._deployment = deployment
        self._port = port
        self.unsettled = 0  # asynchronous invocations that had neither succeeded nor been given up at the end
        self._queue = EventQueue(deployment, retries or EventRetries(), on_failure)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[_refusing])
        app.on_response_prepare.append(_with_request_id)
        app.add_routes([web.post(_INVOKE, self._invoke), web.post(_STREAM, self._stream)])
        await self._queue.__aenter__()
        try:
            self._runner, self._port = await serve(app, self._port)
        except BaseException:
            await self._queue.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
        self.unsettled = self._queue.waiting
        await self._queue.__aexit__(None, None, None)

    @property
    def url(self) -> str:
        """The value for `--endpoint-url`."""
        return f"http://127.0.0.1:{self._port}"

    async def _invoke(self, request: web.Request) -> web.StreamResponse:
        asked = await _asked(request, _TYPES)
        needs_room = asked.kind == "RequestResponse"
        async with self._deployment.fleet(takes_turns=None if needs_room else False) as fleet:
            _check_name(fleet.function, request)
            if needs_room:
                served = await fleet.serve(asked.payload, request_id=request[_REQUEST_ID], **asked.context)
                return _response(served, fleet.function.version, wants_log=asked.wants_log)
        if asked.kind == "DryRun":
            return web.Response(status=204)
        self._queue.put(asked.payload, request_id=request[_REQUEST_ID], **asked.context)
        return web.Response(status=202)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        asked = await _asked(request, _STREAM_TYPES)
        async with self._deployment.fleet() as fleet:
            _check_name(fleet.function, request)
            if asked.kind == "DryRun":
                return web.Response(status=204)
            stream = ResponseStream()
            served = fleet.begin(asked.payload, request_id=request[_REQUEST_ID], stream=stream, **asked.context)
            try:
                if not await stream.has_begun():
                    await asyncio.shield(served)  # if there is no response, its reason can still be the status
                response = web.StreamResponse(headers={"X-Amz-Executed-Version": fleet.function.version})
                response.content_type = "application/vnd.amazon.eventstream"
                await response.prepare(request)
                async for event in _events(stream, served, wants_log=asked.wants_log):
                    await response.write(event)
            finally:
                stream.leave()  # the caller may be gone; the invocation goes on
        await response.write_eof()
        return response


@web.middleware
async def _refusing(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request an id, and turn what is raised before there is an answer into a refusal."""
    request[_REQUEST_ID] = str(uuid.uuid4())
    try:
        return await handler(request)
    except _ApiError as error:
        refusal = error
    except Throttled:
        reason = "ReservedFunctionConcurrentInvocationLimitExceeded"
        refusal = _ApiError(429, "TooManyRequestsException", "Rate Exceeded.", Reason=reason)
    except EmulatorError as error:
        refusal = _ApiError(500, "ServiceException", str(error))
    headers = {"x-amzn-ErrorType": refusal.code}
    return web.Response(status=refusal.status, body=refusal.body, content_type="application/json", headers=headers)


async def _with_request_id(request: web.Request, response: web.StreamResponse) -> None:
    if _REQUEST_ID in request:
        response.headers["x-amzn-RequestId"] = request[_REQUEST_ID]


async def _events(stream: ResponseStream, served: asyncio.Future[Served], *, wants_log: bool) -> AsyncIterator[bytes]:
    """Yield the events of a response: what is streamed as it comes, else the whole payload; then how it ended."""
    async for chunk in stream:
        yield payload_chunk(chunk)
    try:
        result, telemetry = (done := await asyncio.shield(served)).invocation, done.telemetry
    except EmulatorError as error:  # in the middle of the response, so there is no other way to say it
        yield invoke_complete(orjson.dumps({"ErrorCode": "ServiceException", "ErrorDetails": str(error)}))
        return
    if not await stream.has_begun():
        yield payload_chunk(result.payload)
    details: dict[str, str] = {}
    if result.function_error is not None:
        said = result.payload if result.stream_error is None else result.stream_error
        details = {
            "ErrorCode": result.error_type or result.function_error,
            "ErrorDetails": said.decode("utf-8", "replace"),
        }
    if wants_log:
        details["LogResult"] = base64.b64encode(_log_tail(telemetry)).decode()
    yield invoke_complete(orjson.dumps(details))


class _Context(TypedDict):
    """What a request says beside its payload."""

    trace: str | None
    client_context: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What a request asks for."""

    kind: str
    payload: bytes
    context: _Context
    wants_log: bool


async def _asked(request: web.Request, kinds: Sequence[str]) -> _Asked:
    """Read a request. Raises _ApiError if it is not sound."""
    kind = request.headers.get("X-Amz-Invocation-Type", "RequestResponse")
    if kind not in kinds:
        message = f"The invocation type {kind!r} is none of {', '.join(kinds)}."
        raise _ApiError(400, "InvalidParameterValueException", message)
    context = _Context(
        trace=request.headers.get("X-Amzn-Trace-Id"),
        client_context=_client_context(request.headers),
    )
    wants_log = request.headers.get("X-Amz-Log-Type") == "Tail"
    return _Asked(kind=kind, payload=await _payload(request, kind), context=context, wants_log=wants_log)


def _check_name(function: Function, request: web.Request) -> None:
    given, qualifier = request.match_info["name"], request.query.get("Qualifier")
    matched = _NAME.fullmatch(given)
    name, suffix = matched.groups() if matched else (given, None)
    qualifier = qualifier or suffix
    if name != function.name or qualifier not in (None, "$LATEST", function.version):
        arn = f"{function.arn.rpartition(':')[0]}:{name}" + (f":{qualifier}" if qualifier else "")
        raise _ApiError(404, "ResourceNotFoundException", f"Function not found: {arn}")


def _response(served: Served, version: str, *, wants_log: bool) -> web.Response:
    result = served.invocation
    response = web.Response(body=result.payload, content_type="application/json")
    response.headers["X-Amz-Executed-Version"] = version
    if result.function_error is not None:
        response.headers["X-Amz-Function-Error"] = result.function_error
    if wants_log:
        response.headers["X-Amz-Log-Result"] = base64.b64encode(_log_tail(served.telemetry)).decode()
    return response


def _log_tail(telemetry: Sequence[Mapping[str, Any]]) -> bytes:
    """Return the last 4 KB of the log lines that CloudWatch Logs would show for these events."""
    lines = [text for event in telemetry if (text := text_of(event)) is not None]
    return "".join(f"{line}\n" for line in lines).encode()[-_LOG_TAIL_BYTES:]


async def _payload(request: web.Request, kind: str) -> bytes:
    """Return the request's body, or `{}` if it is empty. Raises _ApiError if it is too large or not JSON."""
    limit = _MAX_ASYNCHRONOUS_BYTES if kind == "Event" else _MAX_SYNCHRONOUS_BYTES
    body, size = bytearray(), 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size <= limit:  # read the rest too, but drop it: the client reads the answer only then
            body += chunk
    if size > limit:
        # The API reference calls it RequestTooLargeException; real Lambda answers with this code and these texts.
        message = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
        if kind == "Event":
            message = f"{size} byte payload is too large for the Event invocation type (limit {limit} bytes)"
        raise _ApiError(413, "RequestEntityTooLargeException", message)
    payload = bytes(body) or b"{}"
    try:
        orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        message = f"Could not parse request body into json: {error}"
        raise _ApiError(400, "InvalidRequestContentException", message) from None
    return payload


def _client_context(headers: Mapping[str, str]) -> str | None:
    """Decode X-Amz-Client-Context, base64 of a JSON object. Raises _ApiError if it is malformed or too long."""
    given = headers.get("X-Amz-Client-Context")
    if given is None:
        return None
    try:
        decoded = base64.b64decode(given, validate=True)
        orjson.loads(decoded)
    except (binascii.Error, orjson.JSONDecodeError):
        message = "Client context must be a valid Base64-encoded JSON object."
        raise _ApiError(400, "InvalidRequestContentException", message) from None
    if len(given) > _MAX_CONTEXT_BYTES:
        message = f"Client context must be no more than {_MAX_CONTEXT_BYTES} bytes when Base64-encoded."
        raise _ApiError(400, "InvalidRequestContentException", message)
    return orjson.dumps(orjson.loads(decoded)).decode()  # without line breaks: it becomes a header
