"""The course of one environment: healthy, then failing backends, then an ending, then (usually) the next generation."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local_lambda import Invocation, Shutdown
from tests.integration.world import EXTENSION
from tests.matrix.books import arrived, books, copied, differences, emitted, refused, unanswered, wanted
from tests.matrix.world import MatrixWorld, open_world
from tests.matrix.wrongs import WRONGS, Wrong

# Long enough for several starts at once, each within an invocation, on a slow machine.
TIMEOUT_S = 5.0
# The time of a handler, so that a delivery can run in parallel with it.
WORK_S = 0.05
# How long the environment is frozen while the answer arrives.
FROZEN_S = 0.3
NAME = EXTENSION.name
# The time a process may need for its exit, in which it reads no more answers.
LEAVING_S = 0.6


@dataclass(frozen=True, slots=True)
class Trial:
    """One environment; each of `sinks` is a cell of the matrix."""

    wrong: str
    ending: str
    strategy: str
    sinks: tuple[str, ...]
    memory_mb: int | None = None  # with the matching share of a processor: see sizes.py

    def __str__(self) -> str:
        size = f", {self.memory_mb} MB" if self.memory_mb else ""
        return f"{self.wrong}, {self.ending}, {self.strategy}{size}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one cell, in records; `problems` is empty if all is as it should be.

    `unknown` records were acknowledged by a generation that was killed, and neither arrived nor were reported.
    """

    trial: Trial
    sink: str
    emitted: int = 0
    arrived: int = 0
    repeated: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    unknown: int = 0
    held_ms: float = 0.0  # the longest hold of an invocation after its runtime was done
    seconds: float = 0.0
    problems: Sequence[str]

    @property
    def text(self) -> str:
        """The cell's text in the table."""
        parts = [f"-{sum(self.lost.values())}"] if self.lost else []
        parts += [f"+{self.repeated}"] if self.repeated else []
        parts += [f"?{self.unknown}"] if self.unknown else []
        return ("✗ " if self.problems else "") + ("".join(parts) or "=")


@dataclass(frozen=True, slots=True)
class Ending:
    """One way to end. `play` does it while the backends fail; `status` is the status of its invocation, if any."""

    play: Callable[[MatrixWorld], Awaitable[Invocation | None]]
    status: str = "success"
    has_next: bool = True  # a generation, or an invocation, follows
    kills: bool = False
    is_strict: bool = False  # TELEMETRY_FORWARDER_DURABILITY
    withholds: bool = False


async def _spindown(world: MatrixWorld) -> None:
    """Do nothing: the environment ends between two invocations, by a normal SHUTDOWN."""


async def _time_out(world: MatrixWorld) -> Invocation:
    return await world.invoke(sleep=world.timeout_s + 1)


async def _crash(world: MatrixWorld) -> Invocation:
    return await world.invoke(sleep=WORK_S, exit=7)


async def _kill(world: MatrixWorld) -> Invocation:
    """Kill the extension after it has acknowledged all that the function wrote, while the function still runs."""
    ours = world.env.pids[NAME]
    before = world.lines
    async with asyncio.TaskGroup() as group:
        invoking = group.create_task(world.invoke(sleep=world.timeout_s / 2))
        await world.env.until(lambda: _has_all(world, before))
        os.kill(ours, signal.SIGKILL)
        world.last_batch = world.batches[-1]
    return invoking.result()


def _has_all(world: MatrixWorld, lines: int) -> bool:
    """Return whether the extension has acknowledged all records so far, including more than `lines` lines."""
    types = [event["type"] for event in wanted(world.env.telemetry)]
    return types.count("function") > lines and sum(world.batches) == len(types)


async def _freeze(world: MatrixWorld) -> Invocation:
    """Freeze while a request is withheld; its result arrives while the process is frozen."""
    result = await world.invoke(sleep=WORK_S)
    for sink in world.withheld:
        world.base.backend(sink).faults.release()
    await asyncio.sleep(FROZEN_S)
    return result


ENDINGS: Mapping[str, Ending] = {
    "spindown": Ending(_spindown, has_next=False),
    "timeout": Ending(_time_out, status="timeout"),
    "crash": Ending(_crash, status="error"),
    "kill -9": Ending(_kill, status="error", kills=True),
    "kill -9, strict": Ending(_kill, status="error", kills=True, is_strict=True),
    "freeze": Ending(_freeze, withholds=True),
}


