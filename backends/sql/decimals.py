"""The digits of decimals, so that products and sums are kept to their last place where a warehouse would round them.

ibis types them as one of their operands, so their digits are told here, by the rules of SQL. Where a warehouse has
others, its compiler says so. DuckDB needs no more than `Written`: there a product has the places of both factors, and
what has no room fails.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import sqlglot.expressions as sge

LARGEST = 38
"""Digits of the largest decimal of most warehouses."""

_ONE_OF = ops.Min, ops.Max, ops.Arbitrary, ops.First, ops.Last, ops.ArgMin, ops.ArgMax
"""Aggregates that give one of the values as it is."""


class Digits(NamedTuple):
    """How many digits a decimal, or a whole number beside one, may have before and after its point."""

    whole: int
    places: int

    def __str__(self) -> str:
        return f"decimal({sum(self)}, {self.places})"


Combined = Callable[[Digits, Digits], Digits]
Known = dict[Any, Digits | None]


def digits(node: Any, product: Combined, known: Known | None = None) -> Digits | None:
    """The digits that SQL gives an expression, by a warehouse's rule for products; None if it is none that is exact."""
    known = {} if known is None else known
    if node not in known:
        known[node] = _digits(node, lambda inner: digits(inner, product, known), product)
    return known[node]


def _digits(node: Any, of: Callable[[Any], Digits | None], product: Combined) -> Digits | None:
    dtype = node.dtype
    if not (dtype.is_decimal() or dtype.is_integer()):
        return None
    if isinstance(node, ops.Literal) and node.value is not None and getattr(dtype, "precision", None) is None:
        return written(node.value)
    if isinstance(node, ops.Multiply | ops.Add | ops.Subtract):
        left, right = of(node.left), of(node.right)
        if left is None or right is None:
            return None
        return product(left, right) if isinstance(node, ops.Multiply) else beside(left, right)
    if isinstance(node, ops.Sum):
        arg = of(node.arg)
        return arg and Digits(min(arg.whole + 10, LARGEST - arg.places), arg.places)
    if isinstance(node, ops.Reduction) and not isinstance(node, _ONE_OF) and dtype.is_decimal():
        return None  # the mean of decimals is a float64, whatever ibis says
    found = [of(each) for each in _same(node) if not each.dtype.is_null()]
    exact = [each for each in found if each is not None]
    if len(exact) < len(found):
        return None
    return Digits(max(e.whole for e in exact), max(e.places for e in exact)) if exact else _typed(dtype)


def _same(node: Any) -> tuple[Any, ...]:
    """The values of which an expression gives one as it is."""
    if isinstance(node, ops.Field):
        return _columns(node.rel, node.name)
    if isinstance(node, ops.ScalarSubquery):
        return _columns(node.rel, node.rel.schema.names[0])
    if isinstance(node, ops.WindowFunction):
        return (node.func,)
    if isinstance(node, ops.IfElse):
        return (node.true_expr, node.false_null_expr)
    if isinstance(node, ops.SimpleCase | ops.SearchedCase):
        return (*node.results, node.default)
    if isinstance(node, ops.Coalesce | ops.Greatest | ops.Least):
        return tuple(node.arg)
    if isinstance(node, (ops.Negate, ops.Abs, ops.NullIf, ops.Analytic, *_ONE_OF)):
        return tuple(each for each in node.args if isinstance(each, ops.Value))[:1]
    return ()


def _columns(rel: Any, name: str) -> tuple[Any, ...]:
    """What a relation has a column from; nothing of a table."""
    if isinstance(rel, ops.Set):
        return ops.Field(rel.left, name), ops.Field(rel.right, name)
    value = None if isinstance(rel, ops.PhysicalTable) else rel.values.get(name)
    return () if value is None else (value,)


def written(value: Any) -> Digits:
    """Those of a number that is written down."""
    found = Decimal(value).as_tuple()
    exponent = int(found.exponent)
    return Digits(max(len(found.digits) + exponent, 0), max(-exponent, 0))


def _typed(dtype: dt.DataType) -> Digits:
    if dtype.is_decimal():
        scale = 9 if dtype.scale is None else dtype.scale
        return Digits((dtype.precision or LARGEST) - scale, scale)
    return Digits({1: 3, 2: 5, 4: 10}.get(dtype.nbytes, 20), 0)


def beside(left: Digits, right: Digits) -> Digits:
    """Those that a sum needs."""
    return Digits(max(left.whole, right.whole) + 1, max(left.places, right.places))


def operands(op: Any, product: Combined) -> tuple[Digits, Digits] | None:
    """The digits of both, if the result is a decimal."""
    if not (op.left.dtype.is_decimal() or op.right.dtype.is_decimal()):
        return None
    left, right = digits(op.left, product), digits(op.right, product)
    return None if left is None or right is None else (left, right)


class Written:
    """A decimal that is written down has its own digits. ibis gives it the default: three places on DuckDB."""

    __slots__ = ()

    def visit_NonNullLiteral(self: Any, op: Any, *, value: Any, dtype: Any) -> Any:
        if dtype.is_decimal() and dtype.precision is None and value.is_finite():
            own = written(value)
            return self.cast(sge.convert(f"{value:f}"), dt.Decimal(sum(own), own.places))
        return super().visit_NonNullLiteral(op, value=value, dtype=dtype)  # type: ignore[misc]


def exactly(left: Digits, right: Digits) -> Digits:
    """Those that a product needs so that nothing is rounded."""
    return Digits(left.whole + right.whole, left.places + right.places)
