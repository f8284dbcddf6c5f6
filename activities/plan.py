"""Before anything runs: the input, validated against what is known, and the plan."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import ibis.expr.schema as sch
from temporalio import activity

from entrepot.activities.catalog.catalog import PipelineCatalog
from entrepot.activities.catalog.environment import Environment, Publish
from entrepot.activities.catalog.ingest_state import IngestState
from entrepot.activities.catalog.relations import Relations
from entrepot.activities.catalog.tables import now
from entrepot.activities.catalog.version import Version
from entrepot.activities.maintenance.products.gate import ProductGate
from entrepot.activities.maintenance.repair import missing_tables, restore_raw_tables
from entrepot.activities.ml.models import known_of
from entrepot.activities.publish.view_sync import ViewSync
from entrepot.activities.runtime.activity import Activities, context_of, implements
from entrepot.activities.runtime.context import ActivityContext, begin, ensure_schemas, wait_for_other_runs
from entrepot.activities.runtime.isolation.builder import Builder
from entrepot.activities.runtime.tenant import Tenants, parameter_values
from entrepot.activities.transform.compilation import check, compile_by
from entrepot.activities.transform.increments import refusal
from entrepot.activities.transform.verdicts import standing_verdicts
from entrepot.backends.dialect import Dialect
from entrepot.errors import BadInput, PipelineError, Problem, listed
from entrepot.identity.expression import schema_from, schema_to
from entrepot.identity.frozen import Base, frozen_by
from entrepot.language.incremental import ByInterval
from entrepot.language.limits import UNSAID, duration_text
from entrepot.language.model import Model
from entrepot.language.names import NOMINAL_TIME
from entrepot.language.step import KINDS, IngestStep, Step, TransformStep
from entrepot.planning.graph import Graph
from entrepot.planning.plan import Addressed, Known, Plan, address, decide
from entrepot.planning.products.contract import ProductContract, contract_in
from entrepot.planning.resolve import Resolved, resolve
from entrepot.planning.selection import select
from entrepot.planning.slices import Content
from entrepot.protocol import activities
from entrepot.protocol.messages import Context, PlanRequest, Prepared, RunInput, describe_changes

EVERY_STAGE = "Pipeline"
"""The workflow that asks sources before it plans what is made of them."""
LARGEST_PLAN = 1_500_000
"""Bytes of JSON. Temporal refuses payloads of 2 MB, and a run would try again for ever; this is about 8,000 steps."""


class PlanActivities(Activities):
    """The activities `prepare` and `plan`."""

    @implements(activities.PREPARE)
    def prepare(self, work: ActivityContext, request: RunInput) -> Prepared:
        """Checks every name in a run's input, and makes the schema and the catalog where they are missing."""
        tenant = work.tenant
        tenant.settings(request.pipeline)
        tenant.check_environment(request.environment)
        pipeline = self._tenants.pipeline(request.tenant, request.pipeline)
        graph = pipeline.graph
        parameters = self._tenants.parameters(request.tenant, pipeline, request.parameters)
        chosen = select(graph, request.select) if request.select else frozenset(graph.steps)
        selected = {name: step for name, step in graph.steps.items() if name in chosen}
        _check_loading(request)
        anew = _anew(graph, request, chosen)
        wait_for_other_runs(work, lambda: ensure_schemas(work, request.pipeline, environment=request.environment))
        if not request.dry_run:
            begin(work, request.pipeline)
        if not (request.dry_run or request.refresh):
            with work.session() as session:
                wait_for_other_runs(work, lambda: restore_raw_tables(work, session, context_of(request), graph))
        if activity.info().workflow_type == EVERY_STAGE and not request.dry_run:  # else nothing comes before its plan
            self._check_products(work, context_of(request), parameters, chosen)
        return Prepared(
            backend=tenant.backend.name,
            parallel=tenant.parallel,
            weight=tenant.weight,
            parity=tenant.parity,
            selected=tuple(selected),
            kinds={name: step.kind for name, step in selected.items()},
            ingests=tuple(name for name, step in selected.items() if isinstance(step, IngestStep)),
            anew=anew,
            parameters=parameters,
            limits=(limits := tenant.limits_of(pipeline)),
            limits_of={n: step.limits.over(limits) for n, step in selected.items() if step.limits != UNSAID},
            hooks=tenant.settings(request.pipeline).hooks_in(request.environment),
        )

    @implements(activities.PLAN)
    def plan(self, work: ActivityContext, request: PlanRequest) -> Plan:
        """The plan of a run, from the code as it is and one read of the catalog. What it names is the run's from now
        on: no collection takes it away."""
        context = request.context
        pipeline = self._tenants.pipeline(context.tenant, context.pipeline)
        parameters = parameter_values(pipeline, context.parameters)
        with work.session() as session:
            if not context.backend:  # parity, which names a warehouse, publishes nothing
                its = context.model_copy(update={"parameters": parameters})
                ViewSync(work, session, its).check_names(pipeline.graph, request.selected)
            catalog = work.catalog(session).pipeline(context.pipeline)
            is_compared = bool(context.backend or work.tenant.parity)
            with Builder(work, self._tenants, context.pipeline) as builder:
                dialect = work.tenant.backend.dialect
                plan = _make_plan(
                    catalog,
                    dialect,
                    pipeline.graph,
                    parameters,
                    request,
                    builder,
                    is_compared=is_compared,
                    tenants=None if context.backend else self._tenants,
                )
            # It is final; what parity makes on further warehouses has the same names and versions there.
            if request.ingested is not None and self._is_home(context):
                shown = catalog.environment(context.environment).head().pointers
                work.leases(session, context.pipeline).plan(context.run, shown, plan.versions)
        if (size := len(plan.model_dump_json())) > LARGEST_PLAN:
            raise BadInput(
                f"its plan of {len(plan.steps):,} steps has {size / 1e6:.1f} MB, and Temporal takes 2 MB; "
                "split the pipeline, or run parts of it with `select`"
            )
        return plan

    def _check_products(
        self, work: ActivityContext, context: Context, given: Mapping[str, Any], selected: frozenset[str]
    ) -> None:
        """Refuses what the code makes of products, before a source is asked: as far as that is known by what is shown.

        Raises:
            PipelineError: if somebody depends on what would break.
        """
        pipeline = self._tenants.pipeline(context.tenant, context.pipeline)
        graph = pipeline.graph
        if not any(step.products for step in graph.steps.values()):
            return
        with work.session() as session, Builder(work, self._tenants, context.pipeline) as builder:
            catalog = work.catalog(session).pipeline(context.pipeline)
            shown = catalog.versions(catalog.environment(context.environment).head().pointers)
            promised = {name: each.contract_in(context.environment) for name, each in shown.items()}
            products = {name: contract for name, contract in promised.items() if contract is not None}
            raw = {name: schema_from(each.inferred) for name, each in shown.items() if KINDS[each.kind].is_source}
            held = {
                name: known_of(each)
                for name, each in shown.items()
                if KINDS[each.kind].produces and graph.makers.get(name, name) not in selected and name not in raw
            }
            values = parameter_values(pipeline, given)
            try:
                known = resolve(graph, {**raw, **held}, values, selected, builder.planned).known
            except PipelineError:
                return  # what the sources bring may make it possible; the plan tells
            columns = {name: schema_to(its) for name, its in known.items() if isinstance(its, sch.Schema)}
            ProductGate(self._tenants, context, graph, products).check(selected, columns)

    def _is_home(self, context: Context) -> bool:
        """Whether its warehouse is the one where the tenant's pipelines run, and leases are."""
        tenant = self._tenants.get(context.tenant)
        return tenant.at(context.backend) is tenant


