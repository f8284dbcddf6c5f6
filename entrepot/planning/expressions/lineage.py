"""Of which columns of its inputs each column of a table is made, and which decide over its rows.

A walk over the nodes of an expression, each once: no rows are read, and no SQL is parsed. What is not known in detail
(a sample, a view of SQL) is taken to use all that it reads, so that a column is never said to be independent of what
it depends on.

Each column and the rows have an id, too: the hash of how they come about, without whatever else the table has. So two
expressions whose rows and some columns have the same ids give the same in these columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import ibis.expr.operations as ops

from entrepot.identity.code import stable_hash
from entrepot.identity.expression import Nodes, canonical, chain_parts, describe_node, inner_chains, is_input
from entrepot.language.model import Predict

Made = Literal["identity", "transformation", "aggregation"]
"""How a column is made of another: it is that column, or computed from its value in one row, or from several rows."""
Decides = Literal["filter", "join", "group", "sort", "window", "unnest"]
"""By what a column decides over rows, or over which rows are computed together."""

_ORDER: tuple[Made, ...] = ("identity", "transformation", "aggregation")


class Source(NamedTuple):
    """A column of an input."""

    table: str
    column: str | None
    """None: which rows it has; of a model, the model."""


@dataclass(frozen=True)
class Part:
    """A column of a table, or its rows."""

    id: str
    """The hash of how it comes about; inputs count by name."""
    made_of: Mapping[Source, Made] = field(default_factory=dict)
    """What its values are computed from."""
    decided_by: Mapping[Source, frozenset[Decides]] = field(default_factory=dict)
    """What decides over the rows of which they are computed."""

    @property
    def uses(self) -> frozenset[Source]:
        """All that it depends on."""
        return frozenset(self.made_of) | frozenset(self.decided_by)


@dataclass(frozen=True)
class Lineage:
    """Of a table."""

    rows: Part
    columns: Mapping[str, Part]

    def by(self, code: object) -> Lineage:
        """The same, where other code that computes it counts, too, such as the versions of packages."""
        rows, *columns = (
            Part(stable_hash([part.id, code]), part.made_of, part.decided_by)
            for part in (self.rows, *self.columns.values())
        )
        return Lineage(rows, dict(zip(self.columns, columns, strict=True)))

    @property
    def uses(self) -> frozenset[Source]:
        """All that it depends on."""
        return self.rows.uses.union(*(part.uses for part in self.columns.values()))


def trace(nodes: Nodes) -> Lineage:
    """The lineage of an expression over a step's inputs."""
    nodes = canonical(nodes)
    return _Walk(nodes).tables[next(reversed(nodes))]


@dataclass(frozen=True)
class _Value(Part):
    is_over_rows: bool = False
    """Whether it depends on other rows of the table on which it is computed."""
    unnests: bool = False
    """Whether it makes several rows of one."""


