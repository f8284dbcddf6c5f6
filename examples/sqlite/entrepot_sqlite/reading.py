"""Rows of SQLite as Arrow: all of a table, or those beyond a cursor's value."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
from entrepot.activities.ingest.sources.quoting import quoted
from entrepot.activities.ingest.sources.stream import Hints, IntervalFilter, Piece, Stream, Target, Watermark
from entrepot.errors import BadInput, StepFailed, unknown
from entrepot.language.interval import Bound, Interval

from entrepot_sqlite import SqliteTable

PIECE_ROWS = 100_000


class SqliteSource:
    """A table of a SQLite file."""

    fingerprint = None

    def __init__(self, description: SqliteTable) -> None:
        self._described = description

    def open(self, target: Target, watermark: Watermark, interval: Interval | None) -> Stream:
        """All rows or, with a cursor, those that are new."""
        if interval is not None and self._described.cursor is None:
            raise BadInput(f"table {target.table!r}: a backfill of an interval needs a `cursor`, and there is none")
        return _Rows(self._described, target, watermark, interval)


class _Rows:
    """The rows in the cursor's order, so that each piece's last value is a watermark."""

    def __init__(self, described: SqliteTable, target: Target, watermark: Watermark, interval: Interval | None) -> None:
        self._described = described
        self._target = target
        self._interval = interval
        self._watermark = watermark

    def pieces(self, watermark: Watermark | None) -> Iterator[Piece]:
        """The rows, in one snapshot."""
        reached = watermark or self._watermark
        with closing(self._connected()) as connection:
            self._check(connection)
            where, values = self._conditions(watermark)
            order = f" ORDER BY {quoted(self._described.cursor)}" if self._described.cursor else ""
            found = connection.execute(f"SELECT * FROM {quoted(self._described.table)}{where}{order}", values)
            names = [column[0] for column in found.description]
            rows = found.fetchmany(PIECE_ROWS)
            yield Piece(self._target.table, self._batch(names, []))  # a table without rows has columns
            while rows:
                if self._described.cursor:
                    reached = {"last": rows[-1][names.index(self._described.cursor)]}
                yield Piece(self._target.table, self._batch(names, rows), reached or None)
                rows = found.fetchmany(PIECE_ROWS)
        if self._interval is None:
            self._watermark = reached

    def watermark(self) -> Watermark:
        """The greatest value of the cursor."""
        return self._watermark

    def hints(self) -> dict[str, Hints]:
        """With a cursor, rows are appended; those of an interval replace the existing ones."""
        if self._described.cursor is None:
            return {self._target.table: Hints("replace")}
        again = self._interval and IntervalFilter(self._interval.start, self._interval.end, self._described.cursor)
        return {self._target.table: Hints("append", replaces=again)}

    def notes(self) -> dict[str, list[str]]:
        """There is nothing to tell."""
        return {}

    def _connected(self) -> sqlite3.Connection:
        if not Path(self._described.path).is_file():  # SQLite would make one
            raise BadInput(f"there is no file {self._described.path!r}")
        return sqlite3.connect(f"{Path(self._described.path).absolute().as_uri()}?mode=ro", uri=True)

    def _check(self, connection: sqlite3.Connection) -> None:
        """Raises BadInput for a table or a cursor that is not there: SQLite takes the name of one for a text."""
        at, cursor = f"{self._described.path!r}, table {self._described.table!r}", self._described.cursor
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({quoted(self._described.table)})")]
        if not columns:
            raise BadInput(f"{at}: there is no such table")
        if cursor and cursor not in columns:
            raise BadInput(f"{at}, cursor: {unknown('column', cursor, columns)}")
        nulls = f"SELECT 1 FROM {quoted(self._described.table)} WHERE {quoted(cursor or '')} IS NULL LIMIT 1"
        if cursor and connection.execute(nulls).fetchone():
            raise StepFailed(f"{at}: the cursor {cursor!r} is NULL in some row, which would be read once or never")

    def _conditions(self, watermark: Watermark | None) -> tuple[str, list[Bound]]:
        """SQL for the rows of this load, or for what is left of them behind a piece's watermark."""
        asked = self._interval
        tests = [(">", self._watermark.get("last"))] if asked is None else [(">=", asked.start), ("<", asked.end)]
        tests = [(operator, value) for operator, value in tests if value is not None]
        tests += [(">", watermark["last"])] if watermark else []
        where = " AND ".join(f"{quoted(self._described.cursor or '')} {operator} ?" for operator, _ in tests)
        return (f" WHERE {where}" if where else ""), [value for _, value in tests]

    def _batch(self, names: list[str], rows: list[tuple[object, ...]]) -> pa.RecordBatch:
        """Rows as Arrow. A column of SQLite may hold values of several types, which no warehouse's does."""
        columns = list(zip(*rows, strict=True)) or [() for _ in names]
        arrays = []
        for name, values in zip(names, columns, strict=True):
            try:
                arrays.append(pa.array(values))
            except pa.ArrowException as error:
                raise StepFailed(f"{self._described.path!r}: column {name!r} has values of several types") from error
        return pa.RecordBatch.from_arrays(arrays, names=names)
