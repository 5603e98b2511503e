"""`make soak`: thousands of invocations of one environment while its backends fail at random, then the books.

The random numbers are seeded and the seed is printed: the same seed gives the same faults at the same invocations.
"""

import argparse
import asyncio
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.integration.world import SINKS
from tests.matrix.books import (
    READ,
    Key,
    arrived,
    books,
    copied,
    differences,
    emitted,
    key_of,
    refused,
    unanswered,
    wanted,
)
from tests.matrix.course import LEAVING_S, NAME, overruns
from tests.matrix.world import MatrixWorld, open_world
from tests.matrix.wrongs import WRONGS, Wrong

INVOCATIONS = 2000
# The invocation at which memory is first measured: by then everything has been loaded and used.
WARM = 200
# Invocations for the recovery, one a second: the longest pause of a breaker is 30 s, and a backlog takes time. It is
# sent during invocations, so their number counts, not how long a busy machine takes for them.
RECOVERY = 120
# Records of the last invocation that may still be on the way.
FRESH = 20
# Invocations before a measurement, in which held records are sent.
AT_REST = 3
# The share of resets in a second environment: after each reset a new generation takes over the held records.
RESETS = 0.08
WITH_RESETS = 200
LONGEST_S = 900.0
# In these invocations all backends fail at once and the function writes much, so that memory has reached its peak by
# then.
SQUALL = range(60, 100)
# Small enough to be filled, so that the spool has to take the rest.
BUFFERS = {"TELEMETRY_FORWARDER_BUFFER_RECORDS": "2000", "TELEMETRY_FORWARDER_BUFFER_BYTES": str(1024 * 1024)}
# The memory growth allowed over the whole run, as code is used for the first time; and over its second half.
GROWTH_KB = 16 * 1024
LATE_GROWTH_KB = 8 * 1024
# Without TLS there is no certificate to go wrong.
WEATHER = tuple(name for name, wrong in WRONGS.items() if not wrong.needs_tls)


@dataclass
class Weather:
    """The current fault of each backend, and the invocation at which it ends."""

    dice: random.Random
    squall: range
    wrongs: dict[str, tuple[str, Wrong, int]] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)

    async def change(self, world: MatrixWorld, number: int) -> None:
        """End the faults that are over, and start a fault in a healthy backend now and then."""
        for sink in world.sinks:
            backend = world.base.backend(sink)
            if sink in self.wrongs and number >= self.wrongs[sink][2]:
                await self.wrongs.pop(sink)[1].end(backend)
                backend.drop_connections()  # a hanging request is not waited for after the recovery
            if sink in self.wrongs:
                continue
            if number in self.squall:
                await self._begin(world, sink, "503", self.squall.stop)
            elif self.dice.random() < 0.015:
                await self._begin(world, sink, self.dice.choice(WEATHER), number + self.dice.randint(1, 25))

    async def _begin(self, world: MatrixWorld, sink: str, name: str, until: int) -> None:
        await WRONGS[name].begin(sink, world.base.backend(sink), untrusted=None, is_withheld=False)
        self.wrongs[sink] = (name, WRONGS[name], until)
        self.seen.add((sink, name))

    async def clear(self, world: MatrixWorld) -> None:
        for sink, (_, wrong, _) in self.wrongs.items():
            await wrong.end(world.base.backend(sink))
            world.base.backend(sink).drop_connections()
        self.wrongs.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run. `resets` is the share of invocations that crash or time out, so that a new generation follows.

    Memory is measured only without resets, so that one process lives through the whole run.
    """

    seed: int
    invocations: int
    resets: float = 0.0
    squall: range = SQUALL

    @property
    def timeout_s(self) -> float:
        return 4.0 if self.resets else 10.0


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a soak; `memory_kb` maps invocations to the extension's resident memory, in KiB."""

    invocations: int
    generations: int
    memory_kb: dict[int, int]
    sums: dict[str, str]
    problems: list[str]


async def soak(plan: Plan, folder: Path, say: Callable[[str], None]) -> Result:
    """Run `plan`; return the measurements and the problems."""
    dice = random.Random(plan.seed)
    weather, memory_kb, expected = Weather(dice, plan.squall), {}, []
    async with open_world(folder, SINKS, timeout_s=plan.timeout_s, **BUFFERS) as opened:
        for number in range(1, plan.invocations + 1):
            await weather.change(opened, number)
            expected.append(await _invoke(opened, dice, plan, is_flood=number in plan.squall))
            if number % WARM == 0 or number == plan.invocations:
                await weather.clear(opened)
                memory_kb[number] = await _memory_at_rest(opened)
                expected += ["success"] * AT_REST
                faults = f"{len(weather.seen)} of {len(SINKS) * len(WEATHER)} faults so far"
                say(f"{number} of {plan.invocations} invocations, {_mb(memory_kb[number])} resident, {faults}")
        problems = await _recover(opened, expected)
        await opened.env.shutdown()
        problems += [] if plan.resets else growth(memory_kb)
        ended = Counter(each.status for each in opened.invocations)
        if [each.status for each in opened.invocations] != expected:
            problems.append(f"invocations ended {dict(ended)}, and should have {dict(Counter(expected))}")
        problems += overruns(opened)
        sums = {}
        for sink in SINKS:
            sums[sink], found = _settle(opened, sink, LEAVING_S if plan.resets else 0.0)
            problems += [f"{sink}: {each}" for each in found]
        return Result(len(expected), opened.env.transcript.generation, memory_kb, sums, problems)


