"""The matrix by memory, which also means by processor: a function of 128 MB has a fourteenth of one.

Four thousand lines in one invocation are then more work than fits into a hold. The hold must end in time anyway, and
nothing may be lost if the backend recovers well before the end. The processor share comes from the local Lambda, which
needs control groups for it.
"""

import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path

from tests.integration.world import SINKS
from tests.lateness import lateness
from tests.matrix.course import WORK_S, Outcome, Trial, outcome, overruns
from tests.matrix.table import grid, problems, sums
from tests.matrix.world import MatrixWorld, open_world
from tests.matrix.wrongs import WRONGS

SIZES_MB = (128, 256, 1769)
STRATEGIES = ("end", "periodic", "continuous", "adaptive")
FAULTS = ("ok", "slow 200 ms", "hang", "503")
ENDING = "spindown"
LINES = 4000
TIMEOUT_S = 30.0
# The number of invocations after the backend has recovered, and the time of their handlers: at 128 MB that is a tenth
# of a second of CPU, in which held records are sent.
AFTERWARDS = 3
AFTERWARDS_S = 1.5
# The longest hold by default, and the addition for a share of a processor: it comes in pieces, one per tenth of a
# second, and work that is due between two pieces waits for the next.
FLUSH_TIMEOUT_MS = 500.0
PIECE_MS = 100.0

LEGEND = (
    f"One backend, and a function that writes {LINES} lines in each of two invocations while it is unwell; then it is "
    f"well, and {AFTERWARDS} invocations of five lines and {AFTERWARDS_S:g} s follow before SHUTDOWN. The number is "
    "the longest hold, in ms. As it should be: every hold within the flush time-out of 500 ms and what the process "
    "that plays Lambda and the backend was itself late by meanwhile (below a whole processor, one piece of a share "
    "more: 100 ms), nothing lost, and the books balanced. `+n`: n records arrived twice, as an answer was read so late "
    "that the request went out again; not with a whole processor. Columns: the memory, with the share of a processor "
    "that goes with it, each with the strategies end, periodic, continuous, adaptive."
)
NOT_PLAYED = "The sizes are not played: no control group for a share of a processor can be made here."


def whole() -> list[Trial]:
    """Return every cell: each sink alone, with each fault, strategy and size."""
    chosen = product(FAULTS, STRATEGIES, SINKS, SIZES_MB)
    return [Trial(fault, ENDING, strategy, (sink,), size) for fault, strategy, sink, size in chosen]


# Every fault, strategy, sink and size; the smallest size with each sink.
SPREAD: tuple[tuple[str, str, str, int], ...] = (
    ("ok", "end", "cloudwatch", 128),
    ("slow 200 ms", "continuous", "datadog", 128),
    ("hang", "adaptive", "splunk", 128),
    ("503", "periodic", "cloudwatch", 256),
    ("hang", "end", "datadog", 1769),
)


def spread() -> list[Trial]:
    """Return the cells that continuous integration runs."""
    return [Trial(fault, ENDING, strategy, (sink,), size) for fault, strategy, sink, size in SPREAD]


async def run(trial: Trial, folder: Path) -> list[Outcome]:
    """Run one environment of a function of `trial.memory_mb`; return its outcome."""
    began = time.monotonic()
    wrong, (sink,) = WRONGS[trial.wrong], trial.sinks
    # The whole start within INIT: at 128 MB it takes several seconds just to load the AWS SDK.
    given = {"TELEMETRY_FORWARDER_FLUSH": trial.strategy, "TELEMETRY_FORWARDER_INIT_BUDGET_MS": "9000"}
    async with open_world(folder, trial.sinks, timeout_s=TIMEOUT_S, memory_mb=trial.memory_mb, **given) as opened:
        backend = opened.base.backend(sink)
        found = await _invoke(opened, trial, 5, WORK_S)
        await wrong.begin(sink, backend, untrusted=None, is_withheld=False)
        for _ in range(2):
            found += await _invoke(opened, trial, LINES, WORK_S)
        await wrong.end(backend)
        for _ in range(AFTERWARDS):
            found += await _invoke(opened, trial, 5, AFTERWARDS_S)
        await opened.env.shutdown()
        found += overruns(opened)
        # With a small share an answer may be read so late that the request was already sent again.
        settled = outcome(opened, trial, sink, time.monotonic() - began, found, may_repeat=_has_a_share(trial))
    if settled.lost:
        lost = ", ".join(f"{count} as {reason}" for reason, count in settled.lost.items())
        settled = replace(settled, problems=[*settled.problems, f"lost {lost}"])
    return [settled]


async def _invoke(opened: MatrixWorld, trial: Trial, lines: int, work_s: float) -> list[str]:
    """Invoke once; return what was wrong with its status or the time it was held."""
    async with lateness() as late:
        result = await opened.invoke(lines=lines, sleep=work_s)
        held_ms = result.extension_overhead_ms
        late_ms = late.last_ms(held_ms or 0.0)
    if result.status != "success" or held_ms is None:
        return [f"an invocation ended {result.status}"]
    allowed_ms = FLUSH_TIMEOUT_MS + (PIECE_MS if _has_a_share(trial) else 0.0) + late_ms
    return [f"held {held_ms:.0f} ms of {allowed_ms:.0f}"] if held_ms > allowed_ms else []


def _has_a_share(trial: Trial) -> bool:
    return trial.memory_mb is not None and trial.memory_mb < SIZES_MB[-1]


def markdown(outcomes: Iterable[Outcome]) -> str:
    """Return the table of every sink, and the problems; "" if no cell was run."""
    played = {(each.sink, each.trial.wrong, each.trial.memory_mb, each.trial.strategy): each for each in outcomes}
    if not played:
        return ""
    parts = [f"{sums(list(played.values()))}\n\n{LEGEND}"]
    columns = [(f"{size_mb} MB", strategy) for size_mb, strategy in product(SIZES_MB, STRATEGIES)]
    for sink in SINKS:
        rows = [
            [fault, *(_cell(played.get((sink, fault, *each))) for each in product(SIZES_MB, STRATEGIES))]
            for fault in FAULTS
        ]
        parts.append(f"#### {sink}\n\n{grid(columns, rows)}")
    parts.append(problems(played.values()))
    return "\n\n".join(part for part in parts if part) + "\n"


def _cell(played: Outcome | None) -> str:
    return "." if played is None else f"{played.text} {played.held_ms:.0f}"
