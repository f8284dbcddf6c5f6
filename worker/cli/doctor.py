"""`entrepot doctor`: everything that a run needs, looked at one by one, with what helps where something is wrong."""

from __future__ import annotations

import asyncio
import platform
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from rich.text import Text
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest

from entrepot.activities.maintenance import repair
from entrepot.activities.runtime.context import ActivityContext
from entrepot.activities.runtime.tenant import Tenant, Tenants
from entrepot.activities.storage import lake
from entrepot.backends import QueryTag
from entrepot.errors import EntrepotError, listed
from entrepot.protocol.messages import Context
from entrepot.worker.cli import output
from entrepot.worker.cli.follow import has_worker
from entrepot.worker.client import TASK_QUEUE, connected
from entrepot.worker.config import settings

_LEAST_FREE_BYTES = 2 << 30


class _Report:
    """Collects findings and prints each as it comes."""

    def __init__(self) -> None:
        self.failed = False

    def look(self, what: str, check: Callable[[], str]) -> None:
        try:
            found = check()
            output.out.print(Text.assemble(("✓ ", "green"), f"{what}: {found}"), soft_wrap=True)
        except Exception as error:
            self.failed = True
            text = str(error) if isinstance(error, EntrepotError) else f"{type(error).__name__}: {error}"
            output.out.print(Text.assemble(("✗ ", "bold red"), f"{what}: {text}"), soft_wrap=True)


def main(tenants_file: str | None, state: str | None) -> None:
    """Prints the findings; exit code 1 if anything is wrong."""
    report = _Report()
    report.look("Python", platform.python_version)
    loaded: list[settings.Settings] = []

    def read() -> str:
        loaded.append(settings.load(tenants_file, state))
        return str(loaded[0].file or "none, so there is one tenant: local")

    report.look("tenant file", read)
    report.look("Temporal", lambda: asyncio.run(_temporal()))
    if loaded:
        report.look("state folder", lambda: _folder(loaded[0].state))
        tenants = loaded[0].connect()
        for name in tenants.registry.references:
            report.look(f"pipeline {name}", lambda name=name: _pipeline(tenants, name))  # type: ignore[misc]
        for tenant in tenants.tenants.values():
            report.look(f"tenant {tenant.name}, warehouse", lambda tenant=tenant: _warehouse(tenant))  # type: ignore[misc]
            report.look(f"tenant {tenant.name}, lake", lambda tenant=tenant: _lake(tenant))  # type: ignore[misc]
            report.look(f"tenant {tenant.name}, tables", lambda tenant=tenant: _tables(tenants, tenant))  # type: ignore[misc]
    if report.failed:
        raise SystemExit(1)


async def _temporal() -> str:
    async with connected() as client:
        reply = await client.workflow_service.get_system_info(GetSystemInfoRequest(), timeout=timedelta(seconds=5))
        address = client.service_client.config.target_host
        found = f"{address}, namespace {client.namespace}, server {reply.server_version}"
        if not await has_worker(client):
            return f"{found}; no worker serves the task queue {TASK_QUEUE!r} (start one: entrepot worker)"
        return f"{found}; the task queue {TASK_QUEUE!r} is served"


def _pipeline(tenants: Tenants, name: str) -> str:
    graph = tenants.registry.load(name).graph
    return f"{tenants.registry.references[name]}, {len(graph.steps)} steps"


def _warehouse(tenant: Tenant) -> str:
    with tenant.backend.session(QueryTag(tenant.name, "doctor", "doctor")) as session:
        session.execute("SELECT 1")
    return f"{tenant.backend.name} answers"


def _lake(tenant: Tenant) -> str:
    path = tenant.lake_path("doctor.txt")
    lake.write(b"written by `entrepot doctor`\n", path)
    lake.remove(path)
    return f"{tenant.lake_path()} can be written"


def _tables(tenants: Tenants, tenant: Tenant) -> str:
    """Whether all that is shown stands in the warehouse as it was made."""
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
        said.append(f"{listed(forgotten)} is shown and not run any more; `entrepot gc` removes it")
    if said:
        raise EntrepotError("; ".join(said) + ". `entrepot doctor --repair` makes good what was changed by hand")
    return f"as they were made, of {listed(shown)}" if shown else "no run has shown any"


def _folder(state: Path) -> str:
    state.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(state).free
    if free < _LEAST_FREE_BYTES:
        raise EntrepotError(f"{state} has {free / 2**30:.1f} GB left; make room, or choose another with --state")
    return f"{state}, {free / 2**30:.0f} GB free"
