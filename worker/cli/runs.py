"""`entrepot runs`."""

from __future__ import annotations

from typing import Annotated

import typer

from entrepot.language.names import ENVIRONMENT, PIPELINE
from entrepot.worker.cli.options import JsonOption, TenantOption, TenantsOption, named


def runs(
    pipeline: Annotated[
        str | None, typer.Argument(help="Pipeline name. Default: every pipeline.", callback=named(PIPELINE))
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option("--environment", "-e", help="Only those for this environment.", callback=named(ENVIRONMENT)),
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """List a tenant's runs, newest first: when, for how long, what caused them, what came of them.

    \b
    Examples:
      entrepot runs
      entrepot runs flights -e prod --json
    """
    from entrepot.planning.plan import short
    from entrepot.protocol import activities
    from entrepot.worker.cli import follow, output
    from entrepot.worker.config import settings

    value = {"tenant": settings.tenant_of(tenant, tenants)}
    value |= {name: given for name, given in {"pipeline": pipeline, "environment": environment}.items() if given}
    rows = follow.execute_activity(activities.RUNS.name, value)
    if as_json:
        output.json(rows)
        return
    if not rows:
        output.out.print("✓ no runs")
        return
    lines = [
        (
            row["started_at"],
            "" if row["seconds"] is None else f"{row['seconds']:,.1f} s",
            row["pipeline"],
            row["environment"],
            row["status"],
            short(row["run"]),
            row["what"],
            row["cause"],
        )
        for row in rows
    ]
    output.rows(("started at (UTC)", "took", "pipeline", "in", "", "run", "", "caused by"), lines)