class _Walk:
    """Every node after those that it is made of."""

    def __init__(self, nodes: Nodes) -> None:
        self.tables: dict[ops.Node, Lineage] = {}
        self._values: dict[ops.Node, _Value] = {}
        self._aliases: dict[ops.Node, int] = {}
        self._ids = _Ids(self)
        inner = inner_chains(nodes)
        for node, below in nodes.items():
            if isinstance(node, ops.Relation):
                self.tables[node] = self._table(node, below)
            elif node not in inner and not isinstance(node, ops.JoinLink):
                self._values[node] = self._value(node, below)

    def id_of(self, node: ops.Node) -> str:
        """Of a value; of a table, with all columns."""
        if (value := self._values.get(node)) is not None:
            return value.id
        table = self.tables[node]
        return stable_hash([table.rows.id, [[name, part.id] for name, part in table.columns.items()]])

    def _value(self, node: ops.Node, below: Iterable[ops.Node]) -> _Value:
        if isinstance(node, ops.Field):
            part = self.tables[node.rel].columns[node.name]
            return _Value(part.id, part.made_of, part.decided_by)
        if isinstance(node, ops.Alias):
            return self._values[node.arg]
        if isinstance(node, ops.WindowFunction):
            return self._window(node)
        if isinstance(node, ops.CountStar):
            rows = self.tables[node.arg].rows
            where = [self._values[node.where]] if node.where is not None else []
            made_id = stable_hash(["count", rows.id, [value.id for value in where]])
            return _together(made_id, [rows, *where], "aggregation", is_over_rows=True)
        if isinstance(node, ops.And | ops.Or):
            below = chain_parts(node)
        made_id = stable_hash(describe_node(node, self._ids, self._aliases))
        parts = [part for each in below for part in self._parts_of(each)]
        over_rows = isinstance(node, ops.Reduction | ops.Analytic)
        how: Made = "aggregation" if over_rows or isinstance(node, ops.Subquery) else "transformation"
        return _together(made_id, parts, how, is_over_rows=over_rows, unnests=isinstance(node, ops.Unnest))

    def _window(self, node: ops.WindowFunction) -> _Value:
        ordering = [self._values[each] for each in (*node.group_by, *node.order_by)]
        bounds = [self._values[each] for each in (node.start, node.end) if isinstance(each, ops.Node)]
        made_id = stable_hash(describe_node(node, self._ids, self._aliases))
        found = _together(made_id, [self._values[node.func], *bounds], "aggregation", is_over_rows=True)
        return _Value(found.id, found.made_of, _decided([found], ordering, "window"), is_over_rows=True)

    def _parts_of(self, node: ops.Node) -> Iterator[Part]:
        """What a value is made of: other values, or whole tables."""
        if (value := self._values.get(node)) is not None:
            yield value
        elif (table := self.tables.get(node)) is not None:
            yield table.rows
            yield from table.columns.values()

    def _table(self, node: ops.Relation, below: Iterable[ops.Node]) -> Lineage:
        if is_input(node):
            return _input(node)
        rule = _RULES.get(type(node))
        return rule(self, node) if rule and not getattr(node, "distinct", False) else self._opaque(node, below)

    def filter(self, node: ops.Filter) -> Lineage:
        """Fewer rows."""
        its = self.tables[node.parent]
        return Lineage(self._rows("filter", its, node.predicates, "filter", is_ordered=False), its.columns)

    def sort(self, node: ops.Sort) -> Lineage:
        """An order, which counts where a limit follows."""
        its = self.tables[node.parent]
        return Lineage(self._rows("sort", its, node.keys, "sort"), its.columns)

    def drop_columns(self, node: ops.DropColumns) -> Lineage:
        """Fewer columns."""
        its = self.tables[node.parent]
        return Lineage(its.rows, {name: its.columns[name] for name in node.schema})

    def distinct(self, node: ops.Distinct) -> Lineage:
        """Rows that differ in any column."""
        its = self.tables[node.parent]
        rows_id = stable_hash(["distinct", self.id_of(node.parent)])
        return Lineage(Part(rows_id, {}, _decided([its.rows], its.columns.values(), "group")), its.columns)

    def _rows(self, what: str, its: Lineage, by: Iterable[ops.Node], how: Decides, *, is_ordered: bool = True) -> Part:
        """The rows of a table after something has decided over them."""
        values = [self._values[each] for each in by]
        ids = [value.id for value in values]
        made_id = stable_hash([what, its.rows.id, ids if is_ordered else sorted(ids)])
        return Part(made_id, {}, _decided([its.rows], values, how))

    def project(self, node: ops.Project) -> Lineage:
        """Columns that are computed."""
        its = self.tables[node.parent]
        values = {name: self._values[value] for name, value in node.values.items()}
        unnested = [value for value in values.values() if value.unnests]
        rows = its.rows
        if unnested:
            ids = sorted(value.id for value in unnested)
            rows = Part(stable_hash(["unnest", rows.id, ids]), {}, _decided([rows], unnested, "unnest"))
        return Lineage(rows, {name: _column(value, its.rows) for name, value in values.items()})

    def limit(self, node: ops.Limit) -> Lineage:
        """The first rows."""
        its = self.tables[node.parent]
        limits = [each for each in (node.n, node.offset) if isinstance(each, ops.Node)]
        made_id = stable_hash(["limit", its.rows.id, *(self._id_or(each) for each in (node.n, node.offset))])
        return Lineage(
            Part(made_id, {}, _decided([its.rows], [self._values[n] for n in limits], "filter")), its.columns
        )

    def _id_or(self, value: object) -> str:
        return self._values[value].id if isinstance(value, ops.Node) else repr(value)

    def reference(self, node: ops.Reference) -> Lineage:
        """A table under another name."""
        its = self.tables[node.parent]
        number = node.identifier
        if isinstance(node, ops.SelfReference):  # a counter of the process: only which are the same is of interest
            number = self._aliases.setdefault(node, len(self._aliases))
        kind = type(node).__name__
        columns = {
            name: Part(stable_hash([kind, number, part.id]), part.made_of, part.decided_by)
            for name, part in its.columns.items()
        }
        return Lineage(its.rows, columns)

    def join(self, node: ops.JoinChain) -> Lineage:
        """Rows of several tables."""
        tables = [self.tables[node.first], *(self.tables[link.table] for link in node.rest)]
        on = [[self._values[each] for each in link.predicates] for link in node.rest]
        links = [
            [link.how, table.rows.id, sorted(value.id for value in values)]
            for link, table, values in zip(node.rest, tables[1:], on, strict=True)
        ]
        rows_id = stable_hash(["join", tables[0].rows.id, links])
        predicates = [value for values in on for value in values]
        rows = Part(rows_id, {}, _decided([table.rows for table in tables], predicates, "join"))
        return Lineage(rows, {name: _column(self._values[value], rows) for name, value in node.values.items()})

    def aggregate(self, node: ops.Aggregate) -> Lineage:
        """Groups of rows."""
        its = self.tables[node.parent]
        rows = self._rows("aggregate", its, node.groups.values(), "group", is_ordered=False)
        values = {**node.groups, **node.metrics}
        return Lineage(rows, {name: _column(self._values[value], its.rows) for name, value in values.items()})

    def union(self, node: ops.Union) -> Lineage:
        """The rows of both."""
        left, right = self.tables[node.left], self.tables[node.right]
        rows = Part(stable_hash(["union", left.rows.id, right.rows.id]), {}, _decided([left.rows, right.rows]))
        columns = {
            name: _together(stable_hash(["union", part.id, right.columns[name].id]), [part, right.columns[name]])
            for name, part in left.columns.items()
        }
        return Lineage(rows, columns)

    def fill_null(self, node: ops.FillNull) -> Lineage:
        """Values instead of NULL."""
        its = self.tables[node.parent]
        given = node.replacements
        by_name = given if isinstance(given, Mapping) else dict.fromkeys(its.columns, given)
        columns = dict(its.columns)
        for name, value in by_name.items():
            filled = stable_hash(["fill null", columns[name].id, self._id_or(value)])
            beside = [self._values[value]] if isinstance(value, ops.Node) else []
            columns[name] = _together(filled, [columns[name], *beside], "transformation")
        return Lineage(its.rows, columns)

    def unnest(self, node: ops.TableUnnest) -> Lineage:
        """A row for each element of an array."""
        its, array = self.tables[node.parent], self._values[node.column]
        rows_id = stable_hash(["unnest", its.rows.id, array.id, node.keep_empty])
        rows = Part(rows_id, {}, _decided([its.rows], [array], "unnest"))
        columns = dict(its.columns)
        for name, what in ((node.column_name, "element"), (node.offset, "offset")):
            if name is not None:
                columns[name] = _together(stable_hash([what, array.id, its.rows.id]), [array], "transformation")
        return Lineage(rows, columns)

    def predict(self, node: Predict) -> Lineage:
        """Rows that a model has scored."""
        its = self.tables[node.parent]
        columns = {name: its.columns[name] for name in node.keep}
        features = [its.columns[name] for name in node.features]
        model = Part("", {Source(node.model, None): "transformation"})
        for name in node.schema:
            if name not in columns:
                made_id = stable_hash(["predict", name, str(node.schema[name]), [part.id for part in features]])
                columns[name] = _together(made_id, [*features, model], "transformation")
        return Lineage(its.rows, columns)

    def _opaque(self, node: ops.Relation, below: Iterable[ops.Node]) -> Lineage:
        """What uses all that it reads."""
        made_id = stable_hash(describe_node(node, self._ids, self._aliases))
        parts = [part for each in below for part in self._parts_of(each)]
        rows = Part(made_id, {}, _decided(parts, parts, "filter"))
        return Lineage(
            rows, {name: _together(stable_hash([made_id, name]), parts, "transformation") for name in node.schema}
        )


