"""The HTTP server behind AWS_LAMBDA_RUNTIME_API: it writes the transcript and turns Refused into an error answer."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from local_lambda.apis.trailers import with_tail
from local_lambda.errors import AddressInUse
from local_lambda.rules.refusals import Refused
from local_lambda.transcript import Entry, Transcript, summary

# The transcript entry of the call being handled; each call has its own context.
_entry: ContextVar[Entry] = ContextVar("entry")


def answer(status: int, body: bytes, *, content_type: str = "application/json", **headers: str) -> web.Response:
    """Return a response with exactly this Content-Type."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return web.Response(status=status, body=body, headers={"Content-Type": content_type, **named})


async def read(
    request: web.Request, limit: int | None = None, on_chunk: Callable[[bytes], Awaitable[None]] | None = None
) -> bytes:
    """Return the request's body; its first bytes go into the transcript. Raises Refused above `limit` bytes.

    `on_chunk` gets each piece as it comes, and is waited for before the next one is read.
    """
    chunks = bytearray()
    async for chunk in request.content.iter_any():
        if on_chunk is not None:
            await on_chunk(chunk)
        chunks += chunk
        if limit is not None and len(chunks) > limit:
            message = f"Exceeded maximum allowed payload size ({limit} bytes)."
            raise Refused(413, "RequestEntityTooLarge", message)
    body = bytes(chunks)
    _entry.get().sent = summary(body)
    return body


def recording(transcript: Transcript) -> Middleware:
    """Return a middleware that adds every call to the transcript."""

    @web.middleware
    async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
        # Only the runtime calls the Runtime API; an extension is named once it has said its name or identifier.
        name = "runtime" if request.path.startswith("/2018-06-01/") else "?"
        entry: Entry = transcript.received(name, f"{request.method} {request.path}")
        _entry.set(entry)
        try:
            response = await handler(request)
        except Refused as refusal:
            response = answer(refusal.status, refusal.body)
        except web.HTTPNotFound:
            response = answer(404, b"404 page not found\n", content_type="text/plain; charset=utf-8")
            response.headers["X-Content-Type-Options"] = "nosniff"
        except web.HTTPMethodNotAllowed as error:
            response = web.Response(status=405, headers={"Allow": error.headers["Allow"]})
        body = response.body if isinstance(response, web.Response) else None
        entry.close(response.status, body if isinstance(body, bytes) else b"")
        return response

    return record


def name_caller(name: str) -> None:
    """Record the caller's name in the transcript."""
    _entry.get().name = name


async def _unnamed(request: web.Request, response: web.StreamResponse) -> None:
    """Remove the header that the real server does not send."""
    response.headers.pop("Server", None)


async def serve(app: web.Application, port: int) -> tuple[web.AppRunner, int]:
    """Serve `app` on 127.0.0.1 and return the runner and its port. Raises AddressInUse."""
    app.on_response_prepare.append(_unnamed)
    # A client that closes its connection cancels its handler, so that no wait for an event outlives its caller. A
    # shutdown timeout of 0 would make aiohttp wait for ever for a call that does not come from one of our processes.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.01)
    listening: list[asyncio.Server] = []

    async def stop_listening(_: web.Application) -> None:
        for server in listening:
            server.close()

    app.on_shutdown.append(stop_listening)
    await runner.setup()
    handlers = runner.server
    assert handlers is not None  # noqa: S101  set by setup()
    loop = asyncio.get_running_loop()
    try:
        # Not a TCPSite: the trailers of a streamed response must be read too.
        listening.append(await loop.create_server(with_tail(handlers), "127.0.0.1", port))
    except OSError as error:
        await runner.cleanup()
        why = os.strerror(error.errno or 0).lower()  # asyncio's message repeats the address
        raise AddressInUse(f"The API cannot listen on 127.0.0.1:{port}: {why}.") from error
    return runner, listening[0].sockets[0].getsockname()[1]


def now() -> float:
    """Return the time in seconds since the epoch."""
    return time.time()
