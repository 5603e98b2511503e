"""`make matrix`: run the fault matrix, several environments at once, and print it."""

import argparse
import asyncio
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.integration.test_local_lambda_limits import can_have
from tests.matrix import sizes
from tests.matrix.cells import spread, whole
from tests.matrix.course import Outcome, Trial, run
from tests.matrix.table import markdown, wrongs


def main(argv: Sequence[str] | None = None) -> int:
    """Run the selected cells; return 1 if one of them has a problem."""
    arguments = read(argv)
    trials = spread() if arguments.spread else whole(is_alone=arguments.alone)
    has_shares = can_have("cpu")
    if has_shares:
        trials += sizes.spread() if arguments.spread else sizes.whole()
    trials = [each for each in trials if all(word in f"{each}, {each.sinks}" for word in arguments.only)]
    outcomes = play(trials, arguments.jobs)
    text = markdown(each for each in outcomes if each.trial.memory_mb is None)
    of_sizes = sizes.markdown(each for each in outcomes if each.trial.memory_mb) if has_shares else sizes.NOT_PLAYED
    text += f"\n### By memory\n\n{of_sizes.strip()}\n" if of_sizes else ""
    print(text)
    if arguments.write:
        write(arguments.write, text)
    return int(any(each.problems for each in outcomes))


def read(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix.run", description=__doc__)
    parser.add_argument("--only", action="append", default=[], metavar="WORD", help="cells whose name has this in it")
    parser.add_argument("--spread", action="store_true", help="what continuous integration plays")
    parser.add_argument("--alone", action="store_true", help="one sink to an environment instead of three")
    parser.add_argument("--jobs", type=int, default=3 * (os.cpu_count() or 1), help="environments at once")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the tables there, between its two marks")
    return parser.parse_args(argv)


def play(trials: Sequence[Trial], jobs: int) -> list[Outcome]:
    """Run `trials` in `jobs` processes; print the progress on standard error."""
    began, outcomes = time.monotonic(), []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        playing = [pool.submit(play_one, trial) for trial in trials]
        for number, done in enumerate(as_completed(playing), 1):
            outcomes += done.result()
            if number % 20 == 0 or number == len(trials):
                bad = sum(bool(each.problems) for each in outcomes)
                seconds = time.monotonic() - began
                print(f"{number} of {len(trials)} environments, {bad} bad cells, {seconds:.0f} s", file=sys.stderr)
    return outcomes


def play_one(trial: Trial) -> list[Outcome]:
    """Run one environment in its own directory. An error becomes a problem of its cells; the other cells still run."""
    try:
        with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
            return asyncio.run((run if trial.memory_mb is None else sizes.run)(trial, Path(folder)))
    except Exception as error:  # noqa: BLE001 - one broken environment of hundreds
        what = "; ".join(traceback.format_exception_only(error)).strip()
        return [Outcome(trial=trial, sink=sink, problems=[f"could not be played: {what}"]) for sink in trial.sinks]


def write(path: Path, text: str) -> None:
    """Write `text` between the marks in `path`; create the file if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    page = path.read_text() if path.exists() else f"{marked('matrix', '')}\n"
    path.write_text(replaced(replaced(page, "matrix", text), "wrongs", wrongs()))


def marked(name: str, text: str) -> str:
    return f"<!-- {name}: begin -->\n{text}<!-- {name}: end -->"


def replaced(page: str, name: str, text: str) -> str:
    """Return `page` with `text` between the marks of `name`, if it has them."""
    before, found, rest = page.partition(f"<!-- {name}: begin -->")
    return f"{before}{marked(name, text)}{rest.partition(f'<!-- {name}: end -->')[2]}" if found else page


if __name__ == "__main__":
    sys.exit(main())
