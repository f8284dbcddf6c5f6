"""What the compilers of several warehouses need to say what ibis means, in sqlglot's trees."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ibis.common.exceptions as exc
import ibis.expr.datatypes as dt
import ibis.expr.operations as ops
import sqlglot.expressions as sge
from ibis.backends.sql import rewrites
from ibis.backends.sql.compilers.base import SQLGlotCompiler
from ibis.common.graph import Graph
from ibis.common.patterns import InstanceOf


def shared(root: ops.Node) -> set[ops.Node]:
    """The tables that are written once, as common table expressions, since they are used several times.

    ibis counts who uses a table, but not through what joins put between: a table that is joined with itself twenty
    times would be written a million times.
    """
    kept = ~InstanceOf((ops.Field, ops.CountStar, ops.CountDistinctStar))
    users = Graph.from_bfs(root, filter=kept).invert()

    def uses(node: ops.Node) -> int:
        return sum(uses(user) if isinstance(user, ops.Reference | ops.JoinLink) else 1 for user in users[node])

    once = (rewrites.Select, ops.Aggregate, ops.JoinChain, ops.Set, ops.Limit, ops.Sample)
    return {n for n in users if isinstance(n, ops.AliasedRelation) or (isinstance(n, once) and uses(n) > 1)}


rewrites.extract_ctes = shared


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


def floored(compiler: Any, op: Any, left: Any, right: Any) -> Any:
    """`left // right` of whole numbers, down to the last digit, where SQL's division of them rounds towards 0.

    What is rounded towards the other side is one less than the quotient of the number beside it.
    """

    def beside(step: int) -> Any:
        moved = compiler.binop(sge.Add, left, sge.convert(step))
        return compiler.binop(sge.Sub, compiler.binop(sge.IntDiv, moved, right), sge.convert(1))

    quotient = compiler.binop(sge.IntDiv, left, right)
    if isinstance(op.right, ops.Literal) and op.right.value and op.right.value > 0:
        return compiler.if_(left < 0, beside(1), quotient)
    return compiler.if_(
        (left < 0) & (right > 0), beside(1), compiler.if_((left > 0) & (right < 0), beside(-1), quotient)
    )


def floored_exactly(compiler: Any, left: Any, right: Any) -> Any:
    """`left // right` of decimals, or of whole numbers whose quotient is a decimal.

    Without what is left of it, it is a multiple, so that no rounding of the quotient can reach another whole number.
    """
    rest = sge.paren(compiler.binop(sge.Mod, left, right))
    multiple = sge.paren(compiler.binop(sge.Sub, left, rest))
    below = ((rest < 0) & (right > 0)) | ((rest > 0) & (right < 0))
    whole = compiler.f.round(compiler.binop(sge.Div, multiple, right))
    return compiler.binop(sge.Sub, whole, compiler.if_(below, sge.convert(1), sge.convert(0)))


def is_exact(op: Any) -> bool:
    """Whether both operands are whole numbers or decimals."""
    return all(node.dtype.is_integer() or node.dtype.is_decimal() for node in (op.left, op.right))


def are_whole(op: Any) -> bool:
    """Whether both operands are whole numbers."""
    return bool(op.left.dtype.is_integer() and op.right.dtype.is_integer())


class FloorDivision:
    """`//` that is exact for whole numbers and decimals, for warehouses that divide whole numbers as such."""

    __slots__ = ()

    def visit_FloorDivide(self: Any, op: Any, *, left: Any, right: Any) -> Any:
        if not is_exact(op):
            return super().visit_FloorDivide(op, left=left, right=right)  # type: ignore[misc]
        floor = floored(self, op, left, right) if are_whole(op) else floored_exactly(self, left, right)
        return self.cast(floor, dt.int64)


def failing_at_zero(compiler: Any, op: Any, quotient: Any, left: Any, right: Any) -> Any:
    """A quotient of whole numbers or decimals that fails where the divisor is 0, for warehouses that give NULL."""
    if not is_exact(op) or (isinstance(op.right, ops.Literal) and op.right.value):
        return quotient
    is_undefined = right.eq(0) & left.is_(sge.null()).not_()
    return compiler.if_(is_undefined, compiler.f.error("division by zero"), quotient)


def without_null(compiler: Any, arguments: Sequence[Any]) -> list[Any]:
    """For GREATEST and LEAST where NULL is contagious: each argument, or another one where it is NULL."""
    return [compiler.f.coalesce(*arguments[n:], *arguments[:n]) for n in range(len(arguments))]


def defined(compiler: Any, function: Callable[[Any], Any], value: Any, *, at_zero: Any) -> Any:
    """A function of positive numbers as IEEE 754 has it elsewhere: NaN below 0, where warehouses fail or give NULL."""
    beyond = compiler.if_(value.eq(0), at_zero, compiler.if_(value.is_(sge.null()), sge.null(), compiler.NAN))
    return compiler.f.coalesce(function(compiler.if_(value > 0, value, sge.null())), beyond)


class Logarithms:
    """Logarithms and roots of 0 and of negative numbers, for warehouses that fail there or give NULL."""

    __slots__ = ()

    def visit_Ln(self: Any, op: Any, *, arg: Any) -> Any:
        return defined(self, self.f.ln, arg, at_zero=self.NEG_INF)

    def visit_Log2(self: Any, op: Any, *, arg: Any) -> Any:
        return defined(self, lambda value: self.f.log(sge.convert(2), value), arg, at_zero=self.NEG_INF)

    def visit_Log10(self: Any, op: Any, *, arg: Any) -> Any:
        return defined(self, lambda value: self.f.log(sge.convert(10), value), arg, at_zero=self.NEG_INF)

    def visit_Log(self: Any, op: Any, *, arg: Any, base: Any) -> Any:
        if base is None:
            return self.visit_Ln(op, arg=arg)
        if str(base) in ("2", "10"):  # as a quotient of two logarithms, that of 1000 is a little less than 3
            return self.visit_Log2(op, arg=arg) if str(base) == "2" else self.visit_Log10(op, arg=arg)
        return defined(self, lambda value: self.f.log(base, value), arg, at_zero=self.NEG_INF)

    def visit_Sqrt(self: Any, op: Any, *, arg: Any) -> Any:
        return defined(self, self.f.sqrt, arg, at_zero=sge.convert(0))


class Letters:
    """Letters in capitals and small ones, one for one as DuckDB has them: elsewhere some become two, or depend on
    what stands beside them."""

    __slots__ = ()

    def visit_Uppercase(self: Any, op: Any, *, arg: Any) -> Any:
        return self.f.upper(self.f.replace(arg, "ß", "ẞ"))

    def visit_Lowercase(self: Any, op: Any, *, arg: Any) -> Any:
        return self.f.lower(self.f.replace(self.f.replace(arg, "Σ", "σ"), "İ", "i"))


def backslashes(compiler: Any, node: Any, pattern: Any) -> Any:
    """A pattern of LIKE for warehouses where a backslash takes the next sign's meaning away: here it is a sign."""
    if isinstance(node, ops.Literal):
        return sge.convert(node.value.replace("\\", "\\\\"))
    return compiler.f.replace(pattern, "\\", "\\\\")


