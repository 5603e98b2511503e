"""The Runtime API (2018-06-01). Source: AWS docs and AWS's emulator; docs/fidelity.md, section 4."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

from local_lambda.apis.server import answer, name_caller, now, read
from local_lambda.apis.trailers import ERROR_TYPE, error_body, trailers_of
from local_lambda.response_stream import ResponseStream
from local_lambda.rules import environment
from local_lambda.rules.bandwidth import Bandwidth
from local_lambda.rules.refusals import Refused
from local_lambda.rules.runtime import MAX_RESPONSE_BYTES
from local_lambda.rules.telemetry_events import timestamp
from local_lambda.sandbox import Sandbox

BASE = "/2018-06-01"
_MAX_MANAGED_ERROR_BYTES = 1024 * 1024
_CREDENTIALS_LAST_S = 12 * 3600.0
_MAX_STREAM_BYTES = 200 * 1024 * 1024
_WITH_CAUSE = "application/vnd.aws.lambda.error.cause+json"
_TOO_LARGE = orjson.dumps(
    {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": f"Response payload size exceeded maximum allowed payload size ({MAX_RESPONSE_BYTES} bytes).",
    }
)


class RuntimeApi:
    """The routes of the Runtime API of one environment."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def routes(self) -> list[web.RouteDef]:
        return [
            *(self._restore_routes() if self._sandbox.function.is_snap_start else []),
            web.get(f"{BASE}/runtime/invocation/next", self.next),
            web.post(f"{BASE}/runtime/invocation/{{id}}/response", self.response),
            web.post(f"{BASE}/runtime/invocation/{{id}}/error", self.error),
            web.post(f"{BASE}/runtime/init/error", self.init_error),
            web.get(f"{BASE}/ping", self.ping),
        ]

    def _restore_routes(self) -> list[web.RouteDef]:
        return [
            web.get(f"{BASE}/runtime/restore/next", self.restore_next),
            web.post(f"{BASE}/runtime/restore/error", self.restore_error),
            web.get(environment.CREDENTIALS_PATH, self.credentials),
        ]

    async def restore_next(self, request: web.Request) -> web.Response:
        runtime = self._sandbox.runtime
        runtime.ask_restore()
        self._sandbox.watch.notify()
        await self._sandbox.watch.until(lambda: runtime.is_restored)
        return web.Response(status=200)

    async def restore_error(self, request: web.Request) -> web.Response:
        body = await read(request, MAX_RESPONSE_BYTES)
        self._sandbox.runtime.fail_restore(body, request.headers.get("Lambda-Runtime-Function-Error-Type"))
        return self._accepted()

    async def credentials(self, request: web.Request) -> web.Response:
        """Return credentials to a caller with the right token. 403 for a wrong one is a choice: AWS's is unknown."""
        name_caller("credentials")
        if request.headers.get("Authorization") != environment.CREDENTIALS_TOKEN:
            raise Refused(403, "AccessDenied", "The authorization token is not valid")
        expires = {"Expiration": timestamp(now() + _CREDENTIALS_LAST_S)}
        return answer(200, orjson.dumps(environment.credentials(self._sandbox.function) | expires))

    async def next(self, request: web.Request) -> web.Response:
        runtime = self._sandbox.runtime
        runtime.ask_next()
        self._sandbox.watch.notify()
        while True:
            await self._sandbox.watch.until(lambda: runtime.has_work)
            # On Managed Instances several calls may wait: one takes the invocation, the others continue to wait.
            if (call := runtime.take()) is not None:
                return web.Response(body=call.request.payload, headers=call.headers())

    async def response(self, request: web.Request) -> web.Response:
        runtime = self._sandbox.runtime
        call = runtime.check_open(request.match_info["id"])
        mode = request.headers.get("Lambda-Runtime-Function-Response-Mode")
        if mode not in (None, "buffered", "streaming"):
            raise Refused(400, "InvalidFunctionResponseMode", "Invalid function response mode")
        began = now()
        stream = call.request.stream if mode == "streaming" else None
        # A streamed response may exceed the limit of a buffered one; it is collected too.
        limit = MAX_RESPONSE_BYTES if mode != "streaming" else _MAX_STREAM_BYTES
        try:
            body = await read(request, limit, self._passing_on(stream, request) if stream is not None else None)
        except Refused:
            # The invocation is over: the runtime gets 413, the caller gets this error.
            runtime.fail(call, _TOO_LARGE, "Function.ResponseSizeTooLarge")
            self._sandbox.watch.notify()
            raise
        failed = None
        if mode == "streaming" and ERROR_TYPE in (found := trailers_of(request.transport)):
            failed = found[ERROR_TYPE], error_body(found)
        if stream is not None:
            stream.end(is_complete=failed is None)
        runtime.answer(call, body, began, failed)
        return self._accepted()

    def _passing_on(self, stream: ResponseStream, request: web.Request) -> Callable[[bytes], Awaitable[None]]:
        """Return what passes each piece of a streamed response on to the caller, as fast as Lambda would."""
        platform = self._sandbox.platform
        bandwidth = Bandwidth(platform.stream_burst_bytes, platform.stream_bytes_per_s, time.monotonic())
        stream.begin(request.headers.get("Content-Type", "application/octet-stream"))

        async def pass_on(chunk: bytes) -> None:
            if (wait_s := bandwidth.wait_for(len(chunk), time.monotonic())) > 0:
                await asyncio.sleep(wait_s)
            await stream.write(chunk)

        return pass_on

    async def error(self, request: web.Request) -> web.Response:
        runtime = self._sandbox.runtime
        call = runtime.check_open(request.match_info["id"], "InvocationErrorResponse")
        body = await read(request, _MAX_MANAGED_ERROR_BYTES if runtime.concurrent else MAX_RESPONSE_BYTES)
        if request.headers.get("Content-Type") == _WITH_CAUSE:
            body = _without_cause(body)
        runtime.fail(call, body, request.headers.get("Lambda-Runtime-Function-Error-Type"))
        return self._accepted()

    async def init_error(self, request: web.Request) -> web.Response:
        body = await read(request, MAX_RESPONSE_BYTES)
        self._sandbox.runtime.fail_init(body, request.headers.get("Lambda-Runtime-Function-Error-Type"))
        return self._accepted()

    def _accepted(self) -> web.Response:
        self._sandbox.watch.notify()
        return answer(202, b'{"status":"OK"}\n')

    async def ping(self, request: web.Request) -> web.Response:
        return web.Response(text="pong")


def _without_cause(body: bytes) -> bytes:
    """Return an error body as the caller gets it, without the cause, which is for X-Ray; a fixed text if malformed."""
    try:
        error = orjson.loads(body)
    except orjson.JSONDecodeError:
        error = None
    if not isinstance(error, dict):
        return b'"Invalid error body"'
    return orjson.dumps({name: error[name] for name in ("errorMessage", "errorType", "stackTrace") if name in error})