async def run(trial: Trial, folder: Path, *, timeout_s: float = TIMEOUT_S) -> list[Outcome]:
    """Run one environment of a function with this timeout; return the outcomes, a cell for each sink."""
    began = time.monotonic()
    wrong, ending = WRONGS[trial.wrong], ENDINGS[trial.ending]
    given = {
        "TELEMETRY_FORWARDER_FLUSH": trial.strategy,
        "TELEMETRY_FORWARDER_DURABILITY": "strict" if ending.is_strict else "relaxed",
    }
    async with open_world(folder, trial.sinks, over_tls=wrong.needs_tls, timeout_s=timeout_s, **given) as opened:
        await _play(opened, wrong, ending)
        await opened.env.shutdown()
        common = [*_statuses(opened, ending), *overruns(opened, may_be_gone=ending.kills)]
        seconds = time.monotonic() - began
        return [outcome(opened, trial, sink, seconds, common) for sink in trial.sinks]


async def _play(world: MatrixWorld, wrong: Wrong, ending: Ending) -> None:
    await world.invoke(sleep=WORK_S)
    for sink in world.sinks:
        backend = world.base.backend(sink)
        await wrong.begin(sink, backend, untrusted=world.untrusted, is_withheld=ending.withholds)
        if wrong.can_be_withheld(sink):
            world.withheld.append(sink)
    if not ending.withholds:
        await world.invoke(sleep=WORK_S)
    await ending.play(world)
    if ending.has_next:
        for sink in world.sinks:
            await wrong.end(world.base.backend(sink))
        await world.invoke(sleep=WORK_S)


def _statuses(world: MatrixWorld, ending: Ending) -> list[str]:
    """Return which invocations ended with the wrong status, above all with a timeout that the extension caused."""
    place = -2 if ending.has_next else -1
    wanted = ["success"] * len(world.invocations)
    wanted[place] = ending.status
    found = [each.status for each in world.invocations]
    return [] if found == wanted else [f"invocations ended {', '.join(found)}"]


def overruns(world: MatrixWorld, *, may_be_gone: bool = False) -> list[str]:
    """Return the SHUTDOWNs that the extension overran; `may_be_gone`: it was killed before one of them."""
    ends = [*world.env.resets, world.env.shutdown_result]
    return [found for end in ends if end is not None and (found := _overrun(end, may_be_gone=may_be_gone))]


def _overrun(end: Shutdown, *, may_be_gone: bool) -> str:
    """Return why this end is bad, or "": the extension must exit by itself, in time and with exit code 0."""
    ours = end.extensions[NAME]
    if may_be_gone and end.reason == "failure" and ours.exit_code == -signal.SIGKILL and not ours.killed:
        return ""
    if ours.killed:
        return f"SHUTDOWN ({end.reason}) was overrun"
    return "" if ours.exit_code == 0 else f"exit code {ours.exit_code} at SHUTDOWN ({end.reason})"


def outcome(
    world: MatrixWorld, trial: Trial, sink: str, seconds: float, common: Sequence[str], *, may_repeat: bool = False
) -> Outcome:
    """Return the outcome of one cell after the environment has ended; `common` are the problems of all its cells.

    With `may_repeat` a request may have been sent again while its answer was on the way.
    """
    wrong, ending = WRONGS[trial.wrong], ENDINGS[trial.ending]
    truth, told = emitted(world.base), books(world.base.ledgers, sink)
    unsure = unanswered(world.base, sink, leaving_s=LEAVING_S if wrong.is_ambiguous else 0.0)
    found = differences(truth, arrived(world.base, sink), unsure + copied(world.base, sink, told.copies))
    problems = [*common, *found.invented]
    # A killed process may have received an answer without recording it: the requests cannot show that.
    if again := 0 if may_repeat or (ending.kills and wrong.stores) else found.unexcused:
        problems.append(f"{again} arrived twice without a reason")
    unknown = max(0, found.missing - told.gone) if ending.kills else 0
    # Records that a backend refused for good were lost before the kill; the ledger with them ended with the process.
    if unknown > refused(world.base, sink) + (0 if ending.is_strict else world.last_batch):
        problems.append(f"{unknown} acknowledged records went with the killed process")
    if wrong.is_well_again and told.lost:
        problems.append(f"lost although all was well before the end: {told.lost}")
    if not ending.kills:
        problems += told.problems(truth.total(), found, unsure=unsure.total())
    return Outcome(
        trial=trial,
        sink=sink,
        emitted=truth.total(),
        arrived=truth.total() - found.missing,
        repeated=found.repeated,
        lost=told.lost,
        unknown=unknown,
        held_ms=max((each.extension_overhead_ms or 0.0 for each in world.invocations), default=0.0),
        seconds=seconds,
        problems=problems,
    )