_RULES: Mapping[type[ops.Relation], Callable[[_Walk, Any], Lineage]] = {
    ops.Project: _Walk.project,
    ops.Filter: _Walk.filter,
    ops.Sort: _Walk.sort,
    ops.Limit: _Walk.limit,
    ops.DropColumns: _Walk.drop_columns,
    ops.SelfReference: _Walk.reference,
    ops.JoinReference: _Walk.reference,
    ops.JoinChain: _Walk.join,
    ops.Aggregate: _Walk.aggregate,
    ops.Distinct: _Walk.distinct,
    ops.Union: _Walk.union,
    ops.FillNull: _Walk.fill_null,
    ops.TableUnnest: _Walk.unnest,
    Predict: _Walk.predict,
}
"""Of tables that are known in detail; but of set operations without duplicates, which use all columns."""


class _Ids(Mapping[ops.Node, str]):
    """The ids of nodes, as they are asked for: few need that of a table with all its columns."""

    def __init__(self, walk: _Walk) -> None:
        self._walk = walk

    def __getitem__(self, node: ops.Node) -> str:
        return self._walk.id_of(node)

    def __iter__(self) -> Iterator[ops.Node]:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError


def _input(node: ops.UnboundTable) -> Lineage:
    rows = Part(stable_hash(["rows", node.name]), {}, {Source(node.name, None): frozenset()})
    columns = {
        name: Part(stable_hash(["column", node.name, name]), {Source(node.name, name): "identity"})
        for name in node.schema
    }
    return Lineage(rows, columns)


