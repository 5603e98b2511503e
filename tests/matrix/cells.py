"""The cells of the fault matrix, and those that continuous integration runs."""

from itertools import product

from tests.integration.world import SINKS
from tests.matrix.course import ENDINGS, Trial
from tests.matrix.wrongs import WRONGS

STRATEGIES = ("end", "periodic", "continuous", "adaptive")


def whole(*, is_alone: bool = False) -> list[Trial]:
    """Return every cell. Three cells share an environment, whose backends fail alike; with `is_alone` each has one."""
    groups = [(sink,) for sink in SINKS] if is_alone else [SINKS]
    return [Trial(wrong, *rest) for wrong, *rest in product(WRONGS, ENDINGS, STRATEGIES, groups)]


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


def spread() -> list[Trial]:
    """Return the cells that continuous integration runs: three to an environment."""
    return [Trial(*chosen, SINKS) for chosen in SPREAD]
