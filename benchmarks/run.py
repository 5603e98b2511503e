"""`make bench`: the cost of the extension, compared with no extension and with others, measured in one run.

    python -m benchmarks.run                     about two minutes
    python -m benchmarks.run --full              more rounds, and 500,000 records instead of 100,000
    python -m benchmarks.run --layer DIR         an unpacked layer, with the interpreter that it carries
    python -m benchmarks.run --before WHAT       a checkout of an older version, or a git ref: in the same rounds

Without --before it is the last release, if there is one. A figure of another subject is followed by what ours is as a
multiple of it. Figures are medians. The subjects run in turn in the same rounds, so that the machine's speed and its
other work cancel out as far as they can. Nothing here is a test. The table is printed; every figure is also written to
a JSON file.
"""

import argparse
import asyncio
import json
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import benchmarks.signals
from benchmarks import cold, flood, warm
from benchmarks.subjects import (
    BEFORE,
    IDLE_C,
    IDLE_PYTHON,
    NOTHING,
    OURS,
    ROOT,
    TUTORIAL,
    Subject,
    enter_layer,
    interpreter_of,
    subjects,
    version_before,
)
from benchmarks.world import PLATFORM, function
from local_lambda.machine.limits import Limits

COLUMNS = (OURS, BEFORE, IDLE_PYTHON, IDLE_C, TUTORIAL)
_WHY_MISSING = {
    BEFORE: "no release to compare with (BEFORE=ref names another version)",
    IDLE_C: "no C compiler on this machine",
    TUTORIAL: "no `requests` among the packages",
}
_NEARLY_NOTHING = 0.05  # in the figure's unit
CONTINUOUS = {"TELEMETRY_FORWARDER_FLUSH": "continuous"}


@dataclass(frozen=True)
class Rounds:
    """The number of rounds of each part."""

    register: int
    cold: int
    warm: int
    records: int


QUICK = Rounds(register=11, cold=5, warm=100, records=100_000)
FULL = Rounds(register=31, cold=15, warm=100, records=500_000)


@dataclass
class Row:
    """One line of the table: the quantity, its unit, its bounds, and the figure of each column."""

    what: str
    unit: str
    most: float | None
    figures: dict[str, float]
    least: float | None = None

    @property
    def bound(self) -> str:
        if self.most is not None:
            return f"≤ {self.most:,g}"
        return f"≥ {self.least:,g}" if self.least is not None else ""

    @property
    def is_met(self) -> bool | None:
        ours = self.figures.get(OURS)
        if ours is None or (self.most is None and self.least is None):
            return None
        return (self.most is None or ours <= self.most) and (self.least is None or ours >= self.least)


def main() -> None:
    options = arguments()
    if options.layer is not None:
        enter_layer(options.layer, "benchmarks.run")
    rounds = FULL if options.full else QUICK
    with tempfile.TemporaryDirectory() as folder:
        compared = subjects(Path(folder), options.python, options.layer, version_before(options.before))
        missing = {NOTHING, *COLUMNS} - {one.name for one in compared}
        began = time.monotonic()
        rows = [row for part in _PARTS for row in measured(part, compared, rounds, options)]
    if options.layer is not None:
        rows += sizes(options.layer)
    report(rows, options, time.monotonic() - began)
    for name in sorted(missing & _WHY_MISSING.keys()):
        print(f"Not measured: {name}, as there is {_WHY_MISSING[name]}.")
    if options.failed:
        sys.exit(f"not measured: {', '.join(options.failed)}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="more rounds and more records")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable).resolve(), help="run the checkout with this"
    )
    parser.add_argument("--layer", type=Path, help="an unpacked layer instead of the checkout")
    parser.add_argument(
        "--before", help="an older version to compare with: a checkout, or a git ref (the last release)"
    )
    parser.add_argument("--only", help="a part: " + ", ".join(part.__name__ for part in _PARTS))
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "bench.json", help="where the figures go")
    parser.set_defaults(failed=[])
    return parser.parse_args()


def measured(
    part: "Callable[[list[Subject], Rounds, argparse.Namespace], list[Row]]",
    compared: list[Subject],
    rounds: Rounds,
    options: argparse.Namespace,
) -> list[Row]:
    if options.only and options.only != part.__name__:
        return []
    print(f"{part.__name__} …", file=sys.stderr, flush=True)
    try:
        return part(compared, rounds, options)
    except Exception:  # noqa: BLE001 - the other parts still have their figures
        traceback.print_exc()
        options.failed.append(part.__name__)
        return []


