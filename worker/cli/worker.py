"""`entrepot worker`."""

from __future__ import annotations

from typing import Annotated

import typer

from entrepot.worker.cli.options import StateOption, TenantsOption


def worker(
    tenants: TenantsOption = None,
    state: StateOption = None,
    slots: Annotated[int, typer.Option(min=1, help="Most steps that run at the same time.")] = 16,
    listen: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT, or PORT of this machine alone, for /health, /ready and /metrics. Default: none.",
            envvar="ENTREPOT_LISTEN",
        ),
    ] = None,
    logs: Annotated[
        str, typer.Option(help="text, or json: a line an event, with its tenant, run and step.", envvar="ENTREPOT_LOGS")
    ] = "text",
) -> None:
    """Serve every tenant of the tenant file until SIGTERM. Connects as the temporal CLI does (TEMPORAL_ADDRESS ...).

    With TEMPORAL_DEPLOYMENT_NAME it is a version of that deployment: runs stay on the code that they began with, and
    it gets new ones when it is told so by `entrepot deployments`.

    \b
    Examples:
      TEMPORAL_ADDRESS=temporal:7233 entrepot worker --tenants tenants.toml --listen 9464
      TEMPORAL_DEPLOYMENT_NAME=entrepot entrepot worker
    """
    from contextlib import nullcontext, suppress

    from entrepot.activities.runtime.isolation.processes import PROCESSES
    from entrepot.worker import process
    from entrepot.worker.client import connect
    from entrepot.worker.config import settings
    from entrepot.worker.deployments import build
    from entrepot.worker.local.dev import free_port
    from entrepot.worker.telemetry import health
    from entrepot.worker.telemetry.logs import configure, log, runtime

    if listen:
        health.parsed(listen)
    configure(form=logs)
    loaded = settings.load(tenants, state)
    served = loaded.connect()
    if loaded.is_in_state:
        with suppress(OSError):  # told where something is to be written there
            settings.make_state(loaded.state)
    deployment = build.deployment(served.registry.references.values())
    process.warm_up()
    PROCESSES.fork_here()
    port = free_port()
    own = runtime(f"{health.HOST}:{port}" if listen else None)

    async def serve() -> None:
        client = await connect(runtime=own)
        where, version = client.service_client.config.target_host, deployment.version
        code = f"build {version.build_id}" + (
            f" of deployment {version.deployment_name}" if version.deployment_name else ""
        )
        log.info("serving %s from %s: %s", ", ".join(served.tenants), where, code)
        listening = health.listening(client, listen, port) if listen else nullcontext()
        async with listening, process.serving(client, served, slots=slots, deployment=deployment) as stop:
            await stop.wait()

    process.run(serve())
