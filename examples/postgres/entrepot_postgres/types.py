"""PostgreSQL's types, both ways: in statements, in what COPY reads, and in what a cursor gives."""

from __future__ import annotations

import io
from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any

import ibis.common.exceptions as exc
import ibis.expr.datatypes as dt
import ibis.expr.schema as sch
import psycopg
import pyarrow as pa
import pyarrow.csv
import sqlglot.expressions as sge
from ibis.backends.sql.datatypes import PostgresType
from psycopg.types.string import TextLoader

_DIGITS = Context(prec=100)
_PRECISION, _SCALE = 38, 9
"""Of a NUMERIC without limits, such as a sum or a mean: what ibis takes a decimal for, and BigQuery too."""


class CastTypes(PostgresType):  # type: ignore[misc]
    """No number is unsigned, and JSON is kept in the form that can be compared."""

    @classmethod
    def from_ibis(cls, dtype: dt.DataType) -> Any:
        if dtype.is_json():
            return sge.DataType(this=sge.DataType.Type.JSONB)
        if dtype.is_unsigned_integer():
            return super().from_ibis({1: dt.int16, 2: dt.int32, 4: dt.int64}.get(dtype.nbytes, dt.Decimal(20, 0)))
        return super().from_ibis(dtype)

    @classmethod
    def from_string(cls, text: str, nullable: bool | None = None) -> dt.DataType:
        return super().from_string("text" if text.startswith("bpchar") else text, nullable=nullable)


class Types(CastTypes):
    """Those that a column can have, and a COPY can bring."""

    @classmethod
    def from_ibis(cls, dtype: dt.DataType) -> Any:
        inner = dtype.value_type if dtype.is_array() else dtype
        if inner.is_nested() or inner.is_interval() or inner.is_geospatial():
            raise exc.UnsupportedBackendType(f"a column of PostgreSQL cannot be of type {dtype}")
        return super().from_ibis(dtype)


def as_csv(batch: pa.RecordBatch, schema: sch.Schema) -> bytes:
    """The rows as CSV, in which texts are quoted and NULL is not."""
    columns = [_written(column) for column in batch.columns]
    made = pa.RecordBatch.from_arrays(columns, names=[str(number) for number in range(len(columns))])
    sink = io.BytesIO()
    pyarrow.csv.write_csv(made, sink, pyarrow.csv.WriteOptions(include_header=False))
    return sink.getvalue()


def _written(column: pa.Array) -> pa.Array:
    """A column as Arrow writes it to CSV so that PostgreSQL reads it."""
    if isinstance(column.type, pa.ExtensionType):
        column = column.storage
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", kind.tz and "UTC"), safe=False)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        return pa.array([None if v is None else f"\\x{v.hex()}" for v in column.to_pylist()], pa.string())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.array([None if v is None else _array(v) for v in column.to_pylist()], pa.string())
    return column


def _array(values: Sequence[Any]) -> str:
    """An array as PostgreSQL writes it."""
    return "{" + ",".join(map(_element, values)) + "}"


def _element(value: Any) -> str:
    if value is None:
        return "NULL"
    text = f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def plain_types(cursor: psycopg.Cursor[Any] | psycopg.ServerCursor[Any]) -> None:
    """Lets a cursor give JSON and UUIDs as text."""
    for name in ("json", "jsonb", "uuid"):
        cursor.adapters.register_loader(name, TextLoader)


def limited(kind: str, dtype: dt.DataType) -> dt.DataType | None:
    """What a column becomes that PostgreSQL says is NUMERIC, without limits; None for other columns.

    A mean of whole numbers is one, too, of which ibis says that it is a float.
    """
    if kind != "numeric" or dtype.is_floating():
        return dtype if kind == "numeric" else None
    return dt.Decimal(_PRECISION, max((dtype.scale or 0) if dtype.is_decimal() else 0, _SCALE))


def as_arrow(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    """A batch of rows that a cursor gave."""
    columns = [_read(values, field.type) for field, values in zip(schema, zip(*rows, strict=True), strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _read(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind):
        place = Decimal(1).scaleb(-kind.scale)
        values = [None if value is None else value.quantize(place, context=_DIGITS) for value in values]
    return pa.array(values, kind)
