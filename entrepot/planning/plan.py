"""The plan of a run: which steps run, which do not, and why each. Computed from data alone, recorded, and explained.

This module imports neither ibis nor anything else that a workflow's sandbox could not load.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from entrepot.errors import listed
from entrepot.identity.frozen import Base, Kept, date_of, kept_of
from entrepot.identity.version import Frozen, version_of
from entrepot.language.step import Step, StepKind, TransformStep
from entrepot.planning.graph import Graph
from entrepot.planning.products.contract import ProductContract
from entrepot.planning.slices import Content, Contents, slices

if TYPE_CHECKING:
    from entrepot.planning.resolve import Computed

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


class Same(BaseModel):
    """A version that has the rows of another, and what it therefore contains, as in `Content`."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    same_as: str
    contents: dict[str, str] | None = None

    @property
    def content(self) -> Content:
        """What it contains."""
        return Content(self.version, self.contents, self.same_as)


class Plan(BaseModel):
    """What a run does. It is recorded in the workflow's history: a later change of code does not change it."""

    model_config = ConfigDict(frozen=True)

    steps: tuple[PlannedStep, ...]
    versions: dict[str, str]
    """Every table, model, artifact and check, to the version that the run makes or finds."""
    moves: dict[str, str] = {}
    """The names whose pointers the run's publish moves, and to which version."""
    removed: tuple[str, ...] = ()
    """Names that the environment shows and the pipeline no longer makes; they go when the run is published. Of a run of
    some of the steps that compute: none."""
    sequence: int = 0
    """The environment's publish that the plan saw; another one in between is a conflict."""
    anew: tuple[str, ...] = ()
    """The steps that are computed anew, and as a whole, whether or not the catalog knows their versions."""
    rests: tuple[str, ...] = ()
    """The steps that stay as they are shown, though what they read has changed: they need not be newer."""
    identities: dict[str, str] = {}
    """The steps that run, to the hash of what they compute."""
    before: dict[str, str] = {}
    """The transforms that run, and would let others rest if they gave the same rows as the version that is shown: to
    that version."""
    same: tuple[Same, ...] = ()
    """Those of the versions that have the rows of another."""
    products: dict[str, ProductContract | None] = {}
    """What the publish promises of tables; None: that they are no products any more."""
    kept: dict[str, Kept] = {}
    """The steps that run and of whose tables something is frozen, to what stays."""

    def replanned(self, newer: Plan, begun: Container[str]) -> Plan:
        """The plan that was made when more was known, but for the steps of this one that have begun.

        What those compute must not have changed meanwhile, else this plan stays.
        """
        if any(s.name in begun and newer.versions.get(s.name) != self.versions.get(s.name) for s in self.steps):
            return self
        ours = {step.name: step for step in self.steps if step.name in begun}
        return newer.model_copy(
            update={
                "steps": tuple(ours.get(step.name, step) for step in newer.steps),
                "sequence": self.sequence,
                "identities": {**newer.identities, **self.identities_for(ours)},
                "kept": {**newer.kept, **self.kept_for(ours)},
                "anew": tuple(sorted({*self.anew} & ours.keys() | {*newer.anew} - ours.keys())),
            }
        )

    def cut_off(self, selected: frozenset[str]) -> tuple[PlannedStep, ...]:
        """The selected steps that cannot be computed, since what they read is neither made nor published."""
        return tuple(step for step in self.steps if step.action == "hold" and step.name in selected)

    def to_run(self) -> tuple[PlannedStep, ...]:
        """The steps that have work to do."""
        return tuple(step for step in self.steps if step.action == "run")

    def kind(self, name: str) -> StepKind:
        """The kind of one of its steps."""
        return next(step.kind for step in self.steps if step.name == name)

    def identities_for(self, names: Iterable[str]) -> dict[str, str]:
        """What these steps compute, as it was planned."""
        return {name: self.identities[name] for name in names if name in self.identities}

    def kept_for(self, names: Iterable[str]) -> dict[str, Kept]:
        """What stays of those of these tables of which something is frozen."""
        return {name: self.kept[name] for name in names if name in self.kept}

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
    contents: dict[str, str] | None = None
    """The ids of its rows and columns, as in `Content`."""
    same_as: str = ""
    promised: dict[str, ProductContract | None] = {}
    """What it promises, where it is a product, by environment."""
    frozen: Frozen | None = None
    """Which of its rows are another version's."""

    def content(self, version: str) -> Content:
        """What the version contains."""
        return Content(version, self.contents, self.same_as)


