"""Rows of SQLite as Arrow: all of a table, or those beyond a cursor's value."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import ibis.expr.datatypes as dt
import pyarrow as pa
from entrepot.activities.ingest.sources.quoting import quoted
from entrepot.activities.ingest.sources.stream import Hints, IntervalFilter, Piece, RawTable, Stream, Watermark
from entrepot.errors import BadInput, StepFailed, Unavailable, unknown
from entrepot.language.interval import Bound, Interval

from entrepot_sqlite import SqliteTable

PIECE_ROWS = 100_000
WAIT_SECONDS = 5.0
"""For whoever is writing to the file."""

Row = tuple[object, ...]


class SqliteSource:
    """A table of a SQLite file."""

    fingerprint = None

    def __init__(self, description: SqliteTable) -> None:
        self._described = description

    def open(self, table: RawTable, watermark: Watermark, interval: Interval | None) -> Stream:
        """All rows or, with a cursor, those that are new."""
        if interval is not None and self._described.cursor is None:
            raise BadInput(f"table {table.name!r}: a backfill of an interval needs a `cursor`, and there is none")
        return _Rows(self._described, table, watermark, interval)


class _Rows:
    """The rows in the cursor's order, so that each piece's last value is a watermark."""

    def __init__(
        self, described: SqliteTable, table: RawTable, watermark: Watermark, interval: Interval | None
    ) -> None:
        self._described = described
        self._at = f"{described.path!r}, table {described.table!r}"
        self._table = table
        self._interval = interval
        self._watermark = self._own(watermark)
        self._is_all_anew = watermark != self._watermark

    def pieces(self, watermark: Watermark | None) -> Iterator[Piece]:
        """The rows, in one snapshot."""
        resumed = self._own(watermark or {})
        reached = resumed or self._watermark
        with self._errors(), closing(self._connected()) as connection:
            connection.execute("BEGIN")
            types = self._types(connection)
            self._check(connection, list(types))
            where, values = self._conditions(resumed)
            order = f" ORDER BY {self._by}" if self._described.cursor else ""
            found = connection.execute(f"SELECT * FROM {quoted(self._described.table)}{where}{order}", values)
            names = [column[0] for column in found.description]
            yield Piece(self._table.name, self._batch(names, types, []))  # a table without rows has columns
            at = names.index(self._described.cursor) if self._described.cursor else None
            for rows in _parts(found, at):
                if at is not None:
                    reached = {"cursor": self._described.cursor, "last": rows[-1][at]}
                yield Piece(self._table.name, self._batch(names, types, rows), reached or None)
        if self._interval is None:
            self._watermark = reached

    def watermark(self) -> Watermark:
        """The greatest value of the cursor."""
        return self._watermark

    def hints(self) -> dict[str, Hints]:
        """With a cursor, rows are appended; those of an interval, or all by a new cursor, replace the existing ones."""
        if self._described.cursor is None:
            return {self._table.name: Hints("replace")}
        interval = self._interval or (Interval(None, None) if self._is_all_anew else None)
        again = interval and IntervalFilter(interval.start, interval.end, self._described.cursor)
        return {self._table.name: Hints("append", replaces=again)}

    def notes(self) -> dict[str, list[str]]:
        """There is nothing to tell."""
        return {}

    @property
    def _by(self) -> str:
        """The cursor, in SQL: texts that differ are never the same, as a column's own order may have it."""
        return f"{quoted(self._described.cursor or '')} COLLATE BINARY"

    def _own(self, watermark: Watermark) -> Watermark:
        """A watermark, unless it is another cursor's."""
        cursor = self._described.cursor
        return watermark if cursor is not None and watermark.get("cursor") == cursor else {}

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises Unavailable where somebody writes to the file now, and StepFailed for all else that SQLite says."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it tells which kind of lock
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise Unavailable(f"{self._at}: somebody else has locked the file: {error}") from error
            raise StepFailed(f"{self._at} cannot be read: {error}") from error

    def _connected(self) -> sqlite3.Connection:
        if not Path(self._described.path).is_file():  # SQLite would make one
            raise BadInput(f"there is no file {self._described.path!r}")
        uri = f"{Path(self._described.path).absolute().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, timeout=WAIT_SECONDS, isolation_level=None)

    def _types(self, connection: sqlite3.Connection) -> dict[str, pa.DataType | None]:
        """The table's columns: what loads before found in them, or else what SQLite's declaration says."""
        asked = connection.execute(f"PRAGMA table_info({quoted(self._described.table)})")
        declared = {name: _declared(text) for _, name, text, *_ in asked}
        known = self._table.columns
        return {name: _known(known[name]) if name in known else dtype for name, dtype in declared.items()}

    def _check(self, connection: sqlite3.Connection, columns: list[str]) -> None:
        """Raises BadInput for a table or a cursor that is not there: SQLite takes the name of one for a text."""
        cursor = self._described.cursor
        if not columns:
            raise BadInput(f"{self._at}: there is no such table")
        if cursor and cursor not in columns:
            raise BadInput(f"{self._at}, cursor: {unknown('column', cursor, columns)}")
        nulls = f"SELECT 1 FROM {quoted(self._described.table)} WHERE {quoted(cursor or '')} IS NULL LIMIT 1"
        if cursor and connection.execute(nulls).fetchone():
            raise StepFailed(
                f"{self._at}: the cursor {cursor!r} is NULL in some row, which would be read once or never"
            )

    def _conditions(self, resumed: Watermark) -> tuple[str, list[Bound]]:
        """SQL for the rows of this load, or for what is left of them behind a piece's watermark."""
        asked = self._interval
        tests = [(">", self._watermark.get("last"))] if asked is None else [(">=", asked.start), ("<", asked.end)]
        tests += [(">", resumed.get("last"))]
        tests = [(operator, value) for operator, value in tests if value is not None]
        where = " AND ".join(f"{self._by} {operator} ?" for operator, _ in tests)
        return (f" WHERE {where}" if where else ""), [value for _, value in tests]

    def _batch(self, names: list[str], types: dict[str, pa.DataType | None], rows: list[Row]) -> pa.RecordBatch:
        """Rows as Arrow."""
        columns = list(zip(*rows, strict=True)) or [() for _ in names]
        arrays = [self._array(name, types.get(name), column) for name, column in zip(names, columns, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, names=names)

    def _array(self, name: str, wanted: pa.DataType | None, values: Row) -> pa.Array:
        """A column's values. SQLite takes such of several types, or of others than declared, as no warehouse does."""
        for dtype in (wanted, None):
            try:
                return pa.array(values, dtype)
            except pa.ArrowException:
                continue
        raise StepFailed(f"{self._at}: column {name!r} has values of several types")


def _parts(rows: Iterable[Row], at: int | None) -> Iterator[list[Row]]:
    """The rows in parts, which end only where the value at this position changes: whoever continues loses none."""
    part: list[Row] = []
    for row in rows:
        if len(part) >= PIECE_ROWS and (at is None or row[at] != part[-1][at]):
            yield part
            part = []
        part.append(row)
    if part:
        yield part


_WORDS = {
    "INT": pa.int64(),
    "CHAR": pa.string(),
    "CLOB": pa.string(),
    "TEXT": pa.string(),
    "BLOB": pa.binary(),
    "REAL": pa.float64(),
    "FLOA": pa.float64(),
    "DOUB": pa.float64(),
}
"""What SQLite looks for in a declared type, in its order."""


def _declared(text: str) -> pa.DataType | None:
    """The type of values of a column that is declared so; None: that of its values."""
    return next((dtype for word, dtype in _WORDS.items() if word in text.upper()), None)


def _known(dtype: dt.DataType) -> pa.DataType | None:
    """The type in which SQLite has values of a column that has this type in the warehouse; None: that of its values."""
    if dtype.is_integer():
        return pa.int64()
    if dtype.is_floating():
        return pa.float64()
    if dtype.is_binary():
        return pa.binary()
    return pa.string() if dtype.is_string() else None
