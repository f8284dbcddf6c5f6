"""Snowflake's types, both ways: in statements, in the rows that its client gives, and in the Parquet of its COPY."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import ibis.common.exceptions as com
import ibis.expr.datatypes as dt
import sqlglot.expressions as sge
from ibis.backends.sql.datatypes import SnowflakeType

from entrepot.backends.snowflake.client import type_name
from entrepot.backends.sql import parquet

if TYPE_CHECKING:
    import ibis.expr.schema as sch
    import pyarrow as pa

LARGEST_DECIMAL = (38, 37)
SCALE = 6
"""Digits of a second: microseconds, as everywhere in Entrepot. Snowflake's nanoseconds do not reach the year 9999."""


class Types(SnowflakeType):  # type: ignore[misc]
    """Types that Snowflake really has: every whole number is a NUMBER there, and no number is unsigned.

    NUMBER(38, 0) is what its INTEGER and its sums are: an int64. Fewer digits than that, which an int64 cannot hold,
    are a decimal's.
    """

    @classmethod
    def from_ibis(cls, dtype: dt.DataType) -> Any:
        if dtype.is_unsigned_integer():
            return super().from_ibis(dt.Decimal(20, 0) if dtype.is_uint64() else dt.int64)
        if dtype.is_decimal():
            precision, scale = dtype.precision or 38, dtype.scale if dtype.scale is not None else 9
            if precision > LARGEST_DECIMAL[0] or scale > LARGEST_DECIMAL[1]:
                raise com.UnsupportedBackendType(f"Snowflake's largest decimal is {LARGEST_DECIMAL}, and not {dtype}")
        if dtype.is_interval() or dtype.is_geospatial():
            raise com.UnsupportedBackendType(f"Snowflake has no column for {dtype}")
        if dtype.is_timestamp():
            # Never the bare TIMESTAMP: what that is, each account decides for itself.
            name = sge.DataType.Type.TIMESTAMPNTZ if dtype.timezone is None else sge.DataType.Type.TIMESTAMPTZ
            scale = () if dtype.scale is None else (sge.DataTypeParam(this=sge.convert(dtype.scale)),)
            return sge.DataType(this=name, expressions=list(scale))
        if dtype.is_uuid() or dtype.is_inet() or dtype.is_null():
            return super().from_ibis(dt.string)
        return super().from_ibis(dtype)

    @classmethod
    def to_ibis(cls, typ: sge.DataType, nullable: bool | None = None) -> dt.DataType:
        found: dt.DataType = super().to_ibis(typ, nullable)
        if found.is_timestamp():
            return found.copy(scale=SCALE if found.scale is None else min(found.scale, SCALE))
        if found.is_string():
            return found.copy(length=None)  # what is not said has a length, too: the largest, which changes
        if found.is_int64() and typ.this == sge.DType.DECIMAL and typ.expressions:
            digits = int(typ.expressions[0].this.this)
            return dt.Decimal(digits, 0, nullable=found.nullable) if 19 < digits < 38 else found
        return found


def schema_of(description: Sequence[Any]) -> pa.Schema:
    """The Arrow schema of a result, whether or not it has rows, from its cursor's description."""
    import pyarrow as pa

    types = {
        "REAL": pa.float64(),
        "DATE": pa.date32(),
        "TIMESTAMP_NTZ": pa.timestamp("us"),
        "TIMESTAMP_LTZ": pa.timestamp("us", "UTC"),
        "TIMESTAMP_TZ": pa.timestamp("us", "UTC"),
        "TIME": pa.time64("us"),
        "BINARY": pa.binary(),
        "BOOLEAN": pa.bool_(),
    }

    def type_of(column: Any) -> pa.DataType:
        kind = type_name(column)
        if kind != "FIXED":
            return types.get(kind, pa.string())  # VARIANT, OBJECT and ARRAY come as JSON
        return pa.decimal128(column.precision, column.scale) if column.scale or column.precision > 18 else pa.int64()

    return pa.schema([pa.field(column.name, type_of(column)) for column in description])


def parsed(reader: pa.RecordBatchReader, schema: sch.Schema) -> pa.RecordBatchReader:
    """Batches with arrays, structs and maps where the schema has them, and not the JSON that Snowflake sends."""
    import pyarrow as pa

    nested = {i: t for i, t in enumerate(schema.values()) if t.is_nested()}
    if not nested:
        return reader
    fields = [
        field.with_type(nested[i].to_pyarrow()) if i in nested else field for i, field in enumerate(reader.schema)
    ]
    target = pa.schema(fields)

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in reader:
            columns = list(batch.columns)
            for i, dtype in nested.items():
                values = (_value(json.loads(text), dtype) if text else None for text in columns[i].to_pylist())
                columns[i] = pa.array(values, dtype.to_pyarrow())
            yield pa.RecordBatch.from_arrays(columns, schema=target)

    return pa.RecordBatchReader.from_batches(target, batches())


def _value(value: Any, dtype: dt.DataType) -> Any:
    """A value of JSON as what Arrow takes for a type."""
    if dtype.is_json():
        return json.dumps(value)
    if value is None:
        return None
    if dtype.is_array():
        return [_value(one, dtype.value_type) for one in value]
    if dtype.is_map():
        return [(key, _value(one, dtype.value_type)) for key, one in value.items()]
    if dtype.is_struct():
        return {name: _value(value.get(name), of) for name, of in dtype.fields.items()}
    if dtype.is_decimal():
        return decimal.Decimal(str(value))
    if dtype.is_floating():
        return float(value)  # NaN and the infinities are texts
    if dtype.is_binary():
        return bytes.fromhex(value)
    if dtype.is_temporal() and not dtype.is_interval():
        kind = datetime.date if dtype.is_date() else datetime.time if dtype.is_time() else datetime.datetime
        return kind.fromisoformat(value)
    return value


def readable(files: Sequence[str], folder: str) -> Iterator[str]:
    """The files as COPY reads them as they are meant: as they are, or as copies, one at a time in the folder.

    Snowflake reads unsigned 64 bits as signed ones, and maps as arrays of pairs: they go as decimals, and as JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in files:
        found = pq.read_schema(path)
        target = pa.schema([field.with_type(_replaced(field.type)) for field in found])
        yield path if target.types == found.types else parquet.rewritten(path, folder, target, _column)


def _replaced(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if pa.types.is_uint64(kind):
        return pa.decimal128(20, 0)
    return pa.string() if pa.types.is_map(kind) else kind


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    import pyarrow as pa

    column = batch.column(field.name)
    if pa.types.is_map(column.type):
        texts = [None if v is None else json.dumps(dict(v), default=str) for v in column.to_pylist()]
        return pa.array(texts, field.type)
    return column.cast(field.type)
