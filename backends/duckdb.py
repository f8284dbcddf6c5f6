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
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import duckdb
import ibis
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.schema as sch
import sqlglot.expressions as sge
from ibis.backends.sql.compilers import DuckDBCompiler

from backends.base import Backend, Capabilities, Label, Made, Name, Session
from backends.compiling import double
from backends.dialect import Dialect, Identifiers
from backends.settings import checked
from backends.sql import Answer, Exists, SqlSession
from entrepot.errors import Contended, Unavailable

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 50_000
"""Rows of one Arrow batch when a table is read: large enough that Python's share is small, a few MB at most."""

LOCK_SECONDS = 20.0
"""How long a session waits for a file that another process has. Then the activity fails, and is tried again."""

_IDLE_SECONDS = 0.5
_STREAM = "entrepot_stream"


class _Compiler(DuckDBCompiler):  # type: ignore[misc]
    """ibis's own, where what DuckDB makes of it is of another type than ibis says."""

    def visit_NonNullLiteral(self, op: Any, *, value: Any, dtype: Any) -> Any:
        if dtype.is_floating() and math.isfinite(value):
            return double(float(value))  # `0.1` is a DECIMAL(2, 1)
        return super().visit_NonNullLiteral(op, value=value, dtype=dtype)

    def visit_ApproxQuantile(self, op: Any, *, arg: Any, quantile: Any, where: Any) -> Any:
        quantile = self.cast(quantile, dt.Array(dt.float32) if op.quantile.dtype.is_array() else dt.float32)
        return super().visit_ApproxQuantile(op, arg=arg, quantile=quantile, where=where)

    visit_ApproxMultiQuantile = visit_ApproxQuantile

    def visit_DateTruncate(self, op: Any, *, arg: Any, unit: Any) -> Any:
        return self.cast(super().visit_DateTruncate(op, arg=arg, unit=unit), dt.date)  # else a TIMESTAMP

    def visit_DateAdd(self, op: Any, *, left: Any, right: Any) -> Any:
        return self.cast(self.binop(sge.Add, left, right), dt.date)

    def visit_DateSub(self, op: Any, *, left: Any, right: Any) -> Any:
        return self.cast(self.binop(sge.Sub, left, right), dt.date)


DIALECT = Dialect(
    name="duckdb",
    compiler="backends.duckdb:_Compiler",
    types="DuckDBType",
    digests="backends.digest:DUCKDB",
    python_functions=True,
    identifiers=Identifiers(longest_table=1000, longest_column=1000),
)

CAPABILITIES = Capabilities(transactional_ddl=True, block_sample=True, statistics=True, unsigned=True)


