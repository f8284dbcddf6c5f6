"""`entrepot schedules`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

import typer

from entrepot.worker.cli.options import TenantsOption

if TYPE_CHECKING:
    from temporalio.client import Client

    from entrepot.worker.config.settings import Settings
    from entrepot.worker.schedules.changes import Change


group = typer.Typer(help="Reconcile Temporal's schedules and triggers with the tenant file.", no_args_is_help=True)


@group.command()
def plan(tenants: TenantsOption = None) -> None:
    """Show what `apply` would create, change or delete. Exit code 1 if there is anything.

    \b
    Example:
      entrepot schedules plan --tenants tenants.toml
    """
    from entrepot.worker.schedules import reconcile

    if any(change.is_change for change in _reconciled(reconcile.plan, tenants)):
        raise SystemExit(1)


@group.command()
def apply(tenants: TenantsOption = None) -> None:
    """Make Temporal's schedules and triggers match the tenant file. Applying again changes nothing.

    \b
    Example:
      entrepot schedules apply --tenants tenants.toml
    """
    from entrepot.worker.schedules import reconcile

    _reconciled(reconcile.apply, tenants)


def _reconciled(
    reconcile: Callable[[Client, Settings], Awaitable[Sequence[Change]]], tenants: str | None
) -> Sequence[Change]:
    import asyncio

    from entrepot.worker.cli import output
    from entrepot.worker.client import connected
    from entrepot.worker.config import settings

    loaded = settings.load(tenants)

    async def go() -> Sequence[Change]:
        async with connected() as client:
            return await reconcile(client, loaded)

    changes = asyncio.run(go())
    for change in changes:
        output.out.print(change.sentence, soft_wrap=True)
    if not changes:
        output.out.print("The tenant file has no schedules and no triggers, and Temporal has none of ours.")
    return changes
