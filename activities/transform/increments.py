"""What of a table is computed anew, where it is computed by parts: those in which an input has changed since an earlier
version. The rest of the rows is that version's.

So a version is made of segments, as raw tables that grow are: those of the version before, and one that takes the place
of some parts.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise, takewhile
from typing import Any

import ibis
import ibis.expr.datatypes as dt
import ibis.expr.schema as sch

from entrepot.activities.catalog.details import GrowingTableDetails, Scoring
from entrepot.activities.catalog.growing_table import (
    GONE,
    MOST,
    GrowingTable,
    InIntervals,
    SameKey,
    Segment,
    of_one_size,
)
from entrepot.activities.catalog.version import Version
from entrepot.activities.ingest.schema_evolution import common
from entrepot.backends import CreatedTable, Session, TableName
from entrepot.backends.base import count, physical
from entrepot.errors import StepFailed
from entrepot.identity.code import stable_hash
from entrepot.identity.expression import schema_from, schema_to
from entrepot.identity.frozen import date_of
from entrepot.identity.version import version_table
from entrepot.language.incremental import ByInterval, ByKey, Every, Incremental, moment_of
from entrepot.language.interval import Interval, joined
from entrepot.planning.expressions.lineage import Source
from entrepot.planning.expressions.parts import Needed
from entrepot.planning.resolve import Computed
from entrepot.planning.slices import slices

MOST_INTERVALS = 8
"""What is computed anew by one version: so many intervals, each by itself, with what is between the nearest. Nor are
more superseded of what was written together: a condition of a view has its price."""

MOST_PARTS = 4
"""So many segments with intervals are beside what was written together."""

PART, KEYS, TOGETHER = "__p", "__k", "__t"
"""What names of tables have behind the step's: rows of a part, keys, what was written together."""

Moment = datetime.datetime | None
"""In UTC, without zone; None: before or after all others."""


class Whole(Exception):
    """A version has to be computed as a whole, and why."""


@dataclass(frozen=True)
class Intervals:
    """Rows with a time in some intervals, which are apart from each other and end where one of the table's does."""

    by: ByInterval
    every: tuple[tuple[Moment, Moment], ...]
    is_rest: bool = False
    """Whether they are all that is not frozen, and columns may be others than before."""

    def of_input(self, rows: ibis.Table, needed: Needed) -> ibis.Table:
        """The rows of an input that are needed for them."""
        unit, column = self.by.every, needed.columns[0]
        wider = [(moved(start, unit, -needed.before), moved(end, unit, needed.after)) for start, end in self.every]
        return rows.filter(_within(column, rows[column].type(), wider).holds(rows))

    def of_table(self, rows: ibis.Table) -> ibis.Table:
        """The table's rows in them: beside there may be some of intervals that were needed for them."""
        return rows.filter(self.superseded(rows.schema()).holds(rows))

    def within(self, other: Intervals) -> Intervals | None:
        """What of one interval is in another, of which each is alone; None: nothing."""
        ((start, end),), ((first, last),) = self.every, other.every
        start = first if start is None else start if first is None else max(start, first)
        end = last if end is None else end if last is None else min(end, last)
        return None if start is not None and end is not None and start >= end else Intervals(self.by, ((start, end),))

    def superseded(self, shape: sch.Schema) -> InIntervals:
        """Which rows of a table they take the place of."""
        return _within(self.by.column, shape[self.by.column], self.every)

    def __str__(self) -> str:
        return ", ".join(_told(start, end, self.by.every) for start, end in self.every)


@dataclass(frozen=True)
class Keys:
    """Rows whose key is in a table."""

    by: ByKey
    table: TableName
    types: sch.Schema
    number: int

    def of_input(self, rows: ibis.Table, needed: Needed) -> ibis.Table:
        """The rows of an input that are needed for them."""
        keys = physical(self.table, self.types)
        return rows.semi_join(
            keys, [rows[own] == keys[name] for own, name in zip(needed.columns, keys.columns, strict=True)]
        )

    def of_table(self, rows: ibis.Table) -> ibis.Table:
        """The table's rows with one of them: beside there may be others, of inputs that are read as a whole."""
        return self.of_input(rows, Needed(self.by.columns))

    def superseded(self, shape: sch.Schema) -> SameKey:
        """Which rows of a table they take the place of."""
        names = {name: name for name in self.by.columns}
        return SameKey(schema_name=self.table.schema, table=self.table.table, columns=names)

    def __str__(self) -> str:
        return f"{self.number:,} key{'s' if self.number != 1 else ''}"


