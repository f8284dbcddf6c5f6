"""`entrepot worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from entrepot.worker.cli.options import StateOption, TenantsOption


def worker(
    tenants: TenantsOption = None,
    state: StateOption = None,
    slots: Annotated[int, typer.Option(min=1, help="Most activities that run at the same time.")] = 16,
) -> None:
    """Serve every tenant of the tenant file until SIGTERM. Connects as the temporal CLI does (TEMPORAL_ADDRESS ...).

    \b
    Example:
      TEMPORAL_ADDRESS=temporal:7233 entrepot worker --tenants tenants.toml
    """
    import asyncio

    from entrepot.worker import logs, process
    from entrepot.worker.client import connect
    from entrepot.worker.config import settings

    logs.configure()
    served = settings.load(tenants, state).connect()
    process.warm_up()

    async def serve() -> None:
        client = await connect(runtime=logs.runtime())
        logs.log.info("serving %s from %s", ", ".join(served.tenants), client.service_client.config.target_host)
        async with process.serving(client, served, slots=slots) as stop:
            await stop.wait()

    asyncio.run(serve())
