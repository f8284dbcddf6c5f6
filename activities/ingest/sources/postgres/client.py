"""PostgreSQL as a source: its tables' columns, and their rows as Arrow, out of COPY's binary stream."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import ibis
import pyarrow as pa
import pyarrow.compute as pc

from entrepot.activities.ingest.sources import quoting
from entrepot.errors import BadInput, EntrepotError, StepFailed, Unavailable, unknown

if TYPE_CHECKING:
    from adbc_driver_postgresql.dbapi import Connection

CONNECT_SECONDS = 20
ANSWER_SECONDS = 120
"""How long a server may be silent after a small question; it may wait for a lock."""
ROWS_SECONDS = 1800
"""How long it may be silent between two batches of rows. Before the first, it may sort the table."""
LEAVE_SECONDS = 10
"""How long a call that was cancelled has to end. After that its thread is left to itself, with its connection."""
ALIVE = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000}
"""By these libpq finds out that the other machine is gone, where the URL does not say otherwise."""
LOCK_SECONDS = 60
"""How long a read waits for a table that somebody holds for himself, such as an ALTER TABLE."""
BATCH_BYTES = 64 << 20
"""Of one Arrow batch, of which two are held at a time: the one that is worked on, and the next."""

TypeKind = Literal["whole", "decimal", "float", "date", "timestamp", "timestamptz", "text", "other"]
T = TypeVar("T")

_SIMPLE: Mapping[str, tuple[TypeKind, pa.DataType]] = {
    "int2": ("whole", pa.int16()),
    "int4": ("whole", pa.int32()),
    "int8": ("whole", pa.int64()),
    "float4": ("float", pa.float32()),
    "float8": ("float", pa.float64()),
    "text": ("text", pa.string()),
    "varchar": ("text", pa.string()),
    "bpchar": ("text", pa.string()),
    "bool": ("other", pa.bool_()),
    "bytea": ("other", pa.binary()),
    "date": ("date", pa.date32()),
    "time": ("other", pa.time64("us")),
    "timestamp": ("timestamp", pa.timestamp("us")),
    "timestamptz": ("timestamptz", pa.timestamp("us", "UTC")),
}
"""What the driver gives as what it is. All else comes as the text that PostgreSQL writes for it: of some types the
driver gives bytes, or another number."""
_PRECISION, _SCALE = 38, 9
"""Of a NUMERIC without limits: what ibis takes a decimal for. Digits beyond that are refused, never rounded."""

_TIMES_BEFORE = {pa.date32(): (pa.int32(), -3_000_000), pa.timestamp("us"): (pa.int64(), -220_000_000_000_000_000)}
"""PostgreSQL's first day is in 4713 BC. What the driver gives for -infinity and infinity lies far before."""

_KINDS: Mapping[str, type[EntrepotError]] = {
    "08": Unavailable,  # the connection
    "0A": BadInput,  # there is no such feature
    "28": BadInput,  # who it is
    "3D": BadInput,  # no such database
    "3F": BadInput,  # no such schema
    "40": Unavailable,  # a standby that has to go on, a deadlock
    "42": BadInput,  # no such table or column, a grant is missing
    "53": Unavailable,  # disk, memory or connections are used up
    "55": Unavailable,  # another session holds the lock for too long
    "57": Unavailable,  # cancelled by somebody, shut down, starting up
    "58": Unavailable,
}
# Without an SQLSTATE, which the driver does not pass on for failed logins, nor once rows are coming.
_NEVER = re.compile(
    r"authentication failed|does not exist|no password supplied|pg_hba\.conf|permission denied|not permitted to log in"
    r"|Name or service not known|invalid |not supported by this build"
)
_AWAY = re.compile(r"terminating connection|canceling statement|conflict with recovery|shutting down|starting up|crash")
_ABOUT_URL = re.compile(r"URI|percent-encoded|connection option|missing \"=\"|invalid (port|integer)")

