"""The cost of a running extension: the function's own time, CPU per invocation, memory."""

import contextlib

from benchmarks.measure import cpu_s, median, memory_mb
from benchmarks.subjects import NOTHING, Subject
from benchmarks.world import World, world

EVENT = {"lines": 20, "cpu_ms": 5}


async def invocations(
    subjects: list[Subject], count: int, memory: int = 1769, sinks: str = "splunk", **environment: str
) -> dict[str, dict[str, float]]:
    """Invoke the environments of all subjects in turn, `count` times; return medians in ms, and MiB at the end.

    `first_added_ms` is the time added to the function in the very first invocation. CPU is counted after the first
    fifth of the invocations, without one-time work.
    """
    async with contextlib.AsyncExitStack() as stack:
        worlds: dict[str, World] = {}
        for subject in subjects:
            opened = world(subject, memory, sinks=sinks, **environment)
            worlds[subject.name] = await stack.enter_async_context(opened)
        took: dict[str, list[float]] = {name: [] for name in worlds}
        held: dict[str, list[float]] = {name: [] for name in worlds}
        before: dict[str, float] = {}
        for number in range(count):
            for name, w in worlds.items():
                if number == count // 5 and name != NOTHING:
                    before[name] = cpu_s(w.extension())
                result = await w.env.invoke(EVENT)
                took[name].append(float(result.json()))
                held[name].append(result.extension_overhead_ms or 0.0)
        table = {}
        for name, w in worlds.items():
            pairs = list(zip(took[name], took[NOTHING], strict=True))
            table[name] = {
                "function_ms": median(took[name]),
                "function_added_ms": median([ours - bare for ours, bare in pairs[1:]]),
                "first_added_ms": pairs[0][0] - pairs[0][1],
                "held_ms": median(held[name][1:]),
            }
            if name != NOTHING:
                pid = w.extension()
                table[name]["cpu_ms"] = (cpu_s(pid) - before[name]) / (count - count // 5) * 1000
                table[name]["rss_mb"] = memory_mb(pid)
                table[name]["delivered_bodies"] = float(w.backend.bodies)
        return table
