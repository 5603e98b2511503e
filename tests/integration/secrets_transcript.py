"""Writes docs/transcripts/secrets-errors.txt: `python -m tests.integration.secrets_transcript`.

Each documented error, as it goes over the wire. What a service says comes from moto where moto can be brought to say
it, else from a service that says the words of the API reference.
"""

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from moto.server import ThreadedMotoServer

from telemetry_forwarder.secrets import server

from .aws_service import ENDPOINTS, REGION, Service, error
from .secrets_world import World, from_service, head, open_world
from .sockets import hang, raw, says, serving

FILE = Path(__file__).parents[2] / "docs/transcripts/secrets-errors.txt"
GET = "/systemsmanager/parameters/get"
SECRET = "/secretsmanager/get"
TOKEN = "X-Aws-Parameters-Secrets-Token"
FOUND = says(200, b'{"Parameter":{"Name":"/a","Value":"value"}}')


async def tell() -> str:
    """Return the whole transcript. The environment's AWS variables are set by the caller."""
    parts = [__doc__.partition("\n\n")[2].strip()] if __doc__ else []
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    host, port = moto.get_host_and_port()
    try:
        parts += await before_moto(f"http://{host}:{port}")
    finally:
        moto.stop()
    parts += await before_a_service_that_refuses()
    parts += await before_a_service_that_is_unwell()
    parts += await without_any_service()
    return "\n\n".join(parts) + "\n"


async def before_moto(url: str) -> list[str]:
    point(url)
    await from_service(url, "GetParameter", REGION, Name="/x")  # its first answer takes as long as it takes to load
    await from_service(url, "GetSecretValue", REGION, SecretId="x")
    async with open_world() as world:
        return [
            await told(world, "no such parameter", head("GET", "/?name=/not/there")),
            await told(
                world, "the same on AWS's route: the service's own words", head("GET", f"{GET}?name=/not/there")
            ),
            await told(world, "no such secret", head("GET", "/?name=secretsmanager:not-there")),
            await told(world, "the same on AWS's route", head("GET", f"{SECRET}?secretId=not-there")),
        ]


async def before_a_service_that_refuses() -> list[str]:
    parts = []
    for kind in ("AccessDeniedException", "InvalidKeyId", "ExpiredTokenException", "ValidationException"):
        async with serving(error(kind)) as service:
            point(service.url())
            async with open_world() as world:
                parts.append(await told(world, f"the service says {kind}", head("GET", "/?name=/a")))
                parts.append(await told(world, "the same on AWS's route", head("GET", f"{GET}?name=/a")))
    return parts


async def before_a_service_that_is_unwell() -> list[str]:
    parts = []
    short = {"SSM_PARAMETER_STORE_TIMEOUT_MILLIS": "1000", "SSM_PARAMETER_STORE_TTL": "1"}
    async with AsyncExitStack() as stack:
        throttling = Service(GetParameter=[FOUND, *[error("ThrottlingException")] * 100])
        cases: list[tuple[str, Any, dict[str, str]]] = [
            ("the service does not answer in time", hang, short),
            ("the service is unwell", error("InternalServerError", 500), {}),
            ("the service closes the connection", raw(b""), {}),
        ]
        for what, answer, given in cases:
            service = await stack.enter_async_context(serving(answer))
            point(service.url())
            async with open_world(**given) as world:
                parts.append(masked(await told(world, what, head("GET", "/?name=/a")), service.port))
        service = await stack.enter_async_context(serving(throttling))
        point(service.url())
        async with open_world(**short) as world:
            await world.get("/?name=/a")
            await asyncio.sleep(1.9)
            parts.append(await told(world, "it throttles, and there is an older value", head("GET", "/?name=/a")))
            parts.append(await told(world, "it throttles, and there is none", head("GET", "/?name=/b")))
            parts.append(await told(world, "the same on AWS's route", head("GET", f"{GET}?name=/c")))
        service = await stack.enter_async_context(serving(hang))
        point(service.url())
        with patch.object(server, "MOST_WAITING", 0):
            async with open_world(**short) as world:
                parts.append(await told(world, "too many requests are waiting", head("GET", "/?name=/a")))
    return parts


async def without_any_service() -> list[str]:
    point("http://127.0.0.1:9")
    forged = {
        "no name": head("GET", "/"),
        "no such query parameter": head("GET", "/?nmae=/a"),
        "version and label": head("GET", f"{GET}?name=/a&version=1&label=live"),
        "no such route": head("GET", "/secrets"),
        "another method": head("POST", "/?name=/a", "localhost", "Content-Length: 0"),
        "a forwarded request": head("GET", "/?name=/a", "localhost", "X-Forwarded-For: 10.0.0.1"),
        "another host": head("GET", "/?name=/a", "rebound.example:2773"),
        "a URL of 9,000 characters": head("GET", "/?name=" + "a" * 9000),
        "a head of 20,000 bytes": head("GET", "/", "localhost", *(f"X-{n:02}: {'y' * 992}" for n in range(20))),
        "a head that does not end": b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    }
    with patch.object(server, "TICK_S", 0.02):
        async with open_world() as world:
            parts = [await told(world, what, data) for what, data in forged.items()]
    closed = {
        "TELEMETRY_FORWARDER_SECRETS": "token",
        "AWS_SESSION_TOKEN": "t",
        "TELEMETRY_FORWARDER_SECRETS_ALLOW": "/prod/*",
    }
    async with open_world(**closed) as world:
        parts.append(await told(world, "no token", head("GET", "/?name=/prod/a")))
        parts.append(await told(world, "a wrong token", head("GET", "/?name=/prod/a", "localhost", f"{TOKEN}: x")))
        parts.append(await told(world, "not allowed", head("GET", "/?name=/a", "localhost", f"{TOKEN}: t")))
    return parts


async def told(world: World, what: str, data: bytes) -> str:
    """Return one exchange: the request, shortened, and the answer, whole."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(data)
    async with asyncio.timeout(20):
        top = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in top.split("\r\n") if line.startswith("Content-Length: "))
        body = await reader.readexactly(int(length.removeprefix("Content-Length: ")))
    writer.close()
    request = [line if len(line) < 100 else f"{line[:40]}…" for line in data.decode().rstrip().split("\r\n")[:4]]
    lines = [f"# {what}", *(f"> {line}" for line in request), *(f"< {line}" for line in top.rstrip().split("\r\n"))]
    return "\n".join([*lines, f"< {body.decode()}"])


def masked(text: str, port: int) -> str:
    return text.replace(f":{port}", ":PORT")


def point(url: str) -> None:
    os.environ.update(dict.fromkeys(ENDPOINTS, url.rstrip("/")))


ENVIRONMENT = {"AWS_REGION": REGION, "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "key"}

if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    FILE.write_text(asyncio.run(tell()))
