"""`entrepot show`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from entrepot.errors import BadInput
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.worker.cli.options import (
    EnvironmentOption,
    JsonOption,
    PipelineArgument,
    StateOption,
    TenantOption,
    TenantsOption,
)

_PATIENCE_SECONDS = 2.0


def show(
    pipeline: PipelineArgument,
    table: Annotated[str, typer.Argument(help="TABLE, or TABLE@VERSION.")],
    environment: EnvironmentOption = DEFAULT_ENVIRONMENT,
    version: Annotated[
        str | None, typer.Option(help="Any version of it, or how one begins: see `entrepot versions`.")
    ] = None,
    where: Annotated[
        str | None, typer.Option(help="Only rows for which this holds: a condition in the warehouse's SQL.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most rows that are shown.")] = 20,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
    state: StateOption = None,
) -> None:
    """Print rows of a table that an environment shows, or of any version, while runs go on. Needs no server.

    \b
    Examples:
      entrepot show flights daily_delays
      entrepot show flights departures --where "origin = 'JFK' AND dep_delay > 60" --limit 5 --json
      entrepot show flights daily_delays@4f0c
    """
    from threading import Timer

    from entrepot.worker import reading
    from entrepot.worker.cli import output

    name, at, given = table.partition("@")
    if at and version not in (None, given):
        raise BadInput(f"{table!r} and --version {version!r} name two versions; name one")
    if at and not given:
        raise BadInput(f"{table!r} names no version; write TABLE@VERSION")
    chosen = reading.tenant_named(tenant, tenants, state)
    waiting = Timer(_PATIENCE_SECONDS, output.err.print, [f"waiting for the {chosen.backend.place} ..."])
    waiting.start()
    try:
        columns, rows = reading.rows(chosen, pipeline, name, environment, where, limit, given or version)
    finally:
        waiting.cancel()
    if as_json:
        output.json(rows)
    elif rows:
        output.rows(columns, [[_text(row[name]) for name in columns] for row in rows])
    else:
        output.out.print("✓ no rows")


def _text(value: Any) -> str:
    return "NULL" if value is None else str(value)