def _check_loading(request: RunInput) -> None:
    """Raises BadInput for ways of loading that do not go together."""
    ways = {"refresh": request.refresh, "backfill": request.backfill, "replay": request.replay}
    if len(given := [name for name, value in ways.items() if value]) > 1:
        raise BadInput(f"a run loads in one way: {' and '.join(map(repr, given))} do not go together")


def _anew(graph: Graph, request: RunInput, chosen: frozenset[str]) -> tuple[str, ...]:
    """The steps that are to be computed though their versions are there.

    Raises:
        BadInput: for one that is not selected, and for an ingest step.
    """
    forced = select(graph, request.force) if request.force else frozenset()
    if beside := forced - chosen:
        raise BadInput(f"{listed(beside)} cannot be forced: not in the selection {request.select!r}")
    if ingests := [name for name in forced if graph.steps[name].is_source]:
        raise BadInput(f"{listed(ingests)} cannot be forced: an ingest loads everything anew with `refresh`")
    return tuple(sorted(forced))


def _make_plan(
    catalog: PipelineCatalog,
    dialect: Dialect,
    graph: Graph,
    parameters: dict[str, object],
    request: PlanRequest,
    builder: Builder,
    *,
    is_compared: bool = False,
    tenants: Tenants | None = None,
) -> Plan:
    """The plan.

    Args:
        is_compared: Whether it is computed on several warehouses, which all need the same inputs.
        tenants: Those who may depend on products; None: nothing is published.
    """
    environment = catalog.environment(request.context.environment)
    selected = frozenset(request.selected)
    published = environment.head()
    loads = _ingest_states(environment, graph, request)
    raw = _raw_versions(graph, request, published, loads)
    loaded = catalog.versions(raw)
    tables = {table: schema_from(version.inferred) for table, version in loaded.items()}
    shown = {**published.pointers, **request.given}
    held = _held(catalog, graph, selected, shown)
    its = {name: known_of(version) for name, version in held.items() if KINDS[version.kind].produces}
    resolved = _resolved(graph, tables, its, parameters, selected, environment.name, builder)
    contents = {name: held[name].content if name in held else Content(version) for name, version in shown.items()}
    young = {} if is_compared else _young(catalog, graph, resolved, selected, published.pointers, request)
    contents |= {name: version.content for name, version in young.items()}
    bases, unfrozen = _bases(catalog, graph, resolved, selected, published.pointers, request)
    addressed, known = _addressed(
        catalog,
        lambda same: address(graph, resolved.steps, raw, selected, contents, request.context.run, same, young, bases),
        published.pointers,
        request,
    )
    versions = addressed.versions
    plan = decide(
        graph,
        resolved.steps,
        addressed,
        selected,
        published.pointers,
        known,
        environment=environment.name,
        sequence=published.sequence,
        ingested=request.ingested,
        changes={step: describe_changes(load.changes) for step, load in loads.items() if load.changes},
        anew={**missing_tables(catalog, versions), **dict.fromkeys(request.anew, "to be computed anew")},
        verdicts={check: standing.verdict for check, standing in standing_verdicts(catalog, graph, versions).items()},
        nominal_time=f"{parameters[NOMINAL_TIME]} UTC",
        young={name: _how_young(graph.steps[name], version) for name, version in young.items()},
        unfrozen=unfrozen,
    )
    if tenants is not None:
        promised = _products(published.pointers, known, environment.name)
        columns = {name: schema_to(its) for name, its in resolved.known.items() if isinstance(its, sch.Schema)}
        plan = ProductGate(tenants, request.context, graph, promised).planned(plan, selected, columns)
    _check_kept(graph, resolved, plan, bases)
    if request.compiled:
        check(graph, resolved, parameters, (step.name for step in plan.to_run()), dialect, compile_by(builder))
    return plan


