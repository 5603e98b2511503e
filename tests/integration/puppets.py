"""Puppets: processes that only sit there while the test speaks for them, so that it sees each byte of the APIs."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from local_lambda import Function, LocalLambda, Platform
from tests.integration.local_lambda_probe import FUNCTIONS
from tests.sharing import sharing

EXTENSION = "/2020-01-01/extension"
RUNTIME = "/2018-06-01/runtime"
TELEMETRY = "/2022-07-01/telemetry"
BRISK = Platform(shutdown_s=0.1, runtime_share_s=0.05, on_init_failure="retry", telemetry_host="127.0.0.2")


@dataclass(frozen=True)
class Answer:
    """What came back, header names as they were written."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Listener:
    """A telemetry listener that keeps each request's head and records."""

    port: int = 0
    requests: list[tuple[str, Mapping[str, str], bytes]] = field(default_factory=list)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.2", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for _, _, body in self.requests for record in json.loads(body)]

    def subscription(self, schema: str = "2025-01-29") -> dict[str, Any]:
        return {
            "schemaVersion": schema,
            "types": ["platform", "function", "extension"],
            "buffering": {"timeoutMs": 25},
            "destination": {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{self.port}/in"},
        }

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                first, headers = await _head(reader)
                body = await reader.readexactly(int(headers["content-length"]))
                self.requests.append((first, headers, body))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().rstrip().split("\r\n")
    return first, dict(line.split(": ", 1) for line in lines)


class Puppets:
    """The calls that a runtime and extensions would make."""

    def __init__(self, api: str) -> None:
        self._host, _, port = api.partition(":")
        self._port = int(port)

    async def call(self, method: str, path: str, body: Any = b"", **headers: str) -> Answer:
        """Make one call on a connection of its own, with no header that is not named but the two that HTTP needs."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}"]
        if "Transfer_Encoding" not in headers:
            lines.append(f"Content-Length: {len(raw)}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + raw)
            first, given = await _head(reader)
            answer = await reader.readexactly(int(given.get("Content-Length", 0)))
        finally:
            writer.close()
        return Answer(int(first.split()[1]), given, answer)

    async def register(self, name: str = "puppet", *events: str, **headers: str) -> Answer:
        return await self.call(
            "POST", f"{EXTENSION}/register", {"events": events}, Lambda_Extension_Name=name, **headers
        )

    async def registered(self, name: str = "puppet", *events: str) -> str:
        """Register and return the identifier."""
        answer = await self.register(name, *(events or ("INVOKE", "SHUTDOWN")))
        assert answer.status == 200, answer
        return answer.headers["Lambda-Extension-Identifier"]

    async def next_event(self, identifier: str) -> Answer:
        return await self.call("GET", f"{EXTENSION}/event/next", Lambda_Extension_Identifier=identifier)

    async def subscribe(self, identifier: str, body: Any) -> Answer:
        return await self.call("PUT", TELEMETRY, body, Lambda_Extension_Identifier=identifier)

    async def next_invocation(self) -> Answer:
        return await self.call("GET", f"{RUNTIME}/invocation/next")

    async def respond(self, request_id: str, body: Any = b"{}", what: str = "response", **headers: str) -> Answer:
        return await self.call("POST", f"{RUNTIME}/invocation/{request_id}/{what}", body, **headers)


def puppet_lambda(folder: Path, *names: str, platform: Platform = BRISK, **function: Any) -> LocalLambda:
    """Return a local Lambda whose runtime and extensions of these names are puppets."""
    for name in names:
        (folder / name).write_text("#!/bin/sh\nexec sleep 600\n")
        (folder / name).chmod(0o755)
    described = Function(**{"code": FUNCTIONS, "command": ["/bin/sleep", "600"], "timeout_s": 5.0, **function})
    return LocalLambda(described, [folder / name for name in names], platform=sharing(platform))


@asynccontextmanager
async def coming_up(env: LocalLambda) -> AsyncIterator[Puppets]:
    """Enter `env` in the background, so that the test can play its init; leave it at the end."""
    entering = asyncio.ensure_future(env.__aenter__())
    try:
        await env.until(lambda: "platform.initStart" in [event["type"] for event in env.telemetry])
        yield Puppets(env.api)
    except BaseException as error:
        entering.cancel()
        (entered,) = await asyncio.gather(entering, return_exceptions=True)
        if entered is env:  # the test failed after the init; kill the puppets
            await env.__aexit__(type(error), error, error.__traceback__)
        raise
    await entering
    await env.__aexit__(None, None, None)


@dataclass
class Ready:
    """An environment that is up: its puppets, each extension's identifier and open wait, the runtime's open wait."""

    env: LocalLambda
    puppets: Puppets
    ids: dict[str, str]
    waits: dict[str, asyncio.Future[Answer]]
    runtime: asyncio.Future[Answer]

    def invoke(self, payload: Any = None, **more: Any) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self.env.invoke(payload, **more))


@asynccontextmanager
async def up(env: LocalLambda, *names: str, events: tuple[str, ...] = ("INVOKE", "SHUTDOWN")) -> AsyncIterator[Ready]:
    """Play the init to its end, with the puppets waiting for their first event."""
    async with coming_up(env) as puppets:
        ready = await play_init(env, puppets, *names, events=events)
        try:
            await env.until(lambda: env.init_outcome is not None)
            yield ready
        finally:
            for wait in [*ready.waits.values(), ready.runtime]:
                wait.cancel()
            await asyncio.gather(*ready.waits.values(), ready.runtime, return_exceptions=True)


async def play_init(
    env: LocalLambda, puppets: Puppets, *names: str, events: tuple[str, ...] = ("INVOKE", "SHUTDOWN")
) -> Ready:
    """Register and wait, as extensions and then the runtime."""
    await env.until(lambda: set(names) <= set(env.pids))
    ids = {name: await puppets.registered(name, *events) for name in names}
    runtime = asyncio.ensure_future(puppets.next_invocation())
    waits = {name: asyncio.ensure_future(puppets.next_event(identifier)) for name, identifier in ids.items()}
    return Ready(env, puppets, ids, waits, runtime)
