"""`make memory`: the cost of 500 MB of records while the backends are dead, in memory, disk and time.

It runs the real executable on a minimal Extensions API. Bodies of 256 KB are posted to its port one after the other, as
Lambda does. Peak memory is the kernel's figure (VmHWM).
"""

import asyncio
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

ROOT = Path(__file__).parent.parent
MEBIBYTE = 1024 * 1024
_TOTAL_BYTES = int(os.environ.get("MEMORY_TOTAL_MB", "500")) * 1_000_000
_BODY_BYTES = 256 * 1024
PROGRAM = (
    f"import os, sys; sys.path.insert(0, {str(ROOT)!r});"
    "from telemetry_forwarder.bootstrap import main; sys.exit(main('x', os.environ))"
)


class Platform:
    """An Extensions API for one extension: two invocations, then SHUTDOWN when `end` is set."""

    def __init__(self) -> None:
        self.subscribed = asyncio.Event()
        self.end = asyncio.Event()
        self._requests = ["warm up", "pour"]

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {"Lambda-Extension-Identifier": "00000000-0000-0000-0000-000000000001"}
        if request.path.endswith("/register"):
            return web.json_response({"functionName": "flood", "functionVersion": "1"}, headers=headers)
        if request.path.endswith("/telemetry"):
            self.subscribed.set()
            return web.Response(text="OK")
        if request.path.endswith("/event/next"):
            return web.json_response(await self._next_event())
        return web.json_response({}, status=202)

    async def _next_event(self) -> dict[str, Any]:
        if self._requests:
            deadline_ms = round(time.time() * 1000) + 900_000
            return {"eventType": "INVOKE", "requestId": self._requests.pop(0), "deadlineMs": deadline_ms}
        await self.end.wait()
        return {"eventType": "SHUTDOWN", "shutdownReason": "spindown", "deadlineMs": round(time.time() * 1000) + 2000}


@asynccontextmanager
async def platform() -> AsyncIterator[tuple[Platform, int]]:
    it = Platform()
    runner = web.ServerRunner(web.Server(it.answer))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield it, site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    await runner.cleanup()


def _size_of(spool: str) -> int:
    return sum(file.stat().st_size for file in Path(spool).rglob("*.log"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def body(number: int) -> bytes:
    """Return 256 KB of lines, half of them JSON, different from those of every other `number`."""
    lines, size = [], 0
    while size < _BODY_BYTES - 300:
        text = f"order {number}-{len(lines)} accepted, " + "x" * 120
        record: Any = {"level": "INFO", "message": text, "price": number / 7} if len(lines) % 2 else text + "\n"
        item = {"time": "2026-11-23T10:00:00.123Z", "type": "function", "record": record}
        lines.append(item)
        size += len(orjson.dumps(item)) + 1
    return orjson.dumps(lines)


def _status_kb(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise LookupError(name)


async def pour(kind: str, sinks: dict[str, str], more: dict[str, str]) -> None:
    """Send all records and print one row."""
    port = free_port()
    with tempfile.TemporaryDirectory() as spool:
        async with platform() as (lambda_, api):
            environ = {
                "PATH": os.environ["PATH"], "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api}",
                "AWS_LAMBDA_FUNCTION_NAME": "flood", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
                "AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s",
                "TELEMETRY_FORWARDER_PORT": str(port), "TELEMETRY_FORWARDER_LOG_LEVEL": "info",
                "TELEMETRY_FORWARDER_SPOOL_DIR": spool, **sinks, **more,
            }  # fmt: skip
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-c", PROGRAM, env=environ, stdout=asyncio.subprocess.PIPE, limit=2**20
            )
            await lambda_.subscribed.wait()
            await _post_all(port, 1, "warm up")  # the idle figure is that of a process that has worked
            await settle(process.pid)
            idle = _status_kb(process.pid, "VmRSS")
            times = await _post_all(port, _TOTAL_BYTES, "pour")
            peak = _status_kb(process.pid, "VmHWM")
            disk = _size_of(spool)
            lambda_.end.set()
            out = (await process.communicate())[0].decode().splitlines()
    ledger = next(orjson.loads(line) for line in out if '"message":"ledger' in line)
    book = next(iter(ledger["sinks"].values()))
    dropped = ", ".join(f"{why} {count}" for why, count in book["dropped"].items())
    print(
        f"{kind:<34}{idle / 1024:>7.1f}{peak / 1024:>8.1f}{(peak - idle) / 1024:>9.1f}{disk / MEBIBYTE:>9.1f}"
        f"{statistics.median(times) * 1000:>9.1f}{sorted(times)[int(len(times) * 0.99)] * 1000:>8.1f}"
        f"{max(times) * 1000:>8.1f}   {book['offered']} offered; {dropped}"
    )


async def settle(pid: int) -> None:
    """Wait until the process uses no more processor time: it has tried to send all its records."""
    used, before = _cpu_ticks(pid), -1
    while used != before:
        await asyncio.sleep(2.0)
        before, used = used, _cpu_ticks(pid)


def _cpu_ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def _post_all(port: int, total_bytes: int, name: str) -> list[float]:
    times = []
    poured = number = 0
    async with aiohttp.ClientSession() as session:
        while poured < total_bytes:
            data = body(number)
            began = time.perf_counter()
            async with session.post(
                f"http://127.0.0.1:{port}/", data=data, headers={"sequence-id": f"{name} {number}"}
            ) as answer:
                answer.raise_for_status()
            times.append(time.perf_counter() - began)
            poured += len(data)
            number += 1
        done = {"time": "2026-11-23T10:00:00.123Z", "type": "platform.runtimeDone", "record": {"requestId": name}}
        await session.post(f"http://127.0.0.1:{port}/", data=orjson.dumps([done]), headers={"sequence-id": name})
    return times


async def main() -> None:
    print(f"{_TOTAL_BYTES / 1e6:.0f} MB of records into dead backends, a function of 128 MB (4 MiB for each sink)")
    print(f"{'':<34}{'idle':>7}{'peak':>8}{'more':>9}{'disk':>9}{'answer to 256 KB, ms':>25}")
    print(f"{'':<34}{'MB':>7}{'MB':>8}{'MB':>9}{'MiB':>9}{'median':>9}{'p99':>8}{'max':>8}")
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as hanging:  # accepts, never answers
        dead = f"http://127.0.0.1:{free_port()}"
        hangs = f"http://127.0.0.1:{hanging.getsockname()[1]}"
        splunk = {"SPLUNK_HEC_URL": dead, "SPLUNK_HEC_TOKEN": "t"}
        await pour("one sink, refuses", splunk, {})
        await pour("one sink, hangs", {**splunk, "SPLUNK_HEC_URL": hangs}, {})
        await pour("one sink, refuses, drop_oldest", splunk, {"TELEMETRY_FORWARDER_WHEN_FULL": "drop_oldest"})
        three = {**splunk, "DD_API_KEY": "k", "DD_LOGS_CONFIG_LOGS_DD_URL": dead,
                 "CLOUDWATCH_LOG_GROUP": "g", "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": dead}  # fmt: skip
        await pour("three sinks, refuse", three, {})


if __name__ == "__main__":
    asyncio.run(main())