def position(compiler: Any, node: Any, index: Any, size: Any) -> Any:
    """Where an element of an array is, counted from 0: a negative index counts from the end. NULL if there is none."""
    if isinstance(node, ops.Literal) and node.value >= 0:
        return index
    from_end = compiler.if_(size + index >= 0, size + index, sge.null())
    return from_end if isinstance(node, ops.Literal) else compiler.if_(index >= 0, index, from_end)


def shifted_left(compiler: Any, left: Any, right: Any) -> Any:
    """A negative number's bits are those of its opposite: `x << n` is x times 2 to the n."""
    opposite = sge.Neg(this=sge.paren(sge.BitwiseLeftShift(this=sge.paren(sge.Neg(this=left)), expression=right)))
    return compiler.if_(left < 0, opposite, sge.BitwiseLeftShift(this=left, expression=right))


def trimmed(compiler: Any, text: Any) -> Any:
    """The text of a time without the zeros at the end of its fraction, and without a point that nothing follows."""
    return compiler.f.rtrim(compiler.f.rtrim(text, "0"), ".")


def groups(node: Any) -> list[tuple[int | None, str]]:
    """What `re_replace` puts in, as DuckDB reads it: groups by their number, and the text between them.

    Raises:
        UnsupportedOperationError: if it is no literal, or a backslash stands before anything but a digit or another.
    """
    if not isinstance(node, ops.Literal):
        raise exc.UnsupportedOperationError("what re_replace puts in has to be written down, and not be a column")
    parts = re.findall(r"\\(\d)|(\\\\|[^\\])", node.value, re.DOTALL)
    if sum(2 if digit else len(text) for digit, text in parts) != len(node.value):
        raise exc.UnsupportedOperationError(
            f"in {node.value!r}, which re_replace puts in, a backslash needs a digit or another backslash after it"
        )
    return [(int(digit), "") if digit else (None, text[-1]) for digit, text in parts]
