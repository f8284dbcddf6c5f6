"""Tables that grow: a version is a view over segments, each a physical table that is written once and never changed.

The first rows of a table are a segment; whatever is added later is another one, and makes a new view. So a version
costs what was added, older versions stay as they are, and going back to one of them copies nothing. When a version has
many segments, the newest are written together into one (`to_compact`), as log-structured stores do.

A segment says which rows of those before it do not count any more: rows with the same key (`SameKey`), with a value in
an interval (`InInterval`) or in some (`InIntervals`), with one of some values (`WithValue`), or none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Literal

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.schema as sch
from pydantic import BaseModel, ConfigDict, Field

from entrepot.backends import TableName
from entrepot.backends.base import physical
from entrepot.identity.expression import schema_from
from entrepot.language.interval import Interval, without

MOST = 16
"""Segments of one version, after which they are written together."""

VALID_FROM, VALID_TO, GONE = "valid_from", "valid_to", "_gone"
"""The columns of a table with its history: from when and until when a row held (NULL: it still does), and, in a segment
only, whether it ended then."""


class _Superseded(BaseModel):
    """Which rows of the segments before it a segment supersedes."""

    model_config = ConfigDict(frozen=True, extra="allow")


class SameKey(_Superseded):
    """Rows whose key is in a table: that of the segment or, for nested tables, that of their root."""

    kind: Literal["key"] = "key"
    schema_name: str
    table: str
    columns: dict[str, str]
    """The key: columns of this table, each to the column of that table."""

    @property
    def name(self) -> TableName:
        """The table with the keys."""
        return TableName(self.schema_name, self.table)


class InInterval(_Superseded):
    """Rows whose value of a column is in an interval. NULL is in none."""

    kind: Literal["interval"] = "interval"
    column: str
    interval: Interval

    def holds(self, rows: ibis.Table) -> ibis.ir.BooleanValue:
        """Whether a row is one of them."""
        return rows[self.column].notnull() & _in(rows[self.column], self.interval)


class InIntervals(_Superseded):
    """Rows whose value of a column is in one of some intervals, which are apart from each other; NULL is in none. The
    segment's own rows are in them, too."""

    kind: Literal["intervals"] = "intervals"
    column: str
    intervals: tuple[Interval, ...]

    def holds(self, rows: ibis.Table) -> ibis.ir.BooleanValue:
        """Whether a row is one of them."""
        return rows[self.column].notnull() & ibis.or_(*(_in(rows[self.column], each) for each in self.intervals))


class WithValue(_Superseded):
    """Rows whose value of a column is one of some. NULL is none of them."""

    kind: Literal["values"] = "values"
    column: str
    values: tuple[str, ...]

    def holds(self, rows: ibis.Table) -> ibis.ir.BooleanValue:
        """Whether a row is one of them."""
        return rows[self.column].notnull() & rows[self.column].isin(self.values)


Superseded = Annotated[SameKey | InInterval | InIntervals | WithValue, Field(discriminator="kind")]


class Segment(BaseModel):
    """A physical table with some of a version's rows."""

    model_config = ConfigDict(frozen=True, extra="allow")

    schema_name: str
    table: str
    """Empty for one that only supersedes rows."""
    columns: dict[str, str]
    rows: int
    supersedes: Superseded | None = None
    deleted: str | None = None
    """The column that says that a row is gone."""
    together: tuple[str, ...] = ()
    """The tables of the segments that were written together as this one."""

    @property
    def name(self) -> TableName:
        """Its physical table."""
        return TableName(self.schema_name, self.table)

    @property
    def tables(self) -> list[TableName]:
        """The physical tables that it needs."""
        own = [self.name] if self.table else []
        return [*own, *([self.supersedes.name] if isinstance(self.supersedes, SameKey) else [])]


