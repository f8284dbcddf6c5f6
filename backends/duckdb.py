"""DuckDB: one file for a tenant.

Within a process all sessions share one open database. It is closed a moment after the last of them ends, so that
another worker, or somebody with a DuckDB shell, can have the file: DuckDB lets one process write at a time.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.schema as sch
import sqlglot.expressions as sge
from ibis.backends.sql.compilers import DuckDBCompiler
from ibis.backends.sql.datatypes import DuckDBType

from backends.base import Backend, Capabilities, Label, Name, Session
from entrepot.errors import BadInput, Contended, Unavailable, unknown

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 50_000
"""Rows of one Arrow batch when a table is read: large enough that Python's share is small, a few MB at most."""

LOCK_SECONDS = 20.0
"""How long a session waits for a file that another process has. Then the activity fails, and is tried again."""

_IDLE_SECONDS = 0.5
_STREAM = "entrepot_stream"


class DuckDBSession(Session):
    """One cursor of the shared database."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, label: Label, path: str) -> None:
        self._connection = connection
        self._label = label.comment()
        self._path = path
        self._ibis: Any = None

    def execute(self, sql: str) -> None:
        with _translated(self._path):
            self._connection.execute(self._label + sql)

    def query(self, query: sge.Expression) -> list[dict[str, Any]]:
        with _translated(self._path):
            cursor = self._connection.execute(self._label + query.sql("duckdb"))
            names = [column[0] for column in cursor.description or []]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def insert(self, name: Name, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        columns = list(rows[0])
        marks = "(" + ", ".join("?" * len(columns)) + ")"
        sql = f"INSERT INTO {_quoted(name)} ({', '.join(map(_identifier, columns))}) VALUES "
        with _translated(self._path):
            self._connection.execute(
                self._label + sql + ", ".join([marks] * len(rows)), [row[c] for row in rows for c in columns]
            )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.execute("BEGIN TRANSACTION")
        try:
            yield
        except BaseException:
            with contextlib.suppress(duckdb.Error, Unavailable):  # a failed statement may have ended it
                self.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def create_schema(self, schema: str) -> None:
        self.execute(f"CREATE SCHEMA IF NOT EXISTS {_identifier(schema)}")

    def create_table(self, name: Name, schema: sch.Schema, key: Sequence[str] = ()) -> None:
        columns = ", ".join(f"{_identifier(n)} {_type(t)}" for n, t in schema.items())
        columns += f", PRIMARY KEY ({', '.join(map(_identifier, key))})" if key else ""
        self.execute(f"CREATE TABLE IF NOT EXISTS {_quoted(name)} ({columns})")

    def create_as(self, name: Name, expression: ibis.Table) -> int:
        self._register(expression)
        return self._create(name, _whole_numbers(_compile(expression), expression.schema()))

    def load(self, name: Name, files: Sequence[str], schema: sch.Schema) -> int:
        paths = ", ".join(sge.Literal.string(path).sql("duckdb") for path in files)
        return self._create(name, f"SELECT {_casts(schema)} FROM read_parquet([{paths}])")

    def write(
        self, name: Name, schema: sch.Schema, batches: Iterable[pa.RecordBatch], arrow: pa.Schema | None = None
    ) -> int:
        import pyarrow as pa

        reader = pa.RecordBatchReader.from_batches(arrow or schema.to_pyarrow(), batches)
        self._connection.register(_STREAM, reader)
        try:
            return self._create(name, f"SELECT {_casts(schema)} FROM {_STREAM}")
        finally:
            with contextlib.suppress(duckdb.Error):
                self._connection.unregister(_STREAM)

    def fetch(self, expression: ibis.Table) -> pa.Table:
        self._register(expression)
        with _translated(self._path):
            return self._connection.sql(self._label + _compile(expression)).to_arrow_table()

    def read(self, expression: ibis.Table) -> pa.RecordBatchReader:
        self._register(expression)
        # A cursor of its own: rows are still read from it while this session writes.
        cursor = self._connection.cursor()
        with _translated(self._path):
            return cursor.sql(self._label + _compile(expression)).to_arrow_reader(BATCH_ROWS)

    def describe(self, name: Name) -> sch.Schema:
        with _translated(self._path):
            rows = self._connection.execute(f"{self._label}DESCRIBE {_quoted(name)}").fetchall()
        return sch.Schema({row[0]: _dtype(row[1]) for row in rows})

    def tables(self, schema: str) -> set[str]:
        query = (
            sge.select("table_name")
            .from_("information_schema.tables")
            .where(sge.column("table_schema").eq(sge.Literal.string(schema)))
        )
        return {row["table_name"] for row in self.query(query)}

    def point(self, view: Name, table: Name) -> None:
        self.execute(f"CREATE OR REPLACE VIEW {_quoted(view)} AS SELECT * FROM {_quoted(table)}")

    def drop_view(self, view: Name) -> None:
        self.execute(f"DROP VIEW IF EXISTS {_quoted(view)}")

    def drop_table(self, name: Name) -> None:
        self.execute(f"DROP TABLE IF EXISTS {_quoted(name)}")

    def ibis_backend(self) -> Any:
        if self._ibis is None:
            self._ibis = ibis.duckdb.from_connection(self._connection)
        return self._ibis

    def _create(self, name: Name, select: str) -> int:
        with _translated(self._path):
            row = self._connection.execute(f"{self._label}CREATE TABLE {_quoted(name)} AS {select}").fetchone()
        return int(row[0]) if row else 0

    def _register(self, expression: ibis.Table) -> None:
        """Makes rows and functions that live in Python known to this connection."""
        if expression.op().find((ops.InMemoryTable, ops.ScalarUDF, ops.AggUDF)):
            self.ibis_backend()._run_pre_execute_hooks(expression)

    def interrupt(self) -> None:
        self._connection.interrupt()


class DuckDB(Backend):
    """A DuckDB file. Settings: `path`, and optionally `threads` and `memory_limit` as DuckDB takes them."""

    name: ClassVar[str] = "duckdb"
    capabilities: ClassVar[Capabilities] = Capabilities(transactional_ddl=True, longest_name=1000, block_sample=True)

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        self.path = path
        self.options = dict(options)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], where: str) -> DuckDB:
        known = {"path": str, "threads": int, "memory_limit": str}
        for key, value in settings.items():
            if key not in known:
                raise BadInput(f"{where}: {unknown('setting of a duckdb backend', key, known)}")
            if type(value) is not known[key]:
                raise BadInput(f"{where}: `{key}` must be of type {known[key].__name__}, not {value!r}")
        if "path" not in settings:
            raise BadInput(f"{where}: a duckdb backend needs `path`, the file that holds the tenant's tables")
        return cls(os.path.abspath(settings["path"]), {k: v for k, v in settings.items() if k != "path"})

    def session(self, label: Label, opened: Callable[[Session], None] | None = None) -> AbstractContextManager[Session]:
        return self._session(label, opened)

    @contextmanager
    def _session(self, label: Label, opened: Callable[[Session], None] | None) -> Iterator[Session]:
        with _shared(self.path, self.options) as database:
            cursor = database.cursor()
            try:
                session = DuckDBSession(cursor, label, self.path)
                if opened is not None:
                    opened(session)
                yield session
            finally:
                cursor.close()


class _Shared:
    """An open database, and how many sessions use it."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection
        self.users = 0
        self.closing: threading.Timer | None = None


