"""What Databricks' SQL and types are, and where ibis's idea of them is not ours."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import ibis.common.exceptions as exc
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import ibis.expr.schema as sch
import sqlglot.expressions as sge
from ibis.backends.sql.compilers import DatabricksCompiler
from ibis.backends.sql.compilers.base import SQLGlotCompiler
from ibis.backends.sql.datatypes import DatabricksType

from entrepot.backends.base import Capabilities
from entrepot.backends.dialect import Dialect, Identifiers
from entrepot.backends.sql import decimals
from entrepot.backends.sql.compiling import (
    FloorDivision,
    Letters,
    Logarithms,
    backslashes,
    defined,
    divided,
    double,
    groups,
    shifted_left,
    without,
)
from entrepot.backends.sql.semantics import MEANINGS, STRFTIME_IN_PARTS
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
    def _from_ibis_Timestamp(cls, dtype: dt.Timestamp) -> sge.DataType:
        return sge.DataType(this=sge.DType.TIMESTAMPNTZ if dtype.timezone is None else sge.DType.TIMESTAMP)

    @classmethod
    def from_ibis(cls, dtype: dt.DataType) -> sge.DataType:
        if dtype.is_unsigned_integer():
            larger = {1: dt.int16, 2: dt.int32, 4: dt.int64}
            dtype = larger.get(dtype.nbytes) or dt.Decimal(20, 0)
        elif dtype.is_null():
            dtype = dt.string  # a table has no column of type VOID
        is_large = dtype.is_decimal() and (dtype.precision or 0) > CAPABILITIES.largest_decimal[0]
        if is_large or dtype.is_time() or dtype.is_geospatial() or dtype.is_unknown():
            raise exc.UnsupportedBackendType(f"a column of Databricks cannot be of type {dtype}")
        made: sge.DataType = super().from_ibis(dtype)
        return made


class Types(CastTypes):
    """Those that a column can have: intervals stand within expressions only."""

    @classmethod
    def from_ibis(cls, dtype: dt.DataType) -> sge.DataType:
        if dtype.is_interval():
            raise exc.UnsupportedBackendType(f"a column of Databricks cannot be of type {dtype}")
        return super().from_ibis(dtype)


class Compiler(FloorDivision, Letters, Logarithms, decimals.Databricks, DatabricksCompiler):  # type: ignore[misc]
    """ibis's own, where it means something else than on other warehouses, or raises where they give NULL."""

    __slots__ = ()
    type_mapper = CastTypes
    rewrites = (*MEANINGS, STRFTIME_IN_PARTS, *DatabricksCompiler.rewrites)
    SIMPLE_OPS = without(DatabricksCompiler.SIMPLE_OPS, ops.Divide, ops.Log10)

    def visit_NonNullLiteral(self, op: Any, *, value: Any, dtype: Any) -> Any:
        # `0.1` is a DECIMAL(1, 1) here; with an exponent it is a DOUBLE.
        if dtype.is_floating() and math.isfinite(value):
            literal = double(float(value))
            return self.cast(literal, dtype) if dtype.is_float32() else literal
        return super().visit_NonNullLiteral(op, value=value, dtype=dtype)

    def visit_Divide(self, op: Any, *, left: Any, right: Any) -> Any:
        # What is divided by 0 is NULL; decimals would be divided as such, to a few places.
        left = self.cast(left, dt.float64) if op.left.dtype.is_decimal() else left
        return divided(self, op, super().visit_Divide(op, left=left, right=right), left, right)

    def visit_Mean(self, op: Any, *, arg: Any, where: Any) -> Any:
        # A decimal's mean has four places more than the decimal.
        arg = self.cast(arg, dt.float64) if op.arg.dtype.is_decimal() else arg
        return super().visit_Mean(op, arg=arg, where=where)

    def visit_Log2(self, op: Any, *, arg: Any) -> Any:
        return defined(self, self.f.anon.log2, arg, at_zero=self.NEG_INF)

    def visit_Log10(self, op: Any, *, arg: Any) -> Any:
        return defined(self, self.f.anon.log10, arg, at_zero=self.NEG_INF)

    def visit_BitwiseLeftShift(self, op: Any, *, left: Any, right: Any) -> Any:
        return shifted_left(self, left, right)

    def visit_StringSQLLike(self, op: Any, *, arg: Any, pattern: Any, escape: Any) -> Any:
        return super().visit_StringSQLLike(op, arg=arg, pattern=backslashes(self, op.pattern, pattern), escape=escape)

    def visit_StringSQLILike(self, op: Any, *, arg: Any, pattern: Any, escape: Any) -> Any:
        return super().visit_StringSQLILike(op, arg=arg, pattern=backslashes(self, op.pattern, pattern), escape=escape)

    def visit_RegexReplace(self, op: Any, *, arg: Any, pattern: Any, replacement: Any) -> Any:
        # A group is `$1`, and what a backslash stands before is itself: a digit, too, that follows a group's.
        made = [f"${group}" if group is not None else f"\\{text}" for group, text in groups(op.replacement)]
        return self.f.regexp_replace(arg, pattern, "".join(made))

    def visit_CountDistinctStar(self, op: Any, *, arg: Any, where: Any) -> Any:
        # COUNT(DISTINCT a, b) leaves out rows that have a NULL.
        row = self.f.struct(*(sge.column(self._gen_valid_name(n), quoted=True) for n in op.arg.schema.names))
        return self.f.count(sge.Distinct(expressions=[row if where is None else self.if_(where, row, sge.null())]))

    def visit_WindowFunction(self, op: Any, **kwargs: Any) -> Any:
        if isinstance(op.func, ops.NthValue):  # ibis leaves out the frame, as of functions that have none
            return SQLGlotCompiler.visit_WindowFunction(self, op, **kwargs)
        return super().visit_WindowFunction(op, **kwargs)

    def visit_IsNull(self, op: Any, *, arg: Any) -> Any:
        return arg.is_(sge.null())  # NaN is a value, not NULL

    def visit_NotNull(self, op: Any, *, arg: Any) -> Any:
        return arg.is_(sge.not_(sge.null()))

    def visit_IsNan(self, op: Any, *, arg: Any) -> Any:
        return self.if_(arg.is_(sge.null()), sge.null(), self.f.isnan(arg))  # ISNAN(NULL) is false

    def visit_IsInf(self, op: Any, *, arg: Any) -> Any:
        return self.f.abs(arg).eq(self.POS_INF)  # ibis compares in Python, and writes FALSE

    def visit_Cast(self, op: Any, *, arg: Any, to: Any) -> Any:
        # VARIANT is the type, not text that holds JSON.
        if to.is_json() and not op.arg.dtype.is_json():
            return self.f.anon.parse_json(arg if op.arg.dtype.is_string() else self.f.to_json(arg))
        if op.arg.dtype.is_json() and to.is_string():
            return self.f.to_json(arg)
        found = op.arg.dtype
        if to.is_integer() and (found.is_floating() or found.is_decimal() or found.is_string()):
            return self.cast(self._rounded(found, arg, self.cast), to)
        if to.is_string() and found.is_floating():
            raise exc.UnsupportedOperationError(
                f"Databricks writes a {found} as Java does: round it, and cast it to a decimal first"
            )
        if to.is_string() and found.is_timestamp() and found.timezone is not None:
            return self.f.concat(self.cast(self.cast(arg, dt.timestamp), to), "+00")
        return self.cast(arg, to)

    def visit_TryCast(self, op: Any, *, arg: Any, to: Any) -> Any:
        found = op.arg.dtype
        if to.is_integer() and (found.is_floating() or found.is_decimal() or found.is_string()):
            arg = self._rounded(found, arg, self._tried)
        return self._tried(arg, to)

    def _tried(self, arg: Any, to: Any) -> Any:
        return sge.TryCast(this=arg, to=self.type_mapper.from_ibis(to), safe=True)

    def _rounded(self, found: Any, arg: Any, cast: Any) -> Any:
        """CAST cuts a number's fraction off, and refuses a text that has one; elsewhere it rounds."""
        return self.f.round(cast(arg, dt.Decimal(38, 18)) if found.is_string() else arg)

    def visit_ArrayIndex(self, op: Any, *, arg: Any, index: Any) -> Any:
        # ELEMENT_AT fails beyond the end, and counts from 1, or from the end.
        return self.f.anon.try_element_at(arg, self.cast(self.if_(index >= 0, index + 1, index), dt.int32))

    def visit_IntervalFromInteger(self, op: Any, *, arg: Any, unit: Any) -> Any:
        # ibis casts text to INTERVAL, which Spark alone knows.
        place, times = _INTERVALS.get(unit.short) or _unsupported(f"intervals of {unit.plural}")
        return self.f.anon.make_interval(*[0] * place, self.cast(arg * times if times > 1 else arg, dt.int32))

    def visit_TimestampTruncate(self, op: Any, *, arg: Any, unit: Any) -> Any:
        # DATE_TRUNC gives a timestamp with a time zone, whatever it is given.
        return self.cast(super().visit_TimestampTruncate(op, arg=arg, unit=unit), op.arg.dtype)

    visit_DateTruncate = visit_TimestampTruncate

    def visit_ExtractSecond(self, op: Any, *, arg: Any) -> Any:
        return self.f.anon.second(arg)  # EXTRACT gives a decimal with the fraction

    def visit_ExtractMicrosecond(self, op: Any, *, arg: Any) -> Any:
        return self.cast(self.f.date_format(arg, "SSSSSS"), op.dtype)

    def visit_StringToTimestamp(self, op: Any, *, arg: Any, format_str: Any) -> Any:
        return self.cast(super().visit_StringToTimestamp(op, arg=arg, format_str=format_str), op.dtype)

    def visit_TimestampFromUNIX(self, op: Any, *, arg: Any, unit: Any) -> Any:
        return self.cast(super().visit_TimestampFromUNIX(op, arg=arg, unit=unit), op.dtype)

    def visit_TimestampDelta(self, op: Any, *, left: Any, right: Any, part: Any) -> Any:
        # DATEDIFF counts whole units that have passed; elsewhere it counts the borders between units.
        start, end = (self.f.anon.date_trunc(part, value) for value in (right, left))
        return sge.DateDiff(this=end, expression=start, unit=sge.var(part.this))

    visit_DateDelta = visit_TimestampDelta

    def visit_ExtractIsoYear(self, op: Any, *, arg: Any) -> Any:
        return self.f.extract(self.v.yearofweek, arg)

    def visit_ExtractEpochSeconds(self, op: Any, *, arg: Any) -> Any:
        # UNIX_TIMESTAMP rounds towards 1970.
        return self.f.anon.unix_seconds(self.cast(arg, dt.Timestamp(timezone="UTC")))

    def visit_LocalTime(self, op: Any, *, arg: Any, zone: str) -> Any:
        return self.f.anon.convert_timezone("UTC", zone, self.cast(arg, dt.timestamp))

    def visit_PointInTime(self, op: Any, *, arg: Any, zone: str) -> Any:
        return self.cast(self.f.anon.convert_timezone(zone, "UTC", arg), dt.Timestamp(timezone="UTC"))

    def visit_Time(self, op: Any, *, arg: Any) -> Any:
        return _unsupported("times of day")


