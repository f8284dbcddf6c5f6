"""PostgreSQL: one database for a tenant."""

from __future__ import annotations

import contextlib
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import ibis
import ibis.expr.schema as sch
import psycopg
from entrepot.backends.base import Backend, Capabilities, QueryTag, Session, TableName
from entrepot.backends.dialect import Dialect
from entrepot.backends.pool import Pool
from entrepot.backends.settings import Secret, checked
from entrepot.backends.sql.compat import prepare
from entrepot.backends.sql.session import SqlSession, StatementResult, conformed
from entrepot.errors import EntrepotError, StepFailed
from psycopg.pq import TransactionStatus

from .client import connect, translated
from .dialect import CAPABILITIES, DIALECT
from .types import as_arrow, as_csv, limited, plain_types

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 20_000
"""Rows of one Arrow batch."""

_CANCEL_SECONDS = 0.2


class PostgresSession(SqlSession):
    """One connection of the pool."""

    dialect = DIALECT
    capabilities = CAPABILITIES

    def __init__(self, connection: psycopg.Connection[Any], tag: QueryTag, place: str) -> None:
        super().__init__()
        self._connection = connection
        self._comment = tag.comment()
        self._place = place
        self._ibis: Any = None
        self.ended = threading.Event()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns the client's errors into Entrepot's. If the session was interrupted, that is the error."""
        with self.interruption.heeded(), translated(self._place):
            yield

    def _tagged(self, sql: str) -> bytes:
        return (self._comment + sql).encode()

    def _run(self, sql: str) -> StatementResult:
        with self._translated(), self._connection.cursor() as cursor:
            cursor.execute(self._tagged(sql))
            self._count()
            columns = [column.name for column in cursor.description or []]
            return StatementResult(columns, cursor.fetchall() if columns else [], max(cursor.rowcount, 0))

    def _arrow(self, sql: str) -> pa.RecordBatchReader:
        """By a cursor at the server that outlives its transaction: others may run between one batch and the next."""
        import pyarrow as pa

        cursor = self._connection.cursor(f"entrepot_{uuid.uuid4().hex}", withhold=True)
        plain_types(cursor)
        with self._translated():
            cursor.execute(self._tagged(sql))
        self._count()
        description = cursor.description or []
        schema = pa.schema([(c.name, self.dialect.dtype(c.type_display).to_pyarrow()) for c in description])

        def batches() -> Iterator[pa.RecordBatch]:
            with self._translated(), cursor:
                while rows := cursor.fetchmany(BATCH_ROWS):
                    yield as_arrow(rows, schema)

        return pa.RecordBatchReader.from_batches(schema, batches())

    def _columns(self, name: TableName) -> list[tuple[str, str]]:
        return self._typed_columns(f"SELECT * FROM {self.dialect.table(name)} LIMIT 0")

    def _typed_columns(self, sql: str) -> list[tuple[str, str]]:
        with self._translated(), self._connection.cursor() as cursor:
            cursor.execute(self._tagged(sql))
            self._count()
            return [(column.name, column.type_display) for column in cursor.description or []]

    def _rollback(self) -> None:
        with contextlib.suppress(EntrepotError, InterruptedError):  # the connection is closed after an error
            super()._rollback()

    def _select(self, expression: ibis.Table) -> str:
        """Sums of BIGINTs and all means are NUMERICs without limits here, and a DATE that is truncated is a TIMESTAMP.

        Whole numbers and dates become what ibis says; a NUMERIC without limits, which Arrow has not, gets some.
        """
        sql = self.dialect.compile(expression)
        found = self._typed_columns(f"SELECT * FROM ({sql}) AS made LIMIT 0")
        casts = []
        for (name, dtype), (_, kind) in zip(expression.schema().items(), found, strict=True):
            wanted = dtype if dtype.is_integer() or dtype.is_date() else limited(kind, dtype)
            column = self.dialect.identifier(name)
            casts.append(column if wanted is None else self.dialect.casts(sch.Schema({name: wanted})))
        return f"SELECT {', '.join(casts)} FROM ({sql}) AS made"

    def _load_files(self, name: TableName, files: Sequence[str], schema: sch.Schema) -> None:
        import pyarrow.parquet

        table, definitions = self.dialect.table(name), self.dialect.definitions(schema)
        with self._translated(), self._connection.transaction(), self._connection.cursor() as cursor:
            self._run(f"CREATE TABLE {table} ({', '.join(definitions.values())})")
            columns = ", ".join(map(self.dialect.identifier, schema))
            with cursor.copy(self._tagged(f"COPY {table} ({columns}) FROM STDIN (FORMAT csv)")) as copy:
                for file in files:
                    for batch in pyarrow.parquet.ParquetFile(file).iter_batches(BATCH_ROWS):
                        copy.write(as_csv(batch.select(schema.names), schema))
            self._count()

    def repoint_view(self, view: TableName, table: TableName) -> None:
        """A view that gets other columns has to be made anew, which it is only then: other views may show it."""
        try:
            with self._translated(), self._connection.transaction():
                super().repoint_view(view, table)
        except StepFailed:
            with self._translated(), self._connection.transaction():
                self.drop_view(view)
                super().repoint_view(view, table)

    def table(self, name: TableName, schema: sch.Schema) -> ibis.Table:
        with self._translated():
            if self._ibis is None:
                self._ibis = _ibis_over(self)
            return self._ibis.table(name.table, database=name.schema)

    def bytes_of(self, tables: Iterable[TableName]) -> int:
        """With their indexes, and what is kept beside them of long values."""
        names = (self.dialect.literal(self.dialect.table(name)) for name in tables)
        total = " + ".join(["0", *(f"pg_total_relation_size({name}::regclass)" for name in names)])
        return int(self.query(f"SELECT {total} AS bytes")[0]["bytes"])

    def engine(self) -> str:
        return f"postgresql {self._run('SHOW server_version').rows[0][0].split()[0]}"

    def interrupt(self) -> None:
        # Once: it cancels until the session ends.
        self.interruption.request(None if self.interruption.count else self._cancel)

    def _cancel(self) -> None:
        """Cancels whatever runs until the session ends: a statement may be on its way to the server just now."""
        while True:
            if self._connection.info.transaction_status == TransactionStatus.ACTIVE:
                with contextlib.suppress(psycopg.Error):  # it may have ended
                    self._connection.cancel_safe()
            if self.ended.wait(_CANCEL_SECONDS):
                return


class Postgres(Backend):
    """A PostgreSQL database. The settings are in `from_settings`."""

    name: ClassVar[str] = "postgres"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    dialect: ClassVar[Dialect] = DIALECT

    def __init__(self, settings: Mapping[str, Any], where: str) -> None:
        self._settings = settings
        self._place = f"{where}: PostgreSQL database {settings['database']!r} on {settings['host']}"
        self._pool: Pool[psycopg.Connection[Any]] = Pool(
            lambda: connect(settings, self._place), lambda connection: connection.close()
        )
        weakref.finalize(self, self._pool.close)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], where: str) -> Postgres:
        """`host`, `database` and `user`; optionally `port`, `password`, and `sslmode` as PostgreSQL takes it."""
        known = {"host": str, "port": int, "database": str, "user": str, "password": Secret, "sslmode": str}
        return cls(checked(settings, known, ["host", "database", "user"], cls.name, where), where)

    @contextmanager
    def session(self, tag: QueryTag, opened: Callable[[Session], None] | None = None) -> Iterator[Session]:
        with self._pool.taken() as connection:
            session = PostgresSession(connection, tag, self._place)
            try:
                if opened is not None:
                    opened(session)
                yield session
            finally:
                session.ended.set()
            with translated(self._place):
                connection.execute("CLOSE ALL")  # what was not read to its end

    @property
    def place(self) -> str:
        return f"host {self._settings['host']}, database {self._settings['database']}"

    def close(self) -> None:
        self._pool.close()


def _ibis_over(session: PostgresSession) -> Any:
    """ibis's own backend over the session's connection. Its own readers end with the first of them that is dropped."""
    from ibis.backends.postgres import Backend as IbisBackend

    class OverSession(IbisBackend):  # type: ignore[misc]
        compiler = DIALECT.compiler()

        def to_pyarrow_batches(self, expr: Any, /, *, params: Any = None, limit: Any = None, **_: Any) -> Any:
            prepare(self, expr)
            sql = self.compile(expr, params=params, limit=limit)
            return conformed(session._arrow(sql), expr.as_table().schema())

    return OverSession.from_connection(session._connection)
