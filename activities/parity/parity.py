"""Parity: the same table on several warehouses, digested in each of them, and compared; and the report."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from temporalio import activity

from entrepot.activities.parity.comparison import Comparing, said
from entrepot.activities.parity.report import page
from entrepot.activities.runtime.activity import Activities, context_of, implements
from entrepot.activities.runtime.context import ActivityContext, begin, ensure_schemas, wait_for_other_runs
from entrepot.activities.runtime.isolation.builder import Builder
from entrepot.activities.runtime.tenant import Tenant, parameter_values
from entrepot.activities.storage import lake
from entrepot.activities.transform import compilation
from entrepot.errors import BadInput, EntrepotError, PipelineError, Unavailable, listed, unknown
from entrepot.identity.expression import schema_from
from entrepot.planning.resolve import resolve
from entrepot.planning.selection import select as selected_by
from entrepot.protocol import activities
from entrepot.protocol.messages import StepRef
from entrepot.protocol.parity import (
    Adoption,
    Comparison,
    Compilation,
    ParityInput,
    ParityReport,
    PreparedParity,
    TableParity,
)

ATTEMPTS = 3
"""So often a warehouse that cannot be used now is asked before that is what the report says of it."""


class ParityActivities(Activities):
    """The activities `prepare_parity`, `compile_parity`, `last_load`, `adopt`, `compare`, `report` and `end_parity`."""

    @implements(activities.PREPARE_PARITY)
    def prepare(self, work: ActivityContext, request: ParityInput) -> PreparedParity:
        """Checks every name in the input, opens a lease, and creates the schemas on each warehouse."""
        tenant = work.tenant
        tenant.settings(request.pipeline)
        tenant.check_environment(request.environment)
        on = _warehouses(tenant, request)
        pipeline = self._tenants.pipeline(request.tenant, request.pipeline)
        parameters = self._tenants.parameters(request.tenant, pipeline, request.parameters)
        graph = pipeline.graph
        chosen = selected_by(graph, request.select) if request.select else frozenset(graph.steps)
        needed = chosen | graph.reach(chosen, graph.upstream)
        steps = [step for step in graph.steps.values() if step.name in needed]
        computed = [s for s in steps if s.readable and not s.is_source]
        tables = {name: s for s in steps for name in s.output_tables if s.name in chosen}
        if not tables:
            raise BadInput(f"the selection {request.select!r} has no table to compare")
        home = tenant.warehouses[0]
        wait_for_other_runs(work, partial(ensure_schemas, work, request.pipeline))
        begin(work, request.pipeline)
        if on[0] != home:
            wait_for_other_runs(work, partial(ensure_schemas, work, request.pipeline, on[0]))
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
            unreachable=_unreachable(work, request.pipeline, [name for name in on[1:] if name != home]),
            parameters=parameters,
            home=home,
            leased=True,
        )

    @implements(activities.COMPILE_PARITY)
    def compile(self, work: ActivityContext, request: Compilation) -> dict[str, dict[str, str]]:
        """Compiles every step for each warehouse, before anything runs. Returns what each cannot compute, by
        step, and why."""
        context = request.context
        pipeline = self._tenants.pipeline(context.tenant, context.pipeline)
        graph, parameters = pipeline.graph, parameter_values(pipeline, context.parameters)
        with work.session(warehouse=context.backend) as session:
            raw = work.catalog(session).pipeline(context.pipeline).versions(request.raw)
        given = {name: schema_from(v.inferred) for name, v in raw.items()}
        found: dict[str, dict[str, str]] = {name: {} for name in request.on}
        with Builder(work, self._tenants, context.pipeline) as builder:
            resolved = resolve(graph, given, parameters, build=builder.planned)
            for warehouse in request.on:
                dialect, compile = work.tenant.at(warehouse).backend.dialect, compilation.compile_by(builder)
                for step in request.steps:
                    try:
                        compilation.check(graph, resolved, parameters, [step], dialect, compile)
                    except PipelineError as error:
                        found[warehouse][step] = "; ".join(map(str, error.problems))
        return found

    @implements(activities.LAST_LOAD)
    def last_load(self, work: ActivityContext, request: StepRef) -> dict[str, str]:
        """Where an environment stands with an ingest step: table to version, or the versions asked for. Empty, if the
        step was never loaded."""
        context = request.context
        with work.session() as session:
            environment = work.catalog(session).pipeline(context.pipeline).environment(context.environment)
            last = environment.ingest_state(request.step)
        return {table: request.versions.get(table, version) for table, version in last.tables.items()}

    @implements(activities.ADOPT)
    def adopt(self, work: ActivityContext, request: Adoption) -> None:
        """Makes models that were fitted on one warehouse known to another: their files are in the lake of both."""
        context = request.context
        with work.session(warehouse=request.whence) as session:
            found = work.catalog(session).pipeline(context.pipeline).versions(request.versions)
        with work.session(warehouse=context.backend) as session:
            catalog = work.catalog(session).pipeline(context.pipeline)
            there = catalog.versions(request.versions)
            for version in found.values():
                if (known := there.get(version.name)) is None:
                    catalog.add_version(version)
                elif known.file != version.file:  # it was fitted anew, since the one of before was collected
                    catalog.replace_details(version)

    @implements(activities.COMPARE)
    def compare(self, work: ActivityContext, request: Comparison) -> TableParity:
        """Digests one table on each warehouse; where digests differ, finds the rows. What fails is a verdict, too."""
        return Comparing(self._tenants, work, request, patient=activity.info().attempt < ATTEMPTS).run()

    @implements(activities.REPORT)
    def report(self, work: ActivityContext, request: ParityReport) -> str:
        """Writes the report as a page into the lake. Returns where it is."""
        path = work.tenant.lake_path("parity", request.pipeline, f"{request.run}.html")
        lake.write(page(request).encode(), path)
        return path

    @implements(activities.END_PARITY)
    def end(self, work: ActivityContext, request: ParityInput) -> None:
        """Gives the lease back, however the comparison ended."""
        with work.session() as session:
            work.leases(session, request.pipeline).end(context_of(request).run)


def _warehouses(tenant: Tenant, request: ParityInput) -> tuple[str, ...]:
    """The warehouses that are compared."""
    on = tuple(dict.fromkeys(request.on or tenant.warehouses))
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
