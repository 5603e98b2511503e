"""The cost of metrics and traces: CPU and bytes of an invocation, and of the start, with them and without, in turn.

    python -m benchmarks.signals             about two minutes
    python -m benchmarks.signals --count 500 --layer DIR

The same extension runs in several environments that differ in what they are asked for, and is invoked in turn. The sink
is an OTLP receiver, which takes all three signals. Bytes are those of the requests' bodies, compressed. Metrics and
spans of frequent invocations are derived and sent every ten seconds: before each reading all of them have been.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.measure import cpu_s, median
from benchmarks.subjects import OURS, Subject, enter_layer, interpreter_of, subjects
from benchmarks.warm import EVENT
from benchmarks.world import World, world

OFF = "off"
METRICS, TRACES = {"TELEMETRY_FORWARDER_METRICS": "on"}, {"TELEMETRY_FORWARDER_TRACES": "on"}
VARIANTS: Mapping[str, Mapping[str, str]] = {OFF: {}, "metrics": METRICS, "traces": TRACES, "both": METRICS | TRACES}
SINK = "otlp"
STRATEGIES = ("continuous", "end")
MEMORY_MB = 1769
# An invocation so long after the others derives what lingers, and still counts as soon; one more sends it.
PAUSES_S = (9.5, 1.5)


async def invoke_all(worlds: Mapping[str, World], count: int) -> None:
    for _ in range(count):
        for w in worlds.values():
            await w.env.invoke(EVENT)


async def settle(worlds: Mapping[str, World]) -> None:
    """Let all that lingers be sent."""
    for pause_s in PAUSES_S:
        await asyncio.sleep(pause_s)
        await invoke_all(worlds, 1)


async def running(subject: Subject, strategy: str, count: int) -> dict[str, tuple[float, float]]:
    """Return CPU in ms and body bytes of an invocation, by variant, without the first fifth."""
    async with contextlib.AsyncExitStack() as stack:
        worlds: dict[str, World] = {}
        for name, variant in VARIANTS.items():
            given = {"TELEMETRY_FORWARDER_FLUSH": strategy, **variant}
            worlds[name] = await stack.enter_async_context(world(subject, MEMORY_MB, sinks=SINK, **given))
        await invoke_all(worlds, count // 5)
        await settle(worlds)
        before = {name: (cpu_s(w.extension()), w.backend.bytes) for name, w in worlds.items()}
        measured = count - count // 5
        await invoke_all(worlds, measured)
        await settle(worlds)
        measured += len(PAUSES_S)
        found = {}
        for name, w in worlds.items():
            cpu, size = before[name]
            found[name] = ((cpu_s(w.extension()) - cpu) / measured * 1000, (w.backend.bytes - size) / measured)
        return found


async def starting(subject: Subject, rounds: int) -> dict[str, float]:
    """Return the CPU of a start with one invocation, in ms, by variant; medians of rounds in turn."""
    took: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for _ in range(rounds):
        for name, variant in VARIANTS.items():
            async with world(subject, MEMORY_MB, sinks=SINK, **variant) as w:
                await w.env.invoke({})
                took[name].append(cpu_s(w.extension()) * 1000)
    return {name: median(figures) for name, figures in took.items()}


async def table(subject: Subject, count: int, rounds: int) -> None:
    for strategy in STRATEGIES:
        found = await running(subject, strategy, count)
        base_cpu, base_size = found[OFF]
        for name, (cpu, size) in found.items():
            more = "" if name == OFF else f"   {cpu - base_cpu:+.2f} ms, {size - base_size:+,.0f} bytes"
            print(f"{strategy:12} {name:8} {cpu:6.2f} ms CPU {size:8,.0f} bytes an invocation{more}")
    started = await starting(subject, rounds)
    for name, cpu in started.items():
        print(f"{'start':12} {name:8} {cpu:6.1f} ms CPU" + ("" if name == OFF else f"   {cpu - started[OFF]:+.1f} ms"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=150, help="invocations of each environment")
    parser.add_argument("--rounds", type=int, default=5, help="starts of each environment")
    parser.add_argument("--layer", type=Path, metavar="DIR", help="an unpacked layer, with its interpreter")
    options = parser.parse_args()
    if options.layer is not None:
        enter_layer(options.layer, "benchmarks.signals")
    python = options.layer and interpreter_of(options.layer)
    with tempfile.TemporaryDirectory() as folder:
        found = subjects(Path(folder), python or Path(sys.executable), options.layer, None)
        (subject,) = [one for one in found if one.name == OURS]
        asyncio.run(table(subject, options.count, options.rounds))


if __name__ == "__main__":
    main()
