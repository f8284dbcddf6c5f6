"""How the rows of a load are combined with existing rows: one strategy for each disposition.

Whoever extracts, lands or loads asks the strategy, and compares no names of dispositions; files and PostgreSQL tables,
which take one as an option, do. A new one is a class here, its name in `Disposition`, and what those options say of it.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import ClassVar

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.schema as sch

from entrepot.activities.catalog import growing_table
from entrepot.activities.catalog.growing_table import (
    GONE,
    VALID_FROM,
    VALID_TO,
    GrowingTable,
    InInterval,
    SameKey,
    Segment,
    Superseded,
    WithValue,
)
from entrepot.activities.ingest.manifest import Manifest
from entrepot.activities.ingest.sources.stream import FILE_NUMBER, Hints, ValueFilter
from entrepot.backends import TableName
from entrepot.backends.base import physical
from entrepot.identity.expression import schema_from
from entrepot.language.interval import Interval
from entrepot.language.sources import Disposition

NUMBER = "_entrepot_number"
"""A column that is there for a moment only."""

Selection = Callable[[ibis.Table], ibis.Table]
"""Of the rows of a load, as they came, those that are stored."""


class LoadStrategy:
    """What a disposition means. The defaults are those of rows that are added to a table."""

    name: ClassVar[Disposition]
    is_whole: ClassVar[bool] = False
    """Whether each load has all rows of the table, so that a row that it lacks is gone."""
    extends: ClassVar[bool] = True
    """Whether a version is made of the version before and what the load adds."""
    needs_key: ClassVar[bool] = False
    stores_changes: ClassVar[bool] = False
    """Whether a segment has what changed since the version before, instead of the table's rows."""
    nested_follow_root: ClassVar[bool] = False
    """Whether nested tables have a new version with each new one of their root, even without rows of their own."""
    allows_nested: ClassVar[bool] = True
    supersedes_ranges: ClassVar[bool] = False
    """Whether a load may take the place of the existing rows in a range (`Hints.replaces`)."""
    own_columns: ClassVar[Mapping[str, dt.DataType]] = {}
    """Columns of the table that come from the load and not from the source."""
    reserved: ClassVar[tuple[str, ...]] = ()
    """Names that columns of the source cannot have."""

    def only_adds(self, hints: Hints) -> bool:
        """Whether a load leaves the rows of before, and of nested tables, as they are."""
        return False

    def selection(self, manifest: Manifest, before: Sequence[Segment], root: Segment | None) -> Selection | None:
        """What is stored of a load's rows; None: all of them, as they are."""
        if manifest.hints.newest:
            return partial(_newest, manifest)
        if root is not None and root.deleted is not None:
            return partial(_of_living, manifest, root, root.deleted)
        return None

    def supersedes(self, hints: Hints, segment: TableName, root: Segment | None) -> Superseded | None:
        """Which existing rows a load's segment takes the place of."""

    def relation(self, segments: Sequence[Segment], shape: sch.Schema, key: Sequence[str]) -> ibis.Table:
        """The table's rows, from its segments."""
        return GrowingTable(segments).rows(shape)

    def segment_columns(self, shape: sch.Schema) -> sch.Schema:
        """The columns of a segment of a table that has these."""
        return shape


class Replace(LoadStrategy):
    """Only the rows of the newest load count."""

    name = "replace"
    is_whole = True
    extends = False


class Append(LoadStrategy):
    """Rows are added; where the source says so, in the place of existing ones in a range, or with some values."""

    name = "append"
    supersedes_ranges = True

    def only_adds(self, hints: Hints) -> bool:
        """Unless it reads a range again, or brings rows that are gone."""
        return hints.replaces is None and hints.deleted is None

    def supersedes(self, hints: Hints, segment: TableName, root: Segment | None) -> Superseded | None:
        """Rows in the range that was read again, or from the files that changed."""
        if hints.replaces is None:
            return None
        if isinstance(hints.replaces, ValueFilter):
            return WithValue(column=hints.replaces.column, values=hints.replaces.values)
        interval = Interval(hints.replaces.start, hints.replaces.end)
        return InInterval(column=hints.replaces.column, interval=interval)


