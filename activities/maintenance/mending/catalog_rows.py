"""Rows of the catalog that cannot be read: found by reading each as what it is, and mended where something tells how.

What an environment points at, or remembers of a source, stands in its history, too. What was made is forgotten, since a
version without a row is made anew, or loaded from the lake; and of what only tells what happened, the row goes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlglot.expressions as sge

from entrepot.activities.catalog.environment import Publish
from entrepot.activities.catalog.ingest_state import IngestState
from entrepot.activities.catalog.records import Certificate, CheckVerdict, Run
from entrepot.activities.catalog.tables import KEYS, TABLES, CatalogTables, Row, equals
from entrepot.activities.catalog.version import Version
from entrepot.tracebacks import describe

_READERS: Mapping[str, Callable[[Row], Any]] = {
    "publishes": Publish.of_row,
    "environments": Publish.of_row,
    "loads": IngestState.of_row,
    "ingest_states": IngestState.of_row,
    "versions": Version.of_row,
    "checks": CheckVerdict.of_row,
    "certificates": Certificate.of_row,
    "runs": Run.of_row,
}
"""Histories before what they are the history of, so that nothing is mended by what cannot be read either."""

_HISTORIES = {"environments": "publishes", "ingest_states": "loads"}
_KEYS = {
    **KEYS,
    "checks": ("pipeline", "name", "version", "run"),
    "certificates": ("pipeline", "name", "version", "run"),
    "runs": ("pipeline", "environment", "run", "status"),
}


@dataclass(frozen=True)
class _Unreadable:
    """A row that cannot be read."""

    table: str
    row: Row
    why: str

    @property
    def same(self) -> list[sge.Condition]:
        """What tells it from all others."""
        return [equals(name, self.row[name]) for name in _KEYS[self.table]]

    def __str__(self) -> str:
        which = ", ".join(str(self.row[name]) for name in _KEYS[self.table])
        return f"the catalog's row of {which} in {self.table!r} cannot be read ({self.why[:100]})"


def mend(tables: CatalogTables, pipeline: str, *, dry_run: bool) -> list[str]:
    """Mends what cannot be read of a pipeline. What was found, and what was done, each in a sentence."""
    found = []
    for each in [each for table in _READERS for each in _unreadable(tables, table, pipeline)]:
        then = _last_readable(tables, each) if each.table in _HISTORIES else None
        if then is not None:
            back = f", as after change {then['sequence']}" if then["sequence"] != each.row["sequence"] else ""
            found.append(f"{each}: restored from its history{back}")
        elif each.table in _HISTORIES:
            found.append(f"{each}, and neither can its history: forgotten, so the next run makes it anew")
        else:
            found.append(f"{each}: forgotten")
        if dry_run:
            continue
        if then is not None:
            tables.update(each.table, then, *each.same)
        else:
            for table in filter(None, (_HISTORIES.get(each.table), each.table)):
                tables.delete(table, *each.same)
    return found


def _unreadable(tables: CatalogTables, table: str, pipeline: str) -> list[_Unreadable]:
    found = []
    for row in tables.select(table, equals("pipeline", pipeline)):
        try:
            _READERS[table](row)
        except Exception as error:  # whatever JSON, or pydantic, says of it
            found.append(_Unreadable(table, row, " ".join(describe(error).split())))
    return found


def _last_readable(tables: CatalogTables, each: _Unreadable) -> Row | None:
    """The same state, as the history has it; or else the newest before it."""
    history = _HISTORIES[each.table]
    for row in sorted(tables.select(history, *each.same), key=lambda row: row["sequence"], reverse=True):
        try:
            _READERS[history](row)
        except Exception:
            continue
        values = {name: row[name] for name in TABLES[history] if name not in _KEYS[each.table]}
        return values | ({"views_synced": 0} if each.table == "environments" else {})  # whatever is shown by now
    return None