def _products(
    pointers: Mapping[str, str], known: Mapping[tuple[str, str], Known], environment: str
) -> dict[str, ProductContract]:
    """What is promised of the tables that an environment shows."""
    shown = {
        name: contract_in(known[name, v].promised, environment) for name, v in pointers.items() if (name, v) in known
    }
    return {name: contract for name, contract in shown.items() if contract is not None}


def _addressed(
    catalog: PipelineCatalog,
    addressed_by: Callable[[Mapping[tuple[str, str], Content]], Addressed],
    pointers: Mapping[str, str],
    request: PlanRequest,
) -> tuple[Addressed, dict[tuple[str, str], Known]]:
    """The version of everything, and what the catalog knows of these and of what is shown.

    A version that has the rows of another may give another version to what reads it. So it is asked again: once for
    those that are shown; once more for each that was made and not published, and reads such a one.

    Args:
        addressed_by: The versions, if those of some, by name and version, have the rows of another.
    """
    same = {(each.name, each.version): each.content for each in request.same}
    known: dict[tuple[str, str], Known] = {}
    addressed = addressed_by(same)
    asked: set[str] = set()
    while new := {*addressed.versions.values(), *pointers.values()} - asked:
        asked |= new
        found = catalog.known(new)
        known |= found
        more = {
            (name, version): each.content(version)
            for (name, version), each in found.items()
            if each.same_as and name not in request.running
        }
        if not more:
            break
        same |= more
        addressed = addressed_by(same)
    return addressed, known


def _young(
    catalog: PipelineCatalog,
    graph: Graph,
    resolved: Resolved,
    selected: frozenset[str],
    pointers: Mapping[str, str],
    request: PlanRequest,
) -> dict[str, Version]:
    """The selected steps that are shown as their code makes them, and were made since their `target_lag`."""
    lags = {
        step.name: step.target_lag
        for step in graph.steps.values()
        if step.target_lag and step.name in selected - {*request.anew} and step.name in pointers
    }
    shown = {name: pointers[name] for name in lags}
    versions = catalog.versions(shown) if lags else {}
    gone = missing_tables(catalog, shown) if lags else {}
    started = datetime.datetime.fromisoformat(request.context.started_at or now().isoformat())
    return {
        name: version
        for name, version in versions.items()
        if name in resolved.steps.keys() - gone.keys()
        and version.identity == resolved.steps[name].identity
        and version.made_at > started - lags[name]
    }


