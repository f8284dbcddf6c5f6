"""What a run leaves behind, so that two runs can be held against each other: rows, versions, cursors, pointers."""

from __future__ import annotations

import datetime
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from entrepot.identity.version import CATALOG
from tests.crash.worker import HERE

LOGS = {"runs", "checks"}
"""Tables of the catalog that tell what happened, each time with other words."""
HISTORIES = {"publishes": "environments", "loads": "ingest_states"}
"""Where a warehouse has no transactions, a history's newest row may stand in the other table alone, until the next."""
_LOGGED = {"pipeline", "environment", "name", "version", "status", "violations"}
_VARIES = {
    "path",
    "sha256",
    "bytes",
    "byte_count",
    "scoring",
    "run",
    "runs",
    "workflow",
    "seconds",
    "scanned",
}
"""Columns, and keys in their JSON, that are others for each run, and mean nothing to who reads the tables."""
_HASHES = {"manifest"}
"""Likewise; but whether there is one is told."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


@dataclass
class State:
    """The rows of every table, and the content of every published file."""

    rows: dict[str, Counter[str]] = field(default_factory=dict)
    """What people query, and the versions."""
    catalog: dict[str, Counter[str]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """Files that the catalog names and that are not there."""

    @property
    def shown(self) -> dict[str, Counter[str]]:
        """What people query."""
        return {name: rows for name, rows in self.rows.items() if "__v." not in name}


@dataclass
class Difference:
    """What a disturbed run has otherwise than the undisturbed one."""

    lost: int = 0
    doubled: int = 0
    said: list[str] = field(default_factory=list)


def read(folder: Path) -> State:
    """The state of a case whose worker has ended."""
    state = State()
    with duckdb.connect(str(folder / "acme.duckdb")) as connection:
        found = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables ORDER BY ALL"
        ).fetchall()
        for schema, table in found:
            cursor = connection.execute(f'SELECT * FROM "{schema}"."{table}"')
            columns = [(column[0], str(column[1])) for column in cursor.description or []]
            rows = cursor.fetchall()
            if schema != CATALOG:
                state.rows[f"{schema}.{table}"] = Counter(repr(tuple(map(_timeless, row))) for row in rows)
            else:
                state.catalog[table] = Counter(_told(state, folder, table, columns, row) for row in rows)
    for path in sorted((folder / "lake" / "published").rglob("*")):
        if path.is_file():
            name = str(path.relative_to(folder))
            state.files[name] = path.read_text() if path.suffix == ".csv" else f"a {path.suffix} file"
    return state


def _told(state: State, folder: Path, table: str, columns: list[tuple[str, str]], row: tuple[Any, ...]) -> str:
    kept = {}
    for (name, kind), value in zip(columns, row, strict=True):
        decoded = _decoded(value)
        state.missing += [path for path in _paths(decoded) if not (folder / path).exists()]
        is_told = name in _LOGGED if table in LOGS else name not in _VARIES
        if is_told and not kind.startswith(("TIMESTAMP", "DATETIME")):
            kept[name] = _without(decoded)
    return json.dumps(kept, sort_keys=True, default=str)


def _with_newest(state: State, history: str) -> Counter[str]:
    """A history, with the row that it gets at the next change."""
    newest = [json.loads(row) for row in state.catalog.get(HISTORIES[history], ())]
    rows = [json.dumps({k: v for k, v in row.items() if k != "views_synced"}, sort_keys=True) for row in newest]
    return Counter(set(rows) | set(state.catalog.get(history, ())))


def _content(loads: Counter[str]) -> Counter[str]:
    """What loads brought. The run after one that was cancelled may have asked the source again, for nothing new."""
    rows = [json.loads(row) for row in loads]
    return Counter(
        {json.dumps({k: v for k, v in r.items() if k not in ("sequence", "load")}, sort_keys=True) for r in rows}
    )


def _timeless(value: Any) -> Any:
    """A row tells when it was loaded (`scd2`), and the data has no times of its own."""
    return "a time" if isinstance(value, datetime.datetime) else value


def _decoded(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in "{[" and value:
        return json.loads(value)
    return value


def _paths(value: Any) -> list[str]:
    """Paths in the folder of the case that stand anywhere in a value."""
    if isinstance(value, str):
        return [value[len(HERE) + 1 :]] if value.startswith(HERE + "/") else []
    each = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [path for one in each for path in _paths(one)]


def _without(value: Any) -> Any:
    if isinstance(value, Mapping):
        told = {k: bool(v) if k in _HASHES else v for k, v in value.items()}
        return {k: _without(v) for k, v in told.items() if k not in _VARIES}
    if isinstance(value, list):
        return [_without(each) for each in value]
    return _UUID.sub("…", value) if isinstance(value, str) else value


def compare(
    expected: State, got: State, *, is_same_run: bool, is_plain: bool, was_cancelled: bool = False
) -> Difference:
    """What is lost, doubled or otherwise. `is_same_run`: whether it took one run, and none that failed before.

    Without transactions, the tables of an attempt that died may stay behind, until they are collected. A run that was
    cancelled as it was prepared leaves its lease to the next collection, which asks if it goes on.
    """
    found = Difference(said=[f"{path} is missing from the lake" for path in got.missing])
    left_behind = (
        {n for n in set(got.rows) - set(expected.rows) if "__v." in n} if is_plain or not is_same_run else set()
    )
    for name in sorted({*expected.rows, *got.rows} - left_behind):
        before, after = expected.rows.get(name, Counter()), got.rows.get(name, Counter())
        found.lost += (before - after).total()
        found.doubled += (after - before).total()
        if name not in got.rows or name not in expected.rows:
            found.said.append(f"{name} {'is not there' if name not in got.rows else 'should not be there'}")
        elif before != after:
            found.said.append(
                f"{name} lost {(before - after).total()} rows and has {(after - before).total()} too many"
            )
    for table in sorted({*expected.catalog, *got.catalog}):
        before, after = expected.catalog.get(table, Counter()), got.catalog.get(table, Counter())
        if table in HISTORIES and is_plain:
            before, after = (_with_newest(state, table) for state in (expected, got))
        if table in ("loads", "ingest_states") and not is_same_run:
            before, after = _content(before), _content(after)
        if (table == "runs" and not is_same_run) or (table == "leases" and was_cancelled):
            continue
        found.said += [f"catalog.{table} lacks {row}" for row in before - after]
        found.said += [f"catalog.{table} has {row}" for row in after - before]
    found.said += [f"the published file {n} differs" for n, text in expected.files.items() if got.files.get(n) != text]
    return found
