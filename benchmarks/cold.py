"""The cost of a cold start: until `/register`, in INIT, in the first response, and after it.

    python -m benchmarks.cold [--layer DIR | --python PROGRAM] [--before DIR] [--rounds N]

prints the cold start's figures only, next to an idle extension and an older checkout: the time added to the first
response and to INIT, the time the first invocation is held at each size, the resident memory, and the lines lost if an
environment of the smallest size is invoked once and shut down at once.
"""

import argparse
import asyncio
import contextlib
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.measure import free_port, median, memory_mb, run_cpu_s
from benchmarks.subjects import BEFORE, IDLE_PYTHON, NOTHING, OURS, Subject, enter_layer, subjects
from benchmarks.world import PLATFORM, function, world
from local_backends import Datadog, SplunkHec
from local_lambda import LocalLambda

# The memory sizes of the function, in MB: one full processor; and a small one, where INIT is cheap and the rest is not.
SIZES = (1769, 256)
BUSY_INIT_MS = 200
_SMALLEST_MB = 128
_KEY = "t"
_LINES = (1, 10, 1000)
_HELD_AT_MOST_MS = 500  # TELEMETRY_FORWARDER_FLUSH_TIMEOUT_MS by default


class Refusing:
    """An Extensions API that refuses every registration, so that the process ends right after it."""

    def __enter__(self) -> "Refusing":
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.asked_at = 0.0
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.asked_at = time.perf_counter()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def until_register(subjects: list[Subject], python: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Return the ms from exec to the call of `/register`, wall and CPU, for each subject and the bare interpreter."""
    bare = [str(python), "-I", "-S", "-c", "pass"]
    found: dict[str, list[tuple[float, float]]] = {"pass": []}
    with Refusing() as api:
        for _ in range(rounds):
            cpu, wall = run_cpu_s(bare)
            found["pass"].append((wall, cpu))
            for subject in subjects:
                if subject.executable is None:
                    continue
                environment = {
                    "PATH": "/usr/bin:/bin",
                    "AWS_LAMBDA_RUNTIME_API": api.address,
                    "TELEMETRY_FORWARDER_PORT": str(free_port()),
                    "SPLUNK_HEC_URL": "http://127.0.0.1:1",
                    "SPLUNK_HEC_TOKEN": "t",
                }
                began = time.perf_counter()
                cpu, _ = run_cpu_s([str(subject.executable)], environment)
                found.setdefault(subject.name, []).append((api.asked_at - began, cpu))
    bare_runs = found["pass"]
    return {
        name: {
            "wall_ms": median([wall for wall, _ in runs]) * 1000,
            "cpu_ms": median([cpu for _, cpu in runs]) * 1000,
            "wall_ratio": median([run[0] / bare_run[0] for run, bare_run in zip(runs, bare_runs, strict=True)]),
            "cpu_ratio": median([run[1] / bare_run[1] for run, bare_run in zip(runs, bare_runs, strict=True)]),
        }
        for name, runs in found.items()
    }


async def once(subject: Subject, memory_mb: int, init_cpu_ms: int, **environment: str) -> dict[str, float]:
    """Start one environment and invoke it once; return times in ms."""
    began = time.perf_counter()
    async with world(subject, memory_mb, init_cpu_ms=init_cpu_ms, **environment) as w:
        init = (time.perf_counter() - began) * 1000
        result = await w.env.invoke({})
        if result.status != "success":
            raise RuntimeError(f"{subject.name}: the first invocation ended as {result.status}")
        return {
            "init": init,
            "response": init + (result.response_ms or 0.0),
            "held": result.extension_overhead_ms or 0.0,
        }


async def starts(
    subjects: list[Subject], memory_mb: int, init_cpu_ms: int, rounds: int, **environment: str
) -> dict[str, dict[str, float]]:
    """Return medians in ms for each subject.

    `init_added` and `response_added` are the times above those without an extension; `held` and `init` are as measured.
    """
    found: dict[str, list[dict[str, float]]] = {subject.name: [] for subject in subjects}
    for _ in range(rounds):
        for subject in subjects:
            found[subject.name].append(await once(subject, memory_mb, init_cpu_ms, **environment))
    bare = found[NOTHING]
    table = {}
    for name, runs in found.items():
        table[name] = {
            "init_added": median([a["init"] - b["init"] for a, b in zip(runs, bare, strict=True)]),
            "response_added": median([a["response"] - b["response"] for a, b in zip(runs, bare, strict=True)]),
            "held": median([a["held"] for a in runs]),
            "held_most": max(a["held"] for a in runs),
            "init": median([a["init"] for a in runs]),
        }
    return table


async def resident_mb(subject: Subject, memory: int) -> float:
    """Return the resident memory after the first invocations, in MiB."""
    async with world(subject, memory) as w:
        for _ in range(5):
            await w.env.invoke({"lines": 20})
        return memory_mb(w.extension())


async def lost(subject: Subject, sink: str, lines: int) -> int:
    """Invoke an environment of the smallest size once and shut it down at once; return how many lines were lost."""
    async with contextlib.AsyncExitStack() as stack:
        spool = stack.enter_context(tempfile.TemporaryDirectory())
        kind = SplunkHec(token=_KEY) if sink == "splunk" else Datadog(api_key=_KEY)
        backend = await stack.enter_async_context(kind)
        given = {
            "TELEMETRY_FORWARDER_PORT": str(free_port()),
            "TELEMETRY_FORWARDER_SINKS": sink,
            "TELEMETRY_FORWARDER_SPOOL_DIR": spool,
            "SPLUNK_HEC_URL": backend.url,
            "SPLUNK_HEC_TOKEN": _KEY,
            "DD_API_KEY": _KEY,
            "DD_LOGS_CONFIG_LOGS_DD_URL": backend.url,
        }
        described = function(_SMALLEST_MB, given)
        env = await stack.enter_async_context(LocalLambda(described, subject.executables, platform=PLATFORM))
        await env.invoke({"lines": lines})
        await env.shutdown()
        texts = (
            [str(event.event) for event in backend.events]
            if isinstance(backend, SplunkHec)
            else [log.message for log in backend.logs]
        )
    return lines - len({number for number in range(lines) if any(f"order {number:08} of" in text for text in texts)})


async def table(compared: list[Subject], rounds: int) -> None:
    """Print the figures of a cold start: a row for each, a column for each subject."""
    names = [one.name for one in compared if one.name != NOTHING]
    forwarders = [one for one in compared if one.name in (OURS, BEFORE)]
    print(f"| figure | bound | {' | '.join(names)} |\n| --- | --- |{' ---: |' * len(names)}", flush=True)

    def row(what: str, bound: str, figures: dict[str, float]) -> None:
        cells = [f"{figures[name]:.1f}" if name in figures else "" for name in names]
        print(f"| {what} | {bound} | {' | '.join(cells)} |", flush=True)

    for size, response, held in (
        (1769, "≤ 20", "≤ 150"),
        (256, "≤ 40", f"≤ {_HELD_AT_MOST_MS}"),
        (_SMALLEST_MB, "", f"≤ {_HELD_AT_MOST_MS}"),
    ):
        found = await starts(compared, size, 0, rounds)
        row(
            f"first response added, empty function, {size} MB, ms",
            response,
            {n: found[n]["response_added"] for n in names},
        )
        row(f"held behind it, {size} MB, ms", held, {n: found[n]["held"] for n in names})
        row(f"held behind it at most, {size} MB, ms", held, {n: found[n]["held_most"] for n in names})
    found = await starts(compared, 1769, BUSY_INIT_MS, rounds)
    idle = found[IDLE_PYTHON]["init_added"]
    row(
        "INIT added, function with 200 ms of its own, 1769 MB, ms",
        f"≤ {idle + 10:.1f}",
        {n: found[n]["init_added"] for n in names},
    )
    row("held behind it, ms", "0", {n: found[n]["held"] for n in names})
    row("resident, one HTTP sink, MB", "≤ 40", {one.name: await resident_mb(one, 1769) for one in forwarders})
    for sink in ("splunk", "datadog"):
        for lines in _LINES:
            gone = {one.name: float(sum([await lost(one, sink, lines) for _ in range(rounds)])) for one in forwarders}
            row(f"lost of {rounds} x {lines} lines, {sink}, {_SMALLEST_MB} MB, shut down at once", "0", gone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="run the checkouts with this")
    parser.add_argument("--layer", type=Path, help="an unpacked layer instead of the checkout, and its interpreter")
    parser.add_argument("--before", type=Path, help="a checkout of an older version to compare with")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    if options.layer is not None:
        enter_layer(options.layer, "benchmarks.cold")
    with tempfile.TemporaryDirectory() as folder:
        everything = subjects(Path(folder), options.python, options.layer, options.before)
        wanted = [one for one in everything if one.name in (NOTHING, IDLE_PYTHON, OURS, BEFORE)]
        asyncio.run(table(wanted, options.rounds))


if __name__ == "__main__":
    main()
