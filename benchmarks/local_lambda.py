"""The cost of the local Lambda itself, beyond the processes it runs; part of `make bench`, or alone.

Where the machine's speed matters, the same processes also run against a server that only answers, in the same rounds,
and the difference counts. Figures are medians; nothing here is a test.
"""

import asyncio
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Literal

from local_lambda import Function, LocalLambda, Platform

PROGRAMS = Path(__file__).parent / "programs"
PYTHON = [sys.executable, "-I", "-S"]
ROUNDS = 7
INVOCATIONS = 100
ENVIRONMENTS = 50


def main() -> None:
    print(f"{'the local Lambda':<62}{'median':>12}{'target':>14}")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_all(Path(folder)))


async def _all(folder: Path) -> None:
    extension = _extension(folder)
    beyond("a warm invocation, beyond the bare loop", [await warm() for _ in range(ROUNDS)], most=2)
    pairs = [await warm([extension]) for _ in range(ROUNDS)]
    beyond("the same with an extension, beyond the bare loop without", pairs, most=2)
    pairs = [await start(extension) for _ in range(ROUNDS * 2)]
    beyond("an environment with an extension, beyond its processes", pairs, most=30)
    pairs = [await room(extension) for _ in range(ROUNDS * 2)]
    beyond("a file system of its own, beyond an environment without", pairs, most=15)
    lateness = await late(extension, folder / "late")
    show("telemetry after its 25 ms: the median batch", statistics.median(lateness) * 1000, "ms", most=10)
    latest = statistics.quantiles(lateness, n=20)[-1]
    show("telemetry after its 25 ms: the latest of twenty", latest * 1000, "ms", most=10)
    rates = [await rate(extension, folder / f"rate-{number}") for number in range(ROUNDS)]
    show("records from print to extension", statistics.median(rates), "/s", least=10_000)
    seconds, succeeded = await many(extension)
    show(f"of {ENVIRONMENTS} environments at once that answer", succeeded, "", least=ENVIRONMENTS)
    print(f"    {seconds:.1f} s from the first process until the last is gone")


def beyond(what: str, pairs: list[tuple[float, float]], *, most: float) -> None:
    """Print the difference and the ratio of two figures in seconds, measured in pairs."""
    show(what, statistics.median(ours - bare for ours, bare in pairs) * 1000, "ms", most=most)
    ours, bare = (statistics.median(figures) * 1000 for figures in zip(*pairs, strict=True))
    print(f"    {ours:.2f} ms against {bare:.2f} ms, {statistics.median(a / b for a, b in pairs):.1f} times")


def show(what: str, figure: float, unit: str, *, most: float | None = None, least: float | None = None) -> None:
    """Print a figure with its target, and whether the target is met."""
    met = (most is None or figure <= most) and (least is None or figure >= least)
    target = f"<= {most:g} {unit}" if most is not None else f">= {least:g} {unit}"
    number = f"{figure:,.0f}" if figure >= 1000 or not unit else f"{figure:.2f}"
    print(f"{what:<62}{number + ' ' + unit:>12}{target:>14}  {'met' if met else 'NOT MET'}")


def _extension(folder: Path) -> Path:
    path = folder / "small"
    path.write_text(f"#!{' '.join(PYTHON[:1])} -IS\n" + (PROGRAMS / "extension.py").read_text())
    path.chmod(0o755)
    return path


def _function(**more: object) -> Function:
    command = [*PYTHON, str(PROGRAMS / "runtime.py")]
    return Function(**{"code": PROGRAMS, "command": command, "timeout_s": 60.0, **more})  # type: ignore[arg-type]


# The bare loop


