"""Whether tables keep what `fresh_within` promises: how old the oldest data is that what is shown was made of.

A source that was asked and had nothing new is as fresh as the ask. So the age of a raw table's version is known from
the newest ask that found just that version, in whatever environment: each run records what it asked and found. The age
of another table's version is that of the oldest of its inputs, at a moment when a run had left it up to date with them.
It is not taken from the versions that it was computed from: a run that finds that nothing which it uses has changed
makes it as fresh as its inputs, and computes nothing.
"""

from __future__ import annotations

import datetime
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from entrepot.activities.catalog.catalog import Catalog, PipelineCatalog
from entrepot.activities.catalog.environment import PUBLISH, UNDO, Publish
from entrepot.activities.catalog.ingest_state import LOAD, IngestState
from entrepot.activities.catalog.records import Run
from entrepot.activities.catalog.tables import now
from entrepot.errors import BadInput, unknown
from entrepot.language.limits import duration_text
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.planning.graph import Graph
from entrepot.protocol.environments import FreshnessRow
from entrepot.tracebacks import cut

Time = datetime.datetime
MOST_SAID = 600
"""Characters of why a table is late, for a watch."""


@dataclass(frozen=True)
class Age:
    """How old the data of one version is."""

    as_of: Time
    """When the source of its oldest data was last asked and had just that."""
    table: str
    """The raw table that has it."""
    version: str
    """That of the raw table."""


@dataclass(frozen=True)
class Moment:
    """What an environment showed when a run had ended well."""

    pointers: Mapping[str, str]
    held: frozenset[str] = frozenset()
    """The tables that the run left as they were, whether or not their inputs had changed."""


Asked = Mapping[tuple[str, str], Time]
"""A raw table and its version to when its source was last asked and had just that."""


def ages(graph: Graph, asked: Asked, moments: Sequence[Moment]) -> dict[str, dict[str, Age]]:
    """Of each table, its versions whose age is known. Models are not followed: they are fitted at their own pace."""
    found: dict[str, dict[str, Age]] = {table: {} for step in graph.steps.values() for table in step.output_tables}
    for (table, version), at in asked.items():
        found.setdefault(table, {})[version] = Age(at, table, version)
    for step in graph.steps.values():
        if not step.is_computed_table():
            continue
        inputs = tables_read(graph, step.name)
        own = found[step.name]
        for moment in moments:
            its = moment.pointers.get(step.name)
            parts = [found[name].get(moment.pointers.get(name, "")) for name in inputs]
            known = [part for part in parts if part is not None]
            if its is None or step.name in moment.held or not parts or len(known) < len(parts):
                continue
            oldest = min(known, key=lambda age: (age.as_of, age.table))
            if its not in own or own[its].as_of < oldest.as_of:
                own[its] = oldest
    return found


@dataclass(frozen=True)
class Told:
    """What the catalog tells of one pipeline, for one environment."""

    environment: str
    shown: Mapping[str, str]
    asked: Asked
    moments: Sequence[Moment]
    asks: Mapping[str, Time] = field(default_factory=dict)
    """Raw table to when a run for the environment last asked its source, whatever it found."""
    arrivals: Asked = field(default_factory=dict)
    """A raw table and its version to when that was loaded first."""
    runs: Sequence[Run] = ()
    """The runs for the environment that ended."""

    @property
    def failed(self) -> list[Run]:
        """Those that failed."""
        return [run for run in self.runs if run.status == "failed"]


def judged(graph: Graph, told: Told, at: Time) -> list[FreshnessRow]:
    """Of each table that promises to be fresh, whether it is."""
    promises = {t: step.fresh_within for step in graph.steps.values() if step.fresh_within for t in step.output_tables}
    if not promises:
        return []
    known = ages(graph, told.asked, told.moments)
    rows = []
    for table, within in promises.items():
        row = FreshnessRow(
            pipeline=graph.name,
            table=table,
            environment=told.environment,
            state="unknown",
            fresh_within=duration_text(within),
        )
        age = known[table].get(told.shown.get(table, ""))
        if age is None:
            changes: dict[str, object] = {"reason": _not_known(graph, told, table)}
        else:
            failed = [run for run in told.failed if run.started_at > age.as_of]
            arrived = told.arrivals.get((age.table, age.version))
            is_late = at > age.as_of + within
            changes = {
                "state": "late" if is_late else "fresh",
                "as_of": _seconds(age.as_of),
                "due": _seconds(age.as_of + within),
                "oldest": age.table,
                "arrived": _seconds(arrived) if arrived else "",
                "failed": len(failed),
                "reason": _why(told, age, failed, arrived, is_late=is_late),
            }
        rows.append(row.model_copy(update=changes))
    return rows


def freshness_rows(catalog: Catalog, graphs: Sequence[Graph], *environments: str) -> list[FreshnessRow]:
    """Of each table of some pipelines that promises to be fresh, whether it is, in each of some environments.

    Raises:
        BadInput: for an environment of which nothing is known.
    """
    known = {DEFAULT_ENVIRONMENT}.union(*(catalog.pipeline(graph.name).environments() for graph in graphs))
    for environment in environments:
        if environment not in known:
            raise BadInput(unknown("environment", environment, sorted(known)))
    rows = []
    for graph in graphs:
        if any(step.fresh_within for step in graph.steps.values()):
            for told in told_in(catalog.pipeline(graph.name), *environments):
                rows += judged(graph, told, now())
    return rows


