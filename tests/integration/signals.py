"""Every kind of invocation, run for real, and the metrics and spans that the extension makes of it.

`python -m tests.integration.signals` writes docs/signals/*.txt anew. Requests are called A, B, … in order of their
invocations; numbers that differ between two runs are `…`.
"""

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from local_lambda import Function, Invocation, LocalLambda, Platform
from tests.integration.endings import request_id
from tests.integration.world import EXTENSION, FUNCTIONS, free_port
from tests.sharing import sharing

FOLDER = Path(__file__).parents[2] / "docs" / "signals"
SINK = Path(__file__).parent / "signals_sink"
LETTERS = "ABC"
ARN = "arn:aws:lambda:us-east-1:123456789012:function"
ROOT = "1-68c4a1f0-3b2a90d1c7e845f6a0b1c2d3"
HEADER = f"Root={ROOT};Parent=1a2b3c4d5e6f7081;Sampled=1"
Taken = dict[str, Any]


class Story:
    """One environment, and what the backend took of it. `results` are what the local Lambda knows that it did."""

    def __init__(self, folder: Path, failures: int = 0) -> None:
        """Start; the backend answers its first `failures` requests with 503."""
        self.folder = folder
        self.taken: list[Taken] = []
        self.results: list[tuple[str, Invocation | None]] = []  # with the letter; None: Lambda abandoned it
        self.said: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []  # of telemetry, as they were sent
        self.port = free_port()
        self.withheld: str | None = None  # a type of event that Lambda does not send
        self._failures = failures

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        if self._failures:
            self._failures -= 1
            return web.Response(status=503)
        self.taken += [json.loads(line) for line in body.splitlines()]
        return web.Response()

    def note(self, batch: Sequence[bytes]) -> Sequence[bytes]:
        kept = [one for one in batch if json.loads(one)["type"] != self.withheld]
        self.bodies.append(b"[" + b",".join(kept) + b"]")
        return kept

    async def send_again(self) -> None:
        """Send all telemetry that was sent so far once more, as Lambda does with a batch whose answer it missed."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10.0)) as session:
            for body in list(self.bodies):
                async with session.post(f"http://127.0.0.1:{self.port}/", data=body) as answer:
                    assert answer.status == 200

    def of(self, signal: str) -> list[Taken]:
        return [one for one in self.taken if one["signal"] == signal]

    @property
    def spans(self) -> list[dict[str, Any]]:
        return [one["body"] for one in self.of("span")]

    def count(self, name: str) -> float:
        """Return the sum of a metric over all that arrived."""
        points = (point for one in self.of("metric") for point in one["body"]["points"])
        return sum(point["value"] for point in points if point["name"] == f"lambda.{name}")

    @property
    def ledgers(self) -> list[dict[str, Any]]:
        return [line for line in self.said if line["message"].startswith("ledger")]

    def __str__(self) -> str:
        return "\n".join(["--- metrics ---", *_metrics(self), "--- spans ---", *_trees(self)]) + "\n"


# --- what is shown --------------------------------------------------------------------------------------------------

_USAGE = ("cpu_user_time", "cpu_system_time", "rx_bytes", "tx_bytes", "tmp_used", "tmp_max", "fd_use", "threads_use")
_SAME = ("lambda.memory_size", "aws.lambda.memory_size_mb", "aws.lambda.produced_bytes")


def letter_of(request: str | None) -> str:
    if request is None:
        return "-"
    return next((letter for letter in LETTERS if request == request_id(letter)), "?")


def _metrics(story: Story) -> list[str]:
    rows = []
    for one in story.of("metric"):
        if one["body"]["source"] != "platform":
            continue
        about = [f"{key}={value}" for key, value in one["body"]["attributes"].items()]
        points = [_point(point) for point in one["body"]["points"] if point["name"][7:] not in _USAGE]
        rows.append((letter_of(one["request_id"]), one["time_ms"], " ".join([*points, *about])))
    rows.sort(key=lambda row: row[:2])  # they come as they end, and batches may come in any order
    return [f"{letter} {text}" for letter, _, text in rows]


def _point(point: Mapping[str, Any]) -> str:
    is_count = point["kind"] == "count" or point["name"] in _SAME
    return f"{point['name'].removeprefix('lambda.')}={point['value'] if is_count else '…'}"


def _trees(story: Story) -> Iterator[str]:
    spans = story.spans
    roots = [
        one for one in spans if "parent_id" not in one or one["parent_id"] not in {two["span_id"] for two in spans}
    ]
    names = _names(spans)
    roots.sort(key=lambda one: (names[one["span_id"]], one["start_ns"]))
    for root in roots:
        yield f"{names[root['span_id']]} {_span(root, names)}"
        children = [one for one in spans if one.get("parent_id") == root["span_id"]]
        yield from (f"  - {_span(child, names)}" for child in children)


def _names(spans: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the letter of each span's request; `-` for a span that belongs to none."""
    found: dict[str, str] = {}
    for one in spans:
        told = one["attributes"].get("faas.invocation_id")
        found[one["span_id"]] = letter_of(told) if told else found.get(one.get("parent_id", ""), "-")
    return found


