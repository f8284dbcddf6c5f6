"""Which rows of each input a part of a table needs, where the table is computed by parts.

A walk from the table's columns that say to which part a row belongs down to columns of inputs: through whatever makes a
row of a part of rows of that part alone. What is read beside, such as a table that is joined on something else, is
needed as a whole. Windows over a range of time need some intervals before and after, too.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import ibis.expr.datatypes as dt
import ibis.expr.operations as ops

from entrepot.errors import EntrepotError, listed
from entrepot.identity.expression import is_input
from entrepot.language.incremental import ByInterval, Incremental
from entrepot.language.model import Predict


@dataclass(frozen=True)
class Needed:
    """Which rows of an input are needed for a part of a table."""

    columns: tuple[str, ...]
    """The input's columns that say to which part a row belongs, in the order of the table's."""
    before: int = 0
    """How many intervals before, too."""
    after: int = 0

    def beside(self, other: Needed) -> Needed:
        """What both need."""
        return Needed(self.columns, max(self.before, other.before), max(self.after, other.after))


def needed(root: ops.Relation, by: Incremental) -> Mapping[str, Needed]:
    """What a part of a table needs of its inputs; those that are not named are needed as a whole.

    Raises:
        EntrepotError: if the table cannot be computed by parts, and why.
    """
    if missing := [name for name in by.columns if name not in root.schema]:
        raise EntrepotError(f"it is computed {by}, and has no column {listed(missing)}")
    for name in by.columns:
        _check_time(by, name, root.schema[name])
    walk = _Walk(by)
    walk.need(root, Needed(by.columns))
    found = {name: each for name, each in walk.found.items() if each is not None}
    if not found:
        walk.refuse("no input would be read by parts: each is joined on something else")
    return found


def _check_time(by: Incremental, name: str, dtype: dt.DataType) -> None:
    """Refuses a column of whose values intervals cannot be told."""
    if isinstance(by, ByInterval):
        if not (dtype.is_date() or (dtype.is_timestamp() and dtype.timezone in (None, "UTC"))):
            raise EntrepotError(f"it is computed {by}, and {name!r} is of type {dtype}, not a date or timestamp in UTC")
        if dtype.is_date() and by.every == "hour":
            raise EntrepotError(f"it is computed {by} of an hour, and {name!r} is a date")


_WITHIN: Mapping[str, frozenset[str]] = {
    "hour": (_hour := frozenset({"h", "m", "s", "ms", "us", "ns"})),
    "day": (_day := _hour | {"D"}),
    "week": _day | {"W"},
    "month": _day | {"M"},
    "year": _day | {"M", "Q", "Y"},
}
"""What a time may be truncated to, so that it stays in its interval."""

_SHORTEST = {"hour": 1 / 24, "day": 1, "week": 7, "month": 28, "year": 365}
_LONGEST = {"Y": 366, "Q": 92, "M": 31, "W": 7, "D": 1, "h": 1 / 24, "m": 1 / 1440, "s": 1 / 86_400}
"""Lengths in days."""

_KEEPING = (ops.Sort, ops.DropColumns, ops.Filter, ops.DropNull, ops.Distinct, ops.Reference)
"""What gives rows of its parent as they are; or, of equal ones, one."""


_Column = tuple[ops.Node, str]
_MATCHED = ("inner", "semi", "right")
"""Joins of which no row is left without a match, but of the table that comes last."""


def _are_alike(one: ops.Field, other: ops.Field) -> bool:
    return bool(one.dtype.copy(nullable=True) == other.dtype.copy(nullable=True))


class _Walk:
    def __init__(self, by: Incremental) -> None:
        self._by = by
        self.found: dict[str, Needed | None] = {}
        """None: as a whole."""
        self._seen: set[tuple[ops.Relation, Needed]] = set()

    def refuse(self, why: str) -> NoReturn:
        """Raises the error that says why the table cannot be computed by parts."""
        raise EntrepotError(f"it cannot be computed {self._by}: {why}")

    def need(self, node: ops.Relation, part: Needed) -> None:
        """Notes what is needed for the rows of a part."""
        if (node, part) in self._seen:
            return
        self._seen.add((node, part))
        if is_input(node):
            self._note(node, part)
        elif isinstance(node, _KEEPING):
            self._keep(node, part)
        elif (rule := _RULES.get(type(node))) is not None:
            rule(self, node, part)
        elif not isinstance(node, ops.InMemoryTable | ops.DummyTable):
            self.refuse(f"what {type(node).__name__} gives depends on all rows")

    def _note(self, node: Any, part: Needed) -> None:
        for name in part.columns:
            _check_time(self._by, name, node.schema[name])
        before = self.found.get(node.name, part)
        is_same = before is not None and before.columns == part.columns
        self.found[node.name] = before.beside(part) if before is not None and is_same else None

    def whole(self, node: ops.Node) -> None:
        """Notes that all rows are needed of whatever a table is made of."""
        for each in node.find(ops.UnboundTable):
            if is_input(each):
                self.found[each.name] = None

    def _keep(self, node: Any, part: Needed) -> None:
        values = node.predicates if isinstance(node, ops.Filter) else node.keys if isinstance(node, ops.Sort) else ()
        self.need(node.parent, self._over(node.parent, part, values))

    def project(self, node: ops.Project, part: Needed) -> None:
        """Columns that are computed."""
        its = Needed(self._traced(part, node.values), part.before, part.after)
        self.need(node.parent, self._over(node.parent, its, node.values.values()))

    def aggregate(self, node: ops.Aggregate, part: Needed) -> None:
        """Groups, each within a part."""
        if missing := [name for name in part.columns if name not in node.groups]:
            self.refuse(f"it groups rows of several parts together: {listed(missing)} is not among the groups")
        its = Needed(self._traced(part, node.groups), part.before, part.after)
        for value in (*node.groups.values(), *node.metrics.values()):
            self._subqueries(value, node.parent)
        self.need(node.parent, its)

    def join(self, node: ops.JoinChain, part: Needed) -> None:
        """Tables that are joined on the part are needed by parts, the others as a whole."""
        tables = [node.first, *(link.table for link in node.rest)]
        known: dict[ops.Node, dict[int, str]] = {}
        for number, name in enumerate(part.columns):
            rel, column = self._column(name, node.values[name])
            known.setdefault(rel, {})[number] = column
        origin = {(rel, column) for rel, its in known.items() for column in its.values()}
        equal = [each for link in node.rest for each in self._equal_parts(link)]
        more = True
        while more:  # a table may be joined on one that comes after it
            more = False
            for one, (other, its), is_certain in equal:
                rel, column = one
                for number, tracked in list(known.get(rel, {}).items()):
                    follows = tracked == column and (is_certain or one in origin)
                    if follows and number not in known.setdefault(other, {}):
                        known[other][number] = its
                        more = True
        for link in node.rest:
            for predicate in link.predicates:
                self._subqueries(predicate, *tables)
        for table in tables:
            of_part = known.get(table, {})
            if len(of_part) == len(part.columns):
                columns = tuple(of_part[number] for number in range(len(part.columns)))
                self.need(table, Needed(columns, part.before, part.after))
            else:
                self.whole(table)

    def _equal_parts(self, link: ops.JoinLink) -> Iterator[tuple[_Column, _Column, bool]]:
        """What a link says of columns: where one is in a part, so is another. The last: whether that is so of each row,
        or only where the first has a value, and one that was joined: of the part's own column that is certain."""
        for predicate in link.predicates:
            for left, right, may_be_null in self._equal(predicate):
                for one, other in ((left, right), (right, left)):
                    of_match = link.how in _MATCHED or other.rel == link.table
                    if of_match or one.rel == link.table:
                        yield (one.rel, one.name), (other.rel, other.name), of_match and not may_be_null

    def _equal(self, predicate: ops.Node) -> Iterator[tuple[ops.Field, ops.Field, bool]]:
        """Columns that are in the same part where a condition holds, and whether both may be NULL then."""
        if isinstance(predicate, ops.And):
            yield from self._equal(predicate.left)
            yield from self._equal(predicate.right)
        elif isinstance(predicate, ops.Equals | ops.IdenticalTo):
            left, right = self._cell(predicate.left), self._cell(predicate.right)
            # Values of different types are compared by casting, which not every value of one survives.
            if left is not None and right is not None and (self._is_by_time or _are_alike(left, right)):
                yield left, right, isinstance(predicate, ops.IdenticalTo)

    def set(self, node: Any, part: Needed) -> None:
        """The rows of two tables, or what only one has."""
        self.need(node.left, part)
        self.need(node.right, part)

    def fill_null(self, node: ops.FillNull, part: Needed) -> None:
        """Values instead of NULL, but in no column that says to which part a row belongs."""
        given = node.replacements
        filled = [n for n in part.columns if not isinstance(given, Mapping) or n in given]
        if filled:
            self.refuse(f"NULL in {listed(filled)} is replaced, which would move rows from one part to another")
        self.need(node.parent, part)

    def unnest(self, node: ops.TableUnnest, part: Needed) -> None:
        """A row for each element of an array."""
        if made := [name for name in part.columns if name in (node.column_name, node.offset)]:
            self.refuse(f"{listed(made)} comes out of an array")
        self._subqueries(node.column, node.parent)
        self.need(node.parent, part)

    def predict(self, node: Predict, part: Needed) -> None:
        """Rows that a model has scored, each by itself."""
        if made := [name for name in part.columns if name not in node.keep]:
            self.refuse(f"{listed(made)} is a prediction")
        self.need(node.parent, part)

    def _traced(self, part: Needed, values: Mapping[str, ops.Node]) -> tuple[str, ...]:
        return tuple(self._column(name, values[name])[1] for name in part.columns)

    def _column(self, name: str, value: ops.Node) -> tuple[ops.Node, str]:
        cell = self._cell(value)
        if cell is None:
            as_is = "as it is, cast to a date, or truncated to what is within" if self._is_by_time else "as it is"
            what = f" one {self._by.every}" if isinstance(self._by, ByInterval) else ""
            self.refuse(f"{name!r} is computed; it has to be a column of an input {as_is}{what}")
        return cell.rel, cell.name

    @property
    def _is_by_time(self) -> bool:
        return isinstance(self._by, ByInterval)

    def _cell(self, value: ops.Node) -> ops.Field | None:
        """The column in whose part a value is; None, if there is none."""
        while not isinstance(value, ops.Field):
            if isinstance(value, ops.Alias):
                value = value.arg
            elif isinstance(self._by, ByInterval) and (inner := _within(value, _WITHIN[self._by.every])) is not None:
                value = inner
            else:
                return None
        return value

    def _over(self, parent: ops.Relation, part: Needed, values: Iterable[ops.Node]) -> Needed:
        """What values need that are computed over a table, of which they may look at other rows."""
        before = after = 0
        for value in values:
            for each in self._subqueries(value, parent):
                if isinstance(each, ops.WindowFunction):
                    more = self._window(each, part)
                    before, after = max(before, more[0]), max(after, more[1])
        return Needed(part.columns, part.before + before, part.after + after)

    def _window(self, node: ops.WindowFunction, part: Needed) -> tuple[int, int]:
        """How many intervals before and after a window needs."""
        cells = {cell.name for value in node.group_by if (cell := self._cell(value)) is not None}
        if cells >= set(part.columns):
            return 0, 0
        if (bounds := self._bounds(node, part)) is None:
            bounded = " or order it by that and bound it with ibis.range_window" if self._is_by_time else ""
            self.refuse(f"a window is over rows of several parts: group it by {listed(part.columns)}{bounded}")
        return bounds

    def _bounds(self, node: ops.WindowFunction, part: Needed) -> tuple[int, int] | None:
        """The same, of a window over a range of time; None, if it is not such a one."""
        if not (isinstance(self._by, ByInterval) and node.how == "range" and node.start and node.end):
            return None
        if not isinstance(node.func, ops.Reduction):  # `rank` or `lag` look beyond a window's bounds
            return None
        over = [key.arg for key in node.order_by if key.ascending and isinstance(key.arg, ops.Field)]
        if len(node.order_by) != 1 or [field.name for field in over] != list(part.columns):
            return None
        before = _days(node.start.value) if node.start.preceding else 0
        after = 0 if node.end.preceding else _days(node.end.value)
        shortest = _SHORTEST[self._by.every]
        return None if before is None or after is None else (math.ceil(before / shortest), math.ceil(after / shortest))

    def _subqueries(self, value: ops.Node, *over: ops.Node) -> list[ops.Node]:
        """Notes what a value reads beside the tables over which it is computed. Returns what it is made of."""
        found, left = dict[ops.Node, None](), [value]
        while left:
            node = left.pop()
            if node in found or node in over:
                continue
            if isinstance(node, ops.Relation):
                self.whole(node)
                continue
            found[node] = None
            left += [] if isinstance(node, ops.Field) else node.__children__
        return list(found)