class DuckDBSession(SqlSession):
    """One cursor of the shared database."""

    dialect = DIALECT
    capabilities = CAPABILITIES

    def __init__(self, connection: duckdb.DuckDBPyConnection, label: Label, path: str) -> None:
        super().__init__()
        self._connection = connection
        self._label = label.comment()
        self._path = path
        self._readers: weakref.WeakKeyDictionary[duckdb.DuckDBPyConnection, bool] = weakref.WeakKeyDictionary()
        """What rows may still be read from, and whether each was interrupted."""
        self._ibis: Any = None

    def _run(self, sql: str) -> Answer:
        with _translated(self._path):
            cursor = self._connection.execute(self._label + sql)
            columns = [column[0] for column in cursor.description or []]
            rows = cursor.fetchall() if columns else []
        self._count()
        # What changes rows answers with their number.
        return Answer(columns, rows, rows[0][0] if columns == ["Count"] and rows else 0)

    def _arrow(self, sql: str) -> pa.RecordBatchReader:
        import pyarrow as pa

        # A cursor of its own: rows are still read from it while this session writes.
        cursor = self._connection.cursor()
        self._readers[cursor] = False
        with _translated(self._path):
            found = cursor.sql(self._label + sql).to_arrow_reader(BATCH_ROWS)
        self._count()

        def batches() -> Iterator[pa.RecordBatch]:
            try:
                with _translated(self._path):
                    for batch in found:
                        if self._readers[cursor]:  # between two batches DuckDB does not take notice
                            raise InterruptedError("cancelled")
                        yield batch
            except Unavailable as error:
                if self._readers[cursor]:
                    raise InterruptedError("cancelled") from error
                raise

        return pa.RecordBatchReader.from_batches(found.schema, batches())

    def _count(self) -> None:
        self.used = replace(self.used, statements=self.used.statements + 1)

    def _columns(self, name: Name) -> list[tuple[str, str]]:
        return [(row[0], row[1]) for row in self._run(f"DESCRIBE {self.dialect.table(name)}").rows]

    def _rollback(self) -> None:
        with contextlib.suppress(duckdb.Error, Unavailable):  # a failed statement may have ended it
            super()._rollback()

    def create_table(self, name: Name, schema: sch.Schema, key: Sequence[str] = ()) -> None:
        columns = ", ".join(f"{self.dialect.identifier(n)} {self.dialect.type(t)}" for n, t in schema.items())
        columns += f", PRIMARY KEY ({', '.join(map(self.dialect.identifier, key))})" if key else ""
        self._run(f"CREATE TABLE IF NOT EXISTS {self.dialect.table(name)} ({columns})")

    def _select(self, expression: ibis.Table) -> str:
        """BIGINTs add up to HUGEINT here, which few other tools read; ibis says BIGINT. The cast fails on overflow."""
        sql = self.dialect.compile(expression)
        casts = self.dialect.casts(sch.Schema({n: t for n, t in expression.schema().items() if t.is_integer()}))
        return f"SELECT * REPLACE ({casts}) FROM ({sql})" if casts else sql

    def _rows(self, name: Name, answer: Answer) -> int:
        return answer.changed

    def load(self, name: Name, files: Sequence[str], schema: sch.Schema) -> Made:
        self._check(name, schema)
        paths = ", ".join(map(self.dialect.literal, files))
        return self._made(name, f"SELECT {self.dialect.casts(schema)} FROM read_parquet([{paths}])", schema)

    def _bring(self, name: Name, files: Sequence[str], schema: sch.Schema) -> None:
        self.load(name, files, schema)

    def write(
        self, name: Name, schema: sch.Schema, batches: Iterable[pa.RecordBatch], arrow: pa.Schema | None = None
    ) -> Made:
        import pyarrow as pa

        self._check(name, schema)
        reader = pa.RecordBatchReader.from_batches(arrow or schema.to_pyarrow(), batches)
        self._connection.register(_STREAM, reader)
        try:
            return self._made(name, f"SELECT {self.dialect.casts(schema)} FROM {_STREAM}", schema)
        finally:
            with contextlib.suppress(duckdb.Error):
                self._connection.unregister(_STREAM)

    def fetch(self, expression: ibis.Table) -> pa.Table:
        with self._with_rows(expression) as bound, _translated(self._path):
            table = self._connection.sql(self._label + self.dialect.compile(bound)).to_arrow_table()
        self._count()
        return table

    def read(self, expression: ibis.Table) -> pa.RecordBatchReader:
        with self._with_rows(expression) as bound:
            return self._arrow(self.dialect.compile(bound))

    def table(self, name: Name, schema: sch.Schema) -> ibis.Table:
        return self._backend().table(name.table, database=name.schema)

    def engine(self) -> str:
        return f"duckdb {duckdb.__version__}"

    @contextmanager
    def _with_rows(self, expression: ibis.Table) -> Iterator[ibis.Table]:
        """Makes rows and functions that live in Python known to this connection: no copy is needed."""
        if expression.op().find((ops.InMemoryTable, ops.ScalarUDF, ops.AggUDF)):
            self._backend()._run_pre_execute_hooks(expression)
        yield expression

    def _backend(self) -> Any:
        if self._ibis is None:
            self._ibis = ibis.duckdb.from_connection(self._connection)
        return self._ibis

    def interrupt(self) -> None:
        self._connection.interrupt()
        for cursor in list(self._readers):
            self._readers[cursor] = True
            cursor.interrupt()


class DuckDB(Backend):
    """A DuckDB file. Settings: `path`, and optionally `threads` and `memory_limit` as DuckDB takes them."""

    name: ClassVar[str] = "duckdb"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    dialect: ClassVar[Dialect] = DIALECT

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        self.path = path
        self.options = dict(options)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], where: str) -> DuckDB:
        known = {"path": str, "threads": int, "memory_limit": str}
        given = checked(settings, known, ["path"], cls.name, where)
        return cls(os.path.abspath(given.pop("path")), given)

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

    def close(self) -> None:
        with _guards[self.path]:
            shared = _open.get(self.path)
            if shared is not None and shared.closing is not None:
                shared.closing.cancel()
        if shared is not None:
            _close(self.path, shared)


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
                # ibis writes functions over arrays with an arrow, which DuckDB would rather have otherwise.
                # Without GLOBAL, the cursors of the sessions would not have it.
                connection.execute(
                    "SET preserve_insertion_order = false; SET GLOBAL TimeZone = 'UTC'; "
                    "SET GLOBAL lambda_syntax = 'ENABLE_SINGLE_ARROW'"
                )
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
    except InterruptedError:
        raise
    except duckdb.InterruptException as error:
        raise InterruptedError("cancelled") from error
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
            kind = Exists if is_taken else Contended
            raise kind(f"another run writes the same to {path}: {text.splitlines()[0]}") from error
        if isinstance(error, duckdb.IOException):
            raise Unavailable(f"the DuckDB file {path} cannot be used: {text.splitlines()[0]}") from error
        raise