_INTERVALS = {"Y": (0, 1), "Q": (1, 3), "M": (1, 1), "W": (2, 1), "D": (3, 1), "h": (4, 1), "m": (5, 1), "s": (6, 1)}
"""Where MAKE_INTERVAL has a unit, and how many of its own units that is."""


def _unsupported(what: str) -> NoReturn:
    raise exc.UnsupportedOperationError(f"Databricks has no {what}")


def _may_be(char: str) -> bool:
    """Whether Unity Catalog has a character in the names of schemas and tables."""
    return char not in " ./" and unicodedata.category(char) != "Cc"


DIALECT = Dialect(
    name="databricks",
    compiler="entrepot.backends.databricks.compiler:Compiler",
    types="entrepot.backends.databricks.compiler:Types",
    digests="entrepot.backends.sql.digest:DATABRICKS",
    identifiers=Identifiers(longest_table=255, longest_column=255, in_table=_may_be, in_schema=_may_be),
)

CAPABILITIES = Capabilities(transactional_ddl=False, clone=True, time_travel=True, label="query tag")


def check_types(schema: sch.Schema) -> None:
    """Raises BadInput for a column of a type that no column of Databricks can have."""
    for name, dtype in schema.items():
        try:
            DIALECT.type(dtype)
        except exc.UnsupportedBackendType as error:
            raise BadInput(f"column {name!r}: {error}") from error


