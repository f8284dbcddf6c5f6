"""`entrepot doctor`: everything that a run needs, looked at one by one, with what helps where something is wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from entrepot.errors import EntrepotError, listed
from entrepot.worker.cli.options import StateOption, TenantsOption

if TYPE_CHECKING:
    from temporalio.client import Client

    from entrepot.activities.runtime.tenant import Tenant, Tenants
    from entrepot.worker.config.settings import Settings

_LEAST_FREE_BYTES = 2 << 30
_ANSWER_SECONDS = 10
"""Within which a worker that works has done next to nothing."""


class _Doubt(str):
    """What works, and yet somebody should know."""


def doctor(
    tenants: TenantsOption = None,
    state: StateOption = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Restore what was dropped, replaced, emptied or damaged.")
    ] = False,
) -> None:
    """Check everything that a run needs: tenant file, pipelines, Temporal, workers, warehouses, lakes, disk; and
    whether everything published is still in warehouse, lake and catalog as it was made.

    \b
    Examples:
      entrepot doctor --tenants tenants.toml
      entrepot doctor --repair

    \b
    The repair with plain Temporal:
      temporal workflow start --type Repair --task-queue entrepot --workflow-id acme:repair \\
        --input '{"tenant": "acme"}'
    """
    healthy = _repair(tenants) if repair else _examine(tenants, state)
    if not healthy:
        raise SystemExit(1)


def _repair(tenants: str | None) -> bool:
    from entrepot.worker.cli import follow, output
    from entrepot.worker.config import settings

    left: list[str] = []
    for name in settings.tenant_names(tenants):
        repaired = follow.execute("Repair", {"tenant": name}, f"{name}:repair", f"Repair of {name}")
        for each in repaired["found"]:
            output.out.print(f"  {name}: {each}", soft_wrap=True)
        left += [f"{name}: {each}" for each in repaired["left"]]
        output.out.print(f"✓ {name}: {output.count(len(repaired['found']), 'finding')} repaired")
    for each in left:
        output.failure(each)
    return not left


def _examine(file: str | None, state: str | None) -> bool:
    """Prints each finding as it comes; whether all is well."""
    import asyncio
    import platform

    from entrepot.worker.config import settings

    loaded: list[Settings] = []

    def read() -> str:
        loaded.append(settings.load(file, state))
        return str(loaded[0].file or "none, so there is one tenant: local")

    found = [_look("Python", platform.python_version), _look("tenant file", read)]
    if _look("Temporal", lambda: asyncio.run(_temporal())):
        found.append(_look("schedules", lambda: asyncio.run(_schedules())))
        found.append(_look("workers", lambda: asyncio.run(_workers(loaded[0] if loaded else None))))
    else:
        found.append(False)
    if loaded:
        found.append(_look("state folder", lambda: _folder(loaded[0].state)))
        tenants = loaded[0].connect()
        for name in tenants.registry.references:
            found.append(_look(f"pipeline {name}", partial(_pipeline, tenants, name)))
        for tenant in tenants.tenants.values():
            found.append(_look(f"tenant {tenant.name}, warehouse", partial(_warehouse, tenant)))
            found.append(_look(f"tenant {tenant.name}, lake", partial(_lake, tenant)))
            found.append(_look(f"tenant {tenant.name}, tables", partial(_tables, tenants, tenant)))
    return all(found)


def _look(what: str, check: Callable[[], str]) -> bool:
    from rich.text import Text

    from entrepot.worker.cli.output import out

    try:
        said = check()
        mark = ("⚠ ", "yellow") if isinstance(said, _Doubt) else ("✓ ", "green")
        found = Text.assemble(mark, f"{what}: {said}")
    except Exception as error:
        text = str(error) if isinstance(error, EntrepotError) else f"{type(error).__name__}: {error}"
        out.print(Text.assemble(("✗ ", "bold red"), f"{what}: {text}"), soft_wrap=True)
        return False
    out.print(found, soft_wrap=True)
    return True


async def _temporal() -> str:
    from temporalio.api.workflowservice.v1 import GetSystemInfoRequest

    from entrepot.worker.client import connected

    async with connected() as client:
        reply = await client.workflow_service.get_system_info(GetSystemInfoRequest(), timeout=timedelta(seconds=5))
        kept = _days(await _retention(client))
        address = client.service_client.config.target_host
        return f"{address}, namespace {client.namespace}, server {reply.server_version}; it keeps closed runs {kept}"


async def _retention(client: Client) -> timedelta:
    """How long Temporal keeps the histories of what has ended."""
    from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest

    asked = DescribeNamespaceRequest(namespace=client.namespace)
    described = await client.workflow_service.describe_namespace(asked)
    kept: timedelta = described.config.workflow_execution_retention_ttl.ToTimedelta()
    return kept


def _days(span: timedelta) -> str:
    days = span / timedelta(days=1)
    return f"for {days:g} day{'' if days == 1 else 's'}"


async def _schedules() -> str:
    """Whether Temporal keeps a schedule's last run until the next one, so that somebody can look why it failed."""
    from itertools import pairwise

    from entrepot.worker.client import connected
    from entrepot.worker.schedules import reconcile

    async with connected() as client:
        kept = await _retention(client)
        pauses = {}
        async for each in reconcile.made_here(client):
            times = each.info.next_action_times if each.info else ()
            pauses[each.id] = max((after - before for before, after in pairwise(times)), default=timedelta())
    rare = sorted(name for name, pause in pauses.items() if pause > kept)
    if rare:
        return _Doubt(
            f"{len(pauses)}; Temporal forgets the last run of {listed(rare)} before the next: it keeps closed runs "
            f"{_days(kept)}. Longer: temporal operator namespace update --retention 30d --namespace {client.namespace}"
        )
    return f"{len(pauses)}"


