"""A local Lambda with a CPU quota, a backend that accepts everything, and one subject as its extension."""

import asyncio
import contextlib
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import MARK, free_port, process_of
from benchmarks.subjects import PROGRAMS, Subject
from local_lambda import Function, LocalLambda, Platform

# The machine's own file system: what is compared are extensions, some of them older than the local Lambda's rooms.
PLATFORM = Platform(cpu_quota="auto", memory_limit="off", init_limit_s=60, file_system="shared")


# What CloudWatch Logs, Datadog, an OTLP receiver and any HEC answer, by what is in the head of the request.
_ANSWERS = {
    b"firehose_": (b"200 OK", b'{"FailedPutCount":0,"RequestResponses":[]}'),
    b"x-amz-target": (b"200 OK", b"{}"),
    b"/api/v2/logs": (b"202 Accepted", b"{}"),
    b"post /v1/": (b"200 OK", b""),
    b"": (b"200 OK", b'{"text":"Success","code":0}'),
}


class Backend:
    """Answers any request as one of the three destinations does that takes everything; counts bodies and bytes."""

    def __init__(self) -> None:
        self.bodies = 0
        self.bytes = 0
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "Backend":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    def on_request(self, head: bytes, body: bytes) -> None:
        """Is called with each request; `head` is in lower case."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
                self.on_request(head, await reader.readexactly(sum(lengths)))
                self.bodies += bool(lengths)
                self.bytes += sum(lengths)
                status, answer = _ANSWERS[next((sign for sign in _ANSWERS if sign in head), b"")]
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(answer), answer))
        writer.close()


@dataclass
class World:
    env: LocalLambda
    backend: Backend
    mark: str

    def extension(self) -> int:
        """Return the process id of the extension."""
        return process_of(self.mark, but_not=str(PROGRAMS / "function.py"))


def variables(backend: Backend, sinks: str = "splunk") -> dict[str, str]:
    """Return the variables with which our extension, and the tutorial's, send to `backend`."""
    found = {
        "TELEMETRY_FORWARDER_PORT": str(free_port()),
        "TELEMETRY_FORWARDER_SINKS": sinks,
        "SPLUNK_HEC_URL": f"http://127.0.0.1:{backend.port}",
        "SPLUNK_HEC_TOKEN": "00000000-0000-0000-0000-000000000000",
        "TELEMETRY_FORWARDER_OTLP_ENDPOINT": f"http://127.0.0.1:{backend.port}",
    }
    if "cloudwatch" in sinks:
        found |= {
            "CLOUDWATCH_LOG_GROUP": "/benchmark",
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": f"http://127.0.0.1:{backend.port}",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "of-nobody",
        }
    return found


def function(memory_mb: int, environment: dict[str, str], **more: object) -> Function:
    command = [sys.executable, "-I", "-S", str(PROGRAMS / "function.py")]
    return Function(code=Path(PROGRAMS), command=command, memory_mb=memory_mb, timeout_s=60.0, environment=environment)


@contextlib.asynccontextmanager
async def world(
    subject: Subject, memory_mb: int, *, init_cpu_ms: int = 0, sinks: str = "splunk", **environment: str
) -> AsyncIterator[World]:
    """Open one environment with `subject` in it."""
    mark = uuid.uuid4().hex
    async with contextlib.AsyncExitStack() as stack:
        spool = stack.enter_context(tempfile.TemporaryDirectory())
        backend = await stack.enter_async_context(Backend())
        given = {MARK: mark, "INIT_CPU_MS": str(init_cpu_ms), "TELEMETRY_FORWARDER_SPOOL_DIR": spool}
        given |= {**variables(backend, sinks), **environment, **subject.environment}
        described = function(memory_mb, given)
        env = await stack.enter_async_context(LocalLambda(described, subject.executables, platform=PLATFORM))
        yield World(env, backend, mark)
        await env.kill()
