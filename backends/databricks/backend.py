"""Databricks: a SQL warehouse (or a cluster) and a catalog of Unity Catalog, with Delta tables.

Files on their way in stand in a volume for a moment. Each statement commits alone.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

import ibis
import ibis.expr.schema as sch

from entrepot.backends.base import Backend, Capabilities, CreatedTable, QueryTag, RelationKind, Session, TableName
from entrepot.backends.databricks.client import Endpoint, has_handle, translated
from entrepot.backends.databricks.dialect import CAPABILITIES, DIALECT, casts, spelled
from entrepot.backends.databricks.types import needs_mapping, readable
from entrepot.backends.dialect import Dialect
from entrepot.backends.pool import Pool
from entrepot.backends.settings import Secret, checked, is_local
from entrepot.backends.sql import compat
from entrepot.backends.sql.session import Exists, SqlSession, StatementResult
from entrepot.errors import BadInput, listed

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 50_000
"""Rows of one Arrow batch when a table is read."""


class DatabricksSession(SqlSession):
    """One connection of the tenant's pool."""

    dialect = DIALECT
    capabilities = CAPABILITIES

    def __init__(self, connection: Any, endpoint: Endpoint, volume: str, tag: QueryTag) -> None:
        super().__init__()
        self._connection = connection
        self._endpoint = endpoint
        self._volume = f"/Volumes/{volume.replace('.', '/')}"
        self._comment = tag.comment()
        self._tags = endpoint.tags(tag)
        self._cursors: dict[Any, int] = {}
        """Those whose statements run or are read from, and how often the session had been interrupted before."""
        self._ibis: Any = None

    @contextmanager
    def _executed(self, sql: str, **options: Any) -> Iterator[Any]:
        """A cursor that has executed a statement."""
        with translated(self._endpoint.host):
            cursor = self._connection.cursor()
        self._cursors[cursor] = since = self.interruption.count
        try:
            with self.interruption.heeded(since), translated(self._endpoint.host):
                cursor.execute(self._comment + sql, query_tags=self._tags, **options)
                self._count()
                yield cursor
        finally:
            del self._cursors[cursor]
            with contextlib.suppress(Exception):  # what it gave is there; the warehouse forgets it by itself
                cursor.close()

    def _run(self, sql: str) -> StatementResult:
        with self._executed(sql) as cursor:
            columns = [column[0] for column in cursor.description or []]
            rows = [tuple(row) for row in cursor.fetchall()] if columns else []
        changed = dict(zip(columns, rows[0], strict=True)).get("num_affected_rows", 0) if rows else 0
        return StatementResult(columns, rows, changed)

    def _arrow(self, sql: str) -> pa.RecordBatchReader:
        import pyarrow as pa

        def batches() -> Iterator[Any]:
            with self._executed(sql) as cursor:
                while True:
                    table = cursor.fetchmany_arrow(BATCH_ROWS)
                    yield table.schema
                    yield from table.to_batches()
                    if table.num_rows == 0:
                        return

        found = batches()
        schema = next(found)  # it runs now, and not when somebody reads
        return pa.RecordBatchReader.from_batches(schema, (part for part in found if isinstance(part, pa.RecordBatch)))

    def _columns(self, name: TableName) -> list[tuple[str, str]]:
        # As JSON, since the other form cuts long structs off, and does not quote the names in them.
        answer = self._run(f"DESCRIBE TABLE EXTENDED {self.dialect.table(name)} AS JSON")
        return [(column["name"], spelled(column["type"])) for column in json.loads(answer.rows[0][0])["columns"]]

    def relations(self, schema: str) -> dict[str, RelationKind]:
        # Unity Catalog has the names of schemas and tables in small letters, whatever they were created as.
        return super().relations(schema.lower())

    def _select(self, expression: ibis.Table) -> str:
        columns = ", ".join(
            self.dialect.casts(sch.Schema({n: t})) if t.is_integer() else self.dialect.identifier(n)
            for n, t in expression.schema().items()
        )
        return f"SELECT {columns} FROM ({self.dialect.compile(expression)})"

    def _check(self, name: TableName, schema: sch.Schema) -> None:
        super()._check(name, schema)
        self.dialect.definitions(schema)

    def _made(self, name: TableName, select: str, schema: sch.Schema) -> CreatedTable:
        with contextlib.suppress(Exists):
            self._create(name, select, schema)
        return self._found(name, StatementResult(), schema)

    def _create(self, name: TableName, select: str, schema: sch.Schema) -> None:
        # Not for all: other tools may not read such tables, nor follow their changes.
        properties = " TBLPROPERTIES ('delta.columnMapping.mode' = 'name')" if needs_mapping(schema) else ""
        self._run(f"CREATE TABLE {self.dialect.table(name)}{properties} AS {select}")

    def _load_files(self, name: TableName, files: Sequence[str], schema: sch.Schema) -> None:
        folder = f"{self._volume}/entrepot/{uuid.uuid4().hex}"
        put: list[str] = []
        try:
            with tempfile.TemporaryDirectory(prefix="entrepot-") as scratch:
                for file in readable(files, schema, scratch):
                    put.append(f"{folder}/{len(put):05d}.parquet")
                    with open(file, "rb") as stream:
                        sql = f"PUT '__input_stream__' INTO {self.dialect.literal(put[-1])} OVERWRITE"
                        with self._executed(sql, input_stream=stream):
                            pass
            self._create(name, f"SELECT {casts(schema)} FROM {self._files(folder)}", schema)
        finally:
            for path in put:
                with contextlib.suppress(Exception), self._executed(f"REMOVE {self.dialect.literal(path)}"):
                    pass

    def _files(self, folder: str) -> str:
        # Without a word, Databricks takes dates before 1582 to be of the Julian calendar, and shifts them.
        return (
            f"read_files({self.dialect.literal(folder)}, format => 'parquet', "
            "datetimeRebaseMode => 'CORRECTED', int96RebaseMode => 'CORRECTED')"
        )

    def table(self, name: TableName, schema: sch.Schema) -> ibis.Table:
        found = self._backend().table(name.table, database=name.schema)
        wanted = {column.lower(): column for column in schema}
        return found.rename({wanted[n.lower()]: n for n in found.columns if wanted.get(n.lower(), n) != n})

    def engine(self) -> str:
        return f"databricks {self._run('SELECT current_version().dbsql_version').rows[0][0]}"

    def bytes_of(self, tables: Iterable[TableName]) -> int:
        # Of the newest state alone: files of earlier ones go with VACUUM, as the table's properties say.
        details = (self.query(f"DESCRIBE DETAIL {self.dialect.table(name)}") for name in tables)
        return sum(int(rows[0]["sizeInBytes"] or 0) for rows in details)  # which is NULL where it is not known

    def _backend(self) -> Any:
        if self._ibis is None:
            self._ibis = compat.databricks_over(
                _Tagged(self), self.dialect.compiler(), self._volume, lambda *name: self.describe(TableName(*name))
            )
        return self._ibis

    def interrupt(self) -> None:
        self.interruption.request(self._cancel)

    def _cancel(self) -> None:
        """Cancels what is to be stopped, until it has: a statement has no handle before the warehouse has answered."""
        while stopped := [c for c, since in list(self._cursors.items()) if since < self.interruption.count]:
            for cursor in stopped:
                if has_handle(cursor):
                    with contextlib.suppress(Exception):  # it may have ended
                        cursor.cancel()
            time.sleep(0.2)


