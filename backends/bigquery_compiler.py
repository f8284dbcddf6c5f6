"""BigQuery's SQL, where ibis's compiler does not say what it says for other warehouses."""

from __future__ import annotations

from typing import Any

import sqlglot.expressions as sge
from ibis.backends.sql.compilers import BigQueryCompiler

from backends.bigquery_types import CastTypes
from backends.compiling import matched, to_24_bits


class Compiler(BigQueryCompiler):  # type: ignore[misc]
    """ibis's own, but for what other warehouses compute otherwise."""

    __slots__ = ()
    type_mapper = CastTypes

    def visit_Cast(self, op: Any, *, arg: Any, to: Any) -> Any:
        if to.is_string() and op.arg.dtype.is_decimal() and op.arg.dtype.scale is not None:
            return self.f.format(f"%.{op.arg.dtype.scale}f", arg)  # CAST leaves out zeros at the end
        return self._rounded(op, super().visit_Cast(op, arg=arg, to=to), to)

    def visit_TryCast(self, op: Any, *, arg: Any, to: Any) -> Any:
        return self._rounded(op, super().visit_TryCast(op, arg=arg, to=to), to)

    def _rounded(self, op: Any, cast: Any, to: Any) -> Any:
        """ibis casts `decimal(15, 2)` to NUMERIC, which keeps nine places, and float32 to FLOAT64."""
        if to.is_float32() and not op.arg.dtype.is_float32():
            return to_24_bits(self, cast, sge.convert)
        places = to.scale if to.is_decimal() else None
        return cast if places in (None, 9, 38) else self.f.round(cast, places)

    def visit_RegexExtract(self, op: Any, *, arg: Any, pattern: Any, index: Any) -> Any:
        return matched(self, super().visit_RegexExtract(op, arg=arg, pattern=pattern, index=index), arg)

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