Part = Intervals | Keys


@dataclass(frozen=True)
class Created:
    """A table that was made with the rows of a part."""

    table: CreatedTable
    inferred: sch.Schema
    """Its columns as ibis infers them."""
    scoring: Scoring | None = None


Create = Callable[[TableName, Part], Created]
"""Makes a table with the rows of a part."""


@dataclass(frozen=True)
class Grown:
    """A version that was made of an earlier one."""

    view: TableName
    columns: sch.Schema
    rows: int
    details: GrowingTableDetails
    said: str
    """What was computed anew."""
    before: ibis.Table | None
    """The rows of before in whose place others are, with ..."""
    after: ibis.Table | None
    """... those others; None, if nothing of it changed."""
    inferred: sch.Schema
    """Its columns as ibis infers them."""


class Growth:
    """Makes a version of an earlier one.

    Args:
        base: The earlier version; of the same code, unless something is frozen.
        then: What that was made of, as far as it is still known.
        now: What the version is made of.
        version: The version that is made.
        schema: Where its view and tables are to stand.
        frozen: The moment before which all stays as the earlier version has it. None: nothing is frozen.
        again: The run by which a version is made once more that is there already, so that its tables are others.
    """

    def __init__(
        self,
        session: Session,
        by: Incremental,
        computed: Computed,
        base: Version,
        then: Mapping[str, Version],
        now: Mapping[str, Version],
        version: str,
        schema: str,
        frozen: Moment = None,
        again: str = "",
    ) -> None:
        self._session = session
        self._by = by
        self._computed = computed
        self._base = base
        self._then = then
        self._now = now
        self._version = version
        self._shape = schema_from(base.columns)
        self._inferred = schema_from(base.inferred)
        self._schema = schema
        self._frozen = frozen
        self._again = again

    def make(self, create: Create) -> Grown:
        """Makes the view, and tables for what is computed anew.

        Raises:
            Whole: if the version has to be computed as a whole.
            Contended: if what it would be made of was collected meanwhile.
        """
        read = [table for version in (self._base, *self._then.values()) for table in version.tables]
        with self._session.contended_if_gone(*read):
            part, made, said = self._made(create)
            shape = self._shape if made is None else made.table.columns
            before = self._before()
            added = () if made is None or part is None else (self._segment(made, part),)
            segments = (*before, *added)
            view = self._named("")
            columns = self._session.create_view(view, GrowingTable(segments).rows(shape))
            rows = _rows_after(self._session, before, self._base.rows or 0, added, self._shape)
        details = GrowingTableDetails(segments=segments, scoring=made.scoring if made else None)
        inferred = made.inferred if made else self._inferred
        if not added:
            return Grown(view, columns, rows, details, said, None, None, inferred)
        taken = GrowingTable(before).superseded_by(added[0], self._shape)
        return Grown(view, columns, rows, details, said, taken, physical(added[0].name, shape), inferred)

    def _made(self, create: Create) -> tuple[Part | None, Created | None, str]:
        """What is computed anew, as a table, and what to say of it; nothing, if nothing of the table is touched.

        Raises:
            Whole: if all would have to be computed anew, and nothing is frozen.
            StepFailed: if what is frozen has columns of other types, and cannot be shown with those of now.
        """
        try:
            if self._again:
                raise Whole("it is made once more")
            if self._base.identity != self._computed.identity:
                raise Whole("its code is new")
            changed = _changed_since(self._computed, self._then, self._now)
            part, left = self._part(changed)
            said = "; ".join(filter(None, (f"{part} anew" if part else "nothing of it changed", left)))
            return part, self._added(part, create) if part else None, said
        except Whole as error:
            if self._frozen is None or not isinstance(self._by, ByInterval):
                raise
            rest = Intervals(self._by, ((self._frozen, None),), is_rest=True)
            made = create(self._named(PART), rest)
            if said := "; ".join(refusal(self._shape, self._unplanned(made.table.columns), self._by.columns)):
                raise StepFailed(said) from None
            return rest, made, f"{rest} anew: {error}"

    def _unplanned(self, columns: sch.Schema) -> sch.Schema:
        """Those of some columns of which the plan knew no other types: it has not allowed what the warehouse makes."""
        before, now = self._base.intervals, self._computed.made
        if before is None or not isinstance(now, sch.Schema):
            return columns
        planned = schema_from(before.planned)
        return sch.Schema({name: t for name, t in columns.items() if planned.get(name) == now.get(name)})

    def _part(self, changed: Mapping[str, Sequence[ibis.Table]]) -> tuple[Part | None, str]:
        """What has to be computed anew, and what to say of the rest; None: nothing."""
        needs = self._computed.needs or {}
        each = [(needs[name], rows) for name, rows in changed.items() if rows]
        if isinstance(self._by, ByInterval):
            touched = _touched(self._session, self._by, each) if each else []
            its = self._base.frozen
            if its is not None and (self._frozen is None or self._frozen < moment_of(its.before)):
                touched.append((self._frozen, moment_of(its.before)))  # frozen then, and not any more
            return _thawed(self._by, touched, self._frozen)
        if self._base.frozen is not None:
            raise Whole(f"something of it was frozen before {date_of(self._base.frozen.before)}")
        return (_keys(self._session, self._by, self._shape, each, self._named(KEYS)) if each else None), ""

    def _before(self) -> tuple[Segment, ...]:
        """The segments of the earlier version: all written together where much was superseded, else the newest where
        they are many. A column that it does not show is in none of them, so that it stays away if code brings it back.
        """
        first, *parts = before = tuple(
            each.model_copy(update={"columns": {n: t for n, t in each.columns.items() if n in self._shape}})
            for each in self._base.all_segments
        )
        ranges = joined(
            i for each in parts if isinstance(each.supersedes, InIntervals) for i in each.supersedes.intervals
        )
        if 2 * sum(each.rows for each in parts) > first.rows or len(ranges) > MOST_INTERVALS or len(before) == MOST:
            return (self._together(before),) if parts else before
        newest = max(of_one_size(parts), 2) if len(parts) >= MOST_PARTS and ranges else 0
        return (*before[: len(before) - newest], self._together(before[-newest:])) if newest else before

    def _together(self, some: Sequence[Segment]) -> Segment:
        """Segments as one: all, or the newest, which go on to supersede what they did."""
        names = tuple(each.table for each in some)
        table = self._named(TOGETHER)
        made = self._session.create_as(table, GrowingTable(some).rows(self._shape))
        intervals = joined(
            i for each in some if isinstance(each.supersedes, InIntervals) for i in each.supersedes.intervals
        )
        of_parts = isinstance(some[0].supersedes, InIntervals)
        supersedes = InIntervals(column=self._by.columns[0], intervals=intervals) if of_parts else None
        return segment(table, made, together=names, supersedes=supersedes)

    def _added(self, part: Part, create: Create) -> Created:
        """What takes the place of rows of before, with the same columns."""
        made = create(self._named(PART), part)
        if made.table.columns != self._shape:
            raise Whole("the types of its columns changed")
        return made

    def _segment(self, made: Created, part: Part) -> Segment:
        return segment(self._named(PART), made.table, supersedes=part.superseded(made.table.columns))

    def _named(self, suffix: str) -> TableName:
        """The name of a table or view that is made so of these very tables: of others it is another, as when segments
        were written together since somebody died who made the same version."""
        read = (self._base, *self._then.values(), *self._now.values())
        made_of = [[str(table) for segment in version.all_segments for table in segment.tables] for version in read]
        recipe = stable_hash([self._version, made_of, *([self._again] if self._again else [])])
        return TableName(self._schema, version_table(self._base.name + suffix, recipe))


