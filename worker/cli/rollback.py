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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would move.")] = False,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Point an environment at what it showed after an earlier publish. No data is computed or copied.

    \b
    Examples:
      entrepot rollback flights --to 01a1ff1b --dry-run
      entrepot rollback flights --to 01a1ff1b
    """
    from entrepot.protocol import activities
    from entrepot.worker.cli import follow, output
    from entrepot.worker.client import run_workflow_id
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    value: dict[str, Any] = {"tenant": name, "pipeline": pipeline, "environment": environment}
    value |= {option: given for option, given in {"to": to, "cursor": cursor}.items() if given}
    # First by itself: what cannot be done fails here, and stands nowhere as a workflow that failed.
    would = follow.execute_activity(activities.ROLLBACK.name, {**value, "dry_run": True}, dict)
    if dry_run:
        _tell_plan(environment, would, as_json=as_json)
        return
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


def _tell_plan(environment: str, would: dict[str, Any], *, as_json: bool) -> None:
    from entrepot.worker.cli import output

    if as_json:
        output.json(would)
    elif would["moved"]:
        output.out.print(f"✓ {environment} would move back: {', '.join(would['moved'])}", soft_wrap=True)
    else:
        output.out.print(f"✓ nothing to do: {environment} already shows that")
