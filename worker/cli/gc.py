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
    sizes = {WHERE[where]: size for where, size in ended["bytes"].items()}
    for warehouse, its in ended["elsewhere"].items():
        _print_elsewhere(warehouse, its, done)
        sizes |= {f"tables on {warehouse}": its["bytes"], f"free in the file of {warehouse}": its["free"]}
    for what, size in sizes.items():
        if size:
            output.out.print(f"  {what:36} {size / 1e6:>10,.2f} MB")
    untold = {WHERE[where]: why for where, why in ended["unknown"].items()}
    untold |= {f"tables on {name}": its["unknown"] for name, its in ended["elsewhere"].items() if its["unknown"]}
    for what, why in untold.items():
        output.out.print(f"  {what}: how many bytes is not known: {why}", soft_wrap=True)


def _print_elsewhere(warehouse: str, its: dict[str, Any], done: str) -> None:
    """What was removed on a further warehouse, or why nothing was."""
    from entrepot.worker.cli import output

    if its["why"]:
        output.out.print(f"  {warehouse}: left alone, since it cannot be used now: {its['why']}", soft_wrap=True)
    for each in its["removed"]:
        output.out.print(f"  {each} on {warehouse}")
    if its["removed"] or its["tables"]:
        removed, tables = output.count(len(its["removed"]), "version"), output.count(its["tables"], "table")
        output.out.print(f"  on {warehouse}: {removed} and {tables} of none {done}, {its['kept']} kept")