_open: dict[str, _Shared] = {}
_guards: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@contextmanager
def _shared(path: str, options: Mapping[str, Any]) -> Iterator[duckdb.DuckDBPyConnection]:
    with _guards[path]:
        shared = _open.get(path)
        if shared is not None and not os.path.exists(path):  # deleted under us: what it holds is lost already
            shared.connection.close()
            shared = None
        if shared is None:
            shared = _open[path] = _Shared(_connect(path, options))
        if shared.closing is not None:
            shared.closing.cancel()
            shared.closing = None
        shared.users += 1
    try:
        yield shared.connection
    finally:
        with _guards[path]:
            shared.users -= 1
            if shared.users == 0:
                shared.closing = threading.Timer(_IDLE_SECONDS, _close, (path, shared))
                shared.closing.start()


def _close(path: str, shared: _Shared) -> None:
    with _guards[path]:
        if shared.users == 0 and _open.get(path) is shared:
            del _open[path]
            shared.connection.close()


def _connect(path: str, options: Mapping[str, Any]) -> duckdb.DuckDBPyConnection:
    """Opens the file; while another process has it, waits its turn for up to `LOCK_SECONDS`."""
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            with _translated(path):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                connection = duckdb.connect(path, config={str(k): str(v) for k, v in options.items()})
                # Rows have no order in a warehouse; not keeping one lets DuckDB stream instead of buffering.
                connection.execute("SET preserve_insertion_order = false; SET TimeZone = 'UTC'")
                return connection
        except _Locked:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class _Locked(Unavailable):
    """Another process has the file."""


