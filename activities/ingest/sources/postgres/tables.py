"""Database tables as a source: whole, or what is new by a cursor.

A load is one snapshot: rows that others write meanwhile belong to the next one. A transaction that commits late, with a
cursor value that a load has passed already, is found by `lag` alone.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa

from entrepot.activities.ingest.sources.naming import check_apart
from entrepot.activities.ingest.sources.postgres import client
from entrepot.activities.ingest.sources.postgres.client import Column, Database, Relation, literal
from entrepot.activities.ingest.sources.postgres.cursor import (
    CursorColumn,
    CursorWatermark,
    Deduplicator,
    FutureRows,
    written,
)
from entrepot.activities.ingest.sources.stream import Hints, IntervalFilter, Piece, RawTable, Stream, Watermark
from entrepot.backends.settings import Secret
from entrepot.errors import BadInput, StepFailed, listed, unknown
from entrepot.language.interval import Interval
from entrepot.language.sources import Disposition, PostgresTable
from entrepot.secrets import REFERENCES

PIECE_ROWS = 1_000_000
_ORDERED = ("whole", "decimal", "date", "timestamp", "timestamptz", "text")
"""The kinds of column whose values can be written down exactly, and followed by key."""

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(:\d+)?")


class PostgresSource:
    """A table or view of PostgreSQL."""

    fingerprint = None

    def __init__(self, description: PostgresTable) -> None:
        self._source = description

    def probe(self) -> str:
        """The greatest value of the cursor, or how many rows were ever written, as the server counts them.

        Raises:
            BadInput: for a view without a cursor, of which nobody counts.
        """
        return _Read(self._source.table, self._source, Hints()).probe()

    def open(self, table: RawTable, watermark: Watermark, interval: Interval | None) -> Stream:
        """All rows or, with a cursor, those that are new.

        Raises:
            BadInput: if the source's settings do not go together.
        """
        return stream(table.name, self._source, watermark, interval)


def stream(table: str, source: PostgresTable, watermark: Watermark, interval: Interval | None = None) -> Stream:
    """A database table as a stream; see `Source.open`.

    Raises:
        BadInput: if the source's settings do not go together.
    """
    hints = _hints(table, source)
    if source.cursor is not None:
        return IncrementalRead(table, source, hints, watermark, interval)
    if interval is not None:
        raise BadInput(f"table {table!r}: a backfill of a range needs a `cursor`, and the source has none")
    return FullRead(table, source, hints)


class _Read:
    """What both ways to read a table share: where it is, and how its rows become pieces."""

    def __init__(self, table: str, source: PostgresTable, hints: Hints) -> None:
        self._table, self._source, self._hints = table, source, hints
        if not source.url.startswith(REFERENCES) and _has_password(self._url):
            raise BadInput(
                f"table {table!r}: the URL has a password in it, so it must be given by reference, such as 'env:NAME' "
                "or 'file:PATH'"
            )

    @cached_property
    def _url(self) -> str:
        """With the secrets in it.

        Raises:
            BadInput: if it cannot be understood.
        """
        where, given = f"table {self._table!r}: `url`", self._source.url
        url = Secret(given, where).read().strip() if given.startswith(REFERENCES) else given
        scheme = url.partition("://")[0]
        if "://" not in url or scheme not in {"postgresql", "postgres"}:
            # What was given is not repeated: it may hold a password.
            raise BadInput(f"{where} must begin with postgresql://, or be a reference such as 'env:NAME'")
        user, at, hosts = url.partition("://")[2].partition("/")[0].partition("?")[0].rpartition("@")
        if url.count("@") != len(at) or "#" in user or not all(map(_HOST.fullmatch, hosts.split(","))):
            raise BadInput(
                f"{where} must be as postgresql://user:password@host:port/database, in which special characters of the "
                "user and the password are written as %40 is for @"
            )
        return url

    @cached_property
    def _at(self) -> str:
        """For people: the host, the port, the database and the table."""
        parts = urlsplit(self._url)
        host = parts.netloc.rpartition("@")[2] or "localhost"
        port = "" if re.search(r":\d+$", host) else ":5432"
        return f"{host}{port}{parts.path.rstrip('/')}, table {self._source.table!r}"

    def hints(self) -> dict[str, Hints]:
        """The table's hints."""
        return {self._table: self._hints}

    def notes(self) -> dict[str, list[str]]:
        """There is nothing to tell."""
        return {}

    def probe(self) -> str:
        """See `PostgresSource.probe`."""
        with client.connected(self._url, self._at) as database:
            relation, _ = _opened(database, self._source, self._at)
            if self._source.cursor is not None:
                cursor = CursorColumn(relation.columns[self._source.cursor], self._at).column
                (row,) = database.rows(f"SELECT max({cursor.sql})::text AS mark FROM {relation.sql}")
                return str(row["mark"])
            counts = database.rows(
                "SELECT (n_tup_ins + n_tup_upd + n_tup_del)::text AS mark FROM pg_stat_all_tables "
                f"WHERE relid = {client.literal(relation.path, 'regclass')}"
            )
        if not counts:
            raise BadInput(f"{self._at}: a view without a `cursor` cannot be probed; give the step a `probe=`")
        return str(counts[0]["mark"])

    def _piece(self, rows: pa.RecordBatch, watermark: Watermark | None = None) -> Piece:
        names = [_name(name, self._source) for name in rows.schema.names]
        return Piece(self._table, rows.rename_columns(names) if self._source.rename else rows, watermark)


