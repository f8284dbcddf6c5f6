"""The plan of a run: which steps run, which do not, and why each. Computed from data alone, recorded, and explained.

This module imports neither ibis nor anything else that a workflow's sandbox could not load.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

from entrepot.identity.version import version_of
from entrepot.language.step import Step, StepKind
from entrepot.planning.graph import Graph

Action = Literal["run", "skip", "hold"]
"""run: it is computed. skip: its version exists already. hold: it stays as it is published, since it was not selected,
or reads what nobody has made."""


class Verdict(BaseModel):
    """What a check has found, on what is shown now."""

    model_config = ConfigDict(frozen=True)

    violations: int
    said: str
    since: str
    """When it was found first, in UTC."""
    run: str
    """The run that found it first."""

    def __str__(self) -> str:
        return f"{self.said}, since {self.since} UTC (run {short(self.run)})"


class PlannedStep(BaseModel):
    """What a plan says of one step."""

    model_config = ConfigDict(frozen=True)

    name: str
    kind: StepKind
    action: Action
    why: str
    inputs: tuple[str, ...] = ()
    """The tables and models that it reads."""
    guards: tuple[str, ...] = ()
    stands: Verdict | None = None
    """Of a check that is not run: its verdict on what is shown."""


class Plan(BaseModel):
    """What a run does. It is recorded in the workflow's history: a later change of code does not change it."""

    model_config = ConfigDict(frozen=True)

    steps: tuple[PlannedStep, ...]
    versions: dict[str, str]
    """Every table, model, artifact and check, to the version that the run makes or finds."""
    moves: dict[str, str] = {}
    """The names whose pointers the run's publish moves, and to which version."""
    removed: tuple[str, ...] = ()
    """Names that the environment shows and the pipeline no longer makes; they go when the run is published."""
    sequence: int = 0
    """The environment's publish that the plan saw; another one in between is a conflict."""
    anew: tuple[str, ...] = ()
    """The steps that run though the catalog knows their versions."""

    def cut_off(self, selected: frozenset[str]) -> tuple[PlannedStep, ...]:
        """The selected steps that cannot be computed, since what they read is neither made nor published."""
        return tuple(step for step in self.steps if step.action == "hold" and step.name in selected)

    def to_run(self) -> tuple[PlannedStep, ...]:
        """The steps that have work to do."""
        return tuple(step for step in self.steps if step.action == "run")

    def kind(self, name: str) -> StepKind:
        """The kind of one of its steps."""
        return next(step.kind for step in self.steps if step.name == name)

    def versions_for(self, names: Iterable[str]) -> dict[str, str]:
        """The versions of these steps, and of everything that they read."""
        wanted = frozenset(names)
        read = {name for step in self.steps if step.name in wanted for name in (step.name, *step.inputs)}
        return {name: self.versions[name] for name in sorted(read) if name in self.versions}


class Known(BaseModel):
    """What the catalog knows of a version, as far as a plan needs it."""

    model_config = ConfigDict(frozen=True)

    identity: str
    inputs: dict[str, str]
    run: str


def address(
    graph: Graph,
    identities: Mapping[str, str],
    raw: Mapping[str, str],
    selected: frozenset[str],
    published: Mapping[str, str],
    varying: Mapping[str, str] | None = None,
    run: str = "",
) -> dict[str, str]:
    """The version of everything, as far as its inputs are known. Steps that are not selected keep what is published.

    Args:
        varying: The steps that are no function of their inputs: what they make is the run's own.
    """
    versions: dict[str, str] = {}
    for step in graph.steps.values():
        if step.name not in selected:
            versions |= {name: published[name] for name in step.outputs if name in published}
        elif step.is_source:
            versions |= {name: raw[name] for name in step.outputs if name in raw}
        else:
            reads = graph.table_inputs(step)
            if step.name in identities and all(name in versions for name in reads):
                found = {name: versions[name] for name in reads}
                of_run = run if step.name in (varying or {}) else ""
                versions[step.name] = version_of(step.kind, identities[step.name], found, of_run)
    return versions


