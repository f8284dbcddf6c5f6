"""`entrepot gc`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from entrepot.language.names import PIPELINE
from entrepot.worker.cli.options import DryRunOption, JsonOption, TenantOption, TenantsOption, named

WHERE = {
    "tables": "tables in the warehouse",
    "lake": "files in the lake",
    "free": "free in the warehouse's own file",
    "scratch": "scratch of workers that were killed",
}
"""The places of a result's bytes, for people."""


def gc(
    pipeline: Annotated[
        str | None,
        typer.Argument(
            help="Default: every pipeline, also those that the tenant no longer runs.", callback=named(PIPELINE)
        ),
    ] = None,
    tenant: TenantOption = None,
    keep_days: Annotated[float, typer.Option(min=0, help="Retention period in days; younger versions are kept.")] = 7,
    keep_publishes: Annotated[
        int,
        typer.Option(min=1, help="Latest publishes of each environment whose versions are kept, for rollbacks."),
    ] = 3,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Remove unreferenced versions older than the retention period, and what pipelines that no longer run still show.

    \b
    Examples:
      entrepot gc flights --keep-days 30 --dry-run
      entrepot gc
    """
    from entrepot.worker.cli import follow, output
    from entrepot.worker.client import gc_workflow_id
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    value: dict[str, Any] = {"tenant": name, "keep_days": keep_days, "keep_publishes": keep_publishes}
    value |= {"dry_run": dry_run, **({"pipeline": pipeline} if pipeline else {})}
    workflow_id = gc_workflow_id(name, pipeline)
    ended = follow.execute("Gc", value, workflow_id, f"Garbage collection of {pipeline or 'everything'} for {name}")
    if as_json:
        output.json(ended)
        return
    for each in ended["removed"]:
        output.out.print(f"  {each}")
    done = "would be removed" if dry_run else "removed"
    retired = f"of a pipeline that {name} no longer runs"
    for each in ended["left"]:
        output.out.print(f"  {each}: {retired}", soft_wrap=True)
    for each in ended["waiting"]:
        why = f"{retired}; kept, since it was published within {keep_days:g} days"
        output.out.print(f"  {each}: {why}", soft_wrap=True)
    removed = output.count(len(ended["removed"]), "version")
    output.out.print(f"✓ {removed} {done} ({ended['rows']:,} rows), {ended['kept']} kept")
    for each in ended["expired"]:
        output.out.print(f"  {each}: expired, and {'would be dropped' if dry_run else 'dropped'}", soft_wrap=True)
    for each in ended["later"]:
        why = "left for the next time, since a run goes on that is not planned yet"
        output.out.print(f"  {each}: {why}", soft_wrap=True)
    if ended["tables"] or ended["files"]:
        tables, files = output.count(ended["tables"], "table"), output.count(ended["files"], "file")
        output.out.print(f"  beside versions: {tables} of none and {files} in the lake {done}")
    for where, size in ended["bytes"].items():
        if size:
            output.out.print(f"  {WHERE[where]:36} {size / 1e6:>10,.2f} MB")
    for where, why in ended["unknown"].items():
        output.out.print(f"  {WHERE[where]}: how many bytes is not known: {why}", soft_wrap=True)