class Databricks(Backend):
    """A catalog of Databricks, and a warehouse to use it with. The settings are in `from_settings`."""

    name: ClassVar[str] = "databricks"
    capabilities: ClassVar[Capabilities] = CAPABILITIES
    dialect: ClassVar[Dialect] = DIALECT

    def __init__(self, endpoint: Endpoint, volume: str) -> None:
        self.endpoint = endpoint
        self.volume = volume
        self._pool: Pool[Any] = Pool(endpoint.connect, lambda connection: connection.close())
        weakref.finalize(self, self._pool.close)  # when nobody has it any more, and when the process ends

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], where: str) -> Databricks:
        """`host`, `http_path`, `catalog`, `volume` (`catalog.schema.volume`, for files on their way in), and either
        `token` or `client_id` and `client_secret`. `uri`: of a stand-in for all of it.
        """
        known = dict.fromkeys(["host", "http_path", "catalog", "volume", "client_id", "uri"], str)
        given = checked(
            settings,
            {**known, "token": Secret, "client_secret": Secret},
            ["host", "http_path", "catalog", "volume"],
            cls.name,
            where,
        )
        proofs = {"token", "client_id", "client_secret"} & set(given)
        if proofs not in ({"token"}, {"client_id", "client_secret"}):
            raise BadInput(
                f"{where}: a databricks backend needs either `token` or both `client_id` and `client_secret`; "
                f"given: {listed(proofs)}"
            )
        volume = given.pop("volume")
        if len([part for part in volume.split(".") if part and "/" not in part]) != 3 or volume.count(".") != 2:
            raise BadInput(f"{where}: `volume` must be of the form 'catalog.schema.volume', not {volume!r}")
        if find_spec("databricks") is None or find_spec("databricks.sql") is None:
            raise BadInput(f"{where}: the databricks client is not installed: pip install 'entrepot[databricks]'")
        host = given.pop("host").removeprefix("https://").rstrip("/")
        return cls(Endpoint(host=host, **given), volume)

    @contextmanager
    def session(self, tag: QueryTag, opened: Callable[[Session], None] | None = None) -> Iterator[Session]:
        with self._pool.taken() as connection:
            session = DatabricksSession(connection, self.endpoint, self.volume, tag)
            if opened is not None:
                opened(session)
            yield session

    @property
    def place(self) -> str:
        standin = ", a stand-in" if self.endpoint.uri or is_local(self.endpoint.host) else ""
        return f"host {self.endpoint.host}, catalog {self.endpoint.catalog}, {self.endpoint.http_path}{standin}"

    @property
    def database(self) -> str:
        return f"{self.endpoint.host}/{self.endpoint.catalog}"

    def server(self, schema: str) -> dict[str, str]:
        return {"type": "databricks", "host": self.endpoint.host, "catalog": self.endpoint.catalog, "schema": schema}

    def close(self) -> None:
        self._pool.close()


class _Tagged:
    """The connection as ibis sees it: what it executes for users carries the tag, too."""

    def __init__(self, session: DatabricksSession) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session._connection, name)

    def cursor(self) -> Any:
        session = self._session
        cursor = session._connection.cursor()
        plain = cursor.execute

        def execute(sql: str, *args: Any, **options: Any) -> Any:
            with translated(session._endpoint.host):
                return plain(session._comment + sql, *args, query_tags=session._tags, **options)

        cursor.execute = execute
        return cursor
