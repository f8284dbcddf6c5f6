"""BigQuery's SQL, where ibis's compiler does not say what it means elsewhere."""

from __future__ import annotations

import calendar
from typing import Any

import ibis.common.exceptions as exc
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import sqlglot.expressions as sge
from ibis.backends.sql.compilers import BigQueryCompiler

from entrepot.backends.bigquery.types import CastTypes
from entrepot.backends.sql.compiling import (
    FloorDivision,
    Letters,
    Logarithms,
    backslashes,
    defined,
    groups,
    matched,
    position,
    shifted_left,
    to_24_bits,
    trimmed,
    without,
    without_null,
)
from entrepot.backends.sql.decimals import Written, exactly, operands
from entrepot.backends.sql.semantics import MEANINGS, STRFTIME_IN_PARTS


class Compiler(FloorDivision, Letters, Logarithms, Written, BigQueryCompiler):  # type: ignore[misc]
    """ibis's own, but for what other warehouses compute otherwise."""

    __slots__ = ()
    type_mapper = CastTypes
    rewrites = (*MEANINGS, STRFTIME_IN_PARTS, *BigQueryCompiler.rewrites)
    SIMPLE_OPS = without(BigQueryCompiler.SIMPLE_OPS, ops.RegexReplace, ops.Log10)

    def visit_Cast(self, op: Any, *, arg: Any, to: Any) -> Any:
        found = op.arg.dtype
        if to.is_string() and found.is_floating():
            raise exc.UnsupportedOperationError(
                f"BigQuery writes a {found} in another way than DuckDB: round it, and cast it to a decimal first"
            )
        if to.is_string() and found.is_timestamp():  # CAST writes three digits of a second, or six
            text = trimmed(self, self.f.anon.format_datetime("%Y-%m-%d %H:%M:%E6S", self._datetime(found, arg)))
            return text if found.timezone is None else self.f.concat(text, "+00")
        if to.is_integer() and (found.is_floating() or found.is_string()):
            return self.cast(self._number(found, arg, self.cast), dt.int64)
        if to.is_string() and op.arg.dtype.is_decimal() and op.arg.dtype.scale is not None:
            return self.f.format(f"%.{op.arg.dtype.scale}f", arg)  # CAST leaves out zeros at the end
        return self._rounded(op, super().visit_Cast(op, arg=arg, to=to), to)

    def visit_TryCast(self, op: Any, *, arg: Any, to: Any) -> Any:
        if to.is_integer() and (op.arg.dtype.is_floating() or op.arg.dtype.is_string()):
            arg = self._number(op.arg.dtype, arg, self._tried)
        return self._rounded(op, super().visit_TryCast(op, arg=arg, to=to), to)

    def _tried(self, arg: Any, to: Any) -> Any:
        return sge.TryCast(this=arg, to=self.type_mapper.from_ibis(to), safe=True)

    def _number(self, found: Any, arg: Any, cast: Any) -> Any:
        """What becomes a whole number, rounded: ibis cuts floats off, and a text with a fraction is refused."""
        return self.f.round(arg if found.is_floating() else cast(arg, dt.Decimal(76, 38)))

    def _datetime(self, found: Any, arg: Any) -> Any:
        return arg if found.timezone is None else self.cast(arg, dt.timestamp)

    def _rounded(self, op: Any, cast: Any, to: Any) -> Any:
        """ibis casts `decimal(15, 2)` to NUMERIC, which keeps nine places, and float32 to FLOAT64."""
        if to.is_float32() and not op.arg.dtype.is_float32():
            return to_24_bits(self, cast, sge.convert)
        places = to.scale if to.is_decimal() else None
        return cast if places in (None, 9, 38) else self.f.round(cast, places)

    def visit_Multiply(self, op: Any, *, left: Any, right: Any) -> Any:
        """NUMERIC keeps nine places of a product, and BIGNUMERIC 38."""
        found = operands(op, exactly)
        if found and exactly(*found).places > 9:
            left = self.cast(left, dt.Decimal(76, 38))
        return super().visit_Multiply(op, left=left, right=right)

    def visit_Mean(self, op: Any, *, arg: Any, where: Any) -> Any:
        arg = self.cast(arg, dt.float64) if op.arg.dtype.is_decimal() else arg
        return super().visit_Mean(op, arg=arg, where=where)

    def visit_Greatest(self, op: Any, *, arg: Any) -> Any:
        return self.f.greatest(*without_null(self, arg))

    def visit_Least(self, op: Any, *, arg: Any) -> Any:
        if not op.dtype.is_floating():
            return self.f.least(*without_null(self, arg))
        # NaN is more than all others, and would be less than they are, too.
        numbers = [self.if_(self.f.is_nan(each), sge.null(), each) for each in arg]
        return self.f.coalesce(self.f.least(*without_null(self, numbers)), *arg)

    def visit_Clip(self, op: Any, *, arg: Any, lower: Any, upper: Any) -> Any:
        upper, lower = (None if bound is None else self.f.coalesce(bound, arg) for bound in (upper, lower))
        return super().visit_Clip(op, arg=arg, lower=lower, upper=upper)

    def visit_Log(self, op: Any, *, arg: Any, base: Any) -> Any:
        if base is None:
            return self.visit_Ln(op, arg=arg)
        if str(base) == "10":
            return self.visit_Log10(op, arg=arg)
        return defined(self, lambda value: self.f.log(value, base), arg, at_zero=self.NEG_INF)

    def visit_Log2(self, op: Any, *, arg: Any) -> Any:
        return self.visit_Log(op, arg=arg, base=sge.convert(2))

    def visit_Log10(self, op: Any, *, arg: Any) -> Any:
        return defined(self, self.f.anon.log10, arg, at_zero=self.NEG_INF)

    def visit_BitwiseRightShift(self, op: Any, *, left: Any, right: Any) -> Any:
        """It fills with zeros, so that what was negative is so no more."""
        shift = self.binop(sge.BitwiseRightShift, sge.paren(sge.BitwiseNot(this=left)), right)
        return self.if_(left < 0, sge.BitwiseNot(this=sge.paren(shift)), self.binop(sge.BitwiseRightShift, left, right))

    def visit_BitwiseLeftShift(self, op: Any, *, left: Any, right: Any) -> Any:
        return shifted_left(self, left, right)

    def visit_ArrayIndex(self, op: Any, *, arg: Any, index: Any) -> Any:
        return arg[self.f.safe_offset(position(self, op.index, index, self.f.array_length(arg)))]

    def visit_StrRight(self, op: Any, *, arg: Any, nchars: Any) -> Any:
        return self.f.right(arg, nchars)  # ibis takes all of it for the last 0 letters

    def visit_StringSQLLike(self, op: Any, *, arg: Any, pattern: Any, escape: Any) -> Any:
        return super().visit_StringSQLLike(op, arg=arg, pattern=backslashes(self, op.pattern, pattern), escape=escape)

    def visit_StringSQLILike(self, op: Any, *, arg: Any, pattern: Any, escape: Any) -> Any:
        return super().visit_StringSQLILike(op, arg=arg, pattern=backslashes(self, op.pattern, pattern), escape=escape)

    def visit_RegexReplace(self, op: Any, *, arg: Any, pattern: Any, replacement: Any) -> Any:
        groups(op.replacement)
        return self.f.regexp_replace(arg, pattern, replacement)

    def visit_RegexExtract(self, op: Any, *, arg: Any, pattern: Any, index: Any) -> Any:
        """REGEXP_EXTRACT has one group at most, so the rest is taken away: lines and alternatives of it, too."""
        whole = self.f.concat("^(?s:.*?)(?:", pattern, ")(?s:.*)$")
        if isinstance(op.index, ops.Literal) and op.index.value == 0:
            whole = self.f.concat("^(?s:.*?)(", pattern, ")(?s:.*)$")
            index = sge.convert(1)
        group = self.f.concat("\\", self.cast(index, dt.string))
        found = self.if_(self.f.regexp_contains(arg, pattern), self.f.regexp_replace(arg, whole, group), sge.null())
        return matched(self, found, arg)

    def visit_ExtractEpochSeconds(self, op: Any, *, arg: Any) -> Any:
        return self.f.unix_seconds(self.cast(arg, dt.Timestamp(timezone="UTC")))

    def visit_DateDelta(self, op: Any, *, left: Any, right: Any, part: Any) -> Any:
        return sge.DateDiff(this=left, expression=right, unit=_borders(part))

    def visit_TimestampDelta(self, op: Any, *, left: Any, right: Any, part: Any) -> Any:
        """Of points in time, whole units are counted that have passed between them; of DATETIMEs, the borders."""
        start, end = self._datetime(op.right.dtype, right), self._datetime(op.left.dtype, left)
        return sge.DatetimeDiff(this=end, expression=start, unit=_borders(part))

    def visit_DayOfWeekName(self, op: Any, *, arg: Any) -> Any:
        """CAST ... FORMAT 'DAY' fills the names up with blanks."""
        names = [self.if_(number, name) for number, name in enumerate(calendar.day_name)]
        return sge.Case(this=self.visit_DayOfWeekIndex(op, arg=arg), ifs=names)

    def visit_LocalTime(self, op: Any, *, arg: Any, zone: str) -> Any:
        return self.f.anon.datetime(arg, zone)

    def visit_PointInTime(self, op: Any, *, arg: Any, zone: str) -> Any:
        return self.f.anon.timestamp(arg, zone)

    def visit_CountDistinctStar(self, op: Any, *, arg: Any, where: Any) -> Any:
        # ibis writes the values one after the other, so that 1 and 23 are the same as 12 and 3.
        row = self.f.to_json_string(self.f.struct(*(sge.column(n, quoted=True) for n in op.arg.schema.names)))
        return self.f.count(sge.Distinct(expressions=[row if where is None else self.if_(where, row, sge.null())]))

    def visit_WindowFunction(self, op: Any, *, order_by: Any, **kwargs: Any) -> Any:
        # ibis leaves out where NULL comes, which RANGE cannot have; without it, NULL is less than all values.
        keys = []
        for key in order_by:
            is_descending = bool(key.args["desc"])
            if op.how != "range" and bool(key.args["nulls_first"]) == is_descending:
                keys.append(sge.Ordered(this=key.this.is_(sge.null()), desc=is_descending))
            keys.append(key)
        return super().visit_WindowFunction(op, order_by=keys, **kwargs)


def _borders(part: Any) -> Any:
    """A unit of time, with the day that weeks begin with."""
    return sge.var("WEEK(MONDAY)" if part.this == "week" else part.this.upper())
