"""Arrow columns as columns of other types, where that changes no value: Arrow's own casts round and cut some."""

from __future__ import annotations

import datetime as d
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from entrepot.errors import StepFailed


def plain(dtype: pa.DataType) -> pa.DataType:
    """The type of the same values that warehouses have.

    Raises:
        ValueError: if there is none; it says what the type is.
    """
    if isinstance(dtype, pa.ExtensionType | pa.BaseExtensionType):
        return pa.string() if isinstance(dtype, pa.UuidType) else plain(dtype.storage_type)
    if pa.types.is_duration(dtype) or pa.types.is_interval(dtype):
        raise ValueError("a span of time, which no warehouse has as Parquet has it; bring it as a number or a text")
    if pa.types.is_fixed_size_binary(dtype):
        return pa.binary()
    if pa.types.is_decimal(dtype):
        return pa.decimal128(min(dtype.precision, 38), dtype.scale)
    if dtype == pa.time64("ns"):
        return pa.time64("us")
    if pa.types.is_timestamp(dtype) and dtype.tz and dtype.unit == "ns":
        return pa.timestamp("us", dtype.tz)
    if pa.types.is_float16(dtype):
        return pa.float32()
    if pa.types.is_struct(dtype):
        return pa.struct([field.with_type(_within(field.type)) for field in dtype])
    if pa.types.is_map(dtype):
        return pa.map_(
            dtype.key_field.with_type(_within(dtype.key_type)), dtype.item_field.with_type(_within(dtype.item_type))
        )
    if pa.types.is_fixed_size_list(dtype) or pa.types.is_list(dtype):
        return pa.list_(dtype.value_field.with_type(_within(dtype.value_type)))
    if pa.types.is_large_list(dtype):
        return pa.large_list(dtype.value_field.with_type(_within(dtype.value_type)))
    return dtype


def _within(dtype: pa.DataType) -> pa.DataType:
    if isinstance(dtype, pa.UuidType):
        raise ValueError("a UUID within another value; bring it as a text")
    return plain(dtype)


def plain_table(table: Any, which: str) -> Any:
    """The same rows with types that warehouses have.

    Raises:
        StepFailed: if a column has no such type, or a value is none of it.
    """
    columns = []
    for field, column in zip(table.schema, table.columns, strict=True):
        try:
            columns.append(cast(column, plain(field.type)))
        except (ValueError, pa.ArrowException) as error:
            raise StepFailed(f"{which}: the column {field.name!r} is {field.type}: {error}") from error
    if all(made is column for made, column in zip(columns, table.columns, strict=True)):
        return table
    return pa.table(dict(zip(table.column_names, columns, strict=True)))


def array(values: list[Any], wanted: pa.DataType) -> Any:
    """Python's values as a column. A time with a zone is UTC where the type has none; one without is of the type's.

    Raises:
        pa.ArrowException, ValueError, TypeError: for a value that the type does not hold.
    """
    if pa.types.is_timestamp(wanted):
        # As UTC without zone: whether Arrow heeds Python's zones depends on the environment (see entrepot/__init__.py).
        moments = [_moment(value, wanted.tz) if isinstance(value, d.datetime) else value for value in values]
        in_utc = pa.array(moments, pa.timestamp("ns" if wanted.unit == "ns" else "us"))
        return in_utc.cast(pa.timestamp(in_utc.type.unit, wanted.tz)).cast(wanted)
    if pa.types.is_integer(wanted):
        for value in values:
            if isinstance(value, float | Decimal) and value % 1 != 0:
                raise ValueError(f"{value!r} is no whole number")
    elif pa.types.is_date(wanted):
        for value in values:
            if isinstance(value, d.datetime) and value.time() != d.time():
                raise ValueError(f"{value!r} has a time of day")
    return pa.array(values, wanted)


def _moment(value: d.datetime, zone: str | None) -> d.datetime:
    """In UTC; a time without zone is of the clocks in `zone`, or in UTC."""
    if value.tzinfo is None and zone is not None:
        here = value.replace(tzinfo=ZoneInfo(zone), fold=0)
        if here.utcoffset() != here.replace(fold=1).utcoffset():
            raise ValueError(f"the clocks of {zone} have shown {value} twice or never")
        value = here
    return value.astimezone(d.UTC).replace(tzinfo=None) if value.tzinfo else value


def cast(column: Any, wanted: pa.DataType) -> Any:
    """A column as one of another type. A time without a zone is that of the clocks in the type's zone.

    Raises:
        pa.ArrowInvalid: for a value that the type does not hold; it says which.
    """
    found = column.type
    if found == wanted:
        return column
    if isinstance(found, pa.UuidType) and pa.types.is_string(wanted):
        texts = [None if value is None else str(value) for value in column.to_pylist()]
        return pa.array(texts, wanted)
    if isinstance(found, pa.BaseExtensionType):
        return cast(column.cast(found.storage_type), wanted)
    if pa.types.is_timestamp(found) and pa.types.is_timestamp(wanted) and wanted.tz and not found.tz:
        zoned = pc.assume_timezone(column, wanted.tz, ambiguous="raise", nonexistent="raise")
        return cast(zoned, wanted)
    # Of a decimal Arrow makes a neighbour of the nearest double; of a text it makes the nearest.
    is_near = pa.types.is_decimal(found) and pa.types.is_floating(wanted)
    made = (column.cast(pa.string()) if is_near else column).cast(wanted)
    if _may_round(found, wanted):
        back = made.cast(found)
        same = pc.fill_null(pc.equal(back, column), True)
        if pa.types.is_floating(found):
            same = pc.or_(same, pc.fill_null(pc.is_nan(column), True))
        if not pc.all(same).as_py() and len(column):
            value = column.filter(pc.invert(same))[0].as_py()
            raise pa.ArrowInvalid(f"{value!r} would be {made.filter(pc.invert(same))[0].as_py()!r}")
    return made


def _may_round(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether Arrow rounds or cuts such values without a word."""
    if pa.types.is_floating(found) or pa.types.is_decimal(found):
        return bool(pa.types.is_decimal(found) != pa.types.is_decimal(wanted) and _is_number(wanted))
    return bool(pa.types.is_timestamp(found) and (pa.types.is_date(wanted) or pa.types.is_time(wanted)))


def _is_number(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(dtype) or pa.types.is_floating(dtype))
