"""DuckDB: one file for a tenant.

Within a process all sessions share one open database. It is closed a moment after the last of them ends, or when
another worker waits for it (`file.py`): DuckDB lets one process write at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import duckdb
import ibis
import ibis.expr.operations as ops
import ibis.expr.schema as sch

from entrepot.backends.base import Backend, Capabilities, CreatedTable, QueryTag, Session, TableName
from entrepot.backends.dialect import Dialect
from entrepot.backends.duckdb.client import translated
from entrepot.backends.duckdb.dialect import CAPABILITIES, DIALECT
from entrepot.backends.duckdb.file import file_at
from entrepot.backends.settings import checked
from entrepot.backends.sql import compat
from entrepot.backends.sql.interruption import Interruption
from entrepot.backends.sql.session import SqlSession, StatementResult
from entrepot.errors import EntrepotError

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 50_000
"""Rows of one Arrow batch when a table is read: large enough that Python's share is small, a few MB at most."""

LOCK_SECONDS = 20.0
"""How long a session waits for a file that a process has which is no worker. Then the activity fails, and is tried
again. For other workers it waits as long as they work."""

_STREAM = "entrepot_stream"
_NUMBERS = itertools.count()
"""Of functions in Python that sessions of this process have made known."""


class DuckDBSession(SqlSession):
    """One cursor of the shared database."""

    dialect = DIALECT
    capabilities = CAPABILITIES

    _connection: duckdb.DuckDBPyConnection

    def __init__(self, tag: QueryTag, path: str) -> None:
        super().__init__()
        self._comment = tag.comment()
        self._path = path
        self._is_open = False
        self._readers: weakref.WeakSet[_Reader] = weakref.WeakSet()
        """What rows may still be read from."""
        self._functions: list[str] = []
        """The names of functions in Python that it has made known."""
        self._ibis: Any = None

    def open(self, database: duckdb.DuckDBPyConnection) -> None:
        """Begins to work."""
        self._connection = database.cursor()
        self._is_open = True
        self.interruption.check()

    def close(self) -> None:
        """Ends it, and what is still read from: a single open result would keep the file from other processes."""
        if self._is_open:
            self._is_open = False
            for reader in list(self._readers):
                reader.close()
            for name in self._functions:
                with contextlib.suppress(duckdb.Error):
                    self._connection.remove_function(name)
            self._connection.close()

    def _run(self, sql: str) -> StatementResult:
        with translated(self._path):
            cursor = self._connection.execute(self._comment + sql)
            columns = [column[0] for column in cursor.description or []]
            rows = cursor.fetchall() if columns else []
        self._count()
        # What changes rows answers with their number.
        return StatementResult(columns, rows, rows[0][0] if columns == ["Count"] and rows else 0)

    def _arrow(self, sql: str) -> pa.RecordBatchReader:
        import pyarrow as pa

        # A cursor of its own: rows are still read from it while this session writes.
        reader = _Reader(self._connection.cursor(), self._path, self.interruption)
        self._readers.add(reader)
        schema = reader.start(self._comment + sql)
        self._count()
        return pa.RecordBatchReader.from_batches(schema, reader.batches())

    def _columns(self, name: TableName) -> list[tuple[str, str]]:
        return [(row[0], row[1]) for row in self._run(f"DESCRIBE {self.dialect.table(name)}").rows]

    def _rollback(self) -> None:
        with contextlib.suppress(EntrepotError):  # a failed statement may have ended it
            super()._rollback()

    def _select(self, expression: ibis.Table) -> str:
        """BIGINTs add up to HUGEINT here, which few other tools read; ibis says BIGINT. The cast fails on overflow."""
        sql = self.dialect.compile(expression)
        casts = self.dialect.casts(sch.Schema({n: t for n, t in expression.schema().items() if t.is_integer()}))
        return f"SELECT * REPLACE ({casts}) FROM ({sql})" if casts else sql

    def _rows(self, name: TableName, answer: StatementResult) -> int:
        return answer.changed

    def load(self, name: TableName, files: Sequence[str], schema: sch.Schema) -> CreatedTable:
        self._check(name, schema)
        paths = ", ".join(map(self.dialect.literal, files))
        return self._made(name, f"SELECT {self.dialect.casts(schema)} FROM read_parquet([{paths}])", schema)

    def _load_files(self, name: TableName, files: Sequence[str], schema: sch.Schema) -> None:
        self.load(name, files, schema)

    def write(
        self, name: TableName, schema: sch.Schema, batches: Iterable[pa.RecordBatch], arrow: pa.Schema | None = None
    ) -> CreatedTable:
        import pyarrow as pa

        self._check(name, schema)
        reader = pa.RecordBatchReader.from_batches(arrow or schema.to_pyarrow(), batches)
        with translated(self._path):
            self._register(reader)
        try:
            return self._made(name, f"SELECT {self.dialect.casts(schema)} FROM {_STREAM}", schema)
        finally:
            with contextlib.suppress(duckdb.Error):
                self._connection.unregister(_STREAM)

    def _register(self, reader: pa.RecordBatchReader) -> None:
        """Gives the stream a name. DuckDB (seen with 2.0) now and then says nothing but `std::bad_cast` while other
        threads are at work, before it has read a row; so it is asked again, and only three such are a failure."""
        for _ in range(2):
            with contextlib.suppress(RuntimeError):
                self._connection.register(_STREAM, reader)
                return
        self._connection.register(_STREAM, reader)

    def fetch(self, expression: ibis.Table) -> pa.Table:
        with self._with_rows(expression) as bound, translated(self._path):
            table = self._connection.sql(self._comment + self.dialect.compile(bound)).to_arrow_table()
        self._count()
        return table

    def read(self, expression: ibis.Table) -> pa.RecordBatchReader:
        with self._with_rows(expression) as bound:
            return self._arrow(self.dialect.compile(bound))

    def table(self, name: TableName, schema: sch.Schema) -> ibis.Table:
        return self._backend().table(name.table, database=name.schema)

    def bytes_of(self, tables: Iterable[TableName]) -> int:
        size = self._run("SELECT block_size FROM pragma_database_size()").rows[0][0]
        # A block may have several columns of a table.
        query = "SELECT count(DISTINCT block_id) FROM pragma_storage_info({}) WHERE persistent"
        names = (self.dialect.literal(self.dialect.table(table)) for table in tables)
        return sum(int(self._run(query.format(name)).rows[0][0]) * int(size) for name in names)

    def free_bytes(self) -> int:
        return int(self._run("SELECT free_blocks * block_size FROM pragma_database_size()").rows[0][0])

    def engine(self) -> str:
        return f"duckdb {duckdb.__version__}"

    @contextmanager
    def _with_rows(self, expression: ibis.Table) -> Iterator[ibis.Table]:
        """Makes rows and functions that live in Python known to this connection: no copy is needed."""
        if expression.op().find((ops.InMemoryTable, ops.ScalarUDF, ops.AggUDF)):
            expression = self._with_own_functions(expression)
            compat.prepare(self._backend(), expression)
        yield expression

    def _with_own_functions(self, expression: ibis.Table) -> ibis.Table:
        """The expression with names for functions in Python that no other session has: DuckDB keeps them in one list
        for all that have the file open, longer than the session which has named them."""
        own: dict[type[ops.Node], Any] = {}

        def named(node: ops.Node, changed: Mapping[str, Any] | None) -> ops.Node:
            made = node.__recreate__(changed) if changed else node
            kind = type(made)
            if not isinstance(made, ops.ScalarUDF) or made.__input_type__.name == "BUILTIN":
                return made
            if kind not in own:
                own[kind] = types.new_class(f"{kind.__name__}_{next(_NUMBERS)}", (kind,))
                self._functions.append(own[kind].__name__)
            return own[kind](*made.args)

        return expression.op().replace(named).to_expr()

    def _backend(self) -> Any:
        if self._ibis is None:
            self._ibis = ibis.duckdb.from_connection(self._connection)
        return self._ibis

    def interrupt(self) -> None:
        self.interruption.request()
        if self._is_open:
            self._connection.interrupt()
        for reader in list(self._readers):
            reader.interrupt()


