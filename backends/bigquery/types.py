"""BigQuery's types, both ways: in statements, in its API, and in the Parquet that its load jobs read."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import ibis.common.exceptions as com
import ibis.expr.datatypes as dt
import ibis.expr.schema as sch
import sqlglot.expressions as sge
from ibis.backends.sql.datatypes import BigQueryType

from entrepot.backends.sql import parquet
from entrepot.errors import BadInput, StepFailed

if TYPE_CHECKING:
    import pyarrow as pa
    from google.cloud.bigquery import SchemaField

_TYPE = sge.DataType.Type


class Types(BigQueryType):  # type: ignore[misc]
    """ibis's types of BigQuery, with what it leaves out or gets wrong for tables that must keep every value.

    Decimals keep their precision and scale, and are BIGNUMERIC where NUMERIC lacks the digits before the point;
    unsigned 64-bit integers are decimals; a time zone other than UTC is a TIMESTAMP too, which is a point in time.
    """

    default_interval_precision = "us"

    @classmethod
    def from_ibis(cls, dtype: dt.DataType) -> sge.DataType:
        if dtype.is_decimal() or dtype.is_uint64():
            return cls.decimal(dt.Decimal(20, 0) if dtype.is_uint64() else dtype)
        if dtype.is_timestamp():
            return sge.DataType(this=_TYPE.DATETIME if dtype.timezone is None else _TYPE.TIMESTAMPTZ)
        if dtype.is_interval():
            return sge.DataType(this=_TYPE.INTERVAL)
        if dtype.is_string() or dtype.is_uuid() or dtype.is_inet() or dtype.is_macaddr():
            return sge.DataType(this=_TYPE.TEXT)
        if dtype.is_null():
            return sge.DataType(this=_TYPE.BIGINT)  # what a query's column of nothing but NULL becomes in a table
        if dtype.is_array() and dtype.value_type.is_array():
            raise com.UnsupportedBackendType("BigQuery holds an array of arrays only with a struct between them")
        if dtype.is_array():
            return sge.DataType(this=_TYPE.ARRAY, expressions=[cls.from_ibis(dtype.value_type)], nested=True)
        if dtype.is_unknown():
            raise com.UnsupportedBackendType(f"BigQuery has no type for {dtype}")
        made: sge.DataType = super().from_ibis(dtype)
        return made

    @classmethod
    def decimal(cls, dtype: dt.Decimal) -> sge.DataType:
        """NUMERIC or BIGNUMERIC, with precision and scale."""
        if dtype.precision is None:
            return sge.DataType(this=_TYPE.DECIMAL)
        precision, scale = dtype.precision, dtype.scale or 0
        if (precision, scale) == (cls.default_decimal_precision, cls.default_decimal_scale):
            return sge.DataType(this=_TYPE.DECIMAL)
        if scale <= 9 and precision - scale <= 29:
            kind = _TYPE.DECIMAL
        elif scale <= 38 and precision - scale <= 38:
            kind = _TYPE.BIGDECIMAL
        else:
            raise com.UnsupportedBackendType(
                f"decimal({precision}, {scale}) has more than BIGNUMERIC's 38 digits on one side of the point"
            )
        if (precision, scale) == (76, 38):
            return sge.DataType(this=kind)
        return sge.DataType(this=kind, expressions=[sge.DataTypeParam(this=sge.convert(n)) for n in (precision, scale)])

    @classmethod
    def to_ibis(cls, typ: sge.DataType, nullable: bool | None = None) -> dt.DataType:
        if typ.this == _TYPE.BIGDECIMAL:
            digits = [int(digit.this.this) for digit in typ.expressions] or [76, 38]
            return dt.Decimal(digits[0], digits[1] if len(digits) > 1 else 0, nullable=nullable is not False)
        found: dt.DataType = super().to_ibis(typ, nullable)
        return found


class CastTypes(Types):
    """Types in a CAST, where BigQuery allows no precision and scale."""

    @classmethod
    def decimal(cls, dtype: dt.Decimal) -> sge.DataType:
        return sge.DataType(this=super().decimal(dtype).this)


def fields(schema: Mapping[str, dt.DataType], *, json_as_text: bool = False) -> list[SchemaField]:
    """A table's columns as the client takes them."""
    return [_field(name, dtype, json_as_text) for name, dtype in schema.items()]