def refusal(before: sch.Schema | Mapping[str, Any], now: sch.Schema, times: Sequence[str]) -> list[str]:
    """Why rows that are frozen cannot be shown with the columns of now.

    Args:
        times: The columns by which it is known which rows these are.
    """
    found = []
    for name, dtype in now.items():
        was = before.get(name, dtype)
        fits = name not in times and not dtype.is_nested() and common(was, dtype) == dtype
        if was != dtype and not fits:
            way = "keep it as it was" if name in times else "name the new one otherwise"
            found.append(
                f"its column {name!r} was {was} and is {dtype} now, which its frozen rows cannot be shown with: {way}, "
                "or leave out `frozen_before` once, so that all is computed anew"
            )
    return found


def segment(table: TableName, made: CreatedTable, **others: Any) -> Segment:
    """A table that was made, as a segment."""
    columns = schema_to(made.columns)
    return Segment(schema_name=table.schema, table=table.table, columns=columns, rows=made.rows, **others)


def _changed_since(
    computed: Computed, then: Mapping[str, Version], now: Mapping[str, Version]
) -> dict[str, list[ibis.Table]]:
    """The rows of inputs that came, changed or are gone, as the tables that have them; more rows may be among them.

    Args:
        then: The inputs of an earlier version.
        now: The inputs.

    Raises:
        Whole: if that is not known, or of an input that is read as a whole.
    """
    assert computed.needs is not None
    if gone := now.keys() - then.keys():
        raise Whole(f"what it was made of is gone: {', '.join(sorted(gone))}")
    used = [slices(computed.uses, {n: versions[n].content for n in now}) for versions in (then, now)]
    found = {}
    for name in now:
        if used[0][name] != used[1][name]:
            if name not in computed.needs:
                raise Whole(f"{name} changed, of which each part reads all")
            if name in _retyped(computed, then, now):
                raise Whole(f"the types of columns of {name} changed")
            rows = _changed_rows(then[name], now[name])
            if rows is None:
                raise Whole(f"{name} was {'loaded' if now[name].kind == 'ingest' else 'computed'} as a whole")
            found[name] = rows
    return found