def _span(one: Mapping[str, Any], names: Mapping[str, str]) -> str:
    parts = [one["name"], one["kind"]]
    if one.get("error"):
        parts.append("ERROR" + (re.sub(r"\d+\.\d\d", "…", f" {one['message']!r}") if "message" in one else ""))
    # A link leads to the init that nobody waited for, or to a span of X-Ray's own.
    parts += ["link=" + ("init" if link["span_id"] in names else "x-ray") for link in one.get("links", ())]
    if one["trace_id"] == ROOT[2:].replace("-", ""):
        parts.append("trace=x-ray")
    for name, value in sorted(one["attributes"].items()):
        if name != "faas.invocation_id":
            is_number = isinstance(value, int | float) and not isinstance(value, bool) and name not in _SAME
            shown = "…" if is_number else str(value).replace(ARN, "arn:…")
            parts.append(f"{name}={shown}")
    return " ".join(map(str, parts))


# --- the road -------------------------------------------------------------------------------------------------------


def extension(folder: Path) -> Path:
    """Return our extension with the sink beside it, as installed packages are."""
    program = folder / EXTENSION.name
    start = "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); runpy.run_module('telemetry_forwarder', "
    start += "run_name='__main__', alter_sys=True)"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -c "{start}" "{SINK}" {EXTENSION.name}\n')
    program.chmod(0o755)
    return program


