"""Tables of the warehouse for user code: what it executes of them, its worker reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import ibis
import ibis.expr.operations as ops
import ibis.expr.types as ir
import pandas as pd
import pyarrow as pa
from ibis.formats.pandas import PandasData

from entrepot.backends import Session, TableName, dialect
from entrepot.backends.base import physical
from entrepot.backends.sql.session import conformed

E = TypeVar("E", bound=ir.Expr)


def read_by(session: Session) -> Callable[[ibis.Table], pa.RecordBatchReader]:
    """Reads for user code by a session of its worker's."""
    return lambda expression: session.fetch(expression).to_reader()


class WorkerTables:
    """What ibis takes for the backend of its tables: it has of one what executes expressions.

    Args:
        read: Gets the rows of an expression from the warehouse.
        name: The dialect of the warehouse.
    """

    def __init__(self, read: Callable[[ibis.Table], pa.Table], name: str) -> None:
        self._get = read
        self.name = name

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(
            f"a table of the warehouse cannot do what needs `{name}`; it can `execute`, `to_pandas`, `to_pyarrow`, "
            "`to_pyarrow_batches` and `compile`",
            name=name,
            obj=self,
        )

    def table(self, name: TableName, schema: ibis.Schema) -> ibis.Table:
        """A real table of these columns, which may be executed."""
        namespace = ops.Namespace(database=name.schema)
        return ops.DatabaseTable(name=name.table, schema=schema, source=self, namespace=namespace).to_expr()

    def unbound(self, expression: E) -> E:
        """The same over tables that the worker binds."""
        node = expression.op()
        ours = {
            table: physical(TableName(table.namespace.database, table.name), table.schema).op()
            for table in node.find(ops.DatabaseTable)
            if table.source is self
        }
        bound: E = node.replace(ours).to_expr() if ours else expression
        return bound

    def compile(self, expr: ir.Expr, /, **_: Any) -> str:
        """The SQL of an expression."""
        return dialect(self.name).compile(self.unbound(expr).as_table())

    def execute(self, expr: ir.Expr, /, *, params: Any = None, limit: Any = None, **_: Any) -> Any:
        """A table as a frame, a column as a series, a scalar as a value."""
        frame = PandasData.convert_table(self._read(expr, params, limit).to_pandas(), expr.as_table().schema())
        if isinstance(expr, ir.Table):
            return frame
        return frame.iloc[:, 0] if isinstance(expr, ir.Column) else frame.iat[0, 0]

    def to_pyarrow(self, expr: ir.Expr, /, *, params: Any = None, limit: Any = None, **_: Any) -> Any:
        """A table, column or scalar of Arrow."""
        table = self._read(expr, params, limit)
        if isinstance(expr, ir.Table):
            return table
        return table.column(0) if isinstance(expr, ir.Column) else table.column(0)[0]

    def to_pyarrow_batches(
        self, expr: ir.Expr, /, *, params: Any = None, limit: Any = None, chunk_size: int = 1_000_000, **_: Any
    ) -> pa.RecordBatchReader:
        """The rows in batches of at most `chunk_size`."""
        return pa.RecordBatchReader.from_batches(*self._batches(expr, params, limit, chunk_size))

    def to_pandas_batches(
        self, expr: ir.Expr, /, *, params: Any = None, limit: Any = None, chunk_size: int = 1_000_000, **_: Any
    ) -> Iterator[pd.DataFrame]:
        """The rows in frames of at most `chunk_size`."""
        schema = expr.as_table().schema()
        for batch in self.to_pyarrow_batches(expr, params=params, limit=limit, chunk_size=chunk_size):
            yield PandasData.convert_table(batch.to_pandas(), schema)

    def _batches(self, expr: ir.Expr, params: Any, limit: Any, size: int) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        table = self._read(expr, params, limit)
        return table.schema, iter(table.to_batches(max_chunksize=size))

    def _read(self, expr: ir.Expr, params: Mapping[ir.Scalar, Any] | None, limit: Any) -> pa.Table:
        table = self.unbound(expr).as_table()
        if params:
            values = {
                (parameter.op() if isinstance(parameter, ir.Expr) else parameter): ibis.literal(value, parameter.type())
                for parameter, value in params.items()
            }
            table = table.op().replace({node: value.op() for node, value in values.items()}).to_expr()
        if limit == "default":
            limit = ibis.options.sql.default_limit
        if limit is not None:
            table = table.limit(limit)
        return conformed(self._get(table).to_reader(), expr.as_table().schema()).read_all()
