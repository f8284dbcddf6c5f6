"""Databricks' SQL, where ibis's compiler does not say what it means elsewhere."""

from __future__ import annotations

import math
from typing import Any, NoReturn

import ibis.common.exceptions as exc
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import sqlglot.expressions as sge
from ibis.backends.sql.compilers import DatabricksCompiler
from ibis.backends.sql.compilers.base import SQLGlotCompiler

from entrepot.backends.databricks.types import CastTypes
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
from entrepot.backends.sql.decimals import LARGEST, Digits, Written, beside, exactly, operands
from entrepot.backends.sql.semantics import MEANINGS, STRFTIME_IN_PARTS


class Compiler(FloorDivision, Letters, Logarithms, Written, DatabricksCompiler):  # type: ignore[misc]
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

    def visit_Multiply(self, op: Any, *, left: Any, right: Any) -> Any:
        """A result that may have more than 38 digits is rounded, though its values may have few."""
        found = operands(op, _product)
        if found and (kept := _product(*found).places) < (wanted := exactly(*found).places):
            raise exc.UnsupportedOperationError(
                f"of the {wanted} places of a product of {found[0]} and {found[1]}, Databricks keeps {kept}: cast them "
                "to decimals of fewer digits, or to float64, first"
            )
        return super().visit_Multiply(op, left=left, right=right)

    def visit_Add(self, op: Any, *, left: Any, right: Any) -> Any:
        return super().visit_Add(op, **self._with_room(op, left, right))

    def visit_Subtract(self, op: Any, *, left: Any, right: Any) -> Any:
        return super().visit_Subtract(op, **self._with_room(op, left, right))

    def _with_room(self, op: Any, left: Any, right: Any) -> dict[str, Any]:
        """With one digit less before the point, there is room for all behind it."""
        made = {"left": left, "right": right}
        found = operands(op, _product)
        if found and (places := beside(*found).places) > 6:
            room = LARGEST - 1 - places
            for side, (whole, own) in zip(made, found, strict=True):
                if whole > room:
                    made[side] = self.cast(made[side], dt.Decimal(room + own, own))
        return made

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
        row = self.f.struct(*(sge.column(n, quoted=True) for n in op.arg.schema.names))
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


def _product(left: Digits, right: Digits) -> Digits:
    """What may have more than 38 digits has fewer places, down to six."""
    whole, places = left.whole + right.whole + 1, left.places + right.places
    if whole + places > LARGEST:
        places = max(LARGEST - whole, min(places, 6))
    return Digits(min(whole, LARGEST - places), places)


_INTERVALS = {"Y": (0, 1), "Q": (1, 3), "M": (1, 1), "W": (2, 1), "D": (3, 1), "h": (4, 1), "m": (5, 1), "s": (6, 1)}
"""Where MAKE_INTERVAL has a unit, and how many of its own units that is."""


def _unsupported(what: str) -> NoReturn:
    raise exc.UnsupportedOperationError(f"Databricks has no {what}")