class FullRead(_Read):
    """All rows of a table, each time.

    A table with a unique index on its key is read in the order of the key, so that a read that was cut off continues
    behind the last row that it gave. What it then gives is of that later moment.
    """

    def pieces(self, watermark: Watermark | None) -> Iterator[Piece]:
        """All rows, in one snapshot."""
        with client.connected(self._url, self._at) as database:
            relation, columns = _opened(database, self._source, self._at)
            order = self._order(relation)
            where: list[str] = []
            if watermark is not None:
                if list(watermark["key"]) != [column.name for column in order]:
                    raise StepFailed(f"{self._at}: its key changed while it was read; start the run again")
                values = [literal(watermark["key"][c.name], c.declared) for c in order]
                where = [f"({', '.join(c.sql for c in order)}) > ({', '.join(values)})"]
            has_given = watermark is not None
            with closing(database.read(relation, columns, where, [column.sql for column in order])) as batches:
                for rows in _cut(batches):
                    has_given = True
                    yield self._piece(rows, _key_of_last(rows, order))
            if not has_given:
                yield self._piece(_empty(columns))

    def watermark(self) -> Watermark:
        """That all rows were read; nothing else has to be remembered."""
        return {"whole": True}

    def _order(self, relation: Relation) -> list[Column]:
        """The key's columns as its unique index has them; none, if it has none that can be followed."""
        key = set(self._source.key)
        index = next((columns for columns in relation.unique if set(columns) == key), ())
        order = [relation.columns[name] for name in index]
        plain = all(c.required and c.kind in _ORDERED and c.name not in self._source.types for c in order)
        return order if plain else []


