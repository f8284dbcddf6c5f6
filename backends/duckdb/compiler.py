"""DuckDB's SQL, where ibis's compiler does not say what it means elsewhere."""

from __future__ import annotations

import math
from typing import Any

import ibis.expr.datatypes as dt
import sqlglot.expressions as sge
from ibis.backends.sql.compilers import DuckDBCompiler

from entrepot.backends.duckdb.types import Types
from entrepot.backends.sql.compiling import FloorDivision, Logarithms, double, failing_at_zero, groups, shifted_left
from entrepot.backends.sql.decimals import Written
from entrepot.backends.sql.semantics import MEANINGS, STRFTIME


class Compiler(FloorDivision, Logarithms, Written, DuckDBCompiler):  # type: ignore[misc]
    """ibis's own, where what DuckDB makes of it is of another type than ibis says, or another value than elsewhere."""

    type_mapper = Types
    rewrites = (*MEANINGS, STRFTIME, *DuckDBCompiler.rewrites)

    def visit_NonNullLiteral(self, op: Any, *, value: Any, dtype: Any) -> Any:
        if dtype.is_floating() and math.isfinite(value):
            return double(float(value))  # `0.1` is a DECIMAL(2, 1)
        return super().visit_NonNullLiteral(op, value=value, dtype=dtype)

    def visit_ApproxQuantile(self, op: Any, *, arg: Any, quantile: Any, where: Any) -> Any:
        quantile = self.cast(quantile, dt.Array(dt.float32) if op.quantile.dtype.is_array() else dt.float32)
        return super().visit_ApproxQuantile(op, arg=arg, quantile=quantile, where=where)

    visit_ApproxMultiQuantile = visit_ApproxQuantile

    def visit_Cast(self, op: Any, *, arg: Any, to: Any) -> Any:
        return super().visit_Cast(op, arg=self._rounded(op, arg, to), to=to)

    def visit_TryCast(self, op: Any, *, arg: Any, to: Any) -> Any:
        return super().visit_TryCast(op, arg=self._rounded(op, arg, to), to=to)

    def _rounded(self, op: Any, arg: Any, to: Any) -> Any:
        """A cast takes a float that is halfway between two whole numbers for the even one; ROUND does not."""
        return self.f.round(arg) if to.is_integer() and op.arg.dtype.is_floating() else arg

    def visit_FloorDivide(self, op: Any, *, left: Any, right: Any) -> Any:
        floor = super().visit_FloorDivide(op, left=left, right=right)
        return failing_at_zero(self, op, floor, left, right)

    def visit_Modulus(self, op: Any, *, left: Any, right: Any) -> Any:
        rest = super().visit_Modulus(op, left=left, right=right)
        return failing_at_zero(self, op, rest, left, right)

    def visit_BitwiseLeftShift(self, op: Any, *, left: Any, right: Any) -> Any:
        return shifted_left(self, left, right)

    def visit_RegexReplace(self, op: Any, *, arg: Any, pattern: Any, replacement: Any) -> Any:
        groups(op.replacement)
        return super().visit_RegexReplace(op, arg=arg, pattern=pattern, replacement=replacement)

    def visit_Median(self, op: Any, *, arg: Any, where: Any) -> Any:
        return super().visit_Median(op, arg=self._float(op, arg), where=where)

    def visit_Quantile(self, op: Any, *, arg: Any, quantile: Any, where: Any) -> Any:
        return super().visit_Quantile(op, arg=self._float(op, arg), quantile=quantile, where=where)

    def _float(self, op: Any, arg: Any) -> Any:
        """What lies between two decimals may need more places than they have."""
        return self.cast(arg, dt.float64) if op.arg.dtype.is_decimal() else arg

    def visit_ExtractEpochSeconds(self, op: Any, *, arg: Any) -> Any:
        epoch = self.cast("1970-01-01", dt.timestamp)
        return self.f.anon.date_diff("second", epoch, self.cast(arg, dt.timestamp))  # EPOCH has the fraction too

    def visit_TimestampDelta(self, op: Any, *, left: Any, right: Any, part: Any) -> Any:
        if part.this != "week":
            return super().visit_TimestampDelta(op, left=left, right=right, part=part)
        # Of weeks it counts those that have passed, and not the Mondays.
        start, end = (self.f.anon.date_trunc("week", value) for value in (right, left))
        return self.binop(sge.IntDiv, self.f.anon.date_diff("day", start, end), sge.convert(7))

    visit_DateDelta = visit_TimestampDelta

    def visit_LocalTime(self, op: Any, *, arg: Any, zone: str) -> Any:
        return self.f.anon.timezone(zone, arg)

    visit_PointInTime = visit_LocalTime

    def visit_DateTruncate(self, op: Any, *, arg: Any, unit: Any) -> Any:
        return self.cast(super().visit_DateTruncate(op, arg=arg, unit=unit), dt.date)  # else a TIMESTAMP

    def visit_DateAdd(self, op: Any, *, left: Any, right: Any) -> Any:
        return self.cast(self.binop(sge.Add, left, right), dt.date)

    def visit_DateSub(self, op: Any, *, left: Any, right: Any) -> Any:
        return self.cast(self.binop(sge.Sub, left, right), dt.date)
