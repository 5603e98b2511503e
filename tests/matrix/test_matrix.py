"""A spread of the fault matrix with the real executable; `make matrix` runs the whole matrix."""

from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from telemetry_forwarder.delivery.loss_event import RECORDS_LOST
from telemetry_forwarder.variables.table import BUILT_IN_SINKS
from tests.integration.test_local_lambda_limits import needs_cpu
from tests.integration.world import SINKS
from tests.matrix import sizes, table
from tests.matrix.books import Books, Differences, Key, again, books, differences
from tests.matrix.cells import FEWER_STRATEGIES, OF_THE_ROAD, STRATEGIES, spread, whole
from tests.matrix.course import ENDINGS, Trial, run
from tests.matrix.places import GROUPS, PLACES
from tests.matrix.run import replaced
from tests.matrix.wrongs import WRONGS

PAGE = Path(__file__).parents[2] / "docs/fault-matrix.md"
# Shorter than in the whole matrix, which runs several environments at once.
TIMEOUT_S = 3.0
WRITE = "python -m tests.matrix.run --write docs/fault-matrix.md"


@pytest.mark.parametrize("trial", spread(), ids=str)
async def test_every_record_is_delivered_held_or_reported_as_lost(trial: Trial, tmp_path: Path) -> None:
    """Each record once, unless delivery is ambiguous; no overrun window; no timeout except the function's own."""
    outcomes = await run(trial, tmp_path, timeout_s=TIMEOUT_S)
    assert len(outcomes) == len(trial.sinks)
    assert not {each.sink: each.problems for each in outcomes if each.problems}
    assert all(each.emitted >= 20 for each in outcomes)


@needs_cpu
@pytest.mark.parametrize("trial", sizes.spread(), ids=str)
async def test_a_function_of_any_size_is_held_in_time_and_loses_nothing(trial: Trial, tmp_path: Path) -> None:
    """Four thousand lines at once while the backend fails; it recovers before the end."""
    (cell,) = await sizes.run(trial, tmp_path)
    assert not cell.problems
    assert cell.emitted > 2 * sizes.LINES
    assert cell.arrived == cell.emitted


def test_sizes_are_played_with_each_sink_strategy_and_fault() -> None:
    trials = sizes.whole()
    assert len(trials) == len(set(trials)) == 3 * 4 * len(sizes.FAULTS) * len(sizes.SIZES_MB)
    chosen = sizes.spread()
    assert {trial.wrong for trial in chosen} == set(sizes.FAULTS)
    assert {trial.strategy for trial in chosen} == set(STRATEGIES)
    assert {trial.sinks for trial in chosen if trial.memory_mb == min(sizes.SIZES_MB)} == {(sink,) for sink in SINKS}
    assert {trial.memory_mb for trial in chosen} == set(sizes.SIZES_MB)


def test_spread_has_every_wrong_and_every_ending_with_every_strategy() -> None:
    assert {trial.wrong for trial in spread()} == WRONGS.keys()
    pairs = {(trial.ending, trial.strategy) for trial in spread()}
    assert pairs == set(product(ENDINGS, STRATEGIES))


def test_every_sink_is_in_the_matrix() -> None:
    """But for those of which each signal goes its own way: their tests play resets and freezes themselves."""
    assert {sink for group in GROUPS for sink in group} == PLACES.keys()
    assert {*SINKS, *PLACES, "otlp"} == BUILT_IN_SINKS.keys()


def test_whole_has_every_cell_once() -> None:
    for is_alone in (False, True):
        cells = [(sink, str(trial)) for trial in whole(is_alone=is_alone) for sink in trial.sinks]
        others = len(PLACES) * len(OF_THE_ROAD) * len(ENDINGS) * len(FEWER_STRATEGIES)
        assert len(cells) == len(set(cells)) == 3 * len(WRONGS) * len(ENDINGS) * len(STRATEGIES) + others


def told(*, taken: int, delivered: int, **lost: int) -> Books:
    return Books(taken=taken, told=0, delivered=delivered, lost=lost, held=0, unbalanced=0)


@pytest.mark.parametrize(
    ("said", "emitted", "missing", "unsure", "is_settled"),
    [
        (told(taken=9, delivered=9), 9, 0, 0, True),
        (told(taken=9, delivered=5, deadline=4), 9, 4, 0, True),
        (told(taken=9, delivered=5), 9, 4, 0, False),  # the ledger itself
        (told(taken=9, delivered=9), 9, 1, 0, False),  # lost and called delivered
        (told(taken=9, delivered=9), 9, 1, 9, False),
        (told(taken=9, delivered=5, deadline=4), 9, 3, 0, False),  # arrived and called lost
        (told(taken=9, delivered=5, deadline=4), 9, 3, 1, True),  # allowed: one was stored without an answer
        (told(taken=8, delivered=8), 9, 1, 0, False),  # acknowledged and never counted
    ],
)
def test_equation_fails_where_it_should(said: Books, emitted: int, missing: int, unsure: int, is_settled: bool) -> None:
    found = Differences(missing=missing, repeated=0, unexcused=0, invented=[], told=0)
    assert (not said.problems(emitted, found, unsure=unsure)) is is_settled


def test_what_tells_of_losses_is_no_part_of_what_was_emitted() -> None:
    """A record that reports a loss is delivered or lost like any other, but the platform did not emit it."""
    said = Books(taken=9, told=1, delivered=6, lost={"deadline": 4}, held=0, unbalanced=0)
    assert not said.problems(9, Differences(missing=4, repeated=0, unexcused=0, invented=[], told=1), unsure=0)
    assert not said.problems(9, Differences(missing=3, repeated=0, unexcused=0, invented=[], told=0), unsure=0)
    assert said.problems(9, Differences(missing=3, repeated=0, unexcused=0, invented=[], told=1), unsure=0)


def test_differences_between_what_was_emitted_and_what_arrived() -> None:
    one, other, ours = (Key(kind, 1, "line") for kind in ("function", "platform.start", RECORDS_LOST))
    found = differences(Counter([one, other]), Counter([one, one, one, ours]), Counter([one]))
    assert (found.missing, found.repeated, found.unexcused, found.invented, found.told) == (1, 2, 1, [], 1)
    assert differences(Counter([one]), Counter([one, other]), Counter()).invented


def test_no_more_than_the_copies_that_the_ledger_tells_of_may_come_again() -> None:
    one, other = (Key("function", 1, line) for line in ("one", "other"))
    twice = [(one, other), (one, other), (one, other)]
    assert again(twice, 2) == Counter([one, one, other, other])
    assert again(twice, 1) == Counter([one, other])
    assert again(twice, 0) == Counter()
    assert again([(one, other), (one,), (other,)], 2) == Counter(), "a copy has all records of its request"


def test_books_add_up_the_generations() -> None:
    def line(received: int, delivered: int, **dropped: int) -> dict[str, object]:
        book = {"delivered": delivered, "dropped": dropped, "spilled": 0, "told": 0, "copies": 1}
        return {"message": "ledger", "door": {"received": received}, "sinks": {"splunk": book}}

    sum_ = books([line(9, 5, deadline=4), line(6, 5, deadline=1)], "splunk")
    assert sum_ == replace(told(taken=15, delivered=10, deadline=5), copies=2)
    assert sum_.is_balanced
    assert not books([{**line(9, 9), "message": "ledger, which does not balance"}], "splunk").is_balanced


def test_page_describes_what_goes_wrong() -> None:
    page = PAGE.read_text()
    assert page == replaced(page, "wrongs", table.wrongs()), f"write it with: {WRITE}"
