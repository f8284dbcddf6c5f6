"""A DuckDB file written anew without what it has given up: DuckDB itself reuses free blocks, and seldom returns them.

The new file is written beside the old one, held against it, flushed to the disk, and then takes its name in one step.
So whoever dies has changed nothing, or all of it; what he has left beside is removed by the next.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import duckdb

from entrepot.backends.base import TableName
from entrepot.backends.duckdb.client import configuration, translated
from entrepot.backends.duckdb.dialect import DIALECT
from entrepot.errors import Unavailable

FREE_SHARE, FREE_BYTES, SMALL = 0.2, 2**20, 2**28
"""A file is written anew when so much of it is free; a small file, when so many bytes are."""

_BESIDE = ".compacted"


def compact(path: str, options: Mapping[str, Any]) -> int:
    """Writes the file anew, if much of it is free. Nobody else may use it. Returns by how many bytes it is smaller.

    Raises:
        Unavailable: if the file or its disk cannot be used; the file is as it was.
    """
    beside = path + _BESIDE
    # What does not fit into memory goes beside the file, as it does while a session has it.
    config = configuration(options, temp_directory=f"{path}.tmp")
    with _removed(beside), translated(path), duckdb.connect(config=config) as both:
        # The lock on the old file is held until the end, so that no stranger writes into what is about to go.
        both.execute(f"ATTACH {DIALECT.literal(path)} AS old")
        both.execute("CHECKPOINT old")
        if not _is_worth_it(both):
            return 0
        before = os.path.getsize(path)
        both.execute(f"ATTACH {DIALECT.literal(beside)} AS fresh")
        both.execute("COPY FROM DATABASE old TO fresh")
        if _content(both, "old") != _content(both, "fresh"):
            raise Unavailable(f"the DuckDB file {path} could not be written anew: the copy differs; it is as it was")
        both.execute("DETACH fresh")  # with a checkpoint
        _flush(beside)
        shutil.copymode(path, beside)
        if os.path.exists(f"{path}.wal"):
            return 0  # it would be taken for the new file's
        os.replace(beside, path)
        _flush(os.path.dirname(path))
        return before - os.path.getsize(path)


def _is_worth_it(both: duckdb.DuckDBPyConnection) -> bool:
    blocks = "free_blocks * block_size, total_blocks * block_size"
    query = f"SELECT {blocks} FROM pragma_database_size() WHERE database_name = 'old'"
    ((free, total),) = both.execute(query).fetchall()
    return bool(free >= FREE_BYTES and (total <= SMALL or free >= FREE_SHARE * total))


def _content(both: duckdb.DuckDBPyConnection, database: str) -> list[tuple[Any, ...]]:
    """Every table with its columns and its number of rows, every view, and every key."""
    found: list[tuple[Any, ...]] = []
    for schema, table, count in both.execute(
        "SELECT schema_name, table_name, column_count FROM duckdb_tables() WHERE database_name = ? AND NOT temporary",
        [database],
    ).fetchall():
        name = f"{DIALECT.identifier(database)}.{DIALECT.table(TableName(schema, table))}"
        found.append(("table", schema, table, count, both.execute(f"SELECT count(*) FROM {name}").fetchall()[0][0]))
    of_database = "WHERE database_name = ? AND NOT internal"
    views = f"SELECT 'view', schema_name, view_name, column_count, 0 FROM duckdb_views() {of_database}"
    schemas = f"SELECT 'schema', schema_name, '', 0, 0 FROM duckdb_schemas() {of_database}"
    keys = (
        "SELECT 'key', schema_name, table_name, count(*), 0 FROM duckdb_constraints() WHERE database_name = ? "
        "GROUP BY ALL"
    )
    for query in (views, schemas, keys):
        found += both.execute(query, [database]).fetchall()
    return sorted(found)


def _flush(path: str) -> None:
    """Has the disk keep a file's content, or a folder's names."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


@contextlib.contextmanager
def _removed(beside: str) -> Iterator[None]:
    """Neither before nor after there is a half-written file, nor its log."""
    _remove(beside)
    try:
        yield
    finally:
        _remove(beside)


def _remove(beside: str) -> None:
    for each in (beside, f"{beside}.wal"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(each)