def needs_mapping(schema: sch.Schema) -> bool:
    """Whether a name in it, at any depth, is one that Delta has only if the table maps names."""
    return any(_MAPPED.intersection(name) for name in _names(schema.as_struct()))


def casts(schema: sch.Schema) -> str:
    """Columns of files, cast to these types: what stands between SELECT and FROM."""

    def cast(name: str, dtype: dt.DataType) -> str:
        # CAST would make a VARIANT that holds the text.
        quoted = DIALECT.identifier(name)
        return f"parse_json({quoted}) AS {quoted}" if dtype.is_json() else DIALECT.casts(sch.Schema({name: dtype}))

    return ", ".join(cast(name, dtype) for name, dtype in schema.items())


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


def spelled(described: Mapping[str, Any]) -> str:
    """A type as SQL has it, from what DESCRIBE says in JSON."""
    name = described["name"]
    if name == "struct":
        fields = (f"{DIALECT.identifier(f['name'])}: {spelled(f['type'])}" for f in described["fields"])
        return f"STRUCT<{', '.join(fields)}>"
    if name == "array":
        return f"ARRAY<{spelled(described['element_type'])}>"
    if name == "map":
        return f"MAP<{spelled(described['key_type'])}, {spelled(described['value_type'])}>"
    if name == "decimal":
        return f"DECIMAL({described['precision']}, {described['scale']})"
    if name == "interval":
        return f"INTERVAL {described['start_unit']} TO {described['end_unit']}"
    return str(name)