@dataclass(frozen=True)
class Addressed:
    """The version of everything in a plan, as far as its inputs are known."""

    versions: dict[str, str]
    contents: dict[str, Content]
    """What each contains, by name."""
    rests: frozenset[str] = frozenset()
    """The steps that stay as they are shown, though what they read has changed, since they need not be newer."""
    kept: Mapping[str, Kept] = field(default_factory=dict)
    """Of the tables of which something is frozen, what stays."""


def address(
    graph: Graph,
    computed: Mapping[str, Computed],
    raw: Mapping[str, str],
    selected: frozenset[str],
    shown: Contents,
    run: str = "",
    same: Mapping[tuple[str, str], Content] | None = None,
    young: Container[str] = (),
    bases: Mapping[str, Base] | None = None,
) -> Addressed:
    """The version of everything, as far as its inputs are known. Steps that are not selected keep what is shown.

    Args:
        computed: What each step computes. Of those that are no function of their inputs, what they make is the run's.
        raw: The versions of raw tables.
        shown: What the environment shows.
        same: Of versions, by name and version, that have the rows of another: what they contain.
        young: The selected steps that are shown as their code makes them, and are not older than they may be.
        bases: The tables with `frozen_before`, to what is shown of them, where something of that stays.
    """
    found: dict[str, Content] = {}
    kept: dict[str, Kept] = {}
    checks: dict[str, str] = {}
    rests: set[str] = set()
    for step in graph.steps.values():
        if step.name not in selected:
            found |= {name: shown[name] for name in step.outputs if name in shown}
        elif step.is_source:
            found |= {name: Content(raw[name]) for name in step.outputs if name in raw}
        else:
            reads = graph.table_inputs(step)
            its = computed.get(step.name)
            if its is not None and all(name in found for name in reads):
                inputs = {name: found[name] for name in reads}
                of_run = run if its.varies else ""
                used, frozen = slices(its.uses, inputs), None
                if (base := (bases or {}).get(step.name)) is not None and isinstance(its.made, Mapping):
                    kept[step.name] = kept_of(step, its.identity, its.made, used, base)
                    frozen = kept[step.name].frozen
                version = version_of(step.kind, its.identity, used, of_run, frozen)
                if step.name in young and version != shown[step.name].version:
                    found[step.name] = shown[step.name]
                    rests.add(step.name)
                elif step.outputs:
                    found[step.name] = (same or {}).get((step.name, version)) or its.content(version, inputs, frozen)
                else:
                    checks[step.name] = version
    versions = {name: content.version for name, content in found.items()} | checks
    return Addressed(versions, found, frozenset(rests), kept)


