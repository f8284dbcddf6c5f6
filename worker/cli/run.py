"""`entrepot run`."""

from __future__ import annotations

from typing import Annotated

import typer

from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.worker.cli.options import (
    EnvironmentOption,
    JsonOption,
    ParameterOption,
    PipelineArgument,
    SelectOption,
    TenantOption,
    TenantsOption,
    cursor_range,
    run_input,
)


def run(
    pipeline: PipelineArgument,
    tenant: TenantOption = None,
    environment: EnvironmentOption = DEFAULT_ENVIRONMENT,
    select: SelectOption = None,
    parameter: ParameterOption = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ignore saved state and reload everything.")] = False,
    backfill: Annotated[
        str | None, typer.Option(help="Reload a range of the cursor: FROM..TO, where TO is excluded.")
    ] = None,
    replay: Annotated[
        str | None, typer.Option(help="Do not read sources; reuse the landed files of this environment.")
    ] = None,
    force: Annotated[
        str | None, typer.Option(help="Steps to recompute even if nothing changed; same syntax as --select.")
    ] = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Start a run, watch it, and print its summary. Ctrl-C stops watching, not the run.

    \b
    Examples:
      entrepot run flights
      entrepot run flights --select departures+ --environment dev
      entrepot run flights -p late_after=30 --json
      entrepot run shop --select orders+ --backfill 2026-01-01..2026-02-01
      entrepot run shop --environment dev --replay prod
      entrepot run flights --force departures+

    \b
    The same with plain Temporal:
      temporal workflow start --type Pipeline --task-queue entrepot \\
        --workflow-id acme/flights --input '{"tenant": "acme", "pipeline": "flights"}'
    """
    import asyncio

    from entrepot.worker.cli import follow, output
    from entrepot.worker.client import connected, run_workflow_id
    from entrepot.worker.config import settings
    from entrepot.workflows.progress import RunSummary

    name = settings.tenant_of(tenant, tenants)
    value = run_input(name, pipeline, environment, select, parameter)
    options = {"refresh": refresh, "backfill": backfill and cursor_range(backfill), "replay": replay, "force": force}
    value |= {option: given for option, given in options.items() if given}
    workflow_id = run_workflow_id(name, pipeline, environment)

    async def go(left: follow.Left) -> RunSummary:
        async with connected() as client:
            summary = f"{pipeline} for {name} in {environment}"
            handle = await follow.start(client, "Pipeline", value, workflow_id, summary)
            left.is_started = True
            watched = follow.wait_with_hints(client, handle) if as_json else follow.watch(client, handle, output.out)
            return RunSummary.model_validate(await watched)

    with follow.Left(workflow_id, "The run") as left:
        ended = asyncio.run(go(left))
    output.json(ended) if as_json else output.summary(ended)
