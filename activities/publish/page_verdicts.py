"""What checks have found on what a page rests on: told on the page as an environment shows it.

A page is a version, made once; what stands is found out when it is shown, since a check that reads the clock may find
something else while the page stays as it is. No violating row is shown: whoever may read the page may not read those.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.version import Version
from entrepot.activities.html.templates import render
from entrepot.activities.transform.verdicts import StandingVerdict, standing_verdicts
from entrepot.language.step import CheckStep
from entrepot.planning.graph import Graph
from entrepot.planning.plan import short

_BEFORE = b"<main>"
"""Stands in every page once before all that its author wrote into it, where each `<` is escaped."""


def with_verdicts(
    page: bytes,
    catalog: PipelineCatalog,
    made: Version,
    known: Mapping[str, Version],
    graph: Graph | None,
    checks: Mapping[str, str],
) -> bytes:
    """A page with what stands.

    Args:
        made: The page's version.
        known: Versions beside it, which need not be looked up.
        graph: With the checks; None, if the pipeline's code cannot be loaded.
        checks: The versions of checks, by whose rules verdicts count.
    """
    if graph is None:
        section = render("verdicts.html", checks=None)
    else:
        rests_on = _rests_on(catalog, made, known)
        guarding = [step for step in graph.of(CheckStep) if any(name in rests_on for name in step.guards)]
        stands = standing_verdicts(catalog, graph, rests_on, checks) if guarding else {}
        # Of a check that was not run, since it uses nothing that has changed, the verdict is on others.
        looked = {step.name: checks[step.name] for step in guarding if step.name in checks.keys() - stands.keys()}
        its = {n: v for n, v in looked.items() if _is_shown(graph.table_inputs(graph.steps[n]), rests_on, known)}
        if its:
            stands = {**standing_verdicts(catalog, graph, rests_on | its, checks), **stands}
        section = _summary(graph, sorted(made.inputs), guarding, stands)
    return page.replace(_BEFORE, section.encode() + b"\n" + _BEFORE, 1) if section else page


def is_page(shown: bytes, made: bytes) -> bool:
    """Whether a page that is shown is the one that was made, whatever stands on it of checks."""
    before, main, after = made.partition(_BEFORE)
    return len(shown) >= len(made) and shown.startswith(before) and shown.endswith(main + after)


def _rests_on(catalog: PipelineCatalog, made: Version, known: Mapping[str, Version]) -> dict[str, str]:
    """What a version was made of, and what that was; not what is shown beside it, which may be newer."""
    found: dict[str, str] = {}
    level = made.inputs
    while level := {name: version for name, version in level.items() if name not in found}:
        found |= level
        here = {name: known[name] for name in level if name in known and known[name].version == level[name]}
        if older := {name: version for name, version in level.items() if name not in here}:
            here |= catalog.versions(older)
        # One may be gone that was used in part, and is another now in what was not used.
        here |= {name: known[name] for name in level if name not in here and name in known}
        level = {name: version for each in here.values() for name, version in each.inputs.items()}
    return found


def _is_shown(names: Iterable[str], rests_on: Mapping[str, str], known: Mapping[str, Version]) -> bool:
    """Whether a page rests on what is shown now under these names."""
    return all(name in known and known[name].version == rests_on.get(name) for name in names)


def _summary(
    graph: Graph, inputs: Sequence[str], checks: list[CheckStep], stands: Mapping[str, StandingVerdict]
) -> str:
    """A line that can be opened; open already, unless all is well.

    Args:
        inputs: What the page reads itself.
    """
    if not checks:
        return ""
    violated = [step for step in checks if step.name in stands and stands[step.name].found.violations]
    unknown = [step for step in checks if step.name not in stands]
    passed = [step for step in checks if step not in violated and step not in unknown]
    made_of = {name: _made_of(graph, name) for name in inputs}
    lines = [
        (*_line(step, stands.get(step.name)), [name for name in inputs if not made_of[name].isdisjoint(step.guards)])
        for step in (*violated, *unknown, *passed)
    ]
    return render("verdicts.html", checks=lines, violated=len(violated), unknown=len(unknown))


def _made_of(graph: Graph, name: str) -> frozenset[str]:
    """A table or model, and all of which it is made."""
    maker = graph.producers.get(name)
    steps = {maker, *graph.reach([maker], graph.upstream)} if maker is not None else set()
    makers = (graph.steps[each] for each in steps)
    return frozenset({name}.union(*(graph.table_inputs(step) for step in makers if not step.is_source)))


def _line(step: CheckStep, standing: StandingVerdict | None) -> tuple[str, bool, str]:
    """A check, whether it found violations, and what it found."""
    about = f": {step.description}" if step.description else ""
    title = f"{step.name} of {', '.join(step.guards)}{about}"
    if standing is None:
        return title, False, "not checked yet"
    found = standing.found.counted() if standing.found.violations else "passed"
    last = f", last seen {standing.last} UTC" if standing.last != standing.since else ""
    return (
        title,
        bool(standing.found.violations),
        f"{found} since {standing.since} UTC (run {short(standing.run)}){last}",
    )