def _retyped(computed: Computed, then: Mapping[str, Version], now: Mapping[str, Version]) -> set[str]:
    """The inputs of which columns that are used have other types: what is made of a value may be another."""
    uses = computed.uses
    return {
        name
        for name, version in now.items()
        for one, other in ((then[name].columns, version.columns), (then[name].inferred, version.inferred))
        if any(
            one.get(column, kind) != kind
            for column, kind in other.items()
            if uses is None or Source(name, column) in uses
        )
    }


def _changed_rows(then: Version, now: Version) -> list[ibis.Table] | None:
    """The rows in which two versions of a table may differ; None, if nothing is known of that."""
    before, after = then.all_segments, now.all_segments
    if any(GONE in segment.columns for segment in (*before, *after)):
        return None  # of a history a new row changes an older one
    before = _as_written(before, after)
    pairs = zip(before, after, strict=False)
    shared = after[: len(list(takewhile(lambda pair: _is_same(*pair), pairs)))]
    if not shared:
        return None
    shape = schema_from(now.inferred)
    own, found = GrowingTable(shared), []
    for segment in (*before[len(shared) :], *after[len(shared) :]):
        if segment.table:
            found.append(GrowingTable((segment,)).rows(shape))
        if segment.supersedes is not None:
            found.append(own.superseded_by(segment, shape))
    return found


def _as_written(before: Sequence[Segment], after: Sequence[Segment]) -> tuple[Segment, ...]:
    """The segments of before, where those that were written together since are the one that they are now."""
    now = list(before)
    for whole in after:
        names, number = [each.table for each in now], len(whole.together)
        starts = (n for n in range(len(now)) if number and tuple(names[n : n + number]) == whole.together)
        if (start := next(starts, None)) is not None:
            now[start : start + number] = [whole]
    return tuple(now)


def _is_same(one: Segment, other: Segment) -> bool:
    its, others = ((each.name, each.supersedes, each.deleted, each.columns) for each in (one, other))
    return its == others


def _touched(
    session: Session, by: ByInterval, changed: Iterable[tuple[Needed, Sequence[ibis.Table]]]
) -> list[tuple[Moment, Moment]]:
    """The intervals that changed rows touch.

    Args:
        changed: The changed rows of each input, and what is needed of it.

    Raises:
        Whole: if there are times that cannot be counted.
    """
    return [
        # What needs intervals before it is touched by them.
        (moved(start, by.every, -needed.after), moved(start, by.every, needed.before + 1))
        for start, needed in starts_of(session, by, changed)
    ]


def _thawed(by: ByInterval, touched: Sequence[tuple[Moment, Moment]], frozen: Moment) -> tuple[Intervals | None, str]:
    """What of intervals is not frozen, and what to say of the rest; None: nothing."""
    if frozen is None:
        return (Intervals(by, tuple(_joined(touched))) if touched else None), ""
    thawed = [(max(start or frozen, frozen), end) for start, end in touched if end is None or end > frozen]
    cold = [(start, min(end or frozen, frozen)) for start, end in touched if start is None or start < frozen]
    left = f"what changed in {Intervals(by, tuple(_joined(cold)))} was left: it is frozen" if cold else ""
    return (Intervals(by, tuple(_joined(thawed))) if thawed else None), left