# --- the parts ------------------------------------------------------------------------------------------------------


def register(compared: list[Subject], rounds: Rounds, options: argparse.Namespace) -> list[Row]:
    python = options.python if options.layer is None else interpreter_of(options.layer)
    found = cold.until_register(compared, python, rounds.register)
    return [
        row("exec → /register, x the bare interpreter running `pass`", "x", found, "wall_ratio", most=1.5),
        row("exec → /register, wall", "ms", found, "wall_ms"),
        row("CPU of it, refused and ended", "ms", found, "cpu_ms"),
        row("the same, x the bare interpreter's", "x", found, "cpu_ratio"),
    ]


def starts(compared: list[Subject], rounds: Rounds, options: argparse.Namespace) -> list[Row]:
    rows = []
    busy = asyncio.run(cold.starts(compared, 1769, cold.BUSY_INIT_MS, rounds.cold))
    rows.append(row("INIT added, function with 200 ms of its own, 1769 MB", "ms", busy, "init_added", most=10))
    for size, response, held in ((1769, 20, 100), (256, 40, 250)):
        empty = asyncio.run(cold.starts(compared, size, 0, rounds.cold))
        rows += [
            row(f"first response added, empty function, {size} MB", "ms", empty, "response_added", most=response),
            row(f"held after that first handler, {size} MB", "ms", empty, "held", most=held),
        ]
    return rows


