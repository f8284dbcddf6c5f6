"""`entrepot rollback`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.worker.cli.options import (
    EnvironmentOption,
    JsonOption,
    PipelineArgument,
    TenantOption,
    TenantsOption,
)


def rollback(
    pipeline: PipelineArgument,
    tenant: TenantOption = None,
    environment: EnvironmentOption = DEFAULT_ENVIRONMENT,
    to: Annotated[
        str | None, typer.Option(help="Run whose publish to go back to. Default: the last publish but one.")
    ] = None,
    cursor: Annotated[
        bool,
        typer.Option(
            "--cursor", help="Roll the ingest states back, too: the next run reads the gap from the sources again."
        ),
    ] = False,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Point an environment at what it showed after an earlier publish. No data is computed or copied.

    \b
    Example:
      entrepot rollback flights --to 01a1ff1b
    """
    from entrepot.worker.cli import follow, output
    from entrepot.worker.client import run_workflow_id
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    value: dict[str, Any] = {"tenant": name, "pipeline": pipeline, "environment": environment}
    value |= {option: given for option, given in {"to": to, "cursor": cursor}.items() if given}
    workflow_id = f"{run_workflow_id(name, pipeline, environment)}:rollback"
    ended = follow.execute("Rollback", value, workflow_id, f"Rollback of {pipeline} for {name}")
    if as_json:
        output.json(ended)
    elif ended["moved"]:
        output.out.print(f"✓ {environment} moved back: {', '.join(ended['moved'])}", soft_wrap=True)
        if ahead := ended["ahead"]:
            output.out.print(
                f"  {', '.join(ahead)}: the next run continues after the newest load and shows the hidden rows again; "
                "with --cursor it would read the gap from the source again",
                soft_wrap=True,
            )
        output.behind(ended["behind"])
    else:
        output.out.print(f"✓ nothing to do: {environment} already shows that")