class Merge(LoadStrategy):
    """Rows take the place of existing ones with the same key."""

    name = "merge"
    needs_key = True
    nested_follow_root = True

    def supersedes(self, hints: Hints, segment: TableName, root: Segment | None) -> Superseded | None:
        """Rows with the same key; of a nested table, those of the roots that came."""
        if root is not None:
            over = {"_dlt_root_id": "_dlt_id"}
            return SameKey(schema_name=root.schema_name, table=root.table, columns=over)
        return SameKey(schema_name=segment.schema, table=segment.table, columns={k: k for k in hints.key})


class Scd2(LoadStrategy):
    """Rows that changed or are gone are kept, with the time until which they held."""

    name = "scd2"
    is_whole = True
    needs_key = True
    stores_changes = True
    allows_nested = False
    own_columns: ClassVar[Mapping[str, dt.DataType]] = {
        VALID_FROM: dt.Timestamp(scale=6),
        VALID_TO: dt.Timestamp(scale=6),
    }
    reserved = (VALID_FROM, VALID_TO, GONE)

    def selection(self, manifest: Manifest, before: Sequence[Segment], root: Segment | None) -> Selection | None:
        """The rows that are new or changed since the load before, and those that are gone."""
        return partial(self._changes, manifest, before)

    def _changes(self, manifest: Manifest, before: Sequence[Segment], rows: ibis.Table) -> ibis.Table:
        shape, key = schema_from(manifest.shape), list(manifest.hints.key)
        data = sch.Schema({name: dtype for name, dtype in shape.items() if name not in self.own_columns})
        since = ibis.literal(datetime.datetime.fromisoformat(manifest.loaded_at)).cast("timestamp(6)")
        new = growing_table.shaped(rows, data)
        if not before:
            return new.mutate(**{VALID_FROM: since, GONE: ibis.literal(False)})
        ever = self.relation(before, shape, key)
        current = ever.filter(ever[VALID_TO].isnull()).select(*data)
        changed = ibis.difference(new, current).mutate(**{VALID_FROM: since, GONE: ibis.literal(False)})
        left = current.anti_join(new, key)
        return changed.union(left.mutate(**{VALID_FROM: since, GONE: ibis.literal(True)}))

    def relation(self, segments: Sequence[Segment], shape: sch.Schema, key: Sequence[str]) -> ibis.Table:
        """All rows that ever held, from when and until when."""
        return GrowingTable(segments).history(shape, key)

    def segment_columns(self, shape: sch.Schema) -> sch.Schema:
        """Until when a row holds follows from the changes after it."""
        return sch.Schema({**{n: t for n, t in shape.items() if n != VALID_TO}, GONE: dt.boolean})


STRATEGIES: Mapping[Disposition, LoadStrategy] = {each.name: each for each in (Replace(), Append(), Merge(), Scd2())}


def strategy_of(hints: Hints) -> LoadStrategy:
    """How the rows of a table are combined with existing ones."""
    return STRATEGIES[hints.disposition]


def _newest(manifest: Manifest, rows: ibis.Table) -> ibis.Table:
    """Of the rows with one key, the first in the order that the source names."""
    assert manifest.hints.newest is not None
    column, order = manifest.hints.newest
    by = ibis.desc(column) if order == "desc" else ibis.asc(column)
    number = ibis.rank() if column == FILE_NUMBER else ibis.row_number()
    numbered = rows.mutate(**{NUMBER: number.over(group_by=list(manifest.hints.key), order_by=by)})
    return numbered.filter(numbered[NUMBER] == 0).select(*manifest.columns)


def _of_living(manifest: Manifest, root: Segment, deleted: str, rows: ibis.Table) -> ibis.Table:
    """Without the nested rows of a row that is marked as gone."""
    roots = physical(root.name, schema_from(root.columns))
    dead = roots.filter(growing_table.gone(roots, deleted))
    return rows.anti_join(dead, [rows["_dlt_root_id"] == dead["_dlt_id"]])
