"""What a run of `make bench-quick` is compared with: ratios that are stored, and the rule for what counts as worse.

A figure is a ratio: what the extension takes, divided by what a reference of the same kind takes in the same round (the
bare interpreter, an idle extension, a loop over the same bytes). So it can be compared with another day's and, as long
as interpreter and processor are of one kind, with another machine's. Less is better.
"""

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PATH = Path(__file__).with_name("baseline.json")
# A figure that has changed by less is the same, however quiet the machine: a build of the interpreter, the layout of
# memory and the state of a file system make as much.
LEAST = 0.06
# So many standard errors are more than the noise.
ERRORS = 3.0
_MAD = 1.4826  # the median absolute deviation of a normal distribution, as a share of the standard one's inverse
_OF_MEDIAN = 1.2533  # the standard error of a median, with that of the mean as the unit

Verdict = Literal["worse", "better", "same", "new"]


@dataclass(frozen=True)
class Stored:
    """A figure of the baseline: the median of its ratios, and the noise of such a median, as a share of it."""

    median: float
    noise: float


@dataclass(frozen=True)
class Change:
    """A figure beside its baseline: by what share it has changed, and what share the noise makes up at most."""

    name: str
    now: float
    before: float | None
    by: float
    limit: float

    @property
    def verdict(self) -> Verdict:
        if self.before is None:
            return "new"
        if abs(self.by) <= self.limit:
            return "same"
        return "worse" if self.by > 0 else "better"


def error_of(rounds: Sequence[float]) -> float:
    """Return the standard error of the median of `rounds`, as a share of it, from their median absolute deviation."""
    middle = statistics.median(rounds)
    spread = statistics.median(abs(one - middle) for one in rounds)
    return _OF_MEDIAN * _MAD * spread / math.sqrt(len(rounds)) / middle


def stored(runs: Sequence[Sequence[float]]) -> Stored:
    """Make a baseline of the rounds of several runs. Its noise is that between the runs or, if more, within one."""
    medians = [statistics.median(rounds) for rounds in runs]
    middle = statistics.median(medians)
    between = statistics.stdev(medians) / middle if len(medians) > 1 else 0.0
    return Stored(median=middle, noise=max(between, statistics.median(map(error_of, runs))))


def compare(found: Mapping[str, Sequence[float]], baseline: Mapping[str, Stored]) -> list[Change]:
    """Compare the rounds of each figure with its baseline."""
    changes = []
    for name, rounds in found.items():
        now, before = statistics.median(rounds), baseline.get(name)
        if before is None:
            changes.append(Change(name, now, None, 0.0, 0.0))
            continue
        limit = max(LEAST, ERRORS * math.hypot(before.noise, error_of(rounds)))
        changes.append(Change(name, now, before.median, now / before.median - 1, limit))
    return changes


def judge(
    found: Mapping[str, Sequence[float]],
    baseline: Mapping[str, Stored],
    again: Callable[[set[str]], Mapping[str, Sequence[float]]],
) -> dict[str, Change]:
    """Compare, and let `again` measure once more what seems worse: the second result is the one that counts."""
    changes = {one.name: one for one in compare(found, baseline)}
    if doubted := {name for name, one in changes.items() if one.verdict == "worse"}:
        second = again(doubted)
        changes |= {one.name: one for one in compare({name: second[name] for name in doubted}, baseline)}
    return changes


def load(kind: str, path: Path = PATH) -> dict[str, Stored] | None:
    """Return the baseline for `kind`, which names interpreter and processor; None if there is none."""
    if not path.is_file():
        return None
    figures = json.loads(path.read_text()).get(kind)
    return None if figures is None else {name: Stored(**figure) for name, figure in figures.items()}


def save(kind: str, figures: Mapping[str, Stored], path: Path = PATH) -> None:
    """Write the baseline for `kind`, and leave those for others as they are."""
    kept = json.loads(path.read_text()) if path.is_file() else {}
    kept[kind] = {name: {"median": round(one.median, 4), "noise": round(one.noise, 4)} for name, one in figures.items()}
    path.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
