"""The catalog's records of what was: publishes, loads, runs and verdicts. They are kept by policy, not for ever."""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Callable, Iterable, Sequence

import sqlglot.expressions as sge

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.tables import Row, any_of, column, equals

KEEP = 100
"""The newest records of each environment that stay, however old they are."""

_AT_ONCE = 1000
"""Values of one statement."""


def trim(catalog: PipelineCatalog, kept: set[tuple[str, str]], border: datetime.datetime, keep_publishes: int) -> None:
    """Forgets records from before `border`, but for the newest of each environment.

    Args:
        kept: The versions that stay: of what was found on them as much is kept as of what was found on others.
    """
    _trim_states(catalog, "publishes", "published_at", ("environment",), border, max(KEEP, keep_publishes))
    _trim_states(catalog, "loads", "loaded_at", ("environment", "step"), border, KEEP)
    for rows in _groups(catalog, "runs", ("environment",), ("run", "ended_at")):
        newest_first = sorted(rows, key=lambda row: row["ended_at"], reverse=True)
        _forget(catalog, "runs", "run", (row["run"] for row in newest_first[KEEP:] if row["ended_at"] < border))
    for rows in _groups(catalog, "checks", ("name",), ("version", "run", "inputs", "checked_at")):
        newest_first = sorted(rows, key=lambda row: row["checked_at"], reverse=True)
        # What was found on versions that are gone may stand on those of now, where it uses nothing of what changed.
        on_kept, on_others = _split(newest_first, lambda row: set(json.loads(row["inputs"]).items()) <= kept)
        gone = [row for row in (*on_kept[KEEP:], *on_others[KEEP:]) if row["checked_at"] < border]
        for version, its in itertools.groupby(sorted(gone, key=lambda row: row["version"]), lambda row: row["version"]):
            same = (equals("name", gone[0]["name"]), equals("version", version))
            _forget(catalog, "checks", "run", (row["run"] for row in its), *same)
    for rows in _groups(catalog, "certificates", ("name",), ("version", "made_at")):
        gone = [row for row in rows if (row["name"], row["version"]) not in kept and row["made_at"] < border]
        _forget(catalog, "certificates", "version", (row["version"] for row in gone), equals("name", rows[0]["name"]))


def _trim_states(
    catalog: PipelineCatalog, table: str, time: str, key: tuple[str, ...], border: datetime.datetime, keep: int
) -> None:
    """The states that a row had: those before a number go, so that what stays has no gap."""
    for rows in _groups(catalog, table, key, ("sequence", time)):
        newest_first = sorted(rows, key=lambda row: row["sequence"], reverse=True)
        if gone := [row for row in newest_first[keep:] if row[time] < border]:
            same = (equals(name, gone[0][name]) for name in key)
            until = column("sequence") <= sge.Literal.number(gone[0]["sequence"])
            catalog.tables.delete(table, equals("pipeline", catalog.name), *same, until)


def _split(rows: Iterable[Row], test: Callable[[Row], bool]) -> tuple[list[Row], list[Row]]:
    """Those for which a test holds, and the others."""
    found: tuple[list[Row], list[Row]] = ([], [])
    for row in rows:
        found[0 if test(row) else 1].append(row)
    return found


def _groups(catalog: PipelineCatalog, table: str, key: Sequence[str], columns: Sequence[str]) -> list[list[Row]]:
    """A table's rows, those with the same key together."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in catalog.tables.select(table, equals("pipeline", catalog.name), columns=(*key, *columns)):
        found.setdefault(tuple(row[name] for name in key), []).append(row)
    return list(found.values())


def _forget(catalog: PipelineCatalog, table: str, name: str, values: Iterable[str], *same: sge.Condition) -> None:
    every = sorted(set(values))
    for start in range(0, len(every), _AT_ONCE):
        some = any_of(name, every[start : start + _AT_ONCE])
        catalog.tables.delete(table, equals("pipeline", catalog.name), *same, some)
