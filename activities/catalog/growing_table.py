"""Versions of tables that grow: a view over segments, each a physical table that is written once and never changed.

The first load of a table is a segment; every further one adds a segment and makes a new view. So a version costs what
its load brought, older versions stay as they are, and going back to one of them copies nothing. When a version has
many segments, its own are written together into one (`together`), as log-structured stores do.

A segment says what it takes away from those before it: rows with the same key (`merge`), rows of a range (`window`),
rows with some values (`among`), or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.schema as sch
from pydantic import BaseModel, ConfigDict

from entrepot.backends import TableName
from entrepot.backends.base import physical
from entrepot.identity.expression import schema_from
from entrepot.language.interval import Bound

MOST = 16
"""Segments of one version, after which they are written together."""

VALID_FROM, VALID_TO, GONE = "valid_from", "valid_to", "_gone"
"""The columns of `scd2`: from when and until when a row held (NULL: it still does), and, in a segment only, whether it
has gone with this load."""


class Supersedes(BaseModel):
    """Which rows a segment takes away from the segments before it."""

    model_config = ConfigDict(frozen=True)

    schema_name: str = ""
    table: str = ""
    """The table whose keys say it; the segment's own, or for nested tables that of the root."""
    columns: dict[str, str] = {}
    """The key: columns of this table, each to the column of that table."""
    window: tuple[str, Bound, Bound] | None = None
    """Or a range of a column: its name, the least value, and the one that is just beyond."""
    among: tuple[str, tuple[str, ...]] | None = None
    """Or some values of a column."""


class Segment(BaseModel):
    """A physical table with some of a version's rows."""

    model_config = ConfigDict(frozen=True)

    schema_name: str
    table: str
    """Empty for one that only takes away."""
    columns: dict[str, str]
    rows: int
    takes: Supersedes | None = None
    deleted: str | None = None
    """The column that says that a row is gone."""

    @property
    def name(self) -> TableName:
        """Its physical table."""
        return TableName(self.schema_name, self.table)


def relation(segments: Sequence[Segment], shape: sch.Schema) -> ibis.Table:
    """The rows of a version, in the columns of `shape`; NULL where a segment had no such column."""
    parts = []
    for number, segment in enumerate(segments):
        if segment.table:
            rows = physical(segment.name, schema_from(segment.columns))
            rows = _left_over(rows, [later.takes for later in segments[number + 1 :] if later.takes])
            parts.append(shaped(alive(rows, segment.deleted), shape))
    return reduce(lambda one, other: one.union(other), parts)


def alive(rows: ibis.Table, deleted: str | None) -> ibis.Table:
    """The rows that are not marked as gone."""
    return rows if deleted is None else rows.filter(~gone(rows, deleted))


def gone(rows: ibis.Table, deleted: str) -> ibis.ir.BooleanValue:
    """Whether rows are marked as gone: true, or not NULL where the column is no boolean."""
    mark = rows[deleted]
    return mark.fill_null(False) if mark.type().is_boolean() else mark.notnull()


def history(segments: Sequence[Segment], shape: sch.Schema, key: Sequence[str]) -> ibis.Table:
    """An `scd2` table: all rows that ever held, from when and until when. `shape` has its columns, with those two."""
    columns = {name: dtype for name, dtype in shape.items() if name != VALID_TO}
    changes = relation(segments, sch.Schema({**columns, GONE: dt.boolean}))
    over = ibis.window(group_by=list(key), order_by=VALID_FROM)
    ended = changes.mutate(**{VALID_TO: changes[VALID_FROM].lead().over(over)})
    return ended.filter(~ended[GONE]).select(*shape)


def taken(before: Sequence[Segment], segment: Segment, shape: sch.Schema) -> ibis.Table:
    """The rows that a segment takes away from the version of before."""
    assert segment.takes is not None
    rows = relation(before, shape)
    if segment.takes.window is not None:
        return rows.filter(inside(rows, segment.takes.window))
    if segment.takes.among is not None:
        return rows.filter(_among(rows, segment.takes.among))
    keys = _keys(rows, segment.takes)
    return rows.semi_join(keys, [rows[own] == keys[theirs] for own, theirs in segment.takes.columns.items()])


def _keys(rows: ibis.Table, takes: Supersedes) -> ibis.Table:
    """The table whose keys say what is taken from these rows."""
    return physical(
        TableName(takes.schema_name, takes.table),
        sch.Schema({theirs: rows[own].type() for own, theirs in takes.columns.items()}),
    )


def _left_over(rows: ibis.Table, takers: Sequence[Supersedes]) -> ibis.Table:
    """What later segments leave of an earlier one's rows."""
    by_key: dict[tuple[tuple[str, str], ...], list[Supersedes]] = {}
    for takes in takers:
        if takes.window is not None:
            rows = rows.filter(~inside(rows, takes.window))
        elif takes.among is not None:
            rows = rows.filter(~_among(rows, takes.among))
        else:
            by_key.setdefault(tuple(takes.columns.items()), []).append(takes)
    for pairs, their in by_key.items():
        keys = [_keys(rows, takes) for takes in their]
        every = reduce(lambda one, other: one.union(other), keys)
        rows = rows.anti_join(every, [rows[own] == every[theirs] for own, theirs in pairs])
    return rows


def inside(rows: ibis.Table, window: tuple[str, Bound, Bound]) -> ibis.ir.BooleanValue:
    """Whether a row is in an interval. One whose column is NULL is in none."""
    name, start, end = window
    column = rows[name]
    bounds = [column.notnull()]
    if start is not None:
        bounds.append(column >= ibis.literal(start).cast(column.type()))
    if end is not None:
        bounds.append(column < ibis.literal(end).cast(column.type()))
    return reduce(lambda one, other: one & other, bounds)


def _among(rows: ibis.Table, among: tuple[str, tuple[str, ...]]) -> ibis.ir.BooleanValue:
    """Whether a row's value is one of some. NULL is none of them."""
    column, values = among
    return rows[column].notnull() & rows[column].isin(values)


def shaped(rows: ibis.Table, shape: sch.Schema) -> ibis.Table:
    """Rows with exactly these columns, in this order."""
    return rows.select(
        **{
            name: (rows[name] if rows[name].type() == dtype else rows[name].cast(dtype))
            if name in rows.columns
            else ibis.null(dtype)
            for name, dtype in shape.items()
        }
    )


def tail(segments: Sequence[Segment]) -> int:
    """How many of the newest segments are to be written together: few at first, then those of their size, and so on.

    Where a segment takes rows away it is all of them, since a part could not say any more what it took.
    """
    if len(segments) < MOST:
        return 0
    if any(segment.takes for segment in segments):
        return len(segments)
    count, rows = 1, segments[-1].rows
    for segment in reversed(segments[:-1]):
        if segment.rows > 2 * rows:
            break
        count, rows = count + 1, rows + segment.rows
    return count if count > 1 else len(segments)