@asynccontextmanager
async def environment(
    story: Story, *, variables: Mapping[str, str] | None = None, **function: Any
) -> AsyncIterator[LocalLambda]:
    async with AsyncExitStack() as stack:
        app = web.Application(client_max_size=16 * 1024 * 1024)
        app.router.add_post("/", story.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port, *_ = runner.addresses[0]
        given = {
            "TELEMETRY_FORWARDER_SINKS": "signals",
            "SIGNALS_URL": f"http://{host}:{port}/",
            "TELEMETRY_FORWARDER_TRACES": "on",
            "TELEMETRY_FORWARDER_PORT": str(story.port),
            "TELEMETRY_FORWARDER_LOG_LEVEL": "info",
            "TELEMETRY_FORWARDER_INIT_BUDGET_MS": "9000",
            "TELEMETRY_FORWARDER_SPOOL_DIR": str(story.folder / "spool"),
            "FIRST_INIT": str(story.folder / "first-init"),
            **(variables or {}),
        }
        settings = {"handler": "endings.handler", "timeout_s": 10.0, **function}
        env = LocalLambda(
            Function(code=FUNCTIONS, environment=given, **settings),
            extensions=[extension(story.folder)],
            platform=sharing(Platform(on_init_failure="retry", spoil=story.note)),
        )
        await stack.enter_async_context(env)
        yield env
    story.said = [json.loads(line) for line in env.extension_output(EXTENSION.name) if line.startswith("{")]


async def invoke(story: Story, env: LocalLambda, letter: str, *steps: Sequence[Any], **more: Any) -> Invocation:
    result = await env.invoke([list(step) for step in steps], request_id=request_id(letter), **more)
    story.results.append((letter, result))
    return result


# --- the kinds of invocations ---------------------------------------------------------------------------------------


async def cold_start(story: Story) -> None:
    """The first request of an environment, which X-Ray traces."""
    async with environment(story) as env:
        await invoke(story, env, "A", ("say", "paying order 17"), trace=HEADER)
        await env.shutdown()


async def warm(story: Story) -> None:
    """A second request in the same environment."""
    async with environment(story) as env:
        await invoke(story, env, "A", ("say", "paying order 17"))
        await invoke(story, env, "B", ("say", "paying order 18"))
        await env.shutdown()


async def exception(story: Story) -> None:
    """A handler that raises an exception: for Lambda a success, for the caller an error."""
    async with environment(story) as env:
        await invoke(story, env, "A", ("say", "paying order 17"), ("fail", "no stock"))
        await env.shutdown()


async def timeout(story: Story) -> None:
    """A request that runs into its timeout, and one in the environment after it."""
    async with environment(story, timeout_s=3.0) as env:
        await invoke(story, env, "A", ("say", "calling the slow API"), ("sleep", 60))
        await invoke(story, env, "B", ("say", "paying order 18"))
        await env.shutdown()


async def out_of_memory(story: Story) -> None:
    """A function that takes more memory than it has."""
    async with environment(story, memory_mb=128) as env:
        await invoke(story, env, "A", ("say", "loading the whole table"), ("allocate", 400))
        await invoke(story, env, "B", ("say", "paying order 18"))
        await env.shutdown()


async def crash(story: Story) -> None:
    """A runtime that exits in mid-invocation."""
    async with environment(story) as env:
        await invoke(story, env, "A", ("say", "calling native code"), ("exit", 7))
        await invoke(story, env, "B", ("say", "paying order 18"))
        await env.shutdown()


async def restore(story: Story) -> None:
    """An environment that is restored from a snapshot (SnapStart)."""
    async with environment(story, init_type="snap-start") as env:
        await invoke(story, env, "A", ("say", "paying order 17"))
        await invoke(story, env, "B", ("say", "paying order 18"))
        await env.shutdown()


async def provisioned(story: Story) -> None:
    """An environment that was initialised before a request waited for it (provisioned concurrency)."""
    async with environment(story, init_type="provisioned-concurrency") as env:
        await invoke(story, env, "A", ("say", "paying order 17"))
        await env.shutdown()


async def managed(story: Story) -> None:
    """Requests that run side by side (Managed Instances)."""
    async with environment(story, init_type="lambda-managed-instances") as env:
        async with asyncio.TaskGroup() as group:
            for letter in LETTERS:
                group.create_task(invoke(story, env, letter, ("say", "paying"), ("sleep", 0.2)))
        await env.shutdown()


async def init_failure(story: Story) -> None:
    """A module that cannot be imported: the init fails, and again within each invocation."""
    async with environment(story, variables={"INIT": "fails"}) as env:
        await invoke(story, env, "A")
        await invoke(story, env, "B")
        await env.shutdown()


async def reset(story: Story) -> None:
    """A request that Lambda itself abandons, with a reset of the environment: its report never comes."""
    async with environment(story) as env:
        task = asyncio.create_task(invoke(story, env, "A", ("say", "paying order 17"), ("sleep", 60)))
        await env.event(lambda event: event["type"] == "function")
        task.cancel()
        await asyncio.wait([task])
        story.results.append(("A", None))
        await invoke(story, env, "B", ("say", "paying order 18"))
        await env.shutdown()


async def another_attempt(story: Story) -> None:
    """An asynchronous event that times out and is tried again, with the same request id, in the same environment."""
    async with environment(story, timeout_s=3.0) as env:
        await invoke(story, env, "A", ("sleep", 60))
        await invoke(story, env, "A", ("say", "paying order 17"))
        await env.shutdown()


async def killed_extension(story: Story) -> None:
    """This extension is killed in mid-invocation: from what it left, the next process knows when the request began."""
    async with environment(story) as env:
        await invoke(story, env, "A", ("say", "paying order 17"))
        async with asyncio.TaskGroup() as group:
            group.create_task(invoke(story, env, "B", ("say", "paying order 18"), ("sleep", 60)))
            left = story.folder / "spool"
            await env.until(lambda: any(request_id("B") in one.read_text() for one in left.glob("last-*")))
            os.kill(env.pids[EXTENSION.name], signal.SIGKILL)
        await invoke(story, env, "C", ("say", "paying order 19"))
        await env.shutdown()


STORIES: dict[str, Callable[[Story], Awaitable[None]]] = {
    "cold-start": cold_start,
    "warm": warm,
    "exception": exception,
    "timeout": timeout,
    "out-of-memory": out_of_memory,
    "crash": crash,
    "restore": restore,
    "provisioned": provisioned,
    "managed": managed,
    "init-failure": init_failure,
    "reset": reset,
    "another-attempt": another_attempt,
    "killed-extension": killed_extension,
}


async def tell(name: str, folder: Path, failures: int = 0) -> Story:
    """Run a story and return it."""
    story = Story(folder, failures)
    await STORIES[name](story)
    return story


def page(name: str, story: Story) -> str:
    return f"{STORIES[name].__doc__}\n\n{story}"


COUNTED = ("invocations", "successes", "errors", "timeouts", "billed_duration")


def expected(story: Story) -> Counter[str]:
    """Return the figures of COUNTED as the local Lambda knows them, but those that are 0.

    What was billed is in the report alone, which comes with the next invocation: after the last reset there is none.
    """
    found: Counter[str] = Counter()
    reports = Counter(one["request_id"] for one in story.of("log") if one["type"] == "platform.report")
    for letter, result in story.results:
        is_reported, reports[request_id(letter)] = reports[request_id(letter)] > 0, reports[request_id(letter)] - 1
        status = "failure" if result is None else result.status
        found["invocations"] += 1
        found["successes" if status == "success" else "errors"] += 1
        found["timeouts"] += status == "timeout"
        found["billed_duration"] += (result.billed_ms or 0) if result is not None and is_reported else 0
    return +found


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in STORIES:
        with tempfile.TemporaryDirectory() as folder:
            (FOLDER / f"{name}.txt").write_text(page(name, asyncio.run(tell(name, Path(folder)))))


if __name__ == "__main__":
    main()
