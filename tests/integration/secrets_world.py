"""The secrets endpoint on a free port of loopback, and a client that sends what it is told to send."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from telemetry_forwarder.clock import Clock, SystemClock
from telemetry_forwarder.log import Log
from telemetry_forwarder.secrets.service import SecretsService, open_secrets_service
from telemetry_forwarder.secrets.settings import secrets_from
from telemetry_forwarder.transports.addresses import Network
from telemetry_forwarder.variables.reading import read_all

TARGETS = {"ssm": "AmazonSSM", "secretsmanager": "secretsmanager"}


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class World:
    port: int
    service: SecretsService
    written: list[str]

    async def get(self, target: str, *headers: str, host: str = "localhost:2773") -> Reply:
        """Ask on a connection of its own."""
        return await exchange(self.port, head("GET", target, host, *headers))

    async def stats(self, *headers: str) -> dict[str, Any]:
        found: dict[str, Any] = (await self.get("/stats", *headers)).json()
        return found


@asynccontextmanager
async def open_world(clock: Clock | None = None, **environ: str) -> AsyncIterator[World]:
    """Open an endpoint with the variables of a function; open to all unless they say otherwise."""
    settings = secrets_from(read_all({"TELEMETRY_FORWARDER_SECRETS": "open", **environ}))
    written: list[str] = []
    log = Log("debug", written.append)
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    opening = open_secrets_service(settings, [listener], Network(), clock=clock or SystemClock(), log=log)
    port = listener.getsockname()[1]
    async with opening as service:
        yield World(port, service, written)


def head(method: str, target: str, host: str = "localhost:2773", *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, "", ""]
    return "\r\n".join(lines).encode()


async def exchange(port: int, data: bytes) -> Reply:
    """Send `data` and return the answer; the connection ends with it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        async with asyncio.timeout(30):
            return await read_reply(reader)
    finally:
        writer.close()


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    top = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in top[1:] if line)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Reply(int(top[0].split(" ")[1]), headers, body)


async def from_service(url: str, operation: str, region: str, **parameters: Any) -> tuple[int, bytes]:
    """Ask the service itself, without any SDK; return its status and body as they came."""
    service = "ssm" if "Parameter" in operation else "secretsmanager"
    headers = {
        "X-Amz-Target": f"{TARGETS[service]}.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": f"AWS4-HMAC-SHA256 Credential=A/20260101/{region}/{service}/aws4_request, Signature=x",
    }
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, headers=headers, data=json.dumps(parameters)) as answer,
    ):
        return answer.status, await answer.read()
