"""`entrepot restore`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from entrepot.language.names import PIPELINE
from entrepot.worker.cli.options import TenantOption, TenantsOption, named


def restore(
    pipeline: Annotated[
        str | None, typer.Argument(help="Pipeline. Default: all that the tenant runs.", callback=named(PIPELINE))
    ] = None,
    from_lake: Annotated[bool, typer.Option("--from-lake", help="Read back what the lake has of the loads.")] = False,
    tenant: TenantOption = None,
    tenants: TenantsOption = None,
) -> None:
    """Bring a warehouse back that was lost with its catalog: raw tables and ingest states, from the lake. The next run
    computes the rest, and asks the sources for what came since.

    \b
    Example:
      entrepot restore --from-lake
    """
    from entrepot.errors import BadInput
    from entrepot.worker.cli import follow, output
    from entrepot.worker.config import settings

    if not from_lake:
        raise BadInput("say from where: `entrepot restore --from-lake` reads back what the lake has")
    name = settings.tenant_of(tenant, tenants)
    value: dict[str, Any] = {"tenant": name, "from_lake": True, **({"pipeline": pipeline} if pipeline else {})}
    restored = follow.execute("Repair", value, f"{name}:repair", f"Restore of {name} from its lake")
    for each in restored["found"]:
        output.out.print(f"✓ {each}", soft_wrap=True)
    for each in restored["left"]:
        output.failure(each)
    if not restored["found"] and not restored["left"]:
        output.out.print("✓ nothing to do: the catalog has all that the lake has loaded")
    if restored["left"]:
        raise SystemExit(1)
