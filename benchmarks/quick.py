"""`make bench-quick`: about a minute that says what got worse since the stored baseline by more than the noise.

    python -m benchmarks.quick                   compare; exit code 1 if a figure got worse
    python -m benchmarks.quick --renew           three runs, written to benchmarks/baseline.json, which is committed
    python -m benchmarks.quick --layer DIR       an unpacked layer, with the interpreter that it carries

Each figure is measured in rounds, and in each round beside its reference; benchmarks/baseline.py says how the ratios
are compared. What seems worse is measured once more before it counts. For all figures and other subjects: `make bench`.
"""

import argparse
import asyncio
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import baseline, cold, flood, warm
from benchmarks.measure import cpu_s, median, memory_mb, run_cpu_s
from benchmarks.subjects import IDLE_PYTHON, NOTHING, OURS, Subject, enter_layer, interpreter_of, opening, subjects

_RENEWAL_RUNS = 3
# A sleeping interpreter that has imported what no server in Python can be without; it prints its memory in kB.
_ASYNCIO = "import asyncio; print(next(line for line in open('/proc/self/status') if line.startswith('VmRSS')))"


@dataclass(frozen=True)
class Figure:
    """A figure of the table: what it is, its unit, and the reference that it is a multiple of."""

    what: str
    unit: str
    reference: str


FIGURES = {
    "register": Figure("exec → /register", "ms", "the bare interpreter running `pass`"),
    "loaded": Figure("CPU until all is loaded, one HTTP sink", "ms", "the bare interpreter importing asyncio"),
    "memory": Figure("resident then", "MB", "the bare interpreter importing asyncio"),
    "response": Figure("first response, empty function, 1769 MB", "ms", "with an idle extension in Python"),
    "continuous": Figure("CPU per invocation of 20 lines, `continuous`", "ms", "an idle extension in Python"),
    "end": Figure("CPU per invocation of 20 lines, `end`", "ms", "an idle extension in Python"),
    "record": Figure("CPU per record of 200 B through HEC", "µs", "a loop of orjson and zlib on the same bytes"),
}

# What a round found of a figure: its value in the figure's unit, and the reference's in the same.
Sample = tuple[str, float, float]


@dataclass(frozen=True)
class Compared:
    """What is measured: an extension, its reference, no extension, and the interpreter of the first two."""

    ours: Subject
    idle: Subject
    nothing: Subject
    python: Path


def main() -> None:
    options = _arguments()
    if options.layer is not None:
        enter_layer(options.layer, "benchmarks.quick")
    with tempfile.TemporaryDirectory() as folder:
        python = options.python if options.layer is None else interpreter_of(options.layer)
        made = {one.name: one for one in subjects(Path(folder), options.python, options.layer, None)}
        compared = Compared(made[OURS], made[IDLE_PYTHON], made[NOTHING], python)
        kind = _kind(python)
        if options.renew:
            runs = [_ratios(_run(compared, _PARTS)) for _ in range(_RENEWAL_RUNS)]
            baseline.save(kind, {name: baseline.stored([run[name] for run in runs]) for name in FIGURES})
            print(f"the baseline for {kind} is written to {baseline.PATH}: commit it, with the reason")
            return
        sys.exit(_compare(compared, kind))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renew", action="store_true", help="store what is found as the baseline")
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable).resolve(), help="run the checkout with this"
    )
    parser.add_argument("--layer", type=Path, help="an unpacked layer instead of the checkout")
    return parser.parse_args()


def _kind(python: Path) -> str:
    """Name the interpreter and the processor, which a ratio depends on."""
    script = "import sys; print('%d.%d' % sys.version_info[:2])"
    found = subprocess.run([str(python), "-IS", "-c", script], capture_output=True, text=True, check=True)
    return f"CPython {found.stdout.strip()}, {platform.machine()}"


# --- one run --------------------------------------------------------------------------------------------------------


def _register(compared: Compared) -> Iterator[Sample]:
    for _ in range(15):
        found = cold.until_register([compared.ours], compared.python, 1)
        yield "register", found[OURS]["wall_ms"], found["pass"]["wall_ms"]


