"""A run's way to its tenant's `Slots` workflow, which workflows cannot start themselves if it is not there yet."""

from __future__ import annotations

from typing import Any

from temporalio import activity
from temporalio.client import WithStartWorkflowOperation
from temporalio.common import Priority, WorkflowIDConflictPolicy

from entrepot.activities.runtime.activity import Activities, implements_async
from entrepot.activities.runtime.liveness import goes_on
from entrepot.protocol import activities
from entrepot.protocol.slots import Holders, SlotsAsked, SlotsGranted, SlotsRequest, SlotsState


def slots_workflow_id(tenant: str, task_queue: str) -> str:
    """The id of the workflow that hands out a tenant's slots among the workers of a task queue."""
    return f"{tenant}:slots:{task_queue}"


class SlotsActivities(Activities):
    """The activities `slots` and `closed_runs`: they wait for Temporal alone, so they need no thread."""

    @implements_async(activities.SLOTS)
    async def slots(self, request: SlotsRequest) -> SlotsGranted:
        """Tells the tenant's `Slots` workflow what a run has and wants; how many slots it has now."""
        tenant = self._tenants.get(request.tenant)
        task_queue = activity.info().task_queue
        start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            "Slots",
            SlotsState(tenant=tenant.name),
            id=slots_workflow_id(tenant.name, task_queue),
            task_queue=task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"how many steps of {tenant.name} run at once",
            priority=Priority(fairness_key=tenant.name),
        )
        asked = SlotsAsked(**request.model_dump(), most=tenant.slots)
        granted: SlotsGranted = await activity.client().execute_update_with_start_workflow(
            "want",
            asked,
            id=f"{request.run}:{request.number}",  # the next attempt is the same request
            start_workflow_operation=start,
            result_type=SlotsGranted,
        )
        return granted

    @implements_async(activities.CLOSED_RUNS)
    async def closed_runs(self, request: Holders) -> list[str]:
        """Those of the runs that have ended, whatever ended them."""
        client = activity.client()
        return [run for run, its in request.workflow_ids.items() if not await goes_on(client, its, run)]