class IncrementalRead(_Read):
    """The rows of a table from a cursor value on, in the cursor's order.

    Rows with just that value may have been read before: they are known by what is in them or, where a row must not
    be read twice by `append`, by their key.
    """

    def __init__(
        self, table: str, source: PostgresTable, hints: Hints, watermark: Watermark, interval: Interval | None
    ) -> None:
        super().__init__(table, source, hints)
        assert source.cursor is not None
        self._cursor: str = source.cursor
        self._before, self._interval = watermark, interval
        self._watermark = dict(watermark)
        self._column = _name(self._cursor, source)
        self._replaces: IntervalFilter | None = None

    def pieces(self, watermark: Watermark | None) -> Iterator[Piece]:
        """The rows that are new, in one snapshot."""
        at = self._at
        with client.connected(self._url, at) as database:
            relation, columns = _opened(database, self._source, at)
            cursor = CursorColumn(relation.columns[self._cursor], at)
            self._refuse_nulls(database, relation, cursor.column)
            deduplicator = Deduplicator(columns, self._source, cursor)
            self._future = FutureRows(cursor, self._source.cursor_not_after)
            start, end, known = self._begin(cursor, deduplicator)
            if watermark is not None:
                if watermark["of"] != deduplicator.of:
                    raise StepFailed(f"{at}: its columns changed while it was read; start the run again")
                start, known = cursor.read(watermark["last"]), watermark["seen"]
            where = [cursor.condition(">=", start)] if start is not None else []
            where += [cursor.condition("<", end)] if end is not None else []
            last = self._last(cursor)
            if self._interval is not None and self._hints.disposition == "append" and last is not None:
                where.append(cursor.condition("<=", last))  # the next load brings the others
            has_given = watermark is not None
            reached = CursorWatermark() if known is None else CursorWatermark(start, Counter(known))
            with closing(database.read(relation, columns, where, [cursor.column.sql])) as batches:
                for rows in _cut(deduplicator.new(batches, reached)):
                    has_given = True
                    followed, future = self._future.split(rows)
                    if followed.num_rows:
                        reached = deduplicator.watermark(followed, reached)
                        yield self._piece(followed, deduplicator.of_piece(reached))
                    if future.num_rows:  # nothing can continue behind them
                        yield self._piece(future)
            if self._interval is None:
                self._remember(deduplicator, reached)
            # Nothing may still replace rows, or make the table.
            if not has_given and (self._replaces is not None or not self._before):
                yield self._piece(_empty(columns))

    def watermark(self) -> Watermark:
        """The greatest cursor value, and which rows with it are known."""
        return self._watermark

    def hints(self) -> dict[str, Hints]:
        """The table's hints, with the existing rows that the new ones replace."""
        return {self._table: replace(self._hints, replaces=self._replaces)}

    def notes(self) -> dict[str, list[str]]:
        """Rows that the cursor does not follow."""
        note = self._future.note if self._interval is None else []
        return {self._table: note} if note else {}

    def _begin(self, cursor: CursorColumn, deduplicator: Deduplicator) -> tuple[Any, Any, list[str] | None]:
        """From where and until where to read, and the rows at the start that are known.

        With None for these nobody knows which rows from there on were read: all are, and with `append` they replace the
        existing ones.
        """
        before, source, end, known = self._before, self._source, None, None
        last = self._last(cursor)
        if self._interval is not None:
            start, end = (
                None if bound is None else cursor.read(bound) for bound in (self._interval.start, self._interval.end)
            )
        elif last is None:
            start = None if source.start is None else cursor.read(source.start)
        elif source.lag is not None:
            start = cursor.minus(last, source.lag)
        else:
            start = last
            known = before["seen"] if before["of"] == deduplicator.of else None
        if known is None and self._hints.disposition == "append":
            self._replaces = IntervalFilter(cursor.write(start), cursor.write(end), self._column)
        elif self._hints.disposition == "append" and before.get("beyond") is not None:
            self._replaces = IntervalFilter(before["beyond"], None, self._column)
        return start, end, known

    def _last(self, cursor: CursorColumn) -> Any:
        """The watermark's value; None for the first load, or the first by this cursor, and where it is now beyond what
        the cursor may move to: there nobody knows what it has passed by."""
        last = cursor.read(self._before["last"]) if self._before.get("cursor") == cursor.name else None
        return None if last is None or self._future.includes(last) else last

    def _remember(self, deduplicator: Deduplicator, reached: CursorWatermark) -> None:
        cursor, future, last = deduplicator.cursor, self._future.least, self._last(deduplicator.cursor)
        if reached.value is not None and (last is None or reached.value >= last):  # else rows are gone: it stays
            seen = sorted(reached.seen.elements()) if self._source.lag is None and reached.seen is not None else None
            value = cursor.write(reached.value)
            self._watermark = {"cursor": cursor.name, "last": value, "of": deduplicator.of, "seen": seen}
        self._watermark.pop("beyond", None)
        if future is not None and self._watermark:
            self._watermark["beyond"] = cursor.write(future)

    def _refuse_nulls(self, database: Database, relation: Relation, column: Column) -> None:
        if column.required:
            return
        (row,) = database.rows(f"SELECT count(*) AS n FROM {relation.sql} WHERE {column.sql} IS NULL")
        if row["n"]:
            raise StepFailed(
                f"{self._at}: the cursor {self._cursor!r} is NULL in {row['n']} row{'s' * (row['n'] > 1)}, "
                "which would never be brought; choose another cursor, or read a view without them"
            )


