"""The simulation of docs/scale.md: small scenes keep the laws that large ones show, and the page is what it draws."""

import re
from pathlib import Path

import pytest

from benchmarks.scale.__main__ import main, table
from benchmarks.scale.simulation import (
    AS_IT_IS,
    BY_FIREHOSE,
    SCENES,
    WAYS,
    WITHOUT_BREAKER,
    WITHOUT_JITTER,
    Name,
    Scene,
    Ways,
    play,
    scaled,
)
from telemetry_forwarder.delivery import breaker

PAGE = (Path(__file__).parents[2] / "docs/scale.md").read_text()


@pytest.mark.parametrize(
    ("scene", "ways"),
    [(scene, ways) for scene in SCENES for ways in WAYS[scene]],
    ids=lambda one: getattr(one, "name", one),
)
def test_each_record_arrives_or_is_lost_and_is_lost_only_without_failover(scene: Name, ways: Ways) -> None:
    course = play(scaled(SCENES[scene], 40), ways)
    assert course.made > 700
    assert course.delivered + course.lost >= course.made, "none vanishes without a word"
    if ways.has_failover:
        assert (course.delivered, course.lost) == (course.made, 0)
    assert course.waiting[-1] == course.made - course.delivered
    assert course.requests > 0


def test_a_healthy_backend_is_asked_once_for_each_record() -> None:
    course = play(Scene(environments=40, rate=1000.0), AS_IT_IS)
    assert (course.copies, course.refusals, course.lost, course.kept) == (0, 0, 0, 0)


def test_the_breaker_spares_a_backend_that_is_ill() -> None:
    scene = scaled(SCENES["outage"], 40)
    spared, bothered = play(scene, AS_IT_IS), play(scene, WITHOUT_BREAKER)
    assert spared.refusals < bothered.refusals
    assert spared.held_ms < bothered.held_ms


def test_it_is_the_same_each_time_where_chance_is_left_out() -> None:
    """But for the pauses: what is drawn there is drawn by the extension's own dice."""
    scene = scaled(SCENES["limit"], 20)
    assert play(scene, WITHOUT_JITTER) == play(scene, WITHOUT_JITTER)
    assert next(breaker.backoff()) <= 0.1, "and the dice are back"


def test_the_page_has_a_table_and_plots_of_each_scene(tmp_path: Path) -> None:
    for name in SCENES:
        rows = PAGE.partition(f"<!-- {name}: begin -->")[2].partition(f"<!-- {name}: end -->")[0]
        assert re.findall(r"^\| ([a-zA-Z ]+?) \|", rows, re.MULTILINE)[1:] == [ways.name for ways in WAYS[name]]
        for kind in ("waiting", "refused"):
            assert f"(images/scale-{name}-{kind}.svg)" in PAGE
    page = tmp_path / "scale.md"
    page.write_text(PAGE)
    main(["--environments", "4", "--page", str(page), "--images", str(tmp_path), "--left", str(tmp_path / "left")])
    assert page.read_text() != PAGE
    assert page.read_text().count("\n") == PAGE.count("\n")
    assert len([*tmp_path.glob("*.svg")]) == 6


def test_what_a_stream_could_not_send_on_is_sent_later() -> None:
    """More than a MiB waits when the backend is ill, so that what is refused comes back among what is new."""
    course = play(scaled(SCENES["outage"], 400), BY_FIREHOSE)
    assert course.delivered == course.made


def test_a_row_says_what_came_of_it() -> None:
    (row,) = table([play(scaled(SCENES["outage"], 4), AS_IT_IS)]).splitlines()[2:]
    assert row.startswith("| as it is | ")
