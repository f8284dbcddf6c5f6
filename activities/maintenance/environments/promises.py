"""When runs have to begin so that promises to be fresh are kept, and what each needs: for triggers."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from datetime import timedelta

from entrepot.activities.catalog.records import Run
from entrepot.activities.maintenance.environments.freshness import Told, judged, tables_read
from entrepot.language.limits import duration_text
from entrepot.planning.graph import Graph
from entrepot.protocol.environments import Needed

MOST_RUNS = 5
"""So many of the newest runs say how long the next takes."""
LEAST, UNKNOWN, MOST = 1 / 10, 1 / 4, 1 / 2
"""Shares of a promise: so long before it is broken its run begins at the latest; where nobody knows how long runs take;
and at the earliest."""


def needed(graph: Graph, told: Told, at: datetime.datetime) -> list[Needed]:
    """Of each table that promises to be fresh and that runs can make so: when its next run has to begin, with which
    steps. What is not known to be fresh needs one now."""
    found = []
    for row in judged(graph, told, at):
        step = graph.steps[graph.producers[row.table]]
        assert step.fresh_within is not None
        followed = _followed(graph, step.name)
        sources = {name for name in followed if graph.steps[name].is_source}
        if not sources:
            continue
        lead = before(step.fresh_within, took(told.runs, sources))
        begin = at
        if row.due:
            begin = datetime.datetime.fromisoformat(row.due) - lead
            if step.target_lag is not None:  # before that, a run would leave it as it is
                begin = max(begin, datetime.datetime.fromisoformat(row.as_of) + step.target_lag)
        else:  # it may never have been made, nor the models that it needs
            followed = sorted(graph.reach([step.name], graph.upstream) | {step.name})
        found.append(
            Needed(
                table=row.table,
                promise=duration_text(step.fresh_within),
                as_of=row.as_of,
                begin=begin.isoformat(timespec="seconds"),
                lead=lead.total_seconds(),
                steps=tuple(followed),
            )
        )
    return found


def before(promise: timedelta, lasted: float | None) -> timedelta:
    """How long before a promise is broken its run begins.

    Args:
        lasted: How many seconds such runs took lately; None: nobody knows.
    """
    if lasted is None:
        return promise * UNKNOWN
    return min(max(2 * timedelta(seconds=lasted), promise * LEAST), promise * MOST)


def took(runs: Iterable[Run], sources: set[str]) -> float | None:
    """How many seconds the longest of the newest runs took that ended well and asked one of these sources."""
    ended = [run for run in runs if run.status == "completed" and any("asked" in run.steps.get(s, {}) for s in sources)]
    newest = sorted(ended, key=lambda run: run.started_at)[-MOST_RUNS:]
    return max(((run.ended_at - run.started_at).total_seconds() for run in newest), default=None)


def _followed(graph: Graph, step: str) -> list[str]:
    """A step and those that make the tables it is made of; no models, which are fitted at their own pace."""
    todo, seen = [step], {step}
    for name in todo:  # grows while it is walked
        new = {graph.producers[table] for table in tables_read(graph, name)} - seen
        seen |= new
        todo += sorted(new)
    return todo
