"""Snowflake's SQL, where ibis's compiler does not say what it means elsewhere."""

from __future__ import annotations

import itertools
import math
from typing import Any

import ibis.common.exceptions as com
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import sqlglot.expressions as sge
from ibis.backends.sql.compilers import SnowflakeCompiler

from entrepot.backends.snowflake.types import Types
from entrepot.backends.sql.compiling import (
    Letters,
    Logarithms,
    divided,
    floored_exactly,
    groups,
    is_exact,
    matched,
    position,
    to_24_bits,
    trimmed,
    without,
    without_null,
)
from entrepot.backends.sql.decimals import LARGEST, Digits, Written, exactly, operands
from entrepot.backends.sql.semantics import MEANINGS, STRFTIME_IN_PARTS


class Compiler(Letters, Logarithms, Written, SnowflakeCompiler):  # type: ignore[misc]
    """Where ibis's compiler gives other numbers or types than ibis promises, or needs functions that are not there."""

    __slots__ = ()
    type_mapper = Types
    rewrites = (*MEANINGS, STRFTIME_IN_PARTS, *SnowflakeCompiler.rewrites)
    SIMPLE_OPS = without(SnowflakeCompiler.SIMPLE_OPS, ops.Median, ops.ArrayIndex)

    # These call functions in a database `ibis_udfs`, which ibis makes, in other people's accounts too, when it
    # connects. Entrepot makes nothing outside of its schemas.
    UNSUPPORTED_OPS = (
        ops.RegexSplit,
        ops.MapValues,
        ops.MapMerge,
        ops.ArrayRepeat,
        ops.ArrayZip,
        ops.ArrayAny,
        ops.ArrayAll,
        ops.ArraySum,
        ops.ArrayMean,
    )

    def visit_NonNullLiteral(self, op: Any, *, value: Any, dtype: Any) -> Any:
        """A float is no decimal: `0.1` alone is a NUMBER(2, 1). As text it is read to the last bit."""
        if dtype.is_floating() and math.isfinite(value):
            return self.cast(sge.convert(repr(float(value))), dt.float64)
        return super().visit_NonNullLiteral(op, value=value, dtype=dtype)

    def visit_Multiply(self, op: Any, *, left: Any, right: Any) -> Any:
        """A product has twelve places, unless a factor has more: so one gets as many as the product is to have."""
        found = operands(op, _product)
        if found and _product(*found).places < (wanted := exactly(*found).places):
            if wanted >= LARGEST:
                raise com.UnsupportedOperationError(
                    f"a product of {found[0]} and {found[1]} has {wanted} places, and Snowflake's decimals have 37: "
                    "cast them to fewer, or to float64, first"
                )
            left = self.cast(left, dt.Decimal(LARGEST, wanted))
        return super().visit_Multiply(op, left=left, right=right)

    def visit_Divide(self, op: Any, *, left: Any, right: Any) -> Any:
        """Whole numbers and decimals divide to six digits after the point, and by 0 not at all."""
        left = left if op.left.dtype.is_floating() else self.cast(left, dt.float64)
        right = right if op.right.dtype.is_floating() else self.cast(right, dt.float64)
        return divided(self, op, self.binop(sge.Div, left, self._not_zero(op.right, right)), left, right)

    def _not_zero(self, node: Any, value: Any) -> Any:
        return value if isinstance(node, ops.Literal) and node.value else self.f.nullif(value, 0)

    def visit_FloorDivide(self, op: Any, *, left: Any, right: Any) -> Any:
        """Whole numbers divide to six digits after the point, and the last of them may be rounded up."""
        if not is_exact(op):
            return super().visit_FloorDivide(op, left=left, right=right)
        return self.cast(floored_exactly(self, left, right), dt.int64)

    def visit_Greatest(self, op: Any, *, arg: Any) -> Any:
        return self.f.greatest(*without_null(self, arg))

    def visit_Least(self, op: Any, *, arg: Any) -> Any:
        return self.f.least(*without_null(self, arg))

    def visit_Clip(self, op: Any, *, arg: Any, lower: Any, upper: Any) -> Any:
        upper, lower = (None if bound is None else self.f.coalesce(bound, arg) for bound in (upper, lower))
        return super().visit_Clip(op, arg=arg, lower=lower, upper=upper)

    def visit_RegexSearch(self, op: Any, *, arg: Any, pattern: Any) -> Any:
        """REGEXP_LIKE is about the whole text. What stands around the pattern is any sign; ibis makes `.` any, too."""
        any_sign = sge.convert("(.|\\n)*")
        whole = self.f.concat(any_sign, sge.convert("("), pattern, sge.convert(")"), any_sign)
        return sge.RegexpLike(this=arg, expression=whole, flag=sge.convert("c"))

    def visit_RegexReplace(self, op: Any, *, arg: Any, pattern: Any, replacement: Any) -> Any:
        """There is no group 0 that is all of it, so the pattern becomes the first group."""
        parts = groups(op.replacement)
        if any(group == 0 for group, _ in parts):
            pattern = self.f.concat(sge.convert("("), pattern, sge.convert(")"))
            made = [text.replace("\\", "\\\\") if group is None else f"\\{group + 1}" for group, text in parts]
            replacement = sge.convert("".join(made))
        return super().visit_RegexReplace(op, arg=arg, pattern=pattern, replacement=replacement)

    def visit_RegexExtract(self, op: Any, *, arg: Any, pattern: Any, index: Any) -> Any:
        if isinstance(op.index, ops.Literal) and op.index.value == 0:
            return matched(self, self.f.anon.regexp_substr(arg, pattern, 1, 1, "c"), arg)
        return matched(self, super().visit_RegexExtract(op, arg=arg, pattern=pattern, index=index), arg)

    def visit_ExtractEpochSeconds(self, op: Any, *, arg: Any) -> Any:
        epoch = self.cast("1970-01-01", dt.timestamp)
        return self.f.anon.datediff(sge.var("second"), epoch, self.cast(arg, dt.timestamp))

    def visit_ExtractMicrosecond(self, op: Any, *, arg: Any) -> Any:
        return self._of_a_second(arg, "epoch_microsecond", 1_000_000)

    def visit_ExtractMillisecond(self, op: Any, *, arg: Any) -> Any:
        return self._of_a_second(arg, "epoch_millisecond", 1000)

    def _of_a_second(self, arg: Any, unit: str, number: int) -> Any:
        """Before 1970, what is left is negative."""
        rest = sge.paren(self.binop(sge.Mod, self.f.extract(unit, arg), sge.convert(number)))
        return self.binop(sge.Mod, sge.paren(self.binop(sge.Add, rest, sge.convert(number))), sge.convert(number))

    def visit_LocalTime(self, op: Any, *, arg: Any, zone: str) -> Any:
        utc = self.cast(self.f.anon.convert_timezone("UTC", arg), dt.timestamp)
        return self.f.anon.convert_timezone("UTC", zone, utc)

    def visit_PointInTime(self, op: Any, *, arg: Any, zone: str) -> Any:
        return self.cast(self.f.anon.convert_timezone(zone, "UTC", arg), dt.Timestamp(timezone="UTC"))

    def visit_Mean(self, op: Any, *, arg: Any, where: Any) -> Any:
        if op.arg.dtype.is_boolean():
            arg = self.cast(self.cast(arg, dt.int32), dt.float64)
        return self.agg.avg(self._float(op.arg, arg), where=where)

    def visit_VarianceStandardDevCovariance(self, op: Any, *, how: Any, where: Any, **kw: Any) -> Any:
        floats = {name: self._float(getattr(op, name), value) for name, value in kw.items()}
        return super().visit_VarianceStandardDevCovariance(op, how=how, where=where, **floats)

    visit_Variance = visit_StandardDev = visit_Covariance = visit_VarianceStandardDevCovariance

    def visit_Median(self, op: Any, *, arg: Any, where: Any) -> Any:
        return self.agg.median(self._float(op.arg, arg), where=where)

    def visit_Quantile(self, op: Any, *, arg: Any, quantile: Any, where: Any) -> Any:
        arg = self._float(op.arg, arg)
        return super().visit_Quantile(op, arg=arg, quantile=_constant(quantile), where=where)

    def visit_ApproxQuantile(self, op: Any, *, arg: Any, quantile: Any, where: Any) -> Any:
        return super().visit_ApproxQuantile(op, arg=arg, quantile=_constant(quantile), where=where)

    def _float(self, node: Any, value: Any) -> Any:
        """A whole number or a decimal as a DOUBLE: what a NUMBER has no places for would be cut off."""
        is_number = node.dtype.is_integer() or node.dtype.is_decimal()
        return self.cast(value, dt.float64) if is_number else value

    def visit_CountDistinctStar(self, op: Any, *, arg: Any, where: Any) -> Any:
        """COUNT(DISTINCT a, b) leaves out rows that have a NULL."""
        pairs = [(sge.convert(name), sge.column(name, quoted=self.quoted)) for name in op.arg.schema.names]
        row = self.f.object_construct_keep_null(*itertools.chain.from_iterable(pairs))
        return self.f.count(sge.Distinct(expressions=[row if where is None else self.if_(where, row, sge.null())]))

    def visit_Cast(self, op: Any, *, arg: Any, to: Any) -> Any:
        """A string becomes JSON by being parsed; a cast alone wraps it. A float32 is one of 64 bits, rounded."""
        found = op.arg.dtype
        if to.is_json() and found.is_string():
            return self.f.parse_json(arg)
        if to.is_string() and found.is_floating():
            raise com.UnsupportedOperationError(
                f"Snowflake writes a {found} with fewer digits than it has: round it, and cast it to a decimal first"
            )
        if to.is_string() and found.is_timestamp():  # else the account says how
            text = trimmed(self, self.f.anon.to_char(self.cast(arg, dt.timestamp), "YYYY-MM-DD HH24:MI:SS.FF6"))
            return text if found.timezone is None else self.f.concat(text, "+00")
        if to.is_integer() and found.is_floating():
            arg = self.f.round(arg)
        made = super().visit_Cast(op, arg=arg, to=to)
        if to.is_float32() and not op.arg.dtype.is_float32():
            return to_24_bits(self, made, lambda number: self.cast(sge.convert(str(number)), dt.float64))
        return made

    def visit_TryCast(self, op: Any, *, arg: Any, to: Any) -> Any:
        if not op.arg.dtype.is_string():
            raise com.UnsupportedOperationError(f"Snowflake's TRY_CAST reads texts, and not {op.arg.dtype}: use cast")
        return super().visit_TryCast(op, arg=arg, to=to)

    def visit_Arbitrary(self, op: Any, **kwargs: Any) -> Any:
        """An element of an array is a VARIANT, and would be one in the table that is made of it."""
        return self.cast(super().visit_Arbitrary(op, **kwargs), op.dtype)

    def visit_First(self, op: Any, **kwargs: Any) -> Any:
        return self.cast(super().visit_First(op, **kwargs), op.dtype)

    def visit_Last(self, op: Any, **kwargs: Any) -> Any:
        return self.cast(super().visit_Last(op, **kwargs), op.dtype)

    def visit_ArrayIndex(self, op: Any, *, arg: Any, index: Any) -> Any:
        where = position(self, op.index, index, self.f.array_size(arg))
        return self.cast(self.f.get(arg, where if where is index else self.cast(where, dt.int64)), op.dtype)

    def visit_Unnest(self, op: Any, *, arg: Any) -> Any:
        """By way of the array itself: as joined text, an empty string becomes NULL, and an object is lost."""
        return self.cast(self.f.explode(self.f.nullif(arg, self.f.array())), op.dtype)

    def visit_TimestampAdd(self, op: Any, *, left: Any, right: Any) -> Any:
        return self.f.timestampadd(right.unit, _number(right.this), left)

    def visit_TimestampSub(self, op: Any, *, left: Any, right: Any) -> Any:
        return self.f.timestampadd(right.unit, sge.Neg(this=sge.paren(_number(right.this))), left)

    visit_DateAdd = visit_TimestampAdd
    visit_DateSub = visit_TimestampSub


def _product(left: Digits, right: Digits) -> Digits:
    places = min(left.places + right.places, max(left.places, right.places, 12))
    return Digits(min(left.whole + right.whole, LARGEST - places), places)


def _constant(literal: sge.Expression) -> sge.Expression:
    """A float literal as a plain number: for arguments that must be constants."""
    return sge.Literal.number(literal.this.this) if isinstance(literal, sge.Cast) else literal


def _number(amount: sge.Expression) -> sge.Expression:
    """An interval's amount, which ibis writes as text, as a number."""
    return sge.Literal.number(amount.this) if isinstance(amount, sge.Literal) else amount
