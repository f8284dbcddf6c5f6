"""Where the columns of a pipeline come from and go to, over all its steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import ibis.expr.schema as sch

from entrepot.language.step import Step
from entrepot.planning.expressions.lineage import Part, Source
from entrepot.planning.graph import Graph
from entrepot.planning.resolve import Resolved

USED, IN_CODE = "used", "code"
"""How a model or a check is made of what it uses; and something of what Python code reads: all, as far as is known."""


@dataclass(frozen=True)
class Edge:
    """One column, or what is no table, is made of another, or has its rows by it."""

    source: Source
    target: Source
    how: tuple[str, ...]
    """identity, transformation, aggregation, used or code; or by what it decides over rows: filter, join, ..."""
    is_direct: bool
    """Whether its values are made of it; else it decides over rows."""


class Flow:
    """What each column, model, check and page of a pipeline is made of.

    Args:
        resolved: What the steps compute. Those that are not known yet are left out.
    """

    def __init__(self, graph: Graph, resolved: Resolved) -> None:
        self._known = resolved.known
        self._into: dict[Source, list[Edge]] = {}
        self._from: dict[Source, list[Edge]] = {}
        for step in graph.steps.values():
            for edge in () if step.is_source else self._edges(graph, step, resolved):
                self._into.setdefault(edge.target, []).append(edge)
                self._from.setdefault(edge.source, []).append(edge)

    def columns(self, name: str) -> list[Source]:
        """The columns of a table; of what is none, itself."""
        known = self._known.get(name)
        return [Source(name, column) for column in known] if isinstance(known, sch.Schema) else [Source(name, None)]

    def up(self, start: Iterable[Source]) -> list[Edge]:
        """All that these are made of, and what that is made of: the nearest first."""
        return [edge for level in _levels(start, self._into, lambda edge: edge.source) for edge in level]

    def down(self, start: Iterable[Source]) -> list[Edge]:
        """All that is made of these, and what is made of that: the nearest first."""
        return [edge for level in _levels(start, self._from, lambda edge: edge.target) for edge in level]

    def _edges(self, graph: Graph, step: Step, resolved: Resolved) -> Iterator[Edge]:
        computed = resolved.steps.get(step.name)
        if computed is None:
            return
        if computed.lineage is not None:
            for name, part in computed.lineage.columns.items():
                yield from _of_part(Source(step.name, name), part, computed.lineage.rows)
            return
        used, how = computed.uses, USED
        if used is None:
            how = IN_CODE
            used = frozenset(each for name in graph.table_inputs(step) for each in self.columns(name))
        for target in self.columns(step.name):
            for source in sorted(used, key=str):
                if source.column is not None or not self._is_table(source.table):
                    yield Edge(source, target, (how,), is_direct=True)

    def _is_table(self, name: str) -> bool:
        return isinstance(self._known.get(name), sch.Schema)


def _of_part(target: Source, part: Part, rows: Part) -> Iterator[Edge]:
    for source, how in sorted(part.made_of.items(), key=str):
        yield Edge(source, target, (how,), is_direct=True)
    sources = sorted({*part.decided_by, *rows.decided_by}, key=str)
    for source in sources:
        ways = part.decided_by.get(source, frozenset()) | rows.decided_by.get(source, frozenset())
        if ways:
            yield Edge(source, target, tuple(sorted(ways)), is_direct=False)


def _levels(
    start: Iterable[Source], edges: Mapping[Source, list[Edge]], end: Callable[[Edge], Source]
) -> Iterator[list[Edge]]:
    seen = set(start)
    level = list(seen)
    while level:
        found = [edge for each in sorted(level, key=str) for edge in edges.get(each, ())]
        yield found
        level = [each for each in dict.fromkeys(map(end, found)) if each not in seen]
        seen.update(level)
