"""Snowflake: one database for a tenant.

Statements carry their tag as QUERY_TAG. Every DDL statement commits on its own. Rows come in by way of a temporary
stage and a temporary table, which end with their session, so that a crash leaves nothing behind.
"""

from __future__ import annotations

import json
import logging
import tempfile
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import ibis.expr.datatypes as dt
import ibis.expr.schema as sch

from entrepot.backends.base import Backend, Capabilities, QueryTag, Session, TableName
from entrepot.backends.dialect import Dialect
from entrepot.backends.pool import Pool
from entrepot.backends.settings import Secret, checked, is_local
from entrepot.backends.snowflake.client import connect, execute, translated
from entrepot.backends.snowflake.dialect import CAPABILITIES, DIALECT
from entrepot.backends.snowflake.types import parsed, readable, schema_of
from entrepot.backends.sql.session import SqlSession, StatementResult, conformed
from entrepot.errors import BadInput, EntrepotError

if TYPE_CHECKING:
    import ibis
    import pyarrow as pa

logger = logging.getLogger(__name__)

# NULL_IF: the text \N would be NULL. Without the others, times are numbers, and bytes have to be UTF-8.
_FORMAT = r"TYPE = PARQUET USE_LOGICAL_TYPE = TRUE BINARY_AS_TEXT = FALSE NULL_IF = ()"


