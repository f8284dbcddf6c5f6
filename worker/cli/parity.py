"""`entrepot parity`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.worker.cli.options import (
    EnvironmentOption,
    JsonOption,
    ParameterOption,
    PipelineArgument,
    SelectOption,
    TenantOption,
    TenantsOption,
    names,
    run_input,
)

if TYPE_CHECKING:
    from entrepot.protocol.parity import ParityReport, Side

_FEW = 3
"""Values and rows that a terminal shows of a difference; the report has more."""
_LONGEST_SQL = 160


def parity(
    pipeline: PipelineArgument,
    on: Annotated[
        str | None, typer.Option(help="Warehouses, comma-separated; the first is the reference. Default: all.")
    ] = None,
    tenant: TenantOption = None,
    environment: EnvironmentOption = DEFAULT_ENVIRONMENT,
    select: SelectOption = None,
    parameter: ParameterOption = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Compare every table again, also those that are certified already.")
    ] = False,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Compute every table on several warehouses from the same load, and compare. Exit code 1 if they differ.

    \b
    Example:
      entrepot parity flights --on duckdb,snowflake
    """
    import asyncio

    from entrepot.protocol.parity import ParityReport
    from entrepot.worker.cli import follow, output
    from entrepot.worker.client import connected, run_workflow_id
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    value = run_input(name, pipeline, environment, select, parameter) | {"on": names(on), "fresh": fresh}
    workflow_id = f"{run_workflow_id(name, pipeline, environment)}:parity"

    async def go(left: follow.Left) -> Any:
        async with connected() as client:
            handle = await follow.start(client, "Parity", value, workflow_id, f"Parity of {pipeline} for {name}")
            left.is_started = True
            # With JSON, on standard error: it may take an hour, and nobody waits for that long in silence.
            return await follow.watch(client, handle, output.err if as_json else output.out)

    with follow.Left(workflow_id) as left:
        report = ParityReport.model_validate(asyncio.run(go(left)))
    output.json(report) if as_json else show(report)
    if not report.agrees:
        raise SystemExit(1)


def show(report: ParityReport) -> None:
    """What a comparison found, and where its report is."""
    from entrepot.worker.cli import output

    first, *others = report.on
    lines = []
    for table in report.tables:
        counted = f"{table.rows:,}" if table.rows is not None else ""
        lines.append((table.name, counted, table.digest[:12], *(_mark(side) for side in table.sides)))
    output.rows(("table", "rows", first, *others), lines)
    for table in report.tables:
        for side in table.sides:
            if not side.agrees:
                line = f"{table.name} on {side.backend}: {side.why or side.verdict}"
                output.out.print(line, style="red", soft_wrap=True)
                _difference(side, first)
    for run in dict.fromkeys((s.certified_by, s.certified_at) for t in report.tables for s in t.sides if s.certified):
        certified = [t.name for t in report.tables for s in t.sides if (s.certified_by, s.certified_at) == run]
        named = ", ".join(dict.fromkeys(certified))
        output.out.print(f"certified by run {run[0]} on {run[1]}: {named}", style="dim", soft_wrap=True)
    agree = sum(table.agrees for table in report.tables)
    mark = "✓" if report.agrees else "✗"
    line = f"{mark} {agree} of {output.count(len(report.tables), 'table')} agree ({report.seconds:.1f} s)"
    output.out.print(f"{line}: {report.link or 'its page could not be written'}", soft_wrap=True)


def _difference(side: Side, first: str) -> None:
    """Some of what differs: values, rows that one side alone has, and the statement that failed."""
    from entrepot.worker.cli.output import out

    for cell in side.cells[:_FEW]:
        key = ", ".join(f"{name} = {value}" for name, value in cell.key.items())
        line = f"  {cell.column} where {key}: {cell.left} on {first}, {cell.right} on {side.backend}"
        out.print(line, soft_wrap=True)
    for where, alone in ((first, side.only_left), (side.backend, side.only_right)):
        for row in alone[:_FEW]:
            cells = ", ".join(f"{name} = {'NULL' if value is None else value}" for name, value in row.items())
            out.print(f"  only on {where}: {cells}", soft_wrap=True)
        if len(alone) > _FEW:
            out.print(f"  only on {where}: {len(alone) - _FEW} more are in the report")
    if side.verdict == "not compared" and side.sql:
        out.print(f"  the statement that failed: {' '.join(side.sql.split())[:_LONGEST_SQL]}… (whole in the report)")


def _mark(side: Side) -> str:
    return f"{'✓' if side.agrees else '✗'} {side.verdict}"
