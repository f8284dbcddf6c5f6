"""`entrepot sql`: the SQL of a step for any warehouse, without a connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entrepot.errors import BadInput, unknown
from entrepot.worker.cli.options import ParameterOption, StateOption, TenantOption, TenantsOption, names, parsed

if TYPE_CHECKING:
    from entrepot.activities.runtime.tenant import Tenant, Tenants


def sql(
    step: Annotated[str, typer.Argument(help="STEP, or PIPELINE.STEP where several pipelines have it.")],
    backend: Annotated[
        str, typer.Option("--backend", "-b", help="duckdb, snowflake, bigquery or databricks.")
    ] = "duckdb",
    tenant: TenantOption = None,
    parameter: ParameterOption = None,
    reading: Annotated[
        str | None,
        typer.Option(help="What a run read: TABLE@VERSION,... Then the SQL is the tenant's warehouse's, over these."),
    ] = None,
    tenants: TenantsOption = None,
    state: StateOption = None,
) -> None:
    """Print the SQL of a transform or check for any warehouse, without a connection; or what a failed one ran.

    The columns of raw tables come from the last ingest in the lake, or from what the ingest step declares. With
    --reading, as a failure names it, the warehouse is asked where these versions stand.

    \b
    Examples:
      entrepot sql departures --backend snowflake
      entrepot sql flights.departures --reading flights@1a2b3c4d5e6f,weather@6f5e4d3c2b1a
    """
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    read = _versions(reading)
    print(_compiled(settings.load(tenants, state).connect(), name, step, backend, parsed(parameter), read))


def _versions(reading: str | None) -> dict[str, str]:
    """Tables to the versions that are meant."""
    pairs = [each.partition("@") for each in names(reading)]
    if wrong := [f"{name}{at}{version}" for name, at, version in pairs if not (name and version)]:
        raise BadInput(f"cannot read {wrong[0]!r} of --reading; write TABLE@VERSION, as a failure does")
    return {name: version for name, _, version in pairs}


def _compiled(
    tenants: Tenants,
    tenant_name: str,
    step: str,
    backend: str,
    parameters: Mapping[str, Any],
    reading: Mapping[str, str],
) -> str:
    """The SELECT that makes a transform's table, or finds a check's violating rows.

    Raises:
        BadInput: for an unknown step, backend, table or version, or raw tables whose columns nobody knows yet.
    """
    from entrepot import backends
    from entrepot.activities.transform.compilation import select
    from entrepot.identity.expression import schema_from
    from entrepot.planning.resolve import arguments
    from entrepot.worker.cli.resolved import resolved_without_warehouse
    from entrepot.worker.reading import versions

    if backend not in backends.known():
        raise BadInput(unknown("backend", backend, backends.known()))
    tenant = tenants.get(tenant_name)
    pipeline, step_name = _found(tenants, tenant, step)
    chosen = tenants.pipeline(tenant_name, pipeline).graph.steps[step_name]
    if chosen.is_computed_table() and not chosen.is_sql:
        raise BadInput(f"{step_name!r} runs in Python; it has no SQL")
    if not chosen.is_sql:
        raise BadInput(f"{step_name!r} is a {chosen.kind} step; only transforms and checks are SQL")
    graph, resolved, values = resolved_without_warehouse(tenants, tenant, pipeline, parameters, [step_name])
    if not reading:
        return select(backends.dialect(backend), chosen, arguments(chosen, resolved.known, values))
    if strange := reading.keys() - {*graph.table_inputs(chosen)}:
        raise BadInput(f"{step_name!r}: {unknown('input', min(strange), graph.table_inputs(chosen))}")
    found = versions(tenant, pipeline, reading)
    known = {**resolved.known, **{name: schema_from(its.columns) for name, (_, its) in found.items()}}
    places = {name: place for name, (place, _) in found.items()}
    return select(tenant.backend.dialect, chosen, arguments(chosen, known, values), places)


def _found(tenants: Tenants, tenant: Tenant, step: str) -> tuple[str, str]:
    wanted, dot, name = step.partition(".")
    if dot:
        steps = tenants.pipeline(tenant.name, wanted).graph.steps
        if name not in steps:
            raise BadInput(f"pipeline {wanted!r}: {unknown('step', name, steps)}")
        return wanted, name
    graphs = {each: tenants.pipeline(tenant.name, each).graph for each in tenant.pipelines}
    having = [each for each, graph in graphs.items() if step in graph.steps]
    if not having:
        raise BadInput(unknown("step", step, {s for graph in graphs.values() for s in graph.steps}))
    if len(having) > 1:
        raise BadInput(f"several pipelines have a step {step!r}; write {' or '.join(f'{p}.{step}' for p in having)}")
    return having[0], step
