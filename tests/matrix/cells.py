"""The cells of the fault matrix, and those that continuous integration runs."""

from itertools import product

from tests.integration.world import SINKS
from tests.matrix.course import ENDINGS, Trial
from tests.matrix.places import GROUPS, PLACES
from tests.matrix.wrongs import WRONGS

STRATEGIES = ("end", "periodic", "continuous", "adaptive")
# What is played for the sinks of `places`. What their backends answer is the business of the contract of sinks, which
# each of them keeps; what happens on the road, or before an answer comes, needs the real process.
OF_THE_ROAD = ("ok", "slow 1 s", "refuse", "reset, stored", "hang", "hang, stored", "503", "TLS error", "half answer")
FEWER_STRATEGIES = ("end", "continuous")


def whole(*, is_alone: bool = False) -> list[Trial]:
    """Return every cell. Three cells share an environment, whose backends fail alike; with `is_alone` each has one."""
    first, others = [SINKS], [*GROUPS]
    if is_alone:
        first, others = [[(sink,) for sink in group] for group in (SINKS, PLACES)]
    found = [*product(WRONGS, ENDINGS, STRATEGIES, first), *product(OF_THE_ROAD, ENDINGS, FEWER_STRATEGIES, others)]
    return [Trial(*chosen) for chosen in found]


# Every fault, every ending with every strategy, and cases that have failed before or look likely to: an answer that
# arrives while frozen, a request stored but not answered at each ending, an outage at each reset.
SPREAD: tuple[tuple[str, str, str], ...] = (
    ("ok", "kill -9", "continuous"),
    ("slow 200 ms", "crash", "end"),
    ("slow 1 s", "freeze", "end"),
    ("slow 10 s", "spindown", "adaptive"),
    ("refuse", "timeout", "periodic"),
    ("reset", "crash", "continuous"),
    ("reset, stored", "kill -9", "end"),
    ("hang", "timeout", "adaptive"),
    ("hang", "freeze", "continuous"),
    ("hang, stored", "freeze", "periodic"),
    ("hang, stored", "spindown", "end"),
    ("hang, then well", "spindown", "end"),
    ("hang, then well", "freeze", "adaptive"),
    ("400, then well", "spindown", "periodic"),
    ("503 + 30 s, then well", "spindown", "continuous"),
    ("429", "spindown", "periodic"),
    ("500", "crash", "periodic"),
    ("503", "timeout", "end"),
    ("503", "kill -9", "adaptive"),
    ("401", "crash", "adaptive"),
    ("403", "kill -9", "periodic"),
    ("partial", "freeze", "adaptive"),
    ("TLS error", "spindown", "continuous"),
    ("half answer", "timeout", "continuous"),
    ("ok", "kill -9, strict", "end"),
    ("500", "kill -9, strict", "periodic"),
    ("hang", "kill -9, strict", "continuous"),
    ("refuse", "kill -9, strict", "adaptive"),
)


# For each group of the others.
SPREAD_OF_OTHERS: tuple[tuple[str, str, str], ...] = (
    ("reset, stored", "crash", "end"),
    ("hang, stored", "freeze", "continuous"),
    ("503", "kill -9", "continuous"),
    ("half answer", "spindown", "end"),
)


def spread() -> list[Trial]:
    """Return the cells that continuous integration runs: several to an environment."""
    others = [Trial(*chosen, group) for group in GROUPS for chosen in SPREAD_OF_OTHERS]
    return [*[Trial(*chosen, SINKS) for chosen in SPREAD], *others]