def starts_of(
    session: Session, by: ByInterval, rows_of: Iterable[tuple[Needed, Sequence[ibis.Table]]]
) -> Iterator[tuple[datetime.datetime, Needed]]:
    """When the intervals begin in which inputs have rows, in their order, each with what is needed of its input.

    Args:
        rows_of: What is needed of each input, and tables with its rows.

    Raises:
        Whole: if there are times that cannot be counted.
    """
    for needed, tables in rows_of:
        column, parts = needed.columns[0], [_starts(rows[needed.columns[0]], by.every) for rows in tables]
        if not parts:
            continue
        every = reduce(lambda one, other: one.union(other), parts).distinct()
        try:
            moments = sorted(_naive(value) for value in session.fetch(every)["at"].to_pylist() if value is not None)
        except (OverflowError, ValueError) as error:
            raise Whole(f"there are values of {column!r} that are no times of a calendar ({error})") from error
        yield from ((moment, needed) for moment in moments)


def _keys(
    session: Session,
    by: ByKey,
    types: sch.Schema,
    changed: Iterable[tuple[Needed, Sequence[ibis.Table]]],
    target: TableName,
) -> Keys:
    """The keys that changed rows have, as a table that is made for them."""
    parts = [
        rows.select(**{n: rows[own] for n, own in zip(by.columns, needed.columns, strict=True)}).drop_null()
        for needed, tables in changed
        for rows in tables
    ]
    its = sch.Schema({name: types[name] for name in by.columns})
    every = reduce(lambda one, other: one.union(other), parts).distinct()
    made = session.create_as(target, every)
    return Keys(by, target, its, made.rows)


def _rows_after(
    session: Session, before: Sequence[Segment], rows: int, added: Sequence[Segment], shape: sch.Schema
) -> int:
    """How many rows a table has that had `rows`, after segments were added that take the place of some."""
    its = GrowingTable(before)
    taken = sum(count(session, its.superseded_by(each, shape)) for each in added if each.supersedes is not None)
    return rows - taken + sum(each.rows for each in added)


_UNITS = {"hour": "h", "day": "D", "week": "W", "month": "M", "year": "Y"}


def _starts(column: ibis.Value, every: Every) -> ibis.Table:
    """When the intervals begin in which a column's values are, as a table."""
    if not (column.type().is_date() and every == "day"):
        column = column.truncate(_UNITS[every])
    return column.name("at").as_table()


def _naive(value: datetime.date) -> datetime.datetime:
    if not isinstance(value, datetime.datetime):
        return datetime.datetime(value.year, value.month, value.day)
    return value.astimezone(datetime.UTC).replace(tzinfo=None) if value.tzinfo else value


def moved(moment: Moment, every: Every, number: int) -> Moment:
    """The beginning of an interval, so many later; None beyond the calendar."""
    if moment is None or number == 0:
        return moment
    try:
        if every in ("month", "year"):
            months = moment.year * 12 + moment.month - 1 + number * (12 if every == "year" else 1)
            return moment.replace(year=months // 12, month=months % 12 + 1)
        return moment + number * datetime.timedelta(**{f"{every}s": 1})
    except (OverflowError, ValueError):
        return None


def _joined(touched: Iterable[tuple[Moment, Moment]]) -> list[tuple[Moment, Moment]]:
    """Intervals in their order, those that meet as one, and so many at most."""
    least, most = datetime.datetime.min, datetime.datetime.max
    found: list[tuple[datetime.datetime, datetime.datetime]] = []
    for start, end in sorted((start or least, end or most) for start, end in touched):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    while len(found) > MOST_INTERVALS:
        gaps = [later[0] - one[1] for one, later in pairwise(found)]
        nearest = gaps.index(min(gaps))
        found[nearest : nearest + 2] = [(found[nearest][0], found[nearest + 1][1])]
    return [(start if start != least else None, end if end != most else None) for start, end in found]


def _within(column: str, dtype: dt.DataType, every: Iterable[tuple[Moment, Moment]]) -> InIntervals:
    def bound(moment: Moment) -> str | None:
        if moment is None:
            return None
        if dtype.is_date():
            return moment.date().isoformat()
        return moment.isoformat(sep=" ") + ("+00:00" if dtype.timezone else "")

    return InIntervals(column=column, intervals=joined(Interval(bound(start), bound(end)) for start, end in every))


def _told(start: Moment, end: Moment, every: Every) -> str:
    """The first interval, and the last."""
    first, last = (moment and moment.isoformat(sep=" ")[: _TOLD[every]] for moment in (start, moved(end, every, -1)))
    if first == last:
        return first or "all"
    return f"{first} to {last}" if first and last else f"from {first}" if first else f"up to {last}"


_TOLD = {"hour": 16, "day": 10, "week": 10, "month": 7, "year": 4}
"""How much of a time tells an interval."""
