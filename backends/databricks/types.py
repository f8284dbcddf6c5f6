"""Databricks' types, both ways: in statements, in what DESCRIBE says, and in the Parquet that Spark reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import ibis.common.exceptions as exc
import ibis.expr.datatypes as dt
import ibis.expr.schema as sch
import sqlglot.expressions as sge
from ibis.backends.sql.datatypes import DatabricksType

from entrepot.backends.sql import parquet
from entrepot.errors import BadInput

if TYPE_CHECKING:
    import pyarrow as pa

_MAPPED = frozenset(" ,;{}()\n\t=")
"""Characters that Parquet, and so Delta, has in a column's name only if the table maps names to others."""


class CastTypes(DatabricksType):  # type: ignore[misc]
    """ibis writes every timestamp as TIMESTAMP, which has a time zone here, and unsigned types that do not exist."""

    default_decimal_precision = 38
    default_decimal_scale = 9

    @classmethod
    def from_ibis(cls, dtype: dt.DataType) -> sge.DataType:
        if dtype.is_unsigned_integer():
            larger = {1: dt.int16, 2: dt.int32, 4: dt.int64}
            dtype = larger.get(dtype.nbytes) or dt.Decimal(20, 0)
        elif dtype.is_null():
            dtype = dt.string  # a table has no column of type VOID
        is_large = dtype.is_decimal() and (dtype.precision or 0) > cls.default_decimal_precision
        if is_large or dtype.is_time() or dtype.is_geospatial() or dtype.is_unknown():
            raise exc.UnsupportedBackendType(f"a column of Databricks cannot be of type {dtype}")
        if dtype.is_timestamp():
            return sge.DataType(this=sge.DType.TIMESTAMPNTZ if dtype.timezone is None else sge.DType.TIMESTAMP)
        made: sge.DataType = super().from_ibis(dtype)
        return made


class Types(CastTypes):
    """Those that a column can have: intervals stand within expressions only."""

    @classmethod
    def from_ibis(cls, dtype: dt.DataType) -> sge.DataType:
        if dtype.is_interval():
            raise exc.UnsupportedBackendType(f"a column of Databricks cannot be of type {dtype}")
        return super().from_ibis(dtype)


def needs_mapping(schema: sch.Schema) -> bool:
    """Whether a name in it, at any depth, is one that Delta has only if the table maps names."""
    return any(_MAPPED.intersection(name) for name in _names(schema.as_struct()))


def _names(dtype: dt.DataType) -> Iterator[str]:
    """The names of all fields, at any depth."""
    if dtype.is_struct():
        for name, inner in dtype.items():
            yield name
            yield from _names(inner)
    elif dtype.is_array():
        yield from _names(dtype.value_type)
    elif dtype.is_map():
        yield from _names(dtype.key_type)
        yield from _names(dtype.value_type)


def readable(files: Sequence[str], schema: sch.Schema, folder: str) -> Iterator[str]:
    """The files as Spark reads them. Those that it cannot read, or whose types are not those of the first, come as
    copies, one at a time in the folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = pq.read_schema(files[0])
    for file in files:
        found = pq.read_schema(file)
        if [(f.name, f.type) for f in found] == [(f.name, f.type) for f in first] and all(map(_is_plain, found.types)):
            yield file
        else:
            wanted = [(n, pa.string() if t.is_null() else t.to_pyarrow()) for n, t in schema.items()]
            yield parquet.rewritten(file, folder, pa.schema(wanted), _column)


def _is_plain(found: pa.DataType) -> bool:
    """Whether Spark reads this type from Parquet. It has microseconds, and needs a type for what is always NULL."""
    import pyarrow as pa

    if pa.types.is_nested(found):
        return all(_is_plain(found.field(number).type) for number in range(found.num_fields))
    return not (pa.types.is_null(found) or (pa.types.is_timestamp(found) and found.unit == "ns"))


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    import pyarrow as pa

    if field.name not in batch.schema.names:
        return pa.nulls(len(batch), field.type)
    try:
        return batch.column(field.name).cast(field.type)
    except pa.ArrowInvalid as error:
        raise BadInput(f"column {field.name!r} cannot be loaded into Databricks: {error}") from error