async def _workers(settings: Settings | None) -> str:
    """Who serves, whether he works, and whether he knows the tenants of the file."""
    from entrepot.worker.client import TASK_QUEUE, connected
    from entrepot.worker.deployments import served, waiting, workers

    async with connected() as client:
        if lacking := await waiting.why(client):
            return _Doubt(lacking)
        found = [each for each in await workers.workers(client) if each.is_serving]
        took = await _ping(client, sorted({each.identity for each in found}))
        answers = await served.asked(client, TASK_QUEUE, found)
    missing = served.missing(answers, settings.connect()) if settings else []
    if missing:
        raise EntrepotError("; ".join(missing))
    names = listed({each.identity for each in found})
    return f"the task queue {TASK_QUEUE!r} is served by {names}, who answered in {took:.2f} s"


async def _ping(client: Client, workers: list[str]) -> float:
    """The seconds after which a worker has done next to nothing.

    Raises:
        EntrepotError: if none does: whoever polls may still be unable to work.
    """
    import time
    import uuid

    from temporalio.client import ActivityFailureError

    from entrepot.protocol.activities import work_queue
    from entrepot.worker.client import TASK_QUEUE

    started = time.monotonic()
    try:
        await client.execute_activity(
            "ping",
            id=f"doctor:ping:{uuid.uuid4().hex[:8]}",
            task_queue=work_queue(TASK_QUEUE),  # where steps run, whose slots may all be taken
            result_type=str,
            schedule_to_close_timeout=timedelta(seconds=_ANSWER_SECONDS),
        )
    except ActivityFailureError as error:
        raise EntrepotError(
            f"{listed(workers)} asked for work lately, but none has done a small activity within {_ANSWER_SECONDS} s: "
            "it died a moment ago, or all of its slots are taken by steps that take long or hang "
            "(see `entrepot_slots_taken` among its metrics, and the Web UI)"
        ) from error
    return time.monotonic() - started


def _pipeline(tenants: Tenants, name: str) -> str:
    graph = tenants.registry.load(name).graph
    return f"{tenants.registry.references[name]}, {len(graph.steps)} steps"


def _warehouse(tenant: Tenant) -> str:
    from entrepot.backends import QueryTag

    with tenant.backend.session(QueryTag(tenant.name, "doctor", "doctor")) as session:
        session.execute("SELECT 1")
    return f"{tenant.backend.name} answers"


def _lake(tenant: Tenant) -> str:
    from entrepot.activities.storage import lake

    path = tenant.lake_path("doctor.txt")
    lake.write(b"written by `entrepot doctor`\n", path)
    lake.remove(path)
    return f"{tenant.lake_path()} can be written"


def _tables(tenants: Tenants, tenant: Tenant) -> str:
    """Whether all that is shown stands in the warehouse as it was made."""
    from entrepot.activities.maintenance import repair
    from entrepot.activities.runtime.context import ActivityContext
    from entrepot.protocol.messages import Context

    work = ActivityContext(tenant, "doctor", "doctor")
    with work.session() as session:
        catalog = work.catalog(session)
        known = catalog.pipelines() if catalog.exists() else []
        shown = [pipeline for pipeline in known if pipeline in tenant.pipelines]
        said: list[str] = []
        for pipeline in shown:
            graph = tenants.registry.load(pipeline).graph
            context = Context(tenant=tenant.name, pipeline=pipeline, run="doctor")
            found = repair.repair(work, session, context, graph, dry_run=True)
            said += [*found.found, *found.left]
    forgotten = set(known) - set(shown)
    if forgotten:
        said.append(f"{listed(forgotten)} is shown but no longer run; `entrepot gc` removes it")
    if said:
        raise EntrepotError("; ".join(said) + ". `entrepot doctor --repair` restores what was changed by hand")
    return f"unchanged since they were made: {listed(shown)}" if shown else "nothing is published yet"


def _folder(state: Path) -> str:
    import shutil

    from entrepot.worker.config.settings import make_state

    make_state(state)
    free = shutil.disk_usage(state).free
    if free < _LEAST_FREE_BYTES:
        raise EntrepotError(f"{state} has {free / 2**30:.1f} GB left; free some space, or choose another with --state")
    return f"{state}, {free / 2**30:.0f} GB free"
