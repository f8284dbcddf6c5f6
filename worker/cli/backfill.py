"""`entrepot backfill`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from entrepot.errors import BadInput
from entrepot.language.names import DEFAULT_ENVIRONMENT
from entrepot.worker.cli.options import (
    EnvironmentOption,
    JsonOption,
    ParameterOption,
    PipelineArgument,
    SelectOption,
    TenantOption,
    TenantsOption,
    bound,
    cursor_range,
    run_input,
)

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHandle

    from entrepot.protocol.backfills import BackfillProgress


def backfill(
    pipeline: PipelineArgument,
    interval: Annotated[
        str | None,
        typer.Argument(metavar="[FROM..TO]", help="The range of the cursor, TO excluded. Default: tell how far it is."),
    ] = None,
    tenant: TenantOption = None,
    environment: EnvironmentOption = DEFAULT_ENVIRONMENT,
    select: SelectOption = None,
    every: Annotated[
        str, typer.Option(help="Length of an interval: hour, day, week, month, year; of numbers, how many.")
    ] = "day",
    at_once: Annotated[
        int | None, typer.Option(min=1, max=50, help="Intervals side by side; also while it goes on. Default: 4.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Load all intervals, also those that an unfinished backfill has loaded.")
    ] = False,
    pause: Annotated[bool, typer.Option("--pause", help="Begin no further interval.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on after --pause.")] = False,
    parameter: ParameterOption = None,
    as_json: JsonOption = False,
    tenants: TenantsOption = None,
) -> None:
    """Load a range of the past again, interval by interval, then compute and publish what follows from it.

    It goes behind scheduled runs. One that failed or was cancelled loads what is left when it is started again.

    \b
    Examples:
      entrepot backfill shop 2026-01-01..2026-03-01 --select orders+
      entrepot backfill shop 0..1000000 --every 50000 --select events+ --at-once 8
      entrepot backfill shop
      entrepot backfill shop --pause
      entrepot backfill shop --resume
      entrepot backfill shop --at-once 2

    \b
    The same with plain Temporal:
      temporal workflow start --type Backfill --task-queue entrepot --workflow-id acme/shop:backfill \\
        --input '{"tenant": "acme", "pipeline": "shop", "start": "2026-01-01", "end": "2026-03-01"}'
    """
    import asyncio

    from entrepot.worker.cli import follow, output
    from entrepot.worker.client import backfill_workflow_id, connected
    from entrepot.worker.config import settings

    name = settings.tenant_of(tenant, tenants)
    workflow_id = backfill_workflow_id(name, pipeline, environment)
    whose = f"backfill of {pipeline!r} for {name!r} in {environment!r}"
    value = run_input(name, pipeline, environment, select, parameter)
    if interval is not None:
        if pause or resume:
            raise BadInput(f"--pause and --resume are of a {whose} that goes on: leave {interval!r} out")
        value |= {**cursor_range(interval), "every": bound(every), "again": again}
        value |= {"at_once": at_once} if at_once is not None else {}
    elif again or select or parameter:
        raise BadInput("a new backfill takes a range FROM..TO")

    async def go(left: follow.Left) -> BackfillProgress:
        async with connected() as client:
            if interval is None:
                return await _changed(client, workflow_id, whose, pause=pause, resume=resume, at_once=at_once)
            handle = await follow.start(client, "Backfill", value, workflow_id, f"{pipeline} for {name}, {interval}")
            left.is_started = True
            return await _watched(client, handle, is_quiet=as_json)

    with follow.Left(workflow_id, "The backfill") as left:
        ended = asyncio.run(go(left))
    if as_json:
        output.json(ended)
        return
    output.out.print(f"{'✓ ' if ended.stage == 'done' else ''}{ended.line}", soft_wrap=True)
    for each in ended.failed:
        output.out.print(f"✗ {each}", soft_wrap=True)
    if ended.run:
        output.out.print(f"  {ended.rows:,} rows loaded · {ended.outcome} by run {ended.run}", soft_wrap=True)


async def _changed(
    client: Client, workflow_id: str, whose: str, *, pause: bool, resume: bool, at_once: int | None
) -> BackfillProgress:
    """How far a backfill is, after it was told what is asked of it.

    Raises:
        BadInput: if there is none, or it may not be told that now.
    """
    from temporalio.client import WorkflowUpdateFailedError
    from temporalio.service import RPCError, RPCStatusCode

    from entrepot.protocol.backfills import BackfillProgress

    handle = client.get_workflow_handle(workflow_id)
    updates: list[tuple[str, list[Any]]] = [("pause", [])] if pause else []
    updates += [("resume", [])] if resume else []
    updates += [("at_once", [at_once])] if at_once is not None else []
    try:
        for name, given in updates:
            await handle.execute_update(name, args=given)
        found: BackfillProgress = await handle.query("progress", result_type=BackfillProgress)
    except WorkflowUpdateFailedError as error:
        raise BadInput(f"{whose}: {getattr(error.cause, 'message', error.cause)}") from None
    except RPCError as error:
        if error.status != RPCStatusCode.NOT_FOUND:
            raise
        told = "is over: there is nothing to change" if "completed" in str(error) else "is not known to Temporal"
        raise BadInput(f"the {whose} {told}") from None
    return found


async def _watched(client: Client, handle: WorkflowHandle[Any, Any], *, is_quiet: bool) -> BackfillProgress:
    """Waits for the result. Meanwhile a line says how far it is, whenever that changes, but not too often."""
    import asyncio

    from entrepot.protocol.backfills import BackfillProgress
    from entrepot.worker.cli import follow, output

    ending = asyncio.create_task(follow.wait_with_hints(client, handle))
    seen, pause = "", follow.POLL_SECONDS
    notes: tuple[str, ...] = ()
    while not (await asyncio.wait({ending}, timeout=pause))[0]:
        found = None if is_quiet else await follow.progress(handle, BackfillProgress)
        if found is None:
            continue
        for note in found.notes[len(notes) :]:
            output.out.print(note, soft_wrap=True)
        notes = found.notes
        if found.total and found.line != seen:
            output.out.print(seen := found.line, soft_wrap=True)
            pause = min(2 * pause, _SELDOM)
    return BackfillProgress.model_validate(ending.result())


_SELDOM = 10.0
"""Seconds between two lines of a long backfill."""