def _hints(table: str, source: PostgresTable) -> Hints:
    """What is known of a table from its settings alone.

    Raises:
        BadInput: if they do not go together.
    """
    where = f"table {table!r}"
    cursor, key = source.cursor, tuple(source.key)
    disposition = source.disposition or ("replace" if not cursor else "merge" if key else "append")
    if disposition not in get_args(Disposition):
        raise BadInput(f"{where}: {unknown('disposition', disposition, get_args(Disposition))}")
    if disposition in {"merge", "scd2"} and not key:
        raise BadInput(f"{where}: {disposition!r} needs a `key`, which tells a row from the others")
    if disposition in {"replace", "scd2"} and cursor:
        raise BadInput(f"{where}: a `cursor` brings new rows only; with {disposition!r} all are needed")
    if not cursor and (given := [n for n in ("start", "lag", "cursor_not_after") if getattr(source, n) is not None]):
        raise BadInput(f"{where}: {listed(given)} needs a `cursor`")
    if source.lag is not None and not (source.lag >= 0 and math.isfinite(source.lag)):
        raise BadInput(f"{where}: `lag` must be 0 or more, not {source.lag!r}")
    if source.deleted and disposition != "merge":
        raise BadInput(f"{where}: `deleted` is for 'merge', not for {disposition!r}")
    if cursor in source.types:
        raise BadInput(f"{where}: the cursor {cursor!r} cannot be given another type")
    key, deleted = tuple(_name(c, source) for c in key), source.deleted and _name(source.deleted, source)
    newest = (_name(cursor, source), "desc") if cursor and disposition == "merge" else None
    return Hints(disposition, key, deleted=deleted, newest=newest)  # type: ignore[arg-type]


def _opened(database: Database, source: PostgresTable, at: str) -> tuple[Relation, list[Column]]:
    """The table, and those of its columns that are brought.

    Raises:
        BadInput: if there is no such table or column.
    """
    relation = database.relation(source.table, source.types)
    needed = {
        "columns": source.columns,
        "cursor": [source.cursor] if source.cursor else [],
        "key": source.key,
        "deleted": [source.deleted] if source.deleted else [],
    }
    for role, names in needed.items():
        for name in names:
            if name not in relation.columns:
                raise BadInput(f"{at}, {role}: {unknown('column', name, relation.columns)}")
            if source.columns and name not in source.columns:
                raise BadInput(f"{at}: `columns` must have {name!r}, which is its {role}")
    names = list(source.columns or relation.columns)
    if strange := [name for name in source.rename if name not in names]:
        raise BadInput(f"{at}, rename: {unknown('column', strange[0], names)}")
    check_apart([(name, _name(name, source)) for name in names], at, "tell them apart by `rename`")
    return relation, [relation.columns[name] for name in names]


def _name(column: str, source: PostgresTable) -> str:
    """A column's name in the warehouse: its own, unless the user gave it another."""
    return source.rename.get(column, column)


def _key_of_last(rows: pa.RecordBatch, order: Sequence[Column]) -> Watermark | None:
    last = {column.name: written(rows.column(column.name)[-1].as_py()) for column in order}
    return {"key": last} if last else None


def _cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, PIECE_ROWS):
            yield batch.slice(start, PIECE_ROWS)


def _empty(columns: Sequence[Column]) -> pa.RecordBatch:
    schema = client.schema(columns)
    return pa.RecordBatch.from_arrays([pa.array([], column.type) for column in schema], schema=schema)


def _has_password(url: str) -> bool:
    parts = urlsplit(url)
    return ":" in parts.netloc.rpartition("@")[0] or any("password" in name for name in parse_qs(parts.query))