def _bases(
    catalog: PipelineCatalog,
    graph: Graph,
    resolved: Resolved,
    selected: frozenset[str],
    pointers: Mapping[str, str],
    request: PlanRequest,
) -> tuple[dict[str, Base], dict[str, str]]:
    """What is shown of the selected tables with `frozen_before`, of which a part stays; of those of which nothing can
    stay, why. Where warehouses are compared nothing stays: each computes all by the code that there is."""
    frozen = {
        step.name: step.incremental.column
        for step in graph.steps.values()
        if isinstance(step, TransformStep) and isinstance(step.incremental, ByInterval) and frozen_by(step)
        if step.name in selected and step.name in pointers and step.name in resolved.steps
    }
    if not frozen or request.context.backend:
        return {}, {}
    found = catalog.versions({name: pointers[name] for name in frozen})
    standing, counted = Relations(catalog.session), Relations(catalog.session, counted=True)
    bases, why = {}, {}
    for name, version in found.items():
        # What is forced may be so since somebody has changed the table by hand.
        if said := (counted if name in request.anew else standing).first_problem(version.relations):
            why[name] = said
        elif version.intervals is None or version.intervals.column != frozen[name]:
            why[name] = f"what is shown is not computed by intervals of {frozen[name]!r}"
        else:
            bases[name] = Base(version.version, schema_from(version.intervals.planned), version.frozen)
    return bases, why


def _check_kept(graph: Graph, resolved: Resolved, plan: Plan, bases: Mapping[str, Base]) -> None:
    """Refuses columns of other types than those of the rows that stay, where these cannot be shown as such.

    Raises:
        PipelineError: with each.
    """
    problems = []
    for name in plan.kept:
        step, made = graph.steps[name], resolved.steps[name].made
        assert isinstance(step, TransformStep)
        assert step.incremental is not None
        assert isinstance(made, sch.Schema)
        said = refusal(bases[name].columns, made, step.incremental.columns)
        problems += [Problem(f"transform {name!r}: {each}", step.at) for each in said]
    if problems:
        raise PipelineError(graph.name, problems)


def _how_young(step: Step, version: Version) -> str:
    assert step.target_lag is not None
    return f"made at {version.made_at:%Y-%m-%d %H:%M} UTC, and it may be {duration_text(step.target_lag)} old"


def _held(
    catalog: PipelineCatalog, graph: Graph, selected: frozenset[str], shown: Mapping[str, str]
) -> dict[str, Version]:
    """What the steps that are not selected have made, as the environment shows it."""
    steps = [step for step in graph.steps.values() if step.name not in selected and not step.is_source]
    made = {name: shown[name] for step in steps for name in step.outputs if name in shown}
    return catalog.versions(made) if made else {}


def _resolved(
    graph: Graph,
    tables: Mapping[str, sch.Schema],
    held: Mapping[str, sch.Schema | Model],
    parameters: Mapping[str, object],
    selected: frozenset[str],
    environment: str,
    builder: Builder,
) -> Resolved:
    """What the selected steps compute, over what the environment shows of the others.

    Raises:
        PipelineError: if that cannot be; with the steps whose new code would make it possible, where there are some.
    """
    try:
        return resolve(graph, {**tables, **held}, parameters, selected, builder.planned)
    except PipelineError as error:
        try:
            newer = resolve(graph, tables, parameters, build=builder.planned).known
        except PipelineError:
            raise error from error.__cause__
        changed = [name for name in held if name in newer and newer[name] != held[name]]
        if not changed:
            raise
        raise PipelineError(
            graph.name, [*error.problems, *_needed(graph, changed, held, newer, environment)]
        ) from error.__cause__


def _needed(
    graph: Graph,
    changed: Iterable[str],
    held: Mapping[str, sch.Schema | Model],
    newer: Mapping[str, sch.Schema | Model],
    environment: str,
) -> Iterator[Problem]:
    """What the new code of steps that are not selected would make, and the environment does not show."""
    for name in changed:
        old, new = held[name], newer[name]
        more = [c for c in new if c not in old] if isinstance(old, sch.Schema) and isinstance(new, sch.Schema) else []
        what = f"without {listed(more)}, which its new code makes" if more else "as its code was before"
        yield Problem(
            f"{name!r} is not selected, and {environment} shows it {what}; select it, too", graph.steps[name].at
        )


def _ingest_states(environment: Environment, graph: Graph, request: PlanRequest) -> dict[str, IngestState]:
    """What is remembered of the ingest steps that are still to come."""
    to_come = [step for step in graph.of(IngestStep) if step.name in request.selected]
    if request.ingested is not None:
        return {}
    return {step.name: environment.ingest_state(step.name) for step in to_come}


def _raw_versions(
    graph: Graph, request: PlanRequest, published: Publish, loads: Mapping[str, IngestState]
) -> dict[str, str]:
    """The raw tables' versions: those just loaded; before the ingest, those of the newest load; else as published."""
    raw: dict[str, str] = {}
    for step in graph.of(IngestStep):
        raw |= {table: published.pointers[table] for table in step.tables if table in published.pointers}
        raw |= loads[step.name].tables if step.name in loads else {}
    return raw | request.raw
