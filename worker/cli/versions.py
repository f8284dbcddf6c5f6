"""`entrepot versions`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from entrepot.worker.cli.options import JsonOption, PipelineArgument, TenantOption, TenantsOption


def versions(
    pipeline: PipelineArgument, tenant: TenantOption = None, as_json: JsonOption = False, tenants: TenantsOption = None
) -> None:
    """List every version of a pipeline's tables, models and pages, and the environments that show it.

    \b
    Example:
      entrepot versions flights --json
    """
    from entrepot.protocol import activities
    from entrepot.worker.cli import follow, output
    from entrepot.worker.config import settings

    rows = follow.execute_activity(
        activities.VERSIONS.name, {"tenant": settings.tenant_of(tenant, tenants), "pipeline": pipeline}
    )
    output.json(rows) if as_json else _show(rows)


def _show(rows: Iterable[dict[str, Any]]) -> None:
    from rich.text import Text

    from entrepot.planning.plan import short
    from entrepot.worker.cli import output

    table = output.table("name", "kind", "version", "rows", "made at (UTC)", "run", "in", "")
    for row in rows:
        shown = ", ".join(row["environments"])
        table.add_row(
            row["name"],
            row["kind"],
            row["version"],
            f"{row['rows']:,}" if row["rows"] is not None else "",
            row["made_at"],
            short(row["run"]),
            shown,
            Text(row["note"], overflow="ellipsis", no_wrap=True),
            style=None if shown else "dim",
        )
    output.show(table)
