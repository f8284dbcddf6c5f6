"""The commands that look after what runs have made: what is not needed, not shown any more, or was changed by hand."""

from __future__ import annotations

from typing import Any

from entrepot.worker.cli.commands import tenant_of, wait_for


def gc(
    pipeline: str | None,
    tenant: str | None,
    tenants: str | None,
    keep_days: float,
    keep_publishes: int,
    dry_run: bool,
    json: bool,
) -> None:
    """`entrepot gc`."""
    from entrepot.worker.cli import follow, output

    name = tenant_of(tenant, tenants)
    value: dict[str, Any] = {"tenant": name, "keep_days": keep_days, "keep_publishes": keep_publishes}
    value |= {"dry_run": dry_run, **({"pipeline": pipeline} if pipeline else {})}
    id = f"{follow.workflow_id(name, pipeline) if pipeline else name}:gc"
    ended = wait_for("Gc", value, id, f"Collection of {pipeline or 'everything'} for {name}")
    if json:
        output.json(ended)
        return
    for each in ended["removed"]:
        output.out.print(f"  {each}")
    done = "would be removed" if dry_run else "removed"
    for each in ended["left"]:
        output.out.print(f"  {each}: of a pipeline that {name} does not run any more", soft_wrap=True)
    for each in ended["waiting"]:
        why = (
            f"of a pipeline that {name} does not run any more; stays, since it was published within {keep_days:g} days"
        )
        output.out.print(f"  {each}: {why}", soft_wrap=True)
    removed = output.count(len(ended["removed"]), "version")
    output.out.print(f"✓ {removed} {done} ({ended['rows']:,} rows), {ended['kept']} stay")


def env_drop(
    environment: str, pipeline: str | None, tenant: str | None, tenants: str | None, dry_run: bool, json: bool
) -> None:
    """`entrepot env drop`."""
    from entrepot.worker.cli import output

    name = tenant_of(tenant, tenants)
    value = {"tenant": name, "environment": environment, "dry_run": dry_run}
    value |= {"pipeline": pipeline} if pipeline else {}
    ended = wait_for("Drop", value, f"{name}:drop:{environment}", f"Drop of {environment} for {name}")
    if json:
        output.json(ended)
        return
    for its, shown in ended["removed"].items():
        for each in shown:
            output.out.print(f"  {each}")
        done = "would be dropped" if dry_run else "dropped"
        output.out.print(f"✓ {environment} of {its} {done}: {output.count(len(shown), 'name')}", soft_wrap=True)


def repair(tenants: str | None) -> None:
    """`entrepot doctor --repair`."""
    from entrepot.worker.cli import output
    from entrepot.worker.config import settings

    left: list[str] = []
    for name in settings.tenant_names(tenants):
        repaired = wait_for("Repair", {"tenant": name}, f"{name}:repair", f"Repair of {name}")
        for each in repaired["found"]:
            output.out.print(f"  {name}: {each}", soft_wrap=True)
        left += [f"{name}: {each}" for each in repaired["left"]]
        output.out.print(f"✓ {name}: {output.count(len(repaired['found']), 'finding')} repaired")
    for each in left:
        output.failure(each)
    if left:
        raise SystemExit(1)