class _Reader:
    """The rows of a query, batch by batch."""

    def __init__(self, cursor: duckdb.DuckDBPyConnection, path: str, interruption: Interruption) -> None:
        self._cursor = cursor
        self._path = path
        self._found: pa.RecordBatchReader | None = None
        self._interruption = interruption
        self._since = interruption.count
        self._reading = threading.Lock()

    def start(self, sql: str) -> pa.Schema:
        with translated(self._path):
            self._found = self._cursor.sql(sql).to_arrow_reader(BATCH_ROWS)
        return self._found.schema

    def batches(self) -> Iterator[pa.RecordBatch]:
        with self._interruption.heeded(self._since), translated(self._path):
            while True:
                self._interruption.check(self._since)  # between two batches DuckDB does not take notice
                with self._reading:
                    batch = next(self._found, None) if self._found else None
                if batch is None:
                    return
                yield batch

    def interrupt(self) -> None:
        self._cursor.interrupt()

    def close(self) -> None:
        self._cursor.interrupt()
        with self._reading:
            if self._found is not None:
                self._found.close()
        self._cursor.close()


class DuckDB(Backend):
    """A DuckDB file. Settings: `path`, and optionally `threads` and `memory_limit` as DuckDB takes them."""

    name: ClassVar[str] = "duckdb"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    dialect: ClassVar[Dialect] = DIALECT

    def __init__(self, path: str, options: Mapping[str, Any]) -> None:
        self.path = path
        self.options = dict(options)
        self._file = file_at(path)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], where: str) -> DuckDB:
        known = {"path": str, "threads": int, "memory_limit": str}
        given = checked(settings, known, ["path"], cls.name, where)
        return cls(os.path.abspath(given.pop("path")), given)

    @contextmanager
    def session(self, tag: QueryTag, opened: Callable[[Session], None] | None = None) -> Iterator[Session]:
        session = DuckDBSession(tag, self.path)
        if opened is not None:
            opened(session)
        with self._file.used(tag, self.options, LOCK_SECONDS, session.interruption.check) as database:
            try:
                session.open(database)
                yield session
            finally:
                session.close()

    @property
    def place(self) -> str:
        return f"file {self.path}"

    @property
    def database(self) -> str:
        return self.path

    def server(self, schema: str) -> dict[str, str]:
        return {"type": "duckdb", "database": self.path, "schema": schema}

    def compact(self, check: Callable[[], None]) -> int:
        return self._file.compact(self.options, LOCK_SECONDS, check)

    def close(self) -> None:
        self._file.close()
