"""A run's way to its tenant's `Slots` workflow, which workflows cannot start themselves if it is not there yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from temporalio import activity
from temporalio.client import WithStartWorkflowOperation, WorkflowExecutionStatus
from temporalio.common import Priority, WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from entrepot.activities.runtime.activity import Activities, to_application_error
from entrepot.errors import EntrepotError
from entrepot.protocol import activities
from entrepot.protocol.activities import Activity
from entrepot.protocol.slots import Holders, SlotsAsked, SlotsGranted, SlotsRequest, SlotsState


class SlotsActivities(Activities):
    """The activities `slots` and `closed_runs`: they wait for Temporal alone, so they need no thread."""

    def implemented(self) -> dict[Activity[Any, Any], Callable[..., Any]]:
        """What a worker registers, by what it implements."""
        return {activities.SLOTS: self.slots, activities.CLOSED_RUNS: self.closed_runs}

    @activity.defn(name=activities.SLOTS.name)
    async def slots(self, request: SlotsRequest) -> SlotsGranted:
        """Tells the tenant's `Slots` workflow what a run has and wants; how many slots it has now."""
        try:
            tenant = self._tenants.get(request.tenant)
        except EntrepotError as error:
            raise to_application_error(error) from None
        task_queue = activity.info().task_queue
        start: WithStartWorkflowOperation[Any, Any] = WithStartWorkflowOperation(
            "Slots",
            SlotsState(tenant=tenant.name),
            id=f"{tenant.name}:slots:{task_queue}",
            task_queue=task_queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=f"how many steps of {tenant.name} run at once",
            priority=Priority(fairness_key=tenant.name),
        )
        asked = SlotsAsked(**request.model_dump(), most=tenant.slots)
        granted: SlotsGranted = await activity.client().execute_update_with_start_workflow(
            "want", asked, start_workflow_operation=start, result_type=SlotsGranted
        )
        return granted

    @activity.defn(name=activities.CLOSED_RUNS.name)
    async def closed_runs(self, request: Holders) -> list[str]:
        """Those of the runs that have ended, whatever ended them."""
        return [run for run, workflow_id in request.workflow_ids.items() if not await _is_running(workflow_id, run)]


async def _is_running(workflow_id: str, run: str) -> bool:
    try:
        found = await activity.client().get_workflow_handle(workflow_id, run_id=run).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:  # it ended so long ago that Temporal has forgotten it
            return False
        raise
    return found.status is WorkflowExecutionStatus.RUNNING
