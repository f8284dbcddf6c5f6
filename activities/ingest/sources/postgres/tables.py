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
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, get_args
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa

from entrepot.activities.ingest.sources.naming import check_apart
from entrepot.activities.ingest.sources.postgres import client
from entrepot.activities.ingest.sources.postgres.boundary import Beyond, CursorColumn, Mark, Told, written
from entrepot.activities.ingest.sources.postgres.client import Column, Database, Relation, literal
from entrepot.activities.ingest.sources.stream import Bounds, Disposition, Hints, Json, Piece, Range, Stream
from entrepot.backends.settings import Secret
from entrepot.errors import BadInput, StepFailed, listed, unknown
from entrepot.language.sources import PostgresTable

PIECE_ROWS = 1_000_000
_ORDERED = ("whole", "decimal", "date", "timestamp", "timestamptz", "text")
"""The kinds of column whose values can be written down exactly, and followed by key."""

_REFERENCES = ("env:", "file:")
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]*)(:\d+)?")


def stream(table: str, source: PostgresTable, state: Json, window: Bounds | None = None) -> Stream:
    """A database table as a stream.

    `state` is what the last load's stream told. With `window`, only rows whose cursor is at least its start and less
    than its end are brought, and the state stays as it is.

    Raises:
        BadInput: if the source's settings do not go together.
    """
    hints = _hints(table, source)
    address = Address(source, table)
    if source.cursor is None:
        if window is not None:
            raise BadInput(f"table {table!r}: a backfill of a range needs a `cursor`, and the source has none")
        return WholeTable(table, source, hints, address)
    return NewRows(table, source, hints, address, state, window)


@dataclass(frozen=True)
class Address:
    """Where a source's database is."""

    source: PostgresTable
    table: str

    def __post_init__(self) -> None:
        if not self.source.url.startswith(_REFERENCES) and _password(self.url):
            raise BadInput(
                f"table {self.table!r}: the URL has a password in it, so it must be given by reference, such as "
                "'env:NAME' or 'file:PATH'"
            )

    @cached_property
    def url(self) -> str:
        """With the secrets in it.

        Raises:
            BadInput: if it cannot be understood.
        """
        where, given = f"table {self.table!r}: `url`", self.source.url
        url = Secret(given, where).read().strip() if given.startswith(_REFERENCES) else given
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
    def at(self) -> str:
        """For people: the host, the port, the database and the table."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2] or "localhost"
        port = "" if re.search(r":\d+$", host) else ":5432"
        return f"{host}{port}{parts.path.rstrip('/')}, table {self.source.table!r}"


@dataclass
class WholeTable:
    """All rows of a table, each time.

    A table with a unique index on its key is read in the order of the key, so that a read that was cut off goes on
    behind the last one that it brought. What it then brings is of that later moment.
    """

    table: str
    source: PostgresTable
    its_hints: Hints
    address: Address

    def pieces(self, after: Json | None) -> Iterator[Piece]:
        """All rows, in one snapshot."""
        with client.connected(self.address.url, self.address.at) as database:
            relation, columns = _opened(database, self.source, self.address.at)
            order = self._order(relation)
            where: list[str] = []
            if after is not None:
                if list(after["key"]) != [column.name for column in order]:
                    raise StepFailed(f"{self.address.at}: its key changed while it was read; start the run again")
                values = [literal(after["key"][c.name], c.declared) for c in order]
                where = [f"({', '.join(c.sql for c in order)}) > ({', '.join(values)})"]
            brought = after is not None
            with closing(database.read(relation, columns, where, [column.sql for column in order])) as batches:
                for rows in _cut(batches):
                    brought = True
                    yield Piece(self.table, _renamed(rows, self.source), self._position(rows, order))
            if not brought:
                yield Piece(self.table, _renamed(_empty(columns), self.source))

    def state(self) -> Json:
        """That all rows were brought; nothing else has to be remembered."""
        return {"whole": True}

    def hints(self) -> dict[str, Hints]:
        """The table's hints."""
        return {self.table: self.its_hints}

    def notes(self) -> dict[str, list[str]]:
        """There is nothing to tell."""
        return {}

    def _order(self, relation: Relation) -> list[Column]:
        """The key's columns as its unique index has them; none, if it has none that can be followed."""
        key = set(self.source.key)
        index = next((columns for columns in relation.unique if set(columns) == key), ())
        order = [relation.columns[name] for name in index]
        plain = all(c.required and c.kind in _ORDERED and c.name not in self.source.types for c in order)
        return order if plain else []

    def _position(self, rows: pa.RecordBatch, order: Sequence[Column]) -> Json | None:
        last = {column.name: written(rows.column(column.name)[-1].as_py()) for column in order}
        return {"key": last} if last else None