def decide(
    graph: Graph,
    identities: Mapping[str, str],
    versions: Mapping[str, str],
    selected: frozenset[str],
    published: Mapping[str, str],
    known: Mapping[tuple[str, str], Known],
    *,
    environment: str,
    sequence: int,
    ingested: Mapping[str, str] | None = None,
    changes: Mapping[str, str] | None = None,
    anew: Mapping[str, str] | None = None,
    varying: Mapping[str, str] | None = None,
    verdicts: Mapping[str, Verdict] | None = None,
    nominal_time: str = "",
) -> Plan:
    """Says of every step whether it runs, and why.

    Args:
        known: What the catalog knows, by name and version: of the versions above, and of those that are published.
        ingested: What each ingest step did in this run; None: the ingest is still to come.
        changes: What the newest load of an ingest step changed in the columns of its tables.
        anew: Steps that run though the catalog knows their versions, each with the reason.
        varying: The steps that are no function of their inputs, and why.
        verdicts: What checks have found before on the versions above.
        nominal_time: The run's, which some steps take.
    """
    again = {name: why for name, why in (anew or {}).items() if (name, versions.get(name, "")) in known}
    steps = []
    for step in graph.steps.values():
        if step.name not in selected:
            action, why = _hold(graph, step, published, environment)
        elif step.is_source:
            action, why = _ingest(step, ingested, changes or {})
        elif step.name in again:
            action, why = "run", again[step.name]
        else:
            is_final = ingested is not None
            action, why = _compute(graph, step, identities, versions, published, known, environment, is_final=is_final)
            if action == "run" and step.name in (varying or {}):
                always = f"{(varying or {})[step.name]}, so it runs every time"
                why = f"{why}; {always}" if why and step.outputs else always
            if action == "run" and step.takes_time:
                why = f"{why}; it takes the run's nominal time, {nominal_time}"
        reads = graph.table_inputs(step)
        stands = (verdicts or {}).get(step.name) if action != "run" else None
        planned = PlannedStep(name=step.name, kind=step.kind, action=action, why=why, inputs=reads, guards=step.guards)
        steps.append(planned.model_copy(update={"stands": stands}))
    ours = {n: versions[n] for s in graph.steps.values() if s.name in selected for n in s.outputs if n in versions}
    made = {name for step in graph.steps.values() for name in step.outputs}
    return Plan(
        steps=tuple(steps),
        versions=dict(versions),
        moves={n: version for n, version in ours.items() if published.get(n) != version or n in again},
        removed=tuple(sorted(set(published) - made)) if selected >= set(graph.steps) else (),
        sequence=sequence,
        anew=tuple(sorted(again.keys() & selected)),
    )


def short(run: str) -> str:
    """As much of a run's id as tells it from others: the milliseconds of its start."""
    return run[:13]


def _hold(graph: Graph, step: Step, published: Mapping[str, str], environment: str) -> tuple[Action, str]:
    present = all(name in published for name in step.outputs)
    return "hold", "not selected" if present else f"not selected, and not in {environment}"


def _ingest(step: Step, ingested: Mapping[str, str] | None, changes: Mapping[str, str]) -> tuple[Action, str]:
    if ingested is None:
        changed = f"; its newest load changed {changes[step.name]}" if step.name in changes else ""
        return "run", f"a source is asked at every run{changed}"
    return "skip", ingested.get(step.name, "asked")


def _compute(
    graph: Graph,
    step: Step,
    identities: Mapping[str, str],
    versions: Mapping[str, str],
    published: Mapping[str, str],
    known: Mapping[tuple[str, str], Known],
    environment: str,
    *,
    is_final: bool,
) -> tuple[Action, str]:
    version = versions.get(step.name)
    if version is None and is_final:
        lacks = [name for name in graph.table_inputs(step) if name not in versions]
        return "hold", f"reads {', '.join(lacks)}, which this run does not make and {environment} does not have"
    if version is None:
        return "run", "what it reads is not there yet"
    exists = known.get((step.name, version))
    current = published.get(step.name)
    if exists:
        if current == version or not step.outputs:
            return "skip", "nothing changed"
        return "skip", f"made before, by run {short(exists.run)}"
    if not step.outputs:
        return "run", "not checked yet"
    if current is None:
        return "run", f"new in {environment}"
    before = known.get((step.name, current))
    if before is None:
        return "run", f"its version is gone from {environment}"
    reads = graph.table_inputs(step)
    changed = [name for name in reads if name in before.inputs and before.inputs[name] != versions[name]]
    reasons = (
        ["its code or a parameter changed"]
        if before.identity != identities[step.name] or {*before.inputs} != {*reads}
        else []
    )
    reasons += [f"{', '.join(changed)} changed"] if changed else []
    return "run", " and ".join(reasons)