@dataclass(frozen=True)
class GrowingTable:
    """A version of a table: its segments, from the first to the newest."""

    segments: Sequence[Segment]

    def rows(self, shape: sch.Schema) -> ibis.Table:
        """Its rows, in the columns of `shape`; NULL where a segment had no such column."""
        parts = []
        for number, segment in enumerate(self.segments):
            if segment.table:
                rows = physical(segment.name, schema_from(segment.columns))
                later = [each.supersedes for each in self.segments[number + 1 :] if each.supersedes is not None]
                rows = _without(rows, segment.supersedes, later)
                parts.append(shaped(alive(rows, segment.deleted), shape))
        return reduce(lambda one, other: one.union(other), parts)

    def history(self, shape: sch.Schema, key: Sequence[str]) -> ibis.Table:
        """All rows that ever held, from when and until when, where segments have what changed (`VALID_FROM`, `GONE`).

        Args:
            shape: The columns, with `VALID_FROM` and `VALID_TO`.
        """
        columns = {name: dtype for name, dtype in shape.items() if name != VALID_TO}
        changes = self.rows(sch.Schema({**columns, GONE: dt.boolean}))
        over = ibis.window(group_by=list(key), order_by=VALID_FROM)
        ended = changes.mutate(**{VALID_TO: changes[VALID_FROM].lead().over(over)})
        return ended.filter(~ended[GONE]).select(*shape)

    def superseded_by(self, segment: Segment, shape: sch.Schema) -> ibis.Table:
        """The rows that a segment would supersede."""
        assert segment.supersedes is not None
        rows, superseded = self.rows(shape), segment.supersedes
        if not isinstance(superseded, SameKey):
            return rows.filter(superseded.holds(rows))
        keys = _keys(rows, superseded)
        return rows.semi_join(keys, [rows[own] == keys[theirs] for own, theirs in superseded.columns.items()])

    def to_compact(self) -> int:
        """How many of the newest segments are to be written together: few at first, then those of their size, and so
        on.

        Where a segment supersedes rows it is all of them, since a part could not say any more what it superseded.
        """
        segments = self.segments
        if len(segments) < MOST:
            return 0
        if any(segment.supersedes for segment in segments):
            return len(segments)
        count = of_one_size(segments)
        return count if count > 1 else len(segments)


def of_one_size(segments: Sequence[Segment]) -> int:
    """How many of the newest segments are of their size: few at first, then those of as many rows, and so on."""
    count, rows = 1, segments[-1].rows
    for segment in reversed(segments[:-1]):
        if segment.rows > 2 * rows:
            break
        count, rows = count + 1, rows + segment.rows
    return count


def alive(rows: ibis.Table, deleted: str | None) -> ibis.Table:
    """The rows that are not marked as gone."""
    return rows if deleted is None else rows.filter(~gone(rows, deleted))


def gone(rows: ibis.Table, deleted: str) -> ibis.ir.BooleanValue:
    """Whether rows are marked as gone: true, or not NULL where the column is no boolean."""
    mark = rows[deleted]
    return mark.fill_null(False) if mark.type().is_boolean() else mark.notnull()


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


def _keys(rows: ibis.Table, superseded: SameKey) -> ibis.Table:
    """The table with the keys of these rows that are superseded."""
    types = {theirs: rows[own].type() for own, theirs in superseded.columns.items()}
    return physical(superseded.name, sch.Schema(types))


def _without(rows: ibis.Table, own: Superseded | None, superseded: Sequence[Superseded]) -> ibis.Table:
    """The rows of a segment that later segments leave.

    Args:
        own: What the segment itself supersedes.
        superseded: What the later ones do.
    """
    by_key: dict[tuple[tuple[str, str], ...], list[SameKey]] = {}
    by_column: dict[str, list[Interval]] = {}
    for each in superseded:
        if isinstance(each, SameKey):
            by_key.setdefault(tuple(each.columns.items()), []).append(each)
        elif isinstance(each, InIntervals):
            by_column.setdefault(each.column, []).extend(each.intervals)
        else:
            rows = rows.filter(~each.holds(rows))
    for column, intervals in by_column.items():
        within = own.intervals if isinstance(own, InIntervals) and own.column == column else (Interval(None, None),)
        left = without(within, intervals)
        if left != within:
            rows = rows.filter(ibis.or_(rows[column].isnull(), *(_in(rows[column], each) for each in left)))
    for pairs, those in by_key.items():
        every = reduce(lambda one, other: one.union(other), [_keys(rows, each) for each in those])
        rows = rows.anti_join(every, [rows[own] == every[theirs] for own, theirs in pairs])
    return rows


def _in(column: ibis.Value, interval: Interval) -> ibis.ir.BooleanValue:
    """Whether a value that is not NULL is in an interval."""
    dtype = column.type()
    bounds = [
        *([] if interval.start is None else [column >= ibis.literal(interval.start).cast(dtype)]),
        *([] if interval.end is None else [column < ibis.literal(interval.end).cast(dtype)]),
    ]
    return ibis.and_(*bounds)