def decide(
    graph: Graph,
    computed: Mapping[str, Computed],
    addressed: Addressed,
    selected: frozenset[str],
    published: Mapping[str, str],
    known: Mapping[tuple[str, str], Known],
    *,
    environment: str,
    sequence: int,
    ingested: Mapping[str, str] | None = None,
    changes: Mapping[str, str] | None = None,
    anew: Mapping[str, str] | None = None,
    verdicts: Mapping[str, Verdict] | None = None,
    nominal_time: str = "",
    young: Mapping[str, str] | None = None,
    unfrozen: Mapping[str, str] | None = None,
) -> Plan:
    """Says of every step whether it runs, and why.

    Args:
        known: What the catalog knows, by name and version: of the versions above, and of those that are published.
        ingested: What each ingest step did in this run; None: the ingest is still to come.
        changes: What the newest load of an ingest step changed in the columns of its tables.
        anew: Steps that run though the catalog knows their versions, each with the reason.
        verdicts: What checks have found before on the versions above.
        nominal_time: The run's, which some steps take.
        young: Steps that need not be newer than they are, each with why.
        unfrozen: Tables with `frozen_before` of which nothing stays, though something is shown, each with why.
    """
    versions = addressed.versions
    again = {name: why for name, why in (anew or {}).items() if (name, versions.get(name, "")) in known}
    steps = []
    for step in graph.steps.values():
        if step.name not in selected:
            action, why = _hold(graph, step, published, environment)
        elif step.is_source:
            action, why = _ingest(step, ingested, changes or {})
        elif step.name in again:
            action, why = "run", f"{again[step.name]}{_from(addressed.kept.get(step.name))}"
        elif step.name in addressed.rests:
            action, why = "skip", f"what it reads changed; {(young or {})[step.name]}"
        else:
            is_final = ingested is not None
            action, why = _compute(graph, step, computed, addressed, published, known, environment, is_final=is_final)
            if action == "run" and step.name in published and (said := (unfrozen or {}).get(step.name)):
                why = f"{why}; {said}, so nothing stays of it"
            if action == "run" and step.name in computed and (varies := computed[step.name].varies):
                always = f"{varies}, so it runs every time"
                why = f"{why}; {always}" if why and step.outputs else always
            if action == "run" and step.takes_time:
                why = f"{why}; it takes the run's nominal time, {nominal_time}"
        reads = graph.table_inputs(step)
        stands = (verdicts or {}).get(step.name) if action != "run" else None
        planned = PlannedStep(name=step.name, kind=step.kind, action=action, why=why, inputs=reads, guards=step.guards)
        steps.append(planned.model_copy(update={"stands": stands}))
    ours = {n: versions[n] for s in graph.steps.values() if s.name in selected for n in s.outputs if n in versions}
    made = {name for step in graph.steps.values() for name in step.outputs}
    running = {step.name for step in steps if step.action == "run"} - again.keys()
    # What no step makes any more goes with all that is computed, whether or not sources are asked.
    computing = {step.name for step in graph.steps.values() if not step.is_source} or set(graph.steps)
    return Plan(
        steps=tuple(steps),
        versions=dict(versions),
        moves={n: version for n, version in ours.items() if published.get(n) != version or n in (anew or {})},
        removed=tuple(sorted(set(published) - made)) if selected >= computing else (),
        sequence=sequence,
        anew=tuple(sorted((anew or {}).keys() & selected)),
        rests=tuple(sorted(addressed.rests & selected)),
        identities={step.name: computed[step.name].identity for step in steps if _is_computed(step, computed)},
        before=_to_compare(graph, computed, addressed, selected, running, published, known),
        same=tuple(
            Same(name=name, version=each.version, same_as=each.same_as, contents=dict(each.ids) if each.ids else None)
            for name, each in addressed.contents.items()
            if each.same_as
        ),
        kept={
            step.name: addressed.kept[step.name]
            for step in steps
            if step.action == "run" and step.name in addressed.kept
        },
    )


def _to_compare(
    graph: Graph,
    computed: Mapping[str, Computed],
    addressed: Addressed,
    selected: frozenset[str],
    running: set[str],
    published: Mapping[str, str],
    known: Mapping[tuple[str, str], Known],
) -> dict[str, str]:
    """The transforms that run, and by whose change alone others run, to what is shown of them."""
    shown = {name: _content(name, version, known) for name, version in published.items()}
    wanted: set[str] = set()
    for step in graph.steps.values():
        reads = graph.table_inputs(step)
        if step.is_source or not step.outputs or step.name not in published:
            continue
        if step.name not in selected:  # it may run next time
            wanted.update(reads)
        elif step.name in running and step.name in addressed.versions and all(name in shown for name in reads):
            its = computed[step.name]
            then = slices(its.uses, {name: shown[name] for name in reads})
            now = slices(its.uses, {name: addressed.contents[name] for name in reads})
            made = known.get((step.name, published[step.name]))
            frozen = made.frozen if made else None
            if version_of(step.kind, its.identity, then, frozen=frozen) == published[step.name]:
                wanted.update(name for name in reads if now[name] != then[name])
    return {
        name: published[name]
        for name in graph.steps
        if name in wanted & running and graph.steps[name].is_compared
        if name in addressed.versions and (name, published.get(name, "")) in known
    }