def readable(files: Sequence[str], schema: sch.Schema, scratch: str) -> Iterator[str]:
    """The same files, but for those that Spark cannot read, or whose types are not those of the first: anew."""
    import pyarrow.parquet as pq

    first = pq.read_schema(files[0])
    for number, file in enumerate(files):
        found = pq.read_schema(file)
        if [(f.name, f.type) for f in found] == [(f.name, f.type) for f in first] and all(map(_is_plain, found.types)):
            yield file
        else:
            yield _rewritten(file, schema, str(Path(scratch, f"{number}.parquet")))


def _is_plain(found: pa.DataType) -> bool:
    """Whether Spark reads this type from Parquet. It has microseconds, and needs a type for what is always NULL."""
    import pyarrow as pa

    if pa.types.is_nested(found):
        return all(_is_plain(found.field(number).type) for number in range(found.num_fields))
    return not (pa.types.is_null(found) or (pa.types.is_timestamp(found) and found.unit == "ns"))


def _rewritten(file: str, schema: sch.Schema, path: str) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = pa.schema([pa.field(n, pa.string() if t.is_null() else t.to_pyarrow()) for n, t in schema.items()])
    with pq.ParquetWriter(path, wanted, compression="zstd") as writer:
        for batch in pq.ParquetFile(file).iter_batches():
            there = dict(zip(batch.schema.names, batch.columns, strict=True))
            columns = []
            for field in wanted:
                try:
                    column = there.get(field.name)
                    columns.append(pa.nulls(len(batch), field.type) if column is None else column.cast(field.type))
                except pa.ArrowInvalid as error:
                    raise BadInput(f"column {field.name!r} cannot be loaded into Databricks: {error}") from error
            writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=wanted))
    return path
