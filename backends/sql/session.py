"""What sessions of all warehouses have in common: everything that their dialect alone decides."""

from __future__ import annotations

import abc
import datetime
import decimal
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import ibis
import ibis.expr.operations as ops
import ibis.expr.schema as sch
import sqlglot.expressions as sge

from entrepot.backends.base import Capabilities, CreatedTable, RelationKind, Session, TableName, Usage, physical
from entrepot.backends.dialect import Dialect
from entrepot.backends.sql import parquet
from entrepot.backends.sql.interruption import Interruption
from entrepot.errors import Contended

if TYPE_CHECKING:
    import pyarrow as pa


class Exists(Contended):
    """What is to be made is there already."""


@dataclass(frozen=True)
class StatementResult:
    """What a statement gave."""

    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = ()
    changed: int = 0
    """Rows that it inserted, updated or deleted."""


class SqlSession(Session):
    """A session whose warehouse is spoken to in SQL. A driver adds the methods that its client decides."""

    dialect: ClassVar[Dialect]
    capabilities: ClassVar[Capabilities]

    def __init__(self) -> None:
        self.usage = Usage()
        self.interruption = Interruption()

    def _count(self, read: int | None = None) -> None:
        """Counts a statement that has run to its end, and the bytes that it read if the warehouse says so."""
        so_far = self.usage.bytes
        self.usage = Usage(self.usage.statements + 1, so_far if read is None else (so_far or 0) + read)

    @abc.abstractmethod
    def _run(self, sql: str) -> StatementResult:
        """Runs one statement to its end, tagged, and counts it in `usage`. The client's errors become Entrepot's."""

    @abc.abstractmethod
    def _arrow(self, sql: str) -> pa.RecordBatchReader:
        """The rows of a SELECT as Arrow batches, in bounded memory."""

    @abc.abstractmethod
    def _columns(self, name: TableName) -> list[tuple[str, str]]:
        """A table's columns, each with its type, as they stand in the warehouse."""

    @abc.abstractmethod
    def _load_files(self, name: TableName, files: Sequence[str], schema: sch.Schema) -> None:
        """Makes a table from Parquet files at once: it is there with all its rows, or not at all.

        Raises:
            Exists: if it is there already.
        """

    def execute(self, sql: str) -> None:
        self._run(sql)

    def query(self, query: sge.Expression | str) -> list[dict[str, Any]]:
        answer = self._run(query if isinstance(query, str) else self.dialect.write(query))
        names = [self.dialect.identifiers.shown(column) for column in answer.columns]
        return [dict(zip(names, row, strict=True)) for row in answer.rows]

    def insert(self, name: TableName, rows: Sequence[Mapping[str, Any]]) -> None:
        if not rows:
            return
        columns = ", ".join(map(self.dialect.identifier, rows[0]))
        values = ", ".join("(" + ", ".join(map(self._value, row.values())) + ")" for row in rows)
        self._run(f"INSERT INTO {self.dialect.table(name)} ({columns}) VALUES {values}")

    def update(self, name: TableName, values: Mapping[str, Any], where: sge.Condition) -> int:
        new = ", ".join(f"{self.dialect.identifier(n)} = {self._value(v)}" for n, v in values.items())
        return self._run(f"UPDATE {self.dialect.table(name)} SET {new} WHERE {self.dialect.write(where)}").changed

    def delete(self, name: TableName, where: sge.Condition) -> int:
        return self._run(f"DELETE FROM {self.dialect.table(name)} WHERE {self.dialect.write(where)}").changed

    def _value(self, value: Any) -> str:
        if value is None:
            return "NULL"
        if isinstance(value, bool | int | float | decimal.Decimal):
            return sge.convert(value).sql(self.dialect.name)
        if isinstance(value, datetime.datetime):
            return f"CAST({self.dialect.literal(str(value))} AS {self.dialect.type(ibis.dtype('timestamp'))})"
        return self.dialect.literal(str(value))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        if not self.capabilities.transactional_ddl:
            yield
            return
        self.execute("BEGIN TRANSACTION")
        try:
            yield
        except BaseException:
            self._rollback()
            raise
        self.execute("COMMIT")

    def _rollback(self) -> None:
        self.execute("ROLLBACK")

    def create_schema(self, schema: str) -> None:
        self.dialect.check_schema(schema)
        self._run(f"CREATE SCHEMA IF NOT EXISTS {self.dialect.identifier(schema)}")

    def drop_schema(self, schema: str) -> None:
        self._run(f"DROP SCHEMA IF EXISTS {self.dialect.identifier(schema)} CASCADE")

    def create_table(self, name: TableName, schema: sch.Schema, key: Sequence[str] = ()) -> None:
        definitions = ", ".join(self.dialect.definitions(schema).values())
        self._run(f"CREATE TABLE IF NOT EXISTS {self.dialect.table(name)} ({definitions}{self._key(key)})")

    def _key(self, key: Sequence[str]) -> str:
        """What a table's definition says of its key, where the warehouse holds it."""
        if not (key and self.capabilities.primary_keys):
            return ""
        return f", PRIMARY KEY ({', '.join(map(self.dialect.identifier, key))})"

    def create_as(self, name: TableName, expression: ibis.Table) -> CreatedTable:
        self._check(name, expression.schema())
        with self._with_rows(expression) as bound:
            return self._made(name, self._select(bound), bound.schema())

    def create_view(self, name: TableName, expression: ibis.Table) -> sch.Schema:
        self._check(name, expression.schema())
        self._run(f"CREATE OR REPLACE VIEW {self.dialect.table(name)} AS {self._select(expression)}")
        return self.describe(name, expression.schema())

    def _select(self, expression: ibis.Table) -> str:
        """The SELECT of a table that is made of an expression."""
        return self.dialect.compile(expression)

    def _check(self, name: TableName, schema: sch.Schema) -> None:
        """Raises BadInput for a table that there cannot be."""
        self.dialect.check_table(name.table)
        self.dialect.check_columns(schema)

    def _made(self, name: TableName, select: str, schema: sch.Schema) -> CreatedTable:
        """Makes a table of a SELECT, or takes the one that is there: see `Session`."""
        answer = StatementResult()
        try:
            answer = self._run(f"CREATE TABLE {self.dialect.table(name)} AS {select}")
        except Exists:
            if self.capabilities.transactional_ddl:
                raise
        return self._found(name, answer, schema)

    def _found(self, name: TableName, answer: StatementResult, schema: sch.Schema) -> CreatedTable:
        """What stands there now: a table that this session or another has made."""
        with self.contended_if_gone(name):
            return CreatedTable(self._rows(name, answer), self.describe(name, schema))

    def _rows(self, name: TableName, answer: StatementResult) -> int:
        """The rows of a table that was made by a statement with this answer."""
        return int(self._run(f"SELECT count(*) FROM {self.dialect.table(name)}").rows[0][0])

    def load(self, name: TableName, files: Sequence[str], schema: sch.Schema) -> CreatedTable:
        self._check(name, schema)
        try:
            self._load_files(name, files, schema)
        except Exists:
            if self.capabilities.transactional_ddl:
                raise
        return self._found(name, StatementResult(), schema)

    def write(
        self, name: TableName, schema: sch.Schema, batches: Iterable[pa.RecordBatch], arrow: pa.Schema | None = None
    ) -> CreatedTable:
        if not self.capabilities.transactional_ddl and name.table in self.tables(name.schema):
            return self._found(name, StatementResult(), schema)
        with tempfile.TemporaryDirectory(prefix="entrepot-") as folder:
            return self.load(name, parquet.written(batches, arrow or schema.to_pyarrow(), folder), schema)

    def fetch(self, expression: ibis.Table) -> pa.Table:
        with self._with_rows(expression) as bound:
            return conformed(self._arrow(self.dialect.compile(bound)), bound.schema()).read_all()

    def read(self, expression: ibis.Table) -> pa.RecordBatchReader:
        with self._with_rows(expression) as bound:
            return conformed(self._arrow(self.dialect.compile(bound)), bound.schema())

    def estimate(self, expression: ibis.Table) -> int | None:
        return None

    def describe(self, name: TableName, columns: Iterable[str] = ()) -> sch.Schema:
        wanted = {self.dialect.identifiers.stored(column).lower(): column for column in columns}
        return sch.Schema(
            {
                wanted.get(stored.lower()) or self.dialect.identifiers.shown(stored): self.dialect.dtype(kind)
                for stored, kind in self._columns(name)
            }
        )

    def relations(self, schema: str) -> dict[str, RelationKind]:
        stored = sge.Literal.string(self.dialect.identifiers.stored(schema))
        query = (
            sge.select(*(sge.column(name).as_(name) for name in ("table_name", "table_type")))
            .from_("information_schema.tables")
            .where(sge.column("table_schema").eq(stored))
        )
        return {
            self.dialect.identifiers.shown(r["table_name"]): relation_kind(r["table_type"]) for r in self.query(query)
        }

    def repoint_view(self, view: TableName, table: TableName) -> None:
        self.dialect.check_table(view.table)
        self._run(f"CREATE OR REPLACE VIEW {self.dialect.table(view)} AS SELECT * FROM {self.dialect.table(table)}")

    def drop_view(self, view: TableName) -> None:
        self._run(f"DROP VIEW IF EXISTS {self.dialect.table(view)}")

    def drop_table(self, name: TableName) -> None:
        self._run(f"DROP TABLE IF EXISTS {self.dialect.table(name)}")

    @contextmanager
    def _with_rows(self, expression: ibis.Table) -> Iterator[ibis.Table]:
        """The expression with the rows that it brings along (`ibis.memtable`) as tables, while the block runs."""
        brought: list[TableName] = []
        node = expression.op()
        try:
            for rows in node.find(ops.InMemoryTable):
                name = TableName(self.scratch, f"rows__{uuid.uuid4().hex}")
                brought.append(name)
                made = self.write(name, rows.schema, rows.data.to_pyarrow(rows.schema).to_batches())
                node = node.replace({rows: physical(name, made.columns).op()})
            yield node.to_expr()
        finally:
            for name in brought:
                self.drop_table(name)


def relation_kind(table_type: str) -> RelationKind:
    """What a warehouse calls a table or a view; what it can store rows in is a table, whatever else it is."""
    return "view" if table_type.upper() == "VIEW" else "table"


def conformed(reader: pa.RecordBatchReader, schema: sch.Schema) -> pa.RecordBatchReader:
    """Batches under an expression's own names and types; decimals keep the warehouse's scale: nothing may be lost."""
    import pyarrow as pa

    fields = [
        pa.field(name, found.type if _is_exact(found.type, dtype) else dtype.to_pyarrow())
        for (name, dtype), found in zip(schema.items(), reader.schema, strict=True)
    ]
    target = pa.schema(fields)

    def cast() -> Iterator[pa.RecordBatch]:
        for batch in reader:
            columns = [c if c.type == f.type else c.cast(f.type) for c, f in zip(batch.columns, fields, strict=True)]
            yield pa.RecordBatch.from_arrays(columns, schema=target)

    return pa.RecordBatchReader.from_batches(target, cast())


def _is_exact(found: pa.DataType, wanted: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_decimal(found) and wanted.is_decimal())