class NewRows:
    """The rows of a table from a cursor value on, in the cursor's order.

    Rows with just that value may have been brought before: they are told by what is in them or, where a row must not
    be brought twice by `append`, by their key.
    """

    def __init__(
        self,
        table: str,
        source: PostgresTable,
        hints: Hints,
        address: Address,
        state: Json,
        window: Bounds | None,
    ) -> None:
        assert source.cursor is not None
        self._table, self._source, self._hints, self._address = table, source, hints, address
        self._cursor: str = source.cursor
        self._before, self._window = state, window
        self._state = dict(state)
        self._column = _name(self._cursor, source)
        self._replaces: Range | None = None

    def pieces(self, after: Json | None) -> Iterator[Piece]:
        """The rows that are new, in one snapshot."""
        at = self._address.at
        with client.connected(self._address.url, at) as database:
            relation, columns = _opened(database, self._source, at)
            cursor = CursorColumn(relation.columns[self._cursor], at)
            self._refuse_nulls(database, relation, cursor.column)
            told = Told(columns, self._source, cursor)
            self._beyond = Beyond(cursor, self._source.cursor_not_after)
            start, end, known = self._begin(cursor, told)
            if after is not None:
                if after["of"] != told.of:
                    raise StepFailed(f"{at}: its columns changed while it was read; start the run again")
                start, known = cursor.read(after["last"]), after["seen"]
            where = [cursor.condition(">=", start)] if start is not None else []
            where += [cursor.condition("<", end)] if end is not None else []
            brought = after is not None
            mark = Mark() if known is None else Mark(start, Counter(known))
            with closing(database.read(relation, columns, where, [cursor.column.sql])) as batches:
                for rows in _cut(told.new(batches, mark)):
                    brought = True
                    followed, beyond = self._beyond.parted(rows)
                    if followed.num_rows:
                        mark = told.mark(followed, mark)
                        yield Piece(self._table, _renamed(followed, self._source), told.position(mark))
                    if beyond.num_rows:  # they have no place from which to go on
                        yield Piece(self._table, _renamed(beyond, self._source))
            if self._window is None:
                self._remember(told, mark)
            # Nothing may still take the place of rows, or make the table.
            if not brought and (self._replaces is not None or not self._before):
                yield Piece(self._table, _renamed(_empty(columns), self._source))

    def state(self) -> Json:
        """The greatest cursor value, and which rows with it are known."""
        return self._state

    def hints(self) -> dict[str, Hints]:
        """The table's hints, with the rows of before that the new ones take the place of."""
        return {self._table: replace(self._hints, replaces=self._replaces)}

    def notes(self) -> dict[str, list[str]]:
        """Rows that the cursor does not follow."""
        note = self._beyond.note if self._window is None else []
        return {self._table: note} if note else {}

    def _begin(self, cursor: CursorColumn, told: Told) -> tuple[Any, Any, list[str] | None]:
        """From where and until where to read, and the rows at the start that are known.

        With None for these nobody knows what was brought of the rows from there on: all are brought, and with `append`
        they take the place of those of before.
        """
        before, source, end, known = self._before, self._source, None, None
        last = self._last(cursor)
        if self._window is not None:
            start, end = (
                None if bound is None else cursor.read(bound) for bound in (self._window.start, self._window.end)
            )
        elif last is None:
            start = None if source.start is None else cursor.read(source.start)
        elif source.lag is not None:
            start = cursor.behind(last, source.lag)
        else:
            start = last
            known = before["seen"] if before["of"] == told.of else None
        if known is None and self._hints.disposition == "append":
            self._replaces = Range(self._column, cursor.write(start), cursor.write(end))
        elif self._hints.disposition == "append" and before.get("beyond") is not None:
            self._replaces = Range(self._column, before["beyond"], None)
        return start, end, known

    def _last(self, cursor: CursorColumn) -> Any:
        """Where the last load has come to; None for the first load, or the first by this cursor, and where it is now
        beyond what the cursor may move to: there nobody knows what it has passed by."""
        last = cursor.read(self._before["last"]) if self._before.get("cursor") == cursor.name else None
        return None if last is None or self._beyond.has(last) else last

    def _remember(self, told: Told, mark: Mark) -> None:
        cursor, beyond, last = told.cursor, self._beyond.least, self._last(told.cursor)
        if mark.last is not None and (last is None or mark.last >= last):  # else rows are gone: it stays where it was
            self._state = {"cursor": cursor.name, "last": cursor.write(mark.last), "of": told.of, "seen": None}
            if self._source.lag is None and mark.seen is not None:
                self._state["seen"] = sorted(mark.seen.elements())
        self._state.pop("beyond", None)
        if beyond is not None and self._state:
            self._state["beyond"] = cursor.write(beyond)

    def _refuse_nulls(self, database: Database, relation: Relation, column: Column) -> None:
        if column.required:
            return
        (row,) = database.rows(f"SELECT count(*) AS n FROM {relation.sql} WHERE {column.sql} IS NULL")
        if row["n"]:
            raise StepFailed(
                f"{self._address.at}: the cursor {self._cursor!r} is NULL in {row['n']} row{'s' * (row['n'] > 1)}, "
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


def _renamed(rows: pa.RecordBatch, source: PostgresTable) -> pa.RecordBatch:
    return rows.rename_columns([_name(name, source) for name in rows.schema.names]) if source.rename else rows


def _cut(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for start in range(0, batch.num_rows, PIECE_ROWS):
            yield batch.slice(start, PIECE_ROWS)


def _empty(columns: Sequence[Column]) -> pa.RecordBatch:
    schema = client.schema(columns)
    return pa.RecordBatch.from_arrays([pa.array([], column.type) for column in schema], schema=schema)


def _password(url: str) -> bool:
    parts = urlsplit(url)
    return ":" in parts.netloc.rpartition("@")[0] or any("password" in name for name in parse_qs(parts.query))
