"""`make soak`: thousands of invocations of one environment while its backends go wrong at random, then the books.

The dice are seeded and the seed is printed: the same seed plays the same faults at the same invocations.
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
from tests.matrix.room import Room, room
from tests.matrix.wrongs import WRONGS, Wrong

INVOCATIONS = 2000
# Where memory is first measured: everything has been loaded and used by then.
WARM = 200
# One a second: the longest pause of a breaker is 30 s, and a backlog takes its time. It is sent while an invocation
# lasts, so that invocations are what counts, not how long a busy machine takes for them.
RECOVERY = 120
# What the last invocation may still be on the way with.
FRESH = 20
# Invocations before a measurement, for what was held to be sent.
AT_REST = 3
# A second environment, which is reset time and again: each time another generation takes over what is held.
RESETS = 0.08
WITH_RESETS = 200
LONGEST_S = 900.0
# There all backends are away at once and the function writes much, so that memory has had its high tide by then.
SQUALL = range(60, 100)
# Small enough for the tide to be reached, and for the spool to take what is above it.
BUFFERS = {"TELEMETRY_FORWARDER_BUFFER_RECORDS": "2000", "TELEMETRY_FORWARDER_BUFFER_BYTES": str(1024 * 1024)}
# What may come over the whole, as ways are used for the first time; and over its second half, when all have been.
GROWTH_KB = 16 * 1024
LATE_GROWTH_KB = 8 * 1024
# A certificate cannot be changed where nothing speaks TLS.
WEATHER = tuple(name for name, wrong in WRONGS.items() if not wrong.needs_tls)


@dataclass
class Weather:
    """What is wrong with each backend, and until which invocation."""

    dice: random.Random
    squall: range
    wrongs: dict[str, tuple[str, Wrong, int]] = field(default_factory=dict)
    seen: set[tuple[str, str]] = field(default_factory=set)

    async def change(self, room: Room, number: int) -> None:
        """End what is over, and let a backend that is well go wrong every now and then."""
        for sink in room.sinks:
            backend = room.world.backend(sink)
            if sink in self.wrongs and number >= self.wrongs[sink][2]:
                await self.wrongs.pop(sink)[1].end(backend)
                backend.drop_connections()  # what hung is not waited for when the service is well again
            if sink in self.wrongs:
                continue
            if number in self.squall:
                await self._begin(room, sink, "503", self.squall.stop)
            elif self.dice.random() < 0.015:
                await self._begin(room, sink, self.dice.choice(WEATHER), number + self.dice.randint(1, 25))

    async def _begin(self, room: Room, sink: str, name: str, until: int) -> None:
        await WRONGS[name].begin(sink, room.world.backend(sink), untrusted=None, is_withheld=False)
        self.wrongs[sink] = (name, WRONGS[name], until)
        self.seen.add((sink, name))

    async def clear(self, room: Room) -> None:
        for sink, (_, wrong, _) in self.wrongs.items():
            await wrong.end(room.world.backend(sink))
            room.world.backend(sink).drop_connections()
        self.wrongs.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is played. `resets` is the share of invocations that crash or time out, so that another generation follows.

    Memory is measured where there are none, so that one process lives through all of it.
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
    """What a soak came to; `memory_kb` are the samples of the extension's resident memory, by invocation."""

    invocations: int
    generations: int
    memory_kb: dict[int, int]
    sums: dict[str, str]
    problems: list[str]


async def soak(plan: Plan, folder: Path, say: Callable[[str], None]) -> Result:
    """Play `plan`; return what was measured, and what is not as it should be."""
    dice = random.Random(plan.seed)
    weather, memory_kb, expected = Weather(dice, plan.squall), {}, []
    async with room(folder, SINKS, timeout_s=plan.timeout_s, **BUFFERS) as opened:
        for number in range(1, plan.invocations + 1):
            await weather.change(opened, number)
            expected.append(await _invoke(opened, dice, plan, is_flood=number in plan.squall))
            if number % WARM == 0 or number == plan.invocations:
                await weather.clear(opened)
                memory_kb[number] = await _memory_at_rest(opened)
                expected += ["success"] * AT_REST
                say(f"{number} invocations, {memory_kb[number] / 1024:.1f} MB, {len(weather.seen)} kinds of fault")
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


