"""The rows that a page shows: a few bounded tables, and which rows changed since a browser last asked. No I/O."""

import asyncio
from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]

# How many rows each table keeps: the last ones. So a page takes a bounded amount of memory however long it runs.
LIMITS: Mapping[str, int] = {
    "environments": 100,
    "spans": 3000,
    "records": 2000,
    "invocations": 300,
    "destinations": 20,
    "ledgers": 100,
    "notices": 20,
}


class Tables:
    """Rows by table and id. Every change has a number, which a reader hands back to learn what came after it."""

    def __init__(self, limits: Mapping[str, int] = LIMITS) -> None:
        self.number = 0  # of the last change
        self._limits = limits
        self._totals = dict.fromkeys(limits, 0)  # rows ever put into each table
        self._rows: dict[str, dict[str, Row]] = {name: {} for name in limits}
        self._changes: dict[str, dict[str, int]] = {name: {} for name in limits}
        self._changed = asyncio.Event()

    def put(self, table: str, id_: str, **members: Any) -> Row:
        """Add the row `id_`, or change members of it; return it. The oldest row goes if there are too many."""
        rows = self._rows[table]
        row = rows.get(id_)
        if row is None:
            self._totals[table] += 1
            row = rows[id_] = {"id": id_}
            if len(rows) > self._limits[table]:
                oldest = next(iter(rows))
                del rows[oldest], self._changes[table][oldest]
        elif all(name in row and row[name] == value for name, value in members.items()):
            return row
        row.update(members)
        self.number += 1
        self._changes[table][id_] = self.number
        self._changed.set()
        return row

    def get(self, table: str, id_: str) -> Row | None:
        return self._rows[table].get(id_)

    def since(self, number: int) -> dict[str, Any]:
        """Return what a page needs to know that has seen the changes up to `number` (0: nothing yet).

        `rows` has the new and the changed rows, oldest first. `first` is the oldest row of each table that is kept.
        """
        return {
            "number": self.number,
            "limits": self._limits,
            "totals": self._totals,
            "first": {name: next(iter(rows), None) for name, rows in self._rows.items()},
            "rows": {
                name: [row for id_, row in rows.items() if self._changes[name][id_] > number]
                for name, rows in self._rows.items()
            },
        }

    async def change(self, number: int) -> None:
        """Return as soon as there is a change after `number`."""
        while self.number <= number:
            self._changed.clear()
            await self._changed.wait()