def _is_computed(step: PlannedStep, computed: Mapping[str, Computed]) -> bool:
    return step.action == "run" and step.name in computed


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
    computed: Mapping[str, Computed],
    addressed: Addressed,
    published: Mapping[str, str],
    known: Mapping[tuple[str, str], Known],
    environment: str,
    *,
    is_final: bool,
) -> tuple[Action, str]:
    versions, reads = addressed.versions, graph.table_inputs(step)
    version = versions.get(step.name)
    if version is None and is_final:
        lacks = [name for name in reads if name not in versions]
        return "hold", f"reads {', '.join(lacks)}, which this run does not make and {environment} does not have"
    if version is None:
        return "run", "what it reads is not there yet"
    exists = known.get((step.name, version))
    current = published.get(step.name)
    if exists:
        if current == version or not step.outputs:
            return "skip", _unused(reads, addressed, exists, known) or "nothing changed"
        return "skip", f"made before, by run {short(exists.run)}"
    if not step.outputs:
        return "run", "not checked yet"
    if current is None:
        return "run", f"new in {environment}"
    before = known.get((step.name, current))
    if before is None:
        return "run", f"its version is gone from {environment}"
    its = computed[step.name]
    is_code_new = before.identity != its.identity or {*before.inputs} != {*reads}
    reasons = ["its code or a parameter changed"] if is_code_new else []
    then = {name: _content(name, before.inputs[name], known) for name in reads if name in before.inputs}
    then = {name: content for name, content in then.items() if content.whole != addressed.contents[name].whole}
    changed = [*then]
    now = slices(its.uses, {name: addressed.contents[name] for name in changed})
    used = [name for name, slice in slices(its.uses, then).items() if slice != now[name]]
    names = used or ([] if reasons else changed)
    kept = addressed.kept.get(step.name)
    if before.frozen is not None and before.frozen.before > (kept.before if kept else ""):
        reasons.append(f"it was frozen before {date_of(before.frozen.before)}")
    how = _how(step, kept, is_code_new=is_code_new)
    reasons += [f"{', '.join(names)} changed"] if names else []
    return "run", " and ".join(reasons) + how


def _how(step: Step, kept: Kept | None, *, is_code_new: bool) -> str:
    """How a table that is computed by parts is computed, at the end of a sentence."""
    by = step.incremental if isinstance(step, TransformStep) else None
    if kept is not None:
        return f", so it is computed {'anew' if is_code_new else by}{_from(kept)}"
    return f", so it is computed {by}" if by and not is_code_new else ""


def _from(kept: Kept | None) -> str:
    """From when on a table is computed, where something of it stays."""
    return f" from {date_of(kept.before)} on; what is before is frozen" if kept is not None else ""


def _unused(reads: Iterable[str], addressed: Addressed, made: Known, known: Mapping[tuple[str, str], Known]) -> str:
    """What has changed of a version's inputs, and is not used; empty, if nothing has."""
    told, same = [], []
    for name in reads:
        before = made.inputs.get(name)
        if before is not None and before != addressed.versions[name]:
            content, then = addressed.contents[name], _content(name, before, known)
            columns = sorted(content.changed(then))
            if content.whole == then.whole:
                same.append(name)
            else:
                told.append(f"{name} ({listed(columns)})" if columns else name)
    sentences = [f"{', '.join(same)} {'has' if len(same) == 1 else 'have'} the same rows as before"] if same else []
    sentences += [f"uses none of what changed in {', '.join(told)}"] if told else []
    return "; ".join(sentences)


def _content(name: str, version: str, known: Mapping[tuple[str, str], Known]) -> Content:
    found = known.get((name, version))
    return found.content(version) if found else Content(version)