class SnowflakeSession(SqlSession):
    """One connection of the pool."""

    dialect = DIALECT
    capabilities = CAPABILITIES

    def __init__(self, connection: Any, tag: QueryTag, place: str, cancel: Callable[[SnowflakeSession], None]) -> None:
        super().__init__()
        self._connection = connection
        self._tag = json.dumps(asdict(tag))
        self._place = place
        self._cancel = cancel
        self._ibis: Any = None
        self.idle = threading.Event()
        """Set while no statement runs."""
        self.idle.set()

    @property
    def number(self) -> int:
        """The session's number at the server."""
        return int(self._connection.session_id)

    def _execute(self, sql: str) -> Any:
        """A cursor that has run a statement."""
        self.idle.clear()
        try:
            with self._translated():
                cursor = self._connection.cursor()
                execute(cursor, sql, self._tag)
        finally:
            self.idle.set()
        self._count()
        return cursor

    def _run(self, sql: str) -> StatementResult:
        with closing(self._execute(sql)) as cursor, self._translated():
            return StatementResult(
                [column.name for column in cursor.description or []], cursor.fetchall(), cursor.rowcount or 0
            )

    def _arrow(self, sql: str) -> pa.RecordBatchReader:
        import pyarrow as pa

        cursor = self._execute(sql)
        schema = schema_of(cursor.description)

        def batches() -> Iterator[pa.RecordBatch]:
            with closing(cursor), self._translated():
                for table in cursor.fetch_arrow_batches(force_microsecond_precision=True):
                    self.interruption.check()
                    # Chunks have the narrowest types that hold their own values.
                    yield from table.rename_columns(schema.names).cast(schema).to_batches()

        return pa.RecordBatchReader.from_batches(schema, batches())

    def read(self, expression: ibis.Table) -> pa.RecordBatchReader:
        with self._with_rows(expression) as bound:
            schema = bound.schema()
            return conformed(parsed(self._arrow(self.dialect.compile(bound)), schema), schema)

    def fetch(self, expression: ibis.Table) -> pa.Table:
        return self.read(expression).read_all()

    def _columns(self, name: TableName) -> list[tuple[str, str]]:
        return [(row[0], row[1]) for row in self._run(f"DESCRIBE TABLE {self.dialect.table(name)}").rows]

    def describe(self, name: TableName, columns: Iterable[str] = ()) -> sch.Schema:
        """Where a schema is given, it tells what Snowflake does not: what an array holds, and whether a whole number
        of 38 digits is a decimal or an int64."""
        found = super().describe(name, columns)
        wanted = columns if isinstance(columns, sch.Schema) else {}
        return sch.Schema({n: _told(t, wanted[n]) if n in wanted else t for n, t in found.items()})

    def _select(self, expression: ibis.Table) -> str:
        """Whole numbers have 38 digits here. What has more than an int64 fails, at the latest when it is read."""
        sql = self.dialect.compile(expression)
        whole = [self.dialect.identifier(n) for n, t in expression.schema().items() if t.is_integer()]
        casts = ", ".join(f"CAST(CAST({n} AS NUMBER(19, 0)) AS NUMBER(38, 0)) AS {n}" for n in whole)
        return f"SELECT * REPLACE ({casts}) FROM ({sql})" if casts else sql

    def _load_files(self, name: TableName, files: Sequence[str], schema: sch.Schema) -> None:
        """PUT and COPY bring the rows into a temporary table; the table itself is made of that at once."""
        typed = self.dialect.definitions(schema)
        # JSON is text in Parquet, and a map would become an array of pairs.
        texts = [n for n, t in schema.items() if t.is_json() or t.is_map()]
        staged = ", ".join(f"{self.dialect.identifier(n)} VARCHAR" if n in texts else typed[n] for n in schema)
        place = self.dialect.table(TableName(name.schema, f"entrepot_load_{uuid.uuid4().hex}"))
        try:
            self._run(f"CREATE TEMPORARY STAGE {place}")
            with tempfile.TemporaryDirectory(prefix="entrepot-") as folder:
                for number, file in enumerate(readable(files, folder)):
                    path = Path(file).as_posix()
                    self._run(
                        f"PUT {self.dialect.literal(f'file://{path}')} @{place}/{number} "
                        "AUTO_COMPRESS = FALSE SOURCE_COMPRESSION = NONE OVERWRITE = TRUE"
                    )
            self._run(f"CREATE TEMPORARY TABLE {place} ({staged})")
            self._run(
                f"COPY INTO {place} FROM @{place} FILE_FORMAT = ({_FORMAT}) "
                "MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE ON_ERROR = ABORT_STATEMENT PURGE = TRUE"
            )
            columns = ", ".join(self._brought(n, t, n in texts) for n, t in schema.items())
            self._run(f"CREATE TABLE {self.dialect.table(name)} AS SELECT {columns} FROM {place}")
        finally:
            self._run(f"DROP TABLE IF EXISTS {place}")

    def _brought(self, name: str, dtype: Any, is_text: bool) -> str:
        column = self.dialect.identifier(name)
        return f"CAST(PARSE_JSON({column}) AS {self.dialect.type(dtype)}) AS {column}" if is_text else column

    def table(self, name: TableName, schema: sch.Schema) -> ibis.Table:
        stored = self.dialect.identifiers.stored
        table = self._backend().table(stored(name.table), database=stored(name.schema))
        return table.rename({column: stored(column) for column in schema if stored(column) != column})

    def _backend(self) -> Any:
        if self._ibis is None:
            import ibis

            # The statements of user code do not pass by here.
            self._run(f"ALTER SESSION SET QUERY_TAG = {self.dialect.literal(self._tag)}")
            with self._translated():
                self._ibis = ibis.snowflake.from_connection(self._connection, create_object_udfs=False)
        return self._ibis

    def engine(self) -> str:
        return f"snowflake {self._run('SELECT CURRENT_VERSION()').rows[0][0]}"

    def changed_at(self, name: TableName) -> str | None:
        stored = self.dialect.identifiers.stored
        rows = self.query(
            "SELECT last_altered FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
            f" AND table_schema = {self.dialect.literal(stored(name.schema))}"
            f" AND table_name = {self.dialect.literal(stored(name.table))}"
        )
        return str(rows[0]["last_altered"]) if rows else None

    def bytes_of(self, tables: Iterable[TableName]) -> int:
        # Of what stands there now. Time travel and fail-safe have more for a while, which goes by itself.
        stored, wanted = self.dialect.identifiers.stored, set(tables)
        found = 0
        for schema in sorted({table.schema for table in wanted}):
            rows = self.query(
                "SELECT table_name, bytes FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
                f" AND table_schema = {self.dialect.literal(stored(schema))}"
            )
            names = {stored(table.table) for table in wanted if table.schema == schema}
            found += sum(int(row["bytes"] or 0) for row in rows if row["table_name"] in names)
        return found

    def interrupt(self) -> None:
        self.interruption.request(lambda: self._cancel(self))

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Nothing runs after an interruption: until the session is idle, whatever runs in it is cancelled."""
        with self.interruption.heeded(), translated(self._place):
            yield


def _told(found: dt.DataType, wanted: dt.DataType) -> dt.DataType:
    if wanted.is_nested() and (found.is_nested() or found.is_json()):
        return wanted
    return dt.Decimal(38, 0) if found.is_integer() and wanted.is_decimal() else found


_SETTINGS: Mapping[str, type] = {
    "account": str,
    "user": str,
    "password": Secret,
    "private_key": Secret,
    "private_key_passphrase": Secret,
    "database": str,
    "warehouse": str,
    "role": str,
    "host": str,
    "port": int,
    "protocol": str,
}


class Snowflake(Backend):
    """A Snowflake database.

    Settings: `account`, `user`, `database`, and `password` or `private_key` (PEM, with `private_key_passphrase` if it
    has one). Optionally `warehouse` and `role`, if they are not the user's defaults, and `host`, `port` and `protocol`
    for a private endpoint.
    """

    name: ClassVar[str] = "snowflake"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    dialect: ClassVar[Dialect] = DIALECT

    def __init__(self, settings: Mapping[str, Any], where: str) -> None:
        self._settings = dict(settings)
        self._place = f"{where}: Snowflake account {settings['account']!r}"
        self._pool: Pool[Any] = Pool(lambda: connect(settings, where, self._place), lambda c: c.close())
        weakref.finalize(self, self._pool.close)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], where: str) -> Snowflake:
        given = checked(settings, _SETTINGS, ["account", "user", "database"], cls.name, where)
        if ("password" in given) == ("private_key" in given):
            raise BadInput(f"{where}: a snowflake backend needs either 'password' or 'private_key'")
        if "private_key_passphrase" in given and "private_key" not in given:
            raise BadInput(f"{where}: `private_key_passphrase` is of no use without `private_key`")
        try:
            import snowflake.connector  # noqa: F401
        except ImportError as error:
            raise BadInput(f"{where}: a snowflake backend needs: pip install 'entrepot[snowflake]'") from error
        return cls(given, where)

    @contextmanager
    def session(self, tag: QueryTag, opened: Callable[[Session], None] | None = None) -> Iterator[Session]:
        with self._pool.taken() as connection:
            session = SnowflakeSession(connection, tag, self._place, self._cancel)
            if opened is not None:
                opened(session)
            yield session

    @property
    def place(self) -> str:
        standin = f":{self._settings.get('port', '')}, a stand-in" if is_local(self._host) else ""
        return f"account {self._settings['account']}, database {self._settings['database']}, host {self._host}{standin}"

    @property
    def database(self) -> str:
        host = self._host.replace("_", "-")  # as a part of a host's name, an account has the one for the other
        return f"{host}:{self._settings.get('port', '')}/{self._settings['database']}"

    def server(self, schema: str) -> dict[str, str]:
        found = {"type": "snowflake", "host": self._host, "schema": schema}
        for name in ("account", "database", "warehouse"):
            if name in self._settings:
                found[name] = str(self._settings[name])
        return found

    @property
    def _host(self) -> str:
        return str(self._settings.get("host") or f"{self._settings['account']}.snowflakecomputing.com")

    def close(self) -> None:
        self._pool.close()

    def _cancel(self, session: SnowflakeSession) -> None:
        """Stops what runs in a session, from another one. Again, while it has not reached the server yet."""
        try:
            with self._pool.taken() as connection, connection.cursor() as cursor, translated(self._place):
                cursor.execute(f"SELECT SYSTEM$CANCEL_ALL_QUERIES({session.number})")
                while not session.idle.wait(1.0):
                    cursor.execute(f"SELECT SYSTEM$CANCEL_ALL_QUERIES({session.number})")
        except EntrepotError as error:
            logger.warning("a statement could not be cancelled: %s", error)
