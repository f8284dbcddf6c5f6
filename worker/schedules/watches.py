"""One `Watch` workflow for each pipeline that promises to be fresh and has an `on_late` hook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from temporalio.client import Client
from temporalio.common import Priority, WorkflowIDConflictPolicy

from entrepot.activities.runtime.tenant import Tenants
from entrepot.activities.runtime.triggers import MADE_BY
from entrepot.errors import EntrepotError
from entrepot.protocol.environments import WatchState
from entrepot.protocol.hooks import LATE
from entrepot.worker.client import TASK_QUEUE
from entrepot.worker.config.settings import Settings
from entrepot.worker.schedules import lasting
from entrepot.worker.schedules.changes import Change
from entrepot.worker.schedules.lasting import Wanted

TYPE = "Watch"
_TELLS = "tells when a promise to be fresh is broken, and kept again"


def watch_workflow_id(tenant: str, pipeline: str) -> str:
    """The id of a pipeline's watch."""
    return f"{tenant}/{pipeline}:freshness"


def desired(settings: Settings) -> dict[str, Wanted]:
    """The watches that the tenant file and the code of pipelines want, by id: `tenant/pipeline:freshness`."""
    return {
        watch_workflow_id(tenant, pipeline): Wanted(
            _TELLS, {}, partial(start, tenant=tenant, pipeline=pipeline, task_queue=TASK_QUEUE)
        )
        for tenant, pipeline in _watched(settings.connect())
    }


async def plan(client: Client, wanted: Mapping[str, Wanted]) -> list[Change]:
    """What `apply` would do. Changes nothing."""
    return await lasting.plan(client, TYPE, wanted, lambda memo: {})


async def start(client: Client, tenant: str, pipeline: str, task_queue: str) -> None:
    """Starts a pipeline's watch, unless it is there."""
    await client.start_workflow(
        TYPE,
        WatchState(tenant=tenant, pipeline=pipeline),
        id=watch_workflow_id(tenant, pipeline),
        task_queue=task_queue,
        id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        static_summary=f"{_TELLS}: {pipeline} for {tenant}",
        memo={MADE_BY: task_queue},
        priority=Priority(fairness_key=tenant),
    )


def _watched(tenants: Tenants) -> Iterator[tuple[str, str]]:
    for name, tenant in tenants.tenants.items():
        for pipeline, its in tenant.pipelines.items():
            if LATE in its.hooks and _promises(tenants, name, pipeline):
                yield name, pipeline


def _promises(tenants: Tenants, tenant: str, pipeline: str) -> bool:
    """Whether a table promises to be fresh. Code that cannot be imported here may: the workers know."""
    try:
        steps = tenants.pipeline(tenant, pipeline).graph.steps.values()
    except EntrepotError:
        return True
    return any(step.fresh_within for step in steps)
