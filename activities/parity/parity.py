"""Parity: the same table on several warehouses, digested in each of them, and compared; and the report."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from temporalio import activity

from entrepot.activities.parity.comparison import Comparing, said
from entrepot.activities.parity.report import page
from entrepot.activities.runtime.context import (
    ActivityContext,
    ensure_schemas,
    find_target,
    run_blocking,
    wait_for_other_runs,
)
from entrepot.activities.runtime.tenant import Tenant, Tenants
from entrepot.activities.storage import lake
from entrepot.activities.transform import compilation
from entrepot.errors import BadInput, EntrepotError, PipelineError, Unavailable, listed, unknown
from entrepot.identity.expression import schema_from
from entrepot.planning.resolve import resolve
from entrepot.planning.selection import select as selected_by
from entrepot.protocol import activity_names
from entrepot.protocol.messages import (
    Adoption,
    Comparison,
    Compilation,
    Context,
    ParityInput,
    ParityReport,
    PreparedParity,
    StepRef,
    TableParity,
)

ATTEMPTS = 3
"""So often a warehouse that cannot be used now is asked before that is what the report says of it."""


class ParityActivities:
    """The activities `prepare_parity`, `compile_parity`, `last_load`, `adopt`, `compare` and `report`."""

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants

    @activity.defn(name=activity_names.PREPARE_PARITY)
    async def prepare(self, asked: ParityInput) -> PreparedParity:
        """Checks every name in the input, and makes room on each warehouse."""
        tenant = find_target(self._tenants, asked, "compare")
        context = Context(tenant=asked.tenant, pipeline=asked.pipeline, environment=asked.environment, run="")

        def check(work: ActivityContext) -> PreparedParity:
            on = _warehouses(tenant, asked)
            pipeline = self._tenants.pipeline(asked.tenant, asked.pipeline)
            self._tenants.parameters(asked.tenant, pipeline, asked.parameters)
            graph = pipeline.graph
            chosen = selected_by(graph, asked.select) if asked.select else frozenset(graph.steps)
            needed = chosen | graph.reach(chosen, graph.upstream)
            steps = [step for step in graph.steps.values() if step.name in needed]
            computed = [s for s in steps if s.readable and not s.is_source]
            tables = {name: s for s in steps for name in s.output_tables if s.name in chosen}
            if not tables:
                raise BadInput(f"the selection {asked.select!r} has no table to compare")
            wait_for_other_runs(work, partial(ensure_schemas, work, asked.pipeline, on[0]))
            return PreparedParity(
                on=on,
                ingests=tuple(s.name for s in steps if s.is_source),
                computed=tuple(s.name for s in computed),
                kinds={s.name: s.kind for s in computed},
                tables=tuple(tables),
                inputs={name: tuple(i for i in graph.table_inputs(s) if i in tables) for name, s in tables.items()},
                parallel=tenant.parallel,
                weight=tenant.weight,
                brings={s.name: s.outputs for s in steps if s.is_source},
                unreachable=_unreachable(work, asked.pipeline, on[1:]),
            )

        return await run_blocking(check, tenant, context, activity_names.PREPARE_PARITY)

    @activity.defn(name=activity_names.COMPILE_PARITY)
    async def compile(self, request: Compilation) -> dict[str, dict[str, str]]:
        """Compiles every step for each warehouse, before anything runs. Returns what each cannot compute, by
        step, and why."""
        context = request.context
        tenant = self._tenants.get(context.tenant, context.backend)

        def refused(work: ActivityContext) -> dict[str, dict[str, str]]:
            pipeline = self._tenants.pipeline(context.tenant, context.pipeline)
            graph, parameters = pipeline.graph, self._tenants.parameters(context.tenant, pipeline, context.parameters)
            with work.session() as session:
                raw = work.catalog(session).pipeline(context.pipeline).versions(request.raw)
            resolved = resolve(graph, {name: schema_from(v.inferred) for name, v in raw.items()}, parameters)
            found: dict[str, dict[str, str]] = {name: {} for name in request.on}
            for warehouse in request.on:
                dialect = tenant.at(warehouse).backend.dialect
                for step in request.steps:
                    try:
                        compilation.check(graph, resolved, parameters, [step], dialect)
                    except PipelineError as error:
                        found[warehouse][step] = "; ".join(map(str, error.problems))
            return found

        return await run_blocking(refused, tenant, context, activity_names.COMPILE_PARITY)

    @activity.defn(name=activity_names.LAST_LOAD)
    async def last_load(self, ref: StepRef) -> dict[str, str]:
        """Where an environment stands with an ingest step: table to version, or the versions asked for. Empty, if the
        step was never loaded."""
        context = ref.context
        tenant = self._tenants.get(context.tenant, context.backend)

        def read(work: ActivityContext) -> dict[str, str]:
            with work.session() as session:
                environment = work.catalog(session).pipeline(context.pipeline).environment(context.environment)
                last = environment.ingest_state(ref.step)
            return {table: ref.versions.get(table, version) for table, version in last.tables.items()}

        return await run_blocking(read, tenant, context, ref.step)

    @activity.defn(name=activity_names.ADOPT)
    async def adopt(self, adoption: Adoption) -> None:
        """Makes models that were fitted on one warehouse known to another: their files are in the lake of both."""
        context = adoption.context
        tenant = self._tenants.get(context.tenant)

        def copy(work: ActivityContext) -> None:
            with work.session(warehouse=adoption.whence) as session:
                found = work.catalog(session).pipeline(context.pipeline).versions(adoption.versions)
            with work.session(warehouse=context.backend) as session:
                catalog = work.catalog(session).pipeline(context.pipeline)
                there = catalog.versions(adoption.versions)
                for version in found.values():
                    if version.name not in there:
                        catalog.add_version(version)

        await run_blocking(copy, tenant, context, activity_names.ADOPT)

    @activity.defn(name=activity_names.COMPARE)
    async def compare(self, asked: Comparison) -> TableParity:
        """Digests one table on each warehouse; where digests differ, finds the rows. What fails is a verdict, too."""
        context = asked.context
        tenant = self._tenants.get(context.tenant)
        patient = activity.info().attempt < ATTEMPTS

        def hold(work: ActivityContext) -> TableParity:
            return Comparing(self._tenants, work, asked, patient=patient).run()

        return await run_blocking(hold, tenant, context, asked.name)

    @activity.defn(name=activity_names.REPORT)
    async def report(self, report: ParityReport) -> str:
        """Writes the report as a page into the lake. Returns where it is."""
        tenant = self._tenants.get(report.tenant)
        context = Context(
            tenant=report.tenant, pipeline=report.pipeline, environment=report.environment, run=report.run
        )

        def write(work: ActivityContext) -> str:
            path = work.tenant.lake_path("parity", report.pipeline, f"{report.run}.html")
            lake.write(page(report).encode(), path)
            return path

        return await run_blocking(write, tenant, context, activity_names.REPORT)


def _warehouses(tenant: Tenant, asked: ParityInput) -> tuple[str, ...]:
    """The warehouses that are compared."""
    on = tuple(dict.fromkeys(asked.on or tenant.warehouses))
    for name in on:
        if name not in tenant.warehouses:
            raise BadInput(unknown("backend", name, tenant.warehouses))
    if len(on) < 2:
        raise BadInput(
            f"parity needs two warehouses, and tenant {tenant.name!r} has {listed(tenant.warehouses)}; name "
            f"further ones in the tenant file as [tenants.{tenant.name}.backends.NAME]"
        )
    return on


def _unreachable(work: ActivityContext, pipeline: str, warehouses: Iterable[str]) -> dict[str, str]:
    """Makes room on each warehouse. Returns those where that cannot be, and why.

    Raises:
        Unavailable: if one cannot be used now, and may be at the next attempt.
    """
    found = {}
    for name in warehouses:
        try:
            wait_for_other_runs(work, partial(ensure_schemas, work, pipeline, name))
        except EntrepotError as error:
            if isinstance(error, Unavailable) and activity.info().attempt < ATTEMPTS:
                raise
            found[name] = f"{name} could not be used: {said(error)}"
    return found
