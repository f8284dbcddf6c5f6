"""`entrepot dev`."""

from __future__ import annotations

from typing import Annotated

import typer

from entrepot.worker.cli.options import StateOption, TenantsOption, names


def dev(
    tenants: TenantsOption = None,
    state: StateOption = None,
    port: Annotated[int, typer.Option(help="Port of the Temporal server.")] = 7233,
    ui_port: Annotated[int, typer.Option(help="Port of the Web UI.")] = 8233,
    standins: Annotated[
        str | None, typer.Option(help="Local stand-ins beside the tenants' warehouses: snowflake,bigquery,databricks.")
    ] = None,
) -> None:
    """Run a Temporal server, its Web UI and a worker until Ctrl-C. Pipelines are reloaded when they change.

    \b
    Examples:
      entrepot dev, and in another terminal: entrepot run flights
      entrepot dev --standins snowflake,bigquery, and then: entrepot parity flights
    """
    from entrepot.worker import process
    from entrepot.worker.config import settings
    from entrepot.worker.local.dev import serve

    process.run(serve(settings.load(tenants, state), port, ui_port, names(standins)))
