"""Compare-and-append: one row that says how things are now, and a history of all that it has said.

The row is changed by one UPDATE that says which state it expects to follow. So of two at the same time one wins, on
every warehouse, with or without transactions; and whoever dies has changed everything or nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlglot.expressions as sge

from entrepot.activities.catalog.tables import TABLES, CatalogTables, Row, equals


@dataclass(frozen=True)
class SequencedRow:
    """The row with this key. Its states are numbered from 1 (`sequence`); 0 is a row that says nothing yet."""

    tables: CatalogTables
    table: str
    """Has the row."""
    history: str
    """Has a row for each state that it had, with the key and the number."""
    key: Mapping[str, str]

    def current(self) -> Row | None:
        """The row as it is now."""
        # Without keys, two first runs at the same time may both have made the row; an UPDATE then changes both.
        return next(iter(self.tables.select(self.table, *self._same(), newest="sequence")), None)

    def create(self, values: Row) -> Row:
        """Adds the row, in the state 0."""
        row = {**self.key, **values, "sequence": 0}
        self.tables.insert(self.table, row)
        return row

    def compare_and_append(self, expected: int, values: Row, *, initial: Row | None = None) -> tuple[bool, Row | None]:
        """Changes the row, if it is in the state of this number. Returns whether, and the row as it is then.

        Args:
            initial: What the row says at first, to create it where it is missing.
        """
        before = self.current()
        if before is None and initial is not None:
            before = self.create(initial)
        if before is None or before["sequence"] != expected:
            return False, before
        self._archive(before)
        changed = {**values, "sequence": expected + 1}
        if self.tables.update(self.table, changed, *self._same(), equals("sequence", expected)):
            made = self.current()
            self._archive(made)
            return True, made
        return False, self.current()

    def _same(self) -> list[sge.Condition]:
        return [equals(name, value) for name, value in self.key.items()]

    def _archive(self, row: Row | None) -> None:
        """Adds a state to the history, unless it is there: also for somebody who died before he could."""
        if row is None or not row["sequence"]:
            return
        same = (*self._same(), equals("sequence", row["sequence"]))
        if not self.tables.select(self.history, *same, columns=["sequence"]):
            self.tables.insert(self.history, {name: row[name] for name in TABLES[self.history]})


def each_state(rows: Iterable[Row], *key: str) -> list[Row]:
    """The states of rows with these keys, each once, from both tables: the newest stands in one of them or in both."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        if row["sequence"]:
            found.setdefault((*(row[name] for name in key), row["sequence"]), row)
    return list(found.values())