class Bare:
    """A Runtime and Extensions API that only answers."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.registered = asyncio.Event()
        self.waiting = asyncio.Event()
        self._give: asyncio.Queue[None] = asyncio.Queue()
        self._serving: set[asyncio.Task[object]] = set()

    async def __aenter__(self) -> "Bare":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.api = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def invoke(self) -> None:
        """Give the runtime an invocation and wait until it asks for the next one."""
        self.asked.clear()
        self._give.put_nowait(None)
        await self.asked.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            self._serving.add(task)
        # Only __aexit__ cancels it; Python 3.11's streams log a handler that ends by cancellation.
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = [int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
                await reader.readexactly(sum(length))
                headers, body = await self._answer(head.split(b" ")[1])
                writer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (headers, len(body), body))
        writer.close()

    async def _answer(self, path: bytes) -> tuple[bytes, bytes]:
        if path.endswith(b"/invocation/next"):
            self.asked.set()
            await self._give.get()
            return b"Lambda-Runtime-Aws-Request-Id: r-1\r\n", b"null"
        if path.endswith(b"/event/next"):
            self.waiting.set()
            await asyncio.Event().wait()
        if path.endswith(b"/register"):
            self.registered.set()
            return b"Lambda-Extension-Identifier: e-1\r\n", b"{}"
        return b"", b"{}"


@contextlib.asynccontextmanager
async def _running(*argv: str, api: str) -> AsyncIterator[None]:
    environ = {"AWS_LAMBDA_RUNTIME_API": api}
    process = await asyncio.create_subprocess_exec(*argv, env=environ, start_new_session=True)
    try:
        yield
    finally:
        process.kill()
        await process.wait()


# The figures


async def warm(extensions: list[Path] | None = None) -> tuple[float, float]:
    """Return the time of an invocation, here and in the bare loop, in seconds."""
    async with LocalLambda(_function(), extensions or []) as env:
        ours = await _median(env.invoke)
    async with Bare() as bare, _running(*PYTHON, str(PROGRAMS / "runtime.py"), api=bare.api):
        await bare.asked.wait()
        theirs = await _median(bare.invoke)
    return ours, theirs


async def _median(invoke: Callable[[], Awaitable[object]]) -> float:
    took = []
    for _ in range(INVOCATIONS):
        began = time.perf_counter()
        await invoke()
        took.append(time.perf_counter() - began)
    return statistics.median(took)


async def start(extension: Path) -> tuple[float, float]:
    """Return the time to enter an environment, and to start its two processes one after the other, in seconds."""
    began = time.perf_counter()
    async with LocalLambda(_function(), [extension]) as env:
        ours = time.perf_counter() - began
        await env.kill()
    began = time.perf_counter()
    async with Bare() as bare, _running(str(extension), api=bare.api):
        await bare.registered.wait()
        async with _running(*PYTHON, str(PROGRAMS / "runtime.py"), api=bare.api):
            await asyncio.gather(bare.asked.wait(), bare.waiting.wait())
            theirs = time.perf_counter() - began
    return ours, theirs


async def room(extension: Path) -> tuple[float, float]:
    """Return the time to enter an environment with and without a file system of its own, in seconds."""
    took = []
    kinds: tuple[Literal["own", "shared"], ...] = ("own", "shared")
    for file_system in kinds:
        began = time.perf_counter()
        async with LocalLambda(_function(), [extension], platform=Platform(file_system=file_system)) as env:
            took.append(time.perf_counter() - began)
            await env.kill()
    return took[0], took[1]


async def late(extension: Path, arrivals: Path) -> list[float]:
    """Return for each batch how long after its buffering time it arrived, in seconds."""
    function = _function(environment={"ARRIVALS": str(arrivals)})
    platform = Platform(freeze=False, shared_paths=[arrivals.parent])
    async with LocalLambda(function, [extension], platform=platform) as env:
        await env.invoke({"times": 50, "gap": 0.1})
    batches = [line.split() for line in _read(arrivals)]
    return [float(arrived) - float(printed) - 0.025 for arrived, _, printed in batches]


async def rate(extension: Path, arrivals: Path) -> float:
    """Return the records per second, from the first print until the extension has acknowledged the last record."""
    lines = 20_000
    function = _function(environment={"ARRIVALS": str(arrivals)})
    platform = Platform(freeze=False, shared_paths=[arrivals.parent])
    async with LocalLambda(function, [extension], platform=platform) as env:
        await env.invoke()
        began = time.time()
        await env.invoke({"lines": lines})
        give_up_at = time.monotonic() + 30
        while sum(int(line.split()[1]) for line in _read(arrivals)) < lines:
            if time.monotonic() > give_up_at:
                raise TimeoutError("not all lines arrived")
            await asyncio.sleep(0.005)
    return lines / (float(_read(arrivals)[-1].split()[0]) - began)


def _read(arrivals: Path) -> list[str]:
    return arrivals.read_text().splitlines() if arrivals.exists() else []


async def many(extension: Path) -> tuple[float, int]:
    """Return the time in which many environments start, answer and end at once, and how many answered."""

    async def one() -> bool:
        async with LocalLambda(_function(), [extension], platform=Platform(init_limit_s=60)) as env:
            return (await env.invoke()).status == "success"

    began = time.perf_counter()
    answered = await asyncio.gather(*(one() for _ in range(ENVIRONMENTS)))
    return time.perf_counter() - began, sum(answered)


if __name__ == "__main__":
    main()
