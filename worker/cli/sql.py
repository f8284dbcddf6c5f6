"""`entrepot sql`: the SQL of a step for any warehouse, without a connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from entrepot.errors import BadInput, unknown
from entrepot.worker.cli.options import ParameterOption, StateOption, TenantOption, TenantsOption, parsed

if TYPE_CHECKING:
    from entrepot.activities.runtime.tenant import Tenant, Tenants


def sql(
    step: Annotated[str, typer.Argument(help="STEP, or PIPELINE.STEP where several pipelines have it.")],
    backend: Annotated[
        str, typer.Option("--backend", "-b", help="duckdb, snowflake, bigquery or databricks.")
    ] = "duckdb",
    tenant: TenantOption = None,
    parameter: ParameterOption = None,
    tenants: TenantsOption = None,
    state: StateOption = None,
) -> None:
    """Print the SQL of a transform or check for any warehouse, without a connection.

    The columns of raw tables come from the last ingest in the lake, or from what the ingest step declares.

    \b
    Example:
      entrepot sql departures --backend snowflake
    """
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    print(_compiled(settings.load(tenants, state).connect(), name, step, backend, parsed(parameter)))


def _compiled(tenants: Tenants, tenant_name: str, step: str, backend: str, parameters: Mapping[str, Any]) -> str:
    """The SELECT that makes a transform's table, or finds a check's violating rows.

    Raises:
        BadInput: for an unknown step or backend, or raw tables whose columns nobody knows yet.
    """
    from entrepot import backends
    from entrepot.activities.transform.compilation import select
    from entrepot.planning.resolve import arguments
    from entrepot.worker.cli.resolved import resolved_without_warehouse

    if backend not in backends.known():
        raise BadInput(unknown("backend", backend, backends.known()))
    tenant = tenants.get(tenant_name)
    pipeline, step_name = _found(tenants, tenant, step)
    chosen = tenants.pipeline(tenant_name, pipeline).graph.steps[step_name]
    if chosen.is_computed_table() and not chosen.is_sql:
        raise BadInput(f"{step_name!r} runs in Python; it has no SQL")
    if not chosen.is_sql:
        raise BadInput(f"{step_name!r} is a {chosen.kind} step; only transforms and checks are SQL")
    _, resolved, values = resolved_without_warehouse(tenants, tenant, pipeline, parameters, [step_name])
    return select(backends.dialect(backend), chosen, arguments(chosen, resolved.known, values))


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