async def _invoke(world: MatrixWorld, dice: random.Random, plan: Plan, *, is_flood: bool) -> str:
    """Invoke once with a random load and ending; return the status that it should have."""
    lines = 1000 if is_flood or dice.random() < 0.01 else dice.randint(0, 30)
    work_s = dice.choice((0, 0, 0.005, 0.02))
    ending = dice.choice(("error", "error", "timeout")) if dice.random() < plan.resets else "success"
    match ending:
        case "timeout":
            await world.invoke(lines=lines, sleep=plan.timeout_s + 1)
        case "error":
            await world.invoke(lines=lines, sleep=work_s, exit=7)
        case _:
            await world.invoke(lines=lines, sleep=work_s)
    if dice.random() < 0.2:
        await asyncio.sleep(dice.uniform(0.0, 0.1))  # frozen
    return ending


async def _memory_at_rest(world: MatrixWorld) -> int:
    """Return the extension's resident memory, in KiB, with healthy backends; of an outage it may still hold records."""
    for _ in range(AT_REST):
        await world.invoke(sleep=0.05)
    return _memory_kb(world.env.pids[NAME])


async def _recover(world: MatrixWorld, expected: list[str]) -> list[str]:
    """Invoke until every backend, all healthy now, has all emitted records; return which ones lack some at the end."""
    lacking = {sink: _Lacking(world, sink) for sink in world.sinks}
    for _ in range(RECOVERY):
        await world.invoke(sleep=0.05)
        expected.append("success")
        missing = {sink: left for sink in world.sinks if (left := lacking[sink].count()) > FRESH}
        if not missing:
            return []
        await asyncio.sleep(1.0)  # frozen; time for the breaker's pause to pass
    return [f"{sink}, well again for {RECOVERY} invocations, lacks {left}" for sink, left in missing.items()]


class _Lacking:
    """Counts the records that a backend still lacks. Each record is read only once: there are a hundred thousand."""

    def __init__(self, world: MatrixWorld, sink: str) -> None:
        self._world = world
        self._sink = sink
        self._emitted = self._kept = 0  # how many have been read
        self._keys: Counter[Key] = Counter()

    def count(self) -> int:
        """Return the number of missing records, without those that the backend refused for good."""
        kept, emitted_since = self._world.base.backend(self._sink).kept, self._world.env.telemetry_since(self._emitted)
        self._keys.update(map(key_of, wanted(emitted_since)))
        for each in kept[self._kept :]:
            if self._keys[key := READ[self._sink](each)] > 0:  # else it is a repeat
                self._keys[key] -= 1
        self._emitted, self._kept = self._emitted + len(emitted_since), len(kept)
        return self._keys.total() - refused(self._world.base, self._sink)


def _memory_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(row.split()[1]) for row in status.splitlines() if row.startswith("VmRSS:"))


def growth(memory_kb: Mapping[int, int]) -> list[str]:
    """Return where memory grew too much: over all samples, or over the second half of them."""
    samples = [memory_kb[number] for number in sorted(memory_kb)]
    half = len(samples) // 2
    found = [("over the run", samples[0], GROWTH_KB)]
    if half:
        found.append(("over its second half", samples[half], LATE_GROWTH_KB))
    return [
        f"memory grew {when} from {_mb(first)} to {_mb(samples[-1])}; {_mb(allowed)} are allowed"
        for when, first, allowed in found
        if samples[-1] > first + allowed
    ]


def _mb(kb: int) -> str:
    return f"{kb / 1024:.1f} MB"


def _settle(world: MatrixWorld, sink: str, leaving_s: float) -> tuple[str, list[str]]:
    """Return the sums of one sink in words, and its problems."""
    truth, told = emitted(world.base), books(world.base.ledgers, sink)
    unsure = unanswered(world.base, sink, leaving_s=leaving_s)
    found = differences(truth, arrived(world.base, sink), unsure + copied(world.base, sink, told.copies))
    lost = sum(told.lost.values())
    reasons = "".join(f" ({count} {reason})" for reason, count in told.lost.items() if count)
    words = f"{truth.total()} emitted, {told.delivered} delivered, {lost} lost{reasons}, {found.repeated} repeated"
    again = [f"{found.unexcused} arrived twice without a reason"] if found.unexcused else []
    return words, [*found.invented, *again, *told.problems(truth.total(), found, unsure=unsure.total())]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--invocations", type=int, default=INVOCATIONS)
    arguments = parser.parse_args(argv)
    print(f"Seed {arguments.seed}: `make soak SEED={arguments.seed}` plays the same again.", flush=True)
    plans = [
        Plan(seed=arguments.seed, invocations=arguments.invocations),
        Plan(seed=arguments.seed, invocations=min(WITH_RESETS, arguments.invocations), resets=RESETS),
    ]
    return int(any(problems for problems in asyncio.run(_bounded(plans))))


async def _bounded(plans: Sequence[Plan]) -> list[list[str]]:
    async with asyncio.timeout(LONGEST_S):
        return [await _play(plan) for plan in plans]


async def _play(plan: Plan) -> list[str]:
    began = time.monotonic()
    endings = f"{plan.resets:.0%} of them end in a crash or a timeout" if plan.resets else "one process for all"
    print(f"An environment of {plan.invocations} invocations and the recovery; {endings}.", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        result = await soak(plan, Path(folder), lambda text: print(text, flush=True))
    took, memory = time.monotonic() - began, list(result.memory_kb.values())
    print(f"{result.invocations} invocations in all, {result.generations} processes, {took:.0f} s.")
    if not plan.resets:
        print(f"Resident memory: {_mb(memory[0])} at first, {_mb(max(memory))} at most, {_mb(memory[-1])} at last.")
    for sink, words in result.sums.items():
        print(f"{sink}: {words}")
    for problem in result.problems:
        print(f"✗ {problem}")
    if not result.problems:
        print("✓ Nothing is lost without a word, the books balance, no deadline is overrun, memory is bounded.")
    return result.problems


if __name__ == "__main__":
    sys.exit(main())
