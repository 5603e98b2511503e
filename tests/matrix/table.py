"""Formats the outcomes as tables, one for each sink: a row per fault, a column per ending and strategy."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from tests.integration.world import SINKS
from tests.matrix.cells import STRATEGIES
from tests.matrix.course import ENDINGS, Outcome
from tests.matrix.places import PLACES
from tests.matrix.wrongs import WRONGS

LEGEND = (
    "`=`: emitted = delivered, each record once, nothing lost, no deadline overrun. `-n`: n records lost, and reported "
    "as lost, exactly. `+n`: n records arrived twice; only where delivery is ambiguous (`*`, or `kill -9`). `?n`: n "
    "records of the generation that was killed are gone. `✗`: something is not as it should be (below the tables). "
    "`.`: not played. Columns: the endings, each with the strategies end, periodic, continuous, adaptive."
)


def markdown(outcomes: Iterable[Outcome]) -> str:
    """Return the sums, the tables and the problems."""
    played = {(each.sink, each.trial.wrong, each.trial.ending, each.trial.strategy): each for each in outcomes}
    parts = [sums(list(played.values())), LEGEND]
    for sink in (*SINKS, *PLACES):
        names = [wrong for wrong in WRONGS if any(key[:2] == (sink, wrong) for key in played)]
        columns = [
            column
            for column in product(ENDINGS, STRATEGIES)
            if any((sink, *column) == (key[0], *key[2:]) for key in played)
        ]
        if names:
            parts.append(f"### {sink}\n\n{grid(columns, [row(played, sink, wrong, columns) for wrong in names])}")
    parts.append(problems(played.values()))
    return "\n\n".join(part for part in parts if part) + "\n"


def wrongs() -> str:
    """Return the table of the faults."""
    rows = [
        f"| {name} | {wrong.what} | {'yes: ' + wrong.why_ambiguous if wrong.is_ambiguous else 'no'} |"
        for name, wrong in WRONGS.items()
    ]
    return "\n".join(["| wrong | what the backend does | ambiguous |", "| --- | --- | --- |", *rows]) + "\n"


def row(
    played: Mapping[tuple[str, str, str, str], Outcome], sink: str, wrong: str, columns: Sequence[tuple[str, str]]
) -> list[str]:
    found = (played.get((sink, wrong, *column)) for column in columns)
    name = f"{wrong} *" if WRONGS[wrong].is_ambiguous else wrong
    return [name, *("." if each is None else each.text for each in found)]


def grid(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns are also aligned as plain text."""
    endings = [ending for ending, _ in columns]
    first = [ending if ending not in endings[:place] else "" for place, ending in enumerate(endings)]
    table = [["", *first], ["wrong", *(strategy[:4] for _, strategy in columns)], *rows]
    widths = [max(len(each[place]) for each in table) for place in range(len(table[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)) + " |" for each in table
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def sums(outcomes: Sequence[Outcome]) -> str:
    """Return a summary of all cells."""
    emitted, arrived = sum(each.emitted for each in outcomes), sum(each.arrived for each in outcomes)
    lost = sum(sum(each.lost.values()) for each in outcomes)
    bad = sum(bool(each.problems) for each in outcomes)
    return (
        f"{len(outcomes)} cells, {bad} not as they should be. {emitted} records emitted, {arrived} arrived, "
        f"{lost} reported as lost, {sum(each.unknown for each in outcomes)} gone with a killed process, "
        f"{sum(each.repeated for each in outcomes)} arrived twice. "
        f"The longest hold of an invocation was {max((each.held_ms for each in outcomes), default=0):.0f} ms."
    )


def problems(outcomes: Iterable[Outcome]) -> str:
    rows = [f"- {each.trial}, {each.sink}: {'; '.join(each.problems)}" for each in outcomes if each.problems]
    return "\n".join(["Not as it should be:", "", *rows]) if rows else ""
