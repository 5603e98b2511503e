"""`make scale`: play every scene in every way, and draw the plots and the table of docs/scale.md anew."""

import argparse
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import msgspec

from benchmarks.scale.simulation import SCENES, WAYS, Course, Name, Scene, Ways, play, scaled

# pygal leaves a finder of modules behind of a form that Python 3.11 warns of at each import, and newer ones pass over.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ImportWarning)
    import pygal
    from pygal.style import Style
sys.meta_path[:] = [finder for finder in sys.meta_path if hasattr(finder, "find_spec")]

_ROOT = Path(__file__).parents[2]
PAGE, IMAGES, _LEFT = _ROOT / "docs/scale.md", _ROOT / "docs/images", _ROOT / "build/scale"
_BEGIN, _END = "<!-- {0}: begin -->\n", "<!-- {0}: end -->\n"
_STEP_S = 5  # of a plot
_STYLE = Style(
    background="#ffffff", plot_background="#ffffff", font_family="sans-serif", label_font_size=11, legend_font_size=12,
    major_label_font_size=11, title_font_size=14, guide_stroke_dasharray="2,4", stroke_width=2, opacity=".9",
    foreground="#333333", foreground_strong="#111111", foreground_subtle="#777777",
    colors=("#0072b2", "#e69f00", "#d55e00", "#999999", "#009e73"),
)  # fmt: skip
_TITLES: dict[Name, str] = {
    "outage": "a minute of 503",
    "limit": "a backend for 600 requests a second",
    "herd": "all environments in the same second",
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--environments", type=int, default=10_000, help="how many; the backend shrinks with them")
    parser.add_argument("--jobs", type=int, default=2, help="how many ways are played at the same time")
    parser.add_argument("--resume", action="store_true", help="take the courses that an interrupted run has left")
    parser.add_argument("--left", type=Path, default=_LEFT, help="the folder in which a run leaves its courses")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose tables are written anew")
    parser.add_argument("--images", type=Path, default=IMAGES, help="the folder for the plots")
    chosen = parser.parse_args(arguments)
    courses: dict[Name, list[Course]] = {name: [] for name in SCENES}
    each = [(name, scaled(SCENES[name], chosen.environments), ways) for name in SCENES for ways in WAYS[name]]
    with ProcessPoolExecutor(chosen.jobs) as pool:
        running = [
            (name, pool.submit(_played, scene, ways, chosen.left / f"{name}-{ways.name}.json", chosen.resume))
            for name, scene, ways in each
        ]
        for name, future in running:
            course = future.result()
            print(f"{name}, {course.way}: {course.delivered} of {course.made} records arrived", flush=True)
            courses[name].append(course)
    text = chosen.page.read_text()
    for name in SCENES:
        for kind, svg in plots(name, courses[name]):
            (chosen.images / f"scale-{name}-{kind}.svg").write_text(svg)
        text = _replaced(text, name, table(courses[name]))
    chosen.page.write_text(text)


def _played(scene: Scene, ways: Ways, left: Path, is_resumed: bool) -> Course:
    """Return the course of a scene, and leave it in a file; with `is_resumed` it may be there already."""
    if is_resumed and left.exists():
        return msgspec.json.decode(left.read_bytes(), type=Course)
    course = play(scene, ways)
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(msgspec.json.encode(course))
    return course


def table(courses: Sequence[Course]) -> str:
    """Return what came of one scene, a row for each way, as Markdown."""
    columns = (
        "the extension", "its requests", "refused", "taken by the backend", "records stored twice",
        "kept by failover (objects)", "lost", "there after (99 %)", "invocations longer by (99 %)",
    )  # fmt: skip
    rows = (
        (
            one.way, f"{one.requests:,}", f"{one.refusals:,}", f"{one.at_backend:,}",
            f"{one.copies:,} ({one.copies / one.made:.1%})", f"{one.kept:,} ({one.objects:,})", f"{one.lost:,}",
            f"{one.there_s:.1f} s ({one.there_99_s:.0f} s)", f"{one.held_ms:.0f} ms ({one.held_99_ms:.0f} ms)",
        )
        for one in courses
    )  # fmt: skip
    lines = (columns, ("---", *["---:"] * (len(columns) - 1)), *rows)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def plots(name: Name, courses: Sequence[Course]) -> Iterator[tuple[str, str]]:
    """Yield the plots of a scene: their names, and each as SVG."""
    waiting = _chart(f"Records that wait: {_TITLES[name]}", courses)
    for one in courses:
        waiting.add(one.way, one.waiting[::_STEP_S])
    yield "waiting", _drawn(waiting)
    requests = _chart(f"Requests a second, refused ones: {_TITLES[name]}", courses)
    for one in courses:
        requests.add(one.way, _means(one.refused))
    yield "refused", _drawn(requests)


def _chart(title: str, courses: Sequence[Course]) -> pygal.Line:
    seconds = range(0, max(len(one.waiting) for one in courses), _STEP_S)
    return pygal.Line(
        style=_STYLE, title=title, width=900, height=360, show_dots=False, legend_at_bottom=True,
        legend_at_bottom_columns=5, js=[], truncate_legend=-1, truncate_label=-1, margin=10,
        x_labels=[f"{second} s" for second in seconds],
        x_labels_major_every=12, show_minor_x_labels=False, value_formatter=lambda value: f"{value:,.0f}",
        disable_xml_declaration=True, no_prefix=True,
    )  # fmt: skip


def _drawn(chart: pygal.Line) -> str:
    svg = chart.render()
    text: str = svg if isinstance(svg, str) else svg.decode()
    return text + "\n"


def _means(by_second: Sequence[int]) -> list[float]:
    return [sum(by_second[at : at + _STEP_S]) / _STEP_S for at in range(0, len(by_second), _STEP_S)]


def _replaced(text: str, name: str, inner: str) -> str:
    before, begin, rest = text.partition(_BEGIN.format(name))
    _, end, after = rest.partition(_END.format(name))
    if not begin or not end:
        raise SystemExit(
            f"the page has no place for the table `{name}`: {_BEGIN.format(name).strip()} … {_END.format(name).strip()}"
        )
    return before + begin + inner + end + after


if __name__ == "__main__":
    main()
