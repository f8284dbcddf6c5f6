"""`entrepot checks`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from entrepot.worker.cli.options import JsonOption, PipelineArgument, TenantOption, TenantsOption


def checks(
    pipeline: PipelineArgument,
    table: Annotated[str | None, typer.Option(help="Only checks that guard this table.")] = None,
    run: Annotated[str | None, typer.Option(help="Only this run: its id, or the beginning of it.")] = None,
    environment: Annotated[
        str | None, typer.Option("--environment", "-e", help="Only runs in this environment, and what it shows now.")
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """List the violating rows that checks have found and stored, newest first.

    \b
    Examples:
      entrepot checks flights
      entrepot checks flights --table departures --environment prod
    """
    from entrepot.protocol import activities
    from entrepot.worker.cli import follow, output
    from entrepot.worker.config import settings

    value = {"tenant": settings.tenant_of(tenant, tenants), "pipeline": pipeline}
    value |= {n: v for n, v in {"table": table, "run": run, "environment": environment}.items() if v}
    rows = follow.execute_activity(activities.CHECKS.name, value)
    if as_json:
        output.json(rows)
    elif rows:
        _show(rows)
    else:
        output.out.print("✓ no violating rows")


def _show(rows: Iterable[dict[str, Any]]) -> None:
    from json import dumps

    from entrepot.language.names import CONTRACT_SUFFIX
    from entrepot.planning.plan import short
    from entrepot.worker.cli import output

    for row in rows:
        what = "rule" if row["check"].endswith(CONTRACT_SUFFIX) else "row"
        where = ", ".join(row["environments"]) or "no environment"
        found = output.count(row["violations"], f"violating {what}")
        when = f"{row['checked_at']} UTC · run {short(row['run'])}"
        about = f" of {', '.join(row['guards'])} · {found} ({row['severity']}) · {when} · {where}"
        output.heading(row["check"], about)
        for each in row["sample"]:
            output.out.print(f"  {dumps(each, ensure_ascii=False, default=str)}", soft_wrap=True)
