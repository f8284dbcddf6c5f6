"""PostgreSQL's SQL, where ibis's compiler does not say what it means elsewhere."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import sqlglot as sg
import sqlglot.expressions as sge
from entrepot.backends.sql.compiling import (
    FloorDivision,
    Letters,
    Logarithms,
    backslashes,
    defined,
    divided,
    groups,
    matched,
)
from entrepot.backends.sql.semantics import MEANINGS, STRFTIME_IN_PARTS
from ibis.backends.sql.compilers import PostgresCompiler
from ibis.backends.sql.compilers.base import SQLGlotCompiler

from .types import CastTypes


class Compiler(FloorDivision, Letters, Logarithms, PostgresCompiler):  # type: ignore[misc]
    """Where ibis's compiler has other types than it says, or another value than Entrepot."""

    __slots__ = ()
    type_mapper = CastTypes
    rewrites = (*MEANINGS, STRFTIME_IN_PARTS, *PostgresCompiler.rewrites)
    SIMPLE_OPS: ClassVar[Any] = {ops.Arbitrary: "any_value"}

    def to_sqlglot(self, expr: Any, *, limit: str | None = None, params: Any = None) -> Any:
        """JSON stays JSON. ibis makes text of it, since it does not make tables of what it compiles."""
        return SQLGlotCompiler.to_sqlglot(self, expr, limit=limit, params=params)

    def visit_NonNullLiteral(self, op: Any, *, value: Any, dtype: Any) -> Any:
        """A float is no decimal: `0.1` alone is a NUMERIC."""
        if dtype.is_floating() and math.isfinite(value):
            return self.cast(sge.convert(repr(float(value))), dt.float64)
        if dtype.is_binary():
            return self.cast(sge.convert(f"\\x{value.hex()}"), dt.binary)
        return super().visit_NonNullLiteral(op, value=value, dtype=dtype)

    def visit_Cast(self, op: Any, *, arg: Any, to: Any) -> Any:
        """What PostgreSQL has no cast for, or one that means something else."""
        whence = op.arg.dtype
        if to.is_integer() and whence.is_string():
            return self.cast(self.f.round(self.cast(arg, dt.Decimal())), to)
        if to.is_integer() and whence.is_floating():
            whole, half = self.f.trunc(arg), sge.convert(0.5)
            fraction = self.f.abs(self.binop(sge.Sub, arg, whole))
            return self.cast(self.if_(fraction >= half, whole + self.f.sign(arg), whole), to)
        if whence.is_boolean() and to.is_numeric() and not to.is_boolean():
            return self.cast(self.cast(arg, dt.int32), to)
        if whence.is_numeric() and not whence.is_boolean() and to.is_boolean():
            return sge.NEQ(this=sge.paren(arg), expression=sge.Literal.number(0))
        if whence.is_binary() and to.is_string():
            return self.f.convert_from(arg, "UTF8")
        if whence.is_string() and to.is_binary():
            return self.f.convert_to(arg, "UTF8")
        return super().visit_Cast(op, arg=arg, to=to)

    def visit_Sum(self, op: Any, *, arg: Any, where: Any) -> Any:
        if op.arg.dtype.is_boolean():
            arg = self.cast(arg, dt.int32)
        return self.agg.sum(arg, where=where)

    def visit_Divide(self, op: Any, *, left: Any, right: Any) -> Any:
        """What is divided by zero fails, of floats too."""
        if not op.dtype.is_floating():
            return super().visit_Divide(op, left=left, right=right)
        quotient = super().visit_Divide(op, left=left, right=self.f.nullif(right, 0))
        return divided(self, op, quotient, left, right)

    def visit_Log(self, op: Any, *, arg: Any, base: Any) -> Any:
        if base is None:
            return self.visit_Ln(op, arg=arg)
        made = PostgresCompiler.visit_Log
        return defined(self, lambda value: made(self, op, arg=value, base=base), arg, at_zero=self.NEG_INF)

    def visit_Log2(self, op: Any, *, arg: Any) -> Any:
        made = PostgresCompiler.visit_Log2
        return defined(self, lambda value: made(self, op, arg=value), arg, at_zero=self.NEG_INF)

    def visit_Log10(self, op: Any, *, arg: Any) -> Any:
        return defined(self, self.f.log, arg, at_zero=self.NEG_INF)

    def visit_Mean(self, op: Any, *, arg: Any, where: Any) -> Any:
        arg = self.cast(arg, dt.float64) if op.arg.dtype.is_decimal() else arg
        return super().visit_Mean(op, arg=arg, where=where)

    def visit_StringSQLLike(self, op: Any, *, arg: Any, pattern: Any, escape: Any) -> Any:
        return super().visit_StringSQLLike(op, arg=arg, pattern=backslashes(self, op.pattern, pattern), escape=escape)

    def visit_StringSQLILike(self, op: Any, *, arg: Any, pattern: Any, escape: Any) -> Any:
        return super().visit_StringSQLILike(op, arg=arg, pattern=backslashes(self, op.pattern, pattern), escape=escape)

    def visit_RegexReplace(self, op: Any, *, arg: Any, pattern: Any, replacement: Any) -> Any:
        """All that was found is `\\&`."""
        parts = groups(op.replacement)
        made = "".join(text.replace("\\", "\\\\") if n is None else f"\\{n or '&'}" for n, text in parts)
        return super().visit_RegexReplace(op, arg=arg, pattern=pattern, replacement=sge.convert(made))

    def visit_LocalTime(self, op: Any, *, arg: Any, zone: str) -> Any:
        return self.f.anon.timezone(zone, arg)

    visit_PointInTime = visit_LocalTime

    def visit_ExtractEpochSeconds(self, op: Any, *, arg: Any) -> Any:
        return self.cast(self.f.floor(self.f.extract("epoch", self.cast(arg, dt.timestamp))), dt.int64)

    def visit_Round(self, op: Any, *, arg: Any, digits: Any) -> Any:
        """Halves go away from zero; of floats, PostgreSQL makes the even number."""
        if op.dtype.is_integer() and op.arg.dtype.is_floating():
            return self.cast(self.f.round(self.cast(arg, dt.Decimal())), op.dtype)
        return super().visit_Round(op, arg=arg, digits=digits)

    def visit_RegexExtract(self, op: Any, *, arg: Any, pattern: Any, index: Any) -> Any:
        return matched(self, super().visit_RegexExtract(op, arg=arg, pattern=pattern, index=index), arg)

    def visit_First(self, op: Any, *, arg: Any, where: Any, order_by: Any, include_null: bool) -> Any:
        return self._one_of(arg, where, order_by, include_null, last=False)

    def visit_Last(self, op: Any, *, arg: Any, where: Any, order_by: Any, include_null: bool) -> Any:
        return self._one_of(arg, where, order_by, include_null, last=True)

    def _one_of(self, arg: Any, where: Any, order_by: Any, include_null: bool, *, last: bool) -> Any:
        """PostgreSQL has no such aggregates; ibis calls functions that nobody has made."""
        if not include_null:
            known = arg.is_(sg.not_(sge.Null()))
            where = known if where is None else sge.and_(known, where)
        all_of = self.agg.array_agg(arg, where=where, order_by=order_by)
        place = self.f.cardinality(all_of) if last else sge.Literal.number(1)
        return sge.Bracket(this=sge.paren(all_of), expressions=[place], offset=1)