def _loaded(compared: Compared) -> Iterator[Sample]:
    bare = [str(compared.python), "-I", "-S", "-c", opening(compared.python) + _ASYNCIO]
    for _ in range(7):
        printed = subprocess.run(bare, capture_output=True, text=True, check=True).stdout
        cpu = min(run_cpu_s(bare)[0] for _ in range(2))
        with flood.started(compared.ours) as extension:
            yield "loaded", cpu_s(extension.pid) * 1000, cpu * 1000
            yield "memory", memory_mb(extension.pid), int(printed.split()[1]) / 1024


def _response(compared: Compared) -> Iterator[Sample]:
    for _ in range(13):
        idle, ours = (asyncio.run(cold.once(one, 1769, 0))["response"] for one in (compared.idle, compared.ours))
        yield "response", ours, idle


def _invocations(compared: Compared) -> Iterator[Sample]:
    three = [compared.nothing, compared.idle, compared.ours]
    # `continuous` is not held while it loads, which goes on through the first of the invocations; they do not count.
    counts = {"continuous": 50, "end": 30}
    for _ in range(5):
        for strategy, count in counts.items():
            found = asyncio.run(warm.invocations(three, count, TELEMETRY_FORWARDER_FLUSH=strategy))
            yield strategy, found[OURS]["cpu_ms"], found[IDLE_PYTHON]["cpu_ms"]


def _records(compared: Compared) -> Iterator[Sample]:
    for _ in range(7):
        found = flood.pour(compared.ours, 20_000, TELEMETRY_FORWARDER_FLUSH="continuous")
        if found.delivered < found.sent:
            raise RuntimeError(f"{found.sent - found.delivered} of {found.sent} records were not delivered")
        bare = flood.bare_loop(found.bodies)
        yield "record", found.cpu_s / found.delivered * 1e6, bare * 1e6


Part = Callable[[Compared], Iterator[Sample]]
_PARTS: dict[Part, tuple[str, ...]] = {
    _register: ("register",),
    _loaded: ("loaded", "memory"),
    _response: ("response",),
    _invocations: ("continuous", "end"),
    _records: ("record",),
}


def _run(compared: Compared, parts: Iterable[Part]) -> dict[str, list[Sample]]:
    found: dict[str, list[Sample]] = {}
    for part in parts:
        began = time.monotonic()
        for sample in part(compared):
            found.setdefault(sample[0], []).append(sample)
        print(f"{part.__name__.strip('_')}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return found


def _ratios(found: dict[str, list[Sample]]) -> dict[str, list[float]]:
    return {name: [value / reference for _, value, reference in samples] for name, samples in found.items()}


# --- the comparison -------------------------------------------------------------------------------------------------


def _compare(compared: Compared, kind: str) -> int:
    """Print the table; return 1 if a figure got worse, and did so when it was measured again."""
    stored = baseline.load(kind)
    if stored is None:
        print(
            f"there is no baseline for {kind} yet: `make bench-quick RENEW=1` on the version to compare with writes one"
        )
    found = _run(compared, _PARTS)

    def again(names: set[str]) -> dict[str, list[float]]:
        print("once more: what seems worse", file=sys.stderr)
        second = _run(compared, [part for part, figures in _PARTS.items() if names.intersection(figures)])
        found.update({name: second[name] for name in names})
        return _ratios(second)

    changes = baseline.judge(_ratios(found), stored or {}, again)
    _print(found, changes)
    worse = [FIGURES[name].what for name, one in changes.items() if one.verdict == "worse"]
    if worse:
        print(f"\nworse by more than the noise: {'; '.join(worse)}")
        print("If that is meant, `make bench-quick RENEW=1` writes a new baseline: commit it with the reason.")
    elif any(one.verdict == "better" for one in changes.values()):
        print("\nWhat got better is kept by a new baseline: `make bench-quick RENEW=1`.")
    return 1 if worse else 0


def _print(found: dict[str, list[Sample]], changes: dict[str, baseline.Change]) -> None:
    print("| figure | now | x its reference | baseline | changed by | noise | |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | --- |")
    for name, figure in FIGURES.items():
        change = changes[name]
        value = f"{median([value for _, value, _ in found[name]]):.2f} {figure.unit}"
        before = "" if change.before is None else f"{change.before:.2f}"
        by, noise = ("", "") if change.before is None else (f"{change.by:+.0%}", f"± {change.limit:.0%}")
        cells = (figure.what, value, f"{change.now:.2f} x {figure.reference}", before, by, noise, change.verdict)
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
