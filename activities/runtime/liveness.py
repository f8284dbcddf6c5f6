"""Whether a run goes on: what Temporal says, asked from within an activity."""

from __future__ import annotations

import asyncio

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode


def is_running(workflow: str, run: str) -> bool:
    """Whether a workflow's run goes on, by its id and the run's. Where there is nobody to ask, it is thought to."""
    try:
        client = activity.client()
    except RuntimeError:
        return True
    return asyncio.run(goes_on(client, workflow, run))


async def goes_on(client: Client, workflow: str, run: str) -> bool:
    """Whether a workflow's run goes on. One that Temporal has forgotten does not."""
    try:
        found = await client.get_workflow_handle(workflow, run_id=run).describe()
    except RPCError as error:
        # An id that is none was not given by Temporal.
        if error.status in (RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT):
            return False
        raise
    return found.status == WorkflowExecutionStatus.RUNNING
