"""What the compilers of several warehouses need to say what ibis means, in sqlglot's trees."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import sqlglot.expressions as sge
from ibis.backends.sql.compilers.base import SQLGlotCompiler


def without(simple: Mapping[Any, str], *ours: type[ops.Node]) -> dict[Any, str]:
    """ibis's `SIMPLE_OPS` but for those that a class has methods for, which ibis would replace."""
    return {op: name for op, name in simple.items() if op not in ours}


def double(value: float) -> Any:
    """A finite float64 with an exponent, for warehouses to which `0.1` alone is a decimal."""
    text = repr(abs(value))
    literal = sge.Literal.number(text if "e" in text else f"{text}e0")
    return sge.Neg(this=literal) if value < 0 else literal


def divided(compiler: Any, op: Any, quotient: Any, left: Any, right: Any) -> Any:
    """A quotient that is as IEEE 754 has it where the divisor is 0: infinite, and NaN for 0 / 0.

    The quotient itself must not fail then. All are trees; a divisor that is written down needs no more than that.
    """
    if isinstance(op.right, ops.Literal) and op.right.value:
        return quotient
    infinite = compiler.binop(sge.Mul, left, compiler.cast(sge.convert("Infinity"), dt.float64))
    return compiler.if_(right.eq(0), infinite, quotient)


def matched(compiler: Any, extracted: Any, text: Any) -> Any:
    """What a pattern has extracted from a text: empty where it is not found, and NULL only of NULL."""
    return compiler.f.coalesce(extracted, compiler.if_(text.is_(sge.null()), sge.null(), sge.convert("")))


def to_24_bits(compiler: Any, value: Any, number: Any) -> Any:
    """A float64 as near as a float32 comes to it (Veltkamp), for warehouses without those: a tree of scikit-learn
    compares such numbers. `number` writes a float down."""
    large = compiler.binop(sge.Mul, value, number(2.0**29 + 1))
    rounded = compiler.binop(sge.Sub, large, compiler.binop(sge.Sub, large, value))
    fits = compiler.f.abs(value) < number(3.4e38)
    return compiler.if_(fits, rounded, value)  # infinities and NaN stay what they are


@cache
def naming(compiler: type[SQLGlotCompiler]) -> type[SQLGlotCompiler]:
    """A compiler that notes for each table which columns it is read by, for `by_name`."""

    class Naming(compiler):  # type: ignore[misc]
        # What ibis makes of these is inherited; it would be made again, over our methods.
        SIMPLE_OPS: Mapping[Any, str] = {}
        UNSUPPORTED_OPS = ()
        LOWERED_OPS: Mapping[Any, Any] = {}

        def visit_UnboundTable(self, op: Any, **given: Any) -> Any:
            table = super().visit_UnboundTable(op, **given)
            table.meta["columns"] = tuple(op.schema)
            return table

    return Naming


def by_name(tree: sge.Expr) -> sge.Expr:
    """The same query with the columns of a table by their names, where ibis writes `SELECT *`.

    A star is every column that the table really has, in its own order; and what is united or compared goes by position.
    """
    for select in tree.find_all(sge.Select):
        source = select.args.get("from_")
        table = source.this if source else None
        if isinstance(table, sge.TableSample):
            table = table.this
        if not isinstance(table, sge.Table) or select.expressions != [sge.Star()] or select.args.get("joins"):
            continue
        if columns := table.meta.get("columns"):
            select.set("expressions", [sge.column(name, table=table.alias or None, quoted=True) for name in columns])
    return tree