_RULES: Mapping[type[ops.Relation], Callable[[_Walk, Any, Needed], None]] = {
    ops.Project: _Walk.project,
    ops.Aggregate: _Walk.aggregate,
    ops.JoinChain: _Walk.join,
    ops.Union: _Walk.set,
    ops.Intersection: _Walk.set,
    ops.Difference: _Walk.set,
    ops.FillNull: _Walk.fill_null,
    ops.TableUnnest: _Walk.unnest,
    Predict: _Walk.predict,
}


def _within(value: Any, units: frozenset[str]) -> ops.Node | None:
    """The time that a value is truncated from, if it stays in its interval; None, if it is something else."""
    if isinstance(value, ops.TimestampTruncate | ops.DateTruncate):
        return value.arg if value.unit.value in units else None
    if isinstance(value, ops.Date):
        return value.arg if "D" in units else None
    if isinstance(value, ops.Cast) and value.arg.dtype.is_timestamp() and value.to.is_date():
        return value.arg if "D" in units and value.arg.dtype.timezone in (None, "UTC") else None
    if isinstance(value, ops.Cast) and value.arg.dtype.is_date() and value.to.is_timestamp():
        return value.arg if value.to.timezone in (None, "UTC") else None
    return None


def _days(value: Any) -> float | None:
    """How long a bound of a window is, at most, in days; None, if that is not known."""
    cast = None
    while isinstance(value, ops.Cast | ops.Negate):
        cast = value.to if isinstance(value, ops.Cast) else cast
        value = value.arg
    if not isinstance(value, ops.Literal):
        return None
    if isinstance(value.value, datetime.timedelta):
        return abs(value.value / datetime.timedelta(days=1))
    dtype = value.dtype if value.dtype.is_interval() else cast
    if value.value == 0:
        return 0
    if dtype is None or not dtype.is_interval() or dtype.unit.value not in _LONGEST:
        return None
    return float(abs(value.value) * _LONGEST[dtype.unit.value])
