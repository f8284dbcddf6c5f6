"""`entrepot freshness`."""

from __future__ import annotations

from typing import Annotated

import typer

from entrepot.language.names import PIPELINE
from entrepot.worker.cli.options import EnvironmentOption, JsonOption, TenantOption, TenantsOption, named


def freshness(
    pipeline: Annotated[
        str | None, typer.Argument(help="Pipeline name. Default: every pipeline.", callback=named(PIPELINE))
    ] = None,
    environment: EnvironmentOption = "prod",
    tenant: TenantOption = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Tell of each table with `fresh_within` whether it is fresh, late or unknown, since when, and why.

    The exit code is 1 if one is late.

    \b
    Examples:
      entrepot freshness
      entrepot freshness flights -e prod --json
    """
    from entrepot.protocol import activities
    from entrepot.worker.cli import follow, output
    from entrepot.worker.config import settings

    value = {"tenant": settings.tenant_of(tenant, tenants), "environment": environment}
    value |= {"pipeline": pipeline} if pipeline else {}
    rows = follow.execute_activity(activities.FRESHNESS.name, value)
    if as_json:
        output.json(rows)
    elif rows:
        when = {"fresh": "until ", "late": "since ", "unknown": ""}
        lines = [
            (
                row["pipeline"],
                row["table"],
                row["state"],
                when[row["state"]] + row["due"],
                row["fresh_within"],
                row["reason"],
            )
            for row in rows
        ]
        output.rows(("pipeline", "table", "", "(UTC)", "promised", "why"), lines)
    else:
        output.out.print("✓ no table promises to be fresh")
    if any(row["state"] == "late" for row in rows):
        raise typer.Exit(1)