_RELATION = """
SELECT c.oid::int8 AS oid FROM pg_catalog.pg_class c
WHERE c.oid = pg_catalog.to_regclass({name}) AND c.relkind IN ('r', 'v', 'm', 'f', 'p')
"""
_TABLES = """
SELECT CASE WHEN pg_catalog.pg_table_is_visible(c.oid) THEN '' ELSE n.nspname || '.' END || c.relname AS name
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
"""
_COLUMNS = """
SELECT a.attname::text AS name, a.attnotnull AS required, t.typname::text AS type, t.typcategory::text AS category,
  coalesce(e.typname::text, '') AS element,
  CASE WHEN u.typtype = 'd' THEN u.typtypmod ELSE a.atttypmod END AS modifier,
  pg_catalog.format_type(t.oid, CASE WHEN u.typtype = 'd' THEN u.typtypmod ELSE a.atttypmod END) AS declared
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_type u ON u.oid = a.atttypid
JOIN pg_catalog.pg_type t ON t.oid = CASE WHEN u.typtype = 'd' THEN u.typbasetype ELSE u.oid END
LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""
_UNIQUE = """
SELECT (
  SELECT array_agg(a.attname::text ORDER BY k.place) FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(number, place)
  JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number WHERE k.place <= i.indnkeyatts
) AS columns
FROM pg_catalog.pg_index i
WHERE i.indrelid = {oid} AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
"""


@dataclass(frozen=True)
class Column:
    """A column of a table, and how it is read."""

    name: str
    declared: str
    """Its type as PostgreSQL writes it; of a domain, the type below."""
    kind: TypeKind
    required: bool
    is_array: bool
    cast: str
    """What it is cast to in what is selected, if anything."""
    made: pa.DataType
    """As it goes on."""

    @property
    def sql(self) -> str:
        """The column itself, for conditions and orders."""
        return f"t.{quoting.quoted(self.name)}"

    @property
    def selected(self) -> str:
        """What is selected for it."""
        return f"{self.sql}::{self.cast}" if self.cast else self.sql


@dataclass(frozen=True)
class Relation:
    """A table or view, as it is now."""

    name: str
    columns: Mapping[str, Column]
    unique: Sequence[Sequence[str]]
    """The columns of each unique index."""

    @property
    def path(self) -> str:
        """Its name, quoted."""
        return _path(self.name)

    @property
    def sql(self) -> str:
        """The table, for FROM."""
        return f"{self.path} AS t"


def literal(value: Any, declared: str) -> str:
    """A value of a type, which PostgreSQL reads from its text."""
    return f"{quoting.literal(str(value))}::{declared}"


def schema(columns: Sequence[Column]) -> pa.Schema:
    """What a read of columns gives."""
    return pa.schema([pa.field(column.name, column.made) for column in columns])


class Database:
    """A connection in one transaction, which sees the database as it was when that began."""

    def __init__(self, connection: Connection, thread: ThreadPoolExecutor, at: str):
        self._connection = connection
        self._thread = thread
        self._at = at
        self.is_lost = False
        """Whether a call is left that does not end, so that nobody may wait for the connection or its thread."""

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def begin(self) -> None:
        """Begins the transaction. What is written as text is so in one way, whatever the server's settings are."""
        self.rows("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        settings = {"timezone": "UTC", "datestyle": "ISO", "intervalstyle": "iso_8601", "bytea_output": "hex"}
        settings |= {"lock_timeout": f"{LOCK_SECONDS}s", "lc_monetary": "C", "standard_conforming_strings": "on"}
        self.rows("SELECT " + ", ".join(f"set_config('{name}', '{value}', true)" for name, value in settings.items()))

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """All rows of a small query."""

        def ask() -> list[dict[str, Any]]:
            with self._connection.cursor() as cursor:
                cursor.execute(sql)
                found: list[dict[str, Any]] = cursor.fetch_arrow_table().to_pylist()
                return found

        with translated(self._at):
            return self._interruptible(ask)

    def relation(self, name: str, types: Mapping[str, str]) -> Relation:
        """A table or view; `types` says which of its columns are given another ibis type.

        Raises:
            BadInput: if it is not there.
        """
        found = self.rows(_RELATION.format(name=literal(_path(name), "text")))
        if not found:
            raise BadInput(f"{self._at}: {unknown('table', name, (row['name'] for row in self.rows(_TABLES)))}")
        oid = found[0]["oid"]
        columns = [_column(row) for row in self.rows(_COLUMNS.format(oid=oid))]
        for column in types:
            if column not in {c.name for c in columns}:
                raise BadInput(f"{self._at}, types: {unknown('column', column, (c.name for c in columns))}")
        chosen = {c.name: _typed(c, types[c.name], self._at) if c.name in types else c for c in columns}
        return Relation(name, chosen, [row["columns"] for row in self.rows(_UNIQUE.format(oid=oid))])

    def read(
        self, relation: Relation, columns: Sequence[Column], where: Sequence[str] = (), order: Sequence[str] = ()
    ) -> Generator[pa.RecordBatch]:
        """Rows of a table. The next batch is on its way while the last one is worked on.

        Raises:
            StepFailed: if a value cannot be what its column is.
        """
        selected = [column.selected for column in columns]
        if arrays := [f"coalesce(array_ndims({column.sql}), 0) > 1" for column in columns if column.is_array]:
            selected.append(" OR ".join(arrays))  # the driver gives an array of arrays as one array
        sql = f"SELECT {', '.join(selected)} FROM {relation.sql}"
        sql += f" WHERE {' AND '.join(where)}" if where else ""
        sql += f" ORDER BY {', '.join(order)}" if order else ""
        hint = {"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)}
        with self._cursor(adbc_stmt_kwargs=hint) as cursor, translated(self._at):

            def start() -> pa.RecordBatchReader:
                cursor.execute(sql)
                return cursor.fetch_record_batch()

            reader = self._interruptible(start, ROWS_SECONDS)
            following: Future[pa.RecordBatch | None] = self._thread.submit(next, reader, None)
            try:
                while (batch := _done(following, ROWS_SECONDS, self._at)) is not None:
                    following = self._thread.submit(next, reader, None)
                    yield _decoded(batch, columns, self._at)
            finally:
                if not following.done():
                    self._cancel(following)
                if not self.is_lost:
                    reader.close()

    @contextmanager
    def _cursor(self, **options: Any) -> Iterator[Any]:
        cursor = self._connection.cursor(**options)
        try:
            yield cursor
        finally:
            if not self.is_lost:
                cursor.close()

    def _interruptible(self, call: Callable[[], T], seconds: float = 0) -> T:
        """Calls in the connection's thread, so that whoever waits here can be interrupted."""
        future = self._thread.submit(call)
        try:
            return _done(future, seconds or ANSWER_SECONDS, self._at)
        finally:
            if not future.done():
                self._cancel(future)

    def _cancel(self, future: Future[Any]) -> None:
        """Cancels what runs. A server that does not answer does not answer to that either, so not in this thread."""
        cancelling = Thread(target=self._cancelled, daemon=True)
        cancelling.start()
        wait([future], timeout=LEAVE_SECONDS)
        cancelling.join(timeout=LEAVE_SECONDS)
        self.is_lost = not future.done() or cancelling.is_alive()

    def _cancelled(self) -> None:
        with suppress(_driver().Error):  # it has ended by itself
            self._connection.adbc_cancel()


@contextmanager
def connected(url: str, at: str) -> Iterator[Database]:
    """A database while the block runs; `at` says which, for errors.

    Raises:
        BadInput: if it can never be reached like that.
        Unavailable: if it cannot be reached now.
    """
    options = {"connect_timeout": CONNECT_SECONDS, **ALIVE}
    own = [f"{name}={value}" for name, value in options.items() if f"{name}=" not in url]
    given = url + ("&" if "?" in url else "?") + "&".join(own)
    connect = _driver().connect
    thread = ThreadPoolExecutor(1, thread_name_prefix="entrepot-postgres")
    connecting: Future[Connection] = thread.submit(connect, given, autocommit=True)
    database = None
    try:
        with translated(at):
            # The driver asks for all types at once, so it may wait for an answer, too.
            database = Database(_done(connecting, CONNECT_SECONDS + ANSWER_SECONDS, at), thread, at)
        database.begin()
        yield database
    finally:
        is_lost = database.is_lost if database is not None else not connecting.done()
        if database is not None and not is_lost:
            database.close()
        thread.shutdown(wait=not is_lost)


@contextmanager
def translated(at: str) -> Iterator[None]:
    """Turns the driver's errors into ours. They are not kept as causes: what they say may hold the URL."""
    try:
        yield
    except _driver().Error as error:
        raise _error(str(error), error.sqlstate, at) from None
    except (OSError, pa.ArrowInvalid) as error:  # once rows are coming, from Arrow
        raise _error(str(error), None, at) from None


def _driver() -> Any:
    try:
        import adbc_driver_postgresql.dbapi
    except ImportError as error:
        raise BadInput("tables of PostgreSQL need a driver: pip install 'entrepot[postgres]'") from error
    return adbc_driver_postgresql.dbapi


def _error(text: str, state: str | None, at: str) -> EntrepotError:
    if "Failed to connect" in text and _ABOUT_URL.search(text):
        return BadInput(f"{at}: the URL cannot be read: {_message(text).split(chr(34))[0].rstrip(': ')}")
    if state:
        kind = _KINDS.get(state[:2], StepFailed)
        return kind(f"{at}: {_message(text)} ({state})")
    if "Failed to connect" in text:
        return (BadInput if _NEVER.search(text) else Unavailable)(f"{at}: {_message(text)}")
    refused = "ERROR:" in text and not _AWAY.search(text)
    return (StepFailed if refused else Unavailable)(f"{at}: {_message(text)}")


def _message(text: str) -> str:
    """The server's, or the client's, own words."""
    match = re.search(r"(?:ERROR|FATAL|PANIC): +(.*)", text) or re.search(r"(?:failed: |connect: |\] )(.*)", text)
    return (match[1] if match else text.partition("\n")[0]).strip().rstrip(".")


def _done(future: Future[T], seconds: float, at: str) -> T:
    deadline = time.monotonic() + seconds
    while not future.done():
        if time.monotonic() > deadline:
            raise Unavailable(f"{at}: the server has not answered for {seconds:,.0f} s")
        wait([future], timeout=0.2)  # without a timeout, a thread hears nothing of its cancellation
    return future.result()


def _path(name: str) -> str:
    return ".".join(quoting.quoted(part) for part in name.split("."))


def _column(row: Mapping[str, Any]) -> Column:
    is_array = row["category"] == "A" and bool(row["element"])
    name = row["element"] if is_array else row["type"]
    # Some of what has only a text can be compared with one, too: UUIDs and enums are good keys.
    kind, made = _SIMPLE.get(name, ("text" if name == "uuid" or row["category"] == "E" else "other", pa.string()))
    if name == "numeric":
        kind, made = "decimal", _decimal(row["modifier"])
    elif name == "oid":
        made = pa.int64()
    cast = "" if name in _SIMPLE else "text"
    if is_array:
        kind, cast, made = "other", cast and f"{cast}[]", pa.list_(made)
    return Column(row["name"], row["declared"], kind, row["required"], is_array, cast, made)


def _decimal(modifier: int) -> pa.DataType:
    """A NUMERIC as Arrow has it. One of more than 38 digits is made as wide as a warehouse's decimal is."""
    if modifier < 0:
        return pa.decimal128(_PRECISION, _SCALE)
    precision, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
    scale -= 2048 * (scale > 1023)  # it is signed: NUMERIC(3, -2) holds hundreds
    if scale < 0:
        precision, scale = precision - scale, 0
    return pa.decimal128(min(max(precision, scale), _PRECISION), min(scale, _PRECISION))


def _typed(column: Column, wanted: str, at: str) -> Column:
    try:
        made = ibis.dtype(wanted).to_pyarrow()
    except Exception as error:  # ibis raises what its parser does
        raise BadInput(f"{at}, types: column {column.name!r} cannot be {wanted!r}, which is no type of ibis") from error
    if made == pa.string():
        return replace(column, made=made, cast="text", is_array=False)
    return replace(column, made=made)


def _decoded(batch: pa.RecordBatch, columns: Sequence[Column], at: str) -> pa.RecordBatch:
    """The rows with the columns' names and types.

    Raises:
        StepFailed: if a value would be changed by it.
    """
    if batch.num_columns > len(columns) and pc.any(batch.column(len(columns))).as_py():
        names = ", ".join(column.name for column in columns if column.is_array)
        raise StepFailed(f"{at}: there are arrays of arrays in ({names}), which no warehouse's array can hold")
    arrays = [_cast(array, column, at) for array, column in zip(batch.columns, columns, strict=False)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema(columns))


def _cast(array: pa.Array, column: Column, at: str) -> pa.Array:
    _refuse_infinity(array, column, at)
    if array.type == column.made:
        return array
    try:
        return array.cast(column.made)
    except pa.ArrowException as error:
        raise StepFailed(
            f"{at}: column {column.name!r} of type {column.declared} has values that cannot be {column.made}: {error}; "
            f"give it another type with `types`, such as {{{column.name!r}: 'string'}}"
        ) from error


def _refuse_infinity(array: pa.Array, column: Column, at: str) -> None:
    values = array.flatten() if column.is_array else array
    naive = pa.timestamp("us") if pa.types.is_timestamp(values.type) else values.type
    if naive not in _TIMES_BEFORE:
        return
    number, first = _TIMES_BEFORE[naive]
    least = pc.min(values.view(number)).as_py()
    if least is not None and least < first:
        raise StepFailed(
            f"{at}: column {column.name!r} of type {column.declared} has infinite values, which no warehouse has; give "
            f"it as text with `types`: {{{column.name!r}: 'string'}}"
        )
