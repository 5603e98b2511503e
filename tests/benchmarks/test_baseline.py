"""`make bench-quick` calls worse what changed by more than the noise, and nothing else."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import baseline, quick
from benchmarks.baseline import LEAST, Stored

QUIET = Stored(median=2.0, noise=0.0)
rounds = st.lists(st.floats(0.1, 100.0), min_size=1, max_size=20)


def verdict(found: list[float], before: Stored) -> str:
    (change,) = baseline.compare({"x": found}, {"x": before})
    return change.verdict


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (2.0, "same"),
        (2.0 * (1 + LEAST - 0.001), "same"),
        (2.0 * (1 + LEAST + 0.001), "worse"),
        (2.0 * (1 - LEAST + 0.001), "same"),
        (2.0 * (1 - LEAST - 0.001), "better"),
    ],
)
def test_without_any_noise_a_small_change_is_none(now: float, said: str) -> None:
    assert verdict([now] * 5, QUIET) == said


def test_noise_of_the_baseline_and_noise_of_now_both_excuse_a_change() -> None:
    assert verdict([2.5] * 5, QUIET) == "worse"
    assert verdict([2.5] * 5, Stored(median=2.0, noise=0.1)) == "same"
    assert verdict([1.2, 2.0, 2.5, 3.0, 3.8], QUIET) == "same"


def test_a_median_is_not_moved_by_one_bad_round() -> None:
    assert verdict([2.0, 2.0, 2.0, 2.0, 40.0], QUIET) == "same"


def test_a_figure_without_a_baseline_is_new() -> None:
    (change,) = baseline.compare({"x": [1.0, 2.0]}, {})
    assert (change.verdict, change.now) == ("new", 1.5)


def test_the_noise_of_a_baseline_is_that_between_its_runs_or_within_them() -> None:
    assert baseline.stored([[2.0, 2.0, 2.0]] * 3) == Stored(median=2.0, noise=0.0)
    between = baseline.stored([[1.8, 1.8], [2.0, 2.0], [2.2, 2.2]])
    assert between == Stored(median=2.0, noise=pytest.approx(0.1))
    within = baseline.stored([[1.0, 2.0, 3.0]] * 3)
    assert within.noise == pytest.approx(baseline.error_of([1.0, 2.0, 3.0]))
    assert within.noise > 0.3


@given(rounds, st.floats(0.01, 100))
def test_the_unit_of_a_ratio_does_not_matter(found: list[float], factor: float) -> None:
    """A reference that is twice as fast on another machine, as ours is, changes nothing."""
    scaled = [one * factor for one in found]
    assert baseline.error_of(scaled) == pytest.approx(baseline.error_of(found), abs=1e-9)


@given(rounds)
def test_what_was_stored_is_the_same_as_itself(found: list[float]) -> None:
    assert verdict(found, baseline.stored([found])) == "same"


def test_false_alarms_are_rare_and_a_fifth_more_is_found() -> None:
    """In a thousand runs with 5 % of noise in a round: at most one in a hundred is wrong either way."""
    dice = random.Random(13)

    def run(middle: float, count: int = 9) -> list[float]:
        return [dice.gauss(middle, middle * 0.05) for _ in range(count)]

    said = [verdict(run(2.0), baseline.stored([run(2.0) for _ in range(3)])) for _ in range(1000)]
    assert said.count("worse") <= 10
    said = [verdict(run(2.4), baseline.stored([run(2.0) for _ in range(3)])) for _ in range(1000)]
    assert said.count("worse") >= 990


# --- what seems worse is measured again -----------------------------------------------------------------------------


def judged(first: dict[str, list[float]], second: dict[str, list[float]]) -> tuple[dict[str, str], list[set[str]]]:
    asked: list[set[str]] = []

    def again(names: set[str]) -> dict[str, list[float]]:
        asked.append(names)
        return second

    changes = baseline.judge(first, {"x": QUIET, "y": QUIET}, again)
    return {name: change.verdict for name, change in changes.items()}, asked


def test_nothing_is_measured_again_where_nothing_seems_worse() -> None:
    assert judged({"x": [2.0], "y": [1.0], "z": [9.0]}, {}) == ({"x": "same", "y": "better", "z": "new"}, [])


def test_what_seems_worse_counts_if_it_is_so_again() -> None:
    """What was measured beside it, in the same part, keeps its first result."""
    first = {"x": [3.0], "y": [2.0]}
    assert judged(first, {"x": [3.1], "y": [9.0]}) == ({"x": "worse", "y": "same"}, [{"x"}])
    assert judged(first, {"x": [2.0], "y": [9.0]}) == ({"x": "same", "y": "same"}, [{"x"}])


# --- the file -------------------------------------------------------------------------------------------------------


def test_a_baseline_is_kept_for_each_interpreter_and_processor(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    assert baseline.load("CPython 3.11, x86_64", path) is None
    baseline.save("CPython 3.11, x86_64", {"x": QUIET}, path)
    baseline.save("CPython 3.15, aarch64", {"x": Stored(median=1.5, noise=0.01)}, path)
    baseline.save("CPython 3.11, x86_64", {"x": Stored(median=1.0, noise=0.02)}, path)
    assert baseline.load("CPython 3.11, x86_64", path) == {"x": Stored(median=1.0, noise=0.02)}
    assert baseline.load("CPython 3.15, aarch64", path) == {"x": Stored(median=1.5, noise=0.01)}
    assert baseline.load("CPython 3.13, x86_64", path) is None


def test_the_committed_baseline_has_every_figure() -> None:
    for kind, figures in json.loads(baseline.PATH.read_text()).items():
        assert set(figures) == set(quick.FIGURES), kind
        assert all(one["median"] > 0 and 0 <= one["noise"] < 0.5 for one in figures.values()), kind


def test_every_figure_is_measured_by_one_part() -> None:
    assert sorted(name for names in quick._PARTS.values() for name in names) == sorted(quick.FIGURES)


def test_a_regression_is_named_and_ends_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command's own words, on figures that are given here."""
    values = dict.fromkeys(quick.FIGURES, 2.0)

    def run(_: object, parts: object) -> dict[str, list[quick.Sample]]:
        return {name: [(name, value * 10, 10.0)] * 3 for name, value in values.items()}

    monkeypatch.setattr(quick, "_run", run)
    monkeypatch.setattr(baseline, "load", lambda kind: dict.fromkeys(quick.FIGURES, QUIET))
    compared = quick.Compared(*[None] * 4)  # type: ignore[arg-type]
    assert quick._compare(compared, "CPython 3.11, x86_64") == 0
    assert "worse" not in capsys.readouterr().out
    values["record"] = 2.5
    assert quick._compare(compared, "CPython 3.11, x86_64") == 1
    printed = capsys.readouterr().out
    assert "worse by more than the noise: CPU per record of 200 B through HEC\n" in printed
    assert "make bench-quick RENEW=1" in printed
    assert "| +25% | ± 6% | worse |" in printed