def _field(name: str, dtype: dt.DataType, json_as_text: bool) -> SchemaField:
    from google.cloud.bigquery import SchemaField

    mode = "REPEATED" if dtype.is_array() else "NULLABLE"
    inner = dtype.value_type if dtype.is_array() else dtype
    if inner.is_struct():
        return SchemaField(name, "RECORD", mode, fields=fields(inner.fields, json_as_text=json_as_text))
    if inner.is_json() and json_as_text:
        return SchemaField(name, "STRING", mode)
    kind = Types.from_ibis(inner)
    digits = dict(zip(("precision", "scale"), (int(p.this.this) for p in kind.expressions), strict=False))
    return SchemaField(name, sge.DataType(this=kind.this).sql(Types.dialect), mode, **digits)


def type_text(field: SchemaField) -> str:
    """The type of a table's column, as a statement would say it."""
    if field.field_type in ("RECORD", "STRUCT"):
        text = "STRUCT<" + ", ".join(f"`{f.name}` {type_text(f)}" for f in field.fields) + ">"
    elif field.precision is not None:
        text = f"{field.field_type}({field.precision}, {field.scale or 0})"
    else:
        text = _LEGACY.get(field.field_type, field.field_type)
    return f"ARRAY<{text}>" if field.mode == "REPEATED" else text


_LEGACY = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL"}
"""What the API calls types that have other names in statements."""


def readable(files: Sequence[str], schema: sch.Schema, folder: str) -> Iterator[str]:
    """The files as BigQuery's load jobs read them: as they are, or as copies, one at a time in the folder.

    A load job reads nanoseconds and unsigned 64-bit integers as something else, and has no UUIDs.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = pa.schema([pa.field(name, _arrow(name, dtype)) for name, dtype in schema.items()])
    for path in files:
        is_plain = pq.read_schema(path).equals(target, check_metadata=False)
        yield path if is_plain else parquet.rewritten(path, folder, target, _column)


def _arrow(column: str, dtype: dt.DataType) -> pa.DataType:
    """The Arrow type whose Parquet a load job reads as a column of this type."""
    import pyarrow as pa

    if dtype.is_nested() and any(inner.is_json() for inner in _within(dtype)):
        raise BadInput(
            f"BigQuery cannot load column {column!r} of type {dtype}: Parquet has no JSON within other types"
        )
    if dtype.is_array():
        return pa.list_(_arrow(column, dtype.value_type))
    if dtype.is_struct():
        return pa.struct([(name, _arrow(column, inner)) for name, inner in dtype.items()])
    if dtype.is_interval():
        raise BadInput(f"BigQuery cannot load column {column!r}: Parquet has no {dtype}")
    if dtype.is_integer() or dtype.is_null():
        return pa.decimal128(20, 0) if dtype.is_uint64() else pa.int64()
    if dtype.is_floating():
        return pa.float64()
    if dtype.is_timestamp():
        return pa.timestamp("us", "UTC" if dtype.timezone else None)
    if dtype.is_time():
        return pa.time64("us")
    if dtype.is_decimal() and dtype.precision is None:
        return pa.decimal128(38, 9)
    if dtype.is_boolean() or dtype.is_date() or dtype.is_binary() or dtype.is_decimal():
        return dtype.to_pyarrow()
    return pa.string()


def _within(dtype: dt.DataType) -> Sequence[dt.DataType]:
    return [dtype.value_type] if dtype.is_array() else list(dtype.types)


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    column, target = batch.column(field.name), field.type
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_fixed_size_binary(column.type) and pa.types.is_string(target):
        return pa.array([None if v is None else str(uuid.UUID(bytes=v)) for v in column.to_pylist()], target)
    try:
        if pa.types.is_integer(column.type) and pa.types.is_decimal(target):
            # Arrow wants room for every integer first, also where those that are there fit.
            column = column.cast(pa.decimal256(20 + target.scale, target.scale))
        # BigQuery has no nanoseconds: they are cut off.
        return pc.cast(column, options=pc.CastOptions(target, allow_time_truncate=True))
    except pa.ArrowInvalid as error:
        raise StepFailed(f"column {field.name!r} cannot be loaded as {target}: {error}") from error
