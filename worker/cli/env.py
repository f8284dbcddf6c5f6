"""`entrepot env`."""

from __future__ import annotations

from typing import Annotated

import typer

from entrepot.language.names import ENVIRONMENT, PIPELINE
from entrepot.worker.cli.options import DryRunOption, JsonOption, TenantOption, TenantsOption, named

group = typer.Typer(help="Manage a tenant's environments.", no_args_is_help=True)


@group.command()
def drop(
    environment: Annotated[str, typer.Argument(help="Environment name, such as pr_12.", callback=named(ENVIRONMENT))],
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", help="Default: every pipeline that has something there.", callback=named(PIPELINE)),
    ] = None,
    tenant: TenantOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Drop an environment: its views, files and history. Its versions are removed by the next `entrepot gc`.

    \b
    Examples:
      entrepot env drop pr_12
      entrepot env drop prod --pipeline old_name

    \b
    The same with plain Temporal:
      temporal workflow start --type Drop --task-queue entrepot \\
        --workflow-id acme:drop:pr_12 --input '{"tenant": "acme", "environment": "pr_12"}'
    """
    from entrepot.worker.cli import follow, output
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    value = {"tenant": name, "environment": environment, "dry_run": dry_run}
    value |= {"pipeline": pipeline} if pipeline else {}
    ended = follow.execute("Drop", value, f"{name}:drop:{environment}", f"Drop of {environment} for {name}")
    if as_json:
        output.json(ended)
        return
    done = "would be dropped" if dry_run else "dropped"
    for owner, shown in ended["removed"].items():
        for each in shown:
            output.out.print(f"  {each}")
        output.out.print(f"✓ {environment} of {owner} {done}: {output.count(len(shown), 'name')}", soft_wrap=True)