def brief(row: FreshnessRow) -> FreshnessRow:
    """What a watch needs to know: it is told all of it again and again."""
    return row.model_copy(update={"reason": cut(row.reason, MOST_SAID) if row.state == "late" else ""})


def told_in(catalog: PipelineCatalog, *environments: str) -> list[Told]:
    """What the catalog tells of a pipeline, for each of some environments; it is read once."""
    runs, publishes = catalog.runs(), catalog.publishes()
    asked: dict[tuple[str, str], Time] = {}
    asks: dict[str, dict[str, Time]] = {name: {} for name in environments}
    for run in runs:
        for table, version, at in _asked_by(run):
            asked[table, version] = max(at, asked.get((table, version), at))
            if (its := asks.get(run.environment)) is not None:
                its[table] = max(at, its.get(table, at))
    moments = moments_of(runs, publishes)
    arrivals = _arrivals(each for loads in catalog.loads().values() for each in loads)
    return [
        Told(
            environment=name,
            shown=publishes[name][0].pointers if publishes.get(name) else {},
            asked=asked,
            moments=moments,
            asks=asks[name],
            arrivals=arrivals,
            runs=[run for run in runs if run.environment == name],
        )
        for name in environments
    ]


def _asked_by(run: Run) -> Iterable[tuple[str, str, Time]]:
    """The raw tables whose sources a run has asked, with what it found, also if it failed later."""
    if run.status not in ("completed", "failed", "cancelled"):
        return
    for did in run.summary.values():
        if at := did.get("asked"):
            for table, version in did["tables"].items():
                yield table, version, Time.fromisoformat(at)


def moments_of(runs: Iterable[Run], publishes: Mapping[str, Sequence[Publish]]) -> list[Moment]:
    """What environments showed when runs had ended well, as far as that is certain.

    A run that published is looked at with what it published; one that had nothing to publish, with what was shown all
    the while.
    """
    found: dict[tuple[str, int, frozenset[str]], Moment] = {}
    oldest_first = {
        name: sorted((p for p in history if p.published_at and p.sequence), key=lambda p: p.sequence)
        for name, history in publishes.items()
    }
    times = {name: [p.published_at or Time.min for p in history] for name, history in oldest_first.items()}
    taken_back = {p.run for history in publishes.values() for p in history if p.action == UNDO}
    own = {(name, p.run): p for name, history in publishes.items() for p in history if p.action == PUBLISH}
    for run in runs:
        if run.status != "completed" or run.run in taken_back:
            continue
        publish = own.get((run.environment, run.run))
        if publish is None:
            at = times.get(run.environment, [])
            number = bisect_right(at, run.started_at)
            if not number or number != bisect_right(at, run.ended_at):
                continue
            publish = oldest_first[run.environment][number - 1]
        held = frozenset(name for name, did in run.summary.items() if "held" in did)
        found[run.environment, publish.sequence, held] = Moment(publish.pointers, held)
    return list(found.values())


def _arrivals(loads: Iterable[IngestState]) -> dict[tuple[str, str], Time]:
    found: dict[tuple[str, str], Time] = {}
    for load in loads:
        if load.action == LOAD and load.loaded_at is not None:
            for each in load.tables.items():
                found[each] = min(load.loaded_at, found.get(each, load.loaded_at))
    return found


def tables_read(graph: Graph, step: str) -> list[str]:
    """The tables that a step reads."""
    its = graph.table_inputs(graph.steps[step])
    return [name for name in its if graph.steps[graph.producers[name]].produces == "Table"]


def _not_known(graph: Graph, told: Told, table: str) -> str:
    if not told.shown:
        return f"nothing is published in {told.environment}"
    if table not in told.shown:
        return f"{told.environment} does not show it"
    raw, todo, seen = [], [table], {table}
    for name in todo:  # grows while it is walked
        step = graph.steps[graph.producers[name]]
        if step.is_source:
            raw.append(name)
        new = [each for each in tables_read(graph, step.name) if each not in seen]
        seen.update(new)
        todo += new
    if not raw:
        return "it is made of no raw table"
    for name in sorted(raw):
        if (name, told.shown.get(name, "")) not in told.asked:
            return (
                f"no run is recorded that asked the source of `{name}` for all that is new and found what is shown; "
                "the next one tells"
            )
    return "no run is recorded that left it up to date with what it reads; the next one that computes all of it tells"


def _why(told: Told, age: Age, failed: Sequence[Run], arrived: Time | None, *, is_late: bool) -> str:
    whose = (
        f"`{age.table}` last arrived at {_seconds(arrived)}, its source" if arrived else f"the source of `{age.table}`"
    )
    parts = [f"{whose} was last asked at {_seconds(age.as_of)}"]
    if not is_late:
        return parts[0]
    if (newer := told.asks.get(age.table, age.as_of)) > age.as_of:
        parts.append(f"what its source had at {_seconds(newer)} is not in it")
    if failed:
        last = max(failed, key=lambda run: run.ended_at)
        times = "once" if len(failed) == 1 else f"{len(failed):,} times"
        error, _, _ = (last.error or "").partition("\n")
        parts.append(f"its runs have failed {times} since, the last at {_seconds(last.ended_at)}: {error}")
    elif newer <= age.as_of:
        parts.append(f"no run for {told.environment} has asked since")
    return "; ".join(parts)


def _seconds(time: Time) -> str:
    return time.isoformat(sep=" ", timespec="seconds")
