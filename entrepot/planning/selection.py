"""Selection of steps, in the notation that data people know from dbt.

`departures` one step (or raw table) · `departures+` with everything downstream · `+departures` with everything
upstream · `2+departures` two levels upstream · `tag:hourly` · `kind:train` · `owner:ops` · `*_risk` a pattern ·
`a b` or `a,b`: a union, of several words, with `a&b` for an intersection. The checks of what is selected come with it.
"""

from __future__ import annotations

import fnmatch
import re

from entrepot.errors import BadInput, unknown
from entrepot.language.step import KINDS, CheckStep
from entrepot.planning.graph import Graph

MOST_TERMS = 10_000
"""More than any pipeline has steps that a plan may have."""
_TERM = re.compile(r"(?P<up>[0-9]{0,4}\+)?(?P<what>[^+]+)(?P<down>\+[0-9]{0,4})?")


def select(graph: Graph, expression: str) -> frozenset[str]:
    """The names of the steps that an expression selects.

    Raises:
        BadInput: for a term that matches nothing or cannot be read, with what is known instead; for too many.
    """
    chosen: set[str] = set()
    unions = dict.fromkeys(re.split(r"[\s,]+", re.sub(r"\s*&\s*", "&", expression.strip())))
    if (count := sum(union.count("&") + 1 for union in unions)) > MOST_TERMS:
        raise BadInput(f"the selection has {count:,} terms, and at most {MOST_TERMS:,} go: use patterns, tags or `+`")
    for union in unions:
        if union:
            parts = [_term(graph, term, expression) for term in union.split("&")]
            chosen |= set.intersection(*parts)
    if not chosen:
        raise BadInput(f"the selection {expression!r} selects no step of pipeline {graph.name!r}")
    return frozenset(chosen | _guarding(graph, chosen))


def _guarding(graph: Graph, chosen: set[str]) -> set[str]:
    """The checks of what is chosen: nothing is published past its own checks."""
    return {step.name for step in graph.of(CheckStep) if any(graph.producers[name] in chosen for name in step.guards)}


def _term(graph: Graph, term: str, expression: str) -> set[str]:
    match = _TERM.fullmatch(term)
    if match is None:
        raise BadInput(
            f"cannot read {term!r} in the selection {expression!r}; write a step's name, `tag:NAME`, `kind:NAME` or "
            "`owner:NAME`, with `+` before it for what it needs and after it for what needs it"
        )
    found = _named(graph, match["what"])
    chosen = set(found)
    if match["up"]:
        chosen |= graph.reach(found, graph.upstream, _depth(match["up"].rstrip("+")))
    if match["down"]:
        chosen |= graph.reach(found, graph.downstream, _depth(match["down"].lstrip("+")))
    return chosen


def _depth(text: str) -> int | None:
    return int(text) if text else None


def _named(graph: Graph, what: str) -> set[str]:
    method, colon, value = what.partition(":")
    if not colon:
        if what in graph.steps or what in graph.producers:  # no pattern, of which each is held against every name
            return {graph.producers.get(what, what)}
        known = {*graph.steps, *graph.producers}
        names = {graph.producers.get(n, n) for n in known if fnmatch.fnmatchcase(n, what)}
        if not names:
            raise BadInput(f"pipeline {graph.name!r}: {unknown('step', what, known)}")
        return names
    if method == "tag":
        known = {tag for step in graph.steps.values() for tag in step.tags}
        names = {step.name for step in graph.steps.values() if any(fnmatch.fnmatchcase(t, value) for t in step.tags)}
    elif method == "kind":
        known = set(KINDS)
        names = {step.name for step in graph.steps.values() if step.kind == value}
    elif method == "owner":
        known = {step.owner for step in graph.steps.values() if step.owner}
        names = {step.name for step in graph.steps.values() if step.owner == value}
    else:
        raise BadInput(f"{unknown('selection method', method, ['tag', 'kind', 'owner'])}")
    if not names and value not in known:
        raise BadInput(f"pipeline {graph.name!r}: {unknown(method, value, known)}")
    return names