def invocations(compared: list[Subject], rounds: Rounds, options: argparse.Namespace) -> list[Row]:
    found = asyncio.run(warm.invocations(compared, rounds.warm, **CONTINUOUS))
    end = asyncio.run(warm.invocations(compared, rounds.warm // 4, TELEMETRY_FORWARDER_FLUSH="end"))
    aws = [one for one in compared if one.name in (NOTHING, OURS, BEFORE)]
    heavy = asyncio.run(warm.invocations(aws, rounds.warm // 2, sinks="splunk,cloudwatch", **CONTINUOUS))
    return [
        row("function's own time added (20 lines, 5 ms of CPU), 1769 MB", "ms", found, "function_added_ms", most=1),
        row("the same in the first invocation", "ms", found, "first_added_ms"),
        row("resident after the invocations, one HTTP sink", "MB", found, "rss_mb", most=40),
        row("the same with CloudWatch Logs beside it", "MB", heavy, "rss_mb", most=55),
        row("CPU per invocation, `continuous`", "ms", found, "cpu_ms", most=1.5),
        row("CPU per invocation, `end`", "ms", end, "cpu_ms", most=2.5),
        row("held per invocation, `end`", "ms", end, "held_ms"),
    ]


def stream(compared: list[Subject], rounds: Rounds, options: argparse.Namespace) -> list[Row]:
    figures: dict[str, dict[str, float]] = {}
    for subject in compared:
        if subject.name not in (OURS, BEFORE):
            continue
        found = flood.pour(subject, rounds.records, **CONTINUOUS)
        each, bare = found.cpu_s / max(1, found.delivered), flood.bare_loop(found.bodies)
        figures[subject.name] = {
            "rate": found.rate,
            "cpu_us": each * 1e6,
            "ratio": each / bare,
            "bare_us": bare * 1e6,
            "lost": float(found.sent - found.delivered),
            "peak_added": found.peak_mb - found.idle_mb - _capacity_mb(),
        }
    count = f"{rounds.records:,}"
    return [
        row("records of 200 B through HEC with gzip, one processor", "/s", figures, "rate", least=250_000),
        row("CPU for each of them", "µs", figures, "cpu_us", most=4),
        row("x a loop of orjson and gzip alone on the same bytes", "x", figures, "ratio"),
        row("that loop", "µs", figures, "bare_us"),
        row("not delivered (dropped where the buffer was full)", "", figures, "lost"),
        row(f"peak memory while {count} pour in, above idle + buffer", "MB", figures, "peak_added", most=20),
    ]


def signals(compared: list[Subject], rounds: Rounds, options: argparse.Namespace) -> list[Row]:
    """What metrics and traces cost beside log records, all by OTLP."""
    (ours,) = [one for one in compared if one.name == OURS]
    rows = []
    for strategy in benchmarks.signals.STRATEGIES:
        found = asyncio.run(benchmarks.signals.running(ours, strategy, rounds.warm // 2))
        cpu, size = found[benchmarks.signals.OFF]
        rows.append(Row(f"CPU per invocation of logs by OTLP, `{strategy}`", "ms", None, {OURS: cpu}))
        for name, (more_cpu, more_size) in found.items():
            if name != benchmarks.signals.OFF:
                bounds = (0.3, 3000.0) if name == "both" else (None, None)
                rows.append(Row(f"{name} added, `{strategy}`", "ms", bounds[0], {OURS: more_cpu - cpu}))
                rows.append(Row(f"bytes of it, compressed, `{strategy}`", "", bounds[1], {OURS: more_size - size}))
    started = asyncio.run(benchmarks.signals.starting(ours, rounds.cold))
    off = started.pop(benchmarks.signals.OFF)
    rows += [
        Row(f"{name} added to a start and its first invocation", "ms", None, {OURS: cpu - off})
        for name, cpu in started.items()
    ]
    return rows


_PARTS = (register, starts, invocations, stream, signals)


def row(
    what: str,
    unit: str,
    found: dict[str, dict[str, float]],
    key: str,
    *,
    most: float | None = None,
    least: float | None = None,
) -> Row:
    figures = {name: figures[key] for name, figures in found.items() if name != NOTHING and key in figures}
    return Row(what, unit, most, figures, least)


def _capacity_mb() -> float:
    """Return the default buffer size of a function of 1769 MB, in MiB."""
    from telemetry_forwarder.settings import capacity_bytes

    return capacity_bytes(1769) / 1024 / 1024


def sizes(layer: Path) -> list[Row]:
    """Return the layer's unpacked size, and its zipped size if the archive is in `dist`."""
    unpacked = sum(path.lstat().st_size for path in layer.rglob("*") if path.is_file())
    rows = [Row("layer, unpacked", "MB", 45, {OURS: unpacked / 1e6})]
    arch = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
    for archive in (ROOT / "dist").glob(f"*layer-{arch}.zip"):
        rows.insert(0, Row("layer, zipped", "MB", 15, {OURS: archive.stat().st_size / 1e6}))
    return rows


# --- the report -----------------------------------------------------------------------------------------------------


def report(rows: list[Row], options: argparse.Namespace, seconds: float) -> None:
    columns = [name for name in COLUMNS if any(name in row.figures for row in rows)]
    print(f"| figure | bound | {' | '.join(columns)} | |")
    print("| --- | --- |" + " ---: |" * len(columns) + " --- |")
    for one in rows:
        cells = [cell(one, name) for name in columns]
        met = {True: "met", False: "not met", None: ""}[one.is_met]
        print(f"| {one.what} | {one.bound} | {' | '.join(cells)} | {met} |")
    where = _conditions(options)
    print(f"\n{where['cpu quota']}; Python {where['python']} of the checkout; {seconds:.0f} s.")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    found = [
        {"what": r.what, "unit": r.unit, "most": r.most, "least": r.least, "met": r.is_met, "figures": r.figures}
        for r in rows
    ]
    options.json.write_text(json.dumps({"conditions": where, "rows": found}, indent=2, ensure_ascii=False) + "\n")


def cell(found: Row, column: str) -> str:
    """Return the figure of `column`, and behind that of another subject what ours is as a multiple of it."""
    figure, ours = found.figures.get(column), found.figures.get(OURS)
    # A figure of nearly nothing has no multiple that says anything; a ratio to something else, none that is plain.
    if column == OURS or figure is None or ours is None or found.unit == "x" or min(ours, figure) < _NEARLY_NOTHING:
        return shown(figure, found.unit)
    multiple = ours / figure
    return f"{shown(figure, found.unit)} ({multiple:{'.2g' if multiple < 10 else ',.0f'}} x)"


def shown(figure: float | None, unit: str) -> str:
    if figure is None:
        return ""
    digits = 0 if abs(figure) >= 20 or unit in ("", "/s") else 2
    number = f"{figure:,.{digits}f}"
    return f"{number} {unit}".strip()


def _conditions(options: argparse.Namespace) -> dict[str, Any]:
    limits = Limits(function(1769, {}), PLATFORM)
    try:
        enforced = limits.enforced.cpu
    finally:
        limits.remove()
    quota = f"as Lambda's ({enforced})" if enforced.startswith("cgroup v") else enforced
    return {
        "cpu quota": f"CPU quota {quota}",
        "python": platform.python_version(),
        "interpreter": str(options.layer or options.python),
        "machine": platform.machine(),
        "full": options.full,
    }


if __name__ == "__main__":
    main()
