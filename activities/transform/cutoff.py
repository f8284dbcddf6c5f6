"""Early cutoff: whether a table that was computed anew has the rows of its version before, so that nothing below runs.

Rows are compared by the warehouse, each as often as it occurs, in any order, and exactly: a reader of one gives what a
reader of the other gives. The digest that compares warehouses would not do, since it rounds floats.
"""

from __future__ import annotations

import ibis
import ibis.expr.datatypes as dt

from entrepot.activities.catalog.version import Version
from entrepot.backends import Session
from entrepot.backends.base import physical
from entrepot.errors import Contended
from entrepot.identity.expression import schema_from
from entrepot.language.step import TransformStep

SAME_ROWS = "same rows as before"

ALWAYS_UP_TO = 1_000_000
"""Rows of which a comparison takes a second or so: about as long as writing them."""
READ_FOR_EACH = 10
"""Of more rows, it costs little beside a step that reads so many for each that it makes."""


class NotComparable(Exception):
    """The warehouse could not compare two tables."""


def is_worthwhile(step: TransformStep, made: Version, before: Version, read: int) -> bool:
    """Whether two versions may have the same rows, and it costs little beside the step to know.

    Args:
        read: How many rows the step reads.
    """
    costs_little = step.cutoff is True or (made.rows or 0) <= max(ALWAYS_UP_TO, read // READ_FOR_EACH)
    return costs_little and is_comparable(made, before)


def is_comparable(made: Version, before: Version) -> bool:
    """Whether two versions may have the same rows, and every warehouse can compare them."""
    if made.rows is None or made.rows != before.rows or made.table is None or before.table is None:
        return False
    if [*made.columns.items()] != [*before.columns.items()] or [*made.inferred.items()] != [*before.inferred.items()]:
        return False
    return not any(_is_opaque(dtype) for dtype in schema_from(made.columns).values())


def _is_opaque(dtype: dt.DataType) -> bool:
    """Whether values are not comparable everywhere."""
    return bool(dtype.is_nested() or dtype.is_json() or dtype.is_geospatial() or dtype.is_unknown())


def same_rows(session: Session, one: ibis.Table, other: ibis.Table) -> bool:
    """Whether two tables with the same columns have the same rows.

    Raises:
        NotComparable: if the warehouse could not tell.
    """
    others = differing(one, other)
    try:
        (found,) = session.fetch(others.agg(n=others.count())).to_pylist()
    except (InterruptedError, Contended):
        raise
    except Exception as error:
        raise NotComparable from error
    return not found["n"]


def differing(one: ibis.Table, other: ibis.Table) -> ibis.Table:
    """The rows that one has more often than the other."""
    both = _signed(one, 1).union(_signed(other, -1), distinct=False)
    keys = [name for name in both.columns if name != _SIGN]
    return both.group_by(keys).having(both[_SIGN].sum() != 0).agg(**{_SIGN: both[_SIGN].sum()})


def rows_of(version: Version) -> ibis.Table:
    """The rows of a version."""
    assert version.table is not None
    return physical(version.table, schema_from(version.columns))


_SIGN = "sign"


def _signed(table: ibis.Table, sign: int) -> ibis.Table:
    """A table's rows, with what tells apart what counts as equal: 0.0 and -0.0. Columns have names of their own."""
    keys: dict[str, ibis.Value] = {}
    for number, (name, dtype) in enumerate(table.schema().items()):
        keys[f"c{number}"] = table[name]
        if dtype.is_floating():
            keys[f"z{number}"] = (table[name] == 0) & (table[name].atan2(-1) < 0)
    return table.select(**keys, **{_SIGN: ibis.literal(sign, "int64")})