async def _invoke(room: Room, dice: random.Random, plan: Plan, *, is_flood: bool) -> str:
    """Invoke once, with luck to a good end; return the status that it should have."""
    lines = 1000 if is_flood or dice.random() < 0.01 else dice.randint(0, 30)
    work_s = dice.choice((0, 0, 0.005, 0.02))
    ending = dice.choice(("error", "error", "timeout")) if dice.random() < plan.resets else "success"
    match ending:
        case "timeout":
            await room.invoke(lines=lines, sleep=plan.timeout_s + 1)
        case "error":
            await room.invoke(lines=lines, sleep=work_s, exit=7)
        case _:
            await room.invoke(lines=lines, sleep=work_s)
    if dice.random() < 0.2:
        await asyncio.sleep(dice.uniform(0.0, 0.1))  # frozen
    return ending


async def _memory_at_rest(room: Room) -> int:
    """Return the extension's resident memory, in KiB, when nothing is wrong and little is held."""
    for _ in range(AT_REST):
        await room.invoke(sleep=0.05)
    return _memory_kb(room.env.pids[NAME])


async def _recover(room: Room, expected: list[str]) -> list[str]:
    """Invoke until every backend, all well now, has what was emitted; say which has not at the end."""
    lacking = {sink: _Lacking(room, sink) for sink in room.sinks}
    for _ in range(RECOVERY):
        await room.invoke(sleep=0.05)
        expected.append("success")
        missing = {sink: left for sink in room.sinks if (left := lacking[sink].count()) > FRESH}
        if not missing:
            return []
        await asyncio.sleep(1.0)  # frozen: the pauses of a breaker are to pass
    return [f"{sink}, well again for {RECOVERY} invocations, lacks {left}" for sink, left in missing.items()]


class _Lacking:
    """What a backend has not yet of what was emitted, each record looked at once: there are a hundred thousand."""

    def __init__(self, room: Room, sink: str) -> None:
        self._room = room
        self._sink = sink
        self._emitted = self._kept = 0  # how many have been looked at
        self._keys: Counter[Key] = Counter()

    def count(self) -> int:
        """Count the records, without those that the backend refused for good."""
        kept, emitted_since = self._room.world.backend(self._sink).kept, self._room.env.telemetry_since(self._emitted)
        self._keys.update(map(key_of, wanted(emitted_since)))
        for each in kept[self._kept :]:
            if self._keys[key := READ[self._sink](each)] > 0:  # else it came again
                self._keys[key] -= 1
        self._emitted, self._kept = self._emitted + len(emitted_since), len(kept)
        return self._keys.total() - refused(self._room.world, self._sink)


def _memory_kb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(row.split()[1]) for row in status.splitlines() if row.startswith("VmRSS:"))


def growth(memory_kb: Mapping[int, int]) -> list[str]:
    """Say where memory is not flat: over all samples, or over the second half of them."""
    samples = [memory_kb[number] for number in sorted(memory_kb)]
    half = len(samples) // 2
    found = [(samples[0], GROWTH_KB), (samples[half], LATE_GROWTH_KB if half else GROWTH_KB)]
    return [
        f"memory grew from {first} to {samples[-1]} KiB" for first, allowed in found if samples[-1] > first + allowed
    ]


def _settle(room: Room, sink: str, leaving_s: float) -> tuple[str, list[str]]:
    """Return the sums of one sink in words, and what is not as it should be."""
    truth, told = emitted(room.world), books(room.world.ledgers, sink)
    unsure = unanswered(room.world, sink, leaving_s=leaving_s)
    found = differences(truth, arrived(room.world, sink), unsure + copied(room.world, sink, told.copies))
    lost = sum(told.lost.values())
    words = (
        f"{truth.total()} emitted, {told.delivered} delivered, {lost} lost {dict(told.lost)}, {found.repeated} repeated"
    )
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
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        result = await soak(plan, Path(folder), lambda text: print(text, flush=True))
    print(f"{result.invocations} invocations in {result.generations} generations, {time.monotonic() - began:.0f} s.")
    for sink, words in result.sums.items():
        print(f"{sink}: {words}")
    for problem in result.problems:
        print(f"✗ {problem}")
    return result.problems


if __name__ == "__main__":
    sys.exit(main())