def _column(value: _Value, rows: Part) -> Part:
    """A column of what is computed on these rows. An array that is unnested twice gives two columns."""
    if not value.is_over_rows and not value.unnests:
        return Part(value.id, value.made_of, value.decided_by)
    return Part(stable_hash(["over", value.id, rows.id]), value.made_of, _decided([value, rows]))


def _decided(
    before: Iterable[Part], by: Iterable[Part] = (), how: Decides | None = None
) -> dict[Source, frozenset[Decides]]:
    """What decides over rows: all that did before, and what is added."""
    found: dict[Source, frozenset[Decides]] = {}
    for part in before:
        for source, ways in part.decided_by.items():
            found[source] = found.get(source, frozenset()) | ways
    for part in by:
        for source, ways in part.decided_by.items():
            found[source] = found.get(source, frozenset()) | ways
        for source in part.made_of:
            found[source] = found.get(source, frozenset()) | ({how} if how else frozenset())
    return found


def _together(
    made_id: str,
    parts: Iterable[Part],
    how: Made = "identity",
    *,
    is_over_rows: bool = False,
    unnests: bool = False,
) -> _Value:
    """A value that is made of others, in this way at least."""
    made_of: dict[Source, Made] = {}
    parts = list(parts)
    for part in parts:
        for source, its in part.made_of.items():
            made_of[source] = max(its, how, made_of.get(source, how), key=_ORDER.index)
        if isinstance(part, _Value):
            is_over_rows |= part.is_over_rows
            unnests |= part.unnests
    return _Value(made_id, made_of, _decided(parts), is_over_rows, unnests)