@contextmanager
def _translated(path: str) -> Iterator[None]:
    """Says what a failure of file, lock or disk means, as errors that a retry may cure."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"the DuckDB file {path} cannot be used: {error.strerror or error}") from error
    except duckdb.Error as error:
        text = str(error)
        if "Could not set lock" in text:
            holder = re.search(r"held in (.*?) \(PID (\d+)\)", text)
            who = f"process {holder[2]} ({os.path.basename(holder[1])})" if holder else "another process"
            raise _Locked(
                f"the DuckDB file {path} is locked by {who}; close it there, since one process at a time can write"
            ) from error
        if "No space left" in text or "out of disk" in text.lower():
            raise Unavailable(f"the disk that holds the DuckDB file {path} is full") from error
        if "Read-only file system" in text or "Permission denied" in text or "read-only" in text:
            raise Unavailable(f"the DuckDB file {path} cannot be written: its disk or file is read-only") from error
        is_taken = isinstance(error, duckdb.CatalogException) and "already exists" in text
        if is_taken or isinstance(error, duckdb.TransactionException | duckdb.ConstraintException):
            raise Contended(f"another run writes the same to {path}: {text.splitlines()[0]}") from error
        if isinstance(error, duckdb.IOException):
            raise Unavailable(f"the DuckDB file {path} cannot be used: {text.splitlines()[0]}") from error
        raise


class _Compiler(DuckDBCompiler):  # type: ignore[misc]
    """ibis writes the float64 0.1 as `0.1`, which DuckDB reads as DECIMAL(2, 1); with an exponent it is a DOUBLE."""

    def visit_NonNullLiteral(self, op: Any, *, value: Any, dtype: Any) -> Any:
        if dtype.is_floating() and math.isfinite(value):
            text = repr(abs(float(value)))
            literal = sge.Literal.number(text if "e" in text else f"{text}e0")
            return sge.Neg(this=literal) if value < 0 else literal
        return super().visit_NonNullLiteral(op, value=value, dtype=dtype)


def _compile(expression: ibis.Table) -> str:
    return _Compiler().to_sqlglot(expression).sql("duckdb")  # type: ignore[no-any-return]


def _whole_numbers(sql: str, schema: sch.Schema) -> str:
    """DuckDB adds up BIGINTs into HUGEINT, which few other tools read; ibis says BIGINT. The cast fails on overflow."""
    casts = _casts(sch.Schema({n: t for n, t in schema.items() if t.is_integer()}))
    return f"SELECT * REPLACE ({casts}) FROM ({sql})" if casts else sql


def _casts(schema: sch.Schema) -> str:
    return ", ".join(f"CAST({_identifier(n)} AS {_type(t)}) AS {_identifier(n)}" for n, t in schema.items())


@lru_cache(maxsize=1024)
def _type(dtype: dt.DataType) -> str:
    return str(DuckDBType.to_string(dtype))


@lru_cache(maxsize=1024)
def _dtype(text: str) -> dt.DataType:
    return DuckDBType.from_string(text)


@lru_cache(maxsize=16_384)
def _identifier(name: str) -> str:
    return sge.to_identifier(name, quoted=True).sql("duckdb")


def _quoted(name: Name) -> str:
    return f"{_identifier(name.schema)}.{_identifier(name.table)}"
